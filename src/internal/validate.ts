/**
 * Checks of what callers pass, shared by all contract modules. Each throws `InvalidInput`, and the lift turns that into
 * a typed failure in one place (`checked`), so a check that passes costs no Effect.
 */
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import { InvalidInput } from "../Errors.js"
import * as Json from "../Json.js"
import type { StreamId } from "../StreamId.js"
import * as Uuid from "../Uuid.js"

/** Longest identifier in UTF-8 bytes: several of them share one index entry, which PostgreSQL bounds near 2.7 kB. */
export const identifierBytesMax = 255

const typesPerFilterMax = 1_000

// Date.UTC reads the years 0 to 99 as 1900 to 1999.
const yearZeroMs = Date.parse("0000-01-01T00:00:00Z")
const year10000Ms = Date.UTC(10000, 0, 1)

export const refuse = (what: string, why: string): never => {
  throw new InvalidInput({ what, why })
}

/**
 * Non-empty text that every backend keeps as it is: without NUL (PostgreSQL refuses it) and lone surrogates (drivers
 * replace them).
 */
export const identifier = (value: unknown, what: string): string => {
  if (isIdentifier(value)) return value
  if (typeof value !== "string") return refuse(what, `must be a string, not ${describe(value)}`)
  if (value.length === 0) return refuse(what, "must not be empty")
  if (value.length * 3 > identifierBytesMax && Buffer.byteLength(value) > identifierBytesMax) {
    return refuse(what, `must not exceed ${identifierBytesMax} bytes of UTF-8`)
  }
  if (value.includes("\0")) return refuse(what, "must not contain NUL")
  return refuse(what, "must not contain a lone surrogate")
}

export const isIdentifier = (value: unknown): value is string => {
  if (typeof value !== "string" || value.length === 0) return false
  if (value.length * 3 > identifierBytesMax && Buffer.byteLength(value) > identifierBytesMax) return false
  // Most are short ASCII, for which a loop takes a third of the time of the two methods.
  for (let i = 0; i < value.length; i++) {
    const code = value.charCodeAt(i)
    if (code === 0 || code > 127) return !value.includes("\0") && value.isWellFormed()
  }
  return true
}

export const integer = (value: unknown, what: string, min: number, max = Number.MAX_SAFE_INTEGER): number => {
  if (typeof value !== "number" || !Number.isInteger(value)) {
    return refuse(what, `must be a whole number, not ${describe(value)}`)
  }
  // -0 is an integer as well, and would reach a driver as a float.
  if (value < min || Object.is(value, -0)) return refuse(what, `must be at least ${min}, not ${describe(value)}`)
  if (value > max) return refuse(what, `must be at most ${max}, not ${value}`)
  return value
}

export const oneOf = <const A extends string>(value: unknown, what: string, allowed: ReadonlyArray<A>): A =>
  allowed.includes(value as A)
    ? (value as A)
    : refuse(what, `must be one of ${allowed.join(", ")}, not ${describe(value)}`)

/** Copied element by element: an array may have holes, which its methods skip, or methods of its own. */
export const array = (value: unknown, what: string, min: number, max: number): ReadonlyArray<unknown> => {
  if (!Array.isArray(value)) return refuse(what, `must be an array, not ${describe(value)}`)
  const { length } = value
  if (length < min) return refuse(what, min === 1 ? "must not be empty" : `must have at least ${min} elements`)
  if (length > max) return refuse(what, `must have at most ${max} elements, not ${length}`)
  return Array.from({ length }, (_, i) => value[i])
}

export const record = (value: unknown, what: string): Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value)
    ? (value as Record<string, unknown>)
    : refuse(what, `must be an object, not ${describe(value)}`)

/** An object with no other keys than these: a misspelt key would silently have no effect. */
export const fields = (value: unknown, what: string, keys: ReadonlyArray<string>): Record<string, unknown> => {
  const given = record(value, what)
  for (const key of Object.keys(given)) oneOf(key, `a key of ${what}`, keys)
  return given
}

/** The same for options and conditions, all of which are optional. */
export const options = (value: unknown, what: string, keys: ReadonlyArray<string>): Record<string, unknown> => {
  const given = value === undefined ? {} : record(value, what)
  const prototype = Object.getPrototypeOf(given)
  // A Map or a Set has no keys of its own, and would pass as an empty object.
  if (prototype !== Object.prototype && prototype !== null) return refuse(what, "must be a plain object")
  return fields(given, what, keys)
}

