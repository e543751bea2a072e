/**
 * Transactions of the caller: what is done in one commits and rolls back with it, and every failure is typed.
 */
import { Cause, Chunk, Deferred, Effect, Exit, Fiber, Option, Stream, TestContext } from "effect"
import type { EventStore } from "effect-stores"
import { describe, expect, it } from "vitest"
import { eventually } from "../support/eventually.js"
import { freshFile, placed, readAll, streamOf, withStore } from "./support.js"

const size = (store: EventStore.EventStoreShape, stream: string) =>
  Effect.map(readAll(store, stream), ({ length }) => length)

it("a transaction that somebody left open on a reserved connection does not swallow the next append", async () => {
  const filename = freshFile()
  await withStore({ filename }, (store, { sql }) =>
    Effect.gen(function* () {
      yield* Effect.scoped(Effect.flatMap(sql.reserve, (own) => own.executeRaw("BEGIN", [])))
      yield* store.append(streamOf("1"), [placed()], { expected: "noStream" })
    })
  )
  await withStore({ filename }, (store) =>
    Effect.map(store.version(streamOf("1")), (version) => expect(version).toBe(1))
  )
})

describe("an append in the caller's transaction", () => {
  it("commits with it, and is seen by reads inside before", () =>
    withStore({ filename: freshFile() }, (store, { sql, transaction }) =>
      Effect.gen(function* () {
        yield* sql`CREATE TABLE orders (id TEXT PRIMARY KEY)`
        const inside = yield* transaction(
          Effect.gen(function* () {
            yield* store.append(streamOf("1"), [placed()], { expected: "noStream" })
            yield* sql`INSERT INTO orders ${sql.insert({ id: "1" })}`
            return yield* size(store, "1")
          })
        )
        expect(inside).toBe(1)
        expect(yield* size(store, "1")).toBe(1)
        expect(yield* sql`SELECT id FROM orders`).toEqual([{ id: "1" }])
      })
    ))

  it.each(["a failure", "a defect", "an interrupt"])("is rolled back with it by %s, which stays the cause", (how) =>
    withStore({ filename: freshFile() }, (store, { sql, state, transaction }) =>
      Effect.gen(function* () {
        yield* sql`CREATE TABLE orders (id TEXT PRIMARY KEY)`
        const end = how === "a failure" ? Effect.fail("why") : how === "a defect" ? Effect.die("why") : Effect.interrupt
        const exit = yield* Effect.exit(
          transaction(
            store
              .append(streamOf("1"), [placed()], { expected: "noStream" })
              .pipe(Effect.zipRight(sql`INSERT INTO orders (id) VALUES ('1')`), Effect.zipRight(end))
          )
        )
        expect(Exit.isFailure(exit) && Cause.squash(exit.cause)).toSatisfy((error: unknown) =>
          how === "an interrupt" ? String(error).includes("Interrupted") : error === "why"
        )
        expect(yield* size(store, "1")).toBe(0)
        expect(yield* sql`SELECT * FROM orders`).toEqual([])
        expect((yield* state).writer).toEqual({ open: 1, idle: 1, waiting: 0 })
      })
    )
  )

  it("that conflicts, or uses an id that is taken, leaves the transaction usable", () =>
    withStore({ filename: freshFile() }, (store, { transaction }) =>
      Effect.gen(function* () {
        const id = "01890a5d-ac96-774b-bcce-b302099a8057"
        yield* store.append(streamOf("1"), [{ id, type: "Placed", data: 1 }], { expected: "noStream" })
        const errors = yield* transaction(
          Effect.gen(function* () {
            yield* store.append(streamOf("2"), [placed()], { expected: "noStream" })
            const conflict = yield* Effect.flip(store.append(streamOf("1"), [placed()], { expected: "noStream" }))
            const batch = yield* Effect.flip(store.append(streamOf("1"), [placed(), placed()], { expected: 7 }))
            const taken = yield* Effect.flip(
              store.append(streamOf("3"), [placed(), { id, type: "Placed", data: 2 }], { expected: "any" })
            )
            yield* store.append(streamOf("2"), [placed()], { expected: 1 })
            return [conflict._tag, batch._tag, taken._tag]
          })
        )
        expect(errors).toEqual(["VersionConflict", "VersionConflict", "DuplicateEvent"])
        expect(yield* size(store, "1")).toBe(1)
        expect(yield* size(store, "2")).toBe(2)
        expect(yield* size(store, "3")).toBe(0)
      })
    ))

  it("wakes subscribers after its COMMIT, and not before", () =>
    // The poll comes too late to be what wakes it.
    withStore({ filename: freshFile(), pollInterval: "1 hour" }, (store, { transaction }) =>
      Effect.gen(function* () {
        const seen: Array<number> = []
        const subscriber = yield* Effect.fork(
          Stream.runForEach(Stream.take(store.subscribe(), 2), ({ version }) => Effect.sync(() => seen.push(version)))
        )
        yield* store.append(streamOf("1"), [placed()], { expected: "noStream" })
        yield* eventually(Effect.sync(() => seen.length === 1))
        yield* transaction(
          Effect.gen(function* () {
            yield* transaction(store.append(streamOf("1"), [placed()], { expected: 1 }))
            yield* Effect.sleep("20 millis")
            expect(seen).toEqual([1])
          })
        )
        yield* Fiber.join(subscriber)
        expect(seen).toEqual([1, 2])
      })
    ))
})

