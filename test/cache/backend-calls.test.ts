/**
 * What the CacheStore asks of its backend, and when, by a clock that the test holds: names in their order, tickets that
 * are given back and renewed, the loads of other processes, and values that nobody can read.
 */
import assert from "node:assert/strict"
import { it } from "@effect/vitest"
import { Duration, Effect, Fiber, Option, TestClock } from "effect"
import { CacheStoreEncoded, Errors } from "effect-stores"
import { CacheStoreMemory } from "effect-stores/memory"
import { describe } from "vitest"
import { turn } from "../../src/internal/fibers.js"
import { held } from "../../src/testing/cacheStore/fixtures.js"

const unavailable = new Errors.StoreUnavailable({ operation: "begin", retryable: true, cause: new Error("away") })

const unexpected = Effect.dieMessage("this must not be loaded")

interface Asked {
  /** Keys of each request to begin. */
  readonly begun: Array<ReadonlyArray<string>>
  /** Of each request to settle, which tickets store. */
  readonly settled: Array<ReadonlyArray<boolean>>
  /** How many tickets each request to renew was for. */
  readonly renewed: Array<number>
}

/** A process on the given port, and what it has asked of it. */
const processOn = (encoded: CacheStoreEncoded.Encoded, leaseMs?: number) => {
  const asked: Asked = { begun: [], settled: [], renewed: [] }
  const noting: CacheStoreEncoded.Encoded = {
    ...encoded,
    begin: (request) => {
      asked.begun.push(request.keys)
      return encoded.begin(request)
    },
    settle: (settlements) => {
      asked.settled.push(settlements.map(({ write }) => write !== null))
      return encoded.settle(settlements)
    },
    renew: (tickets, leaseMs) => {
      asked.renewed.push(tickets.length)
      return encoded.renew(tickets, leaseMs)
    }
  }
  return Effect.map(CacheStoreEncoded.make(noting, { system: "memory", leaseMs }), (cache) => ({ asked, cache }))
}

const memory = Effect.suspend(() => Effect.map(CacheStoreMemory.makeEncoded(), ({ encoded }) => encoded))

/** Two processes on one cache, and a load that its caller holds. */
const sharing = Effect.gen(function* () {
  const encoded = yield* memory
  return { one: yield* processOn(encoded), two: yield* processOn(encoded), load: yield* held() }
})

const byKey = (keys: ReadonlyArray<string>) => new Map(keys.map((key) => [key, `loaded ${key}`]))

describe("the tickets of a load", () => {
  it.scoped("are settled once with what was loaded", () =>
    Effect.gen(function* () {
      const { asked, cache } = yield* processOn(yield* memory)
      yield* cache.getOrSetMany("t", ["a", "b"], () => Effect.succeed(new Map([["a", 1]])))
      yield* turn
      assert.deepStrictEqual(asked.settled, [[true, false]])
    })
  )

  it.scoped("are given back when nobody waits any more, so that the next caller loads without any wait", () =>
    Effect.gen(function* () {
      const { asked, cache } = yield* processOn(yield* memory)
      const load = yield* held()
      const caller = yield* Effect.fork(cache.getOrSet("t", "k", load.load))
      yield* load.started
      yield* Fiber.interrupt(caller)
      const next = yield* Effect.fork(cache.getOrSet("t", "k", Effect.succeed("next"), { hardTimeout: 1 }))
      yield* turn
      yield* TestClock.adjust(1)
      assert.strictEqual(yield* Fiber.join(next), "next")
      assert.deepStrictEqual(asked.settled, [[false], [true]])
    })
  )

  it.scoped("are renewed three times a lease, and no more when the load has ended", () =>
    Effect.gen(function* () {
      const { asked, cache } = yield* processOn(yield* memory, 300)
      const load = yield* held()
      const caller = yield* Effect.fork(cache.getOrSet("t", "k", load.load))
      yield* load.started
      yield* TestClock.adjust(99)
      assert.deepStrictEqual(asked.renewed, [])
      yield* TestClock.adjust(501)
      assert.deepStrictEqual(asked.renewed, [1, 1, 1, 1, 1, 1])
      yield* load.release("value")
      assert.strictEqual(yield* Fiber.join(caller), "value")
      yield* TestClock.adjust(300)
      assert.strictEqual(asked.renewed.length, 6)
    })
  )

  it.scoped("are none where the backend is away, and it is asked to settle and renew nothing", () =>
    Effect.gen(function* () {
      const encoded = yield* memory
      const { asked, cache } = yield* processOn({ ...encoded, begin: () => Effect.fail(unavailable) }, 300)
      const load = yield* held()
      const caller = yield* Effect.fork(cache.getOrSet("t", "k", load.load))
      yield* load.started
      yield* TestClock.adjust(300)
      yield* load.release("value")
      assert.strictEqual(yield* Fiber.join(caller), "value")
      yield* turn
      assert.deepStrictEqual(asked, { begun: [["k"]], settled: [], renewed: [] })
    })
  )
})

