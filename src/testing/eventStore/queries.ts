/**
 * Contract of `distinct` and `info`.
 */
import assert from "node:assert/strict"
import { randomUUID } from "node:crypto"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { DistinctField, Filter } from "../../EventStore.js"
import { EventStore } from "../../EventStore.js"
import { awkwardNames } from "../log.js"
import { byBytes, collect, failsWith, range } from "../suite.js"
import { assortment } from "./feed.js"
import type { Test } from "./fixtures.js"
import { assertSameEvents, freshStream, freshTenant, newEvent, newEvents, readAll, streamOf } from "./fixtures.js"

export const queries = (test: Test, { secrets }: { readonly secrets: ReadonlyArray<string> }): void => {
  const fields: ReadonlyArray<readonly [DistinctField, Filter, ReadonlyArray<string>]> = [
    ["domain", {}, ["invoice", "order"]],
    ["aggregateId", {}, ["1", "2"]],
    ["type", {}, ["Paid", "Placed", "Shipped"]],
    ["commandId", {}, ["command-0", "command-1", "command-2"]],
    ["instanceId", {}, ["instance-0", "instance-1"]],
    ["type", { domain: "invoice" }, ["Paid", "Shipped"]],
    ["commandId", { aggregateId: "2" }, []],
    ["domain", { types: ["Never"] }, []]
  ]
  for (const [field, filter, expected] of fields) {
    test(`distinct lists each ${field} once where ${JSON.stringify(filter)}, and none where there is none`, () =>
      Effect.gen(function* () {
        const store = yield* EventStore
        const tenantId = freshTenant()
        yield* assortment(tenantId)
        assert.deepEqual(yield* collect(store.distinct(field, { ...filter, tenantId })), expected)
      }))
  }

  test("distinct lists tenants, of a filter and of the whole store", () =>
    Effect.gen(function* () {
      const store = yield* EventStore
      const domain = `domain-${randomUUID()}`
      const tenants = range(1, 5).map(freshTenant).sort(byBytes)
      for (const tenantId of [...tenants, ...tenants]) {
        yield* store.append(streamOf(tenantId, "1", domain), newEvents(1), { expected: "any" })
      }
      assert.deepEqual(yield* collect(store.distinct("tenantId", { domain })), tenants)
      const all = yield* collect(store.distinct("tenantId"))
      assert.ok(tenants.every((tenantId) => all.includes(tenantId)))
      assert.equal(new Set(all).size, all.length)
    }))

  const places: ReadonlyArray<DistinctField> = ["domain", "aggregateId", "type", "commandId", "instanceId"]
  for (const field of places) {
    test(`distinct values of ${field} are in order of their UTF-8 bytes`, () =>
      Effect.gen(function* () {
        const store = yield* EventStore
        const tenantId = freshTenant()
        for (const value of awkwardNames) {
          const ofStream = field === "domain" || field === "aggregateId"
          const stream = { ...streamOf(tenantId), ...(ofStream ? { [field]: value } : {}) }
          yield* store.append(stream, [newEvent(ofStream ? {} : { [field]: value })], { expected: "any" })
        }
        const values = yield* collect(store.distinct(field, { tenantId }))
        assert.deepEqual(values, [...awkwardNames].sort(byBytes))
        assert.notDeepEqual(values, [...awkwardNames].sort())
      }))
  }

  for (const count of [1000, 1001, 2000, 2345]) {
    test(`${count} distinct values are listed whole, in order, across pages`, () =>
      Effect.gen(function* () {
        const store = yield* EventStore
        const stream = freshStream()
        const types = range(1, count).map((i) => `${i}`)
        yield* store.append(
          stream,
          newEvents(count, (i) => ({ type: types[(i * 7) % count] as string })),
          {
            expected: "any"
          }
        )
        const given = [...new Set(range(0, count - 1).map((i) => types[(i * 7) % count] as string))].sort(byBytes)
        assert.deepEqual(yield* collect(store.distinct("type", { tenantId: stream.tenantId })), given)
      }))
  }

  test("distinct refuses a field that is no field", () =>
    Effect.gen(function* () {
      const store = yield* EventStore
      for (const field of ["data", "id; DROP TABLE es_events", "__proto__", "toString", ""]) {
        const refused = yield* failsWith(collect(store.distinct(field as DistinctField)), "InvalidInput")
        assert.equal(refused.what, "field")
      }
    }))

  test("a filter with a misspelt condition is refused and matches nothing by accident", () =>
    Effect.gen(function* () {
      const store = yield* EventStore
      const filter: Filter = Object.assign<Filter, object>({}, { tenant: "acme" })
      yield* failsWith(store.count(filter), "InvalidInput")
      yield* failsWith(collect(store.feed({ filter })), "InvalidInput")
      yield* failsWith(store.count({ types: [] }), "InvalidInput")
    }))

  test("info counts events and streams, and knows the last event", () =>
    Effect.gen(function* () {
      const store = yield* EventStore
      const before = yield* store.info
      const tenantId = freshTenant()
      yield* store.append(streamOf(tenantId, "1"), newEvents(3), { expected: "any" })
      yield* store.append(streamOf(tenantId, "2"), newEvents(2), { expected: "any" })
      const info = yield* store.info
      assert.equal(info.events, before.events + 5)
      assert.equal(info.streams, before.streams + 2)
      assert.equal(info.readOnly, false)
      const [, last] = yield* readAll(streamOf(tenantId, "2"))
      assert.ok(last !== undefined)
      assertSameEvents(Option.toArray(info.lastEvent), [last])
    }))

  test("info names its backend and where the data is, without secrets", () =>
    Effect.gen(function* () {
      const info = yield* Effect.flatMap(EventStore, (store) => store.info)
      assert.notEqual(info.backend, "")
      assert.notEqual(info.connection, "")
      for (const secret of secrets) assert.ok(!JSON.stringify(info).includes(secret), "info shows a secret")
    }))
}
