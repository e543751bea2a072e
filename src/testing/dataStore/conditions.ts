/**
 * Contract of puts and deletes on a condition: one winner, whole, where the backend can; refused where it cannot.
 */
import assert from "node:assert/strict"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import { type CopyError, DataStore, type PutError } from "../../DataStore.js"
import { relift } from "../../dataStore/DataStoreEncoded.js"
import { failsWith } from "../suite.js"
import type { Test } from "./fixtures.js"
import { assertAbsent, assertStored, bytesOf, freshObject, freshPair, inPieces, text } from "./fixtures.js"

const racers = 64

export const conditions = (test: Test): void => {
  test("ifAbsent stores where there is none and is ObjectExists elsewhere, or is Unsupported", () =>
    Effect.gen(function* () {
      const store = yield* DataStore
      const object = yield* freshObject
      if (!store.capabilities.putIfAbsent) {
        yield* failsWith(store.put(object, text("one"), { ifAbsent: true }), "Unsupported")
        return yield* assertAbsent(object)
      }
      yield* store.put(object, text("one"), { ifAbsent: true })
      const error = yield* failsWith(store.put(object, text("two"), { ifAbsent: true }), "ObjectExists")
      assert.deepEqual({ bucket: error.bucket, name: error.name }, object)
      yield* assertStored(object, text("one"))
      yield* store.delete(object)
      yield* store.put(object, text("three"), { ifAbsent: true })
      yield* assertStored(object, text("three"))
    }))

  for (const size of [10, 600_000]) {
    test(`of ${racers} that put ${size} bytes with ifAbsent exactly one is stored, and it is what it said`, () =>
      Effect.gen(function* () {
        const store = yield* DataStore
        if (!store.capabilities.putIfAbsent || store.capabilities.conditionalSizeMax < size) return
        const object = yield* freshObject
        const exits = yield* Effect.all(
          Array.from({ length: racers }, (_, i) =>
            Effect.exit(store.put(object, bytesOf(size, i), { ifAbsent: true, metadata: { racer: `${i}` } }))
          ),
          { concurrency: "unbounded" }
        )
        const winners = exits.flatMap((exit, i) => (Exit.isSuccess(exit) ? [i] : []))
        assert.equal(winners.length, 1)
        for (const exit of exits) if (Exit.isFailure(exit)) yield* failsWith(exit, "ObjectExists")
        yield* assertStored(object, bytesOf(size, winners[0]), { metadata: { racer: `${winners[0]}` } })
      }))
  }

  test("ifMatch replaces the content that it names and no other, or is Unsupported", () =>
    Effect.gen(function* () {
      const store = yield* DataStore
      const object = yield* freshObject
      if (!store.capabilities.putIfMatch) {
        yield* failsWith(store.put(object, text("one"), { ifMatch: "x" }), "Unsupported")
        return yield* assertAbsent(object)
      }
      yield* failsWith(store.put(object, text("one"), { ifMatch: "nothing-there" }), "ObjectChanged")
      yield* assertAbsent(object)
      const first = yield* store.put(object, text("one"))
      const second = yield* store.put(object, text("two"), { ifMatch: first.etag })
      yield* failsWith(store.put(object, text("three"), { ifMatch: first.etag }), "ObjectChanged")
      yield* assertStored(object, text("two"), { etag: second.etag })
      const exits = yield* Effect.all(
        Array.from({ length: racers }, (_, i) =>
          Effect.exit(store.put(object, bytesOf(50, i), { ifMatch: second.etag }))
        ),
        { concurrency: "unbounded" }
      )
      const winners = exits.flatMap((exit, i) => (Exit.isSuccess(exit) ? [i] : []))
      assert.equal(winners.length, 1)
      yield* assertStored(object, bytesOf(50, winners[0]))
    }))

  test("delete with ifMatch deletes the content that it names and no other, or is Unsupported", () =>
    Effect.gen(function* () {
      const store = yield* DataStore
      const object = yield* freshObject
      const first = yield* store.put(object, text("one"))
      if (!store.capabilities.deleteIfMatch) {
        yield* failsWith(store.delete(object, { ifMatch: first.etag }), "Unsupported")
        return yield* assertStored(object, text("one"))
      }
      yield* store.put(object, text("two"))
      yield* failsWith(store.delete(object, { ifMatch: first.etag }), "ObjectChanged")
      yield* assertStored(object, text("two"))
      const { etag } = Option.getOrThrow(yield* store.head(object))
      assert.equal(yield* store.delete(object, { ifMatch: etag }), true)
      yield* failsWith(store.delete(object, { ifMatch: etag }), "ObjectChanged")
      yield* assertAbsent(object)
    }))

  test("copy with ifAbsent leaves what is there, or is Unsupported", () =>
    Effect.gen(function* () {
      const store = yield* DataStore
      const { from, to } = yield* freshPair
      yield* store.put(from, text("source"))
      if (!store.capabilities.copyIfAbsent) {
        yield* failsWith(store.copy(from, to, { ifAbsent: true }), "Unsupported")
        return yield* assertAbsent(to)
      }
      yield* store.copy(from, to, { ifAbsent: true })
      yield* store.put(from, text("changed"))
      yield* failsWith(store.copy(from, to, { ifAbsent: true }), "ObjectExists")
      yield* failsWith(store.move(from, to, { ifAbsent: true }), "ObjectExists")
      yield* assertStored(to, text("source"))
      yield* assertStored(from, text("changed"))
      const target = { bucket: from.bucket, name: "raced" }
      const exits = yield* Effect.all(
        Array.from({ length: racers }, () => Effect.exit(store.copy(from, target, { ifAbsent: true }))),
        { concurrency: "unbounded" }
      )
      assert.equal(exits.filter(Exit.isSuccess).length, 1)
      yield* assertStored(target, text("changed"))
    }))

  test("a condition that a backend does not have is refused, named with the backend, and nothing is changed", () =>
    Effect.gen(function* () {
      const given = yield* DataStore
      const none = { putIfAbsent: false, putIfMatch: false, copyIfAbsent: false, deleteIfMatch: false }
      let backend = ""
      const store = yield* relift(given, (port) => {
        backend = port.backend
        return Effect.succeed({ ...port, capabilities: { ...port.capabilities, ...none } })
      })
      const { from, to } = yield* freshPair
      const { etag } = yield* store.put(from, text("one"))
      const asked: ReadonlyArray<readonly [string, Effect.Effect<unknown, PutError | CopyError>]> = [
        ["put with ifAbsent", store.put(to, text("two"), { ifAbsent: true })],
        ["put with ifMatch", store.put(from, text("two"), { ifMatch: etag })],
        ["copy with ifAbsent", store.copy(from, to, { ifAbsent: true })],
        ["copy with ifAbsent", store.move(from, to, { ifAbsent: true })],
        ["delete with ifMatch", store.delete(from, { ifMatch: etag })]
      ]
      for (const [operation, effect] of asked) {
        const error = yield* failsWith(effect, "Unsupported")
        assert.ok(error.message.includes(operation) && error.message.includes(backend), error.message)
      }
      yield* assertStored(from, text("one"))
      yield* assertAbsent(to)
    }))

  test("a conditional put that is larger than the backend takes on a condition is refused", () =>
    Effect.gen(function* () {
      const store = yield* DataStore
      const { conditionalSizeMax, putIfAbsent, sizeMax } = store.capabilities
      // Where there is no such bound, or where it takes gigabytes to pass it, there is nothing to try.
      if (!putIfAbsent || conditionalSizeMax === sizeMax || conditionalSizeMax > 64 * 2 ** 20) return
      const object = yield* freshObject
      const bytes = bytesOf(conditionalSizeMax + 1)
      yield* failsWith(store.put(object, bytes, { ifAbsent: true }), "Unsupported")
      yield* failsWith(store.put(object, inPieces(bytes, 1_000_000), { ifAbsent: true }), "Unsupported")
      yield* assertAbsent(object)
      yield* store.put(object, bytes.subarray(1), { ifAbsent: true })
      yield* assertStored(object, bytes.subarray(1))
    }))
}
