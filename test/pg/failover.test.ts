/**
 * A standby that takes over: from the death of the primary until it is promoted it cannot write nor give the feed. That
 * passes, and so appends are refused as retryable and subscriptions wait.
 */
import { assert, it } from "@effect/vitest"
import { Effect, Fiber, Layer, Redacted, Ref, Schedule, Stream } from "effect"
import { EventStore } from "effect-stores"
import { EventStorePg } from "effect-stores/pg"
import { describeOwnPg, describeWith } from "../support/backends.js"
import { eventually } from "../support/eventually.js"
import { startPostgres } from "../support/postgres.js"
import { startProxy } from "../support/proxy.js"
import { findPostgresTool } from "../support/tools.js"
import { query } from "./support/query.js"
import { startStandby } from "./support/standby.js"

describeOwnPg("a failover", () =>
  describeWith("postgresTools", "to a standby that is promoted later", () => {
    it.live("refuses appends and the feed as retryable until then, and a subscription goes on after it", () =>
      Effect.gen(function* () {
        const primary = yield* Effect.acquireRelease(
          Effect.promise(() => startPostgres()),
          (server) => Effect.promise(() => server.stop())
        )
        const standby = yield* Effect.acquireRelease(
          Effect.promise(() =>
            startStandby({
              pgBasebackup: findPostgresTool("pg_basebackup") ?? "pg_basebackup",
              primaryUrl: primary.url
            })
          ),
          (server) => Effect.promise(() => server.stop())
        )
        const proxy = yield* Effect.acquireRelease(
          Effect.promise(() => startProxy(primary.port)),
          (proxy) => Effect.sync(() => proxy.stop())
        )
        const url = new URL(primary.url)
        url.port = String(proxy.port)
        const context = yield* Layer.build(
          EventStorePg.layer({ url: Redacted.make(url.href), pollInterval: "20 millis" })
        )
        const store = yield* Effect.provide(EventStore.EventStore, context)
        const stream = { tenantId: "t", domain: "d", aggregateId: "a" }
        const event = { type: "Happened", data: {} }
        const seen = yield* Ref.make<ReadonlyArray<number>>([])
        const subscriber = yield* Effect.fork(
          Stream.runForEach(store.subscribe(), ({ version }) => Ref.update(seen, (versions) => [...versions, version]))
        )
        yield* store.append(stream, [event], { expected: "noStream" })
        yield* store.append(stream, [event], { expected: 1 })
        yield* eventually(Ref.get(seen), (versions) => versions.length === 2)
        const standbyUrl = standby.urlOf(primary.url)
        const count = Effect.map(
          Effect.option(Effect.sandbox(query(standbyUrl, "select count(*)::int as n from es_events"))),
          (result) => (result._tag === "Some" ? result.value.rows[0].n : 0)
        )
        yield* eventually(count, (n) => n === 2)

        yield* Effect.promise(() => primary.kill())
        proxy.leadTo(Number(new URL(standbyUrl).port))
        const refused = { _tag: "StoreUnavailable", retryable: true } as const
        const headRefused = yield* eventually(Effect.flip(store.head), (error) => error.message.includes("primary"))
        assert.deepInclude(headRefused, refused)
        const append = store.append(stream, [event], { expected: 2 })
        assert.deepInclude(yield* Effect.flip(append), refused)
        // The subscription's own reads, more than one of them.
        const refusals = Effect.sync(() => proxy.received().split("must be read on the primary").length)
        const before = yield* refusals
        yield* eventually(refusals, (now) => now >= before + 3)
        assert.isTrue((yield* Fiber.poll(subscriber))._tag === "None")
        assert.deepStrictEqual(yield* Ref.get(seen), [1, 2])

        yield* query(standbyUrl, "select pg_promote()")
        const { version } = yield* Effect.retry(append, {
          while: (error) => "retryable" in error && error.retryable,
          schedule: Schedule.spaced(20)
        })
        assert.strictEqual(version, 3)
        yield* eventually(Ref.get(seen), (versions) => versions.length === 3)
        assert.deepStrictEqual(yield* Ref.get(seen), [1, 2, 3])
      }).pipe(Effect.scoped)
    )
  })
)
