/**
 * One of several processes that use a cache. `WORKER_MODE=hold`: loads the key, says so, and goes on a moment after it
 * was let go on by the clock. `WORKER_MODE=race`: tries to set each of many keys first, and reports which it has set.
 */
import { writeSync } from "node:fs"
import { Effect, type Layer, Redacted } from "effect"
import { CacheStore } from "effect-stores"

const { WORKER_KEY = "k", WORKER_MODE, WORKER_PG_URL, WORKER_REDIS_URL, WORKER_SQLITE_FILE } = process.env

const lease = Number(process.env.WORKER_LEASE_MS ?? 400)

const say = (line: string): void => void writeSync(1, `${line}\n`)

/** Only the driver that is used is loaded: start-up is most of a short worker's life. */
const layerOf = async (): Promise<Layer.Layer<CacheStore.CacheStore, unknown>> => {
  if (WORKER_SQLITE_FILE !== undefined) {
    const { CacheStoreSqlite } = await import("effect-stores/sqlite")
    return CacheStoreSqlite.layer({ filename: WORKER_SQLITE_FILE, lease })
  }
  if (WORKER_PG_URL !== undefined) {
    const { CacheStorePg } = await import("effect-stores/pg")
    return CacheStorePg.layer({ url: Redacted.make(WORKER_PG_URL), lease })
  }
  const { CacheStoreRedis } = await import("effect-stores/redis")
  return CacheStoreRedis.layer({ url: Redacted.make(WORKER_REDIS_URL ?? ""), lease })
}

const load = Effect.gen(function* () {
  say("loading")
  yield* Effect.sleep(Number(process.env.WORKER_LOAD_MS ?? 60_000))
  return "old"
})

const hold: Effect.Effect<void, unknown, CacheStore.CacheStore> = Effect.flatMap(CacheStore.CacheStore, (cache) =>
  Effect.map(cache.getOrSet("t", WORKER_KEY, load, { ttl: "1 hour" }), (value) => say(`done ${value}`))
)

const race: Effect.Effect<void, unknown, CacheStore.CacheStore> = Effect.gen(function* () {
  const cache = yield* CacheStore.CacheStore
  const won: Array<string> = []
  const racer = Effect.forEach(Array.from({ length: 25 }), (_, i) =>
    Effect.map(cache.setIfAbsent("t", `race-${i}`, process.pid, { tags: i % 2 === 0 ? [] : ["g"] }), (did) => {
      if (did) won.push(`race-${i}`)
    })
  )
  yield* Effect.all(
    Array.from({ length: 16 }, () => racer),
    { concurrency: "unbounded" }
  )
  say(JSON.stringify(won))
})

Effect.runPromise(Effect.provide(WORKER_MODE === "race" ? race : hold, await layerOf()))
