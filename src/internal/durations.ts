/**
 * Durations in options, as milliseconds. Effect takes a negative one, and one that is no number, for zero, which would
 * silently be something else than what was asked for.
 */
import * as Duration from "effect/Duration"
import { describe, refuse } from "./validate.js"

/** Node's timers take what is longer for one millisecond: 24.8 days. */
export const timerMaxMs = 2 ** 31 - 1

/** Zero, or from 1 ms on; may be infinite. Throws `InvalidInput`. */
export const durationMs = (value: unknown, what: string): number => {
  const decoded = isNegative(value) ? undefined : Duration.decodeUnknown(value)
  const ms = decoded?._tag === "Some" ? Duration.toMillis(decoded.value) : Number.NaN
  if (ms === 0 || ms >= 1) return ms
  return refuse(what, `must be a duration of at least zero and of no parts of a millisecond, not ${describe(value)}`)
}

/** From 1 ms to what a timer can wait, or infinite. Throws `InvalidInput`. */
export const timeoutMs = (value: unknown, what: string): number => {
  const decoded = isNegative(value) ? undefined : Duration.decodeUnknown(value)
  const ms = decoded?._tag === "Some" ? Duration.toMillis(decoded.value) : Number.NaN
  return (ms >= 1 && ms <= timerMaxMs) || ms === Number.POSITIVE_INFINITY
    ? ms
    : refuse(what, `must be from 1 ms to 24 days, or infinity, not ${describe(value)}`)
}

const leaseMinMs = 100
export const leaseMaxMs = 24 * 3_600_000
const leaseDefaultMs = 30_000

/** Of a lease: renewed three times in its time, and each renewal is a write. Throws `InvalidInput`. */
export const leaseMs = (value: unknown, what: string): number => {
  const decoded = Duration.decodeUnknown(value)
  const ms = decoded._tag === "Some" ? Math.round(Duration.toMillis(decoded.value)) : Number.NaN
  return ms >= leaseMinMs && ms <= leaseMaxMs
    ? ms
    : refuse(what, `must be from 100 ms to 24 hours, not ${describe(value)}`)
}

export const optionalLeaseMs = (value: unknown, what: string): number =>
  value === undefined ? leaseDefaultMs : leaseMs(value, what)

const isNegative = (value: unknown): boolean => {
  if (typeof value === "string") return value.trimStart().startsWith("-")
  return (Array.isArray(value) ? value : [value]).some(
    (part) => (typeof part === "number" && !(part >= 0)) || (typeof part === "bigint" && part < 0n)
  )
}
