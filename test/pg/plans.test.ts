/**
 * Every statement that the stores prepare on PostgreSQL finds its rows by an index, as it is planned for tables of ten
 * million rows of which the server knows nothing else: in the plan that it keeps for all parameters, and in that for its
 * own values.
 */
import assert from "node:assert/strict"
import { Effect, Layer, Redacted } from "effect"
import { CacheStore, CheckpointStore, CommandStore, DataStore, EventStore, SnapshotStore } from "effect-stores"
import {
  CacheStorePg,
  CheckpointStorePg,
  CommandStorePg,
  DataStorePg,
  EventStorePg,
  PgDatabase,
  SnapshotStorePg
} from "effect-stores/pg"
import Pg from "pg"
import { test } from "vitest"
import { describePg, freshDatabase } from "../support/backends.js"
import { withClient } from "../support/databases.js"
import { everything, id, stream } from "../support/tour.js"

/** The statements that an effect prepares, on any connection, each with the values that it was first given. */
const preparedBy = async (
  self: Effect.Effect<unknown, unknown>
): Promise<ReadonlyMap<string, ReadonlyArray<Value>>> => {
  const { prototype } = Pg.Connection
  const { bind, parse } = prototype
  const named = new Map<string, string>()
  const found = new Map<string, ReadonlyArray<Value>>()
  prototype.parse = function (query, more) {
    named.set(query.name, query.text)
    parse.call(this, query, more)
  }
  prototype.bind = function (config, more) {
    const text = named.get(config?.statement ?? "")
    if (config !== null && text !== undefined && !found.has(text)) {
      found.set(
        text,
        (config.values ?? []).map((value, i) => config.valueMapper?.(value, i) ?? null)
      )
    }
    bind.call(this, config, more)
  }
  try {
    await Effect.runPromise(self)
  } finally {
    Object.assign(prototype, { bind, parse })
  }
  return found
}

/** As the driver sends it. */
type Value = string | Buffer | null

const literal = (value: Value): string =>
  value === null ? "null" : Pg.escapeLiteral(typeof value === "string" ? value : `\\x${value.toString("hex")}`)

/** A row in each table. */
const left = Effect.gen(function* () {
  yield* (yield* CommandStore.CommandStore).create({ id, tenantId: "t", domain: "order", type: "Place", data: 1 })
  const snapshot = { version: 1, lastEventMark: id, schemaVersion: "1", state: 1 }
  yield* (yield* SnapshotStore.SnapshotStore).save(stream, snapshot)
  yield* (yield* CacheStore.CacheStore).set("t", "k", 1, { tags: ["tag"] })
  const objects = yield* DataStore.DataStore
  yield* objects.buckets.create("bucket")
  yield* objects.put({ bucket: "bucket", name: "a" }, new Uint8Array(2 ** 20))
  yield* (yield* CheckpointStore.CheckpointStore).open({ name: "follower", generation: 1 })
})

/** What looks at everything there is, by its meaning. */
const looksAtAll: ReadonlyArray<RegExp> = [
  // Numbers of all, and what is emptied.
  /^select (\(select )?count\(\*\)/,
  /^with \w+ as \(delete from \S+\)\s+delete from \S+$/,
  // Only where the log is short; else it is looked through a stretch of positions at a time.
  /select distinct type as value from "public"."es_commands"/,
  // All buckets, and the puts that are under way: few.
  /from "public"."es_buckets"$/,
  /from "public"."es_object_uploads" where touched_ms/
]

const scansOf = async (
  client: Pg.Client,
  text: string,
  values: ReadonlyArray<Value>
): Promise<ReadonlyArray<string>> => {
  await client.query(`prepare asked as ${text}`)
  const plan = await client.query(
    `explain execute asked${values.length === 0 ? "" : `(${values.map(literal).join()})`}`
  )
  await client.query("deallocate asked")
  return plan.rows
    .map((row) => (row["QUERY PLAN"] as string).trim())
    .filter((line) => /Seq Scan on es_\w+/.test(line))
    .map((line) => line.replace(/ +\(cost.*/, ""))
}

describePg("plans on PostgreSQL", () => {
  test("no statement scans a table of ten million rows", async () => {
    const url = await freshDatabase()
    const stores = Layer.mergeAll(
      EventStorePg.layerFromDatabase({ indexes: ["type", "domain", "tenant", "time"] }),
      CommandStorePg.layerFromDatabase(),
      SnapshotStorePg.layerFromDatabase(),
      CacheStorePg.layerFromDatabase(),
      DataStorePg.layerFromDatabase(),
      CheckpointStorePg.layerFromDatabase()
    ).pipe(Layer.provideMerge(PgDatabase.layer({ url: Redacted.make(url) })))
    const fill = () =>
      withClient(url, (client) =>
        client.query(`insert into es_events
            (position, id, tenant_id, domain, aggregate_id, version, type, data, metadata, created_ms)
          select nextval('es_positions'), gen_random_uuid(), 'many', 'order', n, 1, 'T', '1', '{}', n from generate_series(1, 3000) n`)
      )
    const prepared = await preparedBy(
      Effect.all([
        // The log must be long enough for looks to be taken.
        Effect.flatMap(EventStore.EventStore, (store) =>
          Effect.zipRight(
            store.append({ tenantId: "t", domain: "d", aggregateId: "a" }, [{ type: "T", data: 1 }], {
              expected: "any"
            }),
            Effect.promise(fill)
          )
        ),
        everything,
        left,
        Effect.promise(fill)
      ]).pipe(Effect.provide(stores))
    )
    const asked = [...prepared].filter(
      ([text]) =>
        /^(select|insert|update|delete|with)/i.test(text.trim()) && !looksAtAll.some((all) => all.test(text.trim()))
    )
    assert.ok(asked.length > 100, `${asked.length} statements`)
    await withClient(url, async (client) => {
      // What the tour has left empty: of an empty table the planner knows that it is.
      await client.query("insert into es_notes values ('a store', 'a name', 'a value')")
      await client.query("insert into es_revisions values ('t', 'order', 'a', gen_random_uuid())")
      await client.query(
        `insert into es_dead_letters values
           ('follower', 1, 1, 0, 't', 'order', 'a', gen_random_uuid(), 'Placed', 'a reason', 'event')`
      )
      await client.query("analyze")
      const ours = "select oid from pg_class where relname like 'es\\_%'"
      await client.query(`delete from pg_statistic where starelid in (${ours})`)
      await client.query(
        `update pg_class set relpages = greatest(relpages, 1), reltuples = 1e7 where oid in (${ours} and relkind in ('r', 'i'))`
      )
      for (const mode of ["force_generic_plan", "force_custom_plan"]) {
        await client.query(`set plan_cache_mode = ${mode}`)
        const scans: Array<string> = []
        for (const [text, values] of asked) {
          for (const scan of await scansOf(client, text, values)) scans.push(`${scan}: ${text}`)
        }
        assert.deepEqual(scans, [], mode)
      }
    })
  })
})
