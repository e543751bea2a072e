/**
 * The programs of forgetting: rules and keys added to a CryptoService, a subject's key destroyed, and the ledger
 * replayed.
 */
import * as Chunk from "effect/Chunk"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import type { CryptoError, KeyCheckFailed } from "../../CryptoError.js"
import type { ObjectCorrupt } from "../../DataStore.js"
import { InvalidInput, type StoreFailure } from "../../Errors.js"
import { durationMs } from "../../internal/durations.js"
import { checked, options as optionsOf, refuse } from "../../internal/validate.js"
import type { SnapshotCorrupt } from "../../SnapshotStore.js"
import { isSubjectId } from "../keys/key.js"
import { outcomeOf, type SealedService, storesOf, type Unopened } from "../reencrypt.js"
import type { Encoded } from "../SubjectKeysEncoded.js"
import { type Cipher, prepare, type Subjects } from "../sealer.js"
import type { RecordFailure, SealedStore, StoredRecord, Upkeep } from "../upkeep.js"
import { HeldKeys } from "./keys.js"
import type { LedgerEntry, ShredLedgerShape } from "./ledger.js"
import { type ReplacementsOptions, replacementsOf } from "./replacements.js"
import { type RuleOptions, refOf, ruleKeys, rulesOf, type Subject, subjectOf } from "./rules.js"

/**
 * @since 0.1.0
 * @category models
 */
export interface Options extends RuleOptions {
  /** What readers get in the place of what was forgotten. Default: `Shredded`. */
  readonly replacements?: ReplacementsOptions | undefined
  /**
   * How long a process keeps a subject's key in memory before it asks again: within that time after `shred` nobody
   * reads anything of the subject any more. Default 5 seconds, at most 1 hour. The first process that uses the store of
   * keys fixes it, and none may have a longer one. A short one asks that store more often.
   */
  readonly lifetime?: Duration.DurationInput | undefined
}

const lifetimeDefaultMs = 5_000
const lifetimeMaxMs = 3_600_000

const lifetimeOf = (value: unknown): number => {
  if (value === undefined) return lifetimeDefaultMs
  const ms = durationMs(value, "lifetime")
  return ms >= 1 && ms <= lifetimeMaxMs ? ms : refuse("lifetime", "must be from 1 ms to 1 hour")
}

/**
 * 1. Checks rules, replacements and lifetime.
 * 2. Holds the ring's keys against their check values, as for a store that is sealed.
 * 3. Destroys again what the ledger says was forgotten and a backup has brought back.
 */
export const withSubjects = <C extends Cipher>(
  cipher: C,
  port: Encoded,
  ledger: ShredLedgerShape,
  options: Options
): Effect.Effect<C, InvalidInput | StoreFailure | KeyCheckFailed> =>
  Effect.gen(function* () {
    if (cipher.subjects !== undefined)
      return yield* new InvalidInput({ what: "rules", why: "were given to this CryptoService already" })
    const given = yield* checked(() => {
      optionsOf(options, "options", [...ruleKeys, "replacements", "lifetime"])
      const { lifetime, replacements: _, ...rules } = options
      return { lifetimeMs: lifetimeOf(lifetime), rules: rulesOf(rules) }
    }, Effect.succeed)
    const replacements = yield* replacementsOf(options.replacements)
    const storeId = yield* prepare(cipher, "SubjectKeys", port.note)
    const agreedMs = Number(yield* port.note("lifetime", String(given.lifetimeMs)))
    if (given.lifetimeMs > agreedMs)
      return yield* new InvalidInput({
        what: "lifetime",
        why: `must be at most ${agreedMs} ms: that is what the store of keys was first used with`
      })
    const { ring } = cipher
    const keys = new HeldKeys(port, ring, storeId, given.lifetimeMs, agreedMs)
    yield* replay(keys, ledger)
    return {
      ...cipher,
      ring: {
        ...ring,
        finding: (ids) => {
          const ofSubjects = [...ids].filter(isSubjectId)
          return ofSubjects.length === 0
            ? ring.finding(ids)
            : Effect.zipWith(
                ring.finding(ids),
                keys.finding(ofSubjects),
                (ofRing, ofSubject) => (id, place) => (isSubjectId(id) ? ofSubject : ofRing)(id, place)
              )
        }
      },
      subjects: { rules: given.rules, keys, replacements }
    }
  })

/** Entries of the ledger that are looked up in one statement. */
const entriesAtOnce = 500

/** Destroys what the ledger has and the store of keys does not know as destroyed. Gives how many those were. */
export const replay = (keys: HeldKeys, ledger: ShredLedgerShape): Effect.Effect<number, StoreFailure> =>
  Stream.grouped(ledger.entries, entriesAtOnce).pipe(
    Stream.mapEffect((entries) => replaySome(keys, Chunk.toReadonlyArray(entries))),
    Stream.runFold(0, (all, some) => all + some),
    Effect.tap((count) =>
      count === 0
        ? Effect.void
        : Effect.logWarning(`${count} subjects that had been forgotten were back, and are forgotten again`)
    )
  )

