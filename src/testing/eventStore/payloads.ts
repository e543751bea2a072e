/**
 * Contract of payloads, identifiers and times: what is accepted comes back exactly, what is not is refused by name.
 */
import assert from "node:assert/strict"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import { EventStore } from "../../EventStore.js"
import { jsonByName, nested, notJson, withUndefined } from "../jsonValues.js"
import { failsWith } from "../suite.js"
import type { Test } from "./fixtures.js"
import { freshStream, newEvent, newEvents, readAll } from "./fixtures.js"

export const payloads = (test: Test): void => {
  for (const [name, value] of Object.entries(jsonByName)) {
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

  for (const [name, data, place] of notJson) {
    test(`data that JSON would change is refused by its place: ${name}`, () =>
      Effect.gen(function* () {
        const store = yield* EventStore
        const stream = freshStream()
        const error = yield* failsWith(store.append(stream, [newEvent({ data })], { expected: "any" }), "InvalidInput")
        assert.ok(error.what.startsWith(`events[0].data${place}`), error.what)
        assert.notEqual(error.why, "")
        assert.equal(yield* store.version(stream), 0)
      }))
  }

  test("properties that are undefined are left out, as everywhere in JSON; a repeat without them is the same", () =>
    Effect.gen(function* () {
      const store = yield* EventStore
      const stream = freshStream()
      const { given, kept } = withUndefined
      const event = newEvent({ data: given, metadata: given })
      const appended = yield* store.append(stream, [event], { expected: "noStream" })
      const [stored] = yield* readAll(stream)
      assert.deepEqual([stored?.data, stored?.metadata], [kept, kept])
      const repeat = store.append(stream, [{ ...event, data: kept, metadata: kept }], { expected: "noStream" })
      assert.deepEqual(yield* repeat, appended)
    }))

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
