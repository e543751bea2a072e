/**
 * The contract of the DataStore: model, errors, and the service tag whose members carry the semantics. What a backend
 * implements is in `DataStoreEncoded`.
 *
 * An **object** is a sequence of bytes under a name in a **bucket**, with a content type and the user's metadata. It is
 * there whole or not at all, from the moment its `put` has succeeded until it is replaced or deleted.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import type * as DateTime from "effect/DateTime"
import type * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import type * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import type * as Stream from "effect/Stream"
import type { InvalidInput, NotFound, ReadFailure, ReadOnly, StoreFailure } from "./Errors.js"

/**
 * The address of an object.
 *
 * @since 0.1.0
 * @category models
 */
export interface ObjectId {
  /** By the rules of S3: 3 to 63 of `a-z`, `0-9`, `-` and `.`, and no IP address. */
  readonly bucket: string
  /**
   * 1 to 1,024 bytes of UTF-8 without NUL. A name is data and never a path: `a` and `a/b`, `A` and `a`, `../x` are
   * different objects. Names that begin with `.effect-stores/` are the store's own.
   */
  readonly name: string
}

/**
 * What is known of an object beside its bytes.
 *
 * @since 0.1.0
 * @category models
 */
export interface ObjectInfo extends ObjectId {
  /** In bytes. */
  readonly size: number
  readonly contentType: string
  /** Exactly what was given. */
  readonly metadata: Readonly<Record<string, string>>
  /**
   * SHA-256 of all bytes, in hexadecimal. Undefined for an object that was not put by this library (a presigned URL,
   * another program): such a body cannot be verified when it is read.
   */
  readonly sha256: string | undefined
  /** Names this content: compare it, and use it for `ifMatch`, and for nothing else. */
  readonly etag: string
  readonly modifiedAt: DateTime.Utc
}

/**
 * What is known of an object that was just put, its hash in any case.
 *
 * @since 0.1.0
 * @category models
 */
export interface PutInfo extends ObjectInfo {
  readonly sha256: string
}

/**
 * An object that was found: what is known of it, and its bytes.
 *
 * @since 0.1.0
 * @category models
 */
export interface StoredObject {
  readonly info: ObjectInfo
  /**
   * The bytes, in pieces of at most 256 KiB, each verified before it is given. A large one is asked for when the Stream
   * is run, so an object of which only `info` is used costs no body. It may be run again. If the object was replaced or
   * deleted since it was found, the Stream gives what was found or fails with `ObjectChanged`: never a mix of two
   * objects, and never less than all without an error.
   */
  readonly body: Stream.Stream<Uint8Array, BodyError>
}

/**
 * @since 0.1.0
 * @category models
 */
export interface PutOptions {
  /** Default `application/octet-stream`. */
  readonly contentType?: string | undefined
  /** Any text under any keys, up to 2,048 bytes of UTF-8 in all. */
  readonly metadata?: Readonly<Record<string, string>> | undefined
  /** Of a Stream, in bytes. Another number of bytes is `InvalidInput`, and nothing is stored. */
  readonly size?: number | undefined
  /** Store it only where there is no object; else `ObjectExists`. Needs `capabilities.putIfAbsent`. */
  readonly ifAbsent?: boolean | undefined
  /** Store it only in the place of this content; else `ObjectChanged`. Needs `capabilities.putIfMatch`. */
  readonly ifMatch?: string | undefined
}

/**
 * @since 0.1.0
 * @category models
 */
export interface CopyOptions {
  /** Default: that of the source. */
  readonly contentType?: string | undefined
  /** Default: that of the source. */
  readonly metadata?: Readonly<Record<string, string>> | undefined
  /** Store it only where there is no object; else `ObjectExists`. Needs `capabilities.copyIfAbsent`. */
  readonly ifAbsent?: boolean | undefined
}

/**
 * Part of an object: `length` bytes from `offset` on, by default all that follow. Of what lies beyond the end there is
 * nothing, which is no error.
 *
 * @since 0.1.0
 * @category models
 */
export interface Range {
  readonly offset: number
  readonly length?: number | undefined
}

/**
 * @since 0.1.0
 * @category models
 */
