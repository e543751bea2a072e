/**
 * The keys of subjects as a process has them: made when a subject first needs one, unwrapped when they are needed, and
 * kept in memory for a stated time only, since within that time a key must be of no use any more once it is destroyed.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import {
  type CryptoError,
  KeyProviderError,
  Shredded,
  SubjectShredded,
  Tampered,
  Truncated,
  UnknownKeyId
} from "../../CryptoError.js"
import { isStoreFailure, type ReadFailure, type StoreFailure } from "../../Errors.js"
import { turn } from "../../internal/fibers.js"
import { pagedStream } from "../../internal/pages.js"
import { ContextWriter } from "../formats/context.js"
import * as envelope from "../formats/envelope.js"
import * as nonces from "../formats/nonces.js"
import { atOnce } from "../formats/steps.js"
import { isSubjectId, type Key, keyBytes, keyIdBytes, make as makeKey } from "../keys/key.js"
import type { KeyRing } from "../keys/ring.js"
import type { Encoded, EncodedSubjectKey } from "../SubjectKeysEncoded.js"
import { bytesOf, isError } from "../sealer.js"
import type { Resealed, StoredRecord, Upkeep } from "../upkeep.js"
import type { LedgerEntry } from "./ledger.js"
import { refOf, type Subject, subjectName } from "./rules.js"

/** Keys that a process holds at the same time, at most. */
const heldMax = 10_000

/** Keys that are asked for in one statement. */
const asksAtOnce = 500

/** Keys that are unwrapped between two turns of the event loop: about a millisecond. */
const unwrapsUnbroken = 64

/** A key in memory, or that it was destroyed (null). */
interface Held {
  readonly ref: string
  readonly keyId: string | null
  readonly key: Key | null
  readonly untilMs: number
}

export class HeldKeys {
  private readonly byId = new Map<string, Held>()
  private readonly bySubject = new Map<string, Held>()
  /** Moves on when a key is destroyed here: what was asked for before is not kept. */
  private age = 0

  constructor(
    private readonly port: Encoded,
    private readonly ring: KeyRing,
    private readonly storeId: string,
    /** How long a key is kept in memory. */
    private readonly lifetimeMs: number,
    /** How long any process may keep one. */
    readonly agreedMs: number
  ) {}

  /** Looks keys up that are named here, once they are at hand or cannot be had. */
  finding(ids: ReadonlyArray<string>): Effect.Effect<envelope.FindKey> {
    return Effect.flatMap(nowMs, (askedMs) => {
      const found = new Map<string, Held | CryptoError>()
      const missing: Array<string> = []
      for (const id of ids) {
        const held = peek(this.byId, id, askedMs)
        if (held === undefined) missing.push(id)
        else found.set(id, held)
      }
      return missing.length === 0
        ? Effect.succeed(finder(found))
        : Effect.map(this.fetch(missing, askedMs, found), () => finder(found))
    })
  }

  /** The key that seals what is the subject's: made if it never had one. `SubjectShredded` if it was destroyed. */
  of(subject: Subject, place: () => string): Effect.Effect<Key, StoreFailure> {
    const name = subjectName(subject)
    return Effect.flatMap(nowMs, (askedMs) => {
      const held = peek(this.bySubject, name, askedMs)
      if (held !== undefined) return sealingKey(held, place)
      const { age } = this
      const ref = refOf(subject)
      return this.port.find("ref", [ref]).pipe(
        Effect.flatMap(([row]) => (row === undefined ? this.create(ref) : this.resolve(row))),
        Effect.flatMap(({ key, keyId }) => {
          const held = { ref, keyId, key, untilMs: askedMs + this.lifetimeMs }
          if (age === this.age) keep(this.bySubject, name, held)
          return sealingKey(held, place)
        })
      )
    })
  }

  /** What is kept of these subjects: a key or a tombstone each, or nothing. */
  stored(refs: ReadonlyArray<string>): Effect.Effect<ReadonlyArray<EncodedSubjectKey>, ReadFailure> {
    return this.port.find("ref", refs)
  }

  /** Destroys the key, here at once and in every other process within the lifetime. */
  destroy({ at, keyId, ref }: LedgerEntry): Effect.Effect<EncodedSubjectKey, StoreFailure> {
    const forget = Effect.sync(() => {
      this.age++
      for (const held of [this.byId, this.bySubject])
        for (const [name, key] of held) if (key.ref === ref) held.delete(name)
    })
    return Effect.ensuring(this.port.shred({ ref, keyId, shreddedAt: at }), forget)
  }

