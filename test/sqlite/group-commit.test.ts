/**
 * Writes that wait for the connection share a commit, and each keeps its own outcome.
 */
import * as fs from "node:fs"
import Sqlite from "better-sqlite3"
import { Deferred, Effect, Exit, Fiber, FastCheck as fc, Layer } from "effect"
import { CommandStore, type EventStore } from "effect-stores"
import { CommandStoreSqlite, EventStoreSqlite, SqliteDatabase } from "effect-stores/sqlite"
import { describe, expect, it, onTestFinished } from "vitest"
import { calls, contents, inDomain, interrupt, oneByOne, told } from "../support/appendCalls.js"
import { eventually } from "../support/eventually.js"
import { isFull } from "../support/scale.js"
import { freshFile, placed, readAll, streamOf, withStore } from "./support.js"

/** Transactions in the file's log: a frame that ends one tells the size of the file. */
const commits = (filename: string): number => {
  const log = fs.readFileSync(`${filename}-wal`)
  if (log.length === 0) return 0
  const frame = 24 + log.readUInt32BE(8)
  let count = 0
  for (let at = 32; at < log.length; at += frame) {
    // Frames of before the last checkpoint have other salts.
    if (log.compare(log, 16, 24, at + 8, at + 16) === 0 && log.readUInt32BE(at + 4) > 0) count++
  }
  return count
}

/** A connection beside the store's that can lock the file. */
const locker = (filename: string) => {
  const db = new Sqlite(filename)
  onTestFinished(() => void db.close())
  return { lock: () => db.exec("BEGIN IMMEDIATE"), unlock: () => db.exec("ROLLBACK") }
}

/** Starts all, one after the other, while the connection is taken; then they go on together. */
const together = <A, E>(
  { state, transaction }: SqliteDatabase.SqliteDatabaseShape,
  effects: ReadonlyArray<Effect.Effect<A, E>>,
  meanwhile: (fibers: ReadonlyArray<Fiber.RuntimeFiber<A, E>>) => Effect.Effect<unknown> = () => Effect.void
): Effect.Effect<ReadonlyArray<Exit.Exit<A, E>>> =>
  Effect.orDie(
    Effect.gen(function* () {
      const go = yield* Deferred.make<void>()
      const holder = yield* Effect.fork(transaction(Deferred.await(go)))
      yield* eventually(Effect.map(state, ({ writer }) => writer.idle === 0))
      const fibers: Array<Fiber.RuntimeFiber<A, E>> = []
      for (const effect of effects) {
        fibers.push(yield* Effect.fork(effect))
        // Those that are refused before they write do not wait.
        const arrived = ({ writer }: { readonly writer: { readonly waiting: number } }) =>
          writer.waiting === fibers.filter((fiber) => fiber.unsafePoll() === null).length
        yield* Effect.yieldNow()
        yield* eventually(Effect.map(state, arrived))
      }
      yield* meanwhile(fibers)
      yield* Deferred.succeed(go, undefined)
      yield* Fiber.join(holder)
      return yield* Effect.forEach(fibers, Fiber.await)
    })
  )

const append = (store: EventStore.EventStoreShape, name: string, expected: EventStore.ExpectedVersion = "any") =>
  store.append(streamOf(name), [placed()], { expected })

const numbers = (count: number) => Array.from({ length: count }, (_, i) => i)

