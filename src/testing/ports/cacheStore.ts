/**
 * Contract of what the port has beyond the service: how those who seal anew find entries, and change one.
 */
import assert from "node:assert/strict"
import * as Effect from "effect/Effect"
import { CacheStore } from "../../CacheStore.js"
import { type Encoded, type Payload, relift } from "../../cacheStore/CacheStoreEncoded.js"
import { pagedStream } from "../../internal/pages.js"
import type { Test } from "../cacheStore/fixtures.js"
import { assertAbsent, freshTenant, hour, valueOf } from "../cacheStore/fixtures.js"
import { collect, portOf, range } from "../suite.js"
import { type Replaceable, replace } from "./replace.js"

const payloadOf = ({ keyId, value }: Payload): Payload => ({ value, keyId })

const setUp = Effect.gen(function* () {
  const cache = yield* CacheStore
  const port = yield* portOf<Encoded>((keep) => relift(cache, keep))
  return { cache, port, tenantId: freshTenant() }
})

export const port = (test: Test): void => {
  replace(
    test,
    Effect.gen(function* () {
      const { cache, port, tenantId } = yield* setUp
      yield* cache.set(tenantId, "k", { n: 0 }, { tags: ["t"], ttl: hour })
      yield* cache.set(tenantId, "l", { n: 0 })
      const place = { tenantId, key: "k" }
      const record: Replaceable<Payload> = {
        port,
        read: Effect.map(port.get(place, true), (entry) => entry && payloadOf(entry)),
        replace: (was, now) => port.replace(place, was, now),
        remove: cache.delete(tenantId, "k"),
        others: valueOf(cache, tenantId, "l"),
        changes: [(row, n) => ({ ...row, value: `{"n":${-n}}` })],
        sealed: (_, keyId) => ({ keyId, value: "sealed" })
      }
      return record
    })
  )

  test("an entry whose value the port has replaced keeps its time to live, its grace and its tags", () =>
    Effect.gen(function* () {
      const { cache, port, tenantId } = yield* setUp
      const place = { tenantId, key: "k" }
      yield* cache.set(tenantId, "k", 1, { tags: ["t"], ttl: hour, grace: hour })
      const before = yield* port.get(place, true)
      assert.ok(before !== null)
      assert.equal(yield* port.replace(place, before, { value: "2", keyId: null }), true)
      const after = yield* port.get(place, true)
      assert.ok(after !== null && after.freshMs <= before.freshMs && after.freshMs > before.freshMs - 60_000)
      assert.deepEqual(after.tags, before.tags)
      yield* cache.expire(tenantId, { keys: ["k"] })
      assert.ok(((yield* port.get(place, true))?.freshMs ?? 1) <= 0)
      yield* cache.invalidate(tenantId, { tags: ["t"] })
      yield* assertAbsent(cache, tenantId, "k")
      assert.equal(yield* port.get(place, true), null)
    }))

  test("the port replaces no value that is under another key", () =>
    Effect.gen(function* () {
      const { cache, port, tenantId } = yield* setUp
      const place = { tenantId, key: "k" }
      yield* cache.set(tenantId, "k", 1, { ttl: hour })
      const before = yield* port.get(place, true)
      assert.ok(before !== null)
      assert.equal(yield* port.replace(place, { ...before, keyId: "another" }, { value: "2", keyId: null }), false)
      assert.equal(yield* valueOf(cache, tenantId, "k"), 1)
    }))

  test("a value that the port replaces after its end does not come back", () =>
    Effect.gen(function* () {
      const { cache, port, tenantId } = yield* setUp
      const place = { tenantId, key: "k" }
      yield* cache.set(tenantId, "k", 1, { tags: ["t"] })
      const before = yield* port.get(place, true)
      assert.ok(before !== null)
      yield* cache.invalidate(tenantId, { tags: ["t"] })
      yield* port.replace(place, before, { value: "2", keyId: null })
      yield* assertAbsent(cache, tenantId, "k")
      assert.equal(yield* port.get(place, true), null)
    }))

  test("the port lists the address of every entry, fresh or stale, whatever is set and deleted meanwhile", () =>
    Effect.gen(function* () {
      const { cache, port, tenantId } = yield* setUp
      const keys = [...range(1, 1_100).map(String), "*", "a:b", "{x}", "é", "%", "\u{10ffff}"]
      for (const some of [keys.slice(0, 600), keys.slice(600)]) {
        yield* cache.setMany(
          tenantId,
          some.map((key) => ({ key, value: key })),
          { ttl: hour, grace: hour }
        )
      }
      yield* cache.expire(tenantId, { keys: keys.slice(0, 100) })
      const list = Effect.map(collect(pagedStream(port.addresses)), (all) =>
        all.filter((address) => address.tenantId === tenantId).map(({ key }) => key)
      )
      const churn = Effect.forever(
        Effect.forEach(range(1, 20), (n) =>
          Effect.zipRight(cache.set(tenantId, `churn-${n}`, n), cache.delete(tenantId, `churn-${n}`))
        )
      )
      const listed = new Set(yield* Effect.raceFirst(list, churn))
      assert.deepEqual(
        keys.filter((key) => !listed.has(key)),
        []
      )
      yield* cache.clear(tenantId)
      assert.deepEqual(
        (yield* list).filter((key) => !key.startsWith("churn-")),
        []
      )
    }))
}
