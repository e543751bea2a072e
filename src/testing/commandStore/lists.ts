/**
 * Contract of `list`, `page`, `distinct` and `count`.
 */
import assert from "node:assert/strict"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import type { DistinctField, Filter, PageOptions } from "../../CommandStore.js"
import { CommandStore } from "../../CommandStore.js"
import { awkwardNames, walkPages } from "../log.js"
import { byBytes, collect, failsWith, isIncreasing, range } from "../suite.js"
import type { Test } from "./fixtures.js"
import { assertSameCommands, assortment, filters, freshTenant, ids, newCommand } from "./fixtures.js"

const createMany = (count: number, tenantId: string) =>
  Effect.flatMap(CommandStore, (store) =>
    Effect.forEach(range(1, count), (i) => store.create(newCommand({ tenantId, type: `${i}` })), { concurrency: 8 })
  )

/** All pages from the first on; `between` runs after each. */
const walk = <E, R>(options: PageOptions, between: Effect.Effect<unknown, E, R>) =>
  Effect.flatMap(CommandStore, (store) =>
    walkPages(
      (cursor) => Effect.map(store.page({ ...options, cursor }), ({ commands, next }) => ({ items: commands, next })),
      options.limit ?? 100,
      between
    )
  )

export const lists = (test: Test): void => {
  for (const [name, filter, matches] of filters) {
    test(`lists, pages and counts filter by ${name}, in both directions`, () =>
      Effect.gen(function* () {
        const store = yield* CommandStore
        const tenantId = freshTenant()
        const expected = (yield* assortment(tenantId)).filter(matches)
        const own: Filter = { ...filter, tenantId }
        assertSameCommands(yield* collect(store.list({ filter: own })), expected)
        assertSameCommands(yield* walk({ limit: 2, filter: own }, Effect.void), expected)
        assert.equal(yield* store.count(own), expected.length)
        const reversed = [...expected].reverse()
        assertSameCommands(yield* collect(store.list({ filter: own, direction: "backward" })), reversed)
        assertSameCommands(yield* walk({ limit: 2, filter: own, direction: "backward" }, Effect.void), reversed)
      }))
  }

  test("without a filter commands of all tenants are listed and counted, in order of position", () =>
    Effect.gen(function* () {
      const store = yield* CommandStore
      const before = yield* store.count()
      const created = [yield* store.create(newCommand()), yield* store.create(newCommand())]
      assert.equal(yield* store.count(), before + 2)
      const all = yield* collect(store.list())
      assert.ok(isIncreasing(all.map(({ position }) => position)))
      assertSameCommands(all.slice(-2), created)
      const newest = yield* collect(store.list({ direction: "backward", limit: 2 }))
      assertSameCommands(newest, created.reverse())
    }))

  test("pages of large commands end before their limit, say so, and have every command once, in both directions", () =>
    Effect.gen(function* () {
      const store = yield* CommandStore
      const tenantId = freshTenant()
      const data = { text: "x".repeat(1024 * 1024) }
      for (let i = 0; i < 5; i++) yield* store.create({ ...newCommand(), tenantId, data })
      const all = yield* collect(store.list({ filter: { tenantId } }))
      assert.equal(all.length, 5)
      for (const direction of ["forward", "backward"] as const) {
        const options = { limit: 5, direction, filter: { tenantId } }
        const first = yield* store.page(options)
        assert.ok(first.commands.length >= 1 && first.commands.length < 5, `${first.commands.length}`)
        assert.ok(Option.isSome(first.next))
        assertSameCommands(yield* walk(options, Effect.void), direction === "forward" ? all : [...all].reverse())
      }
    }))

  test("a limit bounds a list, on and beside the bounds of pages, in both directions", () =>
    Effect.gen(function* () {
      const store = yield* CommandStore
      const tenantId = freshTenant()
      yield* createMany(2_001, tenantId)
      const all = ids(yield* collect(store.list({ filter: { tenantId } })))
      assert.equal(new Set(all).size, 2_001)
      for (const limit of [1, 999, 1_000, 1_001, 2_000, 2_001, 5_000]) {
        const forward = yield* collect(store.list({ filter: { tenantId }, limit }))
        assert.deepEqual(ids(forward), all.slice(0, limit))
        const backward = yield* collect(store.list({ filter: { tenantId }, limit, direction: "backward" }))
        assert.deepEqual(ids(backward), [...all].reverse().slice(0, limit))
      }
      const some = yield* collect(Stream.take(store.list({ filter: { tenantId } }), 3))
      assert.deepEqual(ids(some), all.slice(0, 3))
      assert.equal((yield* failsWith(collect(store.list({ limit: 0 })), "InvalidInput")).what, "options.limit")
    }))

  for (const limit of [1, 7, 20, 21]) {
    test(`pages of ${limit} have every command once, and those created meanwhile shift nothing`, () =>
      Effect.gen(function* () {
        const store = yield* CommandStore
        const tenantId = freshTenant()
        yield* createMany(20, tenantId)
        const all = yield* collect(store.list({ filter: { tenantId } }))
        const create = Effect.suspend(() => store.create(newCommand({ tenantId })))
        const backward = yield* walk({ limit, direction: "backward", filter: { tenantId } }, create)
        assertSameCommands(backward, [...all].reverse())
        const now = yield* collect(store.list({ filter: { tenantId } }))
        let left = 3
        const createThree = Effect.suspend(() => (left-- > 0 ? create : Effect.void))
        const forward = yield* walk({ limit, filter: { tenantId } }, createThree)
        assertSameCommands(forward.slice(0, now.length), now)
        assert.equal(new Set(ids(forward)).size, forward.length)
      }))
  }

  test("a page has 100 commands unless told, at most 1,000, and the last page has no next", () =>
    Effect.gen(function* () {
      const store = yield* CommandStore
      const tenantId = freshTenant()
      yield* createMany(101, tenantId)
      const filter = { tenantId }
      const first = yield* store.page({ filter })
      assert.equal(first.commands.length, 100)
      const second = yield* store.page({ filter, cursor: Option.getOrThrow(first.next) })
      assert.equal(second.commands.length, 1)
      assert.ok(Option.isNone(second.next))
      assert.ok(Option.isNone((yield* store.page({ filter, limit: 101 })).next))
      assert.equal((yield* store.page({ filter, limit: 1_000 })).commands.length, 101)
      for (const limit of [0, 1_001]) {
        assert.equal((yield* failsWith(store.page({ limit }), "InvalidInput")).what, "options.limit")
      }
      assert.deepEqual((yield* store.page({ filter: { tenantId: freshTenant() } })).commands, [])
    }))

  test("a cursor that no page gave, or that a page of the other direction gave, is refused", () =>
    Effect.gen(function* () {
      const store = yield* CommandStore
      const filter = { tenantId: freshTenant() }
      yield* createMany(3, filter.tenantId)
      const cursor = Option.getOrThrow((yield* store.page({ filter, limit: 1 })).next)
      for (const bad of ["", "x", "0", `${cursor} `, `2${cursor}`, "1fzzzzzzzzzzz", "\0", "1f"]) {
        assert.equal((yield* failsWith(store.page({ filter, cursor: bad }), "InvalidInput")).what, "options.cursor")
      }
      const wrong = store.page({ filter, cursor, direction: "backward" })
      assert.equal((yield* failsWith(wrong, "InvalidInput")).what, "options.cursor")
    }))

  test("a filter with a misspelt condition, or with an empty list, is refused and matches nothing by accident", () =>
    Effect.gen(function* () {
      const store = yield* CommandStore
      const misspelt: Filter = Object.assign<Filter, object>({}, { tenant: "acme" })
      const bad: ReadonlyArray<Filter> = [misspelt, { types: [] }, { statuses: [] }]
      for (const filter of bad) {
        yield* failsWith(store.count(filter), "InvalidInput")
        yield* failsWith(collect(store.list({ filter })), "InvalidInput")
        yield* failsWith(store.page({ filter }), "InvalidInput")
        yield* failsWith(collect(store.distinct("type", filter)), "InvalidInput")
      }
    }))

  const fields: ReadonlyArray<readonly [DistinctField, Filter, ReadonlyArray<string>]> = [
    ["domain", {}, ["invoice", "order"]],
    ["type", {}, ["Pay", "Place", "Ship"]],
    ["status", {}, ["failed", "received", "succeeded"]],
    ["instanceId", {}, ["instance-0", "instance-1", "instance-2"]],
    ["instanceId", { domain: "order", statuses: ["received"] }, ["instance-0", "instance-2"]],
    ["status", { types: ["Pay"], createdUntil: DateTime.unsafeMake(1000) }, ["succeeded"]],
    ["domain", { types: ["Never"] }, []]
  ]
  for (const [field, filter, expected] of fields) {
    test(`distinct lists each ${field} once where ${Object.keys(filter).join(", ") || "all"} match`, () =>
      Effect.gen(function* () {
        const store = yield* CommandStore
        const tenantId = freshTenant()
        yield* assortment(tenantId)
        assert.deepEqual(yield* collect(store.distinct(field, { ...filter, tenantId })), expected)
      }))
  }

  for (const field of ["tenantId", "domain", "type", "instanceId"] as const) {
    test(`distinct values of ${field} are in order of their UTF-8 bytes`, () =>
      Effect.gen(function* () {
        const store = yield* CommandStore
        const own = freshTenant()
        const other = field === "tenantId" ? { domain: own } : { tenantId: own }
        for (const value of [...awkwardNames, ...awkwardNames.slice(0, 3)]) {
          yield* store.create(newCommand({ ...other, [field]: value }))
        }
        const values = yield* collect(store.distinct(field, other))
        assert.deepEqual(values, [...awkwardNames].sort(byBytes))
        assert.notDeepEqual(values, [...awkwardNames].sort())
      }))
  }

  test("distinct values are listed whole, in order, across pages", () =>
    Effect.gen(function* () {
      const store = yield* CommandStore
      const tenantId = freshTenant()
      yield* createMany(2_001, tenantId)
      const expected = range(1, 2_001).map(String).sort(byBytes)
      assert.deepEqual(yield* collect(store.distinct("type", { tenantId })), expected)
    }))

  test("distinct refuses a field that is no field", () =>
    Effect.gen(function* () {
      const store = yield* CommandStore
      for (const field of ["data", "id", "outcome", "__proto__", "toString", ""]) {
        const refused = yield* failsWith(collect(store.distinct(field as DistinctField)), "InvalidInput")
        assert.equal(refused.what, "field")
      }
    }))
}
