/**
 * Every lookup of the store goes through an index, also when its plan was made while the table was empty and the server
 * knew it: such a plan is kept, and scans the whole table for ever after.
 */
import { assert, it } from "@effect/vitest"
import { Effect, Redacted, Stream } from "effect"
import { EventStore } from "effect-stores"
import { EventStorePg, PgDatabase } from "effect-stores/pg"
import { checkedNames } from "../../src/pg/database/names.js"
import * as statements from "../../src/pg/eventStore/statements.js"
import { type Way, walk, waysOf } from "../../src/sql/eventLookups.js"
import { describePg, freshDatabase } from "../support/backends.js"
import { withClient } from "../support/databases.js"

/** More than the server tries before it keeps a plan for all parameters. */
const untilKept = 10

const scansOf = "select seq_scan::int as n from pg_stat_xact_user_tables where relname = 'es_events'"

describePg("plans on PostgreSQL", () => {
  it.live("no read scans the table, though it was analyzed while it was empty", () =>
    Effect.gen(function* () {
      const url = Redacted.make(yield* Effect.promise(freshDatabase))
      yield* Effect.gen(function* () {
        const store = yield* EventStore.EventStore
        const { sql, transaction } = yield* PgDatabase.PgDatabase
        const stream = { tenantId: "t", domain: "d", aggregateId: "a" }
        const drain = <A, E>(events: Stream.Stream<A, E>) => Stream.runDrain(events)
        const reads = Effect.all([
          drain(store.read(stream)),
          drain(store.read(stream, { direction: "backward" })),
          store.version(stream),
          store.get(crypto.randomUUID()),
          drain(store.feed()),
          drain(store.feed({ filter: { tenantId: "t", types: ["T"] } })),
          drain(store.feed({ filter: stream })),
          drain(store.feed({ filter: { commandId: "c" } })),
          store.page({ direction: "backward", limit: 10 })
        ])
        // The feed asks the table only when something was ever appended.
        yield* store.append(stream, [{ type: "T", data: 1 }], { expected: "any" })
        yield* sql`truncate es_events`
        yield* sql`analyze es_events`
        yield* Effect.repeatN(reads, untilKept)
        yield* transaction(
          Effect.gen(function* () {
            // Others than ours may not be reported yet.
            const before = yield* sql.unsafe(scansOf)
            yield* reads
            assert.deepStrictEqual(yield* sql.unsafe(scansOf), before)
          })
        )
      }).pipe(Effect.provide(EventStorePg.layer({ url, pool: { maxOpenConns: 1 } })))
    })
  )

  it.live("filters of any number of types have few statements, since the server keeps the plan of each", () =>
    Effect.gen(function* () {
      const url = Redacted.make(yield* Effect.promise(freshDatabase))
      yield* Effect.gen(function* () {
        const store = yield* EventStore.EventStore
        const { sql } = yield* PgDatabase.PgDatabase
        const stream = { tenantId: "t", domain: "d", aggregateId: "a" }
        const types = Array.from({ length: 32 }, (_, i) => `T${i}`)
        const events = Array.from({ length: 40 }, () => types.map((type) => ({ type, data: 1 }))).flat()
        yield* store.append(stream, events, { expected: "any" })
        for (let number = 1; number <= types.length; number++) {
          const filter = { types: types.slice(0, number) }
          const { events } = yield* store.page({ filter, direction: "forward", limit: number })
          assert.deepStrictEqual(
            events.map(({ type }) => type),
            filter.types
          )
        }
        const pages = "select name from pg_prepared_statements where name like '%/read_feed_asc_type%'"
        assert.lengthOf(yield* sql.unsafe(pages), 7)
      }).pipe(Effect.provide(EventStorePg.layer({ url, pool: { maxOpenConns: 1 } })))
    })
  )

  it.live("no write scans the table, whatever the session that calls the functions is set to", () =>
    Effect.gen(function* () {
      const url = yield* Effect.promise(freshDatabase)
      yield* EventStorePg.migrate({ url: Redacted.make(url) })
      const id = "gen_random_uuid()"
      const calls = {
        append: `es_append('t', 'd', 'a', -1, ${id}, 'T', '1', '{}', null, null, null, 0)`,
        tryAppend: `es_try_append('t', 'd', 'a', -1, ${id}, 'T', '1', '{}', null, null, null, 0)`,
        each: `es_append_each('{t}', '{d}', '{a}', '{1}', '{1}', '{-1}', '{1}', array[${id}], '{T}', '{1}', '{"{}"}', '{null}', '{null}', '{null}', '{0}')`,
        all: `es_append_all('{t}', '{d}', '{a}', '{-1}', '{1}', array[${id}], '{T}', '{1}', '{"{}"}', '{null}', '{null}', '{null}', '{0}')`,
        tryAll: `es_try_append_all('{t}', '{d}', '{a}', '{-1}', '{1}', array[${id}], '{T}', '{1}', '{"{}"}', '{null}', '{null}', '{null}', '{0}')`,
        delete: "es_delete_stream('t', 'd', 'a')"
      }
      for (const [name, call] of Object.entries(calls)) {
        const scans = yield* Effect.promise(() =>
          withClient(url, async (client) => {
            await client.query("truncate es_events")
            await client.query("analyze es_events")
            // Others than ours may not be reported yet.
            const before = await client.query(scansOf)
            await client.query("begin")
            await client.query(`select ${call}`)
            const after = await client.query(scansOf)
            await client.query("rollback")
            return after.rows[0].n - before.rows[0].n
          })
        )
        assert.strictEqual(scans, 0, name)
      }
    })
  )

  const nothing = {
    ...{ tenantId: null, domain: null, aggregateId: null, commandId: null, types: null },
    ...{ createdFrom: null, createdUntil: null }
  }
  const filters = {
    none: nothing,
    "a type": { ...nothing, types: ["Common"] },
    "several types": { ...nothing, types: ["Rare", "Common", "Other"] },
    "several types of a tenant": { ...nothing, tenantId: "t", types: ["Rare", "Common"] },
    "a tenant": { ...nothing, tenantId: "t" },
    "a domain": { ...nothing, domain: "d" },
    "a command": { ...nothing, commandId: "c" }
  }
  const places = ["es_events", "es_events_pkey", "es_events_type", "es_events_tenant", "es_events_domain"]
  const literal = (value: unknown): string => (Array.isArray(value) ? `'{${value.join()}}'` : `'${String(value)}'`)

  // Of few, a handful of one type may be sorted.
  const never = { 20000: /Seq Scan|Gather/, 10000000: /Seq Scan|Gather|-> {2}Sort|Bitmap/ }

  for (const [many, nowhere] of Object.entries(never)) {
    it.live(`a page is read from its index among what the planner takes for ${many} small events`, () =>
      Effect.gen(function* () {
        const url = yield* Effect.promise(freshDatabase)
        const indexes = ["type", "domain", "tenant"] as const
        yield* EventStorePg.migrate({ url: Redacted.make(url), indexes })
        const sql = statements.make(checkedNames({}))
        const request = { after: 0, through: 20_000, limit: 1_000, maxBytes: 2 ** 20 }
        const stream = { tenantId: "t", domain: "d", aggregateId: "a-1" }
        const range = { fromVersion: 1, toVersion: Number.MAX_SAFE_INTEGER, limit: 1_000, maxBytes: 2 ** 20 }
        const reads = (["forward", "backward"] as const).flatMap((direction) => [
          ...Object.entries(filters).flatMap(([name, filter]) =>
            (filter === nothing ? [walk] : waysOf(filter, new Set(indexes)))
              .filter(({ inOrder }) => inOrder)
              .map((way: Way) => ({
                name: `${name} by ${way.name}, ${direction}`,
                statement: sql.readFeed({ ...request, direction, filter }, way)
              }))
          ),
          { name: `a stream, ${direction}`, statement: sql.readStream({ ...range, direction, stream }) }
        ])
        yield* Effect.promise(() =>
          withClient(url, async (client) => {
            await client.query(
              `insert into es_events
                 (position, id, tenant_id, domain, aggregate_id, version, type, data, metadata, created_ms)
               select n, gen_random_uuid(), 't', 'd', 'a-' || n % 20, n,
                 case when n % 1000 = 0 then 'Rare' when n % 4 = 0 then 'Other' else 'Common' end, '1', '{}', n
               from generate_series(1, 20000) n`
            )
            await client.query("vacuum analyze es_events")
            const factor = Number(many) / 20_000
            await client.query("update pg_class set reltuples = reltuples * $1 where relname = any ($2)", [
              factor,
              places
            ])
            for (const { name, statement } of reads) {
              for (const mode of ["force_generic_plan", "force_custom_plan"]) {
                await client.query(`set plan_cache_mode = ${mode}`)
                await client.query(`prepare page as ${statement.text}`)
                const values = (statement.values ?? []).map(literal).join()
                const { rows } = await client.query(`explain execute page(${values})`)
                await client.query("deallocate page")
                const plan = rows.map((row) => row["QUERY PLAN"]).join("\n")
                assert.notMatch(plan, nowhere, `${name}, ${mode}`)
                assert.match(plan, /Index/, `${name}, ${mode}`)
              }
            }
          })
        )
      })
    )
  }
})
