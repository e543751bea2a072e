/**
 * The DataStore's port on a SQL database, whichever it is: a body is rows of 256 KiB under the id of its write, and the
 * object is one row that names that id. So a write adds its rows where nobody looks, and one statement makes them the
 * object; and a part is read without the rest. What the statements are is the database's.
 *
 * A write that is not in place yet, and the rows of objects that were replaced, stand in `uploads`: with the time of
 * the last sign of life, or with 0 for what nobody will ever need.
 */
import * as Chunk from "effect/Chunk"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import { BucketNotEmpty, ObjectChanged, type ObjectId } from "../DataStore.js"
import type {
  Condition,
  Encoded,
  EncodedEntry,
  EncodedObject,
  ListRequest,
  NewObject,
  OpenObject,
  Written
} from "../dataStore/DataStoreEncoded.js"
import { chunkBytes, compareNames, entriesOf } from "../dataStore/DataStoreEncoded.js"
import { NotFound, type ReadFailure, StoreError, type StoreFailure } from "../Errors.js"
import { alongside } from "../internal/fibers.js"

/** Rows deleted by one statement, which others wait for. */
export const deletesAtOnce = 16

/** Bodies that are read together with their object. */
export const inlineBytes = 64 * 1024

const pageRows = 1_000

/** Far below what makes the list of a body's checksums a burden, and more than belongs into a database. */
const sizeMax = 2 ** 40

/** Less than a tenth of the least age of what is swept. */
const touchEvery = "1 minute"

export type StoredRow = Omit<EncodedObject, "etag" | "writeId"> & { readonly writeId: string }

export const columns = "bucket, name, write_id, size, content_type, metadata, key_id, checksums, modified_ms"

export const toRow = (object: StoredRow): Array<unknown> => [
  object.bucket,
  object.name,
  object.writeId,
  object.size,
  object.contentType,
  object.metadata,
  object.keyId,
  object.checksums,
  object.modifiedAt
]

export type Row = readonly [
  bucket: string,
  name: string,
  writeId: string,
  size: number,
  contentType: string,
  metadata: string,
  keyId: string | null,
  checksums: string | null,
  modifiedMs: number
]

export const fromRow = (row: Row): EncodedObject => {
  const [bucket, name, writeId, size, contentType, metadata, keyId, checksums, modifiedAt] = row
  return { bucket, name, writeId, etag: writeId, size, contentType, metadata, keyId, checksums, modifiedAt }
}

/** What a list needs of an object. */
export const entryColumns = "name, size, write_id, modified_ms, key_id"

export type EntryRow = readonly [name: string, size: number, writeId: string, modifiedMs: number, keyId: string | null]

/** `Gone`: the rows of the write were swept away. `replaced`: there may be rows that nobody needs any more. */
export interface Placed {
  readonly outcome: "Stored" | "Refused" | "NoBucket" | "Gone"
  readonly replaced: boolean
}

