/**
 * What the CacheStores on SQLite and PostgreSQL add to the contract: purging, transactions of the caller's, and
 * sessions that lock rows of one another.
 */
import assert from "node:assert/strict"
import * as path from "node:path"
import type * as SqlClient from "@effect/sql/SqlClient"
import { Effect, Exit, type Layer, ManagedRuntime, Option, Redacted } from "effect"
import { CacheStore, type Errors } from "effect-stores"
import { CacheStorePg, PgDatabase } from "effect-stores/pg"
import { CacheStoreSqlite, SqliteDatabase } from "effect-stores/sqlite"
import { describe, it, onTestFinished } from "vitest"
import { until } from "../redis/fixtures.js"
import { describePg, freshDatabase, temporaryDirectory } from "../support/backends.js"
import { isFull } from "../support/scale.js"

interface Opened {
  readonly run: <A, E>(body: (cache: CacheStore.CacheStoreShape) => Effect.Effect<A, E>) => Promise<A>
  readonly sql: SqlClient.SqlClient
  readonly transaction: <A, E>(self: Effect.Effect<A, E>) => Effect.Effect<A, E | Errors.StoreFailure>
}

const opened = async <D>(
  layer: Layer.Layer<CacheStore.CacheStore | D, unknown>,
  database: Effect.Effect<Pick<Opened, "sql" | "transaction">, never, D>
): Promise<Opened> => {
  const runtime = ManagedRuntime.make(layer)
  onTestFinished(() => runtime.dispose())
  return {
    ...(await runtime.runPromise(database)),
    run: (body) => runtime.runPromise(Effect.flatMap(CacheStore.CacheStore, body))
  }
}

const churned = isFull ? 100_000 : 5_000

