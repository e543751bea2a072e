/**
 * The operator's SQL on payloads in PostgreSQL: what the stores accept breaks no query that the docs show.
 */
import { assert, it } from "@effect/vitest"
import { Effect, FastCheck, Layer, Redacted } from "effect"
import { CommandStore, EventStore, type Json } from "effect-stores"
import { CommandStorePg, EventStorePg } from "effect-stores/pg"
import { jsonByName } from "../../src/testing/jsonValues.js"
import { sealed } from "../sealed/support.js"
import { describePg, freshDatabase } from "../support/backends.js"
import { query } from "./support/query.js"

const stream = { tenantId: "t", domain: "d", aggregateId: "a" }

/** What PostgreSQL's JSON has in the place of what it cannot have. */
const replaced = (value: Json.Json): Json.Json => {
  if (typeof value === "string") return value.toWellFormed().replaceAll("\0", "\ufffd")
  if (Array.isArray(value)) return value.map(replaced)
  if (typeof value !== "object" || value === null) return value
  return Object.fromEntries(
    Object.entries(value as Record<string, Json.Json>).map(([key, value]) => [replaced(key) as string, replaced(value)])
  )
}

/** Text around everything that has a meaning in an escape. */
const pieces = FastCheck.array(
  FastCheck.constantFrom(
    "\\",
    "\\\\",
    "\\u0000",
    "\\ud800",
    "u0000",
    "\0",
    "\ud83d",
    "\ude00",
    "\ud83d\ude00",
    '"',
    "\n",
    "\u001b",
    "a"
  ),
  { maxLength: 8 }
).map((pieces) => pieces.join(""))

describePg("SQL on payloads in PostgreSQL", () => {
  it.live("finds what is in legal data, whatever else is in it", () =>
    Effect.gen(function* () {
      const url = yield* Effect.promise(freshDatabase)
      const store = yield* Effect.provide(
        EventStore.EventStore,
        yield* Layer.build(EventStorePg.layer({ url: Redacted.make(url) }))
      )
      const values: ReadonlyArray<Json.Json> = [
        ...Object.values(jsonByName),
        ...FastCheck.sample(FastCheck.record({ total: FastCheck.integer(), text: pieces }), { numRuns: 500, seed: 14 }),
        ...["\0", "\ud800", "\udfff\ud800", "\\\0", "\\\\\0\0", "\\u0000"].map((text) => ({ total: 1, [text]: text }))
      ]
      const events = values.map((data) => ({ type: "Happened", data }))
      yield* store.append(stream, events, { expected: "any" })
      const { rows } = yield* query(url, "select es_json(data)::text as json from es_events order by position")
      assert.strictEqual(rows.length, values.length)
      for (const [i, { json }] of rows.entries()) {
        assert.deepStrictEqual(JSON.parse(json), replaced(values[i] as Json.Json))
      }
      const totals = yield* query(url, "select count(*)::int as n from es_events where es_json(data) ->> 'total' = '1'")
      assert.isAtLeast(totals.rows[0].n, 6)
    }).pipe(Effect.scoped)
  )

  it.live("finds nothing in what is sealed, and fails at neither", () =>
    Effect.gen(function* () {
      const url = yield* Effect.promise(freshDatabase)
      const options = { url: Redacted.make(url) }
      const append = Effect.flatMap(EventStore.EventStore, (store) =>
        store.append(stream, [{ type: "Happened", data: { total: 1 } }], { expected: "any" })
      )
      const create = Effect.flatMap(CommandStore.CommandStore, (store) =>
        store.create({ id: crypto.randomUUID(), tenantId: "t", domain: "d", type: "Do", data: { total: 2 } })
      )
      yield* Effect.provide(append, EventStorePg.layer(options))
      yield* Effect.provide(append, sealed(EventStorePg.layer(options)))
      yield* Effect.provide(create, CommandStorePg.layer(options))
      const { rows } = yield* query(
        url,
        "select es_json(data) ->> 'total' as total from es_events union all select es_json(data) ->> 'total' from es_commands"
      )
      assert.deepStrictEqual(rows, [{ total: "1" }, { total: null }, { total: "2" }])
    }).pipe(Effect.scoped)
  )
})
