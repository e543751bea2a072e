/**
 * The port that a backend of the DataStore implements, and `make`, the one step from the port to the public service. A
 * layer that seals objects takes the port and gives it back.
 *
 * @since 0.1.0
 */
import type * as Effect from "effect/Effect"
import type * as Stream from "effect/Stream"
import type {
  BodyError,
  BucketNotEmpty,
  BucketOptions,
  Capabilities,
  DataStoreShape,
  ObjectCorrupt,
  ObjectId,
  ReadError
} from "../DataStore.js"
import type { InvalidInput, ReadFailure, StoreFailure } from "../Errors.js"
import type { Location } from "../Trace.js"
import { lift, relift as reliftService } from "./lift.js"

/**
 * What is kept beside the bytes of an object. `metadata` and `checksums` are text that the backend keeps as it is:
 * plain when `keyId` is null, else sealed with that key, together with the body.
 *
 * @since 0.1.0
 * @category encoded
 */
export interface EncodedFields {
  readonly contentType: string
  /** JSON of a record of texts, up to some 13 KiB; empty for an object that was not put by this library. */
  readonly metadata: string
  readonly keyId: string | null
  /**
   * SHA-256 of all bytes in hexadecimal, a full stop, and the checksums of its pieces; those and the full stop are left
   * out where `OpenObject.isVerified`. Null for an object that was not put by this library.
   */
  readonly checksums: string | null
}

/**
 * @since 0.1.0
 * @category encoded
 */
export interface EncodedObject extends ObjectId, EncodedFields {
  /** Bytes of the body as they are stored. */
  readonly size: number
  /** A UUID, another one for each put and copy; null for an object that was not put by this library. */
  readonly writeId: string | null
  readonly etag: string
  /** Epoch milliseconds. */
  readonly modifiedAt: number
}

/**
 * An object to put. What depends on the whole body is asked for by `finish`, once, when the body has ended.
 *
 * @since 0.1.0
 * @category encoded
 */
export interface NewObject extends ObjectId, Omit<EncodedFields, "checksums"> {
  readonly writeId: string
  /** Epoch milliseconds; a backend may keep its own time instead. */
  readonly modifiedAt: number
  /** Bytes of the body, if they are known. The body has as many, or fails. */
  readonly size: number | null
  readonly finish: () => { readonly checksums: string | null }
}

/**
 * When an object may be stored: always, only where there is none, or only in the place of that etag. Conditions are
 * asked of backends that have the capability only.
 *
 * @since 0.1.0
 * @category encoded
 */
export type Condition = { readonly _tag: "Always" | "IfAbsent" } | { readonly _tag: "IfMatch"; readonly etag: string }

/**
 * What became of a write. `Refused`: the condition did not hold. `NoBucket`: there is no such bucket.
 *
 * @since 0.1.0
 * @category encoded
 */
export type Written =
  | { readonly _tag: "Stored"; readonly etag: string; readonly modifiedAt: number }
  | { readonly _tag: "Refused" | "NoBucket" }

/**
 * An object that was found. `read` gives bytes of this very content, `length` from `offset` on, both inside of it, in
 * pieces of at most 1 MiB; once it is replaced or deleted it may fail with `ObjectChanged`. Nothing is held open
 * between `open` and the run of that Stream.
 *
 * @since 0.1.0
 * @category encoded
 */
export interface OpenObject {
  readonly object: EncodedObject
  /** Whether `read` gives only what has been verified; then there need be no checksums of pieces. Default false. */
  readonly isVerified?: boolean | undefined
  readonly read: Read
}

/**
 * How the bytes of an object are read. A port that has all of a small body at hand, because it came along with the
 * object, may add it: it is then given without a Stream in between. It belongs to the function, so a port that wraps
 * another and brings a `read` of its own has none, and nobody reads past it.
 *
 * @since 0.1.0
 * @category encoded
 */
export interface Read {
  (offset: number, length: number): Stream.Stream<Uint8Array, BodyError>
  readonly inline?: Uint8Array | undefined
}

/**
 * @since 0.1.0
 * @category encoded
 */
export interface ListRequest {
  readonly prefix: string
  readonly delimiter: string | null
  /** Only names after it; empty for all. */
  readonly after: string
  /** The most entries that anybody will take. */
  readonly limit: number
}

/**
 * An entry of a list. `keyId` is undefined where the backend would have to look at the object itself.
 *
 * @since 0.1.0
 * @category encoded
 */
export type EncodedEntry =
  | {
      readonly _tag: "Object"
      readonly name: string
      readonly size: number
      readonly etag: string
      readonly modifiedAt: number
      readonly keyId: string | null | undefined
    }
  | { readonly _tag: "Prefix"; readonly prefix: string }

