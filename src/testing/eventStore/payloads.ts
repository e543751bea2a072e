/**
 * Contract of payloads, identifiers and times: what is accepted comes back exactly, what is not is refused by name.
 */
import assert from "node:assert/strict"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import { EventStore } from "../../EventStore.js"
import type { Json } from "../../Json.js"
import { failsWith } from "../suite.js"
import type { Test } from "./fixtures.js"
import { freshStream, newEvent, newEvents, readAll } from "./fixtures.js"

export const nested = (levels: number): Json => {
  let value: Json = "bottom"
  for (let i = 0; i < levels; i++) value = i % 2 === 0 ? [value] : { in: value }
  return value
}

const payloadsByName: Readonly<Record<string, Json>> = {
  "null, booleans and empty containers": [null, true, false, [], {}, "", [[]], [{}]],
  "NUL and control characters": { "\0": "a\0b", "\u0001\u001f\u007f": "\b\f\n\r\t\u000b" },
  "lone surrogates": { "\ud800": "\udc00\ud800", text: "\ude00\ud83d" },
  "line separators of JavaScript": "\u2028\u2029",
  "quotes, backslashes and SQL": `"'\\\`; DROP TABLE es_events; -- $1 ? :a @b %s`,
  "text beyond the basic plane": "\u{1f600}\u{10ffff}\uffff\ufffe\ufffd",
  "text that is not normalised": ["\u00e9", "e\u0301", "\u202e"],
  "keys that mean something to JavaScript": { constructor: 1, toString: 2, prototype: 3, hasOwnProperty: 4, length: 5 },
  "empty keys": { "": { "": [""] } },
  "keys in the order given": { b: 1, a: 2, "10": 3, "9": 4, A: 5 },
  "numbers at the edges": [
    0,
    1,
    -1,
    0.1,
    1e21,
    1e-7,
    5e-324,
    -5e-324,
    Number.MAX_VALUE,
    -Number.MAX_VALUE,
    Number.EPSILON,
    2 ** 53 - 1,
    2 ** 53,
    2 ** 53 + 2,
    -(2 ** 53) + 1,
    123456789012345680000
  ],
  "numbers and booleans as text": ["1", "true", "null", "-0", "NaN", "1e400"],
  "512 levels": nested(512)
}

