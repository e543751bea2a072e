/**
 * What the CacheStore in memory adds to the contract: its bounds, the Clock, and what it is told by metrics.
 */
import assert from "node:assert/strict"
import { setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"
import { it } from "@effect/vitest"
import { Duration, Effect, FastCheck, Fiber, Layer, Metric, Option, TestClock } from "effect"
import { CacheStore, CacheStoreEncoded } from "effect-stores"
import { CacheStoreMemory } from "effect-stores/memory"
import { describe } from "vitest"

/** Of the process of this file, which was not started with it. */
const collectGarbage: () => void = (() => {
  setFlagsFromString("--expose-gc")
  return runInNewContext("gc")
})()

const bounded = (bounds: CacheStoreMemory.Bounds) =>
  Effect.gen(function* () {
    const { encoded, size } = yield* CacheStoreMemory.makeEncoded(bounds)
    return { cache: yield* CacheStoreEncoded.make(encoded, { system: "memory" }), size }
  })

/** Bytes of an entry with these texts. */
const bytesOf = (...texts: ReadonlyArray<string>) => texts.reduce((sum, text) => sum + Buffer.byteLength(text), 0)

describe("the bounds of the CacheStore in memory", () => {
  it.scoped("the number of entries is held, and the least recently used one goes", () =>
    Effect.gen(function* () {
      const { cache, size } = yield* bounded({ maxEntries: 3 })
      for (const key of ["a", "b", "c"]) yield* cache.set("t", key, 0)
      yield* cache.get("t", "a")
      yield* cache.getOrSet("t", "b", Effect.die("loaded"))
      yield* cache.set("t", "d", 0)
      assert.deepStrictEqual([...(yield* cache.getMany("t", ["a", "b", "c", "d"])).keys()].sort(), ["a", "b", "d"])
      assert.strictEqual((yield* size).entries, 3)
    })
  )

  it.scoped("bytes are the sum of the texts, exactly, however often an entry is overwritten", () =>
    Effect.gen(function* () {
      const { cache, size } = yield* bounded({ maxBytes: 1_000 })
      for (let i = 0; i < 10_000; i++) yield* cache.set("t", "k", "x".repeat(i % 100), { tags: ["é"] })
      assert.deepStrictEqual(yield* size, { entries: 1, bytes: bytesOf("t", "k", JSON.stringify("x".repeat(99)), "é") })
      yield* cache.delete("t", "k")
      assert.deepStrictEqual(yield* size, { entries: 0, bytes: 0 })
    })
  )

  it.scoped("entries that fill the bytes to the last one stay, and one byte more makes the oldest go", () =>
    Effect.gen(function* () {
      const each = bytesOf("t", "a", "1")
      const { cache, size } = yield* bounded({ maxBytes: 3 * each })
      for (const key of ["a", "b", "c"]) yield* cache.set("t", key, 1)
      assert.deepStrictEqual(yield* size, { entries: 3, bytes: 3 * each })
      yield* cache.set("t", "c", 10)
      assert.deepStrictEqual([...(yield* cache.getMany("t", ["a", "b", "c"])).keys()], ["b", "c"])
    })
  )

  it.scoped("a port that was wrapped reads its own values, and the store beneath still its own", () =>
    Effect.gen(function* () {
      const { cache } = yield* bounded({})
      const wrapped = yield* CacheStoreEncoded.relift(cache, (encoded) =>
        Effect.succeed({
          ...encoded,
          get: (place, left) =>
            Effect.map(encoded.get(place, left), (entry) => entry && { ...entry, value: `[${entry.value}]` })
        })
      )
      yield* cache.set("t", "k", 1)
      for (const [store, value] of [
        [cache, 1],
        [wrapped, [1]],
        [cache, 1],
        [wrapped, [1]]
      ] as const) {
        assert.deepStrictEqual(yield* store.get("t", "k"), Option.some(value))
      }
    })
  )

  it.effect("the parsed form, which no bound counts, is kept of texts that it makes little larger", () =>
    Effect.gen(function* () {
      const { encoded } = yield* CacheStoreMemory.makeEncoded()
      const isKept = (value: string, keyId: string | null = null) =>
        Effect.gen(function* () {
          const life = { ttlMs: 1_000, graceMs: 0, tags: [] }
          yield* encoded.set([{ tenantId: "t", key: "k", value, keyId, ...life }])
          return (yield* encoded.get({ tenantId: "t", key: "k" }, false))?.parsed !== undefined
        })
      const order = { id: "order-1", total: 12.5, lines: [1, 2, 3], note: "n".repeat(200) }
      for (const kept of ["1", "[]", '{"a":[1]}', JSON.stringify(order), JSON.stringify("x".repeat(1_022))]) {
        assert.strictEqual(yield* isKept(kept), true, kept)
      }
      const list = (part: string, count: number) => `[${Array.from({ length: count }, () => part).join(",")}]`
      for (const none of [list("{}", 10), list("[]", 341), list("0", 500), JSON.stringify("x".repeat(1_023))]) {
        assert.strictEqual(yield* isKept(none), false, none)
      }
      assert.strictEqual(yield* isKept("1", "sealed"), false)
    })
  )

  it.scoped("of tags that no entry has any more nothing is left", () =>
    Effect.gen(function* () {
      const { cache } = yield* bounded({ maxEntries: 10 })
      const used = () => {
        collectGarbage()
        return process.memoryUsage().heapUsed
      }
      const tagged = (from: number) =>
        Effect.gen(function* () {
          for (let n = from; n < from + 100_000; n += 5) {
            const tags = Array.from({ length: 5 }, (_, i) => `tag-${n + i}`)
            yield* cache.set(`tenant-${n}`, "k", 1, { tags })
          }
        })
      yield* tagged(0)
      const before = used()
      yield* tagged(100_000)
      // An empty set for each of them, or an empty map for each tenant, would be more.
      assert.ok(used() - before < 5 * 2 ** 20, `${used() - before} bytes more`)
    })
  )

  it.scoped("a value that is larger than the bound is not stored, and makes nobody go", () =>
    Effect.gen(function* () {
      const { cache, size } = yield* bounded({ maxBytes: 100 })
      yield* cache.set("t", "a", 1)
      yield* cache.set("t", "b", 2)
      const before = yield* size
      yield* cache.set("t", "c", "x".repeat(100))
      assert.deepStrictEqual(yield* size, before)
      assert.deepStrictEqual(yield* cache.get("t", "c"), Option.none())
      assert.strictEqual(yield* cache.getOrSet("t", "d", Effect.succeed("y".repeat(100))), "y".repeat(100))
      // It has replaced what was there all the same.
      yield* cache.set("t", "b", "x".repeat(100))
      assert.deepStrictEqual([...(yield* cache.getMany("t", ["a", "b"])).keys()], ["a"])
    })
  )

  it.scoped("whatever happens, the bounds hold and the sums are right", () =>
    Effect.gen(function* () {
      const step = FastCheck.record({
        op: FastCheck.constantFrom("set", "set", "set", "get", "delete", "tag", "expire", "clear"),
        tenant: FastCheck.constantFrom("t", "ü"),
        key: FastCheck.constantFrom("a", "b", "c", "d", "e"),
        length: FastCheck.nat({ max: 60 })
      })
      yield* Effect.promise(() =>
        FastCheck.assert(
          FastCheck.asyncProperty(FastCheck.array(step, { maxLength: 30, size: "max" }), (steps) =>
            Effect.gen(function* () {
              const { cache, size } = yield* bounded({ maxEntries: 4, maxBytes: 120 })
              for (const { key, length, op, tenant } of steps) {
                if (op === "set") yield* cache.set(tenant, key, "x".repeat(length), { ttl: "1 hour", tags: ["g"] })
                else if (op === "get") yield* cache.get(tenant, key)
                else if (op === "delete") yield* cache.delete(tenant, key)
                else if (op === "tag") yield* cache.invalidate(tenant, { tags: ["g"] })
                else if (op === "expire") yield* cache.expire(tenant, { keys: [key] })
                else yield* cache.clear(tenant)
                const { bytes, entries } = yield* size
                assert.ok(entries <= 4)
                assert.ok(bytes <= 120)
                let sum = 0
                let count = 0
                for (const tenant of ["t", "ü"]) {
                  // A look changes the order of use, and nothing else.
                  for (const [key, value] of yield* cache.getMany(tenant, ["a", "b", "c", "d", "e"])) {
                    sum += bytesOf(tenant, key, JSON.stringify(value), "g")
                    count++
                  }
                }
                assert.deepStrictEqual({ bytes, entries }, { bytes: sum, entries: count })
              }
            }).pipe(Effect.scoped, Effect.runPromise)
          ),
          { numRuns: 30 }
        )
      )
    })
  )

  it.effect("bounds that make no sense are refused", () =>
    Effect.gen(function* () {
      for (const [what, options] of [
        ["maxEntries", { maxEntries: 0 }],
        ["maxBytes", { maxBytes: 1.5 }],
        ["a key of options", { maxByte: 1 }]
      ] as const) {
        const error = yield* Effect.flip(Layer.launch(CacheStoreMemory.layer(options as CacheStoreMemory.Options)))
        assert.strictEqual(error.what, what)
      }
    })
  )
})

describe("time in memory", () => {
  it.effect("a time to live is exact by the Clock, from a millisecond to for ever", () =>
    Effect.gen(function* () {
      const cache = yield* CacheStore.CacheStore
      for (const ms of [1, 2, 1_000, 3_600_000, 36_525 * 86_400_000]) {
        yield* cache.set("t", "k", 1, { ttl: ms })
        yield* TestClock.adjust(ms - 1)
        assert.ok(Option.isSome(yield* cache.get("t", "k")), `${ms}`)
        yield* TestClock.adjust(1)
        assert.ok(Option.isNone(yield* cache.get("t", "k")), `${ms}`)
      }
      yield* cache.set("t", "k", 1, { ttl: Duration.infinity })
      yield* TestClock.adjust(Duration.days(1_000_000))
      assert.ok(Option.isSome(yield* cache.get("t", "k")))
    }).pipe(Effect.provide(CacheStoreMemory.layer()))
  )

  it.effect("a load that has failed holds the next one up only where there is a stale value to serve", () =>
    Effect.gen(function* () {
      const cache = yield* CacheStore.CacheStore
      const failing = Effect.fail("no value")
      const options = { softTimeout: Duration.infinity }
      // The time stands still: whoever waited would wait for ever.
      assert.strictEqual(yield* Effect.flip(cache.getOrSet("t", "k", failing)), "no value")
      assert.strictEqual(yield* cache.getOrSet("t", "k", Effect.succeed("next")), "next")
      yield* cache.set("t", "l", "old", { ttl: 1, grace: "1 day" })
      yield* TestClock.adjust(1)
      assert.strictEqual(yield* cache.getOrSet("t", "l", failing, options), "old")
      const next = yield* Effect.fork(cache.getOrSet("t", "l", Effect.succeed("new"), options))
      yield* TestClock.adjust(999)
      assert.strictEqual(next.unsafePoll(), null)
      yield* TestClock.adjust(101)
      assert.strictEqual(yield* Fiber.join(next), "new")
    }).pipe(Effect.provide(CacheStoreMemory.layer()))
  )

  it.effect("soft and hard timeouts follow the Clock", () =>
    Effect.gen(function* () {
      const cache = yield* CacheStore.CacheStore
      yield* cache.set("t", "k", "old", { ttl: 1, grace: "1 day" })
      yield* TestClock.adjust(1)
      const load = Effect.as(Effect.sleep("10 seconds"), "new")
      const caller = yield* Effect.fork(cache.getOrSet("t", "k", load, { softTimeout: "1 second", ttl: "1 hour" }))
      yield* TestClock.adjust(999)
      assert.strictEqual(caller.unsafePoll(), null)
      yield* TestClock.adjust(1)
      assert.strictEqual(yield* Fiber.join(caller), "old")
      yield* TestClock.adjust("9 seconds")
      assert.deepStrictEqual(yield* cache.get("t", "k"), Option.some("new"))
      const late = yield* Effect.fork(Effect.flip(cache.getOrSet("t", "l", Effect.never)))
      yield* TestClock.adjust("29 seconds")
      assert.strictEqual(late.unsafePoll(), null)
      yield* TestClock.adjust("1 second")
      assert.strictEqual((yield* Fiber.join(late))._tag, "LoadTimeout")
    }).pipe(Effect.provide(CacheStoreMemory.layer()))
  )
})

describe("metrics", () => {
  const reads = Metric.counter("effect_stores_cache_reads", {
    description: "Values asked for, by what was found",
    incremental: true
  })
  const count = (outcome: string) =>
    Effect.map(Metric.value(Metric.tagged(reads, "outcome", outcome)), ({ count }) => count)

  it.effect("hits, misses and stale values are counted", () =>
    Effect.gen(function* () {
      const cache = yield* CacheStore.CacheStore
      const counts = Effect.all([count("hit"), count("miss"), count("stale")])
      const before = yield* counts
      yield* cache.get("t", "k")
      yield* cache.set("t", "k", 1, { ttl: 1, grace: "1 hour" })
      yield* cache.get("t", "k")
      yield* TestClock.adjust(1)
      yield* cache.getOrSet("t", "k", Effect.never)
      const after = yield* counts
      assert.deepStrictEqual(
        after.map((count, i) => count - (before[i] ?? 0)),
        [1, 2, 1]
      )
    }).pipe(Effect.provide(CacheStoreMemory.layer()))
  )

  it.scoped("of many keys each is counted, and what could not be read once more by itself", () =>
    Effect.gen(function* () {
      const { encoded } = yield* CacheStoreMemory.makeEncoded()
      const cache = yield* CacheStoreEncoded.make(encoded, { system: "memory" })
      const undecodable = Metric.counter("effect_stores_cache_undecodable", {
        description: "Stored values that could not be read, and counted as absent",
        incremental: true
      })
      const counts = Effect.all([count("hit"), count("miss"), Effect.map(Metric.value(undecodable), (at) => at.count)])
      for (const [key, value] of [
        ["a", "1"],
        ["b", "null"],
        ["c", "{"]
      ] as const) {
        yield* encoded.set([{ tenantId: "t", key, value, keyId: null, ttlMs: 1_000, graceMs: 0, tags: [] }])
      }
      const before = yield* counts
      yield* cache.getMany("t", ["a", "b", "c", "d", "e"])
      const after = yield* counts
      assert.deepStrictEqual(
        after.map((count, i) => count - (before[i] ?? 0)),
        [2, 3, 1]
      )
    })
  )
})