describe("a transaction in a transaction", () => {
  it("that fails and is caught undoes only its own writes", () =>
    withStore({ filename: freshFile() }, (store, { transaction }) =>
      Effect.gen(function* () {
        const append = (stream: string) => store.append(streamOf(stream), [placed()], { expected: "noStream" })
        yield* transaction(
          Effect.gen(function* () {
            yield* append("before")
            yield* Effect.ignore(transaction(Effect.zipRight(append("inside"), Effect.fail("no"))))
            yield* transaction(append("second"))
            yield* append("after")
          })
        )
        expect(yield* Effect.forEach(["before", "inside", "second", "after"], (stream) => size(store, stream))).toEqual(
          [1, 0, 1, 1]
        )
      })
    ))

  it("of several fibers at once each keep or undo their own", () =>
    withStore({ filename: freshFile() }, (store, { state, transaction }) =>
      Effect.gen(function* () {
        const one = (i: number) =>
          transaction(
            Effect.gen(function* () {
              yield* store.append(streamOf(String(i)), [placed()], { expected: "noStream" })
              yield* Effect.yieldNow()
              yield* store.append(streamOf(String(i)), [placed()], { expected: 1 })
              if (i % 2 === 1) yield* Effect.fail("odd")
            })
          )
        yield* transaction(
          Effect.forEach([0, 1, 2, 3, 4, 5], (i) => Effect.ignore(one(i)), { concurrency: "unbounded" })
        )
        expect(yield* Effect.forEach([0, 1, 2, 3, 4, 5], (i) => size(store, String(i)))).toEqual([2, 0, 2, 0, 2, 0])
        expect((yield* state).writer).toEqual({ open: 1, idle: 1, waiting: 0 })
      })
    ))

  it("that commits goes with the outer one when that fails", () =>
    withStore({ filename: freshFile() }, (store, { transaction }) =>
      Effect.gen(function* () {
        const inner = transaction(store.append(streamOf("1"), [placed()], { expected: "noStream" }))
        expect(yield* Effect.flip(transaction(Effect.zipRight(inner, Effect.fail("no"))))).toBe("no")
        expect(yield* size(store, "1")).toBe(0)
      })
    ))
})

describe("a transaction in a transaction of a fiber that nobody waits for", () => {
  it("makes the COMMIT of the outer one fail at once and typed, and everything is rolled back", () =>
    withStore({ filename: freshFile(), pool: { acquireTimeout: "1 hour" } }, (store, { state, transaction }) =>
      Effect.gen(function* () {
        const [begun, go] = yield* Effect.all([Deferred.make<void>(), Deferred.make<void>()])
        const append = (stream: string) => store.append(streamOf(stream), [placed()], { expected: "noStream" })
        const inside = append("inside").pipe(
          Effect.zipRight(Deferred.succeed(begun, undefined)),
          Effect.zipRight(Deferred.await(go)),
          Effect.zipRight(append("late")),
          transaction
        )
        let forked: Fiber.RuntimeFiber<unknown, unknown> | undefined
        const outer = Effect.gen(function* () {
          yield* append("outer")
          forked = yield* Effect.forkDaemon(inside)
          yield* Deferred.await(begun)
        })
        const error = yield* Effect.flip(transaction(outer))
        expect(error).toMatchObject({ _tag: "StoreError", operation: "COMMIT" })
        expect(error.message).toContain("still open")
        // The file is free, and the one that was left behind finds its transaction gone.
        yield* append("next")
        yield* Deferred.succeed(go, undefined)
        expect(yield* Effect.flip(forked as Fiber.RuntimeFiber<unknown, unknown>)).toMatchObject({ _tag: "StoreError" })
        const streams = ["outer", "inside", "late", "next"]
        expect(yield* Effect.forEach(streams, (stream) => size(store, stream))).toEqual([0, 0, 0, 1])
        expect((yield* state).writer).toEqual({ open: 1, idle: 1, waiting: 0 })
      })
    ))

  it("does not begin any more once the outer one is at its COMMIT", () =>
    withStore({ filename: freshFile(), pool: { acquireTimeout: "1 hour" } }, (store, { transaction }) =>
      Effect.gen(function* () {
        let forked: Fiber.RuntimeFiber<unknown, unknown> | undefined
        const outer = Effect.gen(function* () {
          // In a turn of the event loop that begins here.
          yield* Effect.async<void>((resume) => void setImmediate(() => resume(Effect.void)))
          yield* store.append(streamOf("1"), [placed()], { expected: "noStream" })
          // After so much work without a pause the event loop comes first, so the one inside waits in line.
          const start = performance.now()
          while (performance.now() - start < 20);
          forked = yield* Effect.forkDaemon(transaction(Effect.never))
          yield* Effect.yieldNow()
        })
        yield* transaction(outer)
        expect(yield* Effect.flip(forked as Fiber.RuntimeFiber<unknown, unknown>)).toMatchObject({ _tag: "StoreError" })
        expect(yield* size(store, "1")).toBe(1)
      })
    ))
})

