/**
 * Contract of repeats: an append is recognised by its event ids, and told from a clash.
 */
import assert from "node:assert/strict"
import * as Effect from "effect/Effect"
import type { ExpectedVersion, NewEvent, StreamId } from "../../EventStore.js"
import { EventStore } from "../../EventStore.js"
import { failsWith, range } from "../suite.js"
import type { GivenEvent, Test } from "./fixtures.js"
import { freshStream, freshTenant, ids, newEvent, newEvents, readAll, streamOf } from "./fixtures.js"

const expectations: ReadonlyArray<ExpectedVersion> = ["any", "noStream", "streamExists", 0, 2, 3, 99]

export const idempotency = (test: Test): void => {
  test("a repeat answers what the first append answered, whatever it expects, also after further appends", () =>
    Effect.gen(function* () {
      const store = yield* EventStore
      const stream = freshStream()
      const events = newEvents(3, (i) => ({ metadata: { i }, commandId: "command-1" }))
      const first = yield* store.append(stream, events, { expected: "noStream" })
      for (const expected of expectations) {
        assert.deepEqual({ ...(yield* store.append(stream, events, { expected })) }, { ...first })
      }
      yield* store.append(stream, newEvents(2), { expected: 3 })
      for (const expected of expectations) {
        assert.deepEqual({ ...(yield* store.append(stream, events, { expected })) }, { ...first })
      }
      assert.equal(yield* store.version(stream), 5)
    }))

  test("a repeat of an append to several streams answers the first answers, although its guards fail now", () =>
    Effect.gen(function* () {
      const store = yield* EventStore
      const tenant = freshTenant()
      const guards = [{ stream: streamOf(tenant, "guard"), expected: "noStream" }] as const
      const appends = ["a", "b"].map(
        (name) => ({ stream: streamOf(tenant, name), events: newEvents(2), expected: "noStream" }) as const
      )
      const first = yield* store.appendAll(appends, { guards })
      yield* store.append(streamOf(tenant, "guard"), [newEvent()], { expected: "noStream" })
      const again = yield* store.appendAll(appends, { guards })
      assert.deepEqual(
        again.map((appended) => ({ ...appended })),
        first.map((appended) => ({ ...appended }))
      )
      assert.equal(yield* store.count({ tenantId: tenant }), 5)
    }))

  test("concurrent repeats of one append all get the same answer, and the events exist once", () =>
    Effect.gen(function* () {
      const store = yield* EventStore
      for (const expected of ["any", "noStream"] as const) {
        const stream = freshStream()
        const events = newEvents(3)
        const answers = yield* Effect.all(
          range(1, 32).map(() => store.append(stream, events, { expected })),
          { concurrency: "unbounded" }
        )
        for (const answer of answers) assert.deepEqual({ ...answer }, { ...answers[0] })
        assert.deepEqual(ids(yield* readAll(stream)), ids(events))
      }
    }))

  test("a repeat has its data as values, in any order of keys, and may have other metadata", () =>
    Effect.gen(function* () {
      const store = yield* EventStore
      const stream = freshStream()
      const event = newEvent({ data: { a: 1, b: { c: [1, { d: 2, e: "é" }], f: null } }, metadata: { trace: "1" } })
      const first = yield* store.append(stream, [event], { expected: "noStream" })
      for (const retry of [
        { ...event, data: { b: { f: null, c: [1, { e: "é", d: 2 }] }, a: 1 } },
        { ...event, metadata: { trace: "2" } },
        { ...event, metadata: {} }
      ]) {
        assert.deepEqual({ ...(yield* store.append(stream, [retry], { expected: "noStream" })) }, { ...first })
      }
      const [stored, ...others] = yield* readAll(stream)
      assert.deepEqual(others, [])
      assert.deepEqual([stored?.data, stored?.metadata], [event.data, event.metadata])
      const swapped = { ...event, data: { a: 1, b: { c: [{ d: 2, e: "é" }, 1], f: null } } }
      yield* failsWith(store.append(stream, [swapped], { expected: "any" }), "DuplicateEvent")
    }))

  type Changed = (events: ReadonlyArray<GivenEvent>) => ReadonlyArray<NewEvent>
  const changeLast =
    (fields: Partial<NewEvent>): Changed =>
    (events) =>
      events.map((event, i) => (i === events.length - 1 ? { ...event, ...fields } : event))
  const clashes: ReadonlyArray<readonly [name: string, change: Changed]> = [
    ["other data", changeLast({ data: { other: true } })],
    ["another type", changeLast({ type: "Other" })],
    ["another command", changeLast({ commandId: "other" })],
    ["an event more", (events) => [...events, newEvent()]],
    ["a new event before", (events) => [newEvent(), ...events]],
    ["a new event in between", ([first, ...rest]) => [first as GivenEvent, newEvent(), ...rest]],
    ["another order", (events) => [...events].reverse()],
    ["an event left out in the middle", ([first, , third]) => [first as GivenEvent, third as GivenEvent]]
  ]
  for (const [name, change] of clashes) {
    test(`the same ids with ${name} are a clash, and nothing is written`, () =>
      Effect.gen(function* () {
        const store = yield* EventStore
        const stream = freshStream()
        const events = newEvents(3, () => ({ metadata: { by: "me" }, commandId: "command-1" }))
        yield* store.append(stream, events, { expected: "noStream" })
        for (const expected of ["any", 3, 99] as const) {
          const clash = yield* failsWith(store.append(stream, change(events), { expected }), "DuplicateEvent")
          assert.ok(ids(events).includes(clash.id))
          assert.notEqual(clash.why, "")
        }
        assert.equal(yield* store.version(stream), 3)
        assert.deepEqual(ids(yield* readAll(stream)), ids(events))
      }))
  }

  const elsewhere: ReadonlyArray<readonly [name: string, (stream: StreamId) => StreamId]> = [
    ["aggregate", (stream) => ({ ...stream, aggregateId: "2" })],
    ["domain", (stream) => ({ ...stream, domain: "invoice" })],
    ["tenant", (stream) => ({ ...stream, tenantId: freshTenant() })]
  ]
  for (const [name, move] of elsewhere) {
    test(`the same ids in the stream of another ${name} are a clash`, () =>
      Effect.gen(function* () {
        const store = yield* EventStore
        const stream = freshStream()
        const events = newEvents(2)
        yield* store.append(stream, events, { expected: "noStream" })
        yield* failsWith(store.append(move(stream), events, { expected: "any" }), "DuplicateEvent")
        assert.equal(yield* store.version(move(stream)), 0)
      }))
  }

  test("a clash beside new events names the first id that is taken, in the order of the call", () =>
    Effect.gen(function* () {
      const store = yield* EventStore
      const stream = freshStream()
      const [first, second] = newEvents(2) as [GivenEvent, GivenEvent]
      yield* store.append(stream, [first, second], { expected: "noStream" })
      for (const taken of [
        [first, second],
        [second, first]
      ]) {
        const clash = yield* failsWith(
          store.append(stream, [newEvent(), ...taken], { expected: "any" }),
          "DuplicateEvent"
        )
        assert.equal(clash.id, taken[0]?.id)
      }
    }))

  test("an append to several streams that holds one existing event is a clash as a whole", () =>
    Effect.gen(function* () {
      const store = yield* EventStore
      const tenant = freshTenant()
      const taken = newEvent()
      yield* store.append(streamOf(tenant, "a"), [taken], { expected: "noStream" })
      yield* failsWith(
        store.appendAll([
          { stream: streamOf(tenant, "a"), events: [taken], expected: "any" },
          { stream: streamOf(tenant, "b"), events: [newEvent()], expected: "any" }
        ]),
        "DuplicateEvent"
      )
      assert.equal(yield* store.count({ tenantId: tenant }), 1)
    }))

  test("an id twice in one append is refused before anything is written", () =>
    Effect.gen(function* () {
      const store = yield* EventStore
      const stream = freshStream()
      const event = newEvent()
      yield* failsWith(store.append(stream, [event, newEvent(), event], { expected: "any" }), "InvalidInput")
      assert.equal(yield* store.version(stream), 0)
    }))

  test("of two different appends that race for one id exactly one happens, the other is a clash", () =>
    Effect.gen(function* () {
      const store = yield* EventStore
      const tenant = freshTenant()
      const event = newEvent()
      const outcomes = yield* Effect.all(
        range(1, 16).map((i) =>
          Effect.either(store.append(streamOf(tenant, `${i}`), [newEvent(), event], { expected: "any" }))
        ),
        { concurrency: "unbounded" }
      )
      const tags = outcomes.map((outcome) => (outcome._tag === "Right" ? "won" : outcome.left._tag)).sort()
      assert.deepEqual(tags, [...Array.from({ length: 15 }, () => "DuplicateEvent"), "won"])
      assert.equal(yield* store.count({ tenantId: tenant }), 2)
    }))
}
