/**
 * What a PgDatabase promises beyond the stores' contract: transactions, and a pool whose every option can be seen in
 * `pg_stat_activity`.
 */
import { assert, it } from "@effect/vitest"
import { Cause, Config, ConfigProvider, Effect, Exit, Fiber, Layer, Option, Redacted, Stream } from "effect"
import { EventStore, Pool } from "effect-stores"
import { EventStorePg, PgDatabase } from "effect-stores/pg"
import { Client } from "pg"
import { beforeAll, describe } from "vitest"
import { storeAccess } from "../../src/pg/database/access.js"
import { describePg, freshDatabase } from "../support/backends.js"
import { withClient } from "../support/databases.js"
import { eventually } from "../support/eventually.js"

type Environment = EventStore.EventStore | PgDatabase.PgDatabase

describePg("PgDatabase", () => {
  let url: string
  beforeAll(async () => {
    url = await freshDatabase()
  })

  const open = (options: Partial<EventStorePg.Options> = {}) =>
    Layer.suspend(() => EventStorePg.layer({ url: Redacted.make(url), ...options }))

  const test = <A, E>(
    title: string,
    self: Effect.Effect<A, E, Environment>,
    options: Partial<EventStorePg.Options> = {}
  ) => it.live(title, () => Effect.provide(self, open(options)))

  const newStream = () => ({ tenantId: "t", domain: "d", aggregateId: crypto.randomUUID() })
  const event = { type: "Happened", data: {} }

  /** The server's view of the connections with this application name. */
  const activity = (applicationName: string) =>
    Effect.promise(() =>
      withClient(url, (client) =>
        client.query<{ pid: number; state: string }>(
          "select pid, state from pg_stat_activity where application_name = $1 order by backend_start",
          [applicationName]
        )
      )
    ).pipe(Effect.map((result) => result.rows))

  describe("a transaction of the caller", () => {
    test(
      "commits with the append in it, and nobody sees it before",
      Effect.gen(function* () {
        const store = yield* EventStore.EventStore
        const database = yield* PgDatabase.PgDatabase
        const stream = newStream()
        yield* database.sql`create table if not exists notes (text text)`
        const outside = yield* Effect.context<Environment>()
        yield* database.transaction(
          Effect.gen(function* () {
            yield* store.append(stream, [event], { expected: "noStream" })
            yield* database.sql`insert into notes values (${stream.aggregateId})`
            assert.strictEqual(yield* store.version(stream), 1)
            const other = yield* Effect.promise(() =>
              withClient(url, (client) =>
                client.query("select 1 from es_events where aggregate_id = $1", [stream.aggregateId])
              )
            )
            assert.strictEqual(other.rowCount, 0)
          })
        )
        assert.strictEqual(yield* Effect.provide(store.version(stream), outside), 1)
        assert.lengthOf(yield* database.sql`select 1 from notes where text = ${stream.aggregateId}`, 1)
      })
    )

    test(
      "rolls back with the append in it, and keeps the failure of the caller",
      Effect.gen(function* () {
        const store = yield* EventStore.EventStore
        const database = yield* PgDatabase.PgDatabase
        const stream = newStream()
        const body = Effect.zipRight(store.append(stream, [event], { expected: "any" }), Effect.fail("mine" as const))
        assert.strictEqual(yield* Effect.flip(database.transaction(body)), "mine")
        const viaSql = Effect.zipRight(store.append(stream, [event], { expected: "any" }), Effect.fail("too" as const))
        assert.strictEqual(yield* Effect.flip(database.sql.withTransaction(viaSql)), "too")
        assert.strictEqual(yield* store.version(stream), 0)
      })
    )

    test(
      "goes on after a conflict and after a repeat, which change nothing",
      Effect.gen(function* () {
        const store = yield* EventStore.EventStore
        const database = yield* PgDatabase.PgDatabase
        const stream = newStream()
        const id = crypto.randomUUID()
        yield* database.transaction(
          Effect.gen(function* () {
            const first = yield* store.append(stream, [{ ...event, id }], { expected: "noStream" })
            const conflict = yield* Effect.flip(store.append(stream, [event], { expected: 7 }))
            assert.strictEqual(conflict._tag, "VersionConflict")
            assert.deepStrictEqual(yield* store.append(stream, [{ ...event, id }], { expected: "noStream" }), first)
            yield* store.append(stream, [event], { expected: 1 })
          })
        )
        assert.strictEqual(yield* store.version(stream), 2)
      })
    )

    test(
      "inside another is a savepoint: its failure undoes only itself",
      Effect.gen(function* () {
        const store = yield* EventStore.EventStore
        const database = yield* PgDatabase.PgDatabase
        const [kept, undone] = [newStream(), newStream()]
        yield* database.transaction(
          Effect.gen(function* () {
            yield* store.append(kept, [event], { expected: "any" })
            const inner = Effect.zipRight(store.append(undone, [event], { expected: "any" }), Effect.fail("inner"))
            assert.strictEqual(yield* Effect.flip(database.transaction(inner)), "inner")
            yield* database.transaction(store.append(kept, [event], { expected: 1 }))
            // Savepoints of siblings must not mix.
            yield* Effect.all(
              Array.from({ length: 8 }, (_, i) =>
                Effect.exit(
                  database.transaction(
                    Effect.zipRight(
                      store.append({ ...kept, domain: `sibling-${i}` }, [event], { expected: "any" }),
                      i % 2 === 0 ? Effect.void : Effect.fail("odd")
                    )
                  )
                )
              ),
              { concurrency: "unbounded" }
            )
          })
        )
        assert.strictEqual(yield* store.version(kept), 2)
        assert.strictEqual(yield* store.version(undone), 0)
        for (let i = 0; i < 8; i++) {
          assert.strictEqual(yield* store.version({ ...kept, domain: `sibling-${i}` }), i % 2 === 0 ? 1 : 0)
        }
      })
    )

    test(
      "fails typed and retryable when COMMIT hits a serialization failure, and the retry succeeds",
      Effect.gen(function* () {
        const database = yield* PgDatabase.PgDatabase
        const { sql } = database
        yield* sql`create table if not exists skew (name text primary key, n int)`
        yield* sql`insert into skew values ('a', 0), ('b', 0) on conflict (name) do update set n = 0`
        // Write skew: each reads what the other writes. Both reach COMMIT; the second to get there is refused.
        const half = (mine: string, meet: Effect.Effect<unknown>) =>
          database.transaction(
            Effect.gen(function* () {
              yield* sql`select sum(n) from skew`
              yield* meet
              yield* sql`update skew set n = n + 1 where name = ${mine}`
              yield* meet
            }),
            { isolation: "serializable" }
          )
        let arrived = 0
        const meet = Effect.suspend(() => {
          const round = Math.floor(arrived++ / 2)
          return Effect.repeat(Effect.yieldNow(), { until: () => arrived >= (round + 1) * 2 })
        })
        const exits = yield* Effect.all([Effect.exit(half("a", meet)), Effect.exit(half("b", meet))], {
          concurrency: 2
        })
        const failed = exits.filter(Exit.isFailure)
        assert.lengthOf(failed, 1)
        const error = Option.getOrThrow(Cause.failureOption((failed[0] as Exit.Failure<void, never>).cause)) as {
          readonly _tag: string
          readonly retryable: boolean
        }
        assert.strictEqual(error._tag, "StoreUnavailable")
        assert.isTrue(error.retryable)
        yield* half("b", Effect.void)
      })
    )

    test(
      "fails typed when COMMIT violates a deferred constraint, also through withTransaction",
      Effect.gen(function* () {
        const { sql, transaction } = yield* PgDatabase.PgDatabase
        yield* sql`create table if not exists parents (id int primary key)`
        yield* sql`create table if not exists children (parent int references parents deferrable initially deferred)`
        const orphan = sql`insert into children values (1)`
        const error = yield* Effect.flip(transaction(orphan))
        assert.strictEqual(error._tag, "StoreError")
        const viaSql = yield* Effect.flip(sql.withTransaction(orphan))
        assert.strictEqual((viaSql.cause as { readonly _tag: string })._tag, "StoreError")
      })
    )

    test(
      "does not report success when a failed statement made the server roll back",
      Effect.gen(function* () {
        const { sql, transaction } = yield* PgDatabase.PgDatabase
        const error = yield* Effect.flip(transaction(Effect.ignore(sql`select no_such_column`)))
        assert.strictEqual(error._tag, "StoreError")
      })
    )

    test(
      "fails typed when its backend is killed, at a statement and at COMMIT, and the pool recovers",
      Effect.gen(function* () {
        const store = yield* EventStore.EventStore
        const { sql, transaction } = yield* PgDatabase.PgDatabase
        const suicide = sql`select pg_terminate_backend(pg_backend_pid())`
        const atStatement = yield* Effect.flip(transaction(suicide))
        assert.strictEqual(atStatement._tag, "SqlError")
        const killed = Effect.gen(function* () {
          const [{ pid }] = (yield* sql`select pg_backend_pid() as pid`) as [{ pid: number }]
          yield* Effect.promise(() =>
            withClient(url, (client) => client.query("select pg_terminate_backend($1)", [pid]))
          )
        })
        const atCommit = yield* Effect.flip(transaction(killed))
        assert.include(["CommitOutcomeUnknown", "StoreUnavailable", "StoreError"], atCommit._tag)
        yield* store.append(newStream(), [event], { expected: "noStream" })
      })
    )

    test(
      "does not hold the feed of others back once it is over",
      Effect.gen(function* () {
        const store = yield* EventStore.EventStore
        const database = yield* PgDatabase.PgDatabase
        const before = yield* store.head
        yield* Effect.exit(
          database.transaction(
            Effect.zipRight(store.append(newStream(), [event], { expected: "any" }), Effect.fail("no"))
          )
        )
        const { position } = yield* store.append(newStream(), [event], { expected: "any" })
        assert.isAtLeast(yield* store.head, position)
        assert.isAbove(position, before)
      })
    )
  })

  it.live("two stores on two databases never share a connection or a transaction", () =>
    Effect.gen(function* () {
      const otherUrl = yield* Effect.promise(freshDatabase)
      const one = yield* Layer.build(open())
      const other = yield* Layer.build(EventStorePg.layer({ url: Redacted.make(otherUrl) }))
      const store = (context: typeof one) => Effect.provide(EventStore.EventStore, context)
      const database = (context: typeof one) => Effect.provide(PgDatabase.PgDatabase, context)
      const [storeOne, storeOther] = [yield* store(one), yield* store(other)]
      const [databaseOne, databaseOther] = [yield* database(one), yield* database(other)]
      const stream = newStream()
      const exit = yield* Effect.exit(
        databaseOne.transaction(
          Effect.gen(function* () {
            yield* storeOne.append(stream, [event], { expected: "any" })
            yield* storeOther.append(stream, [event], { expected: "any" })
            const names = yield* Effect.all([
              databaseOne.sql`select current_database() as name`,
              databaseOther.sql`select current_database() as name`
            ])
            assert.notDeepEqual(names[0], names[1])
            return yield* Effect.fail("undo")
          })
        )
      )
      assert.isTrue(Exit.isFailure(exit))
      assert.strictEqual(yield* storeOne.version(stream), 0)
      assert.strictEqual(yield* storeOther.version(stream), 1)
    }).pipe(Effect.scoped)
  )

  test(
    "a transaction that somebody left open on a connection does not swallow the next append",
    Effect.gen(function* () {
      const store = yield* EventStore.EventStore
      const { sql } = yield* PgDatabase.PgDatabase
      const stream = newStream()
      yield* sql`begin`
      yield* Effect.scoped(Effect.flatMap(sql.reserve, (own) => own.executeRaw("begin", [])))
      yield* store.append(stream, [event], { expected: "noStream" })
      const seen = yield* Effect.promise(() =>
        withClient(url, (client) =>
          client.query("select 1 from es_events where aggregate_id = $1", [stream.aggregateId])
        )
      )
      assert.strictEqual(seen.rowCount, 1)
    }),
    { pool: { maxOpenConns: 1 } }
  )

  test(
    "an append is refused, typed, in a transaction that would decide on an old snapshot",
    Effect.gen(function* () {
      const store = yield* EventStore.EventStore
      const database = yield* PgDatabase.PgDatabase
      for (const isolation of ["repeatable read", "serializable"] as const) {
        const one = store.append(newStream(), [event], { expected: "any" })
        const all = store.appendAll([{ stream: newStream(), events: [event], expected: "any" }])
        const appends: ReadonlyArray<Effect.Effect<unknown, EventStore.AppendError>> = [one, all]
        for (const append of appends) {
          const refused = yield* Effect.flip(database.transaction(append, { isolation }))
          assert.strictEqual(refused._tag, "StoreError")
        }
      }
    })
  )

  test(
    "the longest names that are accepted serve every kind of statement",
    Effect.gen(function* () {
      const store = yield* EventStore.EventStore
      const stream = newStream()
      yield* store.append(stream, [event], { expected: "noStream" })
      yield* store.appendAll([{ stream, events: [event, event], expected: 1 }])
      assert.strictEqual(yield* store.version(stream), 3)
      assert.lengthOf((yield* store.page({ filter: { tenantId: "t" } })).events, 3)
      assert.lengthOf((yield* store.page({ filter: { domain: "d" } })).events, 3)
      assert.strictEqual((yield* store.info).events, 3)
      const live = yield* Effect.fork(Stream.runCount(store.subscribe({ limit: 4 })))
      yield* store.append(stream, [event], { expected: 3 })
      assert.strictEqual(yield* Fiber.join(live), 4)
    }),
    { schema: "s".repeat(41), prefix: "p".repeat(31), pool: { maxOpenConns: 1 } }
  )

  test(
    "what a forked fiber does while COMMIT is under way happens outside, on a connection of its own",
    Effect.gen(function* () {
      const { sql, transaction } = yield* PgDatabase.PgDatabase
      yield* sql`create table if not exists slow_to_commit (n int)`
      yield* sql.unsafe(`create or replace function slow_commit() returns trigger language plpgsql
        as 'begin perform pg_sleep(0.5); return null; end'`)
      yield* sql.unsafe(`create constraint trigger slow_commit after insert on slow_to_commit
        deferrable initially deferred for each row execute function slow_commit()`)
      const pid = Effect.map(sql`select pg_backend_pid() as pid`, ([row]) => row?.pid)
      const ending = yield* Effect.makeLatch()
      const [inside, late] = yield* transaction(
        Effect.gen(function* () {
          yield* sql`insert into slow_to_commit values (1)`
          const late = yield* Effect.forkDaemon(
            Effect.zipRight(ending.await, Effect.zipRight(Effect.sleep("100 millis"), pid))
          )
          const inside = yield* pid
          yield* ending.open
          return [inside, late] as const
        })
      )
      assert.notStrictEqual(yield* Fiber.join(late), inside)
    }),
    { pool: { maxOpenConns: 2 } }
  )

  describe("the pool", () => {
    const sleep = (database: PgDatabase.PgDatabaseShape, seconds: number) => database.sql`select pg_sleep(${seconds})`

    test(
      "opens at most maxOpenConns and keeps at most maxIdleConns",
      Effect.gen(function* () {
        const database = yield* PgDatabase.PgDatabase
        // All wait for a lock, so that there is no moment at which some are done already.
        const hold = (client: Client) => client.query("select pg_advisory_lock(4711)")
        const release = (client: Client) => client.query("select pg_advisory_unlock(4711)")
        const busy = yield* Effect.acquireUseRelease(
          Effect.promise(async () => {
            const client = new Client({ connectionString: url })
            await client.connect()
            await hold(client)
            return client
          }),
          (client) =>
            Effect.gen(function* () {
              const busy = yield* Effect.fork(
                Effect.all(
                  Array.from({ length: 20 }, () => database.sql`select pg_advisory_xact_lock_shared(4711)`),
                  { concurrency: "unbounded" }
                )
              )
              yield* eventually(
                Effect.map(activity("limits"), (rows) => rows.filter((row) => row.state === "active").length === 4)
              )
              assert.lengthOf(yield* activity("limits"), 4)
              yield* Effect.promise(() => release(client))
              return busy
            }),
          (client) => Effect.promise(() => client.end())
        )
        yield* Fiber.join(busy)
        yield* eventually(Effect.map(activity("limits"), (rows) => rows.length === 2))
        assert.deepStrictEqual(yield* database.state, { open: 2, idle: 2, waiting: 0 })
      }),
      { applicationName: "limits", pool: { maxOpenConns: 4, maxIdleConns: 2 } }
    )

    test(
      "closes what has been idle for connMaxIdleTime",
      Effect.gen(function* () {
        const database = yield* PgDatabase.PgDatabase
        yield* Effect.all(
          Array.from({ length: 3 }, () => sleep(database, 0.02)),
          { concurrency: "unbounded" }
        )
        yield* eventually(Effect.map(activity("idle"), (rows) => rows.length === 0))
      }),
      { applicationName: "idle", pool: { connMaxIdleTime: "300 millis" } }
    )

    test(
      "replaces a connection older than connMaxLifetime",
      Effect.gen(function* () {
        const database = yield* PgDatabase.PgDatabase
        const pid = database.sql`select pg_backend_pid() as pid`
        const [first] = yield* pid
        yield* eventually(Effect.map(pid, ([now]) => now?.pid !== first?.pid))
      }),
      { applicationName: "lifetime", pool: { maxOpenConns: 1, connMaxLifetime: "300 millis" } }
    )

    test(
      "serves those who wait in their order, fails them typed after acquireTimeout, and at once when the line is full",
      Effect.gen(function* () {
        const database = yield* PgDatabase.PgDatabase
        const order: Array<number> = []
        const holder = yield* Effect.fork(sleep(database, 0.2))
        yield* eventually(Effect.map(database.state, ({ idle, open }) => open === 1 && idle === 0))
        const waiting = yield* Effect.forEach(
          [0, 1, 2],
          (i) =>
            Effect.fork(
              Effect.zipRight(
                database.sql`select 1`,
                Effect.sync(() => order.push(i))
              )
            ).pipe(Effect.zipLeft(Effect.yieldNow())),
          {}
        )
        yield* eventually(Effect.map(database.state, (state) => state.waiting === 3))
        const full = yield* Effect.flip(
          database[storeAccess].run({ text: "select 1", operation: "x", kind: "read", onResult: () => 0 })
        )
        assert.strictEqual(full._tag, "PoolTimeout")
        yield* Fiber.join(holder)
        yield* Fiber.joinAll(waiting)
        assert.deepStrictEqual(order, [0, 1, 2])

        const long = yield* Effect.fork(sleep(database, 5))
        yield* eventually(Effect.map(database.state, ({ idle }) => idle === 0))
        const late = yield* Effect.flip(
          database[storeAccess].run({ text: "select 1", operation: "x", kind: "read", onResult: () => 0 })
        )
        assert.strictEqual(late._tag, "PoolTimeout")
        yield* Fiber.interrupt(long)
      }),
      { pool: { maxOpenConns: 1, maxWaiting: 3, acquireTimeout: "1 second" } }
    )

    test(
      "2,000 operations at once through 25 connections all succeed",
      Effect.gen(function* () {
        const store = yield* EventStore.EventStore
        yield* Effect.forEach(
          Array.from({ length: 2_000 }),
          () => store.append(newStream(), [event], { expected: "noStream" }),
          { concurrency: "unbounded" }
        )
        assert.isAtMost((yield* activity("crowd")).length, 25)
      }),
      { applicationName: "crowd" }
    )

    it.live("is closed with the layer", () =>
      Effect.gen(function* () {
        yield* Effect.provide(
          Effect.flatMap(EventStore.EventStore, (store) => store.info),
          open({ applicationName: "closed" })
        )
        yield* eventually(Effect.map(activity("closed"), (rows) => rows.length === 0))
      })
    )
  })

  test(
    "the timeouts of the stores' statements, locks and idle transactions are the server's",
    Effect.gen(function* () {
      const { transaction, [storeAccess]: stores } = yield* PgDatabase.PgDatabase
      const settings = stores.run({
        text: `select current_setting('statement_timeout') as statement, current_setting('lock_timeout') as lock,
          current_setting('idle_in_transaction_session_timeout') as idle`,
        operation: "settings",
        kind: "read",
        onResult: ({ rows }) => ({ ...rows[0] })
      })
      assert.deepInclude(yield* settings, { statement: "300ms", lock: "200ms" })
      assert.deepStrictEqual(yield* transaction(settings), { statement: "300ms", lock: "200ms", idle: "5s" })
      const slow = { text: "select pg_sleep(5)", operation: "slow", kind: "read", onResult: () => 0 } as const
      assert.deepInclude(yield* Effect.flip(stores.run(slow)), { _tag: "StoreUnavailable", retryable: true })
    }),
    { statementTimeout: "300 millis", lockTimeout: "200 millis", idleInTransactionTimeout: "5 seconds" }
  )

  describe("options", () => {
    const failure = (options: Partial<EventStorePg.Options>) =>
      Effect.map(Effect.flip(Effect.scoped(Layer.build(open(options)))), (error) => ({
        tag: error._tag,
        what: error._tag === "InvalidInput" ? error.what : undefined
      }))

    for (const [what, options] of [
      ["url", { url: Redacted.make("mysql://x") }],
      ["url", { url: Redacted.make("postgres://u:p%ss@localhost/db") }],
      ["port", { port: 0 }],
      ["schema", { schema: "a b" }],
      ["prefix", { prefix: "A" }],
      ["pool.maxOpenConns", { pool: { maxOpenConns: -1 } }],
      ["pool.maxOpenConns", { pool: { maxOpenConns: 1.5 } }],
      ["pool.maxIdleConns", { pool: { maxOpenConns: 2, maxIdleConns: 3 } }],
      ["pool.acquireTimeout", { pool: { acquireTimeout: -5 } }],
      ["statementTimeout", { statementTimeout: 0 }],
      ["pollInterval", { pollInterval: 0 }]
    ] as ReadonlyArray<readonly [string, Partial<EventStorePg.Options>]>) {
      it.live(`refuses ${what} of ${JSON.stringify(options)}`, () =>
        Effect.gen(function* () {
          const error = yield* failure(options)
          assert.deepStrictEqual(error, { tag: "InvalidInput", what })
        })
      )
    }

    it.live("a server that does not answer, and a database that does not exist, fail typed", () =>
      Effect.gen(function* () {
        const elsewhere = (change: (url: URL) => void) => {
          const changed = new URL(url)
          change(changed)
          return failure({ url: Redacted.make(changed.href) })
        }
        assert.strictEqual((yield* elsewhere((url) => Object.assign(url, { port: "1" }))).tag, "StoreUnavailable")
        const noSuch = elsewhere((url) => Object.assign(url, { pathname: "/no_such_database" }))
        assert.strictEqual((yield* noSuch).tag, "StoreError")
      })
    )

    it.live("come from Config, with secrets redacted and pool options checked", () =>
      Effect.gen(function* () {
        const layer = EventStorePg.layerConfig({
          url: Config.redacted("DATABASE_URL"),
          pool: Config.nested(Pool.config, "POOL")
        })
        yield* Layer.build(layer).pipe(
          Effect.scoped,
          Effect.withConfigProvider(
            ConfigProvider.fromMap(
              new Map([
                ["DATABASE_URL", url],
                ["POOL.MAX_OPEN_CONNS", "3"]
              ])
            )
          )
        )
        const bad = yield* Effect.flip(
          Layer.build(layer).pipe(
            Effect.scoped,
            Effect.withConfigProvider(
              ConfigProvider.fromMap(
                new Map([
                  ["DATABASE_URL", url],
                  ["POOL.MAX_OPEN_CONNS", "-3"]
                ])
              )
            )
          )
        )
        assert.include(String(bad), "POOL_MAX_OPEN_CONNS")
        assert.notInclude(String(bad), url)
      })
    )
  })
})
