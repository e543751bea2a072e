/**
 * Contract of `getOrSet` and `getOrSetMany`: one load for all, whoever is interrupted, however it ends.
 */
import assert from "node:assert/strict"
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import { CacheStore, doNotStore } from "../../CacheStore.js"
import type { Json } from "../../Json.js"
import { failsWith, range } from "../suite.js"
import type { Test } from "./fixtures.js"
import { assertAbsent, eventually, freshTenant, held, hour, joined, unexpected, valueOf } from "./fixtures.js"

class Source extends Context.Tag("effect-stores/testing/Source")<Source, string>() {}

const byKey = (keys: ReadonlyArray<string>): ReadonlyMap<string, unknown> =>
  new Map(keys.map((key) => [key, `loaded ${key}`]))

const present = <A>(value: A | undefined): A => value ?? assert.fail("there is none")

export const loads = <E>(test: Test, layer: Layer.Layer<CacheStore, E>): void => {
  test("a hundred callers of a cold key share one load, and the next finds its value", () =>
    Effect.gen(function* () {
      const cache = yield* CacheStore
      const tenantId = freshTenant()
      const load = yield* held()
      const callers = yield* Effect.forEach(range(1, 100), () => Effect.fork(cache.getOrSet(tenantId, "k", load.load)))
      yield* load.started
      yield* load.release({ a: 1 })
      for (const caller of callers) assert.deepEqual(yield* Fiber.join(caller), { a: 1 })
      assert.equal(load.loads, 1)
      assert.deepEqual(yield* cache.getOrSet(tenantId, "k", unexpected), { a: 1 })
    }))

  test("callers of two instances on the same data share one load", () =>
    Effect.gen(function* () {
      const one = yield* CacheStore
      const two = Context.get(yield* Layer.build(layer), CacheStore)
      const tenantId = freshTenant()
      const load = yield* held()
      const first = yield* Effect.fork(one.getOrSet(tenantId, "k", load.load))
      yield* load.started
      const others = yield* joined(range(1, 8).map(() => two.getOrSet(tenantId, "k", unexpected)))
      yield* load.release("shared")
      for (const caller of [first, ...others]) assert.equal(yield* Fiber.join(caller), "shared")
      assert.equal(load.loads, 1)
    }))

  test("interrupting the first of ten callers does nothing to the others", () =>
    Effect.gen(function* () {
      const cache = yield* CacheStore
      const tenantId = freshTenant()
      const load = yield* held()
      const first = yield* Effect.fork(cache.getOrSet(tenantId, "k", load.load))
      yield* load.started
      const others = yield* joined(range(1, 9).map(() => cache.getOrSet(tenantId, "k", unexpected)))
      yield* Fiber.interrupt(first)
      yield* load.release("value")
      for (const caller of others) assert.equal(yield* Fiber.join(caller), "value")
      assert.deepEqual([load.loads, load.interrupts], [1, 0])
    }))

  test("interrupting all callers interrupts the load, and the next call loads at once", () =>
    Effect.gen(function* () {
      const cache = yield* CacheStore
      const tenantId = freshTenant()
      const load = yield* held()
      const callers = yield* joined(range(1, 10).map(() => cache.getOrSet(tenantId, "k", load.load)))
      yield* load.started
      yield* Fiber.interruptAll(callers)
      const next = yield* Effect.timed(cache.getOrSet(tenantId, "k", Effect.succeed("next")))
      assert.equal(next[1], "next")
      yield* eventually(
        "the interrupt",
        Effect.sync(() => load.interrupts === 1)
      )
    }))

  test("a load whose finalizers take long keeps neither its callers nor the next load", () =>
    Effect.gen(function* () {
      const cache = yield* CacheStore
      const tenantId = freshTenant()
      const load = yield* held()
      const end = yield* held()
      const caller = yield* Effect.fork(
        cache.getOrSet(
          tenantId,
          "k",
          Effect.onInterrupt(load.load, () => end.load)
        )
      )
      yield* load.started
      yield* Fiber.interrupt(caller)
      assert.equal(yield* cache.getOrSet(tenantId, "k", Effect.succeed("next")), "next")
      yield* end.started
      yield* end.release(undefined)
    }))

  test("a load that fails, dies, throws when it is built or interrupts itself leaves nothing locked", () =>
    Effect.gen(function* () {
      const cache = yield* CacheStore
      const endings: Readonly<Record<string, Effect.Effect<unknown, string>>> = {
        fails: Effect.fail("no value"),
        dies: Effect.die(new Error("died")),
        throws: Effect.suspend(() => {
          throw new Error("thrown")
        }),
        "interrupts itself": Effect.interrupt
      }
      for (const [name, load] of Object.entries(endings)) {
        const tenantId = freshTenant()
        const exit = yield* Effect.exit(cache.getOrSet(tenantId, "k", load))
        assert.ok(Exit.isFailure(exit), name)
        if (name === "fails") assert.deepEqual(Cause.failureOption(exit.cause), Option.some("no value"))
        else assert.equal(Cause.isDie(exit.cause), name !== "interrupts itself", name)
        assert.equal(yield* cache.getOrSet(tenantId, "k", Effect.succeed(42)), 42, name)
        const many = yield* Effect.exit(
          cache.getOrSetMany(tenantId, ["m", "n"], () => {
            if (name === "throws") throw new Error("thrown")
            return Effect.as(load, new Map())
          })
        )
        assert.ok(Exit.isFailure(many), name)
        assert.equal((yield* cache.getOrSetMany(tenantId, ["m", "n"], (keys) => Effect.succeed(byKey(keys)))).size, 2)
      }
    }))

  test("all callers of a load that fails get its failure", () =>
    Effect.gen(function* () {
      const cache = yield* CacheStore
      const tenantId = freshTenant()
      const load = yield* held()
      const failing = Effect.zipRight(load.load, Effect.fail("no value"))
      const callers = yield* joined(range(1, 10).map(() => cache.getOrSet(tenantId, "k", failing)))
      yield* load.started
      yield* load.release(undefined)
      for (const caller of callers) assert.equal(yield* Effect.flip(Fiber.join(caller)), "no value")
      assert.equal(load.loads, 1)
    }))

  test("a value that is no JSON is refused, names the place, and is not stored", () =>
    Effect.gen(function* () {
      const cache = yield* CacheStore
      const tenantId = freshTenant()
      const error = yield* failsWith(cache.getOrSet(tenantId, "k", Effect.succeed({ at: new Date(0) })), "InvalidInput")
      assert.equal(error.what, "value.at")
      yield* assertAbsent(cache, tenantId, "k")
      yield* failsWith(cache.getOrSet(tenantId, "k", Effect.succeed(undefined)), "InvalidInput")
      yield* failsWith(
        cache.getOrSetMany(tenantId, ["k"], () => Effect.succeed({ k: 1 } as never as Map<string, unknown>)),
        "InvalidInput"
      )
    }))

  test("doNotStore gives the value to the callers and stores nothing", () =>
    Effect.gen(function* () {
      const cache = yield* CacheStore
      const tenantId = freshTenant()
      const load = yield* held()
      const callers = yield* Effect.forEach(range(1, 5), () =>
        Effect.fork(cache.getOrSet(tenantId, "k", Effect.map(load.load, doNotStore)))
      )
      yield* load.started
      yield* load.release("passing")
      for (const caller of callers) assert.equal(yield* Fiber.join(caller), "passing")
      yield* assertAbsent(cache, tenantId, "k")
      assert.equal(yield* cache.getOrSet(tenantId, "k", Effect.succeed("next")), "next")
    }))

  test("the loader runs with the services of the caller that started it", () =>
    Effect.gen(function* () {
      const cache = yield* CacheStore
      const value = yield* cache.getOrSet(freshTenant(), "k", Source).pipe(Effect.provideService(Source, "mine"))
      assert.equal(value, "mine")
    }))

  test("a loader may use the cache for other keys", () =>
    Effect.gen(function* () {
      const cache = yield* CacheStore
      const tenantId = freshTenant()
      const inner = cache.getOrSet(tenantId, "inner", Effect.succeed(1))
      assert.equal(yield* cache.getOrSet(tenantId, "outer", inner), 1)
      assert.deepEqual([yield* valueOf(cache, tenantId, "inner"), yield* valueOf(cache, tenantId, "outer")], [1, 1])
    }))

  test("a load that takes too long is interrupted, and its callers get LoadTimeout", () =>
    Effect.gen(function* () {
      const cache = yield* CacheStore
      const tenantId = freshTenant()
      const load = yield* held()
      const callers = yield* Effect.forEach(range(1, 3), () =>
        Effect.fork(cache.getOrSet(tenantId, "k", load.load, { hardTimeout: 100 }))
      )
      for (const caller of callers) {
        const error = yield* failsWith(Fiber.join(caller), "LoadTimeout")
        assert.deepEqual([error.tenantId, error.key, error.timeoutMs], [tenantId, "k", 100])
      }
      yield* eventually(
        "the interrupt",
        Effect.sync(() => load.interrupts === 1)
      )
      assert.equal(yield* cache.getOrSet(tenantId, "k", Effect.succeed("next")), "next")
    }))

  test("a load of many that takes too long names to each caller its own key", () =>
    Effect.gen(function* () {
      const cache = yield* CacheStore
      const tenantId = freshTenant()
      const many = yield* held()
      const all = yield* Effect.fork(
        cache.getOrSetMany(tenantId, ["a", "b"], (keys) => Effect.as(many.load, byKey(keys)), { hardTimeout: 500 })
      )
      yield* many.started
      const [shared] = yield* joined([cache.getOrSet(tenantId, "b", unexpected)])
      assert.equal((yield* failsWith(Fiber.join(present(shared)), "LoadTimeout")).key, "b")
      yield* failsWith(Fiber.join(all), "LoadTimeout")
    }))

  test("a stale value is served after the soft timeout, and the fresh one replaces it when it is there", () =>
    Effect.gen(function* () {
      const cache = yield* CacheStore
      const tenantId = freshTenant()
      yield* cache.set(tenantId, "k", "old", { ttl: 1, grace: hour })
      yield* Effect.sleep(5)
      const load = yield* held()
      const options = { grace: hour, softTimeout: 50 }
      assert.equal(yield* cache.getOrSet(tenantId, "k", load.load, options), "old")
      assert.equal(yield* cache.getOrSet(tenantId, "k", load.load, options), "old")
      yield* load.release("new")
      yield* eventually(
        "the refresh",
        Effect.map(valueOf(cache, tenantId, "k"), (value) => value === "new")
      )
      assert.deepEqual([load.loads, load.interrupts], [1, 0])
      // A load that is in time is what its callers get.
      yield* cache.expire(tenantId, { keys: ["k"] })
      const soft = { grace: hour, softTimeout: "10 seconds" } as const
      assert.equal(yield* cache.getOrSet(tenantId, "k", Effect.succeed("in time"), soft), "in time")
    }))

  test("a refresh that fails serves the stale value, and is not tried again at once", () =>
    Effect.gen(function* () {
      const cache = yield* CacheStore
      const tenantId = freshTenant()
      yield* cache.set(tenantId, "k", "old", { ttl: 1, grace: hour })
      yield* Effect.sleep(5)
      let tries = 0
      const load = Effect.suspend(() => {
        tries++
        return Effect.fail("no value")
      })
      assert.equal(yield* cache.getOrSet(tenantId, "k", load, { softTimeout: Duration.infinity }), "old")
      for (let i = 0; i < 5; i++) assert.equal(yield* cache.getOrSet(tenantId, "k", load), "old")
      assert.equal(tries, 1)
      yield* eventually(
        "another try",
        Effect.map(cache.getOrSet(tenantId, "k", load), () => tries === 2)
      )
    }))

  test("whoever waits in vain for another instance's load is served the stale value, if there is one", () =>
    Effect.gen(function* () {
      const one = yield* CacheStore
      const two = Context.get(yield* Layer.build(layer), CacheStore)
      const tenantId = freshTenant()
      yield* one.set(tenantId, "k", "old", { ttl: hour, grace: hour })
      yield* one.expire(tenantId, { keys: ["k"] })
      const load = yield* held()
      const options = { softTimeout: Duration.infinity, grace: hour }
      const first = yield* Effect.fork(one.getOrSet(tenantId, "k", load.load, options))
      yield* load.started
      assert.equal(yield* two.getOrSet(tenantId, "k", unexpected, { ...options, hardTimeout: 50 }), "old")
      yield* load.release("new")
      assert.equal(yield* Fiber.join(first), "new")
    }))

  test("after a removal nobody waits for the end of a refresh that had failed", () =>
    Effect.gen(function* () {
      const cache = yield* CacheStore
      const tenantId = freshTenant()
      yield* cache.set(tenantId, "k", "old", { ttl: 1, grace: hour })
      yield* Effect.sleep(5)
      yield* cache.getOrSet(tenantId, "k", Effect.fail("no value"), { softTimeout: Duration.infinity })
      yield* cache.invalidate(tenantId, { keys: ["k"] })
      assert.equal(yield* cache.getOrSet(tenantId, "k", Effect.succeed("new"), { hardTimeout: 500 }), "new")
    }))

  test("refresh ahead serves what is fresh and loads in the background; what lives for ever is left alone", () =>
    Effect.gen(function* () {
      const cache = yield* CacheStore
      const tenantId = freshTenant()
      yield* cache.set(tenantId, "k", "old", { ttl: hour })
      yield* cache.set(tenantId, "ever", "old", { ttl: Duration.infinity })
      const early = { ttl: hour, refreshAhead: "1 minute" } as const
      assert.equal(yield* cache.getOrSet(tenantId, "k", unexpected, early), "old")
      const late = { ttl: hour, refreshAhead: "2 hours" } as const
      const load = yield* held()
      for (let i = 0; i < 5; i++) assert.equal(yield* cache.getOrSet(tenantId, "k", load.load, late), "old")
      yield* load.started
      yield* load.release("new")
      yield* eventually(
        "the refresh",
        Effect.map(valueOf(cache, tenantId, "k"), (value) => value === "new")
      )
      assert.equal(load.loads, 1)
      assert.equal(yield* cache.getOrSet(tenantId, "ever", unexpected, late), "old")
      assert.equal(yield* cache.getOrSet(tenantId, "ever", unexpected, { refreshAhead: Duration.infinity }), "old")
    }))

  test("a refresh ahead that fails leaves the value as it is", () =>
    Effect.gen(function* () {
      const cache = yield* CacheStore
      const tenantId = freshTenant()
      yield* cache.set(tenantId, "k", "old", { ttl: hour })
      let tries = 0
      const load = Effect.suspend(() => Effect.fail(++tries))
      assert.equal(yield* cache.getOrSet(tenantId, "k", load, { refreshAhead: "2 hours" }), "old")
      yield* eventually(
        "the try",
        Effect.sync(() => tries === 1)
      )
      assert.equal(yield* valueOf(cache, tenantId, "k"), "old")
    }))

  test("getOrSetMany loads all that is missing at once, and gives all", () =>
    Effect.gen(function* () {
      const cache = yield* CacheStore
      const tenantId = freshTenant()
      yield* cache.set(tenantId, "b", null)
      const asked: Array<ReadonlyArray<string>> = []
      const load = (keys: ReadonlyArray<string>) => {
        asked.push([...keys].sort())
        return Effect.succeed(byKey(keys))
      }
      assert.deepEqual(
        yield* cache.getOrSetMany(tenantId, ["a", "b", "c"], load),
        new Map<string, Json>([
          ["a", "loaded a"],
          ["b", null],
          ["c", "loaded c"]
        ])
      )
      assert.equal((yield* cache.getOrSetMany(tenantId, ["c", "b", "a"], load)).size, 3)
      assert.deepEqual(asked, [["a", "c"]])
      assert.deepEqual(yield* cache.getOrSetMany(tenantId, [], load), new Map())
    }))

  test("a key that the loader leaves out is neither returned nor stored; doNotStore holds for single keys", () =>
    Effect.gen(function* () {
      const cache = yield* CacheStore
      const tenantId = freshTenant()
      const found = yield* cache.getOrSetMany(tenantId, ["a", "b", "c"], () =>
        Effect.succeed(
          new Map<string, unknown>([
            ["a", 1],
            ["c", doNotStore(3)],
            ["never asked for", 4]
          ])
        )
      )
      assert.deepEqual([found.get("a"), found.has("b"), found.get("c"), found.size], [1, false, 3, 2])
      assert.deepEqual(
        yield* cache.getMany(tenantId, ["a", "b", "c", "never asked for"]),
        new Map<string, Json>([["a", 1]])
      )
    }))

  test("a load of many is shared, key by key, with callers of single keys, both ways", () =>
    Effect.gen(function* () {
      const cache = yield* CacheStore
      const tenantId = freshTenant()
      const single = yield* held()
      const one = yield* Effect.fork(cache.getOrSet(tenantId, "a", single.load))
      yield* single.started
      const many = yield* held()
      const asked: Array<ReadonlyArray<string>> = []
      const all = yield* Effect.fork(
        cache.getOrSetMany(tenantId, ["a", "b", "c"], (keys) => {
          asked.push([...keys].sort())
          return Effect.as(many.load, byKey(keys.filter((key) => key !== "c")))
        })
      )
      yield* many.started
      const [shared] = yield* joined([cache.getOrSet(tenantId, "b", unexpected)])
      // Left out by the load of many, so this one loads by itself.
      const [leftOut] = yield* joined([cache.getOrSet(tenantId, "c", Effect.succeed("own c"))])
      yield* many.release(undefined)
      yield* single.release("single a")
      assert.equal(yield* Fiber.join(one), "single a")
      assert.equal(yield* Fiber.join(present(shared)), "loaded b")
      assert.equal(yield* Fiber.join(present(leftOut)), "own c")
      const found = yield* Fiber.join(all)
      assert.deepEqual([found.get("a"), found.get("b")], ["single a", "loaded b"])
      assert.deepEqual(asked, [["b", "c"]])
    }))

  test("a load of many goes on as long as one of its keys is wanted", () =>
    Effect.gen(function* () {
      const cache = yield* CacheStore
      const tenantId = freshTenant()
      const many = yield* held()
      const all = yield* Effect.fork(
        cache.getOrSetMany(tenantId, ["a", "b"], (keys) => Effect.as(many.load, byKey(keys)))
      )
      yield* many.started
      const [shared] = yield* joined([cache.getOrSet(tenantId, "b", unexpected)])
      yield* Fiber.interrupt(all)
      yield* many.release(undefined)
      assert.equal(yield* Fiber.join(present(shared)), "loaded b")
      assert.equal(many.interrupts, 0)
    }))

  test("a store that is closed interrupts its loads, and what was locked is free", () =>
    Effect.gen(function* () {
      const cache = yield* CacheStore
      const tenantId = freshTenant()
      const load = yield* held()
      const caller = yield* Effect.scoped(
        Effect.gen(function* () {
          const closing = Context.get(yield* Layer.build(layer), CacheStore)
          const caller = yield* Effect.forkDaemon(closing.getOrSet(tenantId, "k", load.load))
          yield* load.started
          return caller
        })
      )
      yield* failsWith(Fiber.join(caller), "StoreUnavailable")
      yield* eventually(
        "the interrupt",
        Effect.sync(() => load.interrupts === 1)
      )
      assert.equal(yield* cache.getOrSet(tenantId, "k", Effect.succeed("next"), { hardTimeout: "90 seconds" }), "next")
    }))
}
