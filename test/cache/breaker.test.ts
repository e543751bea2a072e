/**
 * How long `getOrSet` leaves a backend alone that was unavailable, by a clock that the test holds.
 */
import assert from "node:assert/strict"
import { it } from "@effect/vitest"
import { Effect } from "effect"
import { CacheStoreEncoded, Errors } from "effect-stores"
import { CacheStoreMemory } from "effect-stores/memory"
import { afterEach, beforeEach, describe, vi } from "vitest"

const unavailable = new Errors.StoreUnavailable({ operation: "get", retryable: true, cause: new Error("away") })

describe("a backend that was unavailable", () => {
  beforeEach(() => {
    vi.useFakeTimers({ toFake: ["performance"] })
  })
  afterEach(() => {
    vi.useRealTimers()
  })

  it.scopedLive("is asked by nobody for half a second, then by one probe, and by all when that succeeds", () =>
    Effect.gen(function* () {
      const { encoded } = yield* CacheStoreMemory.makeEncoded()
      let asked = 0
      let isAway = true
      const get: CacheStoreEncoded.Encoded["get"] = (place, left) =>
        Effect.suspend(() => {
          asked++
          return isAway ? Effect.fail(unavailable) : encoded.get(place, left)
        })
      const cache = yield* CacheStoreEncoded.make({ ...encoded, get }, { system: "memory" })
      const probed = Effect.promise(() => new Promise((resolve) => setImmediate(resolve)))
      /** How often the backend was asked by five calls, a probe that they have begun included. */
      const asks = Effect.gen(function* () {
        const before = asked
        for (let i = 0; i < 5; i++) assert.strictEqual(yield* cache.getOrSet("t", "k", Effect.succeed(i)), i)
        yield* probed
        return asked - before
      })
      assert.strictEqual(yield* asks, 1)
      for (let round = 0; round < 3; round++) {
        vi.advanceTimersByTime(499)
        assert.strictEqual(yield* asks, 0)
        vi.advanceTimersByTime(1)
        assert.strictEqual(yield* asks, 1)
      }
      isAway = false
      vi.advanceTimersByTime(500)
      assert.strictEqual(yield* cache.getOrSet("t", "l", Effect.succeed("probing")), "probing")
      yield* probed
      const before = asked
      assert.strictEqual(yield* cache.getOrSet("t", "m", Effect.succeed("stored")), "stored")
      assert.strictEqual(yield* cache.getOrSet("t", "m", Effect.die("loaded again")), "stored")
      assert.strictEqual(asked - before, 2)
    })
  )

  it.scopedLive("is left alone too when it was a load's end that found it so", () =>
    Effect.gen(function* () {
      const { encoded } = yield* CacheStoreMemory.makeEncoded()
      let asked = 0
      const asking = <A, E>(self: Effect.Effect<A, E>) =>
        Effect.suspend(() => {
          asked++
          return self
        })
      const cache = yield* CacheStoreEncoded.make(
        {
          ...encoded,
          get: (place, left) => asking(encoded.get(place, left)),
          begin: (request) => asking(encoded.begin(request)),
          settle: () => asking(Effect.fail(unavailable))
        },
        { system: "memory" }
      )
      assert.strictEqual(yield* cache.getOrSet("t", "k", Effect.succeed("loaded")), "loaded")
      const before = asked
      assert.ok(before > 0)
      assert.strictEqual(yield* cache.getOrSet("t", "k", Effect.succeed("again")), "again")
      assert.strictEqual(asked, before)
    })
  )
})
