/**
 * Contract of entries: get, set, many at once, setIfAbsent, touch, values, and times to live.
 */
import assert from "node:assert/strict"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { CacheStore, type LoadError, type WriteError } from "../../CacheStore.js"
import type { Json } from "../../Json.js"
import { collect, failsWith, range } from "../suite.js"
import type { Test } from "./fixtures.js"
import { assertAbsent, eventually, freshTenant, held, hour, keysOf, unexpected, valueOf } from "./fixtures.js"

const values: Readonly<Record<string, Json>> = {
  null: null,
  false: false,
  zero: 0,
  "a number of many digits": 0.1 + 0.2,
  "an empty text": "",
  "NUL and lone surrogates": "\0 \ud800 \udc00",
  "text of many scripts": "Ελλάδα \u{1f600} e\u0301 \u202e",
  "a deep array": [[[[[[[[1]]]]]]]],
  "keys in an order of their own": { b: 1, a: 2, "": 3, "1": 4 },
  "a text of 1 MiB": "ü".repeat(512 * 1024)
}

export const entries = (test: Test): void => {
  for (const [name, value] of Object.entries(values)) {
    test(`${name} comes back as it was set`, () =>
      Effect.gen(function* () {
        const cache = yield* CacheStore
        const tenantId = freshTenant()
        yield* cache.set(tenantId, "k", value)
        assert.deepEqual(yield* cache.get(tenantId, "k"), Option.some(value))
        assert.deepEqual(yield* cache.getMany(tenantId, ["k"]), new Map([["k", value]]))
        assert.deepEqual(yield* cache.getOrSet(tenantId, "k", unexpected), value)
      }))
  }

  test("a stored null is a value, and absence is none", () =>
    Effect.gen(function* () {
      const cache = yield* CacheStore
      const tenantId = freshTenant()
      yield* assertAbsent(cache, tenantId, "k")
      yield* cache.set(tenantId, "k", null)
      assert.deepEqual(yield* cache.get(tenantId, "k"), Option.some(null))
      assert.equal(yield* cache.getOrSet(tenantId, "k", unexpected), null)
      assert.equal(yield* cache.setIfAbsent(tenantId, "k", 1), false)
    }))

  test("what a caller does with a value changes it for nobody else", () =>
    Effect.gen(function* () {
      const cache = yield* CacheStore
      const tenantId = freshTenant()
      const given = { list: [1] }
      yield* cache.set(tenantId, "k", given)
      given.list.push(2)
      const first = (yield* valueOf(cache, tenantId, "k")) as { list: Array<number> }
      first.list.push(3)
      assert.deepEqual(yield* valueOf(cache, tenantId, "k"), { list: [1] })
      const loaded = (yield* cache.getOrSet(
        tenantId,
        "l",
        Effect.sync(() => given)
      )) as { list: Array<number> }
      loaded.list.push(4)
      assert.deepEqual(yield* valueOf(cache, tenantId, "l"), { list: [1, 2] })
    }))

  test("a set replaces value, time to live, grace and tags", () =>
    Effect.gen(function* () {
      const cache = yield* CacheStore
      const tenantId = freshTenant()
      yield* cache.set(tenantId, "k", 1, { tags: ["old"], grace: hour, ttl: hour })
      yield* cache.set(tenantId, "k", 2, { tags: ["new"], ttl: Duration.infinity })
      yield* cache.invalidate(tenantId, { tags: ["old"] })
      assert.equal(yield* valueOf(cache, tenantId, "k"), 2)
      yield* cache.invalidate(tenantId, { tags: ["new"] })
      yield* assertAbsent(cache, tenantId, "k")
    }))

  test("getMany gives what there is, by key, and asks for a key that comes twice once", () =>
    Effect.gen(function* () {
      const cache = yield* CacheStore
      const tenantId = freshTenant()
      yield* cache.set(tenantId, "a", 1)
      yield* cache.set(tenantId, "b", null, { tags: ["x", "y"] })
      yield* cache.set(tenantId, "c", 3, { grace: hour })
      assert.deepEqual(
        yield* cache.getMany(tenantId, ["c", "a", "none", "b", "a"]),
        new Map<string, Json>([
          ["a", 1],
          ["b", null],
          ["c", 3]
        ])
      )
      assert.deepEqual(yield* cache.getMany(tenantId, []), new Map())
    }))

  test("setMany and getMany of a thousand keys, with and without tags", () =>
    Effect.gen(function* () {
      const cache = yield* CacheStore
      for (const options of [{}, { tags: ["t", "u"], grace: hour }]) {
        const tenantId = freshTenant()
        const keys = range(1, 1_000).map((i) => `key-${i}`)
        yield* cache.setMany(
          tenantId,
          keys.map((key, i) => ({ key, value: { i } })),
          options
        )
        const found = yield* cache.getMany(tenantId, keys)
        assert.equal(found.size, 1_000)
        for (const [i, key] of keys.entries()) assert.deepEqual(found.get(key), { i })
        yield* cache.deleteMany(tenantId, keys.slice(1))
        assert.deepEqual(yield* keysOf(cache, tenantId), ["key-1"])
      }
    }))

  test("setMany refuses a key that is given twice, and stores nothing", () =>
    Effect.gen(function* () {
      const cache = yield* CacheStore
      const tenantId = freshTenant()
      const twice = [1, 2].map((value) => ({ key: "k", value }))
      const error = yield* failsWith(cache.setMany(tenantId, [{ key: "other", value: 0 }, ...twice]), "InvalidInput")
      assert.equal(error.what, "entries[2].key")
      assert.deepEqual(yield* keysOf(cache, tenantId), [])
      yield* cache.setMany(tenantId, [])
    }))

  test("setIfAbsent sets once, of any number that try at the same time", () =>
    Effect.gen(function* () {
      const cache = yield* CacheStore
      for (const options of [{}, { tags: ["t"], grace: hour }]) {
        const tenantId = freshTenant()
        const outcomes = yield* Effect.forEach(
          range(1, 64),
          (i) => Effect.map(cache.setIfAbsent(tenantId, "k", i, options), (done) => (done ? [i] : [])),
          { concurrency: "unbounded" }
        )
        assert.deepEqual(outcomes.flat(), [yield* valueOf(cache, tenantId, "k")])
        assert.equal(yield* cache.setIfAbsent(tenantId, "k", 0, options), false)
      }
    }))

  test("setIfAbsent takes what is removed, at its end or stale for absent", () =>
    Effect.gen(function* () {
      const cache = yield* CacheStore
      const tenantId = freshTenant()
      yield* cache.set(tenantId, "k", 1, { tags: ["t"], grace: hour })
      yield* cache.invalidate(tenantId, { tags: ["t"] })
      assert.equal(yield* cache.setIfAbsent(tenantId, "k", 2, { tags: ["t"], grace: hour }), true)
      yield* cache.expire(tenantId, { tags: ["t"] })
      assert.equal(yield* cache.setIfAbsent(tenantId, "k", 3, { grace: hour }), true)
      yield* cache.expire(tenantId, { keys: ["k"] })
      assert.equal(yield* cache.setIfAbsent(tenantId, "k", 4), true)
      yield* cache.delete(tenantId, "k")
      assert.equal(yield* cache.setIfAbsent(tenantId, "k", 5, { ttl: 1 }), true)
      yield* Effect.sleep(5)
      assert.equal(yield* cache.setIfAbsent(tenantId, "k", 6), true)
      assert.equal(yield* valueOf(cache, tenantId, "k"), 6)
    }))

  for (const [name, options] of Object.entries({
    plain: {},
    "with a grace": { grace: hour },
    "with tags": { tags: ["t"] }
  })) {
    test(`what has lived its time is absent to every operation, before any purge (${name})`, () =>
      Effect.gen(function* () {
        const cache = yield* CacheStore
        const tenantId = freshTenant()
        const { entries: before } = yield* cache.info
        yield* cache.set(tenantId, "k", 1, { ttl: 1, ...options })
        yield* Effect.sleep(5)
        yield* assertAbsent(cache, tenantId, "k")
        assert.equal((yield* cache.getMany(tenantId, ["k"])).size, 0)
        assert.deepEqual(yield* keysOf(cache, tenantId), [])
        assert.equal(yield* cache.count(tenantId), 0)
        assert.ok((yield* cache.info).entries <= before)
        assert.equal(yield* cache.touch(tenantId, "k", hour), false)
        assert.equal(yield* cache.setIfAbsent(tenantId, "k", 2), true)
      }))

    test(`a touch begins the time to live anew, and tells what is absent (${name})`, () =>
      Effect.gen(function* () {
        const cache = yield* CacheStore
        const tenantId = freshTenant()
        assert.equal(yield* cache.touch(tenantId, "k", hour), false)
        yield* cache.set(tenantId, "k", 1, { ttl: 1_000, ...options })
        assert.equal(yield* cache.touch(tenantId, "k", hour), true)
        yield* Effect.sleep(1_100)
        assert.equal(yield* valueOf(cache, tenantId, "k"), 1)
        assert.equal(yield* cache.touch(tenantId, "k", 1), true)
        yield* Effect.sleep(5)
        yield* assertAbsent(cache, tenantId, "k")
        yield* cache.set(tenantId, "k", 1, { ttl: hour, ...options })
        assert.equal(yield* cache.touch(tenantId, "k", Duration.infinity), true)
        yield* cache.delete(tenantId, "k")
        assert.equal(yield* cache.touch(tenantId, "k", hour), false)
      }))
  }

  test("a touched entry keeps its tags and its grace", () =>
    Effect.gen(function* () {
      const cache = yield* CacheStore
      const tenantId = freshTenant()
      yield* cache.set(tenantId, "k", 1, { ttl: "1 minute", grace: hour, tags: ["t"] })
      assert.equal(yield* cache.touch(tenantId, "k", hour), true)
      assert.equal(yield* valueOf(cache, tenantId, "k"), 1)
      yield* cache.expire(tenantId, { tags: ["t"] })
      yield* assertAbsent(cache, tenantId, "k")
      assert.equal(yield* cache.getOrSet(tenantId, "k", Effect.succeed(2)), 1)
      yield* eventually(
        "the refresh",
        Effect.map(valueOf(cache, tenantId, "k"), (value) => value === 2)
      )
    }))

  test("the grace of a touched entry begins at the end of its new time to live", () =>
    Effect.gen(function* () {
      const cache = yield* CacheStore
      const tenantId = freshTenant()
      for (const tags of [[], ["t"]]) {
        yield* cache.set(tenantId, "k", 1, { ttl: hour, grace: hour, tags })
        assert.equal(yield* cache.touch(tenantId, "k", 1), true)
        yield* eventually("the end", Effect.map(cache.get(tenantId, "k"), Option.isNone))
        assert.equal(yield* cache.getOrSet(tenantId, "k", Effect.never, { hardTimeout: 100 }), 1)
      }
    }))

  test("an entry of a short life that has tags is stale for its grace, however it was stored", () =>
    Effect.gen(function* () {
      const cache = yield* CacheStore
      const life = { ttl: 1, grace: hour, tags: ["t"] }
      const ways = {
        set: (tenantId: string) => cache.set(tenantId, "k", 1, life),
        setMany: (tenantId: string) => cache.setMany(tenantId, [{ key: "k", value: 1 }], life),
        setIfAbsent: (tenantId: string) => cache.setIfAbsent(tenantId, "k", 1, life),
        getOrSet: (tenantId: string) => cache.getOrSet(tenantId, "k", Effect.succeed(1), life)
      }
      for (const [name, store] of Object.entries(ways)) {
        const tenantId = freshTenant()
        yield* store(tenantId)
        yield* eventually("the end", Effect.map(cache.get(tenantId, "k"), Option.isNone))
        // A tag that had ended before its entry would take it along.
        yield* Effect.sleep(10)
        const failing = cache.getOrSet(tenantId, "k", Effect.fail("no value"), { softTimeout: Duration.infinity })
        assert.equal(yield* failing, 1, name)
      }
    }))

  test("a touch leaves a load of the key its place, also when the entry ends before the load", () =>
    Effect.gen(function* () {
      const cache = yield* CacheStore
      const tenantId = freshTenant()
      for (const grace of [0, 1]) {
        const key = `k${grace}`
        yield* cache.set(tenantId, key, "old", { ttl: hour, grace })
        const load = yield* held()
        assert.equal(yield* cache.getOrSet(tenantId, key, load.load, { refreshAhead: "2 hours" }), "old")
        yield* load.started
        assert.equal(yield* cache.touch(tenantId, key, 1), true)
        yield* eventually("the end", Effect.map(cache.get(tenantId, key), Option.isNone))
        yield* Effect.sleep(10)
        yield* load.release("new")
        yield* eventually(
          "what was loaded",
          Effect.map(valueOf(cache, tenantId, key), (value) => value === "new")
        )
      }
    }))

  test("a list tells the time to live that is left, infinity of what lives for ever", () =>
    Effect.gen(function* () {
      const cache = yield* CacheStore
      const tenantId = freshTenant()
      const ttls = { ms: Duration.minutes(1), default: undefined, hour, century: Duration.days(36_525) }
      for (const [key, ttl] of Object.entries(ttls)) yield* cache.set(tenantId, key, 0, { ttl, grace: hour })
      yield* cache.set(tenantId, "plain", 0, { ttl: hour })
      yield* cache.set(tenantId, "ever", 0, { ttl: Duration.infinity })
      yield* cache.set(tenantId, "ever graced", 0, { ttl: Duration.infinity, grace: hour, tags: ["t"] })
      const all = yield* collect(cache.list(tenantId))
      const listed = new Map(all.map(({ key, ttl }) => [key, Duration.toMillis(ttl)]))
      const within = (key: string, ms: number) => {
        const left = listed.get(key) ?? 0
        assert.ok(left > ms - 20_000 && left <= ms, `${key} has ${left} of ${ms} ms left`)
      }
      within("ms", 60_000)
      within("default", 60_000)
      within("hour", 3_600_000)
      within("plain", 3_600_000)
      within("century", 36_525 * 86_400_000)
      assert.equal(listed.get("ever"), Number.POSITIVE_INFINITY)
      assert.equal(listed.get("ever graced"), Number.POSITIVE_INFINITY)
    }))

  test("times to live of parts of a millisecond round up, and what is no time to live is refused", () =>
    Effect.gen(function* () {
      const cache = yield* CacheStore
      const tenantId = freshTenant()
      yield* cache.set(tenantId, "k", 1, { ttl: 0.000_1, grace: 0 })
      for (const ttl of [0, -1, Number.NaN, -0, Number.NEGATIVE_INFINITY, "soon", "-1 seconds", 4e12, null]) {
        const given = ttl as Duration.DurationInput
        const calls: ReadonlyArray<Effect.Effect<unknown, LoadError | WriteError>> = [
          cache.set(tenantId, "k", 1, { ttl: given }),
          cache.setIfAbsent(tenantId, "k", 1, { ttl: given }),
          cache.setMany(tenantId, [], { ttl: given }),
          cache.getOrSet(tenantId, "k", unexpected, { ttl: given }),
          cache.touch(tenantId, "k", given)
        ]
        for (const call of calls) {
          const error = yield* failsWith(call, "InvalidInput")
          assert.match(error.what, /^(options\.)?ttl$/, String(ttl))
        }
      }
      for (const grace of [-1, -1n, "-1 seconds", " -1 seconds", [-1, 0]]) {
        const call = cache.set(tenantId, "k", 1, { grace: grace as Duration.DurationInput })
        assert.equal((yield* failsWith(call, "InvalidInput")).what, "options.grace", String(grace))
      }
      for (const grace of [0, 0n, "0 seconds", [0, 0]]) {
        yield* cache.set(tenantId, "k", 1, { grace: grace as Duration.DurationInput })
      }
    }))
}
