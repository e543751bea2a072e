/**
 * What appends take of the server's table of locks, which is small and shared by all clients.
 */
import { assert, it } from "@effect/vitest"
import { Effect, Fiber, Layer, Redacted } from "effect"
import { EventStore } from "effect-stores"
import { EventStorePg, PgDatabase } from "effect-stores/pg"
import { afterAll, beforeAll } from "vitest"
import { describeOwnPg, describePg, freshDatabase } from "../support/backends.js"
import { type PostgresServer, startPostgres } from "../support/postgres.js"

const newStream = () => ({ tenantId: "t", domain: "d", aggregateId: crypto.randomUUID() })
const event = { type: "Happened", data: {} }

describePg("locks of a transaction on PostgreSQL", () => {
  const inTransaction = <A, E>(
    body: (
      store: EventStore.EventStoreShape,
      database: PgDatabase.PgDatabaseShape,
      other: EventStore.EventStoreShape
    ) => Effect.Effect<A, E>
  ) =>
    Effect.gen(function* () {
      const url = Redacted.make(yield* Effect.promise(freshDatabase))
      const other = yield* Effect.provide(EventStore.EventStore, yield* Layer.build(EventStorePg.layer({ url })))
      yield* Effect.gen(function* () {
        const database = yield* PgDatabase.PgDatabase
        yield* database.transaction(body(yield* EventStore.EventStore, database, other))
      }).pipe(Effect.provide(EventStorePg.layer({ url })))
    }).pipe(Effect.scoped)

  const locks = ({ sql }: PgDatabase.PgDatabaseShape) =>
    Effect.map(sql`select from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()`, ({ length }) => length)

  it.live("however many appends to a stream, they are two, in each transaction: the stream's and the feed's", () =>
    Effect.gen(function* () {
      const url = Redacted.make(yield* Effect.promise(freshDatabase))
      yield* Effect.gen(function* () {
        const store = yield* EventStore.EventStore
        const database = yield* PgDatabase.PgDatabase
        const stream = newStream()
        const body = Effect.gen(function* () {
          for (let n = 0; n < 5; n++) {
            yield* store.append(stream, [event], { expected: "any" })
            yield* store.appendAll([{ stream, events: [event, event], expected: "any" }])
          }
          assert.strictEqual(yield* locks(database), 2)
        })
        // On one connection, where what the first knew of itself must not be believed by the second.
        yield* database.transaction(body)
        yield* database.transaction(body)
      }).pipe(Effect.provide(EventStorePg.layer({ url, pool: { maxOpenConns: 1 } })))
    })
  )

  it.live("the feed stops before the first append, and before the next when a savepoint took the first back", () =>
    inTransaction((store, database, other) =>
      Effect.gen(function* () {
        const append = (to: EventStore.EventStoreShape) => to.append(newStream(), [event], { expected: "any" })
        const undone = database.transaction(Effect.zipRight(append(store), Effect.fail("undo")))
        yield* Effect.flip(undone)
        assert.strictEqual(yield* locks(database), 0)
        const first = yield* append(store)
        assert.strictEqual(yield* locks(database), 2)
        yield* append(other)
        assert.isBelow(yield* other.head, first.position)
        yield* Effect.flip(undone)
        yield* append(store)
        yield* append(other)
        assert.strictEqual(yield* locks(database), 3)
        assert.isBelow(yield* other.head, first.position)
      })
    )
  )
})

describeOwnPg("the lock table of a small PostgreSQL server", () => {
  let server: PostgresServer
  beforeAll(async () => {
    server = await startPostgres({ maxConnections: 10, settings: { max_locks_per_transaction: "10" } })
  })
  afterAll(() => server?.stop())

  it.live("when it is full, an append fails typed: retryable, but not in the transaction that fills it", () =>
    Effect.gen(function* () {
      const url = Redacted.make(yield* Effect.promise(() => server.createDatabase()))
      yield* Effect.gen(function* () {
        const store = yield* EventStore.EventStore
        const { transaction } = yield* PgDatabase.PgDatabase
        const many = Effect.suspend(() =>
          store.appendAll(
            Array.from({ length: 100 }, () => ({ stream: newStream(), events: [event], expected: "any" as const }))
          )
        )
        let fitting = 0
        const fill = Effect.forever(Effect.tap(many, () => Effect.sync(() => fitting++)))
        const inside = yield* Effect.flip(transaction(fill))
        assert.deepInclude(inside, { _tag: "StoreUnavailable", retryable: false })
        assert.isAbove(fitting, 0)

        const outside = yield* Effect.makeLatch()
        const full = yield* Effect.makeLatch()
        const holder = yield* Effect.fork(
          transaction(
            Effect.repeatN(many, fitting - 1).pipe(Effect.zipRight(full.open), Effect.zipRight(outside.await))
          )
        )
        yield* full.await
        assert.deepInclude(yield* Effect.flip(many), { _tag: "StoreUnavailable", retryable: true })
        yield* outside.open
        yield* Fiber.join(holder)
        yield* many
      }).pipe(Effect.provide(EventStorePg.layer({ url, pool: { maxOpenConns: 4 } })))
    })
  )
})
