/**
 * Values on their way to a store and back: encoding by a Schema that refuses what the Schema does not know, since a
 * misspelt optional field would vanish silently; values that were encoded before; what a lift makes of a port's rows.
 */
import { isDeepStrictEqual } from "node:util"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import type { ParseError, ParseIssue } from "effect/ParseResult"
import type { ParseOptions } from "effect/SchemaAST"

/**
 * From `Schema.encode(schema)`, or `encodeEither`. Instances of classes may have properties beside their fields, such
 * as the `stack` of an Error. Those are not data, and are left out.
 */
export const exactly =
  <A, I, R>(encode: (value: A, options?: ParseOptions) => Effect.Effect<I, ParseError, R>) =>
  (value: A): Effect.Effect<I, ParseError, R> =>
    Effect.catchAll(encode(value, { onExcessProperty: "error", errors: "all" }), (error) =>
      isStray(error.issue) ? Effect.fail(error) : encode(value)
    )

const isStray = (issue: ParseIssue, owner?: unknown): boolean => {
  switch (issue._tag) {
    case "Unexpected":
      return isPlain(owner)
    case "Pointer":
      return isStray(issue.issue, issue.actual)
    case "Refinement":
    case "Transformation":
      return isStray(issue.issue, owner)
    case "Composite":
      return [issue.issues].flat().some((issue) => isStray(issue as ParseIssue, owner))
    default:
      return false
  }
}

const isPlain = (value: unknown): boolean => {
  if (typeof value !== "object" || value === null) return false
  const prototype: unknown = Object.getPrototypeOf(value)
  return prototype === Object.prototype || prototype === null
}

/** Whether two JSON texts are the same value: the order of keys is none of it. */
export const isSameJson = (one: string, other: string): boolean => {
  if (one === other) return true
  try {
    return isDeepStrictEqual(JSON.parse(one), JSON.parse(other))
  } catch {
    // One of them is sealed, and the store was opened without keys.
    return false
  }
}

/**
 * A value that was checked and encoded already: its JSON text stands for it on the way to the store, so that it is not
 * walked a second time.
 */
export class JsonText {
  constructor(readonly text: string) {}

  toString(): string {
    return this.text
  }
}

let lastUtc = DateTime.unsafeMake(0)

/** Making one costs more than the rest of an event, and the events of one append share their time. */
export const utc = (epochMs: number): DateTime.Utc => {
  if (lastUtc.epochMillis !== epochMs) lastUtc = DateTime.unsafeMake(epochMs)
  return lastUtc
}

/**
 * The text of a payload. Throws if it is sealed, since only a layer with keys can open it; the lift adds what was read.
 */
export const unsealed = (text: string, keyId: string | null): string => {
  if (keyId !== null) throw new Error(`it is sealed with key ${keyId}, and the store was opened without keys`)
  return text
}
