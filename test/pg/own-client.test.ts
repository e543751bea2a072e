/**
 * The stores beside an application's own `PgClient`: one pool for both, one transaction for both, and what the client
 * leaves open is no defect to those who call the stores.
 */
import { PgClient } from "@effect/sql-pg"
import { assert, it } from "@effect/vitest"
import { Context, Effect, Exit, Fiber, Layer, Redacted } from "effect"
import { EventStore } from "effect-stores"
import { EventStorePg, PgDatabase } from "effect-stores/pg"
import { beforeAll } from "vitest"
import { describePg, freshDatabase } from "../support/backends.js"
import { withClient } from "../support/databases.js"
import { eventually } from "../support/eventually.js"
import { contract, event, newStream } from "../support/ownClient.js"

type Application = EventStore.EventStore | PgClient.PgClient | PgDatabase.PgDatabase

describePg("the stores beside an application's PgClient", () => {
  let url: string
  let other: string
  beforeAll(async () => {
    url = await freshDatabase()
    other = await freshDatabase()
    await withClient(url, (client) =>
      client.query(`create table rows (id text primary key);
        create table checked (id int, constraint late unique (id) deferrable initially deferred)`)
    )
  })

  const open = (options: Partial<PgClient.PgClientConfig> = {}) =>
    EventStorePg.layerFromDatabase().pipe(
      Layer.provideMerge(PgDatabase.layerFromClient),
      Layer.provideMerge(PgClient.layer({ url: Redacted.make(url), maxConnections: 2, ...options }))
    )

  const test = <A, E>(
    title: string,
    self: Effect.Effect<A, E, Application>,
    options: Partial<PgClient.PgClientConfig> = {}
  ) =>
    it.live(title, () =>
      Effect.provide(
        self,
        Layer.suspend(() => open(options))
      )
    )

  const services = Effect.all({
    store: EventStore.EventStore,
    sql: PgClient.PgClient,
    database: PgDatabase.PgDatabase
  })

  const elsewhere = Effect.suspend(() =>
    Effect.map(Layer.build(PgClient.layer({ url: Redacted.make(other), maxConnections: 1 })), (built) =>
      Context.unsafeGet(built, PgClient.PgClient)
    )
  )

  contract<Application>({
    test,
    services,
    database: "PgDatabase",
    events: [event],
    elsewhere,
    failing: {
      "a COMMIT that fails": (sql) => sql`insert into checked values (1), (1)`,
      "a COMMIT after a statement that failed and was caught": (sql) => Effect.ignore(sql`select 1 / ${0}::int`)
    }
  })

  test(
    "a transaction of this database inside one of another client's is its own",
    Effect.gen(function* () {
      const { database, sql, store } = yield* services
      const client = yield* elsewhere
      const [kept, undone] = [newStream(), newStream()]
      const append = (stream: EventStore.StreamId) => store.append(stream, [event], { expected: "noStream" })
      const failed = client.withTransaction(
        Effect.gen(function* () {
          yield* database.transaction(Effect.zipRight(append(kept), sql`insert into rows values (${kept.aggregateId})`))
          yield* Effect.flip(database.transaction(Effect.zipRight(append(undone), Effect.fail("inner"))))
          yield* Effect.fail("outer")
        })
      )
      assert.strictEqual(yield* Effect.flip(failed), "outer")
      assert.deepEqual([yield* store.version(kept), yield* store.version(undone)], [1, 0])
      assert.lengthOf(yield* sql`select * from rows where id = ${kept.aggregateId}`, 1)
    }).pipe(Effect.scoped)
  )

  test(
    "a session that is killed in a transaction is a typed failure, also of its ROLLBACK, and the pool goes on",
    Effect.gen(function* () {
      const { database, sql, store } = yield* services
      const stream = newStream()
      const exit = yield* Effect.exit(
        database.transaction(
          Effect.gen(function* () {
            yield* store.append(stream, [event], { expected: "noStream" })
            yield* Effect.ignore(sql`select pg_terminate_backend(pg_backend_pid())`)
            yield* store.append(stream, [event], { expected: 1 })
          })
        )
      )
      assert.isTrue(Exit.isFailure(exit) && exit.cause._tag === "Fail", String(exit))
      assert.strictEqual(yield* store.version(stream), 0)
      yield* store.append(stream, [event], { expected: "noStream" })
    })
  )

  test(
    "appends that are interrupted, running and waiting, hit no bystander and lose no connection",
    Effect.gen(function* () {
      const { database, sql, store } = yield* services
      const stream = newStream()
      yield* store.append(stream, [event], { expected: "noStream" })
      // By hand, so that the appends to the stream wait.
      const held = Effect.promise(() =>
        withClient(url, async (holder) => {
          await holder.query("begin")
          await holder.query("lock table es_events in access exclusive mode")
          const fibers = await Effect.runPromise(
            Effect.forEach(Array.from({ length: 10 }), () =>
              Effect.forkDaemon(store.append(stream, [event, event], { expected: "any" }))
            )
          )
          await Effect.runPromise(eventually(database.state, ({ open }) => open === 2))
          const interrupting = Effect.runPromise(Fiber.interruptAll(fibers))
          await holder.query("rollback")
          await interrupting
        })
      )
      yield* held
      // Nothing is half done, and both connections are there for others.
      assert.strictEqual((yield* store.version(stream)) % 2, 1)
      yield* Effect.all(
        [sql`select pg_sleep(0.1)`, sql`select pg_sleep(0.1)`, store.append(stream, [event], { expected: "any" })],
        { concurrency: "unbounded" }
      )
      // The wake-up of the last append may be under way.
      yield* eventually(database.state, ({ open, waiting }) => open === 0 && waiting === 0)
    })
  )

  test(
    "a pool that is full for longer than the client waits is a typed failure, and goes on when it is not",
    Effect.gen(function* () {
      const { database, sql, store } = yield* services
      const full = Effect.gen(function* () {
        yield* sql.reserve
        const failure = yield* Effect.flip(store.version(newStream()))
        assert.deepInclude(failure, { _tag: "StoreUnavailable", retryable: true })
      })
      yield* Effect.scoped(full)
      yield* database.transaction(store.version(newStream()))
      assert.deepEqual(yield* database.health, { status: "up" })
    }),
    { maxConnections: 1, connectTimeout: "300 millis" }
  )
})
