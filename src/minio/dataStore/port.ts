/**
 * The DataStore's port on an S3 API. What S3 itself does in one step is used, and what it does not is no capability; a
 * condition that a server ignores is not sent to it.
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import { BucketNotEmpty } from "../../DataStore.js"
import { type Encoded, ownPrefix } from "../../dataStore/DataStoreEncoded.js"
import { StoreError, type StoreFailure } from "../../Errors.js"
import * as Listing from "./listing.js"
import { atOnce } from "./listing.js"
import * as Objects from "./objects.js"
import * as Opening from "./opening.js"
import { markOf, recordName } from "./records.js"
import type { S3 } from "./s3.js"
import * as Writing from "./writing.js"

export const make = (s3: S3, settings: Objects.Settings): Encoded => {
  const { bucketPrefix, capabilities } = settings
  const objects = Objects.make(s3, settings)
  const { bucketOr, real, removeQuietly } = objects
  const { allKeys, list, sweepBucket, sweepRecord } = Listing.make(s3, objects)

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

    ...Writing.make(s3, settings, objects),

    open: Opening.make(s3, settings, objects),

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
