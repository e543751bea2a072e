/**
 * Contract of `feed` and `head`: the store-wide order, its filters, and resuming. What concurrent transactions of other
 * processes do to it is tested with the backends that have them.
 */
import assert from "node:assert/strict"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import type { Event, Filter } from "../../EventStore.js"
import { EventStore } from "../../EventStore.js"
import { timeFilters } from "../log.js"
import { collect, range } from "../suite.js"
import type { Test } from "./fixtures.js"
import { assertFeedOrder, assertSameEvents, freshTenant, ids, newEvents, streamOf } from "./fixtures.js"

/** Twelve events that differ in every field that a filter knows, of which the tenant is the test's own. */
export const assortment = (tenantId: string) =>
  Effect.gen(function* () {
    const store = yield* EventStore
    for (const [i, domain] of ["order", "invoice", "order"].entries()) {
      for (const [j, aggregateId] of ["1", "2"].entries()) {
        yield* store.append(
          streamOf(tenantId, aggregateId, domain),
          newEvents(2, (k) => ({
            type: ["Placed", "Paid", "Shipped"][(i + k) % 3] as string,
            commandId: j === 0 ? `command-${i}` : undefined,
            instanceId: `instance-${k}`,
            createdAt: DateTime.unsafeMake(1000 * i + 100 * j + k)
          })),
          { expected: "any" }
        )
      }
    }
    return yield* collect(store.feed({ filter: { tenantId } }))
  })

export const filters: ReadonlyArray<readonly [name: string, Filter, matches: (event: Event) => boolean]> = [
  ["domain", { domain: "invoice" }, (event) => event.domain === "invoice"],
  ["aggregate", { aggregateId: "2" }, (event) => event.aggregateId === "2"],
  ["one type", { types: ["Paid"] }, (event) => event.type === "Paid"],
  ["several types", { types: ["Paid", "Shipped", "Never"] }, (event) => event.type !== "Placed"],
  ["a type that never was", { types: ["Never"] }, () => false],
  ["command", { commandId: "command-1" }, (event) => event.commandId === "command-1"],
  ...timeFilters,
  [
    "all of them together",
    {
      domain: "order",
      aggregateId: "1",
      types: ["Placed", "Paid"],
      commandId: "command-2",
      createdFrom: DateTime.unsafeMake(2000),
      createdUntil: DateTime.unsafeMake(2002)
    },
    ({ aggregateId, commandId, createdAt, domain, type }) =>
      domain === "order" &&
      aggregateId === "1" &&
      (type === "Placed" || type === "Paid") &&
      commandId === "command-2" &&
      createdAt.epochMillis >= 2000 &&
      createdAt.epochMillis < 2002
  ]
]

