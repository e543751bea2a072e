/**
 * Fibers that a transaction left behind when it ended. Its connection is another transaction's by then, to which they
 * must do nothing.
 */
import { Deferred, Effect, Exit, Fiber } from "effect"
import type { EventStore } from "effect-stores"
import type { SqliteDatabase } from "effect-stores/sqlite"
import { describe, expect, it } from "vitest"
import { freshFile, placed, streamOf, withStore } from "./support.js"

const append = (store: EventStore.EventStoreShape, stream: string) =>
  store.append(streamOf(stream), [placed()], { expected: "any" })
const versions = (store: EventStore.EventStoreShape, streams: ReadonlyArray<string>) =>
  Effect.forEach(streams, (stream) => store.version(streamOf(stream)))

/** Until the event loop has come around to what was put into its line before. */
const aroundTheLoop = Effect.async<void>((resume) => void setImmediate(() => resume(Effect.void)))

/** After so much work in one turn of the event loop that comes first, so the next step waits in line. */
const tooLongWithoutPause = <E>(step: Effect.Effect<unknown, E>) =>
  Effect.zipRight(
    Effect.zipRight(aroundTheLoop, step),
    Effect.sync(() => {
      const start = performance.now()
      while (performance.now() - start < 20);
    })
  )

describe("a step that waits in line when its transaction is rolled back", () => {
  it("does nothing, and fails typed", () =>
    withStore({ filename: freshFile() }, (store, { state, transaction }) =>
      Effect.gen(function* () {
        let late: Fiber.Fiber<Exit.Exit<unknown, EventStore.AppendError>> | undefined
        const body = Effect.gen(function* () {
          yield* tooLongWithoutPause(append(store, "body"))
          late = yield* Effect.forkDaemon(Effect.exit(append(store, "late")))
          yield* Effect.yieldNow()
          return yield* Effect.fail("rolled back")
        })
        expect(yield* Effect.flip(transaction(body))).toBe("rolled back")
        if (late === undefined) return expect.unreachable()
        expect(yield* Effect.flip(Effect.flatten(Fiber.join(late)))).toMatchObject({ _tag: "StoreError" })
        expect(yield* versions(store, ["body", "late"])).toEqual([0, 0])
        expect((yield* state).writer).toEqual({ open: 1, idle: 1, waiting: 0 })
      })
    ))

  it("does nothing in the transaction that has the connection next", () =>
    withStore({ filename: freshFile() }, (store, { transaction }) =>
      Effect.gen(function* () {
        let late: Fiber.Fiber<Exit.Exit<unknown, EventStore.AppendError>> | undefined
        const body = Effect.gen(function* () {
          yield* tooLongWithoutPause(append(store, "body"))
          late = yield* Effect.forkDaemon(Effect.exit(append(store, "late")))
          return yield* Effect.zipRight(aroundTheLoop, Effect.fail("rolled back"))
        })
        expect(yield* Effect.flip(transaction(body))).toBe("rolled back")
        const inside = yield* transaction(
          Effect.gen(function* () {
            yield* append(store, "next")
            if (late === undefined) return expect.unreachable()
            const exit = yield* Fiber.join(late)
            return { exit, versions: yield* versions(store, ["body", "late", "next"]) }
          })
        )
        expect(inside.versions).toEqual([0, 0, 1])
        expect(Exit.isFailure(inside.exit)).toBe(true)
        expect(yield* versions(store, ["body", "late", "next"])).toEqual([0, 0, 1])
      })
    ))
})

describe("a transaction in a transaction that was rolled back around it", () => {
  /** Leaves one behind that goes on with `rest` when it may. */
  const leaveBehind = (
    store: EventStore.EventStoreShape,
    { transaction }: SqliteDatabase.SqliteDatabaseShape,
    rest: Effect.Effect<unknown, unknown>
  ) =>
    Effect.gen(function* () {
      const [begun, go] = yield* Effect.all([Deferred.make<void>(), Deferred.make<void>()])
      const inner = Effect.all([append(store, "inner"), Deferred.succeed(begun, undefined), Deferred.await(go), rest])
      const fiber = yield* Deferred.make<Fiber.Fiber<Exit.Exit<unknown, unknown>>>()
      const outer = Effect.gen(function* () {
        yield* Deferred.succeed(fiber, yield* Effect.forkDaemon(Effect.exit(transaction(inner))))
        yield* Deferred.await(begun)
      })
      // It does not commit while one inside is open.
      expect(yield* Effect.flip(transaction(outer))).toMatchObject({ _tag: "StoreError", operation: "COMMIT" })
      const left = yield* Deferred.await(fiber)
      return Effect.zipRight(Deferred.succeed(go, undefined), Fiber.join(left))
    })

  it("appends nothing to the transaction that has the connection next", () =>
    withStore({ filename: freshFile() }, (store, database) =>
      Effect.gen(function* () {
        const goOn = yield* leaveBehind(store, database, append(store, "late"))
        const exit = yield* database.transaction(Effect.zipRight(append(store, "next"), goOn))
        expect(Exit.isFailure(exit)).toBe(true)
        expect(yield* versions(store, ["inner", "late", "next"])).toEqual([0, 0, 1])
      })
    ))

  it("undoes nothing of the transaction that has the connection next when it fails", () =>
    withStore({ filename: freshFile() }, (store, database) =>
      Effect.gen(function* () {
        const goOn = yield* leaveBehind(store, database, Effect.fail("late"))
        const { transaction } = database
        // As deep as the one left behind, and so with a savepoint of the same name.
        yield* transaction(
          Effect.zipRight(append(store, "next"), transaction(Effect.zipRight(append(store, "deep"), goOn)))
        )
        expect(yield* versions(store, ["inner", "next", "deep"])).toEqual([0, 1, 1])
      })
    ))
})
