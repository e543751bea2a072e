/**
 * Contract of events through an application's Schema (`EventStore.forSchema`).
 */
import assert from "node:assert/strict"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type { ReadOptions } from "../../EventStore.js"
import { EventStore, forSchema } from "../../EventStore.js"
import { collect, failsWith, range } from "../suite.js"
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

const Sparse = Schema.TaggedStruct("Sparse", {
  optional: Schema.optional(Schema.Number),
  either: Schema.UndefinedOr(Schema.Number),
  inside: Schema.Struct({ optional: Schema.optional(Schema.String) }),
  list: Schema.Array(Schema.UndefinedOr(Schema.Number))
})
const sparse = forSchema(Sparse)

export const typed = (test: Test): void => {
  test("fields that are undefined are left out; undefined in an array, NaN and -0 are refused", () =>
    Effect.gen(function* () {
      const store = yield* EventStore
      const stream = freshStream()
      const event = { _tag: "Sparse", optional: undefined, either: undefined, inside: {}, list: [1] } as const
      yield* sparse.append(stream, [event], { expected: "noStream" })
      assert.deepEqual(
        (yield* collect(store.read(stream))).map(({ data }) => data),
        [{ inside: {}, list: [1] }]
      )
      const [read] = yield* collect(sparse.read(stream))
      assert.deepEqual(
        [read?.data.optional, read?.data.either, read?.data.inside.optional],
        [undefined, undefined, undefined]
      )
      const refused: ReadonlyArray<readonly [what: string, changes: Partial<typeof Sparse.Type>]> = [
        ["list[1]", { list: [1, undefined] }],
        ["optional", { optional: Number.NaN }],
        ["either", { either: -0 }]
      ]
      for (const [what, changes] of refused) {
        const append = sparse.append(stream, [{ ...event, ...changes }], { expected: 1 })
        assert.equal((yield* failsWith(append, "InvalidInput")).what, `events[0].data.${what}`)
      }
      assert.equal(yield* store.version(stream), 1)
    }))

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

  test("a typed fold sees what a typed read sees, in both directions, within bounds, over any number of pages", () =>
    Effect.gen(function* () {
      const Counted = Schema.TaggedStruct("Counted", { n: Schema.NumberFromString })
      const counts = forSchema(Counted)
      const stream = freshStream()
      const events = range(1, 2_500).map((n) => Counted.make({ n }))
      yield* counts.append(stream, events, { expected: "noStream" })
      const all: ReadonlyArray<ReadOptions> = [
        {},
        { direction: "backward" },
        { direction: "forward", fromVersion: 3, toVersion: 2_400, limit: 2_000 },
        { direction: "backward", fromVersion: 3, toVersion: 2_400, limit: 1_500 },
        { fromVersion: 1_501, limit: 1_000 },
        { limit: 1 },
        { fromVersion: 2_501 }
      ]
      for (const options of all) {
        const folded = yield* counts.fold(
          stream,
          Array.of<readonly [number, number]>(),
          (seen, { data, version }) => [...seen.splice(0), [data.n, version] as const],
          options
        )
        assert.deepEqual(
          folded,
          (yield* collect(counts.read(stream, options))).map(({ data, version }) => [data.n, version])
        )
      }
      assert.equal(yield* counts.fold(freshStream(), "nothing", () => "something"), "nothing")
    }))

  test("a typed fold decodes with the Schema's effects and services, in order", () =>
    Effect.gen(function* () {
      class Rates extends Context.Tag("Rates")<Rates, number>() {}
      const Price = Schema.transformOrFail(Schema.Number, Schema.Number, {
        decode: (n) =>
          Effect.delay(
            Effect.map(Rates, (rate) => n * rate),
            1
          ),
        encode: (n) => Effect.map(Rates, (rate) => n / rate)
      })
      const prices = forSchema(Schema.TaggedStruct("Priced", { price: Price }))
      const stream = freshStream()
      const folded = yield* Effect.gen(function* () {
        const events = [20, 40, 60].map((price) => ({ _tag: "Priced" as const, price }))
        yield* prices.append(stream, events, { expected: "any" })
        return yield* prices.fold(stream, "", (text, { data }) => `${text} ${data.price}`)
      }).pipe(Effect.provideService(Rates, 10))
      assert.equal(folded, " 20 40 60")
      assert.deepEqual(
        (yield* readAll(stream)).map(({ data }) => data),
        [{ price: 2 }, { price: 4 }, { price: 6 }]
      )
    }))

  test("a typed fold refuses bad options, and ends with the first event that does not fit", () =>
    Effect.gen(function* () {
      const store = yield* EventStore
      const stream = freshStream()
      yield* orders.append(stream, history, { expected: "any" })
      const bad = newEvent({ type: "Unknown" })
      yield* store.append(stream, [bad, newEvent({ type: "Closed", data: {} })], { expected: "any" })
      const seen: Array<number> = []
      const error = yield* failsWith(
        orders.fold(stream, seen, (seen, { version }) => {
          seen.push(version)
          return seen
        }),
        "EventDecodeError"
      )
      assert.deepEqual([error.id, error.stream, error.version], [bad.id, stream, 5])
      assert.deepEqual(seen, [1, 2, 3, 4])
      const options: object = { limits: 1 }
      yield* failsWith(
        orders.fold(stream, 0, () => 0, options),
        "InvalidInput"
      )
      yield* failsWith(
        orders.fold(stream, 0, () => 0, { limit: 0 }),
        "InvalidInput"
      )
      yield* failsWith(
        orders.fold({ ...stream, domain: "" }, 0, () => 0),
        "InvalidInput"
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
        assert.deepEqual([error.stream, error.version], [stream, 1])
        const place = `version 1 of stream ${stream.tenantId}/${stream.domain}/${stream.aggregateId}`
        assert.ok(
          error.message.startsWith(`event ${bad.id} of type ${bad.type}, ${place}, does not fit`),
          error.message
        )
      }
    }))

  test("an event that the Schema cannot encode is InvalidInput, and nothing is written", () =>
    Effect.gen(function* () {
      const store = yield* EventStore
      const stream = freshStream()
      const bad = { _tag: "Shipped", at: new Date(Number.NaN) } as const
      const closed = { _tag: "Closed" } as const
      const limited = forSchema(Schema.TaggedStruct("Counted", { n: Schema.Int }))
      const refused = yield* failsWith(orders.append(stream, [closed, bad], { expected: "any" }), "InvalidInput")
      assert.equal(refused.what, "events[1]")
      yield* failsWith(limited.append(stream, [{ _tag: "Counted", n: 0.5 }], { expected: "any" }), "InvalidInput")
      assert.equal(yield* store.version(stream), 0)
    }))

  test("a typed append refuses keys that it does not have, and what is no list of events or no options", () =>
    Effect.gen(function* () {
      const store = yield* EventStore
      const stream = freshStream()
      const closed = { _tag: "Closed" } as const
      const unknown = (value: unknown): never => value as never
      for (const options of [{ expected: "any", commandID: "c" }, { expected: "any", data: {} }, undefined, null]) {
        yield* failsWith(orders.append(stream, [closed], unknown(options)), "InvalidInput")
      }
      yield* failsWith(orders.append(stream, unknown(closed), { expected: "any" }), "InvalidInput")
      yield* failsWith(orders.encode(closed, unknown({ commandID: "c" })), "InvalidInput")
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
