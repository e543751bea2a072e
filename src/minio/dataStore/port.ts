/**
 * The DataStore's port on an S3 API. What S3 itself does in one step is used, and what it does not is no capability; a
 * condition that a server ignores is not sent to it.
 */
import * as Cause from "effect/Cause"
import * as Chunk from "effect/Chunk"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import type { BodyError, Capabilities, ObjectId } from "../../DataStore.js"
import { BucketNotEmpty, ObjectChanged, ObjectCorrupt } from "../../DataStore.js"
import type {
  Condition,
  Encoded,
  EncodedEntry,
  EncodedObject,
  ListRequest,
  OpenObject,
  Written
} from "../../dataStore/DataStoreEncoded.js"
import { compareNames, ownPrefix } from "../../dataStore/DataStoreEncoded.js"
import { CommitOutcomeUnknown, NotFound, type ReadFailure, StoreError, type StoreFailure } from "../../Errors.js"
import { alongside } from "../../internal/fibers.js"
import { read } from "./reading.js"
import type { Fields, Mark } from "./records.js"
import { fits, headersOf, markOf, recordName, type Sidecar, sidecarOf, sidecarText } from "./records.js"
import type { S3, Sent } from "./s3.js"
import { unquoted } from "./s3.js"
import { send } from "./uploading.js"

export interface Settings {
  readonly connection: string
  readonly bucketPrefix: string
  readonly partBytes: number
  /** Largest object that is copied by one request. */
  readonly copyBytes: number
  readonly maxRetries: number
  readonly publicEndpoint: URL
  readonly region: string
  /** How the server wants the etag of `If-Match`; undefined when it does not do it. */
  readonly ifMatch: "quoted" | "unquoted" | undefined
  readonly capabilities: Capabilities
}

/** What S3 allows in an upload, and Swift a tenth of. */
export const partsMax = 10_000

const pageKeys = 1_000

/** Less than a tenth of the least age of what is swept. */
const touchEvery = "1 minute"

/** How often an object that is replaced while it is looked at is looked at again. */
const looksMax = 5

/** Records that a sweep looks at, and objects that a reset deletes, at once. */
const atOnce = 8

/** After every name that begins with what stands before it, except such as nobody has. */
const last = "\u{10ffff}"

