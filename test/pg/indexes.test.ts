/**
 * Indexes by choice on PostgreSQL: built beside appends, by one of several processes, and again after a build that was
 * interrupted.
 */
import { assert, it } from "@effect/vitest"
import { Effect, Fiber, Layer, Option, Redacted } from "effect"
import { EventStore } from "effect-stores"
import { EventStorePg } from "effect-stores/pg"
import { describePg, freshDatabase } from "../support/backends.js"
import { eventually } from "../support/eventually.js"
import { connected } from "./support/feed-load.js"
import { query } from "./support/query.js"
import { roleWith } from "./support/role.js"

const appendOnce = Effect.flatMap(EventStore.EventStore, (store) =>
  store.append({ tenantId: "t", domain: "d", aggregateId: "a" }, [{ type: "Happened", data: 1 }], { expected: "any" })
)

/** Opens the store and closes it. */
const opening = (options: EventStorePg.Options) => Effect.scoped(Layer.build(EventStorePg.layer(options)))

const refusal = (options: EventStorePg.Options) => Effect.flip(opening(options))

const indexesOf = (url: string) =>
  Effect.map(
    query(
      url,
      `select indexrelid::regclass::text as name, indisvalid as valid, pg_get_indexdef(indexrelid, 1, true) as first
       from pg_index where indrelid = 'es_events'::regclass
         and indexrelid::regclass::text ~ '_(type|domain|tenant|time)$' order by 1`
    ),
    ({ rows }) => rows
  )

const valid = (name: string, first: string) => ({ name: `es_events_${name}`, valid: true, first })

/** A store whose table has events, without an index by choice. */
const storeWithEvents = Effect.gen(function* () {
  const url = yield* Effect.promise(freshDatabase)
  const options = { url: Redacted.make(url) }
  yield* Effect.provide(Effect.repeatN(appendOnce, 2), EventStorePg.layer({ ...options, indexes: [] }))
  return { url, options }
})

/** Builds that wait for another transaction. */
const building = (url: string) =>
  query(
    url,
    `select from pg_stat_activity
     where datname = current_database() and query like 'create index concurrently%' and wait_event = 'virtualxid'`
  )

const sessionsOf = (url: string, application: string) =>
  query(url, `select from pg_stat_activity where application_name = '${application}'`)

