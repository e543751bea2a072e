/**
 * Writing an object on S3: one PUT, or an upload in parts with a record beside it, and copies on the server.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import { type BodyError, ObjectChanged, type ObjectId } from "../../DataStore.js"
import type { Condition, Encoded, Written } from "../../dataStore/DataStoreEncoded.js"
import { CommitOutcomeUnknown, type StoreFailure } from "../../Errors.js"
import { alongside } from "../../internal/fibers.js"
import type { Objects, Settings } from "./objects.js"
import type { Fields, Mark } from "./records.js"
import { fits, markOf, recordName, type Sidecar, sidecarText } from "./records.js"
import { type S3, unquoted } from "./s3.js"
import { send } from "./uploading.js"

/** Less than a tenth of the least age of what is swept. */
const touchEvery = "1 minute"

export const make = (s3: S3, settings: Settings, objects: Objects): Pick<Encoded, "put" | "copy"> => {
  const { partBytes } = settings
  const { conditionHeaders, doneBy, headersFor, real, removeQuietly, writtenOf } = objects

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

  return {
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
    }
  }
}

const isDoubtful = (exit: Exit.Exit<unknown, unknown>): boolean => {
  const failure = Exit.isFailure(exit) ? Cause.failureOption(exit.cause) : Option.none()
  return Option.isSome(failure) && failure.value instanceof CommitOutcomeUnknown
}
