/**
 * The SnapshotStore on PostgreSQL beyond its contract.
 */
import { assert, it } from "@effect/vitest"
import { Config, ConfigProvider, Effect, Fiber, Layer, Redacted } from "effect"
import { EventStore, Pool, SnapshotStore } from "effect-stores"
import { EventStorePg, PgDatabase, SnapshotStorePg } from "effect-stores/pg"
import { Client } from "pg"
import { storeAccess } from "../../src/pg/database/access.js"
import { describePg, freshDatabase } from "../support/backends.js"
import { eventually } from "../support/eventually.js"
import { snapshotOf, snapshotsOnSql, streamOf, versionOf } from "../support/snapshotsOnSql.js"
import { storeMigrations } from "./support/migrations.js"
import { query } from "./support/query.js"

const saveOne = Effect.flatMap(SnapshotStore.SnapshotStore, (store) =>
  Effect.zipRight(store.save(streamOf("a"), snapshotOf(1)), versionOf(store, streamOf("a")))
)

describePg("SnapshotStore on PostgreSQL", () => {
  snapshotsOnSql({
    place: async () => {
      const url = await freshDatabase()
      return {
        database: (pool) => PgDatabase.layer({ url: Redacted.make(url), pool }),
        env: { WORKER_PG_URL: url }
      }
    },
    tag: PgDatabase.PgDatabase,
    snapshots: SnapshotStorePg.layerFromDatabase,
    events: EventStorePg.layerFromDatabase,
    waiting: (database) => Effect.map(database.state, ({ waiting }) => waiting),
    tables: "select tablename as name from pg_tables where schemaname = 'public'"
  })

  it.live("a save in the background does not wait for the transaction that it was offered in", () =>
    Effect.gen(function* () {
      const url = yield* Effect.promise(freshDatabase)
      const layer = SnapshotStorePg.layer({ url: Redacted.make(url) })
      yield* Effect.gen(function* () {
        const store = yield* SnapshotStore.SnapshotStore
        const { transaction } = yield* PgDatabase.PgDatabase
        const offering = Effect.gen(function* () {
          yield* store.save(streamOf("b"), snapshotOf(1))
          yield* store.saveInBackground(streamOf("a"), Effect.succeed(snapshotOf(5)))
          yield* store.flush(streamOf("a"))
          // Another connection sees the one and not yet the other.
          return (yield* query(url, "select aggregate_id, version from es_snapshots")).rows
        })
        assert.deepStrictEqual(yield* transaction(offering), [{ aggregate_id: "a", version: "5" }])
      }).pipe(Effect.provide(layer))
    })
  )

  it.live("loads are answered while a transaction that has reset the store is open", () =>
    Effect.gen(function* () {
      const url = yield* Effect.promise(freshDatabase)
      yield* Effect.gen(function* () {
        const store = yield* SnapshotStore.SnapshotStore
        const { transaction } = yield* PgDatabase.PgDatabase
        yield* store.save(streamOf("a"), snapshotOf(1))
        const reset = yield* Effect.makeLatch()
        const end = yield* Effect.makeLatch()
        const resetting = yield* store.reset.pipe(
          Effect.zipRight(reset.open),
          Effect.zipRight(end.await),
          transaction,
          Effect.fork
        )
        yield* reset.await
        assert.strictEqual(yield* versionOf(store, streamOf("a")), 1)
        yield* end.open
        yield* Fiber.join(resetting)
        assert.strictEqual(yield* versionOf(store, streamOf("a")), undefined)
      }).pipe(Effect.provide(SnapshotStorePg.layer({ url: Redacted.make(url), lockTimeout: "2 seconds" })))
    })
  )

  it.live("saves in the background that wait for a lock take a quarter of the pool, and the rest serves on", () =>
    Effect.gen(function* () {
      const url = yield* Effect.promise(freshDatabase)
      const names = Array.from({ length: 8 }, (_, n) => `${n}`)
      const lockWaits = Effect.map(
        query(
          url,
          "select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock' and query ~ 'es_snapshots'"
        ),
        ({ rowCount }) => rowCount
      )
      const layer = Layer.provideMerge(
        Layer.merge(SnapshotStorePg.layerFromDatabase(), EventStorePg.layerFromDatabase()),
        PgDatabase.layer({
          url: Redacted.make(url),
          lockTimeout: "1 minute",
          pool: { maxOpenConns: 8, acquireTimeout: "90 seconds" }
        })
      )
      yield* Effect.gen(function* () {
        const store = yield* SnapshotStore.SnapshotStore
        const events = yield* EventStore.EventStore
        const whileLocked = Effect.gen(function* () {
          for (const name of names) yield* store.saveInBackground(streamOf(name), Effect.succeed(snapshotOf(1)))
          yield* eventually(Effect.map(lockWaits, (waits) => Number(waits) >= 2))
          yield* events.append(streamOf("a"), [{ type: "Happened", data: 1 }], { expected: "noStream" })
          assert.strictEqual(yield* events.fold(streamOf("a"), 0, (count) => count + 1), 1)
          assert.strictEqual(yield* lockWaits, 2)
        })
        yield* Effect.acquireUseRelease(
          Effect.promise(async () => {
            const client = new Client({ connectionString: url })
            await client.connect()
            await client.query("begin; lock table es_snapshots in share row exclusive mode")
            return client
          }),
          () => whileLocked,
          (client) => Effect.promise(() => client.end())
        )
        yield* Effect.forEach(names, (name) => store.flush(streamOf(name)))
        for (const name of names) assert.strictEqual(yield* versionOf(store, streamOf(name)), 1)
      }).pipe(Effect.provide(layer))
    })
  )

  it.live("opens at most 10 connections and keeps 5 by default, as the server sees it", () =>
    Effect.gen(function* () {
      const url = yield* Effect.promise(freshDatabase)
      const connections = Effect.map(
        query(url, "select 1 from pg_stat_activity where application_name = 'snapshots'"),
        ({ rowCount }) => rowCount
      )
      const layer = SnapshotStorePg.layer({ url: Redacted.make(url), applicationName: "snapshots" })
      yield* Effect.gen(function* () {
        const { sql, state } = yield* PgDatabase.PgDatabase
        const busy = yield* Effect.fork(
          Effect.all(
            Array.from({ length: 20 }, () => sql`select pg_sleep(0.3)`),
            { concurrency: "unbounded" }
          )
        )
        yield* eventually(Effect.map(state, ({ open, waiting }) => open === 10 && waiting === 10))
        yield* eventually(Effect.map(connections, (count) => count === 10))
        yield* Fiber.join(busy)
        yield* eventually(Effect.map(connections, (count) => count === 5))
        assert.deepStrictEqual(yield* state, { open: 5, idle: 5, waiting: 0 })
      }).pipe(Effect.provide(layer))
    })
  )

  it.live("large states are compressed by lz4 where the server has it", () =>
    Effect.gen(function* () {
      const url = yield* Effect.promise(freshDatabase)
      const state = Array.from({ length: 10_000 }, (_, n) => ({ n, name: `item ${n % 7}` }))
      yield* Effect.flatMap(SnapshotStore.SnapshotStore, (store) =>
        store.save(streamOf("a"), { ...snapshotOf(1), state })
      ).pipe(Effect.provide(SnapshotStorePg.layer({ url: Redacted.make(url) })))
      const { rows } = yield* query(
        url,
        `select pg_column_compression(state) as used, pg_column_size(state) < length(state) / 2 as small,
           (select 'lz4' = any (enumvals) from pg_settings where name = 'default_toast_compression') as has
         from es_snapshots`
      )
      assert.deepStrictEqual(rows, [{ used: rows[0].has ? "lz4" : "pglz", small: true, has: rows[0].has }])
    })
  )

  it.live("a load uses the index, also on a connection that has known the table small", () =>
    Effect.gen(function* () {
      const url = yield* Effect.promise(freshDatabase)
      const scans = Effect.map(
        query(url, "select seq_scan, idx_scan from pg_stat_user_tables where relname = 'es_snapshots'"),
        ({ rows }) => ({ whole: Number(rows[0].seq_scan), byIndex: Number(rows[0].idx_scan) })
      )
      const layer = SnapshotStorePg.layer({ url: Redacted.make(url), pool: { maxOpenConns: 1 } })
      yield* Effect.gen(function* () {
        const store = yield* SnapshotStore.SnapshotStore
        const { sql } = yield* PgDatabase.PgDatabase
        for (let n = 1; n <= 40; n++) yield* store.save(streamOf(`${n}`), snapshotOf(1))
        yield* query(url, "vacuum analyze es_snapshots")
        yield* sql`select pg_stat_force_next_flush()`
        const before = yield* scans
        // From the sixth execution on a plan is kept.
        for (let n = 1; n <= 20; n++) yield* store.latest(streamOf(`${n}`))
        yield* sql`select pg_stat_force_next_flush()`
        const after = yield* scans
        assert.strictEqual(after.whole, before.whole)
        assert.isAtLeast(after.byIndex - before.byIndex, 20)
      }).pipe(Effect.provide(layer))
    })
  )

  it.live("comes from Config", () =>
    Effect.gen(function* () {
      const url = yield* Effect.promise(freshDatabase)
      const layer = SnapshotStorePg.layerConfig({
        url: Config.redacted("URL"),
        schema: Config.string("SCHEMA"),
        pool: Config.nested(Pool.config, "POOL")
      })
      const config = ConfigProvider.fromMap(
        new Map([
          ["URL", url],
          ["SCHEMA", "apart"],
          ["POOL.MAX_OPEN_CONNS", "3"]
        ])
      )
      yield* Effect.gen(function* () {
        assert.strictEqual(yield* saveOne, 1)
        assert.strictEqual((yield* PgDatabase.PgDatabase)[storeAccess].limits.maxOpenConns, 3)
        assert.strictEqual((yield* query(url, "select 1 from apart.es_snapshots")).rowCount, 1)
      }).pipe(Effect.provide(layer), Effect.withConfigProvider(config))
    })
  )

  storeMigrations(
    "SnapshotStorePg",
    SnapshotStorePg,
    ["snapshots"],
    Effect.map(saveOne, (version) => assert.strictEqual(version, 1))
  )
})