  /**
   * 1. Wraps a new key under the ring's primary.
   * 2. Keeps it unless another process was faster; then that one's key is the key.
   */
  private create(
    ref: string
  ): Effect.Effect<{ readonly key: Key | null; readonly keyId: string | null }, StoreFailure> {
    return Effect.flatMap(Effect.all([this.ring.primary, Clock.currentTimeMillis]), ([primary, createdAt]) => {
      const bytes = nonces.fresh(keyBytes)
      const keyId = nonces.fresh(keyIdBytes).toString("hex")
      const wrapped = this.wrap(primary, ref, keyId, bytes)
      const key = makeKey(keyId, bytes)
      bytes.fill(0)
      return Effect.flatMap(
        this.port.create({ ref, keyId, wrapped, wrappedBy: primary.id, createdAt, shreddedAt: null }),
        (kept) => (kept.wrapped === wrapped ? Effect.succeed({ key, keyId }) : this.resolve(kept))
      )
    })
  }

  /** Never makes another key where one does not unwrap. */
  private resolve(
    row: EncodedSubjectKey
  ): Effect.Effect<{ readonly key: Key | null; readonly keyId: string | null }, CryptoError> {
    const { keyId, wrappedBy } = row
    if (row.wrapped === null) return Effect.succeed({ key: null, keyId })
    return Effect.flatMap(this.ring.finding(new Set(wrappedBy === null ? [] : [wrappedBy])), (find) => {
      const key = this.unwrap(row, find)
      return isError(key) ? Effect.fail(key) : Effect.succeed({ key, keyId })
    })
  }

  private fetch(
    ids: ReadonlyArray<string>,
    askedMs: number,
    found: Map<string, Held | CryptoError>
  ): Effect.Effect<void> {
    const { age } = this
    const ask = (asked: ReadonlyArray<string>): Effect.Effect<void> =>
      this.port.find("keyId", asked).pipe(
        Effect.flatMap((rows) => {
          const wrappers = new Set(rows.flatMap(({ wrappedBy }) => (wrappedBy === null ? [] : [wrappedBy])))
          return Effect.flatMap(this.ring.finding(wrappers), (find) => {
            const take = (from: number): Effect.Effect<void> => {
              for (const row of rows.slice(from, from + unwrapsUnbroken)) {
                const key = row.wrapped === null ? null : this.unwrap(row, find)
                const id = row.keyId as string
                if (key !== null && isError(key)) {
                  found.set(id, key)
                  continue
                }
                const held = { ref: row.ref, keyId: id, key, untilMs: askedMs + this.lifetimeMs }
                if (age === this.age) keep(this.byId, id, held)
                found.set(id, held)
              }
              const next = from + unwrapsUnbroken
              return next < rows.length ? Effect.flatMap(turn, () => take(next)) : Effect.void
            }
            return take(0)
          })
        }),
        Effect.catchAll((failure) =>
          Effect.sync(() => {
            for (const id of asked) found.set(id, unavailable(failure, id))
          })
        )
      )
    return Effect.forEach(chunksOf(ids), ask, { discard: true })
  }

  private context(ref: string, keyId: string): Uint8Array {
    return new ContextWriter()
      .text("kind", "subject")
      .text("store", this.storeId)
      .text("key", keyId)
      .text("subject", ref).bytes
  }

  private wrap(primary: Key, ref: string, keyId: string, bytes: Uint8Array): string {
    return envelope.seal(primary, this.context(ref, keyId), bytes).toString("base64url")
  }

  private bytesIn({ keyId, ref, wrapped, wrappedBy }: EncodedSubjectKey, find: envelope.FindKey): Buffer | CryptoError {
    const place = () => placeOf(keyId)
    if (!isSubjectId(keyId ?? "")) return new Tampered({ keyId: String(keyId), place: place() })
    const sealed = atOnce(bytesOf(wrapped as string, place))
    if (!Buffer.isBuffer(sealed)) return sealed
    const inside = envelope.keyIdOf(sealed, place)
    if (typeof inside !== "string") return inside
    if (inside !== wrappedBy) return new Tampered({ keyId: String(wrappedBy), place: place() })
    const bytes = envelope.open(find, this.context(ref, keyId as string), sealed, place)
    return Buffer.isBuffer(bytes) && bytes.length !== keyBytes ? new Truncated({ place: place() }) : bytes
  }

