/**
 * One of several processes that use a cache. `WORKER_MODE=hold`: loads the key, says so, and goes on a moment after it
 * was let go on by the clock. `WORKER_MODE=race`: tries to set each of many keys first, and reports which it has set.
 * `WORKER_MODE=churn`: writes entries that live for seconds, four times a second, and uses keys and tags in common with
 * its neighbour, in another order each time; reports how many entries it has written, and dies of the first error.
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

const shuffled = <A>(values: ReadonlyArray<A>): ReadonlyArray<A> =>
  values
    .map((value) => ({ value, at: Math.random() }))
    .sort((a, b) => a.at - b.at)
    .map(({ value }) => value)

const numbers = (count: number) => Array.from({ length: count }, (_, i) => i)

const churn: Effect.Effect<void, unknown, CacheStore.CacheStore> = Effect.gen(function* () {
  const cache = yield* CacheStore.CacheStore
  const { WORKER_CHURN_MS, WORKER_ROUNDS } = process.env
  const until = Date.now() + Number(WORKER_CHURN_MS)
  const rounds = Number(WORKER_ROUNDS)
  const common = numbers(10).map((i) => `common-${i}`)
  const tags = numbers(5).map((i) => `common-${i}`)
  const each = 20
  let written = 0
  for (let round = 0; round < rounds || Date.now() < until; round++) {
    const own = numbers(each).map((i) => `${process.pid}-${round}-${i}`)
    const ttl = 1 + Math.floor(Math.random() * 4_000)
    yield* cache.setMany(
      "t",
      own.map((key) => ({ key, value: key })),
      { ttl, tags: [`own-${process.pid}-${round}`, `common-${round % 5}`] }
    )
    written += each
    const load = (keys: ReadonlyArray<string>) => Effect.succeed(new Map(keys.map((key) => [key, round])))
    yield* cache.getOrSetMany("t", shuffled(common), load, { ttl: 300, grace: 300, tags: shuffled(tags).slice(0, 2) })
    yield* cache.setMany(
      "t",
      shuffled(common)
        .slice(0, 5)
        .map((key) => ({ key, value: round })),
      { ttl: 300, tags: shuffled(tags).slice(0, 2) }
    )
    yield* cache.expire("t", { keys: shuffled(common).slice(0, 3), tags: shuffled(tags).slice(0, 1) })
    yield* cache.invalidate("t", { keys: shuffled(common).slice(0, 3), tags: shuffled(tags).slice(0, 2) })
    yield* cache.touch("t", own[0] as string, ttl)
    yield* cache.deleteMany("t", own.slice(15))
    yield* Effect.flip(cache.getOrSet("t", `failed-${process.pid}-${round}`, Effect.fail("no value")))
    yield* Effect.sleep(250)
  }
  say(String(written))
})

const modes: Readonly<Record<string, typeof hold>> = { race, churn }

Effect.runPromise(Effect.provide(modes[WORKER_MODE ?? ""] ?? hold, await layerOf()))