export interface DeleteOptions {
  /** Delete only this content; else `ObjectChanged`. Needs `capabilities.deleteIfMatch`. */
  readonly ifMatch?: string | undefined
}

/**
 * @since 0.1.0
 * @category models
 */
export interface ListOptions {
  /** Only names that begin with it. */
  readonly prefix?: string | undefined
  /** One ASCII character. Names that have it after the prefix are given as one `Prefix`, up to and with it. */
  readonly delimiter?: string | undefined
  /** Only entries after this one, a name or a prefix: the last of the list before continues it. */
  readonly after?: string | undefined
  /** At most so many entries. */
  readonly limit?: number | undefined
}

/**
 * An object in a list.
 *
 * @since 0.1.0
 * @category models
 */
export interface ObjectEntry {
  readonly _tag: "Object"
  readonly name: string
  /**
   * In bytes, as they are stored: of a sealed object a little more than its content, where the backend lists no more.
   */
  readonly size: number
  readonly etag: string
  readonly modifiedAt: DateTime.Utc
}

/**
 * What lists give: objects, and with a delimiter also what several names begin with.
 *
 * @since 0.1.0
 * @category models
 */
export type Entry = ObjectEntry | { readonly _tag: "Prefix"; readonly prefix: string }

/**
 * What a new bucket is to be. Each needs the capability of that name.
 *
 * @since 0.1.0
 * @category models
 */
export interface BucketOptions {
  readonly region?: string | undefined
  /** Anybody may read its objects without a signature. Default false. */
  readonly public?: boolean | undefined
  /** Objects can be locked against deletion, by other means than this library. Default false. */
  readonly objectLocking?: boolean | undefined
}

/**
 * @since 0.1.0
 * @category models
 */
export interface BucketInfo {
  readonly name: string
  /** As the backend says. Swift does not know, and says the same of all. */
  readonly createdAt: DateTime.Utc
}

/**
 * @since 0.1.0
 * @category models
 */
export interface PresignOptions {
  /** For how long the URL is good, from 1 second to 7 days. Default 15 minutes. */
  readonly expiresIn?: Duration.DurationInput | undefined
}

/**
 * What a backend can do beyond the rest. One is true only where a single atomic operation of the backend does it: never
 * by looking first and acting then, and never guessed from the name of a server. Asking for more is `Unsupported`.
 *
 * @since 0.1.0
 * @category models
 */
export interface Capabilities {
  readonly putIfAbsent: boolean
  readonly putIfMatch: boolean
  readonly copyIfAbsent: boolean
  readonly deleteIfMatch: boolean
  readonly presign: boolean
  readonly region: boolean
  readonly public: boolean
  readonly objectLocking: boolean
  /** Longest name of a bucket. */
  readonly bucketLengthMax: number
  /** Largest object, in bytes. */
  readonly sizeMax: number
  /** Largest object that can be put on a condition, in bytes. */
  readonly conditionalSizeMax: number
}

/**
 * @since 0.1.0
 * @category models
 */
export interface Info {
  /** `InMemory`, `FileSystem`, `Minio`, `Sqlite`, `Pg`. */
  readonly backend: string
  /** Where it is, without secrets. */
  readonly connection: string
  readonly readOnly: boolean
  readonly buckets: number
  readonly objects: number
  /** Of all objects, as they are stored. */
  readonly bytes: number
  /** When the newest object was put; none when there is no object. */
  readonly lastModified: Option.Option<DateTime.Utc>
}

const address = { bucket: Schema.String, name: Schema.String }

/**
 * There is an object under this name, and it should only be stored if there was none. Nothing was changed.
 *
 * @since 0.1.0
 * @category errors
 */
export class ObjectExists extends Schema.TaggedError<ObjectExists>("effect-stores/ObjectExists")(
  "ObjectExists",
  address
) {
  override get message(): string {
    return `${this.bucket}/${this.name} exists already`
  }
}

/**
 * The object is not, or not any more, the one that was named: it was replaced or deleted.
 *
 * @since 0.1.0
 * @category errors
 */
export class ObjectChanged extends Schema.TaggedError<ObjectChanged>("effect-stores/ObjectChanged")(
  "ObjectChanged",
  address
) {
  override get message(): string {
    return `${this.bucket}/${this.name} was replaced or deleted`
  }
}

