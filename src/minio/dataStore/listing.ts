/**
 * What is in the buckets on an S3 server: lists of objects, all keys, and records that nobody needs any more.
 */
import * as Chunk from "effect/Chunk"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import type { EncodedEntry, ListRequest } from "../../dataStore/DataStoreEncoded.js"
import { compareNames, ownPrefix } from "../../dataStore/DataStoreEncoded.js"
import { NotFound, type ReadFailure, type StoreFailure } from "../../Errors.js"
import type { Objects } from "./objects.js"
import { markOf, sidecarOf } from "./records.js"
import type { S3 } from "./s3.js"

const pageKeys = 1_000

/** Records that a sweep looks at, and objects that a reset deletes, at once. */
export const atOnce = 8

/** After every name that begins with what stands before it, except such as nobody has. */
const last = "\u{10ffff}"

export const make = (s3: S3, { real }: Objects) => {
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

  return { list, allKeys, sweepRecord, sweepBucket }
}
