/**
 * What the lifts make of the rows of their ports.
 */
import * as DateTime from "effect/DateTime"

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
