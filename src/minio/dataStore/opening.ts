/**
 * Finding an object on S3: its fields are in its headers, or in a record beside it.
 */
import * as Effect from "effect/Effect"
import type { ObjectCorrupt, ObjectId } from "../../DataStore.js"
import type { EncodedObject, OpenObject } from "../../dataStore/DataStoreEncoded.js"
import type { ReadFailure } from "../../Errors.js"
import type { Objects, Settings } from "./objects.js"
import { read } from "./reading.js"
import { markOf, recordName, sidecarOf } from "./records.js"
import { type S3, unquoted } from "./s3.js"

/** How often an object that is replaced while it is looked at is looked at again. */
const looksMax = 5

export const make = (s3: S3, { maxRetries }: Settings, { bucketOr, corrupt, doneBy, real }: Objects) => {
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

  return open
}