export const feed = (test: Test): void => {
  test("the feed has the events of all streams in the order of their appends", () =>
    Effect.gen(function* () {
      const store = yield* EventStore
      const tenantId = freshTenant()
      const given = []
      for (const i of range(1, 20)) {
        const events = newEvents((i % 3) + 1)
        yield* store.append(streamOf(tenantId, `${i % 4}`), events, { expected: "any" })
        given.push(...events)
      }
      const events = yield* collect(store.feed({ filter: { tenantId } }))
      assert.deepEqual(ids(events), ids(given))
      assertFeedOrder(events)
    }))

  for (const [name, filter, matches] of filters) {
    test(`the feed and count filter by ${name}`, () =>
      Effect.gen(function* () {
        const store = yield* EventStore
        const tenantId = freshTenant()
        const all = yield* assortment(tenantId)
        assert.equal(all.length, 12)
        const expected = all.filter(matches)
        assertSameEvents(yield* collect(store.feed({ filter: { ...filter, tenantId } })), expected)
        assert.equal(yield* store.count({ ...filter, tenantId }), expected.length)
      }))
  }

  test("without a filter the feed and count have every tenant's events", () =>
    Effect.gen(function* () {
      const store = yield* EventStore
      const after = yield* store.head
      const before = yield* store.count()
      const [a, b] = [freshTenant(), freshTenant()]
      yield* assortment(a)
      yield* assortment(b)
      const events = yield* collect(store.feed({ after }))
      assert.deepEqual(new Set(events.map(({ tenantId }) => tenantId)), new Set([a, b]))
      assert.equal(events.length, 24)
      assert.equal(yield* store.count(), before + 24)
      assert.equal(yield* store.count({}), before + 24)
    }))

  test("a filter of NULs, wildcards or injected SQL matches only what it names", () =>
    Effect.gen(function* () {
      const store = yield* EventStore
      const tenantId = freshTenant()
      const names = ["%", "_", "'; DROP TABLE es_events; --", "' OR '1'='1", "$1", "?", "\\", "{}", "Placed", "placed"]
      const stream = streamOf(tenantId)
      const given = newEvents(names.length, (i) => ({ type: names[i] as string, commandId: names[i] }))
      yield* store.append(stream, given, { expected: "any" })
      for (const [i, name] of names.entries()) {
        const id = [given[i]?.id]
        assert.deepEqual(ids(yield* collect(store.feed({ filter: { tenantId, types: [name] } }))), id)
        assert.deepEqual(ids(yield* collect(store.feed({ filter: { tenantId, commandId: name } }))), id)
      }
    }))

  test("a reader that resumes after any position gets exactly the rest", () =>
    Effect.gen(function* () {
      const store = yield* EventStore
      const tenantId = freshTenant()
      const all = yield* assortment(tenantId)
      for (const [i, { position }] of all.entries()) {
        const rest = yield* collect(store.feed({ after: position, filter: { tenantId } }))
        assertSameEvents(rest, all.slice(i + 1))
        const limited = yield* collect(store.feed({ after: position, limit: 2, filter: { tenantId } }))
        assertSameEvents(limited, all.slice(i + 1, i + 3))
      }
      const last = all.at(-1)?.position ?? 0
      assert.deepEqual(yield* collect(store.feed({ after: yield* store.head, filter: { tenantId } })), [])
      assert.ok((yield* store.head) >= last)
    }))

  test("a feed of 2,500 events is read whole across pages, and with limits at the page boundary", () =>
    Effect.gen(function* () {
      const store = yield* EventStore
      const tenantId = freshTenant()
      const given = newEvents(2500)
      for (const i of range(0, 4)) {
        const share = given.slice(i * 500, (i + 1) * 500)
        yield* store.append(streamOf(tenantId, `${i % 2}`), share, { expected: "any" })
      }
      const all = yield* collect(store.feed({ filter: { tenantId } }))
      assert.deepEqual(ids(all), ids(given))
      assertFeedOrder(all)
      for (const limit of [999, 1000, 1001, 2000, 2499, 2500, 2501]) {
        const part = yield* collect(store.feed({ filter: { tenantId }, limit }))
        assert.deepEqual(ids(part), ids(given.slice(0, limit)))
      }
    }))

  test("a reader that resumes page by page while 8 writers append sees each event once, in order", () =>
    Effect.gen(function* () {
      const store = yield* EventStore
      const tenantId = freshTenant()
      const total = 8 * 40
      const writer = (w: number) =>
        Effect.forEach(
          range(1, 40),
          (i) => store.append(streamOf(tenantId, `${(w + i) % 5}`), newEvents(1), { expected: "any" }),
          { discard: true }
        )
      yield* Effect.fork(Effect.all(range(1, 8).map(writer), { concurrency: "unbounded", discard: true }))
      const seen: Array<Event> = []
      while (seen.length < total) {
        const page = yield* collect(store.feed({ after: seen.at(-1)?.position ?? 0, filter: { tenantId }, limit: 17 }))
        seen.push(...page)
        yield* Effect.yieldNow()
      }
      assertFeedOrder(seen)
      assert.equal(new Set(ids(seen)).size, total)
      assertSameEvents(yield* collect(store.feed({ filter: { tenantId } })), seen)
    }))

  test("head is a position up to which the feed is complete, and the next append is after it", () =>
    Effect.gen(function* () {
      const store = yield* EventStore
      const tenantId = freshTenant()
      const first = yield* store.append(streamOf(tenantId), newEvents(2), { expected: "any" })
      const head = yield* store.head
      assert.ok(head >= first.position)
      const next = yield* store.append(streamOf(tenantId), newEvents(1), { expected: "any" })
      assert.ok(next.position > head)
      const events = yield* collect(store.feed({ after: head }))
      assert.deepEqual(
        events.map(({ position }) => position),
        [next.position]
      )
    }))
}
