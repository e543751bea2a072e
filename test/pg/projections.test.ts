/**
 * Projections where PostgreSQL differs: a handler holds one connection of several, and the server ends a transaction in
 * which nothing happens.
 */
import { assert, it } from "@effect/vitest"
import { Chunk, Deferred, Duration, Effect, Fiber, Layer, Option, Redacted, Schedule, Schema, Stream } from "effect"
import { CheckpointStore, Errors, EventStore, Projection } from "effect-stores"
import { CheckpointStorePg, EventStorePg, PgDatabase } from "effect-stores/pg"
import { partitionOf } from "../../src/projection/partitions.js"
import { describePg, freshDatabase } from "../support/backends.js"
import { withClient } from "../support/databases.js"
import { eventually } from "../support/eventually.js"
import { query } from "./support/query.js"

const Happened = Schema.TaggedStruct("Happened", {})

const append = Effect.flatMap(EventStore.EventStore, (store) =>
  store.append({ tenantId: "t", domain: "d", aggregateId: "a" }, [{ type: "Happened", data: {} }], { expected: "any" })
)

/** To streams of either of two partitions. */
const appendToBoth = Effect.gen(function* () {
  const store = yield* EventStore.EventStore
  for (const partition of [0, 1]) {
    const ids = Array.from({ length: 100 }, (_, i) => ({ tenantId: "t", domain: "d", aggregateId: `${i}` }))
    const stream = ids.find((id) => partitionOf(id, 2) === partition)
    assert.isDefined(stream)
    yield* store.append(stream, [{ type: "Happened", data: {} }], { expected: "any" })
  }
  return yield* store.head
})

/** As in a process of its own. */
const storesOf = (options: PgDatabase.Options) =>
  Layer.build(
    Layer.fresh(
      Layer.merge(EventStorePg.layerFromDatabase(), CheckpointStorePg.layerFromDatabase()).pipe(
        Layer.provide(PgDatabase.layer(options))
      )
    )
  )

