/**
 * Contract of `info`, `clear` and `reset`, of a store that was opened read-only, and of the typed view.
 */
import assert from "node:assert/strict"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import type * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { CacheStore, doNotStore, forSchema, type WriteError } from "../../CacheStore.js"
import { failsWith, range } from "../suite.js"
import type { Test } from "./fixtures.js"
import { assertAbsent, eventually, freshTenant, held, hour, valueOf } from "./fixtures.js"

export const maintenance = (test: Test, { secrets }: { readonly secrets: ReadonlyArray<string> }): void => {
  test("info counts fresh entries, names the backend and shows no secret", () =>
    Effect.gen(function* () {
      const cache = yield* CacheStore
      const tenantId = freshTenant()
      yield* cache.set(tenantId, "a", 1)
      yield* cache.set(freshTenant(), "b", 1, { tags: ["t"] })
      const info = yield* cache.info
      assert.ok(info.entries >= 2)
      assert.ok(info.backend !== "" && info.connection !== "")
      assert.equal(info.readOnly, false)
      for (const secret of secrets) assert.ok(!JSON.stringify(info).includes(secret))
    }))
}

/** Apart, since it empties the store. */
export const reset = (test: Test): void => {
  test("a reset leaves no entry, and a load that was under way stores nothing; the store goes on", () =>
    Effect.gen(function* () {
      const cache = yield* CacheStore
      const tenants = ["t", "*", "{a}", "t:", freshTenant()]
      for (const tenantId of tenants) {
        yield* cache.setMany(
          tenantId,
          range(1, 600).map((i) => ({ key: `${i}`, value: i })),
          { tags: ["t"], ttl: hour, grace: hour }
        )
      }
      const load = yield* held()
      const loading = yield* Effect.fork(cache.getOrSet("t", "k", load.load))
      yield* load.started
      assert.equal((yield* cache.info).entries >= 3_000, true)
      yield* cache.reset
      assert.equal((yield* cache.info).entries, 0)
      for (const tenantId of tenants) assert.equal(yield* cache.count(tenantId), 0)
      yield* load.release("old")
      assert.equal(yield* Fiber.join(loading), "old")
      assert.equal((yield* cache.info).entries, 0)
      yield* cache.set("t", "1", 1, { tags: ["t"] })
      assert.equal(yield* valueOf(cache, "t", "1"), 1)
      yield* cache.reset
      assert.equal((yield* cache.info).entries, 0)
    }))
}

export const readOnly = <E>(test: Test, layer: Layer.Layer<CacheStore, E>): void => {
  test("a read-only store reads, loads for its callers, and refuses every write before it looks at anything", () =>
    Effect.gen(function* () {
      const writer = yield* CacheStore
      const tenantId = freshTenant()
      yield* writer.set(tenantId, "k", 1)
      yield* Effect.gen(function* () {
        const cache = yield* CacheStore
        assert.equal((yield* cache.info).readOnly, true)
        assert.equal(yield* valueOf(cache, tenantId, "k"), 1)
        assert.equal(yield* cache.getOrSet(tenantId, "k", Effect.succeed(2)), 1)
        assert.equal(yield* cache.getOrSet(tenantId, "l", Effect.succeed(2)), 2)
        yield* assertAbsent(cache, tenantId, "l")
        const writes: Readonly<Record<string, Effect.Effect<unknown, WriteError>>> = {
          set: cache.set("", "", undefined),
          setMany: cache.setMany("", [], {}),
          setIfAbsent: cache.setIfAbsent(tenantId, "k", 1),
          touch: cache.touch(tenantId, "k", 1),
          delete: cache.delete(tenantId, "k"),
          deleteMany: cache.deleteMany(tenantId, ["k"]),
          invalidate: cache.invalidate(tenantId, { keys: ["k"] }),
          expire: cache.expire(tenantId, { keys: ["k"] }),
          clear: cache.clear(tenantId),
          reset: cache.reset
        }
        for (const [operation, write] of Object.entries(writes)) {
          assert.equal((yield* failsWith(write, "ReadOnly")).operation, operation)
        }
      }).pipe(Effect.provide(layer))
      assert.equal(yield* valueOf(writer, tenantId, "k"), 1)
    }))
}