const replaySome = (keys: HeldKeys, entries: ReadonlyArray<LedgerEntry>): Effect.Effect<number, StoreFailure> =>
  Effect.flatMap(keys.stored(entries.map(({ ref }) => ref)), (rows) => {
    const destroyed = new Set(rows.flatMap(({ ref, shreddedAt }) => (shreddedAt === null ? [] : [ref])))
    const back = new Map(entries.filter(({ ref }) => !destroyed.has(ref)).map((entry) => [entry.ref, entry]))
    return Effect.as(
      Effect.forEach(back.values(), (entry) => keys.destroy(entry), { discard: true }),
      back.size
    )
  })

/**
 * @since 0.1.0
 * @category models
 */
export interface ShredOptions {
  /**
   * Stores to look through for records of the subject that its key has not sealed, and so were not reached: written
   * before there were rules, or by a process without them. All their records under keys of the ring are opened.
   */
  readonly stores?: ReadonlyArray<SealedService> | undefined
}

/**
 * A record that is the subject's, by the rules, and that anybody with the ring can still read; or that did not open
 * (`error`), so that it could not be told whose it is.
 *
 * @since 0.1.0
 * @category models
 */
export interface Unreached {
  readonly store: SealedStore
  readonly place: string
  readonly keyIds: ReadonlyArray<string | null>
  readonly error: CryptoError | SnapshotCorrupt | ObjectCorrupt | undefined
}

/**
 * @since 0.1.0
 * @category models
 */
export interface Shredding {
  /** The key that was destroyed, now or before. None: the subject never had one, and never will. */
  readonly keyId: string | undefined
  /** When it was destroyed first. */
  readonly shreddedAt: DateTime.Utc
  /** In this process nothing of the subject is read any more; in all others within this time. */
  readonly within: Duration.Duration
  /** What was not reached in `stores`. */
  readonly unreached: ReadonlyArray<Unreached>
}

/**
 * 1. Asks which key the subject has.
 * 2. Writes that into the ledger.
 * 3. Puts the tombstone in the place of the key. Steps 2 and 3 are not interrupted in between.
 * 4. If the subject got its key between 1 and 3, the ledger is told which.
 * 5. Looks through the stores for what was not reached.
 */
export const shred = (
  { subjects }: Cipher,
  ledger: ShredLedgerShape,
  subject: Subject,
  options: ShredOptions | undefined
): Effect.Effect<Shredding, RecordFailure> =>
  Effect.gen(function* () {
    const { keys } = yield* subjectsIn(subjects)
    const { name, stores } = yield* checked(() => {
      const { stores } = optionsOf(options, "options", ["stores"])
      return { name: subjectOf(subject, "subject"), stores }
    }, Effect.succeed)
    const upkeeps = stores === undefined ? [] : yield* storesOf(options?.stores ?? [])
    const ref = refOf(name)
    const at = (yield* DateTime.now).epochMillis
    const [known] = yield* keys.stored([ref])
    const keyId = known?.keyId ?? null
    const buried = yield* Effect.uninterruptible(
      Effect.gen(function* () {
        yield* ledger.append({ ref, keyId, at })
        const buried = yield* keys.destroy({ ref, keyId, at })
        if (buried.keyId !== keyId) yield* ledger.append({ ref, keyId: buried.keyId, at })
        return buried
      })
    )
    const unreached = yield* Effect.forEach(upkeeps, (upkeep) => unreachedIn(upkeep, name))
    return {
      keyId: buried.keyId ?? undefined,
      shreddedAt: DateTime.unsafeMake(buried.shreddedAt ?? at),
      within: Duration.millis(keys.agreedMs),
      unreached: unreached.flat()
    }
  })

export const subjectsIn = (subjects: Subjects | undefined): Effect.Effect<Subjects, InvalidInput> =>
  subjects === undefined
    ? Effect.fail(new InvalidInput({ what: "CryptoService", why: "has no subjects: give it rules with withRules" }))
    : Effect.succeed(subjects)

const unreachedIn = (
  { records, store }: Upkeep,
  subject: Subject
): Effect.Effect<ReadonlyArray<Unreached>, RecordFailure> =>
  records({ deep: false, exclusive: false }).pipe(
    Stream.filter(({ keyIds }) => keyIds.length === 0 || !keyIds.every((id) => id !== null && isSubjectId(id))),
    Stream.mapEffect((record) =>
      Effect.map(outcomeOf(store, record, record.subject), (whose) => unreachedOf(store, record, whose, subject))
    ),
    Stream.filter((found) => found !== undefined),
    Stream.runCollect,
    Effect.map(Chunk.toReadonlyArray)
  )

const unreachedOf = (
  store: SealedStore,
  { keyIds, place }: StoredRecord,
  whose: Subject | Unopened | undefined,
  subject: Subject
): Unreached | undefined => {
  if (whose === undefined) return undefined
  if ("_tag" in whose) return { store, place, keyIds, error: whose.error }
  return whose.tenantId === subject.tenantId && whose.id === subject.id
    ? { store, place, keyIds, error: undefined }
    : undefined
}
