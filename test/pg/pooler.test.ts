/**
 * PostgreSQL through a pooler in transaction mode: what holds of timeouts, interruption and notifications, and that
 * nothing of ours reaches the other applications that use the same sessions of the server.
 */
import { inspect } from "node:util"
import { assert, it } from "@effect/vitest"
import { ConfigProvider, Effect, Exit, Fiber, Layer, Logger, Redacted, Stream } from "effect"
import { EventStore } from "effect-stores"
import { EventStorePg, PgDatabase } from "effect-stores/pg"
import { Stores } from "effect-stores/stores"
import { Client } from "pg"
import { afterAll, beforeAll } from "vitest"
import { type Statement, storeAccess } from "../../src/pg/database/access.js"
import { describePg, describeWith, freshDatabase, patient } from "../support/backends.js"
import { withClient } from "../support/databases.js"
import { eventually } from "../support/eventually.js"
import { type PgBouncer, startPgBouncer } from "../support/pgbouncer.js"

const event = { type: "Happened", data: { n: 1 } }
const newStream = () => ({ tenantId: "t", domain: "d", aggregateId: crypto.randomUUID() })
const slow = (seconds: number): Statement<number, "read"> => ({
  name: "slow",
  text: "select pg_sleep($1)",
  values: [seconds],
  operation: "slow",
  kind: "read",
  onResult: () => 0
})

