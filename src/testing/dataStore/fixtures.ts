/**
 * Generators of what the DataStore's tests put, and comparisons of what they read. Every test has buckets of its own
 * instead of cleaning up.
 */
import assert from "node:assert/strict"
import { createCipheriv, createHash, randomUUID } from "node:crypto"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import type { Entry, ListOptions, ObjectId, ObjectInfo, StoredObject } from "../../DataStore.js"
import { DataStore } from "../../DataStore.js"
import type { Test as AnyTest } from "../suite.js"
import { collect } from "../suite.js"

export type Test = AnyTest<DataStore>

export const bucketName = (): string => `b-${randomUUID()}`

/** A bucket of the test's own. */
export const freshBucket = Effect.flatMap(DataStore, (store) => {
  const bucket = bucketName()
  return Effect.as(store.buckets.create(bucket), bucket)
})

/** An object's address in a bucket of its own. */
export const freshObject = Effect.map(freshBucket, (bucket): ObjectId => ({ bucket, name: "object" }))

/** Two addresses in a bucket of their own. */
export const freshPair = Effect.map(freshBucket, (bucket): { readonly from: ObjectId; readonly to: ObjectId } => ({
  from: { bucket, name: "from" },
  to: { bucket, name: "to" }
}))

/**
 * Bytes that differ at every place from those of another seed, more or less; the same for the same arguments, and those
 * of a smaller size begin those of a larger one. A cipher's, because tests need hundreds of megabytes of them.
 */
export const bytesOf = (size: number, seed = 1): Uint8Array => {
  const key = Buffer.alloc(16)
  key.writeInt32BE(seed)
  const { buffer, byteOffset, byteLength } = createCipheriv("aes-128-ctr", key, Buffer.alloc(16)).update(
    Buffer.alloc(size)
  )
  return new Uint8Array(buffer, byteOffset, byteLength)
}

export const sha256 = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex")

export const sameBytes = (actual: Uint8Array, expected: Uint8Array): void => {
  assert.equal(actual.byteLength, expected.byteLength)
  assert.ok(Buffer.from(actual.buffer, actual.byteOffset, actual.byteLength).equals(expected), "bytes differ")
}

/** All bytes of a body. */
export const read = ({ body }: StoredObject) =>
  Effect.map(collect(body), (pieces): Uint8Array => {
    for (const piece of pieces) assert.ok(piece.byteLength > 0 && piece.byteLength <= 256 * 1024, "a piece's size")
    return Buffer.concat(pieces)
  })

export const getBytes = (object: ObjectId) =>
  Effect.flatMap(DataStore, (store) =>
    Effect.flatMap(store.get(object), Option.match({ onNone: () => Effect.succeed(undefined), onSome: read }))
  )

/** What is stored under the name is this. */
export const assertStored = (object: ObjectId, bytes: Uint8Array, info: Partial<ObjectInfo> = {}) =>
  Effect.gen(function* () {
    const store = yield* DataStore
    const found = Option.getOrThrow(yield* store.get(object))
    sameBytes(yield* read(found), bytes)
    const head = Option.getOrThrow(yield* store.head(object))
    assert.deepEqual(plain(head), plain(found.info))
    const expected = { ...object, size: bytes.byteLength, sha256: sha256(bytes), ...info }
    assert.deepEqual({ ...plain(head), ...expected }, plain(head))
  })

export const assertAbsent = (object: ObjectId) =>
  Effect.gen(function* () {
    const store = yield* DataStore
    assert.ok(Option.isNone(yield* store.get(object)))
    assert.ok(Option.isNone(yield* store.head(object)))
  })

/** In a form that is compared by value: a DateTime computes parts of itself when it is looked at. */
export const plain = (info: ObjectInfo) => ({ ...info, modifiedAt: info.modifiedAt.epochMillis })

export const textOf = (entry: Entry): string => (entry._tag === "Object" ? entry.name : entry.prefix)

export const listed = (bucket: string, options?: ListOptions) =>
  Effect.flatMap(DataStore, (store) => Effect.map(collect(store.list(bucket, options)), (all) => all.map(textOf)))

export const text = (words: string): Uint8Array => new TextEncoder().encode(words)

/** A body that comes in pieces of that size. */
export const inPieces = (bytes: Uint8Array, size: number): Stream.Stream<Uint8Array> =>
  Stream.unfold(0, (at) =>
    at >= bytes.byteLength ? Option.none() : Option.some([bytes.subarray(at, at + size), at + size] as const)
  ).pipe(Stream.rechunk(1))

/** One turn of the event loop, in which drivers and servers go on. */
export const turn = Effect.async<void>((resume) => {
  setImmediate(() => resume(Effect.void))
})
