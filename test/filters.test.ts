/**
 * A filter finds the same whichever indexes there are, in a log that is long enough for each way of looking to be taken:
 * one index has more events than are looked at, another few, and some filters have both.
 */
import assert from "node:assert/strict"
import * as fs from "node:fs"
import * as path from "node:path"
import Database from "better-sqlite3"
import { Chunk, DateTime, Effect, FastCheck, type Layer, Redacted, Stream } from "effect"
import { EventStore } from "effect-stores"
import { EventStorePg } from "effect-stores/pg"
import { EventStoreSqlite } from "effect-stores/sqlite"
import { describe, test } from "vitest"
import { type EventIndex, eventIndexes } from "../src/internal/storeOptions.js"
import { lookMax } from "../src/sql/eventLookups.js"
import { describePg, freshDatabase, temporaryDirectory } from "./support/backends.js"
import { withClient } from "./support/databases.js"

const count = 1.3 * lookMax

interface Row extends EventStore.StreamId {
  readonly position: number
  readonly id: string
  readonly version: number
  readonly type: string
  readonly commandId: string | null
  readonly createdAt: number
}

const pick = (n: number, shares: Readonly<Record<string, number>>): string => {
  let rest = n % 100
  for (const [name, share] of Object.entries(shares)) {
    rest -= share
    if (rest < 0) return name
  }
  throw new Error("shares must be 100 together")
}

const versions = new Map<string, number>()

/** Each field has its own order, so all of them meet. */
const rows: ReadonlyArray<Row> = Array.from({ length: count }, (_, i) => {
  const tenantId = pick(i * 7, { many: 80, some: 15, few: 5 })
  const domain = pick(i * 13 + Math.floor(i / 100), { order: 80, invoice: 19, note: 1 })
  const aggregateId = i % 50 === 0 ? "main" : `a${i}`
  const stream = `${tenantId} ${domain} ${aggregateId}`
  const version = (versions.get(stream) ?? 0) + 1
  versions.set(stream, version)
  return {
    position: i + 1,
    id: `00000000-0000-7000-8000-${String(i).padStart(12, "0")}`,
    tenantId,
    domain,
    aggregateId,
    version,
    type:
      i === 1_234 || i === 12_000 ? "Once" : pick(i * 29 + Math.floor(i / 1_000), { Placed: 80, Sent: 15, Lost: 5 }),
    commandId: i % 1_000 === 7 ? "c1" : null,
    // Some are earlier than those before them.
    createdAt: i % 3 === 0 ? i : i + 100
  }
})

const filters: ReadonlyArray<EventStore.Filter> = [
  { types: ["Once"] },
  { types: ["Sent", "Once", "Sent"] },
  { types: Array.from({ length: 40 }, (_, i) => (i === 0 ? "Lost" : `T${i}`)) },
  { domain: "order", tenantId: "many", types: ["Placed", "Sent"] },
  { tenantId: "some", domain: "order", aggregateId: "main" },
  ...FastCheck.sample(
    FastCheck.record(
      {
        tenantId: FastCheck.constantFrom("many", "some", "few", "nobody"),
        domain: FastCheck.constantFrom("order", "invoice", "note"),
        types: FastCheck.uniqueArray(FastCheck.constantFrom("Placed", "Sent", "Lost", "Once"), { minLength: 1 }),
        commandId: FastCheck.constant("c1"),
        createdFrom: FastCheck.nat({ max: count }).map((ms) => DateTime.unsafeMake(ms)),
        createdUntil: FastCheck.nat({ max: count }).map((ms) => DateTime.unsafeMake(ms))
      },
      { requiredKeys: [] }
    ),
    { seed: 16, numRuns: 12 }
  )
]

const matching = ({ createdFrom, createdUntil, types, ...same }: EventStore.Filter): ReadonlyArray<Row> =>
  rows.filter(
    (row) =>
      Object.entries(same).every(([field, value]) => row[field as keyof Row] === value) &&
      (types === undefined || types.includes(row.type)) &&
      (createdFrom === undefined || row.createdAt >= createdFrom.epochMillis) &&
      (createdUntil === undefined || row.createdAt < createdUntil.epochMillis)
  )

const positions = (found: Iterable<{ readonly position: number }>): ReadonlyArray<number> =>
  Array.from(found, ({ position }) => position)

