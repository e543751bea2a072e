/**
 * The CacheStore's checks of what callers pass: each throws `InvalidInput` (see `internal/validate`).
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { InvalidInput } from "../Errors.js"
import {
  array,
  describe,
  fields,
  identifier,
  isIdentifier,
  options as knownKeys,
  payload,
  refuse
} from "../internal/validate.js"
import type { EncodedWrite, Place } from "./CacheStoreEncoded.js"

/** Of one call: bounds a statement, a script and a message. */
export const keysMax = 1_000
export const tagsMax = 64

/** The longest time that ends. Beyond it sums with a date would leave the whole numbers that a double holds. */
export const centuryMs = 100 * 365.25 * 24 * 60 * 60 * 1000

const defaultTtlMs = 60_000
const defaultHardMs = 30_000

/** How an entry is stored. */
export interface Life {
  readonly ttlMs: number
  readonly graceMs: number
  readonly tags: ReadonlyArray<string>
}

export interface Loading extends Life {
  readonly softMs: number
  readonly hardMs: number
  readonly refreshMs: number
}

export interface Target {
  readonly tenantId: string
  readonly keys: ReadonlyArray<string>
  readonly tags: ReadonlyArray<string>
}

const noTags: ReadonlyArray<string> = []

export const place = (tenantId: unknown, key: unknown): Place => ({
  tenantId: identifier(tenantId, "tenantId"),
  key: identifier(key, "key")
})

export const tenant = (tenantId: unknown): string => identifier(tenantId, "tenantId")

/** Whole milliseconds from `minMs`, or `Infinity`. */
export const time = (value: unknown, what: string, minMs: number): number => {
  let ms = Number.NaN
  if (typeof value === "number") ms = value
  else {
    const decoded = Duration.decodeUnknown(value)
    // What is negative is decoded as zero.
    if (decoded._tag === "Some" && !isNegative(value)) ms = Duration.toMillis(decoded.value)
  }
  if (!(ms >= 0) || Object.is(ms, -0)) return refuse(what, `must be a duration, not ${describe(value)}`)
  const whole = Math.ceil(ms)
  if (whole < minMs) return refuse(what, `must be at least ${minMs} ms`)
  return whole <= centuryMs || whole === Number.POSITIVE_INFINITY
    ? whole
    : refuse(what, "must be at most 100 years, or infinity")
}

const isNegative = (value: unknown): boolean =>
  typeof value === "bigint"
    ? value < 0n
    : typeof value === "string"
      ? value.startsWith("-")
      : Array.isArray(value) && value.some((part) => !(part >= 0))

const optionalTime = (value: unknown, what: string, minMs: number, otherwiseMs: number): number =>
  value === undefined ? otherwiseMs : time(value, what, minMs)

/** Different names, in one order for everybody: who locks several rows then never waits in a circle. */
const names = (value: unknown, what: string, min: number, max: number): ReadonlyArray<string> => {
  const given = array(value, what, min, max)
  let ordered = true
  for (let i = 0; i < given.length; i++) {
    const name = given[i]
    // Only what is wrong needs a name that says where.
    if (!isIdentifier(name)) identifier(name, `${what}[${i}]`)
    if (i > 0 && !((given[i - 1] as string) < (name as string))) ordered = false
  }
  const checked = given as ReadonlyArray<string>
  return ordered ? checked : [...new Set(checked)].sort()
}

const tagsOf = (value: unknown): ReadonlyArray<string> =>
  value === undefined ? noTags : names(value, "options.tags", 0, tagsMax)

export const manyKeys = (value: unknown): ReadonlyArray<string> => names(value, "keys", 0, keysMax)

const lifeOf = (given: Record<string, unknown>): Life => ({
  ttlMs: optionalTime(given.ttl, "options.ttl", 1, defaultTtlMs),
  graceMs: optionalTime(given.grace, "options.grace", 0, 0),
  tags: tagsOf(given.tags)
})

export const life = (value: unknown): Life => lifeOf(knownKeys(value, "options", ["ttl", "grace", "tags"]))

const defaultLoading: Loading = {
  ttlMs: defaultTtlMs,
  graceMs: 0,
  tags: noTags,
  softMs: 0,
  hardMs: defaultHardMs,
  refreshMs: 0
}

const loadingKeys = ["ttl", "grace", "tags", "softTimeout", "hardTimeout", "refreshAhead"]

export const loading = (value: unknown): Loading => {
  if (value === undefined) return defaultLoading
  const given = knownKeys(value, "options", loadingKeys)
  const { graceMs, tags, ttlMs } = lifeOf(given)
  // Copied by name here and below: V8 is slow at spreads, and this is the hottest path.
  return {
    ttlMs,
    graceMs,
    tags,
    softMs: optionalTime(given.softTimeout, "options.softTimeout", 0, 0),
    hardMs: optionalTime(given.hardTimeout, "options.hardTimeout", 1, defaultHardMs),
    refreshMs: optionalTime(given.refreshAhead, "options.refreshAhead", 0, 0)
  }
}

export const write = (
  { key, tenantId }: Place,
  value: unknown,
  what: string,
  { graceMs, tags, ttlMs }: Life
): EncodedWrite => ({ tenantId, key, value: payload(value, what), keyId: null, ttlMs, graceMs, tags })

export const writes = (tenantId: unknown, entries: unknown, options: unknown): ReadonlyArray<EncodedWrite> => {
  const of = tenant(tenantId)
  const given = life(options)
  const seen = new Set<string>()
  return array(entries, "entries", 0, keysMax)
    .map((entry, i) => {
      const what = `entries[${i}]`
      const { key, value } = fields(entry, what, ["key", "value"])
      const checkedKey = identifier(key, `${what}.key`)
      if (seen.has(checkedKey)) return refuse(`${what}.key`, "is given twice")
      seen.add(checkedKey)
      return write({ tenantId: of, key: checkedKey }, value, `${what}.value`, given)
    })
    .sort((a, b) => (a.key < b.key ? -1 : 1))
}

export const target = (tenantId: unknown, value: unknown): Target => {
  const { keys, tags } = fields(value, "target", ["keys", "tags"])
  if (keys === undefined && tags === undefined) return refuse("target", "must have keys or tags")
  return {
    tenantId: tenant(tenantId),
    keys: keys === undefined ? [] : names(keys, "target.keys", 0, keysMax),
    tags: tags === undefined ? [] : names(tags, "target.tags", 0, tagsMax)
  }
}

export const prefix = (value: unknown): string => {
  const { prefix } = knownKeys(value, "options", ["prefix"])
  return prefix === undefined || prefix === "" ? "" : identifier(prefix, "options.prefix")
}

/** A loader of many keys. What it returns is checked too: a fiber that is given no effect may never end. */
export const loaderOfMany = <A, E, R>(
  load: (keys: ReadonlyArray<string>) => Effect.Effect<A, E, R>
): ((keys: ReadonlyArray<string>) => Effect.Effect<A, E | InvalidInput, R>) => {
  if (typeof load !== "function") return refuse("load", `must be a function, not ${describe(load)}`)
  // Calling a class throws. Its prototype cannot be replaced; that of a function can, and an arrow has none.
  if (Object.getOwnPropertyDescriptor(load, "prototype")?.writable === false) {
    return refuse("load", "must be a function, not a class")
  }
  return (keys) => {
    const loading = load(keys)
    return Effect.isEffect(loading)
      ? loading
      : Effect.fail(new InvalidInput({ what: "load", why: `must return an Effect, not ${describe(loading)}` }))
  }
}