describe("concurrent writes on SQLite", () => {
  for (const groupCommit of [true, false]) {
    it(`share ${groupCommit ? "commits" : "none with groupCommit false"}`, () => {
      const filename = freshFile()
      return withStore({ filename, groupCommit }, (store, database) =>
        Effect.gen(function* () {
          const before = commits(filename)
          const exits = yield* together(
            database,
            numbers(50).map((i) => append(store, `${i}`, "noStream"))
          )
          expect(exits.map((exit) => Exit.isSuccess(exit) && exit.value.position)).toEqual(
            numbers(50).map((i) => i + 1)
          )
          // One, or some more where the machine is so busy that they take longer than a group may.
          if (groupCommit) expect(commits(filename) - before).toBeLessThan(10)
          else expect(commits(filename) - before).toBe(50)
        })
      )
    })
  }

  it("of one caller commit at once, each by itself", () => {
    const filename = freshFile()
    return withStore({ filename }, (store) =>
      Effect.gen(function* () {
        for (const i of numbers(5)) {
          const before = commits(filename)
          yield* append(store, `${i}`)
          expect(commits(filename) - before).toBe(1)
        }
      })
    )
  })

  it("have the outcomes that they would have one after the other", async () => {
    const domain = "order"
    await fc.assert(
      fc.asyncProperty(calls, async (calls) => {
        const make = inDomain(calls, domain)
        const found = await withStore({ filename: freshFile() }, (store, database) =>
          Effect.gen(function* () {
            const exits = yield* together(database, make(store), (fibers) => interrupt(calls, fibers))
            return {
              exits: exits.map((exit, i) => (calls[i]?.interrupted ? "interrupted" : told(exit, 0))),
              contents: yield* contents(store, domain, 0)
            }
          })
        )
        expect(found).toEqual(await Effect.runPromise(oneByOne(calls, make, domain)))
      }),
      { numRuns: isFull ? 300 : 30 }
    )
  })

  it("leave out a caller that is interrupted while it waits", () =>
    withStore({ filename: freshFile() }, (store, database) =>
      Effect.gen(function* () {
        const exits = yield* together(
          database,
          numbers(5).map((i) => append(store, `${i}`)),
          (fibers) => Fiber.interrupt(fibers[2] as Fiber.RuntimeFiber<unknown>)
        )
        expect(exits.map(Exit.isSuccess)).toEqual([true, true, false, true, true])
        expect(yield* readAll(store, "2")).toEqual([])
        expect(yield* readAll(store, "3")).toHaveLength(1)
      })
    ))

  it("wait together for another process, and each no longer than acquireTimeout", () => {
    const filename = freshFile()
    return withStore({ filename, pool: { acquireTimeout: "300 millis" } }, (store, database) =>
      Effect.gen(function* () {
        const other = locker(filename)
        const three = numbers(3).map((i) => append(store, `${i}`))
        // It is locked when the connection is free, and unlocked while they try.
        const exits = yield* together(database, three, () => Effect.sync(() => setImmediate(other.lock)))
        expect(exits.map((exit) => Exit.isFailure(exit) && exit.cause)).toMatchObject(
          numbers(3).map(() => ({ _tag: "Fail", error: { _tag: "PoolTimeout" } }))
        )
        other.unlock()
        const again = yield* Effect.all(three, { concurrency: "unbounded" })
        expect(again.map(({ version }) => version)).toEqual([1, 1, 1])
      })
    )
  })

  for (const [what, action] of [
    ["fails", "ABORT"],
    ["ends the transaction", "ROLLBACK"]
  ] as const) {
    it(`of which one ${what} do not fail with it`, () => {
      const filename = freshFile()
      return withStore({ filename }, (store, database) =>
        Effect.gen(function* () {
          yield* Effect.orDie(
            database.sql.unsafe(`CREATE TRIGGER refusing BEFORE INSERT ON es_events WHEN new.type = 'Refused'
              BEGIN SELECT RAISE(${action}, 'refused'); END`)
          )
          const before = commits(filename)
          const refused = store.append(streamOf("1"), [{ type: "Refused", data: 1 }], { expected: "any" })
          const pairs = numbers(5).flatMap((i) => [append(store, `${i}`), refused])
          const exits = yield* together(database, pairs)
          expect(exits.map(Exit.isSuccess)).toEqual(numbers(10).map((i) => i % 2 === 0))
          expect(yield* store.count()).toBe(5)
          // Where the transaction has ended, those before it are tried alone. Otherwise all share one commit, or some
          // more on a very busy machine.
          if (action === "ROLLBACK") expect(commits(filename) - before).toBe(5)
          else expect(commits(filename) - before).toBeLessThan(5)
        })
      )
    })
  }

  it("of which one does not fit on the disk do not fail with it", () => {
    const filename = freshFile()
    return withStore({ filename }, (store, database) =>
      Effect.gen(function* () {
        const pages = yield* Effect.orDie(database.sql<{ page_count: number }>`PRAGMA page_count`)
        yield* Effect.orDie(database.sql.unsafe(`PRAGMA max_page_count = ${Number(pages[0]?.page_count) + 20}`))
        const large = store.append(streamOf("large"), [placed({ text: "x".repeat(1_000_000) })], { expected: "any" })
        const alone = yield* Effect.exit(large)
        expect(alone).toMatchObject({ cause: { error: { _tag: "StoreUnavailable" } } })
        yield* Effect.orDie(database.sql.unsafe(`PRAGMA max_page_count = ${Number(pages[0]?.page_count) + 20}`))
        const exits = yield* together(database, [append(store, "0"), large, append(store, "2")])
        expect([exits[0], exits[2]].map((exit) => exit !== undefined && Exit.isSuccess(exit))).toEqual([true, true])
        expect(yield* store.count()).toBe(exits.filter(Exit.isSuccess).length)
      })
    )
  })

  it("are those of commands, too", () => {
    const filename = freshFile()
    const stores = Layer.provideMerge(CommandStoreSqlite.layerFromDatabase(), EventStoreSqlite.layer({ filename }))
    return Effect.gen(function* () {
      const database = yield* SqliteDatabase.SqliteDatabase
      const commands = yield* CommandStore.CommandStore
      const before = commits(filename)
      yield* together(
        database,
        numbers(20).map((i) =>
          commands.create({ ...placed({ i }), id: crypto.randomUUID(), tenantId: "tenant", domain: "order" })
        )
      )
      expect(commits(filename) - before).toBeLessThan(10)
    }).pipe(Effect.provide(stores), Effect.runPromise)
  })
})
