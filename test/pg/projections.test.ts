/**
 * Projections where PostgreSQL differs: a handler holds one connection of several, and the server ends a transaction in
 * which nothing happens.
 */
import { assert, it } from "@effect/vitest"
import { Chunk, Deferred, Effect, Fiber, Layer, Redacted, Schedule, Schema, Stream } from "effect"
import { CheckpointStore, Errors, EventStore, Projection } from "effect-stores"
import { CheckpointStorePg, EventStorePg, PgDatabase } from "effect-stores/pg"
import { describePg, freshDatabase } from "../support/backends.js"
import { eventually } from "../support/eventually.js"
import { query } from "./support/query.js"

const Happened = Schema.TaggedStruct("Happened", {})

const append = Effect.flatMap(EventStore.EventStore, (store) =>
  store.append({ tenantId: "t", domain: "d", aggregateId: "a" }, [{ type: "Happened", data: {} }], { expected: "any" })
)

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
    "whose handler takes longer than its lease keeps it, also where no connection is free to renew it",
    () =>
      Effect.gen(function* () {
        const url = yield* Effect.promise(freshDatabase)
        const options = { url: Redacted.make(url), pool: { maxOpenConns: 1 } }
        const [one, other] = [yield* storesOf(options), yield* storesOf(options)]
        const [begun, end] = [yield* Deferred.make<void>(), yield* Deferred.make<void>()]
        let runs = 0
        const long = Projection.make({
          name: "long",
          delivery: "exactlyOnce",
          events: Happened,
          lease: "3 seconds",
          handle: () => {
            runs++
            return Effect.zipRight(Deferred.succeed(begun, undefined), Deferred.await(end))
          }
        })
        const { position } = yield* Effect.provide(append, one)
        const first = yield* Effect.fork(Effect.provide(Projection.catchUp(long), one))
        yield* Deferred.await(begun)
        // It sees the lease end, claims, and waits for the transaction in which it was renewed.
        const second = yield* Effect.fork(Effect.provide(Projection.catchUp(long), other))
        const waiting = query(
          url,
          `select from pg_stat_activity
           where datname = current_database() and wait_event_type = 'Lock' and query like '%checkpoints%'`
        )
        yield* eventually(Effect.map(waiting, ({ rowCount }) => rowCount === 1))
        yield* Deferred.succeed(end, undefined)
        yield* Fiber.join(first)
        yield* Fiber.join(second)
        assert.strictEqual(runs, 1)
        yield* Effect.provide(Projection.awaitPosition(long, position), other)
      }).pipe(Effect.scoped),
    120_000
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
      }).pipe(Effect.scoped),
    60_000
  )
})
