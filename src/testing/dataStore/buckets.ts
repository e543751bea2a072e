/**
 * Contract of buckets, of `info`, `presign` and `reset`, and of a store that was opened read-only.
 */
import assert from "node:assert/strict"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import { DataStore } from "../../DataStore.js"
import { failsWith } from "../suite.js"
import type { Test } from "./fixtures.js"
import { assertAbsent, assertStored, bucketName, bytesOf, freshBucket, freshObject, listed, text } from "./fixtures.js"

const wrongNames = [
  ...[
    "",
    "a",
    "ab",
    "x".repeat(64),
    "Ab_C",
    "ABC",
    "a_b",
    "a b",
    "-abc",
    "abc-",
    ".abc",
    "abc.",
    "a..b",
    "a.-b",
    "a-.b"
  ],
  ...[
    "192.168.1.1",
    "xn--abc",
    "abc-s3alias",
    "../abc",
    "a/b/c",
    "a\\b\\c",
    "é-é-é",
    "abc\n",
    "abc\0",
    "%61bc",
    "*abc*"
  ]
]

const rightNames = ["abc", "1-2", "a-b.c1", "a--b", "0.1.2", "a".repeat(63), "con", "www.example.com", "1.2.3.4.5"]

export const buckets = (
  test: Test,
  { exclude, times }: { readonly exclude: boolean; readonly times: boolean }
): void => {
  test("a bucket is made once, is there, is listed, and is deleted once", () =>
    Effect.gen(function* () {
      const store = yield* DataStore
      const bucket = bucketName()
      assert.equal(yield* store.buckets.exists(bucket), false)
      assert.equal(yield* store.buckets.create(bucket), true)
      assert.equal(yield* store.buckets.create(bucket), false)
      assert.equal(yield* store.buckets.exists(bucket), true)
      const all = yield* store.buckets.list
      const found = all.find(({ name }) => name === bucket)
      assert.ok(found !== undefined)
      if (times) assert.ok(Math.abs(found.createdAt.epochMillis - Date.now()) < 60_000)
      const names = all.map(({ name }) => name)
      assert.deepEqual(names, names.toSorted())
      assert.equal(yield* store.buckets.delete(bucket), true)
      assert.equal(yield* store.buckets.delete(bucket), false)
      assert.equal(yield* store.buckets.exists(bucket), false)
      yield* store.buckets.create(bucket)
      assert.deepEqual(yield* listed(bucket), [])
    }))

  test("a bucket with objects is not deleted, and is when they are gone", () =>
    Effect.gen(function* () {
      const store = yield* DataStore
      const object = yield* freshObject
      for (const size of [5, 3 * 2 ** 20]) {
        yield* store.put(object, bytesOf(size))
        assert.equal((yield* failsWith(store.buckets.delete(object.bucket), "BucketNotEmpty")).bucket, object.bucket)
        yield* assertStored(object, bytesOf(size))
      }
      yield* store.delete(object)
      assert.equal(yield* store.buckets.delete(object.bucket), true)
    }))

  test("a put into a bucket that is being deleted is stored, or is NotFound", () =>
    Effect.gen(function* () {
      const store = yield* DataStore
      for (let i = 0; i < 10; i++) {
        const object = yield* freshObject
        const [put, deleted] = yield* Effect.all(
          [Effect.exit(store.put(object, text("x"))), Effect.exit(store.buckets.delete(object.bucket))],
          { concurrency: 2 }
        )
        if (!exclude && Exit.isSuccess(put) && Exit.isSuccess(deleted)) continue
        if (Exit.isSuccess(put)) {
          yield* assertStored(object, text("x"))
          yield* failsWith(deleted, "BucketNotEmpty")
        } else {
          yield* failsWith(put, "NotFound")
          assert.deepEqual(deleted, Exit.succeed(true))
        }
      }
    }))

  test("names of buckets follow the rules of S3, for every operation", () =>
    Effect.gen(function* () {
      const store = yield* DataStore
      const there = yield* freshObject
      yield* store.put(there, text("x"))
      for (const wrong of wrongNames) {
        const object = { bucket: wrong, name: "x" }
        const errors = yield* Effect.all([
          failsWith(store.buckets.create(wrong), "InvalidInput"),
          failsWith(store.buckets.exists(wrong), "InvalidInput"),
          failsWith(store.buckets.delete(wrong), "InvalidInput"),
          failsWith(store.put(object, text("x")), "InvalidInput"),
          failsWith(store.get(object), "InvalidInput"),
          failsWith(store.copy(there, object), "InvalidInput"),
          failsWith(store.delete(object), "InvalidInput"),
          failsWith(store.count(wrong), "InvalidInput")
        ])
        for (const { what } of errors) assert.match(what, /bucket/)
      }
      for (const right of rightNames) {
        const exit = yield* Effect.exit(store.buckets.exists(right))
        // A backend with a prefix of its own has less room, and says so.
        if (Exit.isFailure(exit)) yield* failsWith(exit, "InvalidInput")
      }
    }))

  test("a region, a public bucket and object locking are made where the backend can, and refused elsewhere", () =>
    Effect.gen(function* () {
      const store = yield* DataStore
      for (const [capability, options] of [
        ["public", { public: true }],
        ["objectLocking", { objectLocking: true }]
      ] as const) {
        const bucket = bucketName()
        if (store.capabilities[capability]) {
          assert.equal(yield* store.buckets.create(bucket, options), true)
        } else {
          yield* failsWith(store.buckets.create(bucket, options), "Unsupported")
          assert.equal(yield* store.buckets.exists(bucket), false)
        }
      }
      if (!store.capabilities.region) {
        yield* failsWith(store.buckets.create(bucketName(), { region: "eu-west-1" }), "Unsupported")
      }
    }))
}

