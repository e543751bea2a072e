/**
 * Every option of the pool has an effect that can be observed, waiting is in order and can be interrupted, and
 * interrupts leave nothing behind.
 */
import { Deferred, Effect, Fiber, Stream } from "effect"
import { describe, expect, it } from "vitest"
import { eventually } from "../support/eventually.js"
import {
  childCommand,
  freshFile,
  openConnections,
  placed,
  readAll,
  startChild,
  streamOf,
  withStore
} from "./support.js"

describe("the pool of a SQLite database", () => {
  it("opens at most maxOpenConns connections, readers when they are needed, and closes them after connMaxIdleTime", async () => {
    const filename = freshFile()
    await withStore({ filename, pool: { maxOpenConns: 4, connMaxIdleTime: "100 millis" } }, (_, { reader, state }) =>
      Effect.gen(function* () {
        expect(openConnections(filename)).toBe(1)
        const go = yield* Deferred.make<void>()
        const holding = reader.withTransaction(
          Effect.zipRight(reader`SELECT count(*) FROM es_events`, Deferred.await(go))
        )
        const fibers = yield* Effect.forEach([1, 2, 3, 4, 5], () => Effect.fork(holding))
        yield* eventually(Effect.map(state, ({ readers }) => readers.waiting === 2))
        expect(openConnections(filename)).toBe(4)
        yield* Deferred.succeed(go, undefined)
        yield* Fiber.joinAll(fibers)
        expect((yield* state).readers).toEqual({ open: 3, idle: 3, waiting: 0 })
        yield* eventually(Effect.sync(() => openConnections(filename) === 1))
        // The connection that writes stays.
        expect(yield* state).toEqual({
          writer: { open: 1, idle: 1, waiting: 0 },
          readers: { open: 0, idle: 0, waiting: 0 }
        })
      })
    )
  })

  it("reads through the connection that writes when maxOpenConns is 1", async () => {
    const filename = freshFile()
    await withStore({ filename, pool: { maxOpenConns: 1 } }, (store, { reader, sql }) =>
      Effect.gen(function* () {
        yield* store.append(streamOf("1"), [placed()], { expected: "noStream" })
        expect(yield* readAll(store, "1")).toHaveLength(1)
        expect(reader).toBe(sql)
        expect(openConnections(filename)).toBe(1)
      })
    )
  })

  it("serves those who wait for the writer in the order they came", () =>
    withStore({ filename: freshFile() }, (store, { state, transaction }) =>
      Effect.gen(function* () {
        const go = yield* Deferred.make<void>()
        const holder = yield* Effect.fork(transaction(Deferred.await(go)))
        yield* eventually(Effect.map(state, ({ writer }) => writer.idle === 0))
        const served: Array<number> = []
        const numbers = Array.from({ length: 40 }, (_, i) => i)
        const fibers: Array<Fiber.RuntimeFiber<unknown, unknown>> = []
        for (const i of numbers) {
          const append = store.append(streamOf(String(i)), [placed()], { expected: "any" })
          fibers.push(yield* Effect.fork(Effect.tap(append, () => Effect.sync(() => served.push(i)))))
          yield* eventually(Effect.map(state, ({ writer }) => writer.waiting === i + 1))
        }
        yield* Deferred.succeed(go, undefined)
        yield* Fiber.joinAll([holder, ...fibers])
        expect(served).toEqual(numbers)
      })
    ))

  it("ends waiting with PoolTimeout after acquireTimeout, and at once when maxWaiting are in line", () =>
    withStore(
      { filename: freshFile(), pool: { acquireTimeout: "150 millis", maxWaiting: 2 } },
      (store, { state, transaction }) =>
        Effect.gen(function* () {
          const append = Effect.flip(store.append(streamOf("1"), [placed()], { expected: "any" }))
          const holder = yield* Effect.fork(transaction(Effect.never))
          yield* eventually(Effect.map(state, ({ writer }) => writer.idle === 0))
          const waiting = yield* Effect.forEach([1, 2], () => Effect.fork(append))
          yield* eventually(Effect.map(state, ({ writer }) => writer.waiting === 2))
          expect(yield* append).toMatchObject({ _tag: "PoolTimeout", waitedMs: 0, waiting: 2 })
          for (const error of yield* Fiber.joinAll(waiting)) {
            expect(error).toMatchObject({ _tag: "PoolTimeout", waitedMs: 150, retryable: true })
          }
          yield* Fiber.interrupt(holder)
          expect(yield* store.append(streamOf("1"), [placed()], { expected: "noStream" })).toMatchObject({ version: 1 })
        })
    ))

  it("reads go on while a transaction writes, and do not see it before its COMMIT", () =>
    withStore({ filename: freshFile() }, (store, { transaction }) =>
      Effect.gen(function* () {
        const [written, go] = yield* Effect.all([Deferred.make<void>(), Deferred.make<void>()])
        const append = store.append(streamOf("1"), [placed()], { expected: "noStream" })
        const writing = append.pipe(
          Effect.zipRight(Deferred.succeed(written, undefined)),
          Effect.zipRight(Deferred.await(go)),
          transaction
        )
        const fiber = yield* Effect.fork(writing)
        yield* Deferred.await(written)
        expect(yield* readAll(store, "1")).toHaveLength(0)
        yield* Deferred.succeed(go, undefined)
        yield* Fiber.join(fiber)
        expect(yield* readAll(store, "1")).toHaveLength(1)
      })
    ))
})

