/**
 * What a seal of any port does with CryptoService: texts into envelopes and back, by policy, page by page. Where a text
 * stands (its context) is the business of each port's own file.
 */
import { randomUUID } from "node:crypto"
import { StringDecoder } from "node:string_decoder"
import * as Effect from "effect/Effect"
import {
  type CryptoError,
  KeyCheckFailed,
  NotEncrypted,
  SubjectShredded,
  Tampered,
  UnsupportedFormat
} from "../CryptoError.js"
import { InvalidInput, StoreError, type StoreFailure } from "../Errors.js"
import { addSealed, isSealed, type Note, requireSealed } from "../internal/lifted.js"
import * as envelope from "./formats/envelope.js"
import { inTurns, type Steps, stepBytes } from "./formats/steps.js"
import { isSubjectId, type Key } from "./keys/key.js"
import type { KeyRing } from "./keys/ring.js"
import type { HeldKeys } from "./subjects/keys.js"
import type { Replacements } from "./subjects/replacements.js"
import { type Rules, type Subject, subjectName, thrown } from "./subjects/rules.js"

/**
 * - `RequireEncrypt`: seals, and opens only what is sealed.
 * - `EncryptAllowPlaintext`: seals, and reads what is still plain: for the time of a migration.
 * - `ForbidEncryptAllowDecrypt`: writes plain and reads both: the way back.
 *
 * @since 0.1.0
 * @category models
 */
export type Policy = "RequireEncrypt" | "EncryptAllowPlaintext" | "ForbidEncryptAllowDecrypt"

/** The last moment, or the last position, at which a plain row may have been written. */
export interface Watermark {
  readonly events: number
  readonly commands: number
  readonly createdUntilMs: number
}

/** Subjects that can be forgotten: whose a record is, their keys, and what stands for what was forgotten. */
export interface Subjects {
  readonly rules: Rules
  readonly keys: HeldKeys
  readonly replacements: Replacements
}

export interface Cipher {
  /** Finds the keys of subjects as well, where there are any. */
  readonly ring: KeyRing
  readonly policy: Policy
  readonly watermark: Watermark
  readonly subjects: Subjects | undefined
}

export const seals = ({ policy }: Cipher): boolean => policy !== "ForbidEncryptAllowDecrypt"

/** A plain row, by the policy: `undefined` when it is welcome. */
export const refusedPlain = (
  { policy, watermark }: Cipher,
  at: number,
  mark: keyof Watermark,
  place: () => string
): NotEncrypted | undefined =>
  policy === "ForbidEncryptAllowDecrypt" || (policy === "EncryptAllowPlaintext" && at <= watermark[mark])
    ? undefined
    : new NotEncrypted({ place: place() })

/** Whose a record is, by the rules. May throw what a rule of the application's throws. */
export type SubjectOf = (rules: Rules) => Subject | undefined

/**
 * The key that seals a record; null where the policy seals nothing. `stored`: the key of what it replaces, or was made
 * of. What is a subject's stays the subject's, whatever the rules say of it now.
 */
export const keyFor = (
  cipher: Cipher,
  stored: string | null,
  subjectOf: SubjectOf,
  place: () => string
): Effect.Effect<Key | null, StoreFailure> =>
  seals(cipher) ? sealingKeyFor(cipher, stored, subjectOf, place) : Effect.succeed(null)

export const sealingKeyFor = (
  cipher: Cipher,
  stored: string | null,
  subjectOf: SubjectOf,
  place: () => string
): Effect.Effect<Key, StoreFailure> => {
  const { ring, subjects } = cipher
  if (stored !== null && isSubjectId(stored))
    return Effect.flatMap(ring.finding(new Set([stored])), (find) => {
      const key = find(stored, place)
      if (!isError(key)) return Effect.succeed(key)
      return Effect.fail(key._tag === "Shredded" ? new SubjectShredded({ place: place() }) : key)
    })
  if (subjects === undefined) return ring.primary
  return Effect.suspend(() => {
    const subject = askedOf(subjects.rules, subjectOf, place)
    if (subject === undefined) return ring.primary
    return subject instanceof StoreError ? Effect.fail(subject) : subjects.keys.of(subject, place)
  })
}

