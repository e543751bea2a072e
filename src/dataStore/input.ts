/**
 * Checks of everything that callers pass to the DataStore, and its encoded form. They throw `InvalidInput` (see
 * `validate.checked`) and return fresh values.
 */
import * as Duration from "effect/Duration"
import type { BucketOptions, ObjectId } from "../DataStore.js"
import { array, describe, identifier, integer, optionalInteger, options, record, refuse } from "../internal/validate.js"
import type { Condition, ListRequest } from "./DataStoreEncoded.js"

/** What names of objects may not begin with: what a backend has to keep in the buckets themselves is there. */
export const ownPrefix = ".effect-stores/"

/** What S3 allows, and the most that all of its servers keep. */
const nameBytesMax = 1_024
const metadataBytesMax = 2_048
const deleteManyMax = 100_000

const bucketForm = /^[a-z0-9][a-z0-9.-]+[a-z0-9]$/
const addressForm = /^\d+\.\d+\.\d+\.\d+$/

/** What a backend takes. */
export interface Bounds {
  readonly bucketLengthMax: number
}

export const bucket = (value: unknown, { bucketLengthMax }: Bounds, what = "bucket"): string => {
  const name = identifier(value, what)
  if (name.length < 3 || name.length > bucketLengthMax) {
    return refuse(what, `must have 3 to ${bucketLengthMax} characters, not ${name.length}`)
  }
  if (!bucketForm.test(name) || /\.\.|\.-|-\./.test(name)) {
    return refuse(what, "must be of a-z, 0-9, - and ., with letters or digits at both ends and on both sides of each .")
  }
  if (addressForm.test(name)) return refuse(what, "must not look like an IP address")
  if (name.startsWith("xn--") || name.endsWith("-s3alias")) return refuse(what, "is reserved by S3")
  return name
}

const text = (value: unknown, what: string, bytesMax: number): string => {
  if (typeof value !== "string") return refuse(what, `must be a string, not ${describe(value)}`)
  if (value.length * 3 > bytesMax && Buffer.byteLength(value) > bytesMax) {
    return refuse(what, `must not exceed ${bytesMax} bytes of UTF-8`)
  }
  if (value.includes("\0")) return refuse(what, "must not contain NUL")
  return value.isWellFormed() ? value : refuse(what, "must not contain a lone surrogate")
}

const objectName = (value: unknown, what: string): string => {
  const name = text(value, what, nameBytesMax)
  if (name === "") return refuse(what, "must not be empty")
  return name.startsWith(ownPrefix) ? refuse(what, `must not begin with ${ownPrefix}, which is the store's own`) : name
}

export const objectId = (value: unknown, bounds: Bounds, what = "object"): ObjectId => {
  const { bucket: inBucket, name } = record(value, what)
  return { bucket: bucket(inBucket, bounds, `${what}.bucket`), name: objectName(name, `${what}.name`) }
}

export const names = (value: unknown): ReadonlyArray<string> =>
  array(value, "names", 0, deleteManyMax).map((name, i) => objectName(name, `names[${i}]`))

/** As it stands in a header: visible ASCII, and spaces inside. */
const contentTypeOf = (value: unknown, what: string): string => {
  const type = identifier(value, what)
  return /^[!-~](?:[ -~]*[!-~])?$/.test(type) ? type : refuse(what, "must be visible ASCII, as in a header")
}

const metadataOf = (value: unknown, what: string): string => {
  const given = record(value, what)
  const prototype = Object.getPrototypeOf(given)
  if (prototype !== Object.prototype && prototype !== null) return refuse(what, "must be a plain object")
  let bytes = 0
  const entries = Object.keys(given).map((key) => {
    const at = `${what}.${describe(key)}`
    const pair = [text(key, `the key ${at}`, metadataBytesMax), text(given[key], at, metadataBytesMax)] as const
    bytes += Buffer.byteLength(pair[0]) + Buffer.byteLength(pair[1])
    return pair
  })
  if (bytes > metadataBytesMax) return refuse(what, `must not exceed ${metadataBytesMax} bytes of UTF-8 in all`)
  return JSON.stringify(Object.fromEntries(entries))
}

const etag = (value: unknown, what: string): string => {
  const found = identifier(value, what)
  return /^[!-~]+$/.test(found) ? found : refuse(what, "is no etag that this store gave")
}

const flag = (value: unknown, what: string): boolean =>
  value === undefined || typeof value === "boolean"
    ? value === true
    : refuse(what, `must be true or false, not ${describe(value)}`)

export interface Put {
  readonly contentType: string
  readonly metadata: string
  readonly size: number | null
  readonly condition: Condition
}