/** What is filled in where a value is left out. */
export interface Defaults {
  readonly nowMs: number
  readonly instanceId: string | null
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

export const optionalInteger = (value: unknown, what: string, min: number, otherwise: number, max?: number): number =>
  value === undefined ? otherwise : integer(value, what, min, max)

export const describe = (value: unknown): string => {
  switch (typeof value) {
    case "string":
      return JSON.stringify(value.length > 64 ? `${value.slice(0, 64)}…` : value)
    case "number":
      return Object.is(value, -0) ? "-0" : String(value)
    case "boolean":
    case "undefined":
      return String(value)
    case "bigint":
      return `${value}n`
    case "object":
      return value === null ? "null" : Array.isArray(value) ? "an array" : "an object"
    default:
      return `a ${typeof value}`
  }
}

/**
 * Runs checks and continues with their result. An `InvalidInput`, or a getter of the input that throws, becomes a typed
 * failure.
 */
export const checked = <C, A, E, R>(
  check: () => C,
  use: (input: C) => Effect.Effect<A, E, R>
): Effect.Effect<A, E | InvalidInput, R> => {
  let input: C
  try {
    input = check()
  } catch (error) {
    return Effect.fail(invalid(error))
  }
  return use(input)
}

/** Several things that were refused together. */
class Refusals extends Error {
  constructor(readonly all: readonly [InvalidInput, ...ReadonlyArray<InvalidInput>]) {
    super()
  }
}

/** Thrown in the place of a value that was refused elsewhere: nothing is to be said of what rests on it. */
class Unjudged extends Error {}

export const unjudged = (): never => {
  throw new Unjudged()
}

/**
 * Checks whose refusals are collected, so that the first does not hide the others. A part gives what its check gave, to
 * the parts that rest on it; they are not judged if it was refused.
 */
export class Parts {
  private readonly refused: Array<InvalidInput> = []

  readonly part = <A>(check: () => A): (() => A) => {
    try {
      const value = check()
      return () => value
    } catch (thrown) {
      this.refused.push(...refusalsIn(thrown))
      return unjudged
    }
  }

  /** Makes something of the parts. Throws what was refused of them, or `Unjudged`. */
  readonly all = <A>(make: () => A): A => {
    const made = this.part(make)
    const [first, ...others] = this.refused
    if (first !== undefined) throw new Refusals([first, ...others])
    return made()
  }
}

/** All that a check refused by throwing; nothing if it could not judge. */
export const refusalsIn = (thrown: unknown): ReadonlyArray<InvalidInput> =>
  thrown instanceof Unjudged ? [] : thrown instanceof Refusals ? thrown.all : [invalid(thrown)]

/** `undefined` if it is not judged. */
export const judged = <A>(check: () => A): A | undefined => {
  try {
    return check()
  } catch (thrown) {
    if (thrown instanceof Unjudged) return undefined
    throw thrown
  }
}

/** Runs a check whose refusals are to be told otherwise. */
export const retold = <A>(check: () => A, tell: (error: InvalidInput) => InvalidInput): A => {
  const { all, part } = new Parts()
  try {
    return check()
  } catch (thrown) {
    for (const error of refusalsIn(thrown)) {
      part(() => {
        throw tell(error)
      })
    }
    return all(unjudged)
  }
}

/** The keys of the options that are there, even if their values are not judged. */
export const givenKeys = (options: object): ReadonlyArray<string> =>
  Object.entries(Object.getOwnPropertyDescriptors(options)).flatMap(([key, { get, value }]) =>
    get === undefined && value === undefined ? [] : [key]
  )

/** What a check threw, as a typed error. What a getter or a proxy throws may itself throw when it is read. */
export const invalid = (thrown: unknown): InvalidInput => {
  let why = "could not be read: it threw"
  try {
    if (thrown instanceof InvalidInput) return thrown
    if (thrown instanceof Refusals) return thrown.all[0]
    if (thrown instanceof Error) why = `could not be read: ${String(thrown.message)}`
  } catch {}
  return new InvalidInput({ what: "input", why })
}

/** Without what is undefined. */
export const defined = <A extends object>(options: A): { [K in keyof A]: Exclude<A[K], undefined> } =>
  Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined)) as never