/** Whose it is, or why the rule did not say. */
export const askedOf = (rules: Rules, subjectOf: SubjectOf, place: () => string): Subject | undefined | StoreError => {
  try {
    return subjectOf(rules)
  } catch (error) {
    return new StoreError({ operation: `the rule whose ${place()} is`, cause: thrown(error) })
  }
}

/** The keys of records that are written together, each of them as `keyFor` gives it; null where all stay plain. */
export const keysFor = <Record extends object>(
  cipher: Cipher,
  records: ReadonlyArray<Record>,
  subjectOf: (rules: Rules, record: Record) => Subject | undefined,
  place: (record: Record) => string
): Effect.Effect<((record: Record) => Key) | null, StoreFailure> => {
  const { ring, subjects } = cipher
  if (!seals(cipher)) return Effect.succeed(null)
  if (subjects === undefined) return Effect.map(ring.primary, (key) => () => key)
  return Effect.suspend(() => {
    // Most of them are of one subject: each is asked for once.
    const keys = new Map<string, Effect.Effect<Key, StoreFailure>>()
    const names = new Map<Record, string>()
    for (const record of records) {
      const named = () => place(record)
      const subject = askedOf(subjects.rules, (rules) => subjectOf(rules, record), named)
      if (subject instanceof StoreError) return Effect.fail(subject)
      const name = subject === undefined ? "" : subjectName(subject)
      names.set(record, name)
      if (!keys.has(name)) keys.set(name, subject === undefined ? ring.primary : subjects.keys.of(subject, named))
    }
    const found = Effect.forEach(keys, ([name, key]) => Effect.map(key, (key) => [name, key] as const))
    return Effect.map(found, (entries) => {
      const keyOf = new Map(entries)
      return (record) => keyOf.get(names.get(record) as string) as Key
    })
  })
}

/** An envelope in base64url. */
export function* sealText(key: Key, context: Uint8Array, text: string): Steps<string> {
  const bytes = yield* envelope.sealing(key, context, text)
  if (bytes.length <= stepBytes) return bytes.toString("base64url")
  let sealed = ""
  for (let at = 0; at < bytes.length; at += base64Bytes) {
    yield
    sealed += bytes.toString("base64url", at, at + base64Bytes)
  }
  return sealed
}

/** What is a whole number of characters in base64url. */
const base64Bytes = Math.floor(stepBytes / 3) * 3
const base64Chars = (base64Bytes / 3) * 4

/**
 * The bytes of an envelope in base64url. The decoder skips what is no base64url, so text with anything else in it is
 * found by its length.
 */
export function* bytesOf(text: string, place: () => string): Steps<Buffer | UnsupportedFormat> {
  // What a backend finds stored need not make sense.
  if (typeof text !== "string") return new UnsupportedFormat({ place: place(), why: "is no text" })
  const length = Math.floor((text.length * 3) / 4)
  let bytes: Buffer
  let decoded: number
  if (text.length <= base64Chars) {
    bytes = Buffer.from(text, "base64url")
    decoded = bytes.length
  } else {
    bytes = Buffer.allocUnsafe(length)
    decoded = 0
    for (let at = 0; at < text.length; at += base64Chars) {
      if (at > 0) yield
      decoded += bytes.write(text.slice(at, at + base64Chars), (at / 4) * 3, "base64url")
    }
  }
  // No number of bytes has a text of 4n + 1 characters.
  return decoded === length && text.length % 4 !== 1
    ? bytes
    : new UnsupportedFormat({ place: place(), why: "is no base64url" })
}

/** `keyId`: what the column beside it says, which has to be what the envelope says. */
export function* openText(
  find: envelope.FindKey,
  keyId: string,
  context: Uint8Array,
  text: string,
  place: () => string
): Steps<string | CryptoError> {
  const bytes = yield* bytesOf(text, place)
  if (!Buffer.isBuffer(bytes)) return bytes
  const inside = envelope.keyIdOf(bytes, place)
  if (typeof inside !== "string") return inside
  if (inside !== keyId) return new Tampered({ keyId, place: place() })
  const plaintext = yield* envelope.opening(find, context, bytes, place, true)
  if (!Buffer.isBuffer(plaintext)) return plaintext
  if (plaintext.length <= stepBytes) return plaintext.toString("utf8")
  const decoder = new StringDecoder("utf8")
  let opened = ""
  for (let at = 0; at < plaintext.length; at += stepBytes) {
    yield
    opened += decoder.write(plaintext.subarray(at, at + stepBytes))
  }
  return opened + decoder.end()
}

