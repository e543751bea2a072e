/**
 * A feed that an open transaction holds back: who does it is logged and measured, and nothing is asked for it before.
 */
import { assert, it } from "@effect/vitest"
import { Deferred, Effect, Fiber, Layer, Logger, Metric, Redacted, Stream } from "effect"
import { EventStore } from "effect-stores"
import { EventStorePg, PgDatabase } from "effect-stores/pg"
import { describePg, freshDatabase } from "../support/backends.js"
import { eventually } from "../support/eventually.js"
import { query } from "./support/query.js"

const append = (aggregateId: string) =>
  Effect.flatMap(EventStore.EventStore, (store) =>
    store.append({ tenantId: "t", domain: "d", aggregateId }, [{ type: "Happened", data: 1 }], { expected: "any" })
  )

const measured = (name: string) =>
  Metric.unsafeSnapshot(undefined).flatMap(({ metricKey, metricState }) =>
    metricKey.name === name ? [(metricState as unknown as { readonly value: number }).value] : []
  )

describePg("a feed that is held back", () => {
  it.live(
    "names the transaction that does it in a warning, and by how much in metrics, and moves on when that ends",
    () =>
      Effect.gen(function* () {
        const url = yield* Effect.promise(freshDatabase)
        const warnings: Array<string> = []
        const logger = Logger.replace(
          Logger.defaultLogger,
          Logger.make(({ logLevel, message }) => {
            if (logLevel._tag === "Warning") warnings.push(String(message))
          })
        )
        const options = { url: Redacted.make(url), pool: { maxOpenConns: 1, maxIdleConns: 1 } }
        const readers = yield* Layer.build(Layer.provide(EventStorePg.layer(options), logger))
        const writers = yield* Layer.build(EventStorePg.layer({ ...options, applicationName: "billing" }))
        const { sql } = yield* Effect.provide(PgDatabase.PgDatabase, readers)
        const asked = Effect.map(
          sql`select name from pg_prepared_statements where name like '%/holder'`,
          ({ length }) => length > 0
        )

        const seen: Array<string> = []
        const store = yield* Effect.provide(EventStore.EventStore, readers)
        const following = yield* Effect.fork(
          Stream.runForEach(store.subscribe(), ({ aggregateId }) => Effect.sync(() => seen.push(aggregateId)))
        )
        yield* Effect.provide(append("before"), readers)
        yield* eventually(Effect.sync(() => seen.length === 1))

        const end = yield* Deferred.make<void>()
        const transaction = Effect.flatMap(PgDatabase.PgDatabase, ({ transaction }) =>
          transaction(Effect.zipRight(append("held"), Deferred.await(end)))
        )
        const holding = yield* Effect.fork(Effect.provide(transaction, writers))
        const pidOf = query(
          url,
          "select pid from pg_stat_activity where application_name = 'billing' and state = 'idle in transaction'"
        )
        const pid = yield* eventually(
          Effect.map(pidOf, ({ rows }) => rows[0]?.pid as number | undefined),
          (found) => found !== undefined
        )
        yield* Effect.provide(append("after"), readers)
        assert.isFalse(yield* asked)

        yield* eventually(Effect.sync(() => warnings.length === 1))
        const [warning = ""] = warnings
        assert.match(
          warning,
          /^the feed of public\.es_events in postgres:\/\/\S+ is held back at position \d+, 2 before/
        )
        assert.include(warning, `process ${pid} (application_name billing), which is idle in transaction and began `)
        assert.notInclude(warning, new URL(url).password || "a password")
        assert.isTrue(yield* asked)
        assert.deepStrictEqual(seen, ["before"])
        assert.deepStrictEqual(Math.max(...measured("effect_stores_feed_held_back_positions")), 2)
        assert.isAbove(Math.max(...measured("effect_stores_feed_held_back_ms")), 4_000)

        // Without a reader nobody would see when it is over.
        yield* Fiber.interrupt(following)
        assert.deepStrictEqual(Math.max(...measured("effect_stores_feed_held_back_positions")), 0)
        assert.deepStrictEqual(Math.max(...measured("effect_stores_feed_held_back_ms")), 0)

        const again = yield* Effect.fork(
          Stream.runForEach(store.subscribe(), ({ aggregateId }) => Effect.sync(() => seen.push(aggregateId)))
        )
        seen.length = 0
        yield* Deferred.succeed(end, undefined)
        yield* Fiber.join(holding)
        yield* eventually(Effect.sync(() => seen.length === 3))
        assert.deepStrictEqual(seen, ["before", "held", "after"])
        assert.deepStrictEqual(Math.max(...measured("effect_stores_feed_held_back_positions")), 0)
        assert.deepStrictEqual(Math.max(...measured("effect_stores_feed_held_back_ms")), 0)
        yield* Fiber.interrupt(again)
      }).pipe(Effect.scoped)
  )
})
