/**
 * Contract of removal: delete, invalidate, expire, clear, by keys and by tags; and that it wins over loads under way.
 */
import assert from "node:assert/strict"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import type * as Layer from "effect/Layer"
import * as LayerModule from "effect/Layer"
import * as Option from "effect/Option"
import { CacheStore, type CacheStoreShape } from "../../CacheStore.js"
import { failsWith } from "../suite.js"
import type { Test } from "./fixtures.js"
import { assertAbsent, eventually, freshTenant, held, hour, keysOf, valueOf } from "./fixtures.js"

const tags = ["t"]

/** Every way to remove the key `k`, whose tag is `t`. */
const removals: Readonly<
  Record<string, (cache: CacheStoreShape, tenantId: string) => Effect.Effect<unknown, unknown>>
> = {
  delete: (cache, tenantId) => cache.delete(tenantId, "k"),
  deleteMany: (cache, tenantId) => cache.deleteMany(tenantId, ["other", "k"]),
  "invalidate by key": (cache, tenantId) => cache.invalidate(tenantId, { keys: ["k"] }),
  "invalidate by tag": (cache, tenantId) => cache.invalidate(tenantId, { tags: ["other", "t"] }),
  "expire by key": (cache, tenantId) => cache.expire(tenantId, { keys: ["k"] }),
  "expire by tag": (cache, tenantId) => cache.expire(tenantId, { tags: ["t"] }),
  clear: (cache, tenantId) => cache.clear(tenantId)
}

const isExpiry = (name: string): boolean => name.startsWith("expire")