  private unwrap(row: EncodedSubjectKey, find: envelope.FindKey): Key | CryptoError {
    const bytes = this.bytesIn(row, find)
    if (!Buffer.isBuffer(bytes)) return bytes
    const key = makeKey(row.keyId as string, bytes)
    bytes.fill(0)
    return key
  }

  /** A rotation wraps each key anew; what it has sealed stays as it is. */
  upkeep(seals: boolean): Upkeep {
    const opened = (row: EncodedSubjectKey): Effect.Effect<Buffer, CryptoError> =>
      Effect.flatMap(this.ring.finding(new Set(row.wrappedBy === null ? [] : [row.wrappedBy])), (find) => {
        const bytes = this.bytesIn(row, find)
        return isError(bytes) ? Effect.fail(bytes) : Effect.succeed(bytes)
      })
    const rewrapped = (row: EncodedSubjectKey): Effect.Effect<Resealed, StoreFailure> =>
      Effect.flatMap(Effect.all([this.ring.primary, opened(row)]), ([primary, bytes]) => {
        const was = row.wrapped as string
        const wrapped = this.wrap(primary, row.ref, row.keyId as string, bytes)
        // Before it is in the place of the only other copy.
        const again = this.bytesIn(
          { ...row, wrapped, wrappedBy: primary.id },
          envelope.findIn(new Map([[primary.id, primary]]))
        )
        if (isError(again)) return Effect.fail(again)
        const isSame = again.equals(bytes)
        bytes.fill(0)
        again.fill(0)
        if (!isSame) return Effect.fail(new Tampered({ keyId: primary.id, place: placeOf(row.keyId) }))
        return Effect.map(
          this.port.rewrap({ ref: row.ref, was, wrapped, wrappedBy: primary.id }),
          (done): Resealed => (done ? "Resealed" : "Changed")
        )
      })
    return {
      store: "SubjectKeys",
      ring: this.ring,
      seals,
      subjects: undefined,
      total: this.port.count,
      records: () =>
        pagedStream(this.port.all).pipe(
          Stream.filter(({ wrapped }) => wrapped !== null),
          Stream.map(
            (row): StoredRecord => ({
              place: placeOf(row.keyId),
              keyIds: [row.wrappedBy],
              open: Effect.asVoid(opened(row)),
              subject: Effect.succeed(undefined),
              reseal: rewrapped(row)
            })
          )
        )
    }
  }
}

/** Of a clock that never goes back, whatever is done to the time of day. */
const nowMs: Effect.Effect<number> = Effect.map(Clock.currentTimeNanos, (nanos) => Number(nanos / 1_000_000n))

const placeOf = (keyId: string | null): string => `the key ${keyId} of a subject`

const peek = (held: Map<string, Held>, name: string, nowMs: number): Held | undefined => {
  const found = held.get(name)
  if (found === undefined || nowMs < found.untilMs) return found
  held.delete(name)
  return undefined
}

const keep = (all: Map<string, Held>, name: string, held: Held): void => {
  all.delete(name)
  all.set(name, held)
  if (all.size > heldMax) all.delete(all.keys().next().value as string)
}

const sealingKey = ({ key }: Held, place: () => string): Effect.Effect<Key, SubjectShredded> =>
  key === null ? Effect.fail(new SubjectShredded({ place: place() })) : Effect.succeed(key)

const finder =
  (found: ReadonlyMap<string, Held | CryptoError>): envelope.FindKey =>
  (keyId, place) => {
    const held = found.get(keyId)
    if (held === undefined) return new UnknownKeyId({ keyId, place: place() })
    if (isError(held)) return held
    return held.key ?? new Shredded({ keyId, place: place() })
  }

const chunksOf = (ids: ReadonlyArray<string>): ReadonlyArray<ReadonlyArray<string>> =>
  Array.from({ length: Math.ceil(ids.length / asksAtOnce) }, (_, i) => ids.slice(i * asksAtOnce, (i + 1) * asksAtOnce))

const unavailable = (failure: ReadFailure, keyId: string): CryptoError =>
  isBackends(failure)
    ? new KeyProviderError({
        operation: "look up",
        reason: failure.retryable ? "unavailable" : "denied",
        detail: `${placeOf(keyId)}: ${failure.message}`
      })
    : failure

const isBackends = (
  failure: ReadFailure
): failure is Extract<ReadFailure, { _tag: "PoolTimeout" | "StoreUnavailable" | "StoreError" }> =>
  isStoreFailure(failure) && ["PoolTimeout", "StoreUnavailable", "StoreError"].includes(failure._tag)
