/**
 * Contract of events through an application's Schema (`EventStore.forSchema`).
 */
import assert from "node:assert/strict"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { EventStore, forSchema } from "../../EventStore.js"
import { collect, failsWith } from "../suite.js"
import type { Test } from "./fixtures.js"
import { freshStream, newEvent, readAll } from "./fixtures.js"

const OrderEvent = Schema.Union(
  Schema.TaggedStruct("Placed", { total: Schema.NumberFromString, tags: Schema.ReadonlySet(Schema.String) }),
  Schema.TaggedStruct("Shipped", { at: Schema.Date, note: Schema.optional(Schema.String) }),
  Schema.TaggedStruct("Closed", {})
)
const orders = forSchema(OrderEvent)

const history: ReadonlyArray<typeof OrderEvent.Type> = [
  { _tag: "Placed", total: 12.5, tags: new Set(["a", "b"]) },
  { _tag: "Shipped", at: new Date(86_400_000), note: "left at the door" },
  { _tag: "Shipped", at: new Date(86_400_001) },
  { _tag: "Closed" }
]

export const typed = (test: Test): void => {
  test("typed events come back as they were, by read, feed and subscribe, with their transformations", () =>
    Effect.gen(function* () {
      const store = yield* EventStore
      const stream = freshStream()
      const filter = { tenantId: stream.tenantId }
      const envelope = { metadata: { by: "me" }, commandId: "command" }
      const appended = yield* orders.append(stream, history, { expected: "noStream", ...envelope })
      assert.equal(appended.version, 4)
      const events = yield* collect(orders.read(stream))
      assert.deepEqual(
        events.map(({ data }) => data),
        history
      )
      assert.ok(events.every(({ commandId, metadata }) => commandId === "command" && metadata.by === "me"))
      for (const reading of [orders.feed({ filter }), orders.subscribe({ filter, limit: 4 })]) {
        assert.deepEqual(
          (yield* collect(reading)).map(({ data }) => data),
          history
        )
      }
      const stored = yield* collect(store.read(stream))
      assert.deepEqual(
        stored.map(({ data, type }) => [type, data]),
        [
          ["Placed", { total: "12.5", tags: ["a", "b"] }],
          ["Shipped", { at: "1970-01-02T00:00:00.000Z", note: "left at the door" }],
          ["Shipped", { at: "1970-01-02T00:00:00.001Z" }],
          ["Closed", {}]
        ]
      )
    }))

  test("an encoded event is appended like any other, and a repeat is recognised", () =>
    Effect.gen(function* () {
      const store = yield* EventStore
      const stream = freshStream()
      const { id } = newEvent()
      const event = yield* orders.encode({ _tag: "Placed", total: 1, tags: new Set() }, { id })
      const first = yield* store.append(stream, [event], { expected: "noStream" })
      assert.deepEqual({ ...(yield* store.append(stream, [event], { expected: "noStream" })) }, { ...first })
    }))

  test("an event of a type that the Schema does not know, or of another shape, fails typed and names it", () =>
    Effect.gen(function* () {
      const store = yield* EventStore
      for (const bad of [
        newEvent({ type: "Unknown" }),
        newEvent({ type: "Shipped", data: { at: 1 } }),
        newEvent({ type: "Closed", data: [] })
      ]) {
        const stream = freshStream()
        yield* store.append(stream, [bad], { expected: "any" })
        const error = yield* failsWith(collect(orders.read(stream)), "EventDecodeError")
        const [stored] = yield* readAll(stream)
        assert.deepEqual([error.id, error.type, error.position], [bad.id, bad.type, stored?.position])
      }
    }))

  test("an event that the Schema cannot encode is InvalidInput, and nothing is written", () =>
    Effect.gen(function* () {
      const store = yield* EventStore
      const stream = freshStream()
      const bad = { _tag: "Shipped", at: new Date(Number.NaN) } as const
      const closed = { _tag: "Closed" } as const
      const limited = forSchema(Schema.TaggedStruct("Counted", { n: Schema.Int }))
      yield* failsWith(orders.append(stream, [closed, bad], { expected: "any" }), "InvalidInput")
      yield* failsWith(limited.append(stream, [{ _tag: "Counted", n: 0.5 }], { expected: "any" }), "InvalidInput")
      assert.equal(yield* store.version(stream), 0)
    }))

  test("types of others are left out of a feed by filter", () =>
    Effect.gen(function* () {
      const store = yield* EventStore
      const stream = freshStream()
      yield* orders.append(stream, history, { expected: "any" })
      yield* store.append(stream, [newEvent({ type: "Foreign" })], { expected: "any" })
      const filter = { tenantId: stream.tenantId, types: ["Placed", "Shipped", "Closed"] }
      assert.equal((yield* collect(orders.feed({ filter }))).length, 4)
    }))
}