/**
 * What is stored is not what was put: bytes changed or cut off, another object's file, or a body that is sealed with a
 * key that this store does not have.
 *
 * @since 0.1.0
 * @category errors
 */
export class ObjectCorrupt extends Schema.TaggedError<ObjectCorrupt>("effect-stores/ObjectCorrupt")("ObjectCorrupt", {
  ...address,
  why: Schema.String
}) {
  override get message(): string {
    return `${this.bucket}/${this.name} ${this.why}`
  }
}

/**
 * The object is larger than the backend takes. Nothing was stored.
 *
 * @since 0.1.0
 * @category errors
 */
export class ObjectTooLarge extends Schema.TaggedError<ObjectTooLarge>("effect-stores/ObjectTooLarge")(
  "ObjectTooLarge",
  { ...address, sizeMax: Schema.Number }
) {
  override get message(): string {
    return `${this.bucket}/${this.name} has more than ${this.sizeMax} bytes`
  }
}

/**
 * The bucket has objects, so it was not deleted.
 *
 * @since 0.1.0
 * @category errors
 */
export class BucketNotEmpty extends Schema.TaggedError<BucketNotEmpty>("effect-stores/BucketNotEmpty")(
  "BucketNotEmpty",
  { bucket: Schema.String }
) {
  override get message(): string {
    return `bucket ${this.bucket} is not empty`
  }
}

/**
 * The backend cannot do it, or not in one atomic step (see `Capabilities`). Nothing was changed.
 *
 * @since 0.1.0
 * @category errors
 */
export class Unsupported extends Schema.TaggedError<Unsupported>("effect-stores/Unsupported")("Unsupported", {
  operation: Schema.String,
  why: Schema.String
}) {
  override get message(): string {
    return `${this.operation} is not supported: ${this.why}`
  }
}

/**
 * @since 0.1.0
 * @category errors
 */
export type ReadError = InvalidInput | NotFound | ObjectCorrupt | ReadFailure

/**
 * @since 0.1.0
 * @category errors
 */
export type BodyError = ObjectChanged | ObjectCorrupt | ReadFailure

/**
 * `NotFound` is a bucket that does not exist, or the source of a copy.
 *
 * @since 0.1.0
 * @category errors
 */
export type WriteError = InvalidInput | NotFound | ReadOnly | Unsupported | StoreFailure

/**
 * @since 0.1.0
 * @category errors
 */
export type PutError = WriteError | ObjectExists | ObjectChanged | ObjectTooLarge

/**
 * @since 0.1.0
 * @category errors
 */
export type CopyError = WriteError | ObjectExists | ObjectChanged | ObjectCorrupt | ObjectTooLarge

/**
 * @since 0.1.0
 * @category models
 */
export interface Buckets {
  /** Makes a bucket, and returns whether it did: false when it was there, whatever it is. */
  readonly create: (bucket: string, options?: BucketOptions) => Effect.Effect<boolean, WriteError>
  /** Deletes a bucket without objects, and returns whether there was one. */
  readonly delete: (bucket: string) => Effect.Effect<boolean, WriteError | BucketNotEmpty>
  readonly exists: (bucket: string) => Effect.Effect<boolean, InvalidInput | ReadFailure>
  /** In order of their names. */
  readonly list: Effect.Effect<ReadonlyArray<BucketInfo>, ReadFailure>
}

/**
 * URLs that let who has one get or put an object without this library, until they expire. What is put so has no
 * checksums and no metadata of this library.
 *
 * @since 0.1.0
 * @category models
 */
export interface Presign {
  readonly get: (
    object: ObjectId,
    options?: PresignOptions
  ) => Effect.Effect<string, InvalidInput | Unsupported | ReadFailure>
  readonly put: (
    object: ObjectId,
    options?: PresignOptions
  ) => Effect.Effect<string, InvalidInput | ReadOnly | Unsupported | ReadFailure>
}

/**
 * @since 0.1.0
 * @category models
 */
export interface DataStoreShape {
  readonly capabilities: Capabilities

