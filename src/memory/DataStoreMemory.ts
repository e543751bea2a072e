/**
 * The DataStore in memory: for tests, and as the model that the other backends are held against. It survives nothing
 * but the layer's scope, and objects stay in memory whole.
 *
 * @since 0.1.0
 */
import * as Chunk from "effect/Chunk"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Stream from "effect/Stream"
import { BucketNotEmpty, DataStore, ObjectChanged } from "../DataStore.js"
import type {
  Condition,
  Encoded,
  EncodedEntry,
  EncodedObject,
  OpenObject,
  Written
} from "../dataStore/DataStoreEncoded.js"
import { chunkBytes, compareNames, entriesOf, make } from "../dataStore/DataStoreEncoded.js"
import { type InvalidInput, NotFound } from "../Errors.js"
import { onlyKnown } from "../internal/storeOptions.js"
import { makeNote } from "./database/notes.js"

/**
 * @since 0.1.0
 * @category models
 */
export interface Options {
  /** Refuse all writes with `ReadOnly`. Default false. */
  readonly readOnly?: boolean | undefined
}

interface Stored {
  readonly object: EncodedObject
  /** Never changed: an object that is replaced leaves it to who still reads it. */
  readonly pieces: ReadonlyArray<Uint8Array>
}

interface Bucket {
  readonly createdAt: number
  readonly objects: Map<string, Stored>
}

/** What one array of bytes holds, and far more than belongs into memory. */
const sizeMax = 2 ** 32

/**
 * A port of its own for each call.
 *
 * @since 0.1.0
 * @category constructors
 */
export const makeEncoded: Effect.Effect<Encoded> = Effect.sync(() => {
  const buckets = new Map<string, Bucket>()

  const store = (object: EncodedObject, pieces: ReadonlyArray<Uint8Array>, condition: Condition): Written => {
    const objects = buckets.get(object.bucket)?.objects
    if (objects === undefined) return { _tag: "NoBucket" }
    const existing = objects.get(object.name)?.object
    const refused =
      condition._tag === "IfAbsent"
        ? existing !== undefined
        : condition._tag === "IfMatch" && existing?.etag !== condition.etag
    if (refused) return { _tag: "Refused" }
    objects.set(object.name, { object, pieces })
    return { _tag: "Stored", etag: object.etag, modifiedAt: object.modifiedAt }
  }

  const found = ({ object, pieces }: Stored): OpenObject => ({
    object,
    read: (offset, length) =>
      Stream.suspend(() => {
        if (buckets.get(object.bucket)?.objects.get(object.name)?.object !== object) {
          return Stream.fail(new ObjectChanged(object))
        }
        const end = offset + length
        return Stream.fromIterable(
          pieces.flatMap((piece, i) => {
            const at = i * chunkBytes
            const part = copyOf(piece, Math.max(0, offset - at), Math.max(0, end - at))
            return part.byteLength === 0 ? [] : [part]
          })
        ).pipe(Stream.rechunk(1))
      })
  })

  return {
    backend: "InMemory",
    connection: "memory",
    capabilities: {
      putIfAbsent: true,
      putIfMatch: true,
      copyIfAbsent: true,
      deleteIfMatch: true,
      presign: false,
      region: false,
      public: false,
      objectLocking: false,
      bucketLengthMax: 63,
      sizeMax,
      conditionalSizeMax: sizeMax
    },

    put: ({ finish, ...given }, body, condition) =>
      // A copy, as the caller's bytes stay the caller's.
      Effect.map(Stream.runCollect(Stream.map(body, (piece) => copyOf(piece))), (chunk) => {
        const pieces = Chunk.toReadonlyArray(chunk)
        const size = pieces.reduce((sum, piece) => sum + piece.byteLength, 0)
        return store({ ...given, size, ...finish(), etag: given.writeId }, pieces, condition)
      }),

    open: ({ bucket, name }) =>
      Effect.sync(() => {
        const objects = buckets.get(bucket)?.objects
        const stored = objects?.get(name)
        return objects === undefined ? "NoBucket" : stored === undefined ? null : found(stored)
      }),

    copy: (from, to, condition) =>
      Effect.sync(() => {
        const source = buckets.get(from.bucket)?.objects.get(from.name)
        return source?.object.etag === from.etag
          ? store({ ...to, size: from.size, etag: to.writeId }, source.pieces, condition)
          : { _tag: "Refused" }
      }),

    delete: ({ bucket, name }, ifMatch) =>
      Effect.sync(() => {
        const objects = buckets.get(bucket)?.objects
        if (objects === undefined) return "NoBucket"
        if (ifMatch !== null && objects.get(name)?.object.etag !== ifMatch) return "Refused"
        return objects.delete(name)
      }),

    list: (bucket, request) =>
      Stream.suspend((): Stream.Stream<EncodedEntry, NotFound> => {
        const objects = buckets.get(bucket)?.objects
        if (objects === undefined) return Stream.fail(new NotFound({ what: `bucket ${bucket}` }))
        const rows = [...objects.values()].map(({ object }) => object)
        rows.sort((a, b) => compareNames(a.name, b.name))
        return Stream.fromIterable(entriesOf(rows, request)).pipe(
          Stream.map((entry): EncodedEntry => {
            if (entry._tag === "Prefix") return entry
            const { etag, keyId, modifiedAt, name, size } = entry.row
            return { _tag: "Object", name, size, etag, modifiedAt, keyId }
          })
        )
      }),

    createBucket: (bucket, _, nowMs) =>
      Effect.sync(() => {
        if (buckets.has(bucket)) return false
        buckets.set(bucket, { createdAt: nowMs, objects: new Map() })
        return true
      }),

    deleteBucket: (bucket) =>
      Effect.suspend(() =>
        (buckets.get(bucket)?.objects.size ?? 0) > 0
          ? Effect.fail(new BucketNotEmpty({ bucket }))
          : Effect.succeed(buckets.delete(bucket))
      ),

    bucketExists: (bucket) => Effect.sync(() => buckets.has(bucket)),

    buckets: Effect.sync(() => [...buckets].map(([name, { createdAt }]) => ({ name, createdAt }))),

    presign: null,

    note: makeNote(),

    sweep: () => Effect.succeed(0),

    reset: Effect.sync(() => buckets.clear())
  }
})

/**
 * @since 0.1.0
 * @category layers
 */
export const layer = (options: Options = {}): Layer.Layer<DataStore, InvalidInput> =>
  Layer.effect(
    DataStore,
    Effect.gen(function* () {
      const { readOnly } = yield* onlyKnown(options, { readOnly: true })
      return make(yield* makeEncoded, { system: "memory", readOnly })
    })
  )

/** Not its own method: that of a Buffer gives a view. */
const copyOf = (piece: Uint8Array, from?: number, to?: number): Uint8Array =>
  Uint8Array.prototype.slice.call(piece, from, to)