describePg("a projection on PostgreSQL", () => {
  it.live(
    "whose handler takes longer than its lease keeps it where no connection is free, and others work on the rest",
    () =>
      Effect.gen(function* () {
        const url = yield* Effect.promise(freshDatabase)
        const options = { url: Redacted.make(url), pool: { maxOpenConns: 1 } }
        const [one, other] = [yield* storesOf(options), yield* storesOf(options)]
        const [begun, end] = [yield* Deferred.make<number>(), yield* Deferred.make<void>()]
        const runs: Array<number> = []
        const long = Projection.make({
          name: "long",
          delivery: "exactlyOnce",
          events: Happened,
          partitions: 2,
          lease: "3 seconds",
          handle: (_, { partition }) =>
            Effect.suspend(() => {
              runs.push(partition)
              if (runs.length > 1) return Effect.void
              return Effect.zipRight(Deferred.succeed(begun, partition), Deferred.await(end))
            })
        })
        const store = yield* Effect.provide(CheckpointStore.CheckpointStore, other)
        const held = Effect.map(Stream.runCollect(store.list({ name: "long" })), Chunk.toReadonlyArray)
        const head = yield* Effect.provide(appendToBoth, one)
        const first = yield* Effect.fork(Effect.provide(Projection.run(long, { owner: "one" }), one))
        const slow = yield* Deferred.await(begun)
        // Its connection is the handler's, so its leases end in the eyes of others; this one's row is locked by then.
        const locked = query(
          url,
          `select 1 from (select partition from es_checkpoints for update skip locked) as free
           having count(*) = 1 and min(partition) <> $1`,
          [slow]
        )
        yield* eventually(Effect.map(locked, ({ rowCount }) => rowCount === 1))
        yield* eventually(Effect.map(held, (all) => all.every(({ leaseLeft }) => Duration.toMillis(leaseLeft) === 0)))
        for (const takeFrom of [undefined, (yield* held)[slow]?.token]) {
          const claimed = yield* store.claim({ name: "long" }, { owner: "other", partition: slow, takeFrom })
          assert.deepStrictEqual(claimed, Option.none())
        }
        const second = yield* Effect.fork(Effect.provide(Projection.run(long, { owner: "other" }), other))
        yield* eventually(Effect.map(held, (all) => all[1 - slow]?.position === head))
        assert.deepStrictEqual(runs, [slow, 1 - slow])
        const [theirs, its] = [(yield* held)[slow], (yield* held)[1 - slow]]
        assert.deepStrictEqual([theirs?.owner, its?.owner], [Option.some("one"), Option.some("other")])

        yield* Deferred.succeed(end, undefined)
        yield* eventually(Effect.map(held, (all) => all.every(({ position }) => position === head)))
        assert.strictEqual(runs.filter((partition) => partition === slow).length, 1)
        yield* Fiber.interruptAll([first, second])
      }).pipe(Effect.scoped)
  )

  it.live("that resumes keeps a partition that a transaction has locked, and goes on when that has ended", () =>
    Effect.gen(function* () {
      const url = yield* Effect.promise(freshDatabase)
      const stores = yield* storesOf({ url: Redacted.make(url) })
      const store = yield* Effect.provide(CheckpointStore.CheckpointStore, stores)
      const [locked, end] = [yield* Deferred.make<void>(), yield* Deferred.make<void>()]
      // As one whose connection was lost, and which the server has not ended yet.
      const lock = Effect.promise(() =>
        withClient(url, async (client) => {
          await client.query("begin")
          await client.query("select from es_checkpoints for update")
          await Effect.runPromise(Effect.zipRight(Deferred.succeed(locked, undefined), Deferred.await(end)))
        })
      )
      const away = new Errors.StoreUnavailable({ operation: "x", retryable: true, cause: new Error("away") })
      let runs = 0
      const resuming = Projection.make({
        name: "resuming",
        delivery: "exactlyOnce",
        events: Happened,
        lease: "1 hour",
        handle: () =>
          Effect.suspend(() => {
            if (++runs > 1) return Effect.void
            return Effect.forkDaemon(lock).pipe(
              Effect.zipRight(Deferred.await(locked)),
              Effect.zipRight(Effect.fail(away))
            )
          })
      })
      let refused = 0
      const counting: CheckpointStore.CheckpointStoreShape = {
        ...store,
        claim: (follower, options) =>
          Effect.tap(store.claim(follower, options), (claimed) =>
            Effect.sync(() => {
              if (Option.isNone(claimed)) refused++
            })
          )
      }
      const { position } = yield* Effect.provide(append, stores)
      const worker = yield* Projection.catchUp(resuming).pipe(
        Effect.provideService(CheckpointStore.CheckpointStore, counting),
        Effect.provide(stores),
        Effect.fork
      )
      yield* eventually(Effect.sync(() => refused >= 2))
      assert.strictEqual(runs, 1)
      yield* Deferred.succeed(end, undefined)
      assert.strictEqual(yield* Fiber.join(worker), position)
      const [checkpoint] = Chunk.toReadonlyArray(yield* Stream.runCollect(store.list({ name: "resuming" })))
      assert.deepStrictEqual([runs, checkpoint?.token, checkpoint?.position], [2, 2, position])
    }).pipe(Effect.scoped)
  )

  it.live(
    "whose handler does nothing until the server ends its transaction has failed, and is not tried without end",
    () =>
      Effect.gen(function* () {
        const url = yield* Effect.promise(freshDatabase)
        const stores = yield* storesOf({
          url: Redacted.make(url),
          applicationName: "idler",
          idleInTransactionTimeout: "200 millis"
        })
        const inTransaction = query(
          url,
          "select from pg_stat_activity where application_name = 'idler' and state like 'idle in transaction%'"
        )
        const isEnded = Effect.map(inTransaction, ({ rowCount }) => rowCount === 0)
        let runs = 0
        const idle = (onFailure: Projection.OnFailure) =>
          Projection.make({
            name: "idle",
            delivery: "exactlyOnce",
            events: Happened,
            retry: Schedule.recurs(1),
            onFailure,
            handle: () => {
              runs++
              return eventually(isEnded)
            }
          })
        yield* Effect.gen(function* () {
          yield* append
          const error = yield* Effect.flip(Projection.catchUp(idle("stop")))
          assert.instanceOf(error, Projection.ProjectionStopped)
          const { cause } = error
          assert.instanceOf(cause, Errors.StoreUnavailable)
          assert.isFalse((cause as Errors.StoreUnavailable).retryable)
          assert.include((cause as Errors.StoreUnavailable).message, "idleInTransactionTimeout")
          assert.strictEqual(runs, 2)

          yield* Projection.catchUp(idle("skip"))
          assert.strictEqual(runs, 4)
          const store = yield* CheckpointStore.CheckpointStore
          const letters = yield* Stream.runCollect(store.deadLetters({ name: "idle" }))
          assert.deepStrictEqual(
            Chunk.toReadonlyArray(letters).map(({ reason }) => reason),
            ["StoreUnavailable"]
          )
        }).pipe(Effect.provide(stores))
      }).pipe(Effect.scoped)
  )
})
