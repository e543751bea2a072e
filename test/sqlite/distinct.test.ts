/**
 * `distinct` of many events looks through them a stretch at a time: it finds what one statement would, and the event
 * loop goes on.
 */
import assert from "node:assert/strict"
import * as path from "node:path"
import Database from "better-sqlite3"
import { Chunk, Effect, Layer, ManagedRuntime, Stream } from "effect"
import { EventStore } from "effect-stores"
import { EventStoreMemory } from "effect-stores/memory"
import { EventStoreSqlite } from "effect-stores/sqlite"
import { afterAll, beforeAll, describe, test } from "vitest"
import { temporaryDirectory } from "../support/backends.js"

const events = 50_000
const batch = 10_000

// Names whose order by bytes is not that of UTF-16.
const marks = ["Z", "a", "é", "\uff5e", "\u{1f600}", "\u{10ffff}"]

const fill = Effect.gen(function* () {
  const store = yield* EventStore.EventStore
  for (let from = 0; from < events; from += batch) {
    const range = Array.from({ length: batch / 10 }, (_, i) => from + i * 10)
    yield* store.appendAll(
      range.slice(0, batch / 10).map((n) => ({
        stream: { tenantId: n % 3 === 0 ? "few" : "many", domain: `d${n % 7}`, aggregateId: `${marks[n % 6]}${n}` },
        events: Array.from({ length: 10 }, (_, i) => ({
          type: `T${(n + i) % 11}`,
          data: null,
          commandId: i === 0 ? `c${n}` : undefined
        })),
        expected: "noStream" as const
      }))
    )
  }
})

const filename = path.join(temporaryDirectory(), "distinct.db")
const sqlite = ManagedRuntime.make(EventStoreSqlite.layer({ filename, synchronous: "OFF" }))
const memory = ManagedRuntime.make(Layer.orDie(EventStoreMemory.layer()))

beforeAll(async () => {
  await sqlite.runPromise(fill)
  await memory.runPromise(fill)
})

afterAll(async () => {
  await sqlite.dispose()
  await memory.dispose()
})

const valuesOf = (field: EventStore.DistinctField, filter: EventStore.Filter) =>
  Effect.flatMap(EventStore.EventStore, (store) =>
    Effect.map(Stream.runCollect(store.distinct(field, filter)), Chunk.toReadonlyArray)
  )

describe("distinct of more events than one stretch", () => {
  const filters: ReadonlyArray<EventStore.Filter> = [
    {},
    { tenantId: "many" },
    { tenantId: "few", domain: "d3" },
    { types: ["T4"] },
    { domain: "d1", types: ["T0", "T1"] },
    { tenantId: "nobody" },
    { commandId: "c40" }
  ]
  for (const filter of filters) {
    for (const field of ["tenantId", "domain", "aggregateId", "type", "commandId", "instanceId"] as const) {
      test(`${field} where ${JSON.stringify(filter)} is what the store in memory finds`, async () => {
        const found = await sqlite.runPromise(valuesOf(field, filter))
        assert.deepEqual(found, await memory.runPromise(valuesOf(field, filter)))
      })
    }
  }

  test("a value at each end of each stretch is found", async () => {
    const found = await sqlite.runPromise(valuesOf("aggregateId", {}))
    assert.equal(found.length, events / 10)
  })

  test("the event loop turns while it looks", async () => {
    const filename = path.join(temporaryDirectory(), "long.db")
    const store = ManagedRuntime.make(EventStoreSqlite.layer({ filename, synchronous: "OFF", indexes: [] }))
    await store.runPromise(Effect.flatMap(EventStore.EventStore, ({ head }) => head))
    const db = new Database(filename)
    db.exec(`WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 600000)
INSERT INTO es_events (id, tenant_id, domain, aggregate_id, version, type, data, metadata, created_ms)
SELECT n, 't', 'd', n, 1, 'T', '{}', '{}', 0 FROM n`)
    db.close()
    let turns = 0
    const count = () => {
      turns++
      timer = setImmediate(count)
    }
    let timer = setImmediate(count)
    // A single statement takes a turn or two, however long it is. These are 37, and no turn has more than 10 ms of them.
    await store.runPromise(valuesOf("aggregateId", { types: ["Never"] }))
    assert.ok(turns > 3, `${turns} turns`)
    // What the stretches have found is put together in turns too: in one, 256,000 values took 100 ms.
    turns = 0
    assert.equal((await store.runPromise(valuesOf("aggregateId", {}))).length, 600_000)
    clearImmediate(timer)
    await store.dispose()
    assert.ok(turns > 500, `${turns} turns`)
  })
})
