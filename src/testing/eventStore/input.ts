/**
 * Contract of arguments that look right and are not: each is refused, since taken at its face it would silently mean
 * something else. What the bad input property found is kept here by name.
 */
import assert from "node:assert/strict"
import * as Effect from "effect/Effect"
import type { Filter, Guard, StreamAppend } from "../../EventStore.js"
import { EventStore } from "../../EventStore.js"
import { collect, failsWith } from "../suite.js"
import type { Test } from "./fixtures.js"
import { freshStream, freshTenant, newEvent, streamOf } from "./fixtures.js"

export const input = (test: Test): void => {
  test("an array with holes is refused by its place: types, events, appends, guards", () =>
    Effect.gen(function* () {
      const store = yield* EventStore
      const share: StreamAppend = { stream: freshStream(), events: [newEvent()], expected: "any" }
      const guards: ReadonlyArray<Guard> = new Array(2)
      const refused = yield* Effect.all([
        failsWith(store.count({ types: new Array(3) }), "InvalidInput"),
        failsWith(collect(store.feed({ filter: { types: Object.assign(["Placed"], { length: 2 }) } })), "InvalidInput"),
        failsWith(store.append(freshStream(), new Array(2), { expected: "any" }), "InvalidInput"),
        failsWith(store.appendAll(new Array(2)), "InvalidInput"),
        failsWith(store.appendAll([share], { guards }), "InvalidInput")
      ])
      assert.deepEqual(
        refused.map(({ what }) => what),
        ["filter.types[0]", "options.filter.types[1]", "events[0]", "appends[0]", "guards[0]"]
      )
      assert.equal(yield* store.version(share.stream), 0)
    }))

  test("an array is read by its elements, whatever methods of its own it has", () =>
    Effect.gen(function* () {
      const store = yield* EventStore
      const tenantId = freshTenant()
      const shares: ReadonlyArray<StreamAppend> = [
        { stream: streamOf(tenantId), events: [newEvent()], expected: "any" }
      ]
      const disguised = <A extends object>(list: A): A => Object.defineProperty(list, "map", { value: () => [] })
      assert.equal((yield* store.appendAll(disguised(shares))).length, 1)
      assert.equal(yield* store.version(streamOf(tenantId)), 1)
      assert.equal(yield* store.count({ tenantId, types: disguised(["Happened"]) }), 1)
    }))

  test("a filter that is a Map, a Set or a Date is refused: it would match everything", () =>
    Effect.gen(function* () {
      const store = yield* EventStore
      for (const value of [new Map([["tenantId", "acme"]]), new Set(["acme"]), new Date(0)]) {
        const filter: Filter = Object.assign<Filter, object>(value as Filter, {})
        yield* failsWith(store.count(filter), "InvalidInput")
      }
    }))
}