/**
 * What a backend implements. Input has been checked, so a backend checks nothing again. Every member may be used
 * concurrently and be interrupted at any time without leaving anything behind.
 *
 * @since 0.1.0
 * @category encoded
 */
export interface Encoded {
  readonly backend: string
  /** Where it is, without secrets. */
  readonly connection: string
  readonly capabilities: Capabilities

  /**
   * Writes the body beside what is there, and makes it the object in one atomic step, or leaves what is there. Pieces
   * of the body have at most 256 KiB, all but the last exactly as much. A failure of the body is passed on.
   */
  readonly put: <E>(
    object: NewObject,
    body: Stream.Stream<Uint8Array, E>,
    condition: Condition
  ) => Effect.Effect<Written, StoreFailure | E>

  /** The object, or null; `"NoBucket"` when there is no such bucket. */
  readonly open: (object: ObjectId) => Effect.Effect<OpenObject | "NoBucket" | null, ReadFailure | ObjectCorrupt>

  /**
   * Gives the content of `from` another name and these fields, without the bytes passing through the lift. `Refused`
   * when the condition did not hold, or when `from` is not this content any more.
   */
  readonly copy: (
    from: EncodedObject,
    to: ObjectId & EncodedFields & { readonly writeId: string; readonly modifiedAt: number },
    condition: Condition
  ) => Effect.Effect<Written, StoreFailure | BodyError>

  /** Whether there was one. With an etag only that content is deleted: else `"Refused"`. */
  readonly delete: (
    object: ObjectId,
    ifMatch: string | null
  ) => Effect.Effect<boolean | "NoBucket" | "Refused", StoreFailure | ObjectCorrupt>

  /** In order of the UTF-8 bytes of the names; fails with `NotFound` when there is no such bucket. */
  readonly list: (bucket: string, request: ListRequest) => Stream.Stream<EncodedEntry, ReadError>

  /** False when it was there. */
  readonly createBucket: (bucket: string, options: BucketOptions, nowMs: number) => Effect.Effect<boolean, StoreFailure>

  /** False when there was none. */
  readonly deleteBucket: (bucket: string) => Effect.Effect<boolean, BucketNotEmpty | StoreFailure>

  readonly bucketExists: (bucket: string) => Effect.Effect<boolean, ReadFailure>

  /** In any order. */
  readonly buckets: Effect.Effect<ReadonlyArray<{ readonly name: string; readonly createdAt: number }>, ReadFailure>

  /** Null without the capability. */
  readonly presign:
    | ((method: "get" | "put", object: ObjectId, expiresInSeconds: number) => Effect.Effect<string, ReadFailure>)
    | null

  /**
   * What a layer that seals keeps beside the objects: returns the value under this name; if there is none, and one is
   * given, keeps that first. One atomic step. `reset` leaves it alone. Null where there is no place beside the buckets.
   */
  readonly note: ((name: string, value: string | null) => Effect.Effect<string | null, StoreFailure>) | null

  /** Deletes what dead processes left and nobody has touched for so long; returns how many. */
  readonly sweep: (olderThanMs: number) => Effect.Effect<number, StoreFailure>

  /** Deletes all objects and buckets, and what was left behind. */
  readonly reset: Effect.Effect<void, StoreFailure>
}

/**
 * @since 0.1.0
 * @category models
 */
export interface Options extends Location {
  /** What the backend is in OpenTelemetry's words: `postgresql`, `sqlite`, `aws.s3`, `filesystem`, `memory`. */
  readonly system: string
  /** Refuse all writes with `ReadOnly`. Default false. */
  readonly readOnly?: boolean | undefined
}

/**
 * Lifts the port to the public service.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make: (encoded: Encoded, options: Options) => DataStoreShape = lift

/**
 * Lifts a service again over its wrapped port, with the options that it was lifted with: how a layer that seals objects
 * wraps a store of any backend. The given service goes on as it was. `InvalidInput` when it was not made by `make`: a
 * service made by hand, or a copy of one with other members, has no port.
 *
 * @since 0.1.0
 * @category constructors
 */
export const relift: <E, R>(
  service: DataStoreShape,
  wrap: (encoded: Encoded) => Effect.Effect<Encoded, E, R>
) => Effect.Effect<DataStoreShape, E | InvalidInput, R> = reliftService

export { verified } from "./bodies.js"
export { chunkBytes, Regrouping, Summing } from "./checksums.js"
export { compareNames, entriesOf, type Listed, type Named } from "./entries.js"
export { ownPrefix } from "./input.js"