/** How much is opened between two turns of the event loop: about a millisecond. */
const rowsUnbroken = 64
const charsUnbroken = 512 * 1024

/** Opens the rows of a page one after the other; the first that does not open fails the page, so none is left out. */
export const openAll = <Row extends { readonly data?: string; readonly state?: string; readonly value?: string }>(
  { ring }: Cipher,
  rows: ReadonlyArray<Row>,
  keyIds: (row: Row, add: (id: string) => void) => void,
  open: (row: Row, find: envelope.FindKey) => Steps<Row | CryptoError>
): Effect.Effect<ReadonlyArray<Row>, CryptoError> => {
  if (rows.length === 0) return Effect.succeed(rows)
  const ids = new Set<string>()
  const add = (id: string) => ids.add(id)
  for (const row of rows) keyIds(row, add)
  function* each(find: envelope.FindKey): Steps<ReadonlyArray<Row> | CryptoError> {
    const opened = new Array<Row>(rows.length)
    let chars = 0
    for (const [i, row] of rows.entries()) {
      if ((i > 0 && i % rowsUnbroken === 0) || chars > charsUnbroken) {
        yield
        chars = 0
      }
      chars += (row.data ?? row.state ?? row.value)?.length ?? 0
      const result = yield* open(row, find)
      if (isError(result)) return result
      opened[i] = result
    }
    return opened
  }
  return Effect.flatMap(ring.finding(ids), (find) => openedInTurns(() => each(find)))
}

/** What opens in steps, or fails with why it does not. */
export const openedInTurns = <A extends string | object | null>(
  open: () => Steps<A | CryptoError>
): Effect.Effect<A, CryptoError> =>
  Effect.flatMap(inTurns(open), (result) => (isError(result) ? Effect.fail(result) : Effect.succeed(result)))

export const isError = <A extends string | object | null>(result: A | CryptoError): result is CryptoError =>
  typeof result === "object" && result !== null && "_tag" in result && result instanceof Error

/**
 * The random id of a store, which is part of every context in it, so that nothing can be moved here from another store.
 * Before that, each key is held against the check value that the store has kept since the key's first use. `note`
 * keeps a value under a name unless there is one, and gives what is kept. A store that keeps nothing has no id. Every
 * other one also keeps whether all must be sealed, for those who open it without keys; `EncryptAllowPlaintext` leaves
 * that as it is.
 */
export const prepare = (
  cipher: Cipher,
  store: string,
  note: Note | null
): Effect.Effect<string, StoreFailure | KeyCheckFailed> =>
  Effect.gen(function* () {
    if (note === null) return ""
    const { ring } = cipher
    for (const { id, primary, status } of ring.keys) {
      if (status === "disabled") continue
      const name = `key ${id}`
      const stored = yield* note(name, null)
      // A key that is behind a provider is fetched only when there is something to compare, or to begin.
      if (stored === null && !(primary && seals(cipher))) continue
      const find = yield* ring.finding(new Set([id]))
      const key = find(id, () => `the check of the ${store}`)
      if (isError(key)) {
        if (primary) return yield* key
        // What needs it will say so; everything else is open.
        yield* Effect.logWarning(`a key of the ${store} could not be checked: ${key.message}`)
        continue
      }
      const kept = stored ?? (yield* note(name, key.check))
      if (kept !== key.check) return yield* new KeyCheckFailed({ keyId: id, store })
    }
    // While plain rows are welcome, processes without keys may still write them.
    if (cipher.policy !== "EncryptAllowPlaintext") yield* requireSealed(note, seals(cipher))
    const known = yield* note("id", null)
    if (known !== null) return known
    const fresh = randomUUID()
    return (yield* note("id", fresh)) ?? fresh
  })

/** Makes a sealed port of one that is not sealed already. */
export const sealing = <Port extends object, E, R>(
  store: string,
  port: Port,
  seal: Effect.Effect<readonly [Port, upkeep: unknown], E, R>
): Effect.Effect<Port, E | InvalidInput, R> =>
  isSealed(port)
    ? Effect.fail(new InvalidInput({ what: store, why: "is sealed already" }))
    : Effect.map(seal, ([sealed, upkeep]) => addSealed(sealed, upkeep))