/** Everything that takes a filter finds what a look at all rows finds. */
const findsTheSame = Effect.gen(function* () {
  const store = yield* EventStore.EventStore
  for (const filter of filters) {
    const expected = matching(filter)
    const what = JSON.stringify(filter)
    for (const after of [0, count - 500]) {
      const rest = expected.filter(({ position }) => position > after).slice(0, 60)
      const found = yield* Stream.runCollect(store.feed({ filter, after, limit: 60 }))
      assert.deepEqual(positions(found), positions(rest), `feed after ${after} of ${what}`)
    }
    const page = yield* store.page({ filter, direction: "backward", limit: 30 })
    assert.deepEqual(positions(page.events), positions(expected.toReversed().slice(0, 30)), `page of ${what}`)
    assert.equal(yield* store.count(filter), expected.length, `count of ${what}`)
    for (const field of ["type", "tenantId"] as const) {
      const values = Chunk.toReadonlyArray(yield* Stream.runCollect(store.distinct(field, filter)))
      const all = new Set(expected.map((row) => row[field]))
      assert.deepEqual(values, [...all].sort(), `distinct ${field} of ${what}`)
    }
  }
  for (const field of ["type", "domain", "tenantId"] as const) {
    const values = Chunk.toReadonlyArray(yield* Stream.runCollect(store.distinct(field)))
    assert.deepEqual(values, [...new Set(rows.map((row) => row[field]))].sort())
  }
})

const subsets: ReadonlyArray<ReadonlyArray<EventIndex>> = Array.from({ length: 2 ** eventIndexes.length }, (_, bits) =>
  eventIndexes.filter((_, i) => (bits & (2 ** i)) !== 0)
)

const check = (layer: Layer.Layer<EventStore.EventStore, unknown>): Promise<void> =>
  Effect.runPromise(Effect.provide(findsTheSame, layer))

const titleOf = (indexes: ReadonlyArray<EventIndex>) =>
  `find the same with ${indexes.length === 0 ? "no index by choice" : `the indexes ${indexes.join(", ")}`}`

describe("filters on SQLite", () => {
  const empty = path.join(temporaryDirectory(), "empty.db")
  const fill = () => {
    const db = new Database(empty)
    db.exec(EventStoreSqlite.migrationSql({ indexes: [] }))
    const insert = db.prepare(
      `INSERT INTO es_events (position, id, tenant_id, domain, aggregate_id, version, type, data, metadata, command_id, created_ms)
       VALUES (@position, @id, @tenantId, @domain, @aggregateId, @version, @type, '1', '{}', @commandId, @createdAt)`
    )
    db.transaction(() => {
      for (const row of rows) insert.run(row)
    })()
    db.close()
  }
  for (const indexes of subsets) {
    test(titleOf(indexes), async () => {
      if (!fs.existsSync(empty)) fill()
      const filename = path.join(temporaryDirectory(), "events.db")
      fs.copyFileSync(empty, filename)
      await check(EventStoreSqlite.layer({ filename, indexes }))
    })
  }
})

describePg("filters on PostgreSQL", () => {
  let filled: Promise<string> | undefined
  const fill = async () => {
    const url = await freshDatabase()
    const all = (value: (row: Row) => unknown) => rows.map(value)
    await withClient(url, async (client) => {
      await client.query(EventStorePg.migrationSql({ indexes: [] }))
      await client.query(
        `insert into es_events (position, id, tenant_id, domain, aggregate_id, version, type, data, metadata, command_id, created_ms)
         select position, id, tenant_id, domain, aggregate_id, version, type, '1', '{}', command_id, created_ms
         from unnest($1::bigint[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::bigint[], $7::text[], $8::text[], $9::bigint[])
           as row (position, id, tenant_id, domain, aggregate_id, version, type, command_id, created_ms)`,
        [
          all(({ position }) => position),
          all(({ id }) => id),
          all(({ tenantId }) => tenantId),
          all(({ domain }) => domain),
          all(({ aggregateId }) => aggregateId),
          all(({ version }) => version),
          all(({ type }) => type),
          all(({ commandId }) => commandId),
          all(({ createdAt }) => createdAt)
        ]
      )
      await client.query(`select setval('es_positions', ${count})`)
    })
    return url
  }
  for (const indexes of subsets) {
    test(titleOf(indexes), async () => {
      filled ??= fill()
      const url = await filled
      const names = eventIndexes.map((index) => `es_events_${index}`).join(", ")
      await withClient(url, (client) => client.query(`drop index if exists ${names}`))
      await check(EventStorePg.layer({ url: Redacted.make(url), indexes }))
    })
  }
})
