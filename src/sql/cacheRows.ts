/**
 * What the CacheStore's rows are on both databases: an entry, the ticket of a load, or both, under a tenant and a key;
 * and the generations of tags, which entries and tickets carry as text.
 */
import type { EncodedAddress, EncodedEntry, Place, Settlement } from "../cacheStore/CacheStoreEncoded.js"

/** For ever, in milliseconds: a time in the year 5138. */
export const ever = 99_999_999_999_999

/** Rows that a purge deletes at once, which bounds how long it holds locks. */
export const purgeBatch = 500

export interface TagMark {
  readonly name: string
  readonly generation: string
  readonly expiries: number
}

/** Null for none. The order is that of the names, so that equal marks are equal texts. */
export const encodeMarks = (marks: ReadonlyArray<TagMark>): string | null =>
  marks.length === 0
    ? null
    : JSON.stringify(marks.map(({ expiries, generation, name }) => ({ name, generation, expiries })))

export const decodeMarks = (text: string | null): ReadonlyArray<TagMark> => (text === null ? [] : JSON.parse(text))

export const sameMarks = (taken: ReadonlyArray<TagMark>, now: ReadonlyArray<TagMark>): boolean =>
  encodeMarks(taken) === encodeMarks(now)

export const finite = (ms: number): number => Math.min(ms, ever)

/** A sum of times, one of which may be for ever. */
export const sum = (a: number, b: number): number => (a >= ever || b >= ever ? ever : a + b)

export const entryOf = (
  value: string,
  keyId: string | null,
  freshMs: number,
  nowMs: number,
  marks: string | null
): EncodedEntry => ({
  value,
  keyId,
  freshMs: freshMs >= ever ? Number.POSITIVE_INFINITY : freshMs - nowMs,
  tags: marks === null ? [] : decodeMarks(marks).map(({ name }) => name)
})

export type AddressRow = readonly [tenantId: string, key: string, keyId: string | null]

export const addressFrom = ([tenantId, key, keyId]: AddressRow): EncodedAddress => ({ tenantId, key, keyId })

/** Less than every address: no tenant is empty. */
export const firstAddress: Place = { tenantId: "", key: "" }

/** How long the tags of what is stored have to live. */
export const keepOf = (settlements: ReadonlyArray<Settlement>): number =>
  Math.max(1, ...settlements.map(({ write }) => (write === null ? 0 : write.ttlMs + write.graceMs)))
