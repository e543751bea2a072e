/**
 * Contract of `copy` and `move`.
 */
import assert from "node:assert/strict"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import { DataStore } from "../../DataStore.js"
import { failsWith } from "../suite.js"
import type { Test } from "./fixtures.js"
import {
  assertAbsent,
  assertStored,
  bytesOf,
  freshBucket,
  freshObject,
  freshPair,
  sha256,
  text,
  turn
} from "./fixtures.js"

export const copies = (test: Test, largeBytes: number): void => {
  for (const size of [0, 1_000, largeBytes]) {
    test(`a copy of ${size} bytes keeps bytes, content type and metadata, in the bucket and in another`, () =>
      Effect.gen(function* () {
        const store = yield* DataStore
        const [one, two] = [yield* freshBucket, yield* freshBucket]
        const from = { bucket: one, name: "from é/1+1%20?#.pdf" }
        const bytes = bytesOf(size)
        const given = { contentType: "application/pdf", metadata: { Author: "Léo 公司", empty: "" } }
        yield* store.put(from, bytes, given)
        for (const to of [
          { bucket: one, name: "to" },
          { bucket: two, name: "to/a b" }
        ]) {
          const { etag } = yield* store.copy(from, to)
          yield* assertStored(to, bytes, { ...given, etag })
        }
        yield* assertStored(from, bytes, given)
      }))

    test(`a move of ${size} bytes leaves nothing behind`, () =>
      Effect.gen(function* () {
        const store = yield* DataStore
        const bucket = yield* freshBucket
        const [from, to] = [
          { bucket, name: "from" },
          { bucket, name: "to" }
        ] as const
        yield* store.put(from, bytesOf(size), { metadata: { a: "1" } })
        yield* store.put(to, text("in the way"))
        yield* store.move(from, to)
        yield* assertAbsent(from)
        yield* assertStored(to, bytesOf(size), { metadata: { a: "1" } })
        assert.equal(yield* store.count(bucket), 1)
        // The same name, in another bucket.
        const other = { ...to, bucket: yield* freshBucket }
        yield* store.move(to, other)
        yield* assertAbsent(to)
        yield* assertStored(other, bytesOf(size), { metadata: { a: "1" } })
      }))
  }

  test("a copy can change content type and metadata, also onto itself, and the source's stay", () =>
    Effect.gen(function* () {
      const store = yield* DataStore
      const { from, to } = yield* freshPair
      for (const bytes of [text("body"), bytesOf(largeBytes)]) {
        yield* store.put(from, bytes, { contentType: "text/a", metadata: { a: "1" } })
        const copied = yield* store.copy(from, to, { contentType: "text/b", metadata: { b: "2" } })
        assert.deepEqual([copied.contentType, copied.metadata], ["text/b", { b: "2" }])
        yield* assertStored(to, bytes, { contentType: "text/b", metadata: { b: "2" } })
        yield* assertStored(from, bytes, { contentType: "text/a", metadata: { a: "1" } })
        yield* store.copy(from, from, { metadata: { c: "3" } })
        yield* assertStored(from, bytes, { contentType: "text/a", metadata: { c: "3" } })
        yield* store.copy(from, from)
        yield* store.move(from, from)
        yield* assertStored(from, bytes, { contentType: "text/a", metadata: { c: "3" } })
      }
    }))

  test("a copy lives on when its source is replaced or deleted, and a copy of a copy when both are", () =>
    Effect.gen(function* () {
      const store = yield* DataStore
      const bucket = yield* freshBucket
      const [a, b, c] = [
        { bucket, name: "a" },
        { bucket, name: "b" },
        { bucket, name: "c" }
      ] as const
      const bytes = bytesOf(largeBytes)
      yield* store.put(a, bytes)
      yield* store.copy(a, b)
      yield* store.copy(b, c)
      yield* store.delete(a)
      yield* assertStored(b, bytes)
      yield* store.put(b, text("other"))
      yield* assertStored(c, bytes)
      yield* assertStored(b, text("other"))
    }))

  test("a source that is replaced or deleted while it is copied is copied whole, or not at all", () =>
    Effect.gen(function* () {
      const store = yield* DataStore
      const { from, to } = yield* freshPair
      const [bytes, later] = [bytesOf(largeBytes), bytesOf(largeBytes, 2)]
      for (let i = 0; i < 6; i++) {
        yield* store.put(from, bytes)
        const copying = yield* Effect.fork(store.copy(from, to))
        for (let turns = 4 * i; turns > 0; turns--) yield* turn
        yield* i % 2 === 0 ? store.put(from, later) : store.delete(from)
        const exit = yield* Fiber.await(copying)
        if (Exit.isSuccess(exit)) {
          // One that looked only after the replacement has copied that.
          const copied = Option.getOrThrow(yield* store.head(to))
          yield* assertStored(to, i % 2 === 0 && copied.sha256 === sha256(later) ? later : bytes)
          yield* store.delete(to)
        } else {
          const error = Option.getOrThrow(Cause.failureOption(exit.cause))
          // Unavailable: a server that is slow to delete an object of many parts refuses to read it meanwhile.
          assert.ok(["ObjectChanged", "NotFound", "StoreUnavailable"].includes(error._tag), String(error))
          yield* assertAbsent(to)
        }
      }
    }))

  test("a copy of what is not there is NotFound and names it, and the target stays", () =>
    Effect.gen(function* () {
      const store = yield* DataStore
      const to = yield* freshObject
      yield* store.put(to, text("stays"))
      for (const copying of [store.copy, store.move]) {
        const { what } = yield* failsWith(copying({ ...to, name: "missing" }, to), "NotFound")
        assert.equal(what, `${to.bucket}/missing`)
      }
      yield* assertStored(to, text("stays"))
    }))
}