describePg("indexes by choice on PostgreSQL", () => {
  it.live("of types is there by default; others when they are named; one that is there stays", () =>
    Effect.gen(function* () {
      const url = yield* Effect.promise(freshDatabase)
      const options = { url: Redacted.make(url) }
      yield* opening(options)
      assert.deepStrictEqual(yield* indexesOf(url), [valid("type", "type")])
      yield* opening({ ...options, indexes: ["time", "tenant", "domain"] })
      const all = [
        valid("domain", "domain"),
        valid("tenant", "tenant_id"),
        valid("time", "created_ms"),
        valid("type", "type")
      ]
      assert.deepStrictEqual(yield* indexesOf(url), all)
      yield* opening({ ...options, indexes: [] })
      assert.deepStrictEqual(yield* indexesOf(url), all)
    })
  )

  it.live("are in the script, for those who run it with another tool", () =>
    Effect.gen(function* () {
      const url = yield* Effect.promise(freshDatabase)
      yield* query(url, EventStorePg.migrationSql({ indexes: ["tenant", "time"] }))
      assert.deepStrictEqual(yield* indexesOf(url), [valid("tenant", "tenant_id"), valid("time", "created_ms")])
      yield* opening({ url: Redacted.make(url), indexes: ["time"], migrate: false })
    })
  )

  it.live("are asked for by name when the start may not create them", () =>
    Effect.gen(function* () {
      const { options, url } = yield* storeWithEvents
      const refused = yield* refusal({ ...options, indexes: ["domain", "type"], migrate: false })
      assert.strictEqual(refused._tag, "StoreError")
      assert.include(refused.message, "lacks the indexes es_events_type, es_events_domain: run EventStorePg.migrate")
      yield* opening({ ...options, indexes: [], migrate: false })
      const created = yield* EventStorePg.migrate({ ...options, indexes: ["domain", "type"] })
      assert.deepStrictEqual(created, ["es_events_type", "es_events_domain"])
      assert.deepStrictEqual(yield* indexesOf(url), [valid("domain", "domain"), valid("type", "type")])
      yield* opening({ ...options, indexes: ["domain", "type"], migrate: false })
    })
  )

  it.live("are not missed by a store that only reads, whose role may create none", () =>
    Effect.gen(function* () {
      const { options, url } = yield* storeWithEvents
      const { url: as } = yield* roleWith(
        url,
        "grant select on all tables in schema public to role",
        "grant select on all sequences in schema public to role"
      )
      const reader = { ...options, url: Redacted.make(as), readOnly: true } as const
      for (const migrate of [true, false]) {
        const filter = { types: ["Happened"] }
        const found = yield* Effect.flatMap(EventStore.EventStore, (store) => store.count(filter)).pipe(
          Effect.provide(EventStorePg.layer({ ...reader, migrate }))
        )
        assert.strictEqual(found, 3)
      }
      assert.strictEqual((yield* refusal({ ...reader, indexes: ["type"] }))._tag, "StoreError")
      assert.deepStrictEqual(yield* indexesOf(url), [])
    }).pipe(Effect.scoped)
  )

  it.live("another name is refused", () =>
    Effect.gen(function* () {
      const refused = yield* refusal({ url: Redacted.make("postgres://nowhere"), indexes: ["type", "color" as "type"] })
      assert.strictEqual(refused._tag, "InvalidInput")
      assert.include(refused.message, "indexes[1]")
    })
  )

  it.live("are built once by two that open at the same time, while others append", () =>
    Effect.gen(function* () {
      const { options, url } = yield* storeWithEvents
      // A build waits for the end of all transactions that see what was before it.
      const other = yield* connected(url)
      yield* Effect.promise(() => other.query("begin isolation level repeatable read; select 1"))
      const first = yield* Effect.fork(opening({ ...options, indexes: ["tenant"] }))
      yield* eventually(building(url), ({ rowCount }) => rowCount === 1)
      const second = yield* Effect.fork(opening({ ...options, indexes: ["tenant"] }))
      const trying = query(
        url,
        `select from pg_stat_activity
         where datname = current_database() and query like 'select pg_try_advisory_lock%' or query like '%indisvalid::int%'`
      )
      yield* eventually(trying, ({ rowCount }) => (rowCount ?? 0) > 0)
      yield* Effect.provide(appendOnce, EventStorePg.layer({ ...options, indexes: [] }))
      assert.isTrue(Option.isNone(yield* Fiber.poll(first)))
      assert.isTrue(Option.isNone(yield* Fiber.poll(second)))
      yield* Effect.promise(() => other.query("commit"))
      yield* Fiber.join(first)
      yield* Fiber.join(second)
      assert.deepStrictEqual(yield* indexesOf(url), [valid("tenant", "tenant_id")])
    }).pipe(Effect.scoped)
  )

  it.live("one that an interrupted build has left is not used, and built again", () =>
    Effect.gen(function* () {
      const { options, url } = yield* storeWithEvents
      const left = "create unique index concurrently es_events_tenant on es_events (domain)"
      yield* Effect.promise(async () => {
        const failed = await Effect.runPromiseExit(query(url, left))
        assert.strictEqual(failed._tag, "Failure")
      })
      assert.deepStrictEqual(yield* indexesOf(url), [{ ...valid("tenant", "domain"), valid: false }])
      const refused = yield* refusal({ ...options, indexes: ["tenant"], migrate: false })
      assert.include(refused.message, "lacks the indexes es_events_tenant")
      yield* opening({ ...options, indexes: ["tenant"] })
      assert.deepStrictEqual(yield* indexesOf(url), [valid("tenant", "tenant_id")])
    })
  )

  it.live("one that is being built by hand is waited for", () =>
    Effect.gen(function* () {
      const { options, url } = yield* storeWithEvents
      for (const pooler of [undefined, "transaction"] as const) {
        const other = yield* connected(url)
        yield* Effect.promise(() => other.query("begin; lock table es_events in row exclusive mode"))
        const byHand = "create index concurrently es_events_tenant on es_events (tenant_id, position)"
        const builder = yield* Effect.fork(query(url, byHand))
        yield* eventually(building(url), ({ rowCount }) => rowCount === 1)
        const applicationName = `opener ${pooler}`
        const opener = yield* Effect.fork(opening({ ...options, applicationName, pooler, indexes: ["tenant"] }))
        yield* eventually(sessionsOf(url, applicationName), ({ rowCount }) => (rowCount ?? 0) > 0)
        const { rows } = yield* query(url, "select 'es_events_tenant'::regclass::oid as oid")
        // Long enough for one that does not wait to do its harm.
        yield* Effect.sleep("300 millis")
        yield* Effect.promise(() => other.query("commit"))
        yield* Fiber.join(builder)
        yield* Fiber.join(opener)
        assert.deepStrictEqual(yield* indexesOf(url), [valid("tenant", "tenant_id")])
        assert.deepStrictEqual((yield* query(url, "select 'es_events_tenant'::regclass::oid as oid")).rows, rows)
        yield* query(url, "drop index es_events_tenant")
      }
    }).pipe(Effect.scoped)
  )

  it.live("are built in a transaction where no session can be had, as behind a pooler", () =>
    Effect.gen(function* () {
      const { options, url } = yield* storeWithEvents
      yield* opening({ ...options, pooler: "transaction", indexes: ["time"] })
      assert.deepStrictEqual(yield* indexesOf(url), [valid("time", "created_ms")])
    })
  )

  it.live(
    "are waited for behind a pooler without a lock that the build would wait for, and for as long as it takes",
    () =>
      Effect.gen(function* () {
        const { options, url } = yield* storeWithEvents
        const other = yield* connected(url)
        yield* Effect.promise(() => other.query("begin; lock table es_events in row exclusive mode"))
        const first = yield* Effect.fork(EventStorePg.migrate({ ...options, indexes: ["tenant"] }))
        yield* eventually(building(url), ({ rowCount }) => rowCount === 1)
        const second = yield* Effect.fork(
          EventStorePg.migrate({
            ...options,
            applicationName: "second",
            pooler: "transaction",
            lockTimeout: "100 millis",
            indexes: ["tenant"]
          })
        )
        yield* eventually(sessionsOf(url, "second"), ({ rowCount }) => (rowCount ?? 0) > 0)
        // Long enough for one that does not wait to do its harm.
        yield* Effect.sleep("300 millis")
        yield* Effect.promise(() => other.query("commit"))
        assert.deepStrictEqual(yield* Fiber.join(first), ["es_events_tenant"])
        assert.deepStrictEqual(yield* Fiber.join(second), [])
        assert.deepStrictEqual(yield* indexesOf(url), [valid("tenant", "tenant_id")])
      }).pipe(Effect.scoped)
  )

  it.live("take as long as they take", () =>
    Effect.gen(function* () {
      const { options, url } = yield* storeWithEvents
      // Only newer servers have the second.
      const limits = ["statement_timeout", "transaction_timeout"]
      const { rows } = yield* query(url, "select name from pg_settings where name = any ($1)", [limits])
      const name = new URL(url).pathname.slice(1)
      for (const limit of rows) yield* query(url, `alter database ${name} set ${limit.name} = '1s'`)
      for (const pooler of [undefined, "transaction"] as const) {
        const other = yield* connected(url)
        yield* Effect.promise(() =>
          other.query(
            `select set_config(name, '0', false) from pg_settings where name in ('${limits.join("', '")}');
             begin; lock table es_events in row exclusive mode`
          )
        )
        const timeouts = { statementTimeout: "1 second", lockTimeout: "1 minute" } as const
        const opener = yield* Effect.fork(opening({ ...options, ...timeouts, pooler, indexes: ["tenant"] }))
        const waiting = query(
          url,
          `select from pg_stat_activity where datname = current_database()
             and wait_event in ('virtualxid', 'relation') and query like '%create index%'`
        )
        yield* eventually(waiting, ({ rowCount }) => rowCount === 1)
        // Longer than the limits.
        yield* Effect.sleep("1500 millis")
        yield* Effect.promise(() => other.query("commit"))
        yield* Fiber.join(opener)
        assert.deepStrictEqual(yield* indexesOf(url), [valid("tenant", "tenant_id")])
        yield* query(url, "drop index es_events_tenant")
      }
    }).pipe(Effect.scoped)
  )
})
