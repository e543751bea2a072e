/**
 * Contract of lists and counts, and of names: what belongs to one tenant, key or tag is nobody else's.
 */
import assert from "node:assert/strict"
import * as Effect from "effect/Effect"
import * as FastCheck from "effect/FastCheck"
import { CacheStore } from "../../CacheStore.js"
import { collect, property, range } from "../suite.js"
import type { Test } from "./fixtures.js"
import { freshTenant, hour, keysOf } from "./fixtures.js"

/** Names that mean something to some language of patterns, separators, or encodings. */
const hostileNames = [
  "a",
  "*",
  "?",
  "[a]",
  "[^a]",
  "\\",
  "\\*",
  "a*",
  "a:",
  ":a",
  "a:b",
  "{",
  "}",
  "{}",
  "{a}",
  "%",
  "_",
  "%3A",
  "a_",
  "a%",
  "'",
  '"',
  "a/b",
  "../a",
  " ",
  "\n",
  "é",
  "e\u0301",
  "\uff5e",
  "\u{1f600}",
  "A",
  "\u{10ffff}",
  "x".repeat(255)
]

const name = FastCheck.oneof(
  { weight: 3, arbitrary: FastCheck.constantFrom(...hostileNames) },
  {
    weight: 1,
    arbitrary: FastCheck.string({ unit: FastCheck.constantFrom(..."ab*?[]^-\\:{}%_/."), minLength: 1, maxLength: 6 })
  }
)

export const lists = (test: Test): void => {
  test("a list gives each fresh entry once, and a count counts them", () =>
    Effect.gen(function* () {
      const cache = yield* CacheStore
      const tenantId = freshTenant()
      const keys = range(1, 2_500).map((i) => `key-${String(i).padStart(4, "0")}`)
      for (const from of [0, 1_000, 2_000]) {
        yield* cache.setMany(
          tenantId,
          keys.slice(from, from + 1_000).map((key) => ({ key, value: 0 })),
          from === 1_000 ? { tags: ["t"], grace: hour } : {}
        )
      }
      const listed = (yield* collect(cache.list(tenantId))).map(({ key }) => key)
      assert.equal(listed.length, keys.length)
      assert.deepEqual([...listed].sort(), keys)
      assert.equal(yield* cache.count(tenantId), keys.length)
      assert.deepEqual(yield* keysOf(cache, tenantId, "key-000"), keys.slice(0, 9))
      assert.equal(yield* cache.count(tenantId, { prefix: "key-1" }), 1_000)
      yield* cache.invalidate(tenantId, { tags: ["t"] })
      assert.equal(yield* cache.count(tenantId), 1_500)
      assert.equal((yield* keysOf(cache, tenantId)).length, 1_500)
      yield* cache.deleteMany(tenantId, keys.slice(0, 1_000))
      assert.equal(yield* cache.count(tenantId), 500)
    }))

  test("of a stale entry and of a load that is under way lists and counts know nothing", () =>
    Effect.gen(function* () {
      const cache = yield* CacheStore
      const tenantId = freshTenant()
      yield* cache.set(tenantId, "stale", 0, { grace: hour })
      yield* cache.expire(tenantId, { keys: ["stale"] })
      yield* cache.getOrSet(
        tenantId,
        "loading",
        Effect.gen(function* () {
          assert.deepEqual(yield* keysOf(cache, tenantId), [])
          assert.equal(yield* cache.count(tenantId), 0)
          return 1
        })
      )
      assert.deepEqual(yield* keysOf(cache, tenantId), ["loading"])
    }))

  test("a prefix is text and no pattern, also when it ends within a character of many bytes", () =>
    Effect.gen(function* () {
      const cache = yield* CacheStore
      const tenantId = freshTenant()
      yield* cache.setMany(
        tenantId,
        hostileNames.map((key) => ({ key, value: 0 }))
      )
      for (const prefix of ["", ...hostileNames, "x", "\u00e8", "e"]) {
        assert.deepEqual(
          yield* keysOf(cache, tenantId, prefix),
          hostileNames.filter((key) => key.startsWith(prefix)).sort(),
          JSON.stringify(prefix)
        )
      }
    }))

  test("no tenant, key, prefix or tag reaches what belongs to another, whatever they are called", () =>
    Effect.gen(function* () {
      const cache = yield* CacheStore
      const tenants = FastCheck.uniqueArray(name, { minLength: 2, maxLength: 3 })
      const keys = FastCheck.uniqueArray(name, { minLength: 2, maxLength: 4 })
      const all = FastCheck.record({ tenants, keys, tag: name, other: name })
      yield* property(all, { runs: 12 }, ({ keys, other, tag, tenants: names }) =>
        Effect.gen(function* () {
          const run = freshTenant().slice(0, 12)
          const tenants = names
            .map((name) => `${run}${name}`.slice(0, 200))
            .filter((id, i, ids) => ids.indexOf(id) === i)
          const [first, ...rest] = tenants as [string, ...Array<string>]
          const entriesOf = (tenantId: string) => keys.map((key) => ({ key, value: [tenantId, key] }))
          const fill = Effect.forEach(tenants, (tenantId) =>
            Effect.zipRight(
              cache.setMany(tenantId, entriesOf(tenantId).slice(0, 1), { tags: [tag], ttl: hour }),
              cache.setMany(tenantId, entriesOf(tenantId).slice(1), { tags: [`'${other}`.slice(0, 100)], ttl: hour })
            )
          )
          const whole = (tenantId: string) =>
            Effect.gen(function* () {
              assert.deepEqual(yield* keysOf(cache, tenantId), [...keys].sort())
              const found = yield* cache.getMany(tenantId, keys)
              assert.deepEqual(found, new Map(keys.map((key) => [key, [tenantId, key]])))
            })
          yield* fill
          for (const tenantId of tenants) yield* whole(tenantId)
          const removals = [
            cache.delete(first, keys[0] as string),
            cache.invalidate(first, { tags: [tag] }),
            cache.expire(first, { tags: [tag] }),
            cache.expire(first, { keys: [keys[0] as string] })
          ]
          for (const removal of removals) {
            yield* removal
            assert.deepEqual(yield* keysOf(cache, first), keys.slice(1).sort())
            for (const tenantId of rest) yield* whole(tenantId)
            yield* fill
          }
          yield* cache.clear(first)
          assert.equal(yield* cache.count(first), 0)
          for (const tenantId of rest) yield* whole(tenantId)
          // A tenant is named in full: one whose name goes on in the same way is another.
          const shorter = [...first].slice(0, -1).join("")
          if (!rest.includes(shorter)) yield* cache.clear(shorter)
          for (const tenantId of rest) yield* whole(tenantId)
        })
      )
    }))
}