describe("a transaction", () => {
  it("of one database holds nothing of another: each commits and rolls back on its own", () =>
    withStore({ filename: freshFile() }, (storeA, a) =>
      Effect.promise(() =>
        withStore({ filename: freshFile() }, (storeB, b) =>
          Effect.gen(function* () {
            const append = (store: EventStore.EventStoreShape, stream: string) =>
              store.append(streamOf(stream), [placed()], { expected: "noStream" })
            const both = Effect.gen(function* () {
              yield* append(storeA, "1")
              yield* append(storeB, "1")
              yield* b.transaction(append(storeB, "2"))
              const [file] = yield* b.sql<{ file: string }>`SELECT file FROM pragma_database_list`
              expect(file?.file).toBe(b.filename)
              return yield* Effect.fail("no")
            })
            expect(yield* Effect.flip(a.transaction(both))).toBe("no")
            expect(yield* size(storeA, "1")).toBe(0)
            expect(yield* size(storeB, "1")).toBe(1)
            expect(yield* size(storeB, "2")).toBe(1)
          })
        )
      )
    ))

  it("whose COMMIT fails fails typed, and rolls back", () =>
    withStore({ filename: freshFile() }, (store, { sql, transaction }) =>
      Effect.gen(function* () {
        yield* sql`CREATE TABLE parents (id INTEGER PRIMARY KEY)`
        yield* sql`CREATE TABLE children (parent INTEGER REFERENCES parents (id) DEFERRABLE INITIALLY DEFERRED)`
        const orphan = Effect.zipRight(
          store.append(streamOf("1"), [placed()], { expected: "noStream" }),
          sql`INSERT INTO children VALUES (7)`
        )
        const typed = yield* Effect.flip(transaction(orphan))
        expect(typed).toMatchObject({
          _tag: "StoreError",
          operation: "COMMIT",
          cause: { code: "SQLITE_CONSTRAINT_FOREIGNKEY" }
        })
        const sqlError = yield* Effect.flip(sql.withTransaction(orphan))
        expect(sqlError).toMatchObject({ _tag: "SqlError", cause: { _tag: "StoreError" } })
        expect(yield* size(store, "1")).toBe(0)
        expect(yield* sql`SELECT * FROM children`).toEqual([])
      })
    ))

  it("of a store whose COMMIT fails is rolled back: what is appended later is there for others", async () => {
    const filename = freshFile()
    await withStore({ filename }, (store, { sql }) =>
      Effect.gen(function* () {
        yield* sql`CREATE TABLE parents (id INTEGER PRIMARY KEY)`
        yield* sql`CREATE TABLE children (parent INTEGER REFERENCES parents (id) DEFERRABLE INITIALLY DEFERRED)`
        // Seen at the COMMIT only.
        yield* sql`CREATE TRIGGER orphan AFTER INSERT ON es_events WHEN new.type = 'Orphan'
          BEGIN INSERT INTO children VALUES (7); END`
        const orphan = { type: "Orphan", data: 1 }
        const refused = yield* Effect.flip(store.append(streamOf("1"), [orphan, orphan], { expected: "noStream" }))
        expect(refused).toMatchObject({ _tag: "StoreError" })
        expect(yield* size(store, "1")).toBe(0)
        yield* store.append(streamOf("2"), [placed(), placed()], { expected: "noStream" })
        yield* Effect.promise(() =>
          withStore({ filename }, (other) => Effect.map(size(other, "2"), (count) => expect(count).toBe(2)))
        )
      })
    )
  })

  it("is over when it is over: a fiber that outlives it works outside, and a COMMIT by hand is refused", () =>
    withStore({ filename: freshFile() }, (store, { sql, transaction }) =>
      Effect.gen(function* () {
        const go = yield* Deferred.make<void>()
        const late = Effect.zipRight(
          Deferred.await(go),
          store.append(streamOf("late"), [placed()], { expected: "noStream" })
        )
        const fiber = yield* transaction(Effect.forkDaemon(late))
        yield* Deferred.succeed(go, undefined)
        yield* Fiber.join(fiber)
        expect(yield* size(store, "late")).toBe(1)

        const byHand = yield* Effect.exit(
          transaction(Effect.zipRight(store.append(streamOf("1"), [placed()], { expected: "any" }), sql`ROLLBACK`))
        )
        expect(Exit.isFailure(byHand) && Cause.failureOption(byHand.cause)).toMatchObject(
          Option.some({ _tag: "SqlError" })
        )
        expect(yield* Effect.flip(sql`BEGIN`)).toMatchObject({ _tag: "SqlError" })
        expect(yield* size(store, "1")).toBe(0)
        expect(yield* store.append(streamOf("1"), [placed()], { expected: "noStream" })).toMatchObject({ version: 1 })
      })
    ))

  it("of the reader sees one state throughout, also through the store, and delays no writer", () =>
    withStore({ filename: freshFile() }, (store, { reader }) =>
      Effect.gen(function* () {
        const append = store.append(streamOf("1"), [placed()], { expected: "any" })
        yield* append
        const go = yield* Deferred.make<void>()
        const begun = yield* Deferred.make<void>()
        const reading = yield* Effect.fork(
          reader.withTransaction(
            Effect.zipRight(
              Effect.zipRight(Deferred.succeed(begun, undefined), Deferred.await(go)),
              Effect.all([size(store, "1"), reader`SELECT count(*) AS n FROM es_events`])
            )
          )
        )
        yield* Deferred.await(begun)
        yield* append
        yield* Deferred.succeed(go, undefined)
        expect(yield* Fiber.join(reading)).toEqual([1, [{ n: 1 }]])
        expect(yield* size(store, "1")).toBe(2)
      })
    ))

  it("waits under a test's clock as well as under the real one", () =>
    withStore({ filename: freshFile(), pool: { acquireTimeout: "100 millis" } }, (_, { state, transaction }) =>
      Effect.gen(function* () {
        const holder = yield* Effect.fork(transaction(Effect.never))
        yield* eventually(Effect.map(state, ({ writer }) => writer.idle === 0))
        const waiting = Effect.provide(Effect.flip(transaction(Effect.void)), TestContext.TestContext)
        expect(yield* waiting).toMatchObject({ _tag: "PoolTimeout" })
        yield* Fiber.interrupt(holder)
      })
    ))
})

