/**
 * Contract of `put`, `get`, `getRange`, `head` and `delete`, without conditions.
 */
import assert from "node:assert/strict"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import type { StoredObject } from "../../DataStore.js"
import { DataStore } from "../../DataStore.js"
import { collect, failsWith } from "../suite.js"
import type { Test } from "./fixtures.js"
import {
  assertAbsent,
  assertStored,
  bucketName,
  bytesOf,
  freshBucket,
  freshObject,
  getBytes,
  inPieces,
  plain,
  read,
  sameBytes,
  sha256,
  text
} from "./fixtures.js"

const piece = 256 * 1024

export const objects = (test: Test, largeBytes: number): void => {
  for (const size of [0, 1, 4_096, piece - 1, piece, piece + 1, 2 * piece, largeBytes]) {
    test(`${size} bytes come back as they were put, from bytes and from a Stream of known and unknown length`, () =>
      Effect.gen(function* () {
        const store = yield* DataStore
        const bucket = yield* freshBucket
        const bytes = bytesOf(size)
        const info = yield* store.put({ bucket, name: "bytes" }, bytes, { contentType: "text/plain" })
        assert.deepEqual({ size: info.size, sha256: info.sha256 }, { size, sha256: sha256(bytes) })
        yield* assertStored({ bucket, name: "bytes" }, bytes, { contentType: "text/plain", etag: info.etag })
        yield* store.put({ bucket, name: "bytes" }, bytes, { size })
        yield* assertStored({ bucket, name: "bytes" }, bytes)
        const odd = Math.max(1, Math.floor(size / 7))
        yield* store.put({ bucket, name: "known" }, inPieces(bytes, odd), { size })
        yield* assertStored({ bucket, name: "known" }, bytes, { contentType: "application/octet-stream" })
        yield* store.put({ bucket, name: "unknown" }, inPieces(bytes, odd))
        yield* assertStored({ bucket, name: "unknown" }, bytes, { metadata: {} })
      }))
  }

  test("what a put returns is what head says", () =>
    Effect.gen(function* () {
      const store = yield* DataStore
      const object = yield* freshObject
      const info = yield* store.put(object, text("one"), { metadata: { a: "b" }, contentType: "text/x" })
      const head = Option.getOrThrow(yield* store.head(object))
      // A server may keep whole seconds of its own clock.
      const { modifiedAt: _, ...rest } = plain(info)
      assert.deepEqual({ ...plain(head), ...rest }, plain(head))
      assert.ok(Math.abs(head.modifiedAt.epochMillis - Date.now()) < 60_000)
    }))

  test("a body in one piece of any size, in empty pieces and in very small ones is the same object", () =>
    Effect.gen(function* () {
      const store = yield* DataStore
      const object = yield* freshObject
      const bytes = bytesOf(piece + 1_000)
      const bodies = [
        Stream.make(bytes),
        Stream.make(new Uint8Array(0), bytes, new Uint8Array(0)),
        inPieces(bytes, 1_013),
        Stream.rechunk(inPieces(bytes, 700), 1_000),
        Stream.concat(inPieces(bytes.subarray(0, 10), 1), Stream.make(Buffer.from(bytes.subarray(10))))
      ]
      for (const body of bodies) {
        yield* store.put(object, body)
        yield* assertStored(object, bytes)
      }
    }))

  test("a put replaces what was there, whichever of the two is larger", () =>
    Effect.gen(function* () {
      const store = yield* DataStore
      const object = yield* freshObject
      for (const [size, seed] of [
        [10, 1],
        [largeBytes, 2],
        [piece * 2, 3],
        [0, 4],
        [largeBytes, 5],
        [largeBytes, 6]
      ] as const) {
        const { etag } = yield* store.put(object, bytesOf(size, seed), { metadata: { seed: `${seed}` } })
        yield* assertStored(object, bytesOf(size, seed), { etag, metadata: { seed: `${seed}` } })
      }
      assert.equal(yield* store.count(object.bucket), 1)
    }))

  test("what the caller changes after the put, or in what was read, changes nothing", () =>
    Effect.gen(function* () {
      const store = yield* DataStore
      for (const size of [1_000, piece + 1_000]) {
        const object = yield* freshObject
        // A Buffer, whose slices are views.
        const bytes = Buffer.from(bytesOf(size))
        yield* store.put(object, bytes)
        bytes.fill(0)
        const found = Option.getOrThrow(yield* store.get(object))
        for (const part of yield* collect(found.body)) part.fill(1)
        sameBytes(yield* read(found), bytesOf(size))
      }
    }))

  test("a range gives just these bytes, at and across the borders of pieces, and nothing beyond the end", () =>
    Effect.gen(function* () {
      const store = yield* DataStore
      const object = yield* freshObject
      const bytes = bytesOf(largeBytes + 11)
      const size = bytes.byteLength
      yield* store.put(object, bytes)
      const ranges = [
        { offset: 0, length: 1 },
        { offset: 0, length: size },
        { offset: 0 },
        { offset: size - 1 },
        { offset: size },
        { offset: size + 5, length: 7 },
        { offset: size - 3, length: 100 },
        { offset: 5, length: 0 },
        { offset: piece - 1, length: 2 },
        { offset: piece, length: piece },
        { offset: piece + 1, length: piece },
        { offset: 7, length: size - 14 },
        { offset: size - 12, length: 1 }
      ]
      for (const range of ranges) {
        const found = Option.getOrThrow(yield* store.getRange(object, range))
        assert.equal(found.info.size, size)
        const end = range.length === undefined ? size : range.offset + range.length
        sameBytes(yield* read(found), bytes.subarray(range.offset, end))
      }
    }))

  test("a body can be run again, be run by several at once, and be left after its first piece", () =>
    Effect.gen(function* () {
      const store = yield* DataStore
      const object = yield* freshObject
      const bytes = bytesOf(largeBytes)
      yield* store.put(object, bytes)
      const found = Option.getOrThrow(yield* store.get(object))
      const all = yield* Effect.all(
        Array.from({ length: 8 }, () => read(found)),
        { concurrency: "unbounded" }
      )
      for (const each of all) sameBytes(each, bytes)
      for (let i = 0; i < 30; i++) assert.equal((yield* collect(Stream.take(found.body, 1))).length, 1)
      sameBytes(yield* read(found), bytes)
    }))

  test("a body of an object that was replaced or deleted since it was found is that object's, or ObjectChanged", () =>
    Effect.gen(function* () {
      const store = yield* DataStore
      for (const size of [100, largeBytes]) {
        const object = yield* freshObject
        const given = (found: StoredObject, bytes: Uint8Array) =>
          Effect.flatMap(Effect.exit(read(found)), (exit) => {
            if (exit._tag === "Success") return Effect.sync(() => sameBytes(exit.value, bytes))
            return Effect.map(failsWith(exit, "ObjectChanged"), ({ bucket, name }) =>
              assert.deepEqual({ bucket, name }, object)
            )
          })
        yield* store.put(object, bytesOf(size))
        const first = Option.getOrThrow(yield* store.get(object))
        yield* store.put(object, bytesOf(size, 2))
        yield* given(first, bytesOf(size))
        const second = Option.getOrThrow(yield* store.get(object))
        yield* store.delete(object)
        yield* given(second, bytesOf(size, 2))
      }
    }))

  test("an object that is replaced in the middle of a read gives its own bytes or ObjectChanged, never a mix", () =>
    Effect.gen(function* () {
      const store = yield* DataStore
      const object = yield* freshObject
      const bytes = bytesOf(largeBytes)
      yield* store.put(object, bytes)
      const found = Option.getOrThrow(yield* store.get(object))
      let at = 0
      const reading = Stream.runForEach(found.body, (part) =>
        Effect.gen(function* () {
          sameBytes(part, bytes.subarray(at, at + part.byteLength))
          if (at === 0) yield* store.put(object, bytesOf(largeBytes, 2))
          at += part.byteLength
        })
      )
      const exit = yield* Effect.exit(reading)
      if (exit._tag === "Success") assert.equal(at, largeBytes)
      else yield* failsWith(exit, "ObjectChanged")
      yield* assertStored(object, bytesOf(largeBytes, 2))
    }))

  test("what is not there is none, and what is deleted is gone", () =>
    Effect.gen(function* () {
      const store = yield* DataStore
      const object = yield* freshObject
      yield* assertAbsent(object)
      assert.ok(Option.isNone(yield* store.getRange(object, { offset: 1 })))
      assert.equal(yield* store.delete(object), false)
      for (const size of [3, largeBytes]) {
        yield* store.put(object, bytesOf(size))
        assert.equal(yield* store.delete(object), true)
        assert.equal(yield* store.delete(object), false)
        yield* assertAbsent(object)
      }
      assert.equal(yield* store.count(object.bucket), 0)
    }))

  test("deleteMany deletes what there is, counts it, and takes a name twice for once", () =>
    Effect.gen(function* () {
      const store = yield* DataStore
      const bucket = yield* freshBucket
      const names = Array.from({ length: 30 }, (_, i) => `n/${i}`)
      yield* Effect.forEach(names, (name) => store.put({ bucket, name }, text(name)), { concurrency: 8 })
      assert.equal(yield* store.deleteMany(bucket, []), 0)
      assert.equal(yield* store.deleteMany(bucket, ["n/0", "n/0", "n/1", "not there"]), 2)
      assert.equal(yield* store.deleteMany(bucket, names), 28)
      assert.equal(yield* store.count(bucket), 0)
    }))

  test("in a bucket that does not exist everything is NotFound", () =>
    Effect.gen(function* () {
      const store = yield* DataStore
      const object = { bucket: bucketName(), name: "x" }
      const there = yield* freshObject
      yield* store.put(there, text("x"))
      const failures = yield* Effect.all([
        failsWith(store.put(object, text("x")), "NotFound"),
        failsWith(store.put(object, inPieces(bytesOf(largeBytes), piece)), "NotFound"),
        failsWith(store.get(object), "NotFound"),
        failsWith(store.head(object), "NotFound"),
        failsWith(store.getRange(object, { offset: 0 }), "NotFound"),
        failsWith(store.delete(object), "NotFound"),
        failsWith(store.deleteMany(object.bucket, ["x"]), "NotFound"),
        failsWith(store.copy(there, object), "NotFound"),
        failsWith(store.copy(object, there), "NotFound"),
        failsWith(collect(store.list(object.bucket)), "NotFound"),
        failsWith(store.count(object.bucket), "NotFound")
      ])
      for (const { what } of failures) assert.equal(what, `bucket ${object.bucket}`)
      assert.ok(!(yield* store.buckets.exists(object.bucket)))
    }))

  test("a size that is not the body's is refused, and what was there stays", () =>
    Effect.gen(function* () {
      const store = yield* DataStore
      const object = yield* freshObject
      yield* store.put(object, text("old"))
      for (const size of [100, largeBytes]) {
        const bytes = bytesOf(size, 3)
        for (const wrong of [0, size - 1, size + 1]) {
          const error = yield* failsWith(store.put(object, inPieces(bytes, piece), { size: wrong }), "InvalidInput")
          assert.equal(error.what, "options.size")
        }
        yield* failsWith(store.put(object, bytes, { size: size + 1 }), "InvalidInput")
      }
      sameBytes((yield* getBytes(object)) ?? text("none"), text("old"))
    }))

  test("a body of something else than bytes is refused, and what was there stays", () =>
    Effect.gen(function* () {
      const store = yield* DataStore
      const object = yield* freshObject
      yield* store.put(object, text("old"))
      const strings = Stream.make("text") as unknown as Stream.Stream<Uint8Array>
      const mixed = Stream.concat(Stream.make(bytesOf(piece)), strings)
      for (const body of [strings, mixed, "text" as unknown as Uint8Array, [1, 2] as unknown as Uint8Array]) {
        assert.equal((yield* failsWith(store.put(object, body), "InvalidInput")).what, "body")
      }
      sameBytes((yield* getBytes(object)) ?? text("none"), text("old"))
    }))
}
