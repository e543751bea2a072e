/**
 * `distinct` of many values: they come from the server in rows of many, are taken apart in several turns of the event
 * loop, and reach the caller in several more.
 */
import { assert, it } from "@effect/vitest"
import { Effect, Redacted, Stream } from "effect"
import { CommandStore, EventStore } from "effect-stores"
import { CommandStorePg, EventStorePg } from "effect-stores/pg"
import { valuesOf } from "../../src/pg/database/pages.js"
import { describePg, freshDatabase } from "../support/backends.js"
import { withClient } from "../support/databases.js"

const records = 50_000

// Values that JSON escapes, and some whose order by bytes is not that of UTF-16.
const marks = ['"', "\\", "\n", "\u2028", "é", "\uff5e", "\u{1f600}", ","]

const nameOf = (n: number) => `${marks[n % marks.length]}${n}`

const expected = Array.from({ length: records }, (_, n) => nameOf(n)).sort((a, b) =>
  Buffer.compare(Buffer.from(a), Buffer.from(b))
)

/** Runs the effect; the turns of the event loop meanwhile. */
const turnsOf = <A, E, R>(self: Effect.Effect<A, E, R>): Effect.Effect<readonly [A, number], E, R> =>
  Effect.suspend(() => {
    let turns = 0
    const count = () => {
      turns++
      timer = setImmediate(count)
    }
    let timer = setImmediate(count)
    return Effect.map(
      Effect.ensuring(
        self,
        Effect.sync(() => clearImmediate(timer))
      ),
      (value) => [value, turns] as const
    )
  })

describePg("distinct on PostgreSQL", () => {
  it.live("finds each of many values once, in order, and gives them to the caller in turns", () =>
    Effect.gen(function* () {
      const url = Redacted.make(yield* Effect.promise(freshDatabase))
      yield* Effect.gen(function* () {
        const events = yield* EventStore.EventStore
        const commands = yield* CommandStore.CommandStore
        yield* Effect.promise(() =>
          withClient(Redacted.value(url), async (client) => {
            await client.query(
              `insert into es_events
                 (position, id, tenant_id, domain, aggregate_id, version, type, data, metadata, created_ms)
               select n + 1, gen_random_uuid(), 't', 'd', ($1::text[])[n % $2 + 1] || n, 1, 'T', '1', '{}', 0
               from generate_series(0, $3 - 1) n`,
              [marks, marks.length, records]
            )
          })
        )
        let latest = 0
        let most = 0
        let timer = setImmediate(function turn() {
          latest = 0
          timer = setImmediate(turn)
        })
        const found: Array<string> = []
        yield* Stream.runForEachChunk(events.distinct("aggregateId", { tenantId: "t" }), (values) =>
          Effect.sync(() => {
            found.push(...values)
            latest += values.length
            most = Math.max(most, latest)
          })
        )
        clearImmediate(timer)
        assert.deepStrictEqual(found, expected)
        assert.isAtMost(most, 16_000)
        yield* commands.create({ id: crypto.randomUUID(), tenantId: "t", domain: 'd"', type: "T,\\", data: null })
        assert.deepStrictEqual([...(yield* Stream.runCollect(commands.distinct("type")))], ["T,\\"])
      }).pipe(Effect.provide([EventStorePg.layer({ url }), CommandStorePg.layer({ url })]))
    })
  )

  it.live("takes rows of many values apart in turns", () =>
    Effect.gen(function* () {
      const rows = Array.from({ length: 160 }, (_, row) => [JSON.stringify([`${row}`, "x"])] as const)
      const [values, turns] = yield* turnsOf(valuesOf(rows))
      assert.deepStrictEqual(
        values,
        rows.flatMap((_, row) => [`${row}`, "x"])
      )
      assert.isAtLeast(turns, 9)
    })
  )
})