describe("the user's SQL", () => {
  it("streams rows, gives them as arrays and big integers when asked, and does not stick to it", () =>
    withStore({ filename: freshFile() }, (_, { sql, transaction }) =>
      Effect.gen(function* () {
        yield* sql`CREATE TABLE numbers (n INTEGER)`
        yield* sql`INSERT INTO numbers ${sql.insert(Array.from({ length: 300 }, (_, n) => ({ n })))}`
        const all = sql<{ n: number }>`SELECT n FROM numbers ORDER BY n`
        const last = (rows: Chunk.Chunk<{ n: number }>) => [Chunk.size(rows), Option.getOrUndefined(Chunk.last(rows))]
        expect(last(yield* Stream.runCollect(all.stream))).toEqual([300, { n: 299 }])
        expect(last(yield* transaction(Stream.runCollect(all.stream)))).toEqual([300, { n: 299 }])
        expect((yield* all.values)[7]).toEqual([7])
        expect((yield* all)[7]).toEqual({ n: 7 })
        expect(yield* Effect.flip(sql`SELEC 1`)).toMatchObject({ _tag: "SqlError", cause: { code: "SQLITE_ERROR" } })
        expect(yield* Effect.flip(sql`INSERT INTO numbers VALUES (${{} as never})`)).toMatchObject({ _tag: "SqlError" })
      })
    ))
})
