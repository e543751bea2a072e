/**
 * Contract of checksums: what was changed underneath the store is never given to anybody.
 */
import assert from "node:assert/strict"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import type { ObjectId } from "../../DataStore.js"
import { DataStore } from "../../DataStore.js"
import { failsWith } from "../suite.js"
import type { Test } from "./fixtures.js"
import { assertStored, bytesOf, freshBucket, freshObject, listed, read, sameBytes } from "./fixtures.js"

export const integrity = (
  test: Test,
  largeBytes: number,
  damage: (object: ObjectId, offset: number) => Effect.Effect<void, unknown>,
  { error: tag, pieceBytes: piece }: { readonly error: "ObjectCorrupt" | "Tampered"; readonly pieceBytes: number } = {
    error: "ObjectCorrupt",
    pieceBytes: 256 * 1024
  }
): void => {
  test("a flipped bit is an error, names the object, and no byte of its piece is given", () =>
    Effect.gen(function* () {
      const store = yield* DataStore
      const size = largeBytes + 5
      for (const offset of [0, piece - 1, piece, size - 1]) {
        const object = yield* freshObject
        const bytes = bytesOf(size)
        yield* store.put(object, bytes)
        yield* damage(object, offset)
        const found = Option.getOrThrow(yield* store.get(object))
        let given = 0
        const reading = Stream.runForEach(found.body, (part) =>
          Effect.sync(() => {
            sameBytes(part, bytes.subarray(given, given + part.byteLength))
            given += part.byteLength
          })
        )
        const error = yield* failsWith(reading, tag)
        assert.ok(error.message.includes(`${object.bucket}/${object.name}`))
        assert.ok(given <= offset - (offset % piece))
      }
    }))

  test("a range is an error when its piece is, and is good when only others are", () =>
    Effect.gen(function* () {
      const store = yield* DataStore
      const object = yield* freshObject
      const bytes = bytesOf(largeBytes)
      yield* store.put(object, bytes)
      yield* damage(object, piece + 10)
      const part = (offset: number, length: number) =>
        Effect.flatMap(store.getRange(object, { offset, length }), (found) => read(Option.getOrThrow(found)))
      sameBytes(yield* part(0, piece), bytes.subarray(0, piece))
      sameBytes(yield* part(2 * piece, 5), bytes.subarray(2 * piece, 2 * piece + 5))
      // The very byte, another of its piece, and a range that only touches it.
      for (const [offset, length] of [
        [piece + 10, 1],
        [2 * piece - 1, 1],
        [0, piece + 1]
      ] as const) {
        yield* failsWith(part(offset, length), tag)
      }
    }))

  test("what is damaged is listed and counted between the others", () =>
    Effect.gen(function* () {
      const store = yield* DataStore
      const bucket = yield* freshBucket
      for (const name of ["a", "b", "c"]) yield* store.put({ bucket, name }, bytesOf(4_096))
      yield* damage({ bucket, name: "b" }, 10)
      assert.deepEqual(yield* listed(bucket), ["a", "b", "c"])
      assert.equal(yield* store.count(bucket), 3)
    }))

  test("what is damaged can be deleted and replaced, and a small object's damage is found too", () =>
    Effect.gen(function* () {
      const store = yield* DataStore
      const bucket = yield* freshBucket
      for (const size of [1, 4_096]) {
        const object = { bucket, name: `${size}` }
        yield* store.put(object, bytesOf(size))
        yield* damage(object, size - 1)
        yield* failsWith(
          Effect.flatMap(store.get(object), (found) => read(Option.getOrThrow(found))),
          tag
        )
        yield* store.put(object, bytesOf(size, 2))
        yield* assertStored(object, bytesOf(size, 2))
        yield* damage(object, 0)
        assert.equal(yield* store.delete(object), true)
      }
    }))
}