describe("interruption", () => {
  it("of who waits for the writer returns at once, and leaves the line as if it had never been there", () =>
    withStore({ filename: freshFile() }, (store, { state, transaction }) =>
      Effect.gen(function* () {
        const go = yield* Deferred.make<void>()
        const holder = yield* Effect.fork(transaction(Deferred.await(go)))
        yield* eventually(Effect.map(state, ({ writer }) => writer.idle === 0))
        const waiting = yield* Effect.all([
          Effect.fork(store.append(streamOf("1"), [placed()], { expected: "any" })),
          Effect.fork(transaction(Effect.void))
        ])
        yield* eventually(Effect.map(state, ({ writer }) => writer.waiting === 2))
        yield* Fiber.interruptAll(waiting)
        // It returned although the writer is still held.
        expect((yield* state).writer).toEqual({ open: 1, idle: 0, waiting: 0 })
        yield* Deferred.succeed(go, undefined)
        yield* Fiber.join(holder)
        expect((yield* state).writer).toEqual({ open: 1, idle: 1, waiting: 0 })
        expect(yield* readAll(store, "1")).toHaveLength(0)
      })
    ))

  it("of 1,000 operations at random moments leaves no connection in use, no transaction open, no lock", async () => {
    const filename = freshFile()
    await withStore(
      { filename, pool: { maxOpenConns: 4 }, synchronous: "OFF" },
      (store, { reader, sql, state, transaction }) =>
        Effect.gen(function* () {
          const append = (stream: string) => store.append(streamOf(stream), [placed(), placed()], { expected: "any" })
          const pause = Effect.suspend(() => Effect.sleep(Math.random() * 3))
          const operations: Array<Effect.Effect<unknown, unknown>> = [
            append("1"),
            store.appendAll([
              { stream: streamOf("2"), events: [placed()], expected: "any" },
              { stream: streamOf("3"), events: [placed()], expected: "any" }
            ]),
            transaction(Effect.all([append("4"), pause, append("4")])),
            transaction(Effect.all([append("5"), transaction(Effect.zipRight(append("5"), pause)), pause])),
            transaction(Effect.all([append("6"), transaction(append("6")), pause], { concurrency: "unbounded" })),
            sql.withTransaction(Effect.zipRight(sql`SELECT 1`, pause)),
            reader.withTransaction(Effect.zipRight(Stream.runDrain(store.feed()), pause)),
            Stream.runDrain(sql`SELECT * FROM es_events`.stream),
            Stream.runDrain(store.subscribe())
          ]
          let interrupted = 0
          const one = (i: number) =>
            Effect.gen(function* () {
              const fiber = yield* Effect.fork(operations[i % operations.length] ?? Effect.void)
              yield* Effect.sleep(Math.random() * 8)
              const exit = yield* Fiber.interrupt(fiber)
              if (exit._tag === "Failure") interrupted++
            })
          yield* Effect.forEach(
            Array.from({ length: 1_000 }, (_, i) => i),
            one,
            { concurrency: 16, discard: true }
          )
          expect(interrupted).toBeGreaterThan(300)
          const { readers, writer } = yield* state
          expect(writer).toEqual({ open: 1, idle: 1, waiting: 0 })
          expect(readers).toEqual({ open: readers.open, idle: readers.open, waiting: 0 })
          // No transaction is open in this process either: one would keep the other process from writing.
          yield* Effect.promise(() => startChild(childCommand("start", filename)).done)
          expect(yield* readAll(store, "child")).toHaveLength(1)
          // Both of a transaction's appends, or none.
          for (const stream of ["4", "5", "6"]) expect((yield* readAll(store, stream)).length % 4).toBe(0)
        })
    )
  })
})