const onSql = (open: () => Promise<() => Promise<Opened>>): void => {
  it(`what is at its end is deleted in the background, by two processes at once (${churned} entries)`, async () => {
    const start = await open()
    const stores = [await start(), await start()] as const
    const { sql } = stores[0]
    await Promise.all(
      stores.map(async ({ run }, n) => {
        for (let from = 0; from < churned; from += 500) {
          const entries = Array.from({ length: 500 }, (_, i) => ({ key: `${n}-${from + i}`, value: i }))
          await run((cache) => cache.setMany("t", entries, { ttl: 1 + (from % 50), tags: [`g${from}`] }))
        }
      })
    )
    await stores[0].run((cache) => cache.set("t", "kept", 1, { ttl: "1 hour", tags: ["kept"] }))
    await stores[0].run((cache) => Effect.flip(cache.getOrSet("t", "failed", Effect.fail("no value"))))
    await until("one row", async () => {
      const rows = await Effect.runPromise(sql<{ readonly n: number }>`select count(*) as n from es_cache_entries`)
      const tags = await Effect.runPromise(sql<{ readonly n: number }>`select count(*) as n from es_cache_tags`)
      return Number(rows[0]?.n) === 1 && Number(tags[0]?.n) === 1
    })
    assert.deepStrictEqual(await stores[1].run((cache) => cache.get("t", "kept")), Option.some(1))
  })

  it("no row is purged before its entry, its ticket and the entries with its tag are at their end", async () => {
    const start = await open()
    const { run, sql } = await start()
    const life = { ttl: "1 hour", grace: "2 hours", tags: ["g"] } as const
    const counts = async () => {
      const rows = await Effect.runPromise(
        sql<Readonly<Record<string, number>>>`select count(*) as entries, count(token) as tickets,
  sum(case when end_ms < kept_ms or end_ms < lease_ms then 1 else 0 end) as early,
  sum(case when tags is not null and kept_ms > (select min(kept_ms) from es_cache_tags) then 1 else 0 end) as untagged
from es_cache_entries`
      )
      return Object.fromEntries(Object.entries(rows[0] ?? {}).map(([name, count]) => [name, Number(count)]))
    }
    const ways: ReadonlyArray<(cache: CacheStore.CacheStoreShape) => Effect.Effect<unknown, unknown>> = [
      (cache) => cache.set("t", "k", 1, life),
      (cache) => cache.setMany("t", [{ key: "k", value: 1 }], life),
      (cache) => cache.setIfAbsent("t", "k", 1, life),
      (cache) => cache.getOrSet("t", "k", Effect.succeed(1), life)
    ]
    for (const way of ways) {
      await run((cache) => cache.reset)
      await run(way)
      assert.deepStrictEqual(await counts(), { entries: 1, tickets: 0, early: 0, untagged: 0 })
      await run((cache) => cache.set("t", "short", 1, { ttl: "1 hour" }))
      await run((cache) => cache.set("t", "long", 1, { ttl: "1 hour" }))
      await run((cache) => cache.set("t", "expired", 1, life))
      const started = Effect.unsafeMakeLatch()
      const going = Effect.unsafeMakeLatch()
      const load = () => Effect.as(Effect.zipRight(started.open, going.await), new Map())
      await run((cache) => cache.getOrSetMany("t", ["short", "long"], load, { refreshAhead: "1 day" }))
      await Effect.runPromise(started.await)
      // A ticket beside an entry that ends before it, and beside one that ends after it.
      await run((cache) => cache.touch("t", "short", 1))
      await run((cache) => cache.touch("t", "long", "3 hours"))
      // The tag would outlive the time to live, but not the grace after it.
      await run((cache) => cache.touch("t", "k", "5 hours"))
      await run((cache) => cache.expire("t", { keys: ["expired"] }))
      assert.deepStrictEqual(await counts(), { entries: 4, tickets: 2, early: 0, untagged: 0 })
      await Effect.runPromise(going.open)
    }
  })

  it("an invalidation inside a transaction takes effect with its commit, and not with a rollback", async () => {
    const start = await open()
    const [here, there] = [await start(), await start()] as const
    for (const commits of [true, false]) {
      await here.run((cache) => cache.set("t", "k", 1, { tags: ["g"] }))
      await here.run((cache) => cache.set("t", "l", 1, { tags: ["h"] }))
      const exit = await Effect.runPromiseExit(
        here.transaction(
          Effect.gen(function* () {
            yield* Effect.promise(() => Promise.resolve())
            const cache = yield* Effect.promise(() => here.run(Effect.succeed))
            yield* cache.invalidate("t", { keys: ["k"], tags: ["h"] })
            assert.ok(Option.isNone(yield* cache.get("t", "k")))
            assert.ok(Option.isNone(yield* cache.get("t", "l")))
            const outside = yield* Effect.promise(() => there.run((cache) => cache.getMany("t", ["k", "l"])))
            assert.strictEqual(outside.size, 2)
            if (!commits) yield* Effect.fail("rolled back")
          })
        )
      )
      assert.strictEqual(Exit.isSuccess(exit), commits)
      for (const { run } of [here, there]) {
        assert.strictEqual((await run((cache) => cache.getMany("t", ["k", "l"]))).size, commits ? 0 : 2)
      }
    }
  })

  it("getOrSet inside a transaction loads for itself and stores nothing", async () => {
    const start = await open()
    const { run, transaction } = await start()
    const cache = await run(Effect.succeed)
    const loaded = await Effect.runPromise(
      transaction(
        Effect.gen(function* () {
          const one = yield* cache.getOrSet("t", "k", Effect.succeed("uncommitted"))
          const many = yield* cache.getOrSetMany("t", ["k", "l"], (keys) =>
            Effect.succeed(new Map(keys.map((key) => [key, "uncommitted"])))
          )
          return [one, many.size]
        })
      )
    )
    assert.deepStrictEqual(loaded, ["uncommitted", 2])
    assert.strictEqual((await run((cache) => cache.getMany("t", ["k", "l"]))).size, 0)
  })

  it("callers that set, remove and load the same keys in any order run into no deadlock", async () => {
    const start = await open()
    const stores = [await start(), await start()] as const
    const keys = Array.from({ length: 20 }, (_, i) => `k${i}`)
    await Promise.all(
      Array.from({ length: 8 }, async (_, caller) => {
        const { run } = stores[caller % 2] as Opened
        for (let i = 0; i < 4; i++) {
          const order = caller % 2 === 0 ? keys : keys.toReversed()
          await run((cache) =>
            Effect.gen(function* () {
              const entries = order.map((key) => ({ key, value: i }))
              yield* cache.setMany("t", entries, { tags: order.slice(0, 5), ttl: 5, grace: 5 })
              yield* cache.getOrSetMany("t", order, (keys) => Effect.succeed(new Map(keys.map((key) => [key, i]))), {
                tags: order.slice(3, 8)
              })
              yield* cache.invalidate("t", { keys: order.slice(0, 10), tags: order.slice(0, 3) })
              yield* cache.expire("t", { keys: order.slice(5, 15), tags: order.slice(2, 5) })
            })
          )
        }
      })
    )
  })
}

describe("the CacheStore on SQLite", () => {
  onSql(async () => {
    const options = { filename: path.join(temporaryDirectory(), "cache.db"), pool: { maxOpenConns: 4 } }
    return () =>
      opened(
        CacheStoreSqlite.layer(options),
        Effect.map(SqliteDatabase.SqliteDatabase, ({ sql, transaction }) => ({ sql, transaction }))
      )
  })
})

describePg("the CacheStore on PostgreSQL", () => {
  onSql(async () => {
    const url = Redacted.make(await freshDatabase())
    return () =>
      opened(
        CacheStorePg.layer({ url }),
        Effect.map(PgDatabase.PgDatabase, ({ sql, transaction }) => ({
          sql,
          transaction: <A, E>(self: Effect.Effect<A, E>) => transaction(self)
        }))
      )
  })
})