export const payloads = (test: Test): void => {
  for (const [name, value] of Object.entries(payloadsByName)) {
    test(`data and metadata come back exactly: ${name}`, () =>
      Effect.gen(function* () {
        const store = yield* EventStore
        const stream = freshStream()
        // Metadata is an object around it, so its limit of depth is met one level higher.
        const metadata = name === "512 levels" ? { in: nested(511) } : { value }
        yield* store.append(stream, [newEvent({ data: value, metadata })], { expected: "any" })
        const [event] = yield* readAll(stream)
        assert.deepEqual(event?.data, value)
        assert.equal(JSON.stringify(event?.data), JSON.stringify(value))
        assert.deepEqual(event?.metadata, metadata)
        yield* store.maintenance.update(event?.id ?? "", { data: value, metadata })
        const [updated] = yield* readAll(stream)
        assert.deepEqual(updated?.data, value)
      }))
  }

  test("payloads of 1 MiB come back exactly", () =>
    Effect.gen(function* () {
      const store = yield* EventStore
      const stream = freshStream()
      const texts = ["x".repeat(2 ** 20), "\0".repeat(2 ** 18), "\u{1f600}".repeat(2 ** 18)]
      yield* store.append(
        stream,
        newEvents(3, (i) => ({ data: texts[i] })),
        { expected: "any" }
      )
      assert.deepEqual(
        (yield* readAll(stream)).map(({ data }) => data === texts[0] || data === texts[1] || data === texts[2]),
        [true, true, true]
      )
    }))

  const refused: ReadonlyArray<readonly [name: string, value: unknown, what: string]> = [
    ["513 levels", nested(513), "events[0].data"],
    ["undefined", undefined, "events[0].data"],
    ["an undefined member", { a: undefined }, "events[0].data.a"],
    ["NaN", { list: [0, Number.NaN] }, "events[0].data.list[1]"],
    ["-0", [-0], "events[0].data[0]"],
    ["a bigint", { a: 1n }, "events[0].data.a"],
    ["a Date", { at: new Date(0) }, "events[0].data.at"],
    ["a Map", new Map(), "events[0].data"],
    ["an own __proto__", JSON.parse('{"__proto__":{"polluted":true}}'), "events[0].data"]
  ]
  for (const [name, data, what] of refused) {
    test(`data that JSON would change is refused by its place: ${name}`, () =>
      Effect.gen(function* () {
        const store = yield* EventStore
        const stream = freshStream()
        const error = yield* failsWith(store.append(stream, [newEvent({ data })], { expected: "any" }), "InvalidInput")
        assert.ok(error.what.startsWith(what), error.what)
        assert.notEqual(error.why, "")
        assert.equal(yield* store.version(stream), 0)
      }))
  }

  test("metadata must be an object", () =>
    Effect.gen(function* () {
      const store = yield* EventStore
      for (const metadata of [null, 1, "text", [], true]) {
        const event = Object.assign(newEvent(), { metadata })
        const error = yield* failsWith(store.append(freshStream(), [event], { expected: "any" }), "InvalidInput")
        assert.equal(error.what, "events[0].metadata")
      }
    }))

  test("identifiers of 255 bytes are kept exactly, longer ones are refused", () =>
    Effect.gen(function* () {
      const store = yield* EventStore
      const { tenantId } = freshStream()
      for (const name of ["x".repeat(255), "\u00e9".repeat(127), "\u{1f600}".repeat(63), "\ufffd", "\u2028"]) {
        const stream = { tenantId, domain: name, aggregateId: name }
        yield* store.append(stream, [newEvent({ type: name, commandId: name, instanceId: name })], { expected: "any" })
        const [event] = yield* readAll(stream)
        assert.deepEqual(
          [event?.domain, event?.aggregateId, event?.type, event?.commandId, event?.instanceId],
          [name, name, name, name, name]
        )
      }
      for (const name of [
        "",
        "x".repeat(256),
        "\u00e9".repeat(128),
        "\u{1f600}".repeat(64),
        "a\0b",
        "\ud800",
        "a\udc00"
      ]) {
        const stream = { tenantId, domain: "d", aggregateId: name }
        const address = store.append(stream, [newEvent()], { expected: "any" })
        assert.equal((yield* failsWith(address, "InvalidInput")).what, "stream.aggregateId")
        const type = store.append(freshStream(), [newEvent({ type: name })], { expected: "any" })
        assert.equal((yield* failsWith(type, "InvalidInput")).what, "events[0].type")
      }
    }))

  test("times from year 0 to 9999 come back to the millisecond, others are refused", () =>
    Effect.gen(function* () {
      const store = yield* EventStore
      const stream = freshStream()
      const first = Date.parse("0000-01-01T00:00:00.000Z")
      const last = Date.parse("9999-12-31T23:59:59.999Z")
      const times = [first, -1, 0, 1, Date.parse("1969-12-31T23:59:59.999Z"), 2 ** 31 * 1000, last]
      yield* store.append(
        stream,
        newEvents(times.length, (i) => ({ createdAt: DateTime.unsafeMake(times[i] as number) })),
        { expected: "any" }
      )
      assert.deepEqual(
        (yield* readAll(stream)).map(({ createdAt }) => createdAt.epochMillis),
        times
      )
      const { tenantId } = stream
      const from = yield* store.count({ tenantId, createdFrom: DateTime.unsafeMake(last) })
      const until = yield* store.count({ tenantId, createdUntil: DateTime.unsafeMake(first + 1) })
      assert.deepEqual([from, until], [1, 1])
      for (const time of [first - 1, last + 1]) {
        const event = newEvent({ createdAt: DateTime.unsafeMake(time) })
        const error = yield* failsWith(store.append(stream, [event], { expected: "any" }), "InvalidInput")
        assert.equal(error.what, "events[0].createdAt")
      }
    }))
}