describePg("PostgreSQL behind a pooler", () =>
  describeWith("pgbouncer", "in transaction mode", () => {
    let url: string
    let pooler: PgBouncer
    beforeAll(async () => {
      url = await freshDatabase()
      pooler = await startPgBouncer(url, { default_pool_size: 3 })
    })
    afterAll(() => pooler.stop())

    const open = (options: Partial<EventStorePg.Options> = {}, through: () => PgBouncer = () => pooler) =>
      Layer.suspend(() =>
        EventStorePg.layer({
          url: Redacted.make(through().through(url)),
          pooler: "transaction",
          pool: patient,
          ...options
        })
      )

    /** Another application: its own connection, through the same pooler, as the same user. */
    const asNeighbour = <A>(use: (client: Client) => Promise<A>) =>
      Effect.promise(() => withClient(pooler.through(url), use))

    const onServer = (text: string, values: Array<unknown> = []) =>
      Effect.promise(() => withClient(url, async (client) => (await client.query(text, values)).rows))

    const test = <A, E>(
      title: string,
      self: Effect.Effect<A, E, EventStore.EventStore | PgDatabase.PgDatabase>,
      options: Partial<EventStorePg.Options> = {}
    ) => it.live(title, () => Effect.provide(self, open(options)))

    it.live("one that nobody has named is hinted at by the statements that fail", () =>
      Effect.gen(function* () {
        // Both connections are lent the one session of the server, where the first has prepared its statements. It takes
        // one client at a time, so the opening cannot tell.
        const single = yield* Effect.acquireRelease(
          Effect.promise(() => startPgBouncer(url, { default_pool_size: 1, max_client_conn: 1 })),
          (single) => Effect.promise(() => single.stop())
        )
        const read = Effect.flatMap(EventStore.EventStore, (store) => store.version(newStream()))
        const unnamed = () => open({ pooler: undefined, pool: { maxOpenConns: 1 } }, () => single)
        yield* Effect.provide(read, unnamed())
        const error = yield* Effect.flip(Effect.provide(read, unnamed()))
        assert.strictEqual(error._tag, "StoreError")
        assert.match(String(error), /already exists.*PG_POOLER/)
      }).pipe(Effect.scoped)
    )

    test(
      "nothing of our settings, statements and locks is in the sessions that others get, while 200 fibers work",
      Effect.gen(function* () {
        const store = yield* EventStore.EventStore
        const { sql, transaction } = yield* PgDatabase.PgDatabase
        let done = false
        const found: Array<unknown> = []
        const sessions = new Set<number>()
        const watching = yield* Effect.fork(
          asNeighbour(async (client) => {
            while (!done) {
              // What PgBouncer sets for a client is what that client has asked for.
              const { rows } = await client.query(
                `select pg_backend_pid() as pid,
                   (select string_agg(name || '=' || setting, ', ') from pg_settings where source = 'session'
                     and name not in ('application_name', 'client_encoding')) as settings,
                   (select count(*)::int from pg_prepared_statements) as statements,
                   (select count(*)::int from pg_listening_channels()) as channels,
                   (select count(*)::int from pg_locks where pid = pg_backend_pid() and locktype = 'advisory') as locks`
              )
              const { pid, ...left } = rows[0]
              sessions.add(pid)
              if (left.settings !== null || left.statements + left.channels + left.locks > 0) found.push(left)
            }
          })
        )
        const stream = newStream()
        yield* Effect.forEach(
          Array.from({ length: 200 }, (_, i) => i),
          (i) =>
            Effect.gen(function* () {
              const own = newStream()
              yield* store.append(own, [event], { expected: "noStream" })
              yield* transaction(store.append(own, [event, event], { expected: 1 }))
              if (i % 20 === 0) yield* store.append(stream, [event], { expected: "any" })
              yield* Effect.exit(transaction(Effect.zipRight(sql`select 1/0`, Effect.void)))
              assert.strictEqual(yield* store.version(own), 3)
            }),
          { concurrency: "unbounded", discard: true }
        )
        done = true
        yield* Fiber.join(watching)
        assert.deepStrictEqual(found, [])
        assert.isAbove(sessions.size, 1)
        assert.strictEqual(yield* store.version(stream), 10)
      })
    )

    test(
      "the timeouts hold for the stores and idle transactions, where each statement is in another session",
      Effect.gen(function* () {
        const { sql, transaction, [storeAccess]: stores } = yield* PgDatabase.PgDatabase
        for (const late of [stores.run(slow(20)), transaction(stores.run(slow(20)))]) {
          assert.include(inspect(yield* Effect.flip(late), { depth: 9 }), "statement timeout")
        }
        const idle = yield* transaction(sql`select current_setting('idle_in_transaction_session_timeout') as idle`)
        assert.deepStrictEqual(idle, [{ idle: "5s" }])
      }),
      { statementTimeout: "300 millis", lockTimeout: "200 millis", idleInTransactionTimeout: "5 seconds" }
    )

    test(
      "a store's statement that waits for a lock fails after lockTimeout",
      Effect.gen(function* () {
        const { [storeAccess]: stores } = yield* PgDatabase.PgDatabase
        const failure = yield* Effect.promise(() =>
          withClient(url, async (client) => {
            await client.query("select pg_advisory_lock(4712)")
            const waiting = { ...slow(0), text: "select pg_advisory_xact_lock($1)", values: [4712] }
            return Effect.runPromise(Effect.flip(stores.run(waiting)))
          })
        )
        assert.deepInclude(failure, { _tag: "StoreUnavailable", retryable: true })
        assert.include(String(failure), "lock timeout")
      }),
      { lockTimeout: "200 millis" }
    )

    test(
      "an interrupted statement is ended on the server, and its session is another's soon",
      Effect.gen(function* () {
        const { sql, [storeAccess]: stores } = yield* PgDatabase.PgDatabase
        const sleeping = Effect.map(
          onServer("select 1 from pg_stat_activity where state = 'active' and query like 'select pg_sleep%'"),
          ({ length }) => length
        )
        const fibers = yield* Effect.forEach([stores.run(slow(600)), sql`select pg_sleep(600)`], (each) =>
          Effect.fork<unknown, unknown, never>(each)
        )
        yield* eventually(sleeping, (count) => count === 2)
        yield* Fiber.interruptAll(fibers)
        yield* eventually(sleeping, (count) => count === 0)
        assert.deepStrictEqual(yield* sql`select 1 as one`, [{ one: 1 }])
      })
    )

    it.live("an interrupt of who waits for a session in the pooler returns, though no session becomes free", () =>
      Effect.gen(function* () {
        const small = yield* Effect.acquireRelease(
          Effect.promise(() => startPgBouncer(url, { default_pool_size: 1 })),
          (small) => Effect.promise(small.stop)
        )
        const { sql } = yield* Effect.provide(PgDatabase.PgDatabase, yield* Layer.build(open({}, () => small)))
        const holder = yield* Effect.acquireRelease(
          Effect.promise(async () => {
            const client = new Client({ connectionString: small.through(url) })
            await client.connect()
            await client.query("begin")
            return client
          }),
          (client) => Effect.promise(() => client.end())
        )
        const waiting = yield* Effect.fork(sql`select 1`)
        yield* Effect.sleep("100 millis")
        assert.isTrue(Exit.isInterrupted(yield* Fiber.interrupt(waiting)))
        yield* Effect.promise(() => holder.query("commit"))
        assert.deepStrictEqual(yield* sql`select 1 as one`, [{ one: 1 }])
      }).pipe(Effect.scoped)
    )

    it.live("a pooler that takes no more clients is waited for", () =>
      Effect.gen(function* () {
        const small = yield* Effect.acquireRelease(
          Effect.promise(() => startPgBouncer(url, { max_client_conn: 1 })),
          (small) => Effect.promise(small.stop)
        )
        const holder = new Client({ connectionString: small.through(url) })
        yield* Effect.promise(() => holder.connect())
        const opening = yield* Effect.fork(Layer.build(open({}, () => small)))
        yield* Effect.sleep("300 millis")
        assert.strictEqual((yield* Fiber.poll(opening))._tag, "None")
        yield* Effect.promise(() => holder.end())
        yield* Fiber.join(opening)
      }).pipe(Effect.scoped)
    )

    const listeners = Effect.map(
      onServer("select 1 from pg_stat_activity where application_name = 'pooled listener'"),
      ({ length }) => length
    )

    const heard = Effect.gen(function* () {
      const store = yield* EventStore.EventStore
      const stream = newStream()
      const after = yield* store.head
      const reading = yield* Effect.fork(Stream.runCount(store.subscribe({ after, limit: 1 })))
      // By another process, as far as the reader can tell.
      const append = Effect.flatMap(EventStore.EventStore, (other) =>
        other.append(stream, [event], { expected: "any" })
      )
      return { reading, append: Effect.provide(append, open()) }
    })

    it.live("subscribers are woken from where listenUrl leads", () =>
      Effect.gen(function* () {
        const { append, reading } = yield* heard
        yield* eventually(listeners, (count) => count === 1)
        yield* append
        assert.strictEqual(yield* Fiber.join(reading), 1)
      }).pipe(
        Effect.provide(
          Layer.suspend(() =>
            open({ listenUrl: Redacted.make(url), pollInterval: "1 hour", applicationName: "pooled" })
          )
        )
      )
    )

    test(
      "without it nobody listens, and they poll",
      Effect.gen(function* () {
        const { append, reading } = yield* heard
        yield* append
        assert.strictEqual(yield* Fiber.join(reading), 1)
        assert.strictEqual(yield* listeners, 0)
      }),
      { pollInterval: "50 millis", applicationName: "pooled" }
    )

    it.live("a user whose transactions are not read committed is refused at the start", () =>
      Effect.gen(function* () {
        const database = new URL(url).pathname.slice(1)
        const isolation = (level: string) =>
          onServer(`alter database "${database}" set default_transaction_isolation = ${level}`)
        yield* isolation("'repeatable read'")
        yield* Effect.addFinalizer(() => isolation("default"))
        const own = yield* Effect.acquireRelease(
          Effect.promise(() => startPgBouncer(url)),
          (own) => Effect.promise(own.stop)
        )
        const refused = yield* Effect.flip(Layer.build(open({}, () => own)))
        assert.strictEqual(refused._tag, "StoreError")
        assert.include(String(refused), "default_transaction_isolation")
      }).pipe(Effect.scoped)
    )

    it.live("a database that is not there is an error, not an outage", () =>
      Effect.gen(function* () {
        const nowhere = new URL(pooler.through(url))
        nowhere.pathname = "/no_such_database"
        const failure = yield* Effect.flip(Layer.build(open({ url: Redacted.make(nowhere.href) })))
        assert.strictEqual(failure._tag, "StoreError")
        assert.include(inspect(failure, { depth: 9 }), "no_such_database")
      }).pipe(Effect.scoped)
    )

    it.live("all stores come through it by Config alone, and no warning counts connections to it", () => {
      const variables = {
        EVENT_STORE: "pg",
        COMMAND_STORE: "pg",
        SNAPSHOT_STORE: "pg",
        CACHE_STORE: "pg",
        DATA_STORE: "pg",
        PG_URL: pooler.through(url),
        PG_POOLER: "transaction",
        PG_LISTEN_URL: url,
        EXPECTED_PROCESSES: "1000"
      }
      const provider = ConfigProvider.fromMap(new Map(Object.entries(variables)), { pathDelim: "_" })
      const lines: Array<string> = []
      const logger = Logger.make(({ logLevel, message }) => {
        lines.push(`${logLevel.label} ${[message].flat().join(" ")}`)
      })
      return Effect.gen(function* () {
        const events = yield* EventStore.EventStore
        const stream = newStream()
        yield* events.append(stream, [event], { expected: "noStream" })
        assert.strictEqual(yield* events.version(stream), 1)
        assert.isTrue(Object.values(yield* Stores.health).every(({ status }) => status === "up"))
        assert.lengthOf(lines, 1)
        assert.match(lines.join(), /^INFO EVENT_STORE pg /)
      }).pipe(
        Effect.provide(Stores.layer()),
        Effect.provide(Layer.merge(Layer.setConfigProvider(provider), Logger.replace(Logger.defaultLogger, logger)))
      )
    })

    it.live("health is up, and busy while all of our connections are in use", () =>
      Effect.gen(function* () {
        const { health, state, transaction } = yield* PgDatabase.PgDatabase
        assert.deepStrictEqual(yield* health, { status: "up" })
        const release = yield* Effect.makeLatch()
        const holders = yield* Effect.forEach([1, 2, 3], () => Effect.fork(transaction(release.await)))
        yield* eventually(state, ({ idle, open }) => open === 3 && idle === 0)
        // The pooler has no session left either: it lets us in, and does not say more.
        assert.deepStrictEqual(yield* health, { status: "busy" })
        yield* release.open
        yield* Fiber.joinAll(holders)
        assert.deepStrictEqual(yield* health, { status: "up" })
      }).pipe(Effect.provide(Layer.suspend(() => open({ pool: { maxOpenConns: 3 } }))))
    )

    for (const [what, options] of [
      ["pooler", { pooler: "session" }],
      ["listenUrl", { listenUrl: "postgres://localhost" }],
      ["listenUrl", { listenUrl: Redacted.make("mysql://localhost") }]
    ] as const) {
      it.live(`refuses ${JSON.stringify(options)}`, () =>
        Effect.gen(function* () {
          const given = options as unknown as Partial<EventStorePg.Options>
          const error = yield* Effect.flip(Effect.scoped(Layer.build(open(given))))
          assert.deepInclude(error, { _tag: "InvalidInput", what })
        })
      )
    }
  })
)