const Total = Schema.Struct({ total: Schema.Number, at: Schema.Date, note: Schema.optional(Schema.String) })
const totals = forSchema(Total)

export const typed = (test: Test): void => {
  test("typed values come back as they were, from set and from a load", () =>
    Effect.gen(function* () {
      const cache = yield* CacheStore
      const tenantId = freshTenant()
      const value = { total: 1, at: new Date(5) }
      yield* totals.set(tenantId, "k", value)
      assert.deepEqual(yield* totals.get(tenantId, "k"), Option.some(value))
      assert.deepEqual(yield* valueOf(cache, tenantId, "k"), { total: 1, at: "1970-01-01T00:00:00.005Z" })
      assert.deepEqual(yield* totals.getOrSet(tenantId, "l", Effect.succeed(value)), value)
      assert.deepEqual(yield* totals.getOrSet(tenantId, "l", Effect.die("loaded again")), value)
      assert.deepEqual(yield* totals.getOrSet(tenantId, "m", Effect.succeed(doNotStore(value))), value)
      assert.ok(Option.isNone(yield* totals.get(tenantId, "m")))
    }))

  test("what is stored and does not fit the Schema is absent, and gives way to a load", () =>
    Effect.gen(function* () {
      const cache = yield* CacheStore
      const tenantId = freshTenant()
      const value = { total: 1, at: new Date(5) }
      yield* cache.set(tenantId, "k", { total: "one" })
      assert.ok(Option.isNone(yield* totals.get(tenantId, "k")))
      assert.deepEqual(yield* totals.getOrSet(tenantId, "k", Effect.succeed(value)), value)
      assert.deepEqual(yield* totals.get(tenantId, "k"), Option.some(value))
      // Another generation of the application goes on writing its own form: the caller gets its value all the same.
      yield* cache.set(tenantId, "k", "misfit")
      let loads = 0
      const load = Effect.suspend(() => {
        loads++
        return Effect.as(cache.set(tenantId, "k", "misfit"), value)
      })
      assert.deepEqual(yield* totals.getOrSet(tenantId, "k", load), value)
      assert.ok(loads > 0)
    }))

  test("a value that does not fit, or has fields that the Schema does not know, is refused", () =>
    Effect.gen(function* () {
      const tenantId = freshTenant()
      const misspelt = { total: 1, at: new Date(5), nte: "misspelt" }
      const invalid = { total: 1, at: new Date(Number.NaN) }
      for (const value of [misspelt, invalid]) {
        assert.equal((yield* failsWith(totals.set(tenantId, "k", value), "InvalidInput")).what, "value")
        yield* failsWith(totals.getOrSet(tenantId, "k", Effect.succeed(value)), "InvalidInput")
      }
      assert.ok(Option.isNone(yield* totals.get(tenantId, "k")))
    }))

  test("a stale value is refreshed through the Schema", () =>
    Effect.gen(function* () {
      const cache = yield* CacheStore
      const tenantId = freshTenant()
      const [old, fresh] = [1, 2].map((total) => ({ total, at: new Date(total) })) as [
        typeof Total.Type,
        typeof Total.Type
      ]
      yield* totals.set(tenantId, "k", old, { grace: hour })
      yield* cache.expire(tenantId, { keys: ["k"] })
      assert.deepEqual(yield* totals.getOrSet(tenantId, "k", Effect.succeed(fresh)), old)
      yield* eventually(
        "the refresh",
        Effect.map(totals.get(tenantId, "k"), (found) => Option.isSome(found) && found.value.total === 2)
      )
    }))
}