export const make = (s3: S3, settings: Settings): Encoded => {
  const { bucketPrefix, capabilities, maxRetries, partBytes } = settings
  const real = (bucket: string) => `${bucketPrefix}${bucket}`
  const corrupt = ({ bucket, name }: ObjectId, why: string) => new ObjectCorrupt({ bucket, name, why })

  const headersFor = (mark: Mark, { contentType }: Fields): Record<string, string> => ({
    "content-type": contentType,
    ...headersOf(mark)
  })

  const conditionHeaders = (condition: Condition): Record<string, string> =>
    condition._tag === "IfAbsent"
      ? { "if-none-match": "*" }
      : condition._tag === "IfMatch"
        ? { "if-match": settings.ifMatch === "quoted" ? `"${condition.etag}"` : condition.etag }
        : {}

  /** The etag of what is there, if this write has put it there. */
  const doneBy = (operation: string, { bucket, name }: ObjectId, writeId: string) =>
    Effect.map(s3.head(operation, real(bucket), name), (headers) =>
      headers !== undefined && markOf(headers)?.writeId === writeId ? unquoted(headers.etag) : undefined
    )

  const removeQuietly = (bucket: string, name: string) => Effect.ignore(s3.remove("delete", real(bucket), name))

  const writtenOf = (sent: Sent, modifiedAt: number): Written =>
    sent._tag === "Done" ? { _tag: "Stored", etag: sent.etag, modifiedAt } : sent

  /** The object and what is known of it; looked at again when it is replaced in between. */
  const look = (id: ObjectId, looks = 0): Effect.Effect<EncodedObject | null, ReadFailure | ObjectCorrupt> =>
    Effect.flatMap(s3.head("open", real(id.bucket), id.name), (headers) => {
      if (headers === undefined) return Effect.succeed(null)
      const mark = markOf(headers)
      const object = {
        ...id,
        size: Number(headers["content-length"]),
        etag: unquoted(headers.etag),
        modifiedAt: Date.parse(headers["last-modified"] ?? "")
      }
      if (mark === undefined) {
        const contentType = headers["content-type"] ?? "application/octet-stream"
        return Effect.succeed({ ...object, contentType, metadata: "", keyId: null, checksums: null, writeId: null })
      }
      const { fields, keyId, writeId } = mark
      if (fields !== undefined) return Effect.succeed({ ...object, ...fields, keyId, writeId })
      return Effect.flatMap(
        s3.get("open", real(id.bucket), recordName(writeId)),
        (text): Effect.Effect<EncodedObject | null, ReadFailure | ObjectCorrupt> => {
          const found = text === undefined ? undefined : sidecarOf(text)
          if (found?.fields != null) return Effect.succeed({ ...object, ...found.fields, keyId, writeId })
          if (text !== undefined) return Effect.fail(corrupt(id, "has a record that is none"))
          return Effect.flatMap(doneBy("open", id, writeId), (etag) =>
            etag === undefined && looks < looksMax
              ? look(id, looks + 1)
              : Effect.fail(corrupt(id, "has lost the record of its checksums"))
          )
        }
      )
    })

  const bucketOr = <A extends boolean | null>(
    bucket: string,
    otherwise: A
  ): Effect.Effect<A | "NoBucket", ReadFailure> =>
    Effect.map(s3.bucketExists(real(bucket)), (exists) => (exists ? otherwise : "NoBucket"))

  const open = (id: ObjectId): Effect.Effect<OpenObject | "NoBucket" | null, ReadFailure | ObjectCorrupt> =>
    Effect.flatMap(
      look(id),
      (object): Effect.Effect<OpenObject | "NoBucket" | null, ReadFailure> =>
        object === null
          ? bucketOr(id.bucket, null)
          : Effect.succeed({
              object,
              read: (offset, length) => read(s3, id, { ...object, bucket: real(id.bucket) }, maxRetries, offset, length)
            })
    )

  interface Started {
    readonly uploadId: string
    readonly part: (number: number, bytes: Uint8Array) => Effect.Effect<string, StoreFailure>
  }

  /**
   * An upload in parts, with its record stored beside it; `use` sends the parts, and `finish` makes it the object. What
   * ends it otherwise aborts the upload, and removes the record: if the server lets it; else the sweep does.
   */
  const uploading = <A, E>(
    operation: string,
    id: ObjectId,
    writeId: string,
    keyId: string | null,
    use: (upload: {
      readonly begin: (fields: Fields) => Effect.Effect<Started | undefined, StoreFailure>
      readonly complete: (
        fields: Fields,
        etags: ReadonlyArray<string>,
        nowMs: number
      ) => Effect.Effect<Written, StoreFailure>
    }) => Effect.Effect<A, E>
  ): Effect.Effect<A, E> => {
    const bucket = real(id.bucket)
    let uploadId: string | undefined
    let recorded = false
    let completed = false
    // One at a time: a sign of life that overtook the fields would leave the object without them.
    const line = Effect.unsafeMakeSemaphore(1)
    let known: Fields | null = null
    const record = line.withPermits(1)(
      Effect.suspend(() => {
        const sidecar: Sidecar = { name: id.name, uploadId: uploadId ?? null, fields: known }
        return s3.putPlain(operation, bucket, recordName(writeId), sidecarText(sidecar))
      })
    )
    const begin = (fields: Fields) =>
      // An id that nobody has noted could not be aborted.
      Effect.uninterruptible(
        Effect.gen(function* () {
          uploadId = yield* s3.createUpload(
            operation,
            bucket,
            id.name,
            headersFor({ writeId, keyId, fields: undefined }, fields)
          )
          if (uploadId === undefined) return undefined
          const upload = uploadId
          recorded = true
          yield* record
          return {
            uploadId: upload,
            part: (number: number, bytes: Uint8Array) =>
              s3.uploadPart(operation, bucket, id.name, upload, number, bytes)
          }
        })
      )
    const complete = (fields: Fields, etags: ReadonlyArray<string>, nowMs: number) =>
      Effect.gen(function* () {
        const before = yield* s3.head(operation, bucket, id.name)
        known = fields
        yield* record
        return yield* Effect.uninterruptible(
          Effect.gen(function* () {
            const sent = yield* s3.complete(
              operation,
              bucket,
              id.name,
              uploadId ?? "",
              etags,
              doneBy(operation, id, writeId)
            )
            completed = sent._tag === "Done"
            if (sent._tag !== "Done") return writtenOf(sent, nowMs)
            const replaced = before === undefined ? undefined : markOf(before)
            if (replaced !== undefined && replaced.fields === undefined) {
              yield* removeQuietly(id.bucket, recordName(replaced.writeId))
            }
            if (sent.etag !== "") return writtenOf(sent, nowMs)
            // Ceph's gateway says it only when it is asked again.
            const etag = yield* doneBy(operation, id, writeId)
            return writtenOf({ _tag: "Done", etag: etag ?? "replaced" }, nowMs)
          })
        )
      })
    /** Tells sweepers that somebody is at it. */
    const touching = Effect.forever(
      Effect.delay(
        Effect.suspend(() => (recorded ? Effect.ignore(record) : Effect.void)),
        touchEvery
      )
    )
    return alongside(use({ begin, complete }), touching).pipe(
      Effect.onExit((exit) => {
        if (completed || uploadId === undefined) return Effect.void
        // It may be the object by now, or become it: then its record is needed.
        if (isDoubtful(exit)) return Effect.void
        return Effect.ignore(
          Effect.flatMap(s3.abortUpload(operation, bucket, id.name, uploadId), (isGone) =>
            // While it is not, the sweep needs the record to find it by.
            recorded && isGone ? s3.remove(operation, bucket, recordName(writeId)) : Effect.void
          )
        )
      })
    )
  }

  const putWhole = (
    id: ObjectId,
    mark: Mark,
    fields: Fields,
    bytes: Uint8Array,
    condition: Condition,
    nowMs: number
  ): Effect.Effect<Written, StoreFailure> =>
    Effect.gen(function* () {
      const isInline = fits(mark)
      const bucket = real(id.bucket)
      const record = recordName(mark.writeId)
      if (!isInline) {
        const stored = yield* s3.putPlain("put", bucket, record, sidecarText({ name: id.name, uploadId: null, fields }))
        if (!stored) return { _tag: "NoBucket" }
      }
      const headers = headersFor(isInline ? mark : { ...mark, fields: undefined }, fields)
      const isDone = doneBy("put", id, mark.writeId)
      const put = s3.put("put", bucket, id.name, bytes, { ...headers, ...conditionHeaders(condition) }, isDone)
      const sent = yield* isInline
        ? put
        : Effect.onExit(put, (exit) =>
            Exit.isSuccess(exit) && exit.value._tag !== "Done" ? removeQuietly(id.bucket, record) : Effect.void
          )
      return writtenOf(sent, nowMs)
    })

  const listPage = (bucket: string, delimiter: string | null, prefix: string, marker: string, max: number) =>
    Effect.flatMap(s3.list(real(bucket), prefix, delimiter ?? "", marker, max), (page) =>
      page === undefined ? Effect.fail(new NotFound({ what: `bucket ${bucket}` })) : Effect.succeed(page)
    )

  const list = (bucket: string, request: ListRequest): Stream.Stream<EncodedEntry, NotFound | ReadFailure> => {
    const { after, delimiter, limit, prefix } = request
    // There is no text that ends what begins with the last character: Swift looks for one, and fails. It is the end of
    // what begins with the rest.
    const asked = prefix.replace(/\u{10ffff}+$/u, "")
    const before = `${asked}\u{10fffe}`
    const from = asked === prefix || compareNames(after, before) > 0 ? after : before
    return Stream.paginateChunkEffect({ marker: from, left: limit }, ({ left, marker }) =>
      Effect.map(listPage(bucket, delimiter, asked, marker, Math.min(pageKeys, left)), (page) => {
        const entries: Array<EncodedEntry & { readonly at: string }> = []
        // Both kinds come in order, and must be in one.
        for (const { name, ...rest } of page.objects) {
          entries.push({ _tag: "Object", name, ...rest, keyId: undefined, at: name })
        }
        for (const prefix of page.prefixes) entries.push({ _tag: "Prefix", prefix, at: prefix })
        entries.sort((a, b) => compareNames(a.at, b.at))
        const end = entries.at(-1)?.at ?? marker
        const given = entries.filter(
          ({ at }) => compareNames(at, marker) > 0 && at.startsWith(prefix) && !at.startsWith(ownPrefix)
        )
        const next = end.startsWith(ownPrefix)
          ? `${ownPrefix}${last}`
          : // Some servers give a prefix again whose names are not all before the marker.
            end === marker || end.endsWith(delimiter ?? "\0")
            ? `${end}${last}`
            : end
        const state = { marker: next, left: left - given.length }
        return [
          Chunk.unsafeFromArray(given.map(({ at: _, ...entry }) => entry as EncodedEntry)),
          page.isTruncated && state.left > 0 ? Option.some(state) : Option.none()
        ] as const
      })
    )
  }

  /** Everything in a bucket, what is the store's own included. */
  const allKeys = (bucket: string, prefix: string) =>
    Stream.paginateChunkEffect("", (marker) =>
      Effect.map(s3.list(real(bucket), prefix, "", marker, pageKeys), (page) => {
        const objects = page?.objects ?? []
        const next = page?.isTruncated === true ? objects.at(-1)?.name : undefined
        return [Chunk.unsafeFromArray([...objects]), Option.fromNullable(next)] as const
      })
    )

  /** Removes a record, and aborts its upload, unless it belongs to the object that is there. */
  const sweepRecord = (bucket: string, key: string) =>
    Effect.gen(function* () {
      const text = yield* s3.get("sweep", real(bucket), key)
      const sidecar = text === undefined ? undefined : sidecarOf(text)
      if (sidecar === undefined) return 0
      const writeId = key.slice(ownPrefix.length)
      const headers = yield* s3.head("sweep", real(bucket), sidecar.name)
      if (headers !== undefined && markOf(headers)?.writeId === writeId) return 0
      if (sidecar.uploadId !== null) {
        const isGone = yield* s3.abortUpload("sweep", real(bucket), sidecar.name, sidecar.uploadId)
        if (!isGone) return 0
      }
      yield* s3.remove("sweep", real(bucket), key)
      return 1
    })

  const sweepBucket = (bucket: string, olderThanMs: number): Effect.Effect<number, StoreFailure> =>
    Effect.flatMap(
      Effect.clockWith((clock) => clock.currentTimeMillis),
      (nowMs) =>
        Stream.runFold(
          allKeys(bucket, ownPrefix).pipe(
            Stream.filter(({ modifiedAt }) => modifiedAt < nowMs - olderThanMs),
            Stream.mapEffect(({ name }) => sweepRecord(bucket, name), { concurrency: atOnce })
          ),
          0,
          (sum, count) => sum + count
        )
    )

  const buckets = Effect.map(s3.buckets, (all) =>
    all.flatMap(({ createdAt, name }) =>
      name.startsWith(bucketPrefix) && name.length > bucketPrefix.length
        ? [{ name: name.slice(bucketPrefix.length), createdAt }]
        : []
    )
  )

  const deleteBucket = (bucket: string): Effect.Effect<boolean, StoreFailure | BucketNotEmpty> =>
    Effect.flatMap(s3.deleteBucket(real(bucket)), (deleted) =>
      deleted === undefined ? Effect.fail(new BucketNotEmpty({ bucket })) : Effect.succeed(deleted)
    )

  return {
    backend: "Minio",
    connection: settings.connection,
    capabilities,

    put: ({ finish, size, ...object }, body, condition) => {
      const { contentType, keyId, metadata, modifiedAt, writeId } = object
      const id = { bucket: object.bucket, name: object.name }
      // A condition on an upload in parts is no atomic step on any server that was tried: one part, or none.
      const oneOnly = condition._tag !== "Always"
      return uploading("put", id, writeId, keyId, ({ begin, complete }) =>
        Effect.flatMap(
          send(
            body,
            oneOnly ? Math.max(partBytes, size ?? 0) : partBytes,
            begin({ contentType, metadata, checksums: null })
          ),
          (sent): Effect.Effect<Written, StoreFailure> => {
            if (sent._tag === "None") return Effect.succeed({ _tag: "NoBucket" })
            const fields: Fields = { contentType, metadata, ...finish() }
            return sent._tag === "Whole"
              ? putWhole(id, { writeId, keyId, fields }, fields, sent.bytes, condition, modifiedAt)
              : complete(fields, sent.etags, modifiedAt)
          }
        )
      )
    },

    open,

    copy: (from, { bucket, keyId, modifiedAt, name, writeId, ...fields }, _condition) => {
      const id = { bucket, name }
      const source = ["", real(from.bucket), ...from.name.split("/")].map(encodeURIComponent).join("/")
      const isUnchanged = Effect.map(
        s3.head("copy", real(from.bucket), from.name),
        (headers) => headers !== undefined && unquoted(headers.etag) === from.etag
      )
      /**
       * With the condition that the source is still the same; and without, where the server says it is not, and it is:
       * Swift holds the etag of what was uploaded in parts against that of its list of parts. Undefined when it is not.
       */
      const guarded = <A>(
        copy: (headers: Readonly<Record<string, string>>) => Effect.Effect<A | undefined, StoreFailure>
      ): Effect.Effect<A | undefined, StoreFailure> =>
        Effect.flatMap(
          copy({ "x-amz-copy-source": source, "x-amz-copy-source-if-match": `"${from.etag}"` }),
          (copied) =>
            copied !== undefined
              ? Effect.succeed(copied)
              : Effect.flatMap(isUnchanged, (is) =>
                  is ? copy({ "x-amz-copy-source": source }) : Effect.succeed(undefined)
                )
        )
      /** Some servers copy whatever is there: then what was made is not what it says, and must go again. */
      const proven = (written: Written, etag: string): Effect.Effect<Written, StoreFailure | BodyError> => {
        if (written._tag !== "Stored" || etag === from.etag) return Effect.succeed(written)
        return Effect.flatMap(isUnchanged, (is) => {
          if (is) return Effect.succeed(written)
          const changed = new ObjectChanged({ bucket: from.bucket, name: from.name })
          return Effect.zipRight(
            Effect.flatMap(doneBy("copy", id, writeId), (found) =>
              found === undefined ? Effect.void : removeQuietly(bucket, name)
            ),
            Effect.fail(changed)
          )
        })
      }
      if (from.size <= settings.copyBytes) {
        const mark: Mark = { writeId, keyId, fields }
        const isInline = fits(mark)
        return Effect.gen(function* () {
          if (!isInline) {
            const record = sidecarText({ name, uploadId: null, fields })
            const stored = yield* s3.putPlain("copy", real(bucket), recordName(writeId), record)
            if (!stored) return { _tag: "NoBucket" } as const
          }
          const before = yield* s3.head("copy", real(bucket), name)
          const headers = {
            ...headersFor(isInline ? mark : { ...mark, fields: undefined }, fields),
            "x-amz-metadata-directive": "REPLACE"
          }
          const sent = yield* guarded((guard) =>
            Effect.map(s3.copy(real(bucket), name, { ...guard, ...headers }, doneBy("copy", id, writeId)), (sent) =>
              sent._tag === "Refused" ? undefined : sent
            )
          )
          if (sent?._tag !== "Done") {
            if (!isInline) yield* removeQuietly(bucket, recordName(writeId))
            return sent === undefined ? ({ _tag: "Refused" } as const) : writtenOf(sent, modifiedAt)
          }
          const done = yield* proven(writtenOf(sent, modifiedAt), sent.etag)
          const replaced = before === undefined ? undefined : markOf(before)
          if (replaced !== undefined && replaced.fields === undefined) {
            yield* removeQuietly(bucket, recordName(replaced.writeId))
          }
          return done
        }).pipe(Effect.uninterruptible)
      }
      return uploading("copy", id, writeId, keyId, ({ begin, complete }) =>
        Effect.gen(function* () {
          const started = yield* begin(fields)
          if (started === undefined) return { _tag: "NoBucket" } as const
          const etags: Array<string> = []
          for (let at = 0; at < from.size; at += settings.copyBytes) {
            const range = `bytes=${at}-${Math.min(from.size, at + settings.copyBytes) - 1}`
            const number = etags.length + 1
            const etag = yield* guarded((guard) =>
              s3.copyPart(real(bucket), name, started.uploadId, number, { ...guard, "x-amz-copy-source-range": range })
            )
            if (etag === undefined) return { _tag: "Refused" } as const
            etags.push(etag)
          }
          // Before it is the object: all parts are of what the source was, if it still is.
          if (!(yield* isUnchanged)) return { _tag: "Refused" } as const
          return yield* complete(fields, etags, modifiedAt)
        })
      )
    },

    delete: ({ bucket, name }) =>
      Effect.gen(function* () {
        const headers = yield* s3.head("delete", real(bucket), name)
        if (headers === undefined) return yield* bucketOr(bucket, false)
        const exists = yield* s3.remove("delete", real(bucket), name)
        if (!exists) return "NoBucket"
        const mark = markOf(headers)
        if (mark !== undefined && mark.fields === undefined) yield* removeQuietly(bucket, recordName(mark.writeId))
        return true
      }),

    list,

    createBucket: (bucket, options) =>
      Effect.gen(function* () {
        if (yield* s3.bucketExists(real(bucket))) return false
        const region = options.region ?? (settings.region === "us-east-1" ? "" : settings.region)
        const created = yield* s3.createBucket(real(bucket), region, options.objectLocking === true)
        if (created && options.public === true) {
          // Not to be taken for a public one by who asks next.
          yield* Effect.onError(s3.setPolicy(real(bucket), publicPolicy(real(bucket))), () =>
            Effect.ignore(s3.deleteBucket(real(bucket)))
          )
        }
        return created
      }),

    deleteBucket: (bucket) =>
      Effect.catchTag(deleteBucket(bucket), "BucketNotEmpty", (notEmpty) =>
        Effect.gen(function* () {
          const request = { prefix: "", delimiter: null, after: "", limit: 1 }
          const first = yield* Effect.catchTag(
            Stream.runHead(list(bucket, request)),
            "NotFound",
            () => Effect.succeedNone
          )
          if (Option.isSome(first)) return yield* notEmpty
          // What is left is of objects that are gone, or of uploads under way, which are not to be broken.
          yield* sweepBucket(bucket, 600_000)
          return yield* deleteBucket(bucket)
        })
      ),

    bucketExists: (bucket) => s3.bucketExists(real(bucket)),

    buckets,

    presign: capabilities.presign
      ? (method, { bucket, name }, seconds) => s3.presign(method, real(bucket), name, seconds, settings.publicEndpoint)
      : null,

    // Buckets are all that there is.
    note: null,

    sweep: (olderThanMs) =>
      Effect.flatMap(buckets, (all) =>
        Effect.reduce(all, 0, (sum, { name }) => Effect.map(sweepBucket(name, olderThanMs), (count) => sum + count))
      ),

    reset: Effect.flatMap(buckets, (all) =>
      Effect.forEach(
        all,
        ({ name: bucket }) =>
          Effect.gen(function* () {
            yield* Stream.runForEach(allKeys(bucket, ownPrefix), ({ name }) => sweepRecord(bucket, name))
            yield* Stream.runDrain(
              Stream.mapEffect(allKeys(bucket, ""), ({ name }) => s3.remove("reset", real(bucket), name), {
                concurrency: atOnce
              })
            )
            const deleted = yield* s3.deleteBucket(real(bucket))
            if (deleted === undefined) {
              const cause = new Error(`bucket ${bucket} is being written to`)
              return yield* new StoreError({ operation: "reset", cause })
            }
          }),
        { discard: true }
      )
    )
  }
}

const publicPolicy = (bucket: string) => ({
  Version: "2012-10-17",
  Statement: [
    { Effect: "Allow", Principal: { AWS: ["*"] }, Action: ["s3:GetObject"], Resource: [`arn:aws:s3:::${bucket}/*`] }
  ]
})

const isDoubtful = (exit: Exit.Exit<unknown, unknown>): boolean => {
  const failure = Exit.isFailure(exit) ? Cause.failureOption(exit.cause) : Option.none()
  return Option.isSome(failure) && failure.value instanceof CommitOutcomeUnknown
}
