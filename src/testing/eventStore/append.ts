/**
 * Contract of `append`: expectations, atomicity of a batch, and one winner per version.
 */
import assert from "node:assert/strict"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Option from "effect/Option"
import type { ExpectedVersion } from "../../EventStore.js"
import { EventStore } from "../../EventStore.js"
import { failsWith, isIncreasing, range } from "../suite.js"
import type { Test } from "./fixtures.js"
import { freshStream, freshTenant, ids, newEvent, newEvents, readAll, streamOf, versions } from "./fixtures.js"

const fibers = 32

export const append = (test: Test): void => {
  test("the first events of a stream get the versions from 1 on", () =>
    Effect.gen(function* () {
      const store = yield* EventStore
      const stream = freshStream()
      const events = newEvents(3)
      const appended = yield* store.append(stream, events, { expected: "noStream" })
      const stored = yield* readAll(stream)
      assert.equal(appended.version, 3)
      assert.deepEqual(versions(stored), [1, 2, 3])
      assert.deepEqual(ids(stored), ids(events))
      assert.equal(stored[2]?.position, appended.position)
      assert.ok(isIncreasing(stored.map(({ position }) => position)))
    }))

  const empty: ReadonlyArray<ExpectedVersion> = ["any", "noStream", 0]
  for (const expected of empty) {
    test(`a stream without events is what ${JSON.stringify(expected)} expects`, () =>
      Effect.gen(function* () {
        const store = yield* EventStore
        const { version } = yield* store.append(freshStream(), [newEvent()], { expected })
        assert.equal(version, 1)
      }))
  }

  const filled: ReadonlyArray<ExpectedVersion> = ["any", "streamExists", 2]
  for (const expected of filled) {
    test(`a stream at version 2 is what ${JSON.stringify(expected)} expects`, () =>
      Effect.gen(function* () {
        const store = yield* EventStore
        const stream = freshStream()
        const before = yield* store.append(stream, newEvents(2), { expected: "noStream" })
        const after = yield* store.append(stream, newEvents(2), { expected })
        assert.equal(after.version, 4)
        assert.ok(after.position > before.position)
      }))
  }

  const wrong: ReadonlyArray<readonly [before: number, expected: ExpectedVersion]> = [
    [0, "streamExists"],
    [0, 1],
    [2, "noStream"],
    [2, 0],
    [2, 1],
    [2, 3],
    [2, Number.MAX_SAFE_INTEGER]
  ]
  for (const [before, expected] of wrong) {
    test(`a stream at version ${before} is no ${JSON.stringify(expected)}: the conflict carries both`, () =>
      Effect.gen(function* () {
        const store = yield* EventStore
        const stream = freshStream()
        if (before > 0) yield* store.append(stream, newEvents(before), { expected: "noStream" })
        const conflict = yield* failsWith(store.append(stream, newEvents(3), { expected }), "VersionConflict")
        assert.deepEqual({ ...conflict.stream }, stream)
        assert.equal(conflict.expected, expected)
        assert.equal(conflict.actual, before)
        assert.equal(yield* store.version(stream), before)
      }))
  }

  test("an append that lost burns nothing: no event, no version, no id", () =>
    Effect.gen(function* () {
      const store = yield* EventStore
      const stream = freshStream()
      yield* store.append(stream, newEvents(2), { expected: "noStream" })
      const losers = newEvents(3)
      yield* failsWith(store.append(stream, losers, { expected: 1 }), "VersionConflict")
      for (const { id } of losers) assert.ok(Option.isNone(yield* store.get(id)))
      assert.deepEqual(versions(yield* readAll(stream)), [1, 2])
      const { version } = yield* store.append(stream, losers, { expected: 2 })
      assert.equal(version, 5)
      assert.deepEqual(versions(yield* readAll(stream)), [1, 2, 3, 4, 5])
    }))

  test("a batch is stored as a whole or not at all: one refused event refuses its company", () =>
    Effect.gen(function* () {
      const store = yield* EventStore
      const stream = freshStream()
      const events = newEvents(50)
      const bad = { ...newEvent(), data: { at: Number.NaN } }
      const refused = yield* failsWith(store.append(stream, [...events, bad], { expected: "noStream" }), "InvalidInput")
      assert.equal(refused.what, "events[50].data.at")
      assert.equal(yield* store.version(stream), 0)
      const taken = newEvent()
      yield* store.append(freshStream(), [taken], { expected: "noStream" })
      yield* failsWith(store.append(stream, [...events, taken], { expected: "noStream" }), "DuplicateEvent")
      assert.equal(yield* store.version(stream), 0)
      assert.deepEqual(yield* readAll(stream), [])
    }))

  test("of 32 concurrent appends that expect the same version exactly one wins", () =>
    Effect.gen(function* () {
      const store = yield* EventStore
      const stream = freshStream()
      for (const expected of range(0, 4)) {
        const outcomes = yield* Effect.all(
          range(1, fibers).map(() => Effect.either(store.append(stream, [newEvent()], { expected }))),
          { concurrency: "unbounded" }
        )
        const winners = outcomes.filter(Either.isRight)
        assert.deepEqual(
          winners.map(({ right }) => right.version),
          [expected + 1]
        )
        for (const outcome of outcomes.filter(Either.isLeft)) {
          assert.ok(outcome.left._tag === "VersionConflict", String(outcome.left))
          assert.equal(outcome.left.actual, expected + 1)
        }
      }
      assert.deepEqual(versions(yield* readAll(stream)), range(1, 5))
    }))

  test("32 concurrent appends under any all happen, each batch in one piece, versions without a gap", () =>
    Effect.gen(function* () {
      const store = yield* EventStore
      const stream = freshStream()
      const batches = range(1, fibers).map((i) => newEvents((i % 4) + 1))
      const appended = yield* Effect.all(
        batches.map((events) => store.append(stream, events, { expected: "any" })),
        { concurrency: "unbounded" }
      )
      const stored = yield* readAll(stream)
      assert.deepEqual(versions(stored), range(1, batches.flat().length))
      assert.ok(isIncreasing(stored.map(({ position }) => position)))
      for (const [i, { position, version }] of appended.entries()) {
        const events = batches[i] ?? []
        assert.deepEqual(ids(stored.slice(version - events.length, version)), ids(events))
        assert.equal(stored[version - 1]?.position, position)
      }
    }))

  test("a conflict of one append fails no append to another stream", () =>
    Effect.gen(function* () {
      const store = yield* EventStore
      const tenant = freshTenant()
      const outcomes = yield* Effect.all(
        range(1, fibers).map((i) =>
          Effect.either(
            store.append(streamOf(tenant, `${i}`), [newEvent()], { expected: i % 2 === 0 ? "noStream" : 7 })
          )
        ),
        { concurrency: "unbounded" }
      )
      assert.deepEqual(
        outcomes.map(Either.isRight),
        range(1, fibers).map((i) => i % 2 === 0)
      )
    }))

  test("streams whose names differ in case, spaces, normalisation or separators are different streams", () =>
    Effect.gen(function* () {
      const store = yield* EventStore
      const tenant = freshTenant()
      const names = [
        "a",
        "A",
        "a ",
        " a",
        "\u00e4",
        "a\u0308",
        "a/b",
        "a\u0001b",
        "%",
        "_",
        "'",
        '"',
        "\\",
        "$1",
        "a:b"
      ]
      const streams = [
        ...names.flatMap((name) => [streamOf(tenant, name, "x"), streamOf(tenant, "x", name)]),
        streamOf(tenant, "b:c", "a"),
        streamOf(tenant, "c", "a:b")
      ]
      const distinct = [
        ...new Map(streams.map((stream) => [`${stream.domain}\0${stream.aggregateId}`, stream])).values()
      ]
      for (const stream of distinct) {
        const { version } = yield* store.append(stream, [newEvent({ data: stream })], { expected: "noStream" })
        assert.equal(version, 1)
      }
      for (const stream of distinct) {
        assert.deepEqual(
          (yield* readAll(stream)).map(({ data }) => data),
          [stream]
        )
      }
    }))

  test("what an append leaves out is filled in: id, metadata, time", () =>
    Effect.gen(function* () {
      const store = yield* EventStore
      const stream = freshStream()
      yield* store.append(stream, [{ type: "Happened", data: null }], { expected: "any" })
      const [event] = yield* readAll(stream)
      assert.ok(event !== undefined)
      assert.match(event.id, /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/)
      assert.deepEqual(event.metadata, {})
      assert.equal(event.commandId, undefined)
      assert.ok(Math.abs(event.createdAt.epochMillis - Date.now()) < 60_000)
    }))

  test("a change of the caller's objects after the append changes nothing that was stored", () =>
    Effect.gen(function* () {
      const store = yield* EventStore
      const stream = freshStream()
      const data = { list: [1] }
      const event = newEvent({ data })
      yield* store.append(stream, [event], { expected: "any" })
      data.list.push(2)
      const [stored] = yield* readAll(stream)
      assert.deepEqual(stored?.data, { list: [1] })
    }))
}
