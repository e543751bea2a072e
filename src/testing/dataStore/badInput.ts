/**
 * The property of bad input on the DataStore: its operations, and what they must answer.
 */
import assert from "node:assert/strict"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { Stream } from "effect/Stream"
import type { DataStoreShape, ListOptions, ObjectId, PutOptions } from "../../DataStore.js"
import { DataStore } from "../../DataStore.js"
import type { At, Operation } from "../hostileCalls.js"
import { copy, hostileCalls, isSteady, operationsOf, same } from "../hostileCalls.js"
import type { PropertyOptions } from "../suite.js"
import { collect } from "../suite.js"
import type { Test } from "./fixtures.js"
import { bytesOf, freshObject, plain, read, sha256, text, textOf, turn } from "./fixtures.js"

interface World {
  readonly store: DataStoreShape
  /** An object that no case may change; a bucket of its own. */
  readonly fixture: ObjectId
}

const operation = operationsOf<World>({
  store: DataStore.of({} as DataStoreShape),
  fixture: { bucket: "bucket", name: "fixture" }
})

let count = 0

const idArg = (at: At, name: string, bucket: string, right = `object ${++count}`): ObjectId =>
  at(name, { bucket: at(`${name}.bucket`, bucket), name: at(`${name}.name`, right) })

const keys = [..."abcdefghijklmnopqr"]

const optionsArg = (at: At): PutOptions => {
  const misspelt = at<unknown>("options.contenttype", undefined)
  return at("options", {
    ...(misspelt === undefined ? {} : { contenttype: misspelt }),
    contentType: at("options.contentType", "text/plain"),
    metadata: at(
      "options.metadata",
      Object.fromEntries(keys.map((key) => [key, at(`options.metadata."${key}"`, "1")]))
    ),
    ifAbsent: at<boolean | undefined>("options.ifAbsent", undefined),
    ifMatch: at<string | undefined>("options.ifMatch", undefined)
  })
}

const rangeOf = (at: At) =>
  at("range", { offset: at("range.offset", 1), length: at<number | undefined>("range.length", 2) })

