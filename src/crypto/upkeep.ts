/**
 * What is stored in a sealed store, as those see it who work on all of it: record by record, each with the keys that it
 * needs, to be opened, or sealed anew. The seal of each port gives one; `reencrypt` walks through it.
 */
import * as Effect from "effect/Effect"
import type * as Stream from "effect/Stream"
import { type CryptoError, Tampered } from "../CryptoError.js"
import type { BodyError } from "../DataStore.js"
import { type InvalidInput, StoreError, type StoreFailure } from "../Errors.js"
import type { SnapshotCorrupt } from "../SnapshotStore.js"
import { type FindKey, findIn } from "./formats/envelope.js"
import { inTurns, type Steps } from "./formats/steps.js"
import { isSubjectId, type Key } from "./keys/key.js"
import type { KeyRing } from "./keys/ring.js"
import { askedOf, type Cipher, openedInTurns, type SubjectOf, type Subjects, sealingKeyFor, seals } from "./sealer.js"
import type { Rules, Subject } from "./subjects/rules.js"

/**
 * @since 0.1.0
 * @category models
 */
export type SealedStore = "EventStore" | "CommandStore" | "SnapshotStore" | "CacheStore" | "DataStore" | "SubjectKeys"

/**
 * Why a record could not be read or sealed anew.
 *
 * @since 0.1.0
 * @category errors
 */
export type RecordFailure = StoreFailure | BodyError | SnapshotCorrupt | InvalidInput

/**
 * - `Current`: it has the key that it is to have.
 * - `Changed`: somebody else has changed it.
 * - `Gone`: it is not there any more, or is served to nobody any more.
 * - `Unguarded`: the backend could not tell whether somebody has changed it.
 */
export type Resealed = "Resealed" | "Current" | "Changed" | "Unguarded" | "Gone"

export interface WalkOptions {
  /** Objects: bodies are looked into, and encrypted anew, not only their key headers. */
  readonly deep: boolean
  /** Objects: nobody else writes any, so one may be replaced without a condition. */
  readonly exclusive: boolean
}

export interface StoredRecord {
  readonly place: string
  /** Null: some of it is plain. Empty: it is damaged. */
  readonly keyIds: ReadonlyArray<string | null>
  readonly open: Effect.Effect<void, RecordFailure>
  /** Whose it is, by the rules; opens it to ask. */
  readonly subject: Effect.Effect<Subject | undefined, RecordFailure>
  /** Seals it with the key that it is to have, opens that, and puts it in the place of what it was. */
  readonly reseal: Effect.Effect<Resealed, RecordFailure>
}

export interface Upkeep {
  readonly store: SealedStore
  readonly ring: KeyRing
  /** By the policy. */
  readonly seals: boolean
  readonly subjects: Subjects | undefined
  /** How many records there are, about. */
  readonly total: Effect.Effect<number, RecordFailure>
  /** All of them: one that is there all the while comes at least once. */
  readonly records: (options: WalkOptions) => Stream.Stream<StoredRecord, RecordFailure>
}

export const upkeepOf = (cipher: Cipher, parts: Omit<Upkeep, "ring" | "seals" | "subjects">): Upkeep => ({
  ...parts,
  ring: cipher.ring,
  seals: seals(cipher),
  subjects: cipher.subjects
})

/** Whose what was opened is, by the rules. */
export const subjectIn = (
  { subjects }: Cipher,
  subjectOf: SubjectOf,
  place: string
): Effect.Effect<Subject | undefined, StoreError> => {
  const subject = subjects === undefined ? undefined : askedOf(subjects.rules, subjectOf, () => place)
  return subject instanceof StoreError ? Effect.fail(subject) : Effect.succeed(subject)
}

/** What a store does with a row of its own. */
export interface RowCodec<Row> {
  readonly keyIds: (row: Row) => ReadonlyArray<string | null>
  readonly open: (row: Row, find: FindKey) => Steps<Row | CryptoError>
  readonly seal: (key: Key, opened: Row) => Steps<Row>
  readonly subjectOf: (rules: Rules, opened: Row) => Subject | undefined
  /** What is sealed of it. */
  readonly payloads: (row: Row) => ReadonlyArray<string | null>
  /** Compare-and-set of the stored row. */
  readonly replace: (was: Row, now: Row) => Effect.Effect<boolean, StoreFailure>
}

/** The record of a row, which may be loaded when it is asked for only; null when it is gone. */
export const rowRecord = <Row extends object>(
  cipher: Cipher,
  { keyIds, open, payloads, replace, seal, subjectOf }: RowCodec<Row>,
  place: string,
  ids: ReadonlyArray<string | null>,
  load: Effect.Effect<Row | null, RecordFailure>
): StoredRecord => {
  const opened = (row: Row): Effect.Effect<Row, CryptoError> =>
    Effect.flatMap(cipher.ring.finding(new Set(keyIds(row).filter((id) => id !== null))), (find) =>
      openedInTurns(() => open(row, find))
    )
  return {
    place,
    keyIds: ids,
    open: Effect.flatMap(load, (row) => (row === null ? Effect.void : opened(row))),
    subject: Effect.flatMap(load, (row) =>
      row === null
        ? Effect.succeed(undefined)
        : Effect.flatMap(opened(row), (plain) => subjectIn(cipher, (rules) => subjectOf(rules, plain), place))
    ),
    reseal: Effect.flatMap(load, (row) => {
      if (row === null) return Effect.succeed<Resealed>("Gone")
      const ids = keyIds(row)
      const withKey = Effect.flatMap(opened(row), (plain) =>
        Effect.map(
          sealingKeyFor(
            cipher,
            ids.find((id) => id !== null && isSubjectId(id)) ?? null,
            (rules) => subjectOf(rules, plain),
            () => place
          ),
          (key) => [key, plain] as const
        )
      )
      return Effect.flatMap(withKey, ([key, plain]) => {
        if (ids.every((id) => id === key.id)) return Effect.succeed<Resealed>("Current")
        const sealed = inTurns(() => seal(key, plain))
        const expected = payloads(plain)
        return Effect.flatMap(sealed, (sealed) =>
          Effect.flatMap(
            openedInTurns(() => open(sealed, findIn(new Map([[key.id, key]])))),
            (again): Effect.Effect<Resealed, RecordFailure> =>
              // Before it is in the place of the only other copy.
              payloads(again).some((text, i) => text !== expected[i])
                ? Effect.fail(new Tampered({ keyId: key.id, place: `${place}, as it was just sealed,` }))
                : Effect.map(replace(row, sealed), (done) => (done ? "Resealed" : "Changed"))
          )
        )
      })
    })
  }
}
