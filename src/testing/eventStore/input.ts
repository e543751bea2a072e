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
import { freshStream, freshTenant, newEvent, newEvents, plain, streamOf } from "./fixtures.js"

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
        ["filter.types[0]", "options.filter.types[1]", "events[0]", "appends[0]", "options.guards[0]"]
      )
      assert.equal(yield* store.version(share.stream), 0)
    }))

  test("a misspelt key of an event, a share of an append, a guard or a change is refused by name", () =>
    Effect.gen(function* () {
      const store = yield* EventStore
      const stream = freshStream()
      const event = newEvent()
      yield* store.append(stream, [event], { expected: "noStream" })
      const share: StreamAppend = { stream, events: [newEvent()], expected: "any" }
      const misspelt = <A extends object>(value: A): A => Object.assign({ ...value }, { commandID: "c" })
      const other: Guard = { stream: freshStream(), expected: "any" }
      const refused = yield* Effect.all([
        failsWith(store.append(stream, [newEvent(), misspelt(newEvent())], { expected: "any" }), "InvalidInput"),
        failsWith(
          store.append(stream, [Object.assign(newEvent(), { version: 2 })], { expected: "any" }),
          "InvalidInput"
        ),
        failsWith(store.appendAll([misspelt(share)]), "InvalidInput"),
        failsWith(store.appendAll([{ ...share, events: [misspelt(newEvent())] }]), "InvalidInput"),
        failsWith(store.appendAll([share], { guards: [misspelt(other)] }), "InvalidInput"),
        failsWith(store.maintenance.update(event.id, misspelt({ data: {} })), "InvalidInput")
      ])
      assert.deepEqual(
        refused.map(({ what }) => what),
        [
          "a key of events[1]",
          "a key of events[0]",
          "a key of appends[0]",
          "a key of appends[0].events[0]",
          "a key of options.guards[0]",
          "a key of changes"
        ]
      )
      for (const [i, { why }] of refused.entries()) assert.ok(why.includes(i === 1 ? '"version"' : '"commandID"'), why)
      assert.equal(yield* store.version(stream), 1)
    }))

  test("what was expected is named as the caller wrote it", () =>
    Effect.gen(function* () {
      const store = yield* EventStore
      const stream = freshStream()
      const expected = -1
      const refused = yield* Effect.all([
        failsWith(store.append(stream, [newEvent()], { expected }), "InvalidInput"),
        failsWith(store.appendAll([{ stream, events: [newEvent()], expected }]), "InvalidInput"),
        failsWith(
          store.appendAll([{ stream, events: [newEvent()], expected: 0 }], {
            guards: [{ stream: freshStream(), expected }]
          }),
          "InvalidInput"
        )
      ])
      assert.deepEqual(
        refused.map(({ what }) => what),
        ["options.expected", "appends[0].expected", "options.guards[0].expected"]
      )
    }))

  test("a stored event, and any object with the fields of an address, names its stream", () =>
    Effect.gen(function* () {
      const store = yield* EventStore
      class Order {
        readonly domain = "order"
        readonly aggregateId = "1"
        readonly lines = ["lamp"]
        constructor(readonly tenantId: string) {}
      }
      const order = new Order(freshTenant())
      yield* store.append(order, [newEvent()], { expected: "noStream" })
      const [stored] = yield* collect(store.read(order))
      assert.ok(stored !== undefined)
      assert.equal((yield* store.append(stored, [newEvent()], { expected: stored.version })).version, 2)
    }))

  test("a stored event is appended to another stream as it is, and leaves its place behind", () =>
    Effect.gen(function* () {
      const store = yield* EventStore
      const { source, target } = { source: freshStream(), target: freshStream() }
      yield* store.append(source, [newEvent(), newEvent({ commandId: "c", metadata: { by: "me" } })], { expected: 0 })
      const [, stored] = yield* collect(store.read(source))
      assert.ok(stored !== undefined)
      yield* store.maintenance.deleteStream(source)
      const misspelt = Object.assign({ ...stored }, { commandID: "c" })
      yield* failsWith(store.append(target, [misspelt], { expected: "noStream" }), "InvalidInput")
      yield* store.append(target, [stored], { expected: "noStream" })
      const [copy] = yield* collect(store.read(target))
      assert.ok(copy !== undefined && copy.position > stored.position)
      assert.deepEqual(plain({ ...copy, position: 0 }), plain({ ...stored, ...target, version: 1, position: 0 }))
    }))

  test("an event of a class of the application is taken by its fields, and one field too many is refused", () =>
    Effect.gen(function* () {
      const store = yield* EventStore
      const stream = freshStream()
      class Placed {
        readonly type = "Placed"
        constructor(readonly data: object) {}
        get commandId() {
          return "command"
        }
      }
      class Noted extends Placed {
        readonly notedBy = "me"
      }
      yield* store.append(stream, [new Placed({ total: 1 })], { expected: "noStream" })
      yield* failsWith(store.append(stream, [new Noted({ total: 1 })], { expected: "any" }), "InvalidInput")
      const events = yield* collect(store.read(stream))
      assert.deepEqual(
        events.map(({ commandId, data, type }) => [type, data, commandId]),
        [["Placed", { total: 1 }, "command"]]
      )
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

  test("the largest append is taken as a whole: 10,000 events, or 1,000 streams with as many guards", () =>
    Effect.gen(function* () {
      const store = yield* EventStore
      const stream = freshStream()
      const { version } = yield* store.append(stream, newEvents(10_000), { expected: "noStream" })
      assert.equal(version, 10_000)
      const any = { expected: "any" } as const
      const tenantId = freshTenant()
      const ofStreams = (domain: string) => Array.from({ length: 1_000 }, (_, i) => streamOf(tenantId, `${i}`, domain))
      const halves = ["a", "b"].map((id) => ({ stream: streamOf(freshTenant(), id), events: newEvents(5_000), ...any }))
      assert.deepEqual(
        (yield* store.appendAll(halves)).map(({ version }) => version),
        [5_000, 5_000]
      )
      const results = yield* store.appendAll(
        ofStreams("order").map((stream) => ({ stream, events: [newEvent()], expected: "noStream" })),
        { guards: ofStreams("cart").map((stream) => ({ stream, expected: "noStream" })) }
      )
      assert.deepEqual(new Set(results.map(({ version }) => version)), new Set([1]))
      assert.equal(yield* store.count({ tenantId }), 1_000)
    }))

  test("one event, stream, guard or character more than an append may have is refused, and nothing is appended", () =>
    Effect.gen(function* () {
      const store = yield* EventStore
      const tenantId = freshTenant()
      const streams = Array.from({ length: 1_001 }, (_, i) => streamOf(tenantId, `${i}`))
      const share = (aggregateId: string, events: StreamAppend["events"]): StreamAppend => ({
        stream: streamOf(tenantId, aggregateId),
        events,
        expected: "any"
      })
      // With its two quotes a quarter of all that an append may have; without metadata it has two characters more.
      const quarter = "x".repeat(16 * 1024 * 1024 - 2)
      const large = newEvents(4, () => ({ data: quarter }))
      const any = { expected: "any" } as const
      const refused = yield* Effect.all([
        failsWith(store.append(streamOf(tenantId), newEvents(10_001), any), "InvalidInput"),
        failsWith(store.append(streamOf(tenantId), large, any), "InvalidInput"),
        failsWith(store.appendAll([share("a", newEvents(5_000)), share("b", newEvents(5_001))]), "InvalidInput"),
        failsWith(store.appendAll([share("a", large.slice(2)), share("b", large.slice(0, 2))]), "InvalidInput"),
        failsWith(
          store.appendAll(streams.map((stream) => ({ stream, events: [newEvent()], expected: "any" }))),
          "InvalidInput"
        ),
        failsWith(
          store.appendAll([share("a", [newEvent()])], { guards: streams.map((stream) => ({ stream, ...any })) }),
          "InvalidInput"
        )
      ])
      assert.deepEqual(
        refused.map(({ what }) => what),
        ["events", "events", "appends", "appends", "appends", "options.guards"]
      )
      for (const [i, limit] of [10_000, 67_108_864, 10_000, 67_108_864, 1_000, 1_000].entries())
        assert.ok(refused[i]?.why.includes(`${limit}`), refused[i]?.why)
      assert.equal(yield* store.count({ tenantId }), 0)
    }))
}
