/**
 * Every lookup of the store goes through an index, also when its plan was made while the table was empty and the server
 * knew it: such a plan is kept, and scans the whole table for ever after.
 */
import { assert, it } from "@effect/vitest"
import { Effect, Redacted, Stream } from "effect"
import { EventStore } from "effect-stores"
import { EventStorePg, PgDatabase } from "effect-stores/pg"
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
})
