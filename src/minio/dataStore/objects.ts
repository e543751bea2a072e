/**
 * Where the objects of a DataStore are on an S3 server, and what every operation on them needs: the names of buckets,
 * the headers of a write, and whether a write was done.
 */
import * as Effect from "effect/Effect"
import type { Capabilities, ObjectId } from "../../DataStore.js"
import { ObjectCorrupt } from "../../DataStore.js"
import type { Condition, Written } from "../../dataStore/DataStoreEncoded.js"
import type { ReadFailure } from "../../Errors.js"
import { type Fields, headersOf, type Mark, markOf } from "./records.js"
import { type S3, type Sent, unquoted } from "./s3.js"

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

export type Objects = ReturnType<typeof make>

export const make = (s3: S3, settings: Settings) => {
  const real = (bucket: string) => `${settings.bucketPrefix}${bucket}`
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

  const bucketOr = <A extends boolean | null>(
    bucket: string,
    otherwise: A
  ): Effect.Effect<A | "NoBucket", ReadFailure> =>
    Effect.map(s3.bucketExists(real(bucket)), (exists) => (exists ? otherwise : "NoBucket"))

  return { real, corrupt, headersFor, conditionHeaders, doneBy, removeQuietly, writtenOf, bucketOr }
}