/** The statements, each one atomic step. */
export interface Statements {
  /** Rows of 256 KiB that one statement reads or writes. */
  readonly rowsAtOnce: number
  readonly begin: (writeId: string, nowMs: number) => Effect.Effect<void, StoreFailure>
  readonly touch: (writeId: string, nowMs: number) => Effect.Effect<void, StoreFailure>
  /** False when there is no such write any more. */
  readonly addRows: (
    writeId: string,
    first: number,
    pieces: ReadonlyArray<Uint8Array>,
    nowMs: number
  ) => Effect.Effect<boolean, StoreFailure>
  /** Rows of another write, as far as there are any; returns how many. */
  readonly copyRows: (
    from: string,
    to: string,
    first: number,
    count: number,
    nowMs: number
  ) => Effect.Effect<number, StoreFailure>
  /** Makes a write the object: with its only piece, or with the rows that were added. */
  readonly place: (
    object: StoredRow,
    piece: Uint8Array | null,
    condition: Condition
  ) => Effect.Effect<Placed, StoreFailure>
  readonly find: (
    id: ObjectId
  ) => Effect.Effect<{ readonly object: EncodedObject; readonly inline: Uint8Array | null } | null, ReadFailure>
  readonly rows: (
    writeId: string,
    first: number,
    count: number
  ) => Effect.Effect<ReadonlyArray<Uint8Array>, ReadFailure>
  /** Undefined when there was none; else whether there may be rows that nobody needs any more. */
  readonly remove: (id: ObjectId, ifMatch: string | null) => Effect.Effect<boolean | undefined, StoreFailure>
  readonly page: (
    bucket: string,
    from: string,
    isInclusive: boolean,
    limit: number
  ) => Effect.Effect<ReadonlyArray<EntryRow>, ReadFailure>
  readonly discard: (writeId: string) => Effect.Effect<void, StoreFailure>
  /** Some writes whose last sign of life was at or before that. */
  readonly silent: (untilMs: number) => Effect.Effect<ReadonlyArray<string>, ReadFailure>
  /**
   * Deletes some rows of a write that is still as silent; returns how many, and when there are none the write itself.
   */
  readonly deleteRows: (writeId: string, untilMs: number) => Effect.Effect<number, StoreFailure>
  readonly createBucket: (bucket: string, nowMs: number) => Effect.Effect<boolean, StoreFailure>
  readonly deleteBucket: (bucket: string) => Effect.Effect<boolean | "NotEmpty", StoreFailure>
  readonly bucketExists: (bucket: string) => Effect.Effect<boolean, ReadFailure>
  readonly buckets: Effect.Effect<ReadonlyArray<readonly [name: string, createdMs: number]>, ReadFailure>
  readonly note: (name: string, value: string | null) => Effect.Effect<string | null, StoreFailure>
  readonly reset: Effect.Effect<void, StoreFailure>
}

const now = Effect.clockWith((clock) => clock.currentTimeMillis)

const swept = (operation: string) =>
  new StoreError({ operation, cause: new Error("what was being written was swept away") })