export const putOptions = (value: unknown, body: unknown): Put => {
  const given = options(value, "options", ["contentType", "metadata", "size", "ifAbsent", "ifMatch"])
  const size = given.size === undefined ? null : integer(given.size, "options.size", 0)
  if (body instanceof Uint8Array && size !== null && size !== body.byteLength) {
    return refuse("options.size", `must be that of the body, ${body.byteLength}, not ${size}`)
  }
  const ifAbsent = flag(given.ifAbsent, "options.ifAbsent")
  if (ifAbsent && given.ifMatch !== undefined) return refuse("options.ifMatch", "cannot be given beside ifAbsent")
  return {
    contentType:
      given.contentType === undefined
        ? "application/octet-stream"
        : contentTypeOf(given.contentType, "options.contentType"),
    metadata: given.metadata === undefined ? "{}" : metadataOf(given.metadata, "options.metadata"),
    size: body instanceof Uint8Array ? body.byteLength : size,
    condition: ifAbsent
      ? { _tag: "IfAbsent" }
      : given.ifMatch === undefined
        ? { _tag: "Always" }
        : { _tag: "IfMatch", etag: etag(given.ifMatch, "options.ifMatch") }
  }
}

export const copyOptions = (value: unknown) => {
  const given = options(value, "options", ["contentType", "metadata", "ifAbsent"])
  return {
    contentType: given.contentType === undefined ? undefined : contentTypeOf(given.contentType, "options.contentType"),
    metadata: given.metadata === undefined ? undefined : metadataOf(given.metadata, "options.metadata"),
    ifAbsent: flag(given.ifAbsent, "options.ifAbsent")
  }
}

export const deleteOptions = (value: unknown): string | null => {
  const { ifMatch } = options(value, "options", ["ifMatch"])
  return ifMatch === undefined ? null : etag(ifMatch, "options.ifMatch")
}

export const range = (value: unknown): { readonly offset: number; readonly length: number } => {
  const given = options(value, "range", ["offset", "length"])
  return {
    offset: integer(given.offset, "range.offset", 0),
    length: optionalInteger(given.length, "range.length", 0, Number.MAX_SAFE_INTEGER)
  }
}

export const listOptions = (value: unknown): ListRequest => {
  const given = options(value, "options", ["prefix", "delimiter", "after", "limit"])
  const { delimiter } = given
  if (delimiter !== undefined && !(typeof delimiter === "string" && /^[ -~]$/.test(delimiter))) {
    return refuse("options.delimiter", `must be one ASCII character, not ${describe(delimiter)}`)
  }
  return {
    prefix: given.prefix === undefined ? "" : text(given.prefix, "options.prefix", nameBytesMax),
    delimiter: (delimiter as string | undefined) ?? null,
    after: given.after === undefined ? "" : text(given.after, "options.after", nameBytesMax),
    limit: optionalInteger(given.limit, "options.limit", 1, Number.MAX_SAFE_INTEGER)
  }
}

export const countOptions = (value: unknown): ListRequest => {
  const { prefix } = options(value, "options", ["prefix"])
  return listOptions({ prefix })
}

export const bucketOptions = (value: unknown): BucketOptions => {
  const given = options(value, "options", ["region", "public", "objectLocking"])
  return {
    region: given.region === undefined ? undefined : contentTypeOf(given.region, "options.region"),
    public: flag(given.public, "options.public"),
    objectLocking: flag(given.objectLocking, "options.objectLocking")
  }
}

const durationMs = (value: unknown, what: string, minMs: number, maxMs: number, bounds: string): number => {
  const decoded = typeof value === "number" && Number.isNaN(value) ? undefined : Duration.decodeUnknown(value)
  const ms = decoded?._tag === "Some" ? Duration.toMillis(decoded.value) : Number.NaN
  return ms >= minMs && ms <= maxMs ? ms : refuse(what, `must be ${bounds}, not ${describe(value)}`)
}

export const presignSeconds = (value: unknown): number => {
  const { expiresIn = "15 minutes" } = options(value, "options", ["expiresIn"])
  const week = 7 * 24 * 3_600_000
  return Math.floor(durationMs(expiresIn, "options.expiresIn", 1_000, week, "from 1 second to 7 days") / 1_000)
}

/** Writers touch what they are writing once a minute: what is older than ten has no writer. */
export const sweepAgeMs = (value: unknown): number => {
  const { olderThan = "1 hour" } = options(value, "options", ["olderThan"])
  // Nanoseconds make fractions, which no backend compares.
  return Math.ceil(durationMs(olderThan, "options.olderThan", 600_000, Number.MAX_SAFE_INTEGER, "at least 10 minutes"))
}
