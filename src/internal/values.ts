/**
 * Values that several contracts take and return: their checks, which throw `InvalidInput` (see `validate`), and the
 * forms in which they are stored and named.
 */
import * as DateTime from "effect/DateTime"
import * as Either from "effect/Either"
import * as Json from "../Json.js"
import type { StreamId } from "../StreamId.js"
import * as Uuid from "../Uuid.js"
import { array, describe, identifier, integer, oneOf, options, record, refuse } from "./validate.js"

const typesPerFilterMax = 1_000
const pageLimitMax = 1_000

// Date.UTC reads the years 0 to 99 as 1900 to 1999.
const yearZeroMs = Date.parse("0000-01-01T00:00:00Z")
const year10000Ms = Date.UTC(10000, 0, 1)

/**
 * @since 0.1.0
 * @category models
 */
export type Direction = "forward" | "backward"

/** What is filled in where a value is left out. */
export interface Defaults {
  readonly nowMs: number
  readonly instanceId: string | null
}

let lastUtc = DateTime.unsafeMake(0)

/** Making one costs more than the rest of an event, and the events of one append share their time. */
export const utc = (epochMs: number): DateTime.Utc => {
  if (lastUtc.epochMillis !== epochMs) lastUtc = DateTime.unsafeMake(epochMs)
  return lastUtc
}

export const streamId = (value: unknown, what: string): StreamId => {
  const { aggregateId, domain, tenantId } = record(value, what)
  return {
    tenantId: identifier(tenantId, `${what}.tenantId`),
    domain: identifier(domain, `${what}.domain`),
    aggregateId: identifier(aggregateId, `${what}.aggregateId`)
  }
}

export const uuid = (value: unknown, what: string): string =>
  typeof value === "string" && Uuid.isCanonical(value)
    ? value
    : refuse(what, `must be a UUID in lower case, not ${describe(value)}`)

export const payload = (value: unknown, what: string): string => {
  const text = Json.encode(value, what)
  if (Either.isLeft(text)) throw text.left
  return text.right
}

export const metadata = (value: unknown, what: string): string =>
  value === undefined ? "{}" : payload(record(value, what), what)

export const optionalIdentifier = (value: unknown, what: string): string | null =>
  value === undefined ? null : identifier(value, what)

export const time = (value: unknown, what: string): number => {
  if (!DateTime.isDateTime(value)) return refuse(what, `must be a DateTime, not ${describe(value)}`)
  const { epochMillis } = value
  if (!(epochMillis >= yearZeroMs && epochMillis < year10000Ms)) return refuse(what, "must be in the years 0 to 9999")
  return Number.isInteger(epochMillis) ? epochMillis : refuse(what, "must be whole milliseconds")
}

export const optionalTime = (value: unknown, what: string): number | null =>
  value === undefined ? null : time(value, what)

export const optionalTypes = (value: unknown, what: string): ReadonlyArray<string> | null =>
  value === undefined
    ? null
    : array(value, what, 1, typesPerFilterMax).map((type, i) => identifier(type, `${what}[${i}]`))

export const direction = (value: unknown, what: string): Direction =>
  value === undefined ? "forward" : oneOf(value, what, ["forward", "backward"])

export const optionalInteger = (value: unknown, what: string, min: number, otherwise: number, max?: number): number =>
  value === undefined ? otherwise : integer(value, what, min, max)

export interface PageRequest<F> {
  readonly at: number | undefined
  readonly direction: Direction
  readonly filter: F
  readonly limit: number
}

export const pageRequest = <F>(value: unknown, filter: (value: unknown, what: string) => F): PageRequest<F> => {
  const given = options(value, "options", ["filter", "direction", "cursor", "limit"])
  const towards = direction(given.direction, "options.direction")
  return {
    at: given.cursor === undefined ? undefined : cursorPosition(given.cursor, towards),
    direction: towards,
    filter: filter(given.filter, "options.filter"),
    limit: optionalInteger(given.limit, "options.limit", 1, 100, pageLimitMax)
  }
}

/** Version 1 of the cursor: the direction, and the position of the last item of the page before. */
export const cursor = (towards: Direction, position: number): string =>
  `1${towards === "forward" ? "f" : "b"}${position.toString(36)}`

const cursorPosition = (value: unknown, towards: Direction): number => {
  const parts = typeof value === "string" ? /^1([fb])([0-9a-z]{1,11})$/.exec(value) : null
  if (parts === null) return refuse("options.cursor", "is not a cursor that a page of this store gave")
  if (parts[1] !== (towards === "forward" ? "f" : "b"))
    return refuse("options.cursor", "was given for the other direction")
  const position = Number.parseInt(parts[2] as string, 36)
  return Number.isSafeInteger(position) ? position : refuse("options.cursor", "is out of range")
}

/**
 * The text of a payload. Throws if it is sealed, since only a layer with keys can open it; the lift adds what was read.
 */
export const unsealed = (text: string, keyId: string | null): string => {
  if (keyId !== null) throw new Error(`it is sealed with key ${keyId}, and the store was opened without keys`)
  return text
}
