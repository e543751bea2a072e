/**
 * Contract of `page`: keyset pages over the feed in both directions.
 */
import assert from "node:assert/strict"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { PageOptions } from "../../EventStore.js"
import { EventStore } from "../../EventStore.js"
import { walkPages } from "../log.js"
import { collect, failsWith, range } from "../suite.js"
import { assortment, filters } from "./feed.js"
import type { Test } from "./fixtures.js"
import { assertSameEvents, freshTenant, ids, newEvent, newEvents, streamOf } from "./fixtures.js"

/** All pages from the first on; `between` runs after each. */
const walk = <E, R>(options: PageOptions, between: Effect.Effect<unknown, E, R>) =>
  Effect.flatMap(EventStore, (store) =>
    walkPages(
      (cursor) => Effect.map(store.page({ ...options, cursor }), ({ events, next }) => ({ items: events, next })),
      options.limit ?? 100,
      between
    )
  )

export const pages = (test: Test): void => {
  for (const limit of [1, 7, 50, 51]) {
    test(`forward pages of ${limit} have every event once, those appended meanwhile too`, () =>
      Effect.gen(function* () {
        const store = yield* EventStore
        const tenantId = freshTenant()
        yield* store.append(streamOf(tenantId), newEvents(50), { expected: "any" })
        let left = 5
        const append = Effect.suspend(() =>
          left-- > 0 ? store.append(streamOf(tenantId, "2"), [newEvent()], { expected: "any" }) : Effect.void
        )
        const seen = yield* walk({ limit, filter: { tenantId } }, append)
        const all = yield* collect(store.feed({ filter: { tenantId } }))
        assertSameEvents(seen, all.slice(0, seen.length))
        assert.ok(seen.length >= 50)
        if (limit <= 7) assert.equal(seen.length, 55)
      }))

    test(`backward pages of ${limit} have every event once, and events appended meanwhile shift nothing`, () =>
      Effect.gen(function* () {
        const store = yield* EventStore
        const tenantId = freshTenant()
        yield* store.append(streamOf(tenantId), newEvents(50), { expected: "any" })
        const all = yield* collect(store.feed({ filter: { tenantId } }))
        const append = store.append(streamOf(tenantId, "2"), [newEvent()], { expected: "any" })
        const seen = yield* walk({ limit, direction: "backward", filter: { tenantId } }, append)
        assertSameEvents(seen, [...all].reverse())
      }))
  }

  test("pages of large events end before their limit, say so, and have every event once, in both directions", () =>
    Effect.gen(function* () {
      const store = yield* EventStore
      const tenantId = freshTenant()
      const data = { text: "x".repeat(1024 * 1024) }
      const large = newEvents(5).map((event) => ({ ...event, data }))
      yield* store.append(streamOf(tenantId), large, { expected: "noStream" })
      const all = yield* collect(store.feed({ filter: { tenantId } }))
      assert.equal(all.length, 5)
      for (const direction of ["forward", "backward"] as const) {
        const options = { limit: 5, direction, filter: { tenantId } }
        const first = yield* store.page(options)
        assert.ok(first.events.length >= 1 && first.events.length < 5, `${first.events.length}`)
        assert.ok(Option.isSome(first.next))
        assertSameEvents(yield* walk(options, Effect.void), direction === "forward" ? all : [...all].reverse())
      }
    }))

  for (const [name, filter, matches] of filters) {
    test(`pages filter by ${name}, in both directions`, () =>
      Effect.gen(function* () {
        const tenantId = freshTenant()
        const expected = (yield* assortment(tenantId)).filter(matches)
        const options = { limit: 2, filter: { ...filter, tenantId } }
        assertSameEvents(yield* walk(options, Effect.void), expected)
        assertSameEvents(yield* walk({ ...options, direction: "backward" }, Effect.void), expected.reverse())
      }))
  }

  test("a page has 100 events unless told, at most 1,000, and the last page has no next", () =>
    Effect.gen(function* () {
      const store = yield* EventStore
      const tenantId = freshTenant()
      const given = newEvents(1000)
      yield* store.append(streamOf(tenantId), given, { expected: "any" })
      assert.equal((yield* store.page({ filter: { tenantId } })).events.length, 100)
      const whole = yield* store.page({ filter: { tenantId }, limit: 1000 })
      assert.deepEqual(ids(whole.events), ids(given))
      assert.ok(Option.isNone(whole.next))
      const most = yield* store.page({ filter: { tenantId }, limit: 999 })
      assert.ok(Option.isSome(most.next))
      for (const limit of [0, 1001]) {
        assert.equal((yield* failsWith(store.page({ limit }), "InvalidInput")).what, "options.limit")
      }
      const none = yield* store.page({ filter: { tenantId: freshTenant() } })
      assert.deepEqual(none.events, [])
      assert.ok(Option.isNone(none.next))
    }))

  test("a cursor that no page gave, or that a page of the other direction gave, is refused", () =>
    Effect.gen(function* () {
      const store = yield* EventStore
      const tenantId = freshTenant()
      yield* store.append(streamOf(tenantId), newEvents(3), { expected: "any" })
      const { next } = yield* store.page({ filter: { tenantId }, limit: 1 })
      const cursor = Option.getOrThrow(next)
      const bad = [
        "",
        " ",
        "x",
        "0",
        "-1",
        `${cursor} `,
        `${cursor}\n`,
        `2${cursor}`,
        "1fzzzzzzzzzzz",
        "\0",
        "1f",
        cursor.repeat(50)
      ]
      for (const cursor of bad) {
        const refused = yield* failsWith(store.page({ cursor, filter: { tenantId } }), "InvalidInput")
        assert.equal(refused.what, "options.cursor")
      }
      const wrong = store.page({ cursor, direction: "backward", filter: { tenantId } })
      assert.equal((yield* failsWith(wrong, "InvalidInput")).what, "options.cursor")
    }))

  test("pages of all tenants follow the feed", () =>
    Effect.gen(function* () {
      const store = yield* EventStore
      for (const _ of range(1, 3)) yield* store.append(streamOf(freshTenant()), newEvents(2), { expected: "any" })
      const newest = yield* store.page({ direction: "backward", limit: 6 })
      const all = yield* collect(store.feed())
      assertSameEvents(newest.events, all.slice(-6).reverse())
    }))
}
