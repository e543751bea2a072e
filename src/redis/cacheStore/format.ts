/**
 * What stands under a key of the CacheStore in Redis: one string with the entry, its header, and the ticket of a load.
 * Because the ticket is in the same place, whatever replaces or deletes the entry takes the ticket with it, by plain
 * SET and UNLINK; scripts are needed only where something depends on what is there.
 *
 *     s <payload>                              fresh for as long as the key lives
 *     u <stamp 36> <payload>                   the same, with a mark of who wrote it
 *     c <token 36> <lease end 14> <marks 16> <stamp 36> <fresh until 14> <kept until 14> <grace 14>
 *       <length of tags 6> <tags> <payload>    anything else
 *
 * A payload is the length of the key id in 3 digits, the key id, and the value. Times are milliseconds of the server's
 * clock. A token or stamp of dashes is none: without a stamp there is no entry. Tags are JSON in ASCII, a list of name,
 * generation and how often the tag had been expired. Of those that a ticket was given for there is a digest only: the
 * marks, which say whether another load with the same tags may take the ticket's place.
 */
import { createHash, randomUUID } from "node:crypto"
import type { EncodedEntry, EncodedWrite, Payload } from "../../cacheStore/CacheStoreEncoded.js"

export const none = "-".repeat(36)

/** In the year 5138. */
export const ever = 99_999_999_999_999

const headerLength = 151

export interface TagMark {
  readonly name: string
  readonly generation: string
  readonly expiries: number
}

export interface Stored extends Payload {
  readonly stamp: string
  readonly freshMs: number
  readonly keptMs: number
  readonly graceMs: number
  readonly tags: ReadonlyArray<TagMark>
  /** Of the server, when this was read; 0 for what was read without asking for it. */
  readonly nowMs: number
}

const noTags: ReadonlyArray<TagMark> = []
const noTagNames: ReadonlyArray<string> = []

const ascii = (text: string): string =>
  text.replace(/[\u0080-\uffff]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`)

export const encodeTags = (tags: ReadonlyArray<TagMark>): string =>
  tags.length === 0
    ? ""
    : ascii(JSON.stringify(tags.map(({ expiries, generation, name }) => [name, generation, expiries])))

/** 64 bits are enough to tell the generations of one key's loads. */
export const marksOf = (tags: ReadonlyArray<TagMark>): string =>
  tags.length === 0 ? "-".repeat(16) : createHash("sha256").update(encodeTags(tags)).digest("hex").slice(0, 16)

/** Scripts count bytes, so nothing before the value is more than ASCII. */
export const encodePayload = ({ keyId, value }: Payload): string => {
  if (keyId === null) return `000${value}`
  const id = encodeURIComponent(keyId)
  return `${String(id.length).padStart(3, "0")}${id}${value}`
}

export const encodeSimple = (write: EncodedWrite): string => `s${encodePayload(write)}`

/** As an argument of a script or command, which knows `ever` for infinity. */
export const timeOf = (ms: number): string => String(Math.min(ms, ever))

/** Stamp, time to live, grace, tags, payload: what scripts put. */
export const putArguments = (write: EncodedWrite, marks: ReadonlyArray<TagMark>): ReadonlyArray<string> => [
  randomUUID(),
  timeOf(write.ttlMs),
  timeOf(write.graceMs),
  encodeTags(marks),
  encodePayload(write)
]

export const entryOf = (stored: Stored | null): EncodedEntry | null =>
  stored === null
    ? null
    : {
        value: stored.value,
        keyId: stored.keyId,
        freshMs: stored.freshMs,
        tags: stored.tags.map(({ name }) => name)
      }

/** Of a text that is not complex, which was read without its time. The hottest path: without a `Stored` in between. */
export const simpleEntryOf = (text: string | null): EncodedEntry | null => {
  if (text === null) return null
  const first = text.charCodeAt(0)
  // s, u
  if (first !== 115 && first !== 117) return null
  const at = first === 115 ? 1 : 37
  // No key id.
  if (text.startsWith("000", at)) return { value: text.slice(at + 3), keyId: null, freshMs: 1, tags: noTagNames }
  return entryOf(parse(text, 0, 1))
}

/** Of a wrong text there is none: a cache may lose what it likes. `headed` is without the payload. */
export const parse = (text: string | null, nowMs: number, pttlMs: number, headed = false): Stored | null => {
  if (text === null) return null
  try {
    switch (text.charCodeAt(0)) {
      case 115: // s
        return simple(text, 1, none, nowMs, pttlMs, headed)
      case 117: // u
        return simple(text, 37, text.slice(1, 37), nowMs, pttlMs, headed)
      case 99: // c
        return complex(text, nowMs, headed)
    }
  } catch {}
  return null
}

/** Whether its time to live, or its tags, must be asked for: a plain GET does not tell. */
export const isComplex = (text: string | null): boolean => text?.charCodeAt(0) === 99

const payloadOf = (text: string, at: number, headed: boolean): Payload => {
  if (headed) return { value: "", keyId: null }
  const length = Number(text.slice(at, at + 3))
  const from = at + 3 + length
  return { value: text.slice(from), keyId: length === 0 ? null : decodeURIComponent(text.slice(at + 3, from)) }
}

const simple = (
  text: string,
  at: number,
  stamp: string,
  nowMs: number,
  pttlMs: number,
  headed: boolean
): Stored | null => {
  const leftMs = pttlMs === -1 ? Number.POSITIVE_INFINITY : pttlMs
  // In the millisecond of its end a key is still there. A load that is granted then must not find a stale value.
  if (leftMs <= 0) return null
  const { keyId, value } = payloadOf(text, at, headed)
  return { value, keyId, stamp, freshMs: leftMs, keptMs: leftMs, graceMs: 0, tags: noTags, nowMs }
}

const complex = (text: string, nowMs: number, headed: boolean): Stored | null => {
  const stamp = text.slice(67, 103)
  if (stamp === none) return null
  const time = (from: number): number => {
    const ms = Number(text.slice(from, from + 14))
    return ms >= ever ? Number.POSITIVE_INFINITY : ms
  }
  const keptMs = time(117) - nowMs
  if (!(keptMs > 0)) return null
  const tagsLength = Number(text.slice(145, headerLength))
  const at = headerLength + tagsLength
  const tags =
    tagsLength === 0
      ? noTags
      : (JSON.parse(text.slice(headerLength, at)) as ReadonlyArray<readonly [string, string, number]>).map(
          ([name, generation, expiries]) => ({ name, generation, expiries })
        )
  return { ...payloadOf(text, at, headed), stamp, freshMs: time(103) - nowMs, keptMs, graceMs: time(131), tags, nowMs }
}