export const removal = <E>(test: Test, layer: Layer.Layer<CacheStore, E>): void => {
  const other = Effect.map(LayerModule.build(layer), (context) => Context.get(context, CacheStore))

  for (const [name, remove] of Object.entries(removals)) {
    test(`${name}: the entry is absent to those who ask after it, and only that entry`, () =>
      Effect.gen(function* () {
        const cache = yield* CacheStore
        const tenantId = freshTenant()
        yield* cache.set(tenantId, "k", 1, { tags })
        if (name !== "clear") yield* cache.set(tenantId, "kk", 2, { tags: ["tt"] })
        const neighbour = freshTenant()
        yield* cache.set(neighbour, "k", 3, { tags })
        yield* remove(cache, tenantId)
        yield* assertAbsent(cache, tenantId, "k")
        assert.deepEqual(yield* keysOf(cache, tenantId), name === "clear" ? [] : ["kk"])
        assert.equal(yield* valueOf(cache, neighbour, "k"), 3)
        // What is not there is removed as well.
        yield* remove(cache, tenantId)
        yield* cache.set(tenantId, "k", 4, { tags })
        assert.equal(yield* valueOf(cache, tenantId, "k"), 4)
      }))

    test(`${name}: with a grace it is ${isExpiry(name) ? "stale" : "gone all the same"}`, () =>
      Effect.gen(function* () {
        const cache = yield* CacheStore
        const tenantId = freshTenant()
        yield* cache.set(tenantId, "k", "old", { tags, grace: hour, ttl: hour })
        yield* remove(cache, tenantId)
        yield* assertAbsent(cache, tenantId, "k")
        const failing = cache.getOrSet(tenantId, "k", Effect.fail("no value"), { softTimeout: Duration.infinity, tags })
        if (isExpiry(name)) assert.equal(yield* failing, "old")
        else assert.equal(yield* Effect.flip(failing), "no value")
      }))

    for (const [where, removing] of [
      ["here", CacheStore],
      ["through another instance", other]
    ] as const) {
      test(`${name} ${where}: a load that was under way is stored for nobody, and given to nobody who asks later`, () =>
        Effect.gen(function* () {
          const cache = yield* CacheStore
          const remover = yield* removing
          const tenantId = freshTenant()
          const old = yield* held()
          const options = { tags, grace: hour }
          const first = yield* Effect.fork(cache.getOrSet(tenantId, "k", old.load, options))
          yield* old.started
          yield* remove(remover, tenantId)
          const later = yield* Effect.fork(cache.getOrSet(tenantId, "k", Effect.succeed("new"), options))
          // One who asked later, and was let into the flight, must be sent again when it is overtaken.
          if (where === "here") assert.equal(yield* Fiber.join(later), "new")
          yield* old.release("old")
          assert.equal(yield* Fiber.join(first), "old")
          assert.equal(yield* Fiber.join(later), "new")
          assert.equal(yield* valueOf(cache, tenantId, "k"), "new")
          assert.equal(yield* valueOf(remover, tenantId, "k"), "new")
        }))
    }
  }

  test("a set during a load wins over what is loaded", () =>
    Effect.gen(function* () {
      for (const remover of [yield* CacheStore, yield* other]) {
        const cache = yield* CacheStore
        for (const set of ["set", "setMany", "setIfAbsent"] as const) {
          const tenantId = freshTenant()
          const old = yield* held()
          const first = yield* Effect.fork(cache.getOrSet(tenantId, "k", old.load))
          yield* old.started
          if (set === "setMany") yield* remover.setMany(tenantId, [{ key: "k", value: "set" }])
          else yield* remover[set](tenantId, "k", "set")
          yield* old.release("old")
          assert.equal(yield* Fiber.join(first), "old")
          assert.equal(yield* valueOf(cache, tenantId, "k"), "set", set)
        }
      }
    }))

  test("whoever asks after a set that has ended again waits for no load that began before it", () =>
    Effect.gen(function* () {
      const cache = yield* CacheStore
      for (const set of ["set", "setMany", "setIfAbsent"] as const) {
        const tenantId = freshTenant()
        const old = yield* held()
        const first = yield* Effect.fork(cache.getOrSet(tenantId, "k", old.load))
        yield* old.started
        if (set === "setMany") yield* cache.setMany(tenantId, [{ key: "k", value: "set" }], { ttl: 1 })
        else yield* cache[set](tenantId, "k", "set", { ttl: 1 })
        yield* eventually("the end", Effect.map(cache.get(tenantId, "k"), Option.isNone))
        assert.equal(yield* cache.getOrSet(tenantId, "k", Effect.succeed("new"), { hardTimeout: "90 seconds" }), "new")
        yield* old.release("old")
        assert.equal(yield* Fiber.join(first), "old")
        assert.equal(yield* valueOf(cache, tenantId, "k"), "new", set)
      }
    }))

  for (const expiry of ["expire by key", "expire by tag"] as const) {
    test(`${expiry}: what is loaded meanwhile is not stored as stale either`, () =>
      Effect.gen(function* () {
        const cache = yield* CacheStore
        for (const remover of [cache, yield* other]) {
          const tenantId = freshTenant()
          const old = yield* held()
          const first = yield* Effect.fork(cache.getOrSet(tenantId, "k", old.load, { tags, grace: hour }))
          yield* old.started
          yield* (removals[expiry] as (typeof removals)[string])(remover, tenantId)
          yield* old.release("old")
          assert.equal(yield* Fiber.join(first), "old")
          const next = cache.getOrSet(tenantId, "k", Effect.fail("no value"), { softTimeout: Duration.infinity })
          assert.equal(yield* Effect.flip(next), "no value")
        }
      }))
  }

  test("a failed load leaves a newer value alone", () =>
    Effect.gen(function* () {
      const cache = yield* CacheStore
      const tenantId = freshTenant()
      const old = yield* held()
      const first = yield* Effect.fork(
        cache.getOrSet(tenantId, "k", Effect.zipRight(old.load, Effect.fail("no value")))
      )
      yield* old.started
      yield* cache.set(tenantId, "k", 99)
      yield* old.release(undefined)
      assert.equal(yield* Effect.flip(Fiber.join(first)), "no value")
      assert.equal(yield* valueOf(cache, tenantId, "k"), 99)
    }))

  test("a removal of something else does nothing to a load", () =>
    Effect.gen(function* () {
      const cache = yield* CacheStore
      const tenantId = freshTenant()
      const load = yield* held()
      const first = yield* Effect.fork(cache.getOrSet(tenantId, "k", load.load, { tags }))
      yield* load.started
      yield* cache.invalidate(tenantId, { keys: ["kk", "K"], tags: ["T", "tt"] })
      yield* cache.invalidate(freshTenant(), { keys: ["k"], tags })
      yield* cache.expire(tenantId, { keys: [], tags: [] })
      yield* cache.clear(freshTenant())
      yield* load.release("value")
      assert.equal(yield* Fiber.join(first), "value")
      assert.equal(yield* valueOf(cache, tenantId, "k"), "value")
    }))

  test("an entry of several tags goes with any of them", () =>
    Effect.gen(function* () {
      const cache = yield* CacheStore
      const tenantId = freshTenant()
      const all = ["a", "b", "c"]
      for (const tag of all) {
        yield* cache.set(tenantId, "k", 1, { tags: all })
        yield* cache.invalidate(tenantId, { tags: [tag] })
        yield* assertAbsent(cache, tenantId, "k")
      }
      yield* cache.set(tenantId, "k", 1, { tags: all })
      yield* cache.set(tenantId, "l", 2, { tags: ["a"] })
      yield* cache.set(tenantId, "m", 3)
      yield* cache.invalidate(tenantId, { tags: ["a"], keys: ["m"] })
      assert.deepEqual(yield* keysOf(cache, tenantId), [])
    }))

  test("expire begins the grace, which makes nothing live longer than it would have", () =>
    Effect.gen(function* () {
      const cache = yield* CacheStore
      const served = (tenantId: string) =>
        Effect.option(
          cache.getOrSet(tenantId, "k", Effect.fail("none"), {
            softTimeout: Duration.infinity,
            hardTimeout: "5 seconds"
          })
        )
      for (const target of [{ keys: ["k"] }, { tags }]) {
        const short = freshTenant()
        yield* cache.set(short, "k", 1, { ttl: hour, grace: 2_000, tags })
        yield* cache.expire(short, target)
        assert.equal((yield* served(short))._tag, "Some")
        yield* Effect.sleep(2_050)
        assert.equal((yield* served(short))._tag, "None")
        // Without a grace it is gone at once.
        const none = freshTenant()
        yield* cache.set(none, "k", 1, { ttl: Duration.infinity, tags })
        yield* cache.expire(none, target)
        assert.equal((yield* served(none))._tag, "None")
        // Expired again, it is no younger.
        const twice = freshTenant()
        yield* cache.set(twice, "k", 1, { ttl: 1, grace: 100, tags })
        yield* Effect.sleep(10)
        yield* cache.expire(twice, target)
        yield* Effect.sleep(100)
        yield* cache.expire(twice, target)
        assert.equal((yield* served(twice))._tag, "None")
      }
    }))

  test("what is expired is refreshed once, while others are served the stale value", () =>
    Effect.gen(function* () {
      const cache = yield* CacheStore
      const tenantId = freshTenant()
      yield* cache.set(tenantId, "k", "old", { ttl: hour, grace: hour })
      yield* cache.expire(tenantId, { keys: ["k"] })
      const load = yield* held()
      const asks = yield* Effect.forEach(
        Array.from({ length: 20 }),
        () => cache.getOrSet(tenantId, "k", load.load, { grace: hour }),
        { concurrency: "unbounded" }
      )
      assert.deepEqual(new Set(asks), new Set(["old"]))
      yield* load.started
      yield* load.release("new")
      yield* eventually(
        "the refresh",
        Effect.map(valueOf(cache, tenantId, "k"), (value) => value === "new")
      )
      assert.equal(load.loads, 1)
    }))

  test("a target without keys and tags is refused", () =>
    Effect.gen(function* () {
      const cache = yield* CacheStore
      assert.equal((yield* failsWith(cache.invalidate("t", {}), "InvalidInput")).what, "target")
      assert.equal((yield* failsWith(cache.expire("t", {}), "InvalidInput")).what, "target")
    }))
}