describe("the lease of a load", () => {
  it.effect("is from 100 ms to an hour, and anything else is refused by its name", () =>
    Effect.gen(function* () {
      for (const [lease, leaseMs] of [
        [undefined, undefined],
        [100, 100],
        ["5 seconds", 5_000],
        ["1 hour", 3_600_000]
      ] as const) {
        assert.strictEqual((yield* CacheStoreEncoded.optionsOf("memory", { lease })).leaseMs, leaseMs)
      }
      for (const lease of [0, 99, 3_600_001, Duration.infinity, Number.NaN]) {
        assert.strictEqual((yield* Effect.flip(CacheStoreEncoded.optionsOf("memory", { lease }))).what, "lease")
      }
    })
  )
})

describe("a load that another process has begun", () => {
  it.scoped("is left to it where the callers have their stale value", () =>
    Effect.gen(function* () {
      const { load, one, two } = yield* sharing
      yield* one.cache.set("t", "k", "old", { ttl: 1, grace: "1 hour" })
      yield* TestClock.adjust(1)
      assert.strictEqual(yield* one.cache.getOrSet("t", "k", load.load), "old")
      yield* load.started
      assert.strictEqual(yield* two.cache.getOrSet("t", "k", unexpected), "old")
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(two.asked.begun, [["k"]])
      yield* load.release("new")
      yield* turn
      assert.strictEqual(yield* two.cache.getOrSet("t", "k", unexpected), "new")
    })
  )

  it.scoped("is waited for by those who come later, whoever has left before", () =>
    Effect.gen(function* () {
      const { load, one, two } = yield* sharing
      const first = yield* Effect.fork(
        one.cache.getOrSetMany("t", ["a", "b"], (keys) => Effect.as(load.load, byKey(keys)))
      )
      yield* load.started
      const many = yield* Effect.fork(two.cache.getOrSetMany("t", ["a", "b"], () => unexpected))
      yield* turn
      const single = yield* Effect.fork(two.cache.getOrSet("t", "b", unexpected))
      yield* turn
      // Nobody waits for `a` now, and for `b` it is looked again.
      yield* Fiber.interrupt(many)
      yield* TestClock.adjust(100)
      assert.deepStrictEqual(two.asked.begun.at(-1), ["b"])
      const late = yield* Effect.fork(two.cache.getOrSet("t", "a", unexpected))
      yield* turn
      yield* load.release(undefined)
      yield* Fiber.join(first)
      yield* TestClock.adjust(100)
      assert.strictEqual(yield* Fiber.join(single), "loaded b")
      assert.strictEqual(yield* Fiber.join(late), "loaded a")
    })
  )

  it.scoped("is taken over by who waits, and then ends with the last who does, however others were served", () =>
    Effect.gen(function* () {
      const { load, one, two } = yield* sharing
      yield* one.cache.set("t", "a", "old", { ttl: 1, grace: "1 hour" })
      yield* TestClock.adjust(1)
      const soft = { softTimeout: Duration.infinity }
      const first = yield* Effect.fork(
        one.cache.getOrSetMany("t", ["a", "b"], (keys) => Effect.as(load.load, byKey(keys)), soft)
      )
      yield* load.started
      const next = yield* held()
      // Has its value of `a`, which is stale, and waits for `b`.
      const many = yield* Effect.fork(
        two.cache.getOrSetMany("t", ["a", "b"], (keys) => Effect.as(next.load, byKey(keys)))
      )
      yield* turn
      const single = yield* Effect.fork(two.cache.getOrSet("t", "b", unexpected))
      yield* turn
      yield* Fiber.interrupt(many)
      yield* TestClock.adjust(100)
      assert.deepStrictEqual(two.asked.begun.at(-1), ["b"])
      yield* Fiber.interrupt(first)
      yield* turn
      yield* TestClock.adjust(100)
      yield* next.started
      yield* Fiber.interrupt(single)
      yield* turn
      assert.deepStrictEqual([next.loads, next.interrupts], [1, 1])
    })
  )

  it.scoped("is waited for up to the hard timeout of who waits", () =>
    Effect.gen(function* () {
      const { load, one, two } = yield* sharing
      yield* Effect.fork(one.cache.getOrSet("t", "k", load.load))
      yield* load.started
      const waiting = yield* Effect.fork(Effect.flip(two.cache.getOrSet("t", "k", unexpected, { hardTimeout: 250 })))
      yield* TestClock.adjust(249)
      assert.strictEqual(waiting.unsafePoll(), null)
      yield* TestClock.adjust(1)
      assert.strictEqual((yield* Fiber.join(waiting))._tag, "LoadTimeout")
    })
  )
})

