/**
 * Contract of what a snapshot holds: what is accepted comes back exactly, what is not is refused by name.
 */
import assert from "node:assert/strict"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { payloadBytesMax } from "../../Json.js"
import { SnapshotStore } from "../../SnapshotStore.js"
import { jsonByName, notJson, withUndefined } from "../jsonValues.js"
import { failsWith } from "../suite.js"
import type { Test } from "./fixtures.js"
import { assertLatest, freshStream, newSnapshot } from "./fixtures.js"

export const states = (test: Test): void => {
  for (const [name, state] of Object.entries(jsonByName)) {
    test(`a state comes back exactly: ${name}`, () =>
      Effect.gen(function* () {
        const store = yield* SnapshotStore
        const stream = freshStream()
        const snapshot = newSnapshot(1, { state })
        yield* store.save(stream, snapshot)
        yield* assertLatest(stream, snapshot)
        const stored = Option.getOrThrow(yield* store.latest(stream))
        // The order of keys is part of it.
        assert.equal(JSON.stringify(stored.state), JSON.stringify(state))
      }))
  }

  // Its JSON text has two quotes around it.
  const largest = payloadBytesMax - 2
  const large: ReadonlyArray<readonly [name: string, state: string]> = [
    ["ASCII", "x".repeat(largest)],
    ["two bytes each", "\u00e9".repeat(largest / 2)],
    ["NULs, escaped", `${"\0".repeat(Math.floor(largest / 6))}${"x".repeat(largest % 6)}`]
  ]
  for (const [name, state] of large) {
    test(`a state of 16 MiB comes back exactly, and one byte more is refused: ${name}`, () =>
      Effect.gen(function* () {
        const store = yield* SnapshotStore
        const stream = freshStream()
        assert.equal(yield* store.save(stream, newSnapshot(1, { state })), true)
        const refused = yield* failsWith(store.save(stream, newSnapshot(2, { state: `${state}x` })), "InvalidInput")
        assert.equal(refused.what, "snapshot.state")
        const stored = Option.getOrThrow(yield* store.latest(stream))
        assert.equal(stored.version, 1)
        // Not assert.equal: it would print both.
        assert.ok(stored.state === state)
        yield* store.delete(stream)
      }))
  }

  test("properties of a state that are undefined are left out, as everywhere in JSON", () =>
    Effect.gen(function* () {
      const store = yield* SnapshotStore
      const stream = freshStream()
      yield* store.save(stream, newSnapshot(1, { state: withUndefined.given }))
      assert.deepEqual(Option.getOrThrow(yield* store.latest(stream)).state, withUndefined.kept)
    }))

  for (const [name, state, place] of notJson) {
    test(`a state that JSON would change is refused by its place: ${name}`, () =>
      Effect.gen(function* () {
        const store = yield* SnapshotStore
        const stream = freshStream()
        const error = yield* failsWith(store.save(stream, newSnapshot(1, { state })), "InvalidInput")
        assert.ok(error.what.startsWith(`snapshot.state${place}`), error.what)
        assert.notEqual(error.why, "")
        yield* assertLatest(stream, undefined)
      }))
  }

  test("times from year 0 to 9999 come back to the millisecond, others are refused", () =>
    Effect.gen(function* () {
      const store = yield* SnapshotStore
      const stream = freshStream()
      const first = Date.parse("0000-01-01T00:00:00.000Z")
      const last = Date.parse("9999-12-31T23:59:59.999Z")
      let version = 0
      for (const time of [first, -1, 0, 1, 999, 1001, 1_700_000_000_123, 2 ** 31 * 1000, last]) {
        const snapshot = newSnapshot(++version, { createdAt: DateTime.unsafeMake(time) })
        yield* store.save(stream, snapshot)
        yield* assertLatest(stream, snapshot)
      }
      for (const time of [first - 1, last + 1]) {
        const snapshot = newSnapshot(100, { createdAt: DateTime.unsafeMake(time) })
        assert.equal((yield* failsWith(store.save(stream, snapshot), "InvalidInput")).what, "snapshot.createdAt")
      }
    }))

  test("the form of the state and the id of its last event come back exactly, or are refused", () =>
    Effect.gen(function* () {
      const store = yield* SnapshotStore
      const stream = freshStream()
      let version = 0
      const forms = ["1", "01", " ", "a:b|c", "\u{1f600}", "e\u0301", "null", "x".repeat(255), "\u00e9".repeat(127)]
      for (const schemaVersion of forms) {
        const snapshot = newSnapshot(++version, { schemaVersion })
        yield* store.save(stream, snapshot)
        yield* assertLatest(stream, snapshot)
      }
      for (const lastEventMark of ["00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff"]) {
        const snapshot = newSnapshot(++version, { lastEventMark })
        yield* store.save(stream, snapshot)
        yield* assertLatest(stream, snapshot)
      }
      for (const schemaVersion of ["", "a\0b", "x".repeat(256), "\ud800"]) {
        const error = yield* failsWith(store.save(stream, newSnapshot(100, { schemaVersion })), "InvalidInput")
        assert.equal(error.what, "snapshot.schemaVersion")
      }
      for (const lastEventMark of ["", "1", "FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF"]) {
        const error = yield* failsWith(store.save(stream, newSnapshot(100, { lastEventMark })), "InvalidInput")
        assert.equal(error.what, "snapshot.lastEventMark")
      }
      for (const wrong of [0, -1, 1.5, Number.NaN, 2 ** 53]) {
        const error = yield* failsWith(store.save(stream, newSnapshot(wrong)), "InvalidInput")
        assert.equal(error.what, "snapshot.version")
        const atMost = wrong === 0 ? -0 : wrong
        assert.equal((yield* failsWith(store.latest(stream, { atMost }), "InvalidInput")).what, "options.atMost")
      }
    }))
}