export const maintenance = (test: Test, { secrets }: { readonly secrets: ReadonlyArray<string> }): void => {
  test("info counts buckets, objects and bytes, knows the last change, and shows no secret", () =>
    Effect.gen(function* () {
      const store = yield* DataStore
      const before = yield* store.info
      const bucket = yield* freshBucket
      // One of the first names in order, and one of the last.
      const [first, last] = [
        { bucket, name: "!" },
        { bucket, name: "\u{10ffff}" }
      ] as const
      yield* store.put(first, bytesOf(10))
      yield* store.put(last, bytesOf(700_000))
      yield* store.put(first, bytesOf(5))
      const { modifiedAt } = Option.getOrThrow(yield* store.head(first))
      const info = yield* store.info
      assert.deepEqual(
        [info.buckets - before.buckets, info.objects - before.objects, info.bytes - before.bytes],
        [1, 2, 700_005]
      )
      assert.ok(info.backend !== "" && info.connection !== "")
      assert.equal(info.readOnly, false)
      assert.ok(Math.abs(Option.getOrThrow(info.lastModified).epochMillis - modifiedAt.epochMillis) < 1_000)
      for (const secret of secrets) assert.ok(!JSON.stringify(info).includes(secret))
    }))

  test("presigned URLs are given where the backend has them, and are Unsupported elsewhere", () =>
    Effect.gen(function* () {
      const store = yield* DataStore
      const object = yield* freshObject
      yield* store.put(object, text("x"))
      for (const sign of [store.presign.get, store.presign.put]) {
        for (const expiresIn of ["8 days", 0, -1, Number.NaN, "999 millis"] as const) {
          const error = yield* failsWith(sign(object, { expiresIn }), "InvalidInput")
          assert.equal(error.what, "options.expiresIn")
        }
        yield* failsWith(sign({ ...object, name: "a/../b" }), "InvalidInput")
        if (store.capabilities.presign) assert.ok(URL.canParse(yield* sign(object, { expiresIn: "7 days" })))
        else yield* failsWith(sign(object), "Unsupported")
      }
    }))

  test("a sweep finds nothing where nothing was left, and refuses a time in which a writer may be silent", () =>
    Effect.gen(function* () {
      const store = yield* DataStore
      const object = yield* freshObject
      yield* store.put(object, bytesOf(3 * 2 ** 20))
      assert.equal(yield* store.sweep(), 0)
      // Of nanoseconds, so no whole milliseconds.
      assert.equal(yield* store.sweep({ olderThan: 2n ** 64n + 1n }), 0)
      const error = yield* failsWith(store.sweep({ olderThan: "9 minutes" }), "InvalidInput")
      assert.equal(error.what, "options.olderThan")
      yield* assertStored(object, bytesOf(3 * 2 ** 20))
    }))
}

/** Apart, since it empties the store. */
export const reset = (test: Test): void =>
  test("a reset leaves no object and no bucket, and the store goes on", () =>
    Effect.gen(function* () {
      const store = yield* DataStore
      const bucket = yield* freshBucket
      const names = ["a", "a/b", "../x", "*", "%", "\u{1f600}", "x".repeat(1_024), "large"]
      for (const name of names) yield* store.put({ bucket, name }, bytesOf(name === "large" ? 3 * 2 ** 20 : 10))
      yield* store.reset
      const info = yield* store.info
      assert.deepEqual([info.buckets, info.objects, info.bytes], [0, 0, 0])
      assert.ok(Option.isNone(info.lastModified))
      assert.equal(yield* store.buckets.exists(bucket), false)
      yield* store.buckets.create(bucket)
      for (const name of names) yield* assertAbsent({ bucket, name })
      yield* store.put({ bucket, name: "new" }, text("new"))
      yield* assertStored({ bucket, name: "new" }, text("new"))
      yield* store.reset
      yield* store.reset
      assert.equal((yield* store.info).buckets, 0)
    }))

export const readOnly = (test: Test, layer: Layer.Layer<DataStore, unknown>): void =>
  test("a read-only store refuses every write by name, and reads", () =>
    Effect.gen(function* () {
      const writer = yield* DataStore
      const object = yield* freshObject
      yield* writer.put(object, text("there"))
      yield* Effect.gen(function* () {
        const store = yield* DataStore
        const refused = yield* Effect.all([
          failsWith(store.put(object, text("new")), "ReadOnly"),
          // Also what would be refused anyway.
          failsWith(store.put({ bucket: "?", name: "" }, text("new")), "ReadOnly"),
          failsWith(store.copy(object, { ...object, name: "copy" }), "ReadOnly"),
          failsWith(store.move(object, { ...object, name: "copy" }), "ReadOnly"),
          failsWith(store.delete(object), "ReadOnly"),
          failsWith(store.deleteMany(object.bucket, [object.name]), "ReadOnly"),
          failsWith(store.buckets.create(bucketName()), "ReadOnly"),
          failsWith(store.buckets.delete(object.bucket), "ReadOnly"),
          failsWith(store.presign.put(object), "ReadOnly"),
          failsWith(store.sweep(), "ReadOnly"),
          failsWith(store.reset, "ReadOnly")
        ])
        assert.deepEqual(
          refused.map(({ operation }) => operation),
          [
            ...["put", "put", "copy", "move", "delete", "deleteMany"],
            ...["buckets.create", "buckets.delete", "presign.put", "sweep", "reset"]
          ]
        )
        yield* assertStored(object, text("there"))
        assert.deepEqual(yield* listed(object.bucket), [object.name])
        assert.equal((yield* store.info).readOnly, true)
      }).pipe(Effect.provide(layer))
      yield* assertStored(object, text("there"))
    }))