describe("a value that nobody can read", () => {
  for (const [what, payload] of [
    ["was sealed, and looks like JSON", { value: "1", keyId: "key" }],
    ["is no JSON", { value: "{", keyId: null }]
  ] as const) {
    it.scoped(`because it ${what} is absent, and gives way to a load`, () =>
      Effect.gen(function* () {
        const encoded = yield* memory
        const { cache } = yield* processOn(encoded)
        const life = { ttlMs: Duration.toMillis("1 hour"), graceMs: 0, tags: [] }
        const put = encoded.set([{ tenantId: "t", key: "k", ...payload, ...life }])
        yield* put
        assert.deepStrictEqual(yield* cache.get("t", "k"), Option.none())
        assert.deepStrictEqual(yield* cache.getMany("t", ["k"]), new Map())
        assert.strictEqual(yield* cache.getOrSet("t", "k", Effect.succeed("loaded")), "loaded")
        assert.deepStrictEqual(yield* cache.get("t", "k"), Option.some("loaded"))
        yield* put
        const found = yield* cache.getOrSetMany("t", ["k", "l"], (keys) => Effect.succeed(byKey(keys)))
        assert.deepStrictEqual(found, byKey(["k", "l"]))
        assert.deepStrictEqual(yield* cache.getOrSetMany("t", ["k"], () => unexpected), byKey(["k"]))
      })
    )
  }

  it.scoped("gives way in vain where it cannot be removed: it is loaded past", () =>
    Effect.gen(function* () {
      const encoded = yield* memory
      const { asked, cache } = yield* processOn({ ...encoded, remove: () => Effect.fail(unavailable) })
      const life = { ttlMs: Duration.toMillis("1 hour"), graceMs: 0, tags: [] }
      yield* encoded.set([{ tenantId: "t", key: "k", value: "{", keyId: null, ...life }])
      assert.strictEqual(yield* cache.getOrSet("t", "k", Effect.succeed("loaded")), "loaded")
      assert.deepStrictEqual(yield* cache.get("t", "k"), Option.none())
      assert.deepStrictEqual(asked.settled, [])
    })
  )
})

describe("the names of a call", () => {
  const recording = (calls: Array<readonly [string, ReadonlyArray<string>]>) =>
    Effect.flatMap(memory, (encoded) =>
      CacheStoreEncoded.make(
        {
          ...encoded,
          getMany: (tenantId, keys, left) => {
            calls.push(["getMany", keys])
            return encoded.getMany(tenantId, keys, left)
          },
          set: (writes) => {
            calls.push(["set", writes.map(({ key }) => key)], ["tags", writes[0]?.tags ?? []])
            return encoded.set(writes)
          },
          remove: (tenantId, keys) => {
            calls.push(["remove", keys])
            return encoded.remove(tenantId, keys)
          },
          invalidateTags: (tenantId, tags) => {
            calls.push(["invalidateTags", tags])
            return encoded.invalidateTags(tenantId, tags)
          }
        },
        { system: "memory" }
      )
    )

  it.scoped("come to it in one order, each once: who locks several never waits in a circle", () =>
    Effect.gen(function* () {
      for (const names of [
        ["a", "b", "c"],
        ["c", "a", "b"],
        ["b", "c", "c", "a"],
        ["a", "a", "b", "c"]
      ]) {
        const calls: Array<readonly [string, ReadonlyArray<string>]> = []
        const cache = yield* recording(calls)
        yield* cache.getMany("t", names)
        yield* cache.setMany(
          "t",
          [...new Set(names)].map((key) => ({ key, value: 1 })),
          { tags: names }
        )
        yield* cache.deleteMany("t", names)
        yield* cache.invalidate("t", { keys: names, tags: names })
        const order = ["a", "b", "c"]
        // Tags first: what is loaded in between has their new generation.
        const expected = ["getMany", "set", "tags", "remove", "invalidateTags", "remove"]
        assert.deepStrictEqual(
          calls,
          expected.map((call) => [call, order])
        )
      }
    })
  )

  it.scoped("are none: it is not asked", () =>
    Effect.gen(function* () {
      const calls: Array<readonly [string, ReadonlyArray<string>]> = []
      const cache = yield* recording(calls)
      yield* cache.getMany("t", [])
      yield* cache.getOrSetMany("t", [], () => unexpected)
      yield* cache.setMany("t", [])
      yield* cache.deleteMany("t", [])
      yield* cache.invalidate("t", { keys: [] })
      yield* cache.invalidate("t", { tags: [] })
      assert.deepStrictEqual(calls, [])
    })
  )
})