  /**
   * Stores an object, and replaces the one that is there. The body is bytes, which must not be changed until the put
   * has ended, or a Stream of them, which is pulled as fast as the backend takes it: memory stays the same for any
   * size.
   *
   * 1. The body is written beside what is there, with its checksums. While that lasts nobody sees it.
   * 2. One atomic step makes it the object. Of several puts of one name one wins whole; of any number with `ifAbsent`
   *    exactly one is stored.
   * 3. What fails, or is interrupted, before that step leaves what was there and nothing else. What a process that died
   *    has left is deleted by `sweep`.
   *
   * If the answer to the last step is lost, the store looks whether the object that is there is this one; where it
   * cannot be told the put fails with `CommitOutcomeUnknown`. A failure of the body is passed on.
   */
  readonly put: <E = never, R = never>(
    object: ObjectId,
    body: Uint8Array | Stream.Stream<Uint8Array, E, R>,
    options?: PutOptions
  ) => Effect.Effect<PutInfo, PutError | E, R>

  /** The object, if there is one. */
  readonly get: (object: ObjectId) => Effect.Effect<Option.Option<StoredObject>, ReadError>

  /** The same, with a part of the body. Reads, and verifies, the pieces of 256 KiB that the range touches. */
  readonly getRange: (object: ObjectId, range: Range) => Effect.Effect<Option.Option<StoredObject>, ReadError>

  /** What is known of the object, if there is one. */
  readonly head: (object: ObjectId) => Effect.Effect<Option.Option<ObjectInfo>, ReadError>

  /**
   * Copies an object inside the backend, whole or not at all. `NotFound` when there is no source; `ObjectChanged` when
   * it was replaced meanwhile.
   */
  readonly copy: (from: ObjectId, to: ObjectId, options?: CopyOptions) => Effect.Effect<ObjectInfo, CopyError>

  /**
   * Copies, then deletes the source: for a moment both are there, and both stay when the process dies then. Where the
   * backend has `deleteIfMatch`, a source that was replaced meanwhile is kept.
   */
  readonly move: (from: ObjectId, to: ObjectId, options?: CopyOptions) => Effect.Effect<ObjectInfo, CopyError>

  /** Deletes an object, and returns whether there was one. */
  readonly delete: (
    object: ObjectId,
    options?: DeleteOptions
  ) => Effect.Effect<boolean, WriteError | ObjectChanged | ObjectCorrupt>

  /** Deletes objects, and returns how many there were. One that fails ends it, and others may be deleted by then. */
  readonly deleteMany: (
    bucket: string,
    names: ReadonlyArray<string>
  ) => Effect.Effect<number, WriteError | ObjectChanged | ObjectCorrupt>

  /**
   * Objects in order of the UTF-8 bytes of their names, page by page. What is put or deleted meanwhile may or may not
   * be in it; everything else is in it exactly once, what was damaged included: opening it tells. In files the name of
   * an object may be lost as well, if it is a long one. Then the Stream gives all others, and fails with
   * `ObjectCorrupt`.
   */
  readonly list: (bucket: string, options?: ListOptions) => Stream.Stream<Entry, ReadError>

  /** How many objects there are, with names that begin with `prefix`. */
  readonly count: (
    bucket: string,
    options?: { readonly prefix?: string | undefined }
  ) => Effect.Effect<number, ReadError>

  readonly buckets: Buckets

  readonly presign: Presign

  /** What this store is, and how much it holds. Lists everything, so not for hot paths. */
  readonly info: Effect.Effect<Info, ReadError>

  /**
   * Deletes what puts and copies of processes that died have left: only what this library has made, and what nobody has
   * been writing for `olderThan` (default 1 hour; at least 10 minutes). Returns how many it has deleted. Puts under
   * way, of any process, are left alone, however long they take.
   */
  readonly sweep: (options?: {
    readonly olderThan?: Duration.DurationInput | undefined
  }) => Effect.Effect<number, ReadOnly | InvalidInput | StoreFailure>

  /** Deletes all objects and buckets of this store, for tests. */
  readonly reset: Effect.Effect<void, ReadOnly | StoreFailure>
}

/**
 * @since 0.1.0
 * @category tags
 */
export class DataStore extends Context.Tag("effect-stores/DataStore")<DataStore, DataStoreShape>() {}