export const make = (backend: string, connection: string, sql: Statements): Encoded => {
  const { rowsAtOnce } = sql
  /** Deletes what is as silent as that, write by write and batch by batch; returns how many writes. */
  const collect = (untilMs: number): Effect.Effect<number, StoreFailure> =>
    Effect.flatMap(sql.silent(untilMs), (writes) =>
      writes.length === 0
        ? Effect.succeed(0)
        : Effect.flatMap(
            Effect.forEach(writes, (writeId) =>
              Effect.repeat(sql.deleteRows(writeId, untilMs), { while: (deleted) => deleted > 0 })
            ),
            () => Effect.map(collect(untilMs), (more) => writes.length + more)
          )
    )

  /** What cannot be deleted now the sweep will delete. */
  const tidy = Effect.ignore(collect(0))

  const place = (
    operation: string,
    object: StoredRow,
    piece: Uint8Array | null,
    condition: Condition
  ): Effect.Effect<Written, StoreFailure> =>
    Effect.uninterruptible(
      Effect.flatMap(sql.place(object, piece, condition), ({ outcome, replaced }) => {
        const written: Effect.Effect<Written, StoreFailure> =
          outcome === "Gone"
            ? Effect.fail(swept(operation))
            : outcome === "Stored"
              ? Effect.succeed({ _tag: "Stored", etag: object.writeId, modifiedAt: object.modifiedAt })
              : Effect.succeed({ _tag: outcome })
        return replaced ? Effect.zipLeft(written, tidy) : written
      })
    )

  /** A write that `use` adds rows to; what ends it before it is in its place leaves none. */
  const writing = <E>(writeId: string, use: Effect.Effect<Written, E | StoreFailure>) =>
    Effect.acquireUseRelease(
      Effect.flatMap(now, (nowMs) => sql.begin(writeId, nowMs)),
      () =>
        alongside(
          use,
          // Tells sweepers of other processes that somebody is at it, also when the body keeps it waiting.
          Effect.forever(
            Effect.delay(Effect.ignore(Effect.flatMap(now, (nowMs) => sql.touch(writeId, nowMs))), touchEvery)
          )
        ),
      (_, exit) =>
        exit._tag === "Success" && exit.value._tag === "Stored"
          ? Effect.void
          : Effect.zipRight(Effect.ignore(sql.discard(writeId)), tidy)
    )

  const list = (bucket: string, request: ListRequest): Stream.Stream<EncodedEntry, ReadFailure> => {
    const { after, delimiter, prefix } = request
    const start =
      compareNames(prefix, after) > 0 ? { from: prefix, isInclusive: true } : { from: after, isInclusive: false }
    return Stream.paginateChunkEffect({ ...start, after }, (state) =>
      Effect.map(sql.page(bucket, state.from, state.isInclusive, Math.min(pageRows, request.limit + 1)), (rows) => {
        const named = rows.map(([name, size, etag, modifiedAt, keyId]) => ({ name, size, etag, modifiedAt, keyId }))
        const entries: Array<EncodedEntry> = []
        for (const entry of entriesOf(named, { delimiter, prefix, after: state.after })) {
          entries.push(entry._tag === "Prefix" ? entry : { _tag: "Object", ...entry.row })
        }
        const end = rows.at(-1)?.[0]
        const entry = entries.at(-1)
        const isOver = end === undefined || !end.startsWith(prefix)
        const next =
          entry?._tag === "Prefix" && end?.startsWith(entry.prefix)
            ? // Past all that begins so: the delimiter is an ASCII character, and the next one stands for it.
              { from: successor(entry.prefix), isInclusive: true, after: entry.prefix }
            : { from: end ?? "", isInclusive: false, after: state.after }
        return [Chunk.unsafeFromArray(entries), isOver ? Option.none() : Option.some(next)] as const
      })
    )
  }

  const open = (id: ObjectId): Effect.Effect<OpenObject | "NoBucket" | null, ReadFailure> =>
    Effect.flatMap(sql.find(id), (found): Effect.Effect<OpenObject | "NoBucket" | null, ReadFailure> => {
      if (found === null) return Effect.map(sql.bucketExists(id.bucket), (exists) => (exists ? null : "NoBucket"))
      const { inline, object } = found
      const read =
        inline === null
          ? (offset: number, length: number) => readRows(object, offset, length)
          : Object.assign((offset: number, length: number) => part(inline, offset, length), { inline })
      return Effect.succeed({ object, read })
    })

  /** A copy, which is the reader's. */
  const part = (bytes: Uint8Array, offset: number, length: number) =>
    Stream.sync(() => Uint8Array.prototype.slice.call(bytes, offset, offset + length))

  const readRows = (object: EncodedObject, offset: number, length: number) => {
    const end = Math.ceil((offset + length) / chunkBytes)
    const changed = new ObjectChanged({ bucket: object.bucket, name: object.name })
    return Stream.paginateChunkEffect(Math.floor(offset / chunkBytes), (first) =>
      Effect.flatMap(sql.rows(object.writeId ?? "", first, Math.min(rowsAtOnce, end - first)), (rows) => {
        if (rows.length < Math.min(rowsAtOnce, end - first)) return Effect.fail(changed)
        const parts = rows.map((row, i) => {
          const at = (first + i) * chunkBytes
          return row.subarray(Math.max(0, offset - at), Math.max(0, offset + length - at))
        })
        const next = first + rows.length
        return Effect.succeed([Chunk.unsafeFromArray(parts), next < end ? Option.some(next) : Option.none()] as const)
      })
    )
  }

  return {
    backend,
    connection,
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

    put: <E>(
      { finish, size: _, ...given }: NewObject,
      body: Stream.Stream<Uint8Array, E>,
      condition: Condition
    ): Effect.Effect<Written, E | StoreFailure> => {
      const { writeId } = given
      return Effect.scoped(
        Effect.flatMap(Stream.toPull(Stream.rechunk(body, 1)), (pull) => {
          // What comes next, in pieces that follow each other; none at the end.
          const next: Effect.Effect<Uint8Array | undefined, E> = Effect.matchEffect(pull, {
            onFailure: Option.match({
              onNone: () => Effect.succeed(undefined),
              onSome: (error: E) => Effect.fail(error)
            }),
            onSuccess: (chunk) => Effect.succeed(Option.getOrUndefined(Chunk.head(chunk)))
          })
          const placed = (size: number, piece: Uint8Array | null) =>
            place("put", { ...given, size, ...finish() }, piece, condition)
          return Effect.gen(function* () {
            const first = yield* next
            const second = first === undefined ? undefined : yield* next
            if (first === undefined || second === undefined) return yield* placed(first?.byteLength ?? 0, first ?? null)
            if (!(yield* sql.bucketExists(given.bucket))) return { _tag: "NoBucket" } as const
            return yield* writing(
              writeId,
              Effect.gen(function* () {
                let size = 0
                let count = 0
                let pieces: Array<Uint8Array> = [first, second]
                for (;;) {
                  const more = pieces.length < rowsAtOnce ? yield* next : undefined
                  if (more !== undefined) {
                    pieces.push(more)
                    continue
                  }
                  if (pieces.length === 0) break
                  const isThere = yield* sql.addRows(writeId, count, pieces, yield* now)
                  if (!isThere) return yield* swept("put")
                  const isLast = pieces.length < rowsAtOnce
                  for (const { byteLength } of pieces) size += byteLength
                  count += pieces.length
                  pieces = []
                  if (isLast) break
                }
                return yield* placed(size, null)
              })
            )
          })
        })
      )
    },

    open,

    copy: (from, { writeId, ...to }, condition) =>
      Effect.gen(function* () {
        if (!(yield* sql.bucketExists(to.bucket))) return { _tag: "NoBucket" } as const
        const object = { ...to, writeId, size: from.size }
        const count = Math.ceil(from.size / chunkBytes)
        if (count <= 1) {
          const found = count === 0 ? [] : yield* sql.rows(from.writeId ?? "", 0, 1)
          if (found.length < count) return { _tag: "Refused" } as const
          return yield* place("copy", object, found[0] ?? null, condition)
        }
        return yield* writing(
          writeId,
          Effect.gen(function* () {
            for (let first = 0; first < count; first += rowsAtOnce) {
              const asked = Math.min(rowsAtOnce, count - first)
              const copied = yield* sql.copyRows(from.writeId ?? "", writeId, first, asked, yield* now)
              if (copied < asked) return { _tag: "Refused" } as const
            }
            return yield* place("copy", object, null, condition)
          })
        )
      }),

    delete: (id, ifMatch) =>
      Effect.uninterruptible(
        Effect.flatMap(
          sql.remove(id, ifMatch),
          (removed): Effect.Effect<boolean | "NoBucket" | "Refused", StoreFailure> => {
            if (removed !== undefined) return removed ? Effect.as(tidy, true) : Effect.succeed(true)
            const none = ifMatch === null ? false : "Refused"
            return Effect.map(sql.bucketExists(id.bucket), (exists) => (exists ? none : "NoBucket"))
          }
        )
      ),

    list: (bucket, request) =>
      Stream.unwrap(
        Effect.map(
          sql.bucketExists(bucket),
          (exists): Stream.Stream<EncodedEntry, NotFound | ReadFailure> =>
            exists ? list(bucket, request) : Stream.fail(new NotFound({ what: `bucket ${bucket}` }))
        )
      ),

    createBucket: (bucket, _, nowMs) => sql.createBucket(bucket, nowMs),

    deleteBucket: (bucket) =>
      Effect.flatMap(sql.deleteBucket(bucket), (deleted) =>
        deleted === "NotEmpty" ? Effect.fail(new BucketNotEmpty({ bucket })) : Effect.succeed(deleted)
      ),

    bucketExists: sql.bucketExists,

    buckets: Effect.map(sql.buckets, (rows) => rows.map(([name, createdAt]) => ({ name, createdAt }))),

    presign: null,

    note: sql.note,

    sweep: (olderThanMs) => Effect.flatMap(now, (nowMs) => collect(nowMs - olderThanMs)),

    reset: sql.reset
  }
}

/** The least text that is after all that begins with this one, whose last character is ASCII. */
const successor = (prefix: string): string =>
  `${prefix.slice(0, -1)}${String.fromCharCode(prefix.charCodeAt(prefix.length - 1) + 1)}`
