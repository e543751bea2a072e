/**
 * Migrations on PostgreSQL: safe at once, repeatable, apart from start-up, and readable.
 */
import { assert, it } from "@effect/vitest"
import { Effect, Fiber, Layer, Option, Redacted } from "effect"
import { EventStore } from "effect-stores"
import { EventStorePg } from "effect-stores/pg"
import { describePg, freshDatabase } from "../support/backends.js"
import { spawnWorker } from "../support/child.js"
import { eventually } from "../support/eventually.js"
import { connected } from "./support/feed-load.js"
import { query } from "./support/query.js"

const appendOnce = Effect.flatMap(EventStore.EventStore, (store) =>
  store.append({ tenantId: "t", domain: "d", aggregateId: "a" }, [{ type: "Happened", data: 1 }], { expected: "any" })
)

describePg("migrations on PostgreSQL", () => {
  it.live("8 processes that start at once on an empty database all succeed, and each migration is applied once", () =>
    Effect.gen(function* () {
      const url = yield* Effect.promise(freshDatabase)
      const worker = new URL("./support/start-worker.ts", import.meta.url)
      const workers = Array.from({ length: 8 }, () => spawnWorker(worker, { env: { WORKER_PG_URL: url } }))
      const exits = yield* Effect.promise(() => Promise.all(workers.map((worker) => worker.exited)))
      assert.deepStrictEqual(
        exits.map((exit) => exit.code),
        Array.from({ length: 8 }, () => 0)
      )
      const applied = yield* query(url, "select name from es_migrations order by id")
      const names = ["events", "revisions", "changed events", "last position", "groups of any appends"]
      assert.deepStrictEqual(
        applied.rows,
        names.map((name) => ({ name }))
      )
      assert.strictEqual((yield* query(url, "select 1 from es_events")).rowCount, 8)
    })
  )

  it.live("wait for those of another process, and create nothing before", () =>
    Effect.gen(function* () {
      const url = yield* Effect.promise(freshDatabase)
      const other = yield* connected(url)
      yield* Effect.promise(() => other.query("select pg_advisory_lock(hashtext('effect-stores migrations'), 0)"))
      const migrating = yield* Effect.fork(EventStorePg.migrate({ url: Redacted.make(url) }))
      const waits = query(
        url,
        `select from pg_stat_activity where datname = current_database() and wait_event = 'advisory'`
      )
      yield* eventually(
        Effect.all([waits, Fiber.poll(migrating)]),
        ([{ rowCount }, ended]) => rowCount === 1 || Option.isSome(ended)
      )
      assert.isTrue(Option.isNone(yield* Fiber.poll(migrating)))
      assert.deepStrictEqual((yield* query(url, "select from pg_class where relname like 'es\\_%'")).rows, [])
      yield* Effect.promise(() => other.query("select pg_advisory_unlock_all()"))
      assert.include(yield* Fiber.join(migrating), "events")
    }).pipe(Effect.scoped)
  )

  it.live("run apart from start-up, are repeatable, and start-up with migrate: false asks for them", () =>
    Effect.gen(function* () {
      const options = { url: Redacted.make(yield* Effect.promise(freshDatabase)) }
      const refused = yield* Effect.flip(Effect.scoped(Layer.build(EventStorePg.layer({ ...options, migrate: false }))))
      assert.strictEqual(refused._tag, "StoreError")
      assert.include(refused.message, "EventStorePg.migrate")
      const all = ["events", "revisions", "changed events", "last position", "groups of any appends"]
      assert.deepStrictEqual(yield* EventStorePg.migrate(options), [...all, "es_events_type"])
      assert.deepStrictEqual(yield* EventStorePg.migrate(options), [])
      yield* Effect.provide(appendOnce, EventStorePg.layer({ ...options, migrate: false }))
    })
  )

  it.live("can be printed, and what is printed makes the same database", () =>
    Effect.gen(function* () {
      const url = yield* Effect.promise(freshDatabase)
      yield* query(url, EventStorePg.migrationSql({ schema: "by_hand", prefix: "x_" }))
      const layer = EventStorePg.layer({ url: Redacted.make(url), schema: "by_hand", prefix: "x_", migrate: false })
      yield* Effect.provide(appendOnce, layer)
      assert.strictEqual((yield* query(url, "select 1 from by_hand.x_events")).rowCount, 1)
    })
  )

  it.live("schema and prefix keep stores in one database apart", () =>
    Effect.gen(function* () {
      const url = Redacted.make(yield* Effect.promise(freshDatabase))
      for (const names of [{}, { prefix: "b_" }, { schema: "s" }, { schema: "s", prefix: "" }]) {
        const version = Effect.map(appendOnce, (appended) => appended.version)
        assert.strictEqual(yield* Effect.provide(version, EventStorePg.layer({ url, ...names })), 1)
      }
    })
  )

  it.live("a database of the version before gets what is new, and its events stay", () =>
    Effect.gen(function* () {
      const url = yield* Effect.promise(freshDatabase)
      const options = { url: Redacted.make(url) }
      yield* Effect.provide(appendOnce, EventStorePg.layer(options))
      yield* query(
        url,
        "drop function es_last_position, es_append_each, es_try_append_all, es_json; delete from es_migrations where id in (4, 5)"
      )
      const layer = EventStorePg.layer(options)
      assert.strictEqual((yield* Effect.provide(appendOnce, layer)).version, 2)
      assert.strictEqual(
        yield* Effect.provide(
          Effect.flatMap(EventStore.EventStore, ({ head }) => head),
          layer
        ),
        2
      )
      assert.strictEqual((yield* query(url, "select es_json(data) from es_events")).rowCount, 2)
    })
  )

  it.live("a database made by a newer version is refused", () =>
    Effect.gen(function* () {
      const url = yield* Effect.promise(freshDatabase)
      const options = { url: Redacted.make(url) }
      yield* EventStorePg.migrate(options)
      yield* query(url, "insert into es_migrations (store, id, name) values ('EventStore', 99, 'future')")
      const refused = yield* Effect.flip(Effect.scoped(Layer.build(EventStorePg.layer(options))))
      assert.strictEqual(refused._tag, "StoreError")
      assert.include(refused.message, "newer version")
    })
  )
})