const operations: Readonly<Record<string, Operation<World>>> = {
  put: operation({
    args: (at, { fixture }) => ({
      object: idArg(at, "object", fixture.bucket),
      body: at<Uint8Array | Stream<Uint8Array>>("body", bytesOf(20, count)),
      options: optionsArg(at)
    }),
    run: (store, { body, object, options }) => store.put(object, body, options),
    check: ({ store }, { body, object, options }, info) =>
      Effect.gen(function* () {
        const found = Option.getOrThrow(yield* store.get(info))
        assert.ok(!Object.keys(options ?? {}).includes("contenttype"), "a misspelt key was left out silently")
        if (isSteady(object))
          same({ bucket: info.bucket, name: info.name }, { bucket: object.bucket, name: object.name }, "id")
        if (body instanceof Uint8Array) assert.equal(sha256(yield* read(found)), sha256(body))
        if (options?.metadata !== undefined && isSteady(options))
          same(found.info.metadata, copy(options.metadata), "metadata")
        if (options?.contentType !== undefined) same(found.info.contentType, options.contentType, "contentType")
        yield* store.delete(info)
      })
  }),

  get: operation({
    args: (at, { fixture }) => ({ object: idArg(at, "object", fixture.bucket, fixture.name) }),
    run: (store, { object }) => store.get(object),
    check: ({ fixture }, { object }, found) =>
      Effect.sync(() => assert.equal(Option.isSome(found), object.name === fixture.name))
  }),

  getRange: operation({
    args: (at, { fixture }) => ({ object: idArg(at, "object", fixture.bucket, fixture.name), range: rangeOf(at) }),
    run: (store, { object, range }) =>
      Effect.flatMap(store.getRange(object, range), (found) =>
        Option.isSome(found) ? Effect.orDie(read(found.value)) : Effect.succeed(undefined)
      ),
    check: (_, { range }, bytes) =>
      Effect.sync(() => {
        if (bytes === undefined) return
        const end = range.length === undefined ? Number.POSITIVE_INFINITY : range.offset + range.length
        same([...bytes], [...text("fixture").subarray(range.offset, end)], "a range")
      })
  }),

  head: operation({
    args: (at, { fixture }) => ({ object: idArg(at, "object", fixture.bucket, fixture.name) }),
    run: (store, { object }) => store.head(object),
    check: ({ fixture }, { object }, found) =>
      Effect.sync(() => assert.equal(Option.isSome(found), object.name === fixture.name))
  }),

  copy: operation({
    args: (at, { fixture }) => ({
      from: idArg(at, "from", fixture.bucket, fixture.name),
      to: idArg(at, "to", fixture.bucket),
      options: at("options", {
        contentType: at<string | undefined>("options.contentType", undefined),
        metadata: at<Record<string, string> | undefined>("options.metadata", undefined),
        ifAbsent: at<boolean | undefined>("options.ifAbsent", undefined)
      })
    }),
    run: (store, { from, options, to }) => store.copy(from, to, options),
    check: ({ fixture, store }, _, info) =>
      Effect.gen(function* () {
        same(sha256(yield* read(Option.getOrThrow(yield* store.get(info)))), sha256(text("fixture")), "a copy")
        if (info.name !== fixture.name) yield* store.delete(info)
      })
  }),

  delete: operation({
    args: (at, { fixture }) => ({
      object: idArg(at, "object", fixture.bucket),
      options: at("options", { ifMatch: at<string | undefined>("options.ifMatch", undefined) })
    }),
    run: (store, { object, options }) => store.delete(object, options),
    check: (_, __, deleted) => Effect.sync(() => assert.equal(deleted, false))
  }),

  deleteMany: operation({
    args: (at, { fixture }) => ({
      bucket: at("bucket", fixture.bucket),
      names: at("names", [at("names[0]", "nothing")])
    }),
    run: (store, { bucket, names }) => store.deleteMany(bucket, names),
    check: (_, __, deleted) => Effect.sync(() => assert.equal(deleted, 0))
  }),

  list: operation({
    args: (at, { fixture }) => ({
      bucket: at("bucket", fixture.bucket),
      options: at<ListOptions>("options", {
        prefix: at("options.prefix", ""),
        delimiter: at("options.delimiter", "/"),
        after: at("options.after", ""),
        limit: at("options.limit", 3)
      })
    }),
    run: (store, { bucket, options }) => collect(store.list(bucket, options)),
    check: ({ fixture }, { options }, entries) =>
      Effect.sync(() => {
        const { after = "", limit = 3, prefix = "" } = options ?? {}
        const expected = fixture.name.startsWith(prefix) && fixture.name > after && limit > 0 ? 1 : 0
        if (isSteady(options)) assert.equal(entries.length, expected, entries.map(textOf).join())
      })
  }),

  count: operation({
    args: (at, { fixture }) => ({
      bucket: at("bucket", fixture.bucket),
      options: at("options", { prefix: at("options.prefix", "") })
    }),
    run: (store, { bucket, options }) => store.count(bucket, options),
    check: (_, __, counted) => Effect.sync(() => assert.ok(counted <= 1))
  }),

  "buckets.create": operation({
    args: (at) => ({
      bucket: at("bucket", "made-by-bad-input"),
      options: at("options", {
        region: at<string | undefined>("options.region", undefined),
        public: at("options.public", false),
        objectLocking: at("options.objectLocking", false)
      })
    }),
    run: (store, { bucket, options }) => store.buckets.create(bucket, options),
    check: ({ store }, { bucket }) => Effect.asVoid(store.buckets.delete(bucket))
  }),

  "buckets.delete": operation({
    args: (at) => ({ bucket: at("bucket", "not-there") }),
    run: (store, { bucket }) => store.buckets.delete(bucket),
    check: (_, __, deleted) => Effect.sync(() => assert.equal(deleted, false))
  }),

  "buckets.exists": operation({
    args: (at, { fixture }) => ({ bucket: at("bucket", fixture.bucket) }),
    run: (store, { bucket }) => store.buckets.exists(bucket),
    check: ({ fixture }, { bucket }, exists) => Effect.sync(() => assert.equal(exists, bucket === fixture.bucket))
  }),

  presign: operation({
    args: (at, { fixture }) => ({
      object: idArg(at, "object", fixture.bucket, fixture.name),
      options: at("options", { expiresIn: at<"1 minute" | undefined>("options.expiresIn", undefined) })
    }),
    run: (store, { object, options }) => store.presign.get(object, options),
    check: (_, __, url) => Effect.sync(() => assert.ok(URL.canParse(url)))
  }),

  sweep: operation({
    args: (at) => ({ options: at("options", { olderThan: at<"1 hour" | undefined>("options.olderThan", "1 hour") }) }),
    run: (store, { options }) => store.sweep(options),
    check: (_, __, swept) => Effect.sync(() => assert.equal(swept, 0))
  })
}

const documented = ["InvalidInput", "NotFound", "Unsupported", "ObjectExists", "ObjectChanged", "BucketNotEmpty"]

export const badInput = (test: Test, options: PropertyOptions): void => {
  test(`${options.runs} calls with hostile values fail typed and change nothing, or are answered rightly`, () =>
    Effect.gen(function* () {
      const store = yield* DataStore
      const object = yield* freshObject
      const fixture = { ...object, name: "fixture" }
      yield* store.put(fixture, text("fixture"))
      const { objects } = yield* store.info
      yield* hostileCalls(options, {
        operations,
        weightOf: (name) => (name === "put" ? 60 : name === "sweep" ? 1 : 5),
        world: { store, fixture },
        // With a turn of the event loop: on a backend in memory nothing else lets the runner have one.
        state: Effect.zipLeft(Effect.map(store.head(fixture), Option.map(plain)), turn),
        documented
      })
      // What failed left nothing behind anywhere.
      assert.equal((yield* store.info).objects, objects)
    }))
}
