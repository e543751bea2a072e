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

type Application = EventStore.EventStore | PgClient.PgClient | PgDatabase.PgDatabase

const newStream = () => ({ tenantId: "t", domain: "d", aggregateId: crypto.randomUUID() })
const event = { type: "Happened", data: { n: 1 } }

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

  for (const begin of ["sql.withTransaction", "PgDatabase.transaction"] as const) {
    test(
      `${begin} is one for both: appends and the application's rows are there together or not at all`,
      Effect.gen(function* () {
        const { database, sql, store } = yield* services
        const inside = <A, E>(self: Effect.Effect<A, E>): Effect.Effect<A, unknown> =>
          begin === "PgDatabase.transaction" ? database.transaction(self) : sql.withTransaction(self)
        const [kept, undone] = [newStream(), newStream()]
        const place = (stream: EventStore.StreamId) =>
          Effect.gen(function* () {
            yield* store.append(stream, [event], { expected: "noStream" })
            yield* sql`insert into rows values (${stream.aggregateId})`
            assert.strictEqual(yield* store.version(stream), 1)
          })
        yield* inside(place(kept))
        assert.strictEqual(yield* Effect.flip(inside(Effect.zipRight(place(undone), Effect.fail("undone")))), "undone")
        // An inner one that fails, and is caught, undoes its own writes only.
        const partly = newStream()
        yield* inside(
          Effect.zipRight(place(partly), Effect.flip(inside(Effect.zipRight(place(undone), Effect.fail(0)))))
        )
        const versions = yield* Effect.forEach([kept, undone, partly], store.version)
        assert.deepEqual(versions, [1, 0, 1])
        const ids = [kept, undone, partly].map(({ aggregateId }) => aggregateId)
        assert.lengthOf(yield* sql`select * from rows where ${sql.in("id", ids)}`, 2)
      })
    )
  }

  test(
    "a transaction of another client is not taken for one of this database's",
    Effect.gen(function* () {
      const { store } = yield* services
      const elsewhere = Context.unsafeGet(
        yield* Layer.build(PgClient.layer({ url: Redacted.make(other), maxConnections: 1 })),
        PgClient.PgClient
      )
      const stream = newStream()
      const append = store.append(stream, [event], { expected: "noStream" })
      assert.strictEqual(
        yield* Effect.flip(elsewhere.withTransaction(Effect.zipRight(append, Effect.fail("undone")))),
        "undone"
      )
      assert.strictEqual(yield* store.version(stream), 1)
    }).pipe(Effect.scoped)
  )

  test(
    "a transaction of this database inside one of another client's is its own",
    Effect.gen(function* () {
      const { database, sql, store } = yield* services
      const elsewhere = Context.unsafeGet(
        yield* Layer.build(PgClient.layer({ url: Redacted.make(other), maxConnections: 1 })),
        PgClient.PgClient
      )
      const [kept, undone] = [newStream(), newStream()]
      const append = (stream: EventStore.StreamId) => store.append(stream, [event], { expected: "noStream" })
      const failed = elsewhere.withTransaction(
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
    "a COMMIT that fails is a typed failure, and nothing of the transaction is there",
    Effect.gen(function* () {
      const { database, sql, store } = yield* services
      const stream = newStream()
      const failed = yield* Effect.flip(
        database.transaction(
          Effect.zipRight(
            store.append(stream, [event], { expected: "noStream" }),
            sql`insert into checked values (1), (1)`
          )
        )
      )
      assert.strictEqual(failed._tag, "StoreError")
      assert.strictEqual(yield* store.version(stream), 0)
    })
  )

  test(
    "a transaction in which a statement failed and was caught fails, and is not taken for committed",
    Effect.gen(function* () {
      const { database, sql, store } = yield* services
      const stream = newStream()
      const failed = yield* Effect.flip(
        database.transaction(
          Effect.zipRight(
            store.append(stream, [event], { expected: "noStream" }),
            Effect.ignore(sql`select 1 / ${0}::int`)
          )
        )
      )
      assert.strictEqual(failed._tag, "StoreError")
      assert.strictEqual(yield* store.version(stream), 0)
    })
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
