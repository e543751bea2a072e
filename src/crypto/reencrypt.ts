/**
 * Programs over all that is stored in sealed stores: sealing anew what is not under the primary key, and looking for
 * what does not open. What has been done is seen in what is stored, so they keep no state of their own: whoever was
 * stopped begins again, and goes on with what is left.
 */
import * as Chunk from "effect/Chunk"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import type { CacheStoreShape } from "../CacheStore.js"
import type { CommandStoreShape } from "../CommandStore.js"
import type { CryptoError } from "../CryptoError.js"
import type { DataStoreShape, ObjectCorrupt } from "../DataStore.js"
import { InvalidInput, ReadOnly } from "../Errors.js"
import type { EventStoreShape } from "../EventStore.js"
import { turn } from "../internal/fibers.js"
import { partsOf, upkeepIn } from "../internal/lifted.js"
import { array, checked, describe, integer, options as optionsOf, refuse } from "../internal/validate.js"
import type { SnapshotCorrupt, SnapshotStoreShape } from "../SnapshotStore.js"
import { isSubjectId } from "./keys/key.js"
import type { RecordFailure, Resealed, SealedStore, StoredRecord, Upkeep, WalkOptions } from "./upkeep.js"

/**
 * A sealed store: what a tag gives in an application whose layer is sealed.
 *
 * @since 0.1.0
 * @category models
 */
export type SealedService = EventStoreShape | CommandStoreShape | SnapshotStoreShape | CacheStoreShape | DataStoreShape

/**
 * @since 0.1.0
 * @category models
 */
export interface SurveyOptions {
  /** Bodies of objects are read as well, to their end. Default false: only what stands beside them. */
  readonly deep?: boolean | undefined
}

/**
 * @since 0.1.0
 * @category models
 */
export interface ReencryptOptions {
  /** Records that are sealed anew at the same time. Default 4. */
  readonly concurrency?: number | undefined
  /** Records that are sealed anew in a second, at most. Default: no bound. */
  readonly perSecond?: number | undefined
  /** Encrypt bodies of objects anew too, where they are not under the primary key. Default: their keys only. */
  readonly deep?: boolean | undefined
  /**
   * Nobody else writes objects meanwhile. Then objects are sealed anew also where a backend cannot replace one on the
   * condition that it is still the same: on files, and on an S3 server without `putIfMatch`. Else those are `left`.
   * Default false.
   */
  readonly exclusive?: boolean | undefined
}

/**
 * How far a re-encryption is; the last one tells how it ended. A record is an event, a command, a snapshot, a cached
 * entry or an object.
 *
 * @since 0.1.0
 * @category models
 */
export interface Progress {
  readonly _tag: "Progress"
  /** Which store it is at. */
  readonly store: SealedStore
  /** Which walk through all stores this is: another one follows when records have changed under its hands. */
  readonly walk: number
  /** Records of this walk that were looked at. */
  readonly done: number
  /** Records of this walk, about: what is written meanwhile comes to it. */
  readonly total: number
  /** Records that were sealed anew, of all walks. */
  readonly resealed: number
  /** Records of this walk that are not under the primary key: they do not open, have changed, or are not guarded. */
  readonly left: number
  /** Records looked at per second. */
  readonly perSecond: number
  /** Of this walk. None at its beginning. */
  readonly timeLeft: Option.Option<Duration.Duration>
}

/**
 * A record that does not open. It was left as it is.
 *
 * @since 0.1.0
 * @category models
 */
export interface Unopened {
  readonly _tag: "Unopened"
  readonly store: SealedStore
  readonly place: string
  /** Empty where the record is so damaged that it cannot be seen. */
  readonly keyIds: ReadonlyArray<string | null>
  readonly error: CryptoError | SnapshotCorrupt | ObjectCorrupt
}

/**
 * How many records of a store need a key; null: they are plain. A record that needs two counts for each. `*` is for
 * keys of subjects, all of them together; the keys that those are wrapped with are counted for `SubjectKeys`. Of an
 * object that is damaged it cannot be seen which it needs: it is not counted, and `findUnopened` gives it.
 *
 * @since 0.1.0
 * @category models
 */
export interface KeyCount {
  readonly store: SealedStore
  readonly keyId: string | null
  readonly records: number
}

/** What keys of subjects are counted under. No key of a ring has this id. */
const ofSubjects = "*"

/** Records between two reports. */
const batch = 256

const walksMax = 10

/** That of a record, and not of its backend: the program goes on behind it. */
export const unopened = (error: RecordFailure): Unopened["error"] | undefined => {
  switch (error._tag) {
    case "PoolTimeout":
    case "StoreUnavailable":
    case "CommitOutcomeUnknown":
    case "StoreError":
    case "InvalidInput":
    case "ObjectChanged":
      return undefined
    case "KeyProviderError":
      return error.retryable ? undefined : error
    default:
      return error
  }
}

/** Each store's upkeep. Fails for what is no sealed store. */
export const storesOf = (stores: ReadonlyArray<SealedService>): Effect.Effect<ReadonlyArray<Upkeep>, InvalidInput> =>
  checked(
    () =>
      array(stores, "stores", 1, 1_000).map((store, i) => {
        const parts = typeof store === "object" && store !== null ? partsOf(store) : undefined
        const upkeep = parts === undefined ? undefined : upkeepIn(parts.encoded)
        return upkeep === undefined
          ? refuse(`stores[${i}]`, `is no store that was sealed: ${describe(store)}`)
          : (upkeep as Upkeep)
      }),
    Effect.succeed
  )

/** The same, and those of the keys of subjects that they need. */
const upkeepsOf = (stores: ReadonlyArray<SealedService>): Effect.Effect<ReadonlyArray<Upkeep>, InvalidInput> =>
  Effect.map(storesOf(stores), (upkeeps) => {
    const keys = new Map(upkeeps.flatMap(({ seals, subjects }) => (subjects ? [[subjects.keys, seals] as const] : [])))
    return [...upkeeps, ...Array.from(keys, ([keys, seals]) => keys.upkeep(seals))]
  })

const writable = (stores: ReadonlyArray<SealedService>): Effect.Effect<void, ReadOnly> =>
  stores.some((store) => partsOf(store)?.options.readOnly === true)
    ? new ReadOnly({ operation: "reencrypt" })
    : Effect.void

/** A record and what became of it: by what `use` gives, or the error that it does not open with. */
export const outcomeOf = <A>(
  store: SealedStore,
  { keyIds, place }: StoredRecord,
  use: Effect.Effect<A, RecordFailure>
): Effect.Effect<A | Unopened, RecordFailure> =>
  Effect.catchAll(use, (failure) => {
    const error = unopened(failure)
    return error === undefined
      ? Effect.fail(failure)
      : Effect.succeed<Unopened>({ _tag: "Unopened", store, place, keyIds, error })
  })

/**
 * How many records need which key, in each store: that "0 under the old key" can be asked. Looks at all records.
 */
export const countKeys = (
  stores: ReadonlyArray<SealedService>,
  surveyOptions?: SurveyOptions
): Effect.Effect<ReadonlyArray<KeyCount>, RecordFailure> =>
  Effect.flatMap(surveying(stores, surveyOptions), ({ upkeeps, walk }) =>
    Effect.map(
      Effect.forEach(upkeeps, ({ records, store }) =>
        Effect.map(
          Stream.runFold(records(walk), new Map<string | null, number>(), (counts, { keyIds }) => {
            const ids = keyIds.map((id) => (id !== null && isSubjectId(id) ? ofSubjects : id))
            for (const id of new Set(ids)) counts.set(id, (counts.get(id) ?? 0) + 1)
            return counts
          }),
          (counts) => Array.from(counts, ([keyId, records]): KeyCount => ({ store, keyId, records }))
        )
      ),
      (counts) => counts.flat()
    )
  )

/** The records that do not open, in all stores, each with its place and the reason. Looks at all records. */
export const findUnopened = (
  stores: ReadonlyArray<SealedService>,
  surveyOptions?: SurveyOptions
): Stream.Stream<Unopened, RecordFailure> =>
  Stream.unwrap(
    Effect.map(surveying(stores, surveyOptions), ({ upkeeps, walk }) =>
      Stream.flatMap(Stream.fromIterable(upkeeps), ({ records, store }) =>
        records(walk).pipe(
          Stream.mapEffect((record) => outcomeOf(store, record, Effect.as(record.open, undefined))),
          Stream.filter((found) => found !== undefined)
        )
      )
    )
  )

const surveying = (stores: ReadonlyArray<SealedService>, surveyOptions: SurveyOptions | undefined) =>
  Effect.flatMap(upkeepsOf(stores), (upkeeps) =>
    checked(
      () => flag(optionsOf(surveyOptions, "options", ["deep"]).deep, "options.deep"),
      (deep) => Effect.succeed({ upkeeps, walk: { deep, exclusive: false } })
    )
  )

const flag = (value: unknown, what: string): boolean =>
  value === undefined || typeof value === "boolean"
    ? value === true
    : refuse(what, `must be true or false, not ${describe(value)}`)

interface Settings extends WalkOptions {
  readonly concurrency: number
  readonly perSecond: number
}

const settingsOf = (value: ReencryptOptions | undefined): Settings => {
  const given = optionsOf(value, "options", ["concurrency", "perSecond", "deep", "exclusive"])
  const count = (name: "concurrency" | "perSecond", otherwise: number, max: number) =>
    given[name] === undefined ? otherwise : integer(given[name], `options.${name}`, 1, max)
  return {
    concurrency: count("concurrency", 4, 1_000),
    perSecond: count("perSecond", Number.POSITIVE_INFINITY, Number.MAX_SAFE_INTEGER),
    deep: flag(given.deep, "options.deep"),
    exclusive: flag(given.exclusive, "options.exclusive")
  }
}

/**
 * 1. Looks at every record of every store.
 * 2. One that is plain, or needs another key than the primary, is opened, sealed with the primary, opened again, and
 *    put in the place of what it was if that is still the same.
 * 3. If any was not the same any more, all this once more.
 */
export const reencrypt = (
  stores: ReadonlyArray<SealedService>,
  reencryptOptions?: ReencryptOptions
): Stream.Stream<Progress | Unopened, RecordFailure | ReadOnly> =>
  Stream.unwrap(
    Effect.gen(function* () {
      const upkeeps = yield* upkeepsOf(stores)
      const settings = yield* checked(() => settingsOf(reencryptOptions), Effect.succeed)
      yield* writable(stores)
      for (const { ring, seals, store } of upkeeps) {
        if (!seals) return yield* new InvalidInput({ what: store, why: "writes what is plain, by its policy" })
        // Without the key that seals, nothing can be done for any record.
        yield* ring.primary
      }
      return walks(upkeeps, settings, { walk: 1, resealed: 0 })
    })
  )

const walks = (
  upkeeps: ReadonlyArray<Upkeep>,
  settings: Settings,
  before: { readonly walk: number; readonly resealed: number }
): Stream.Stream<Progress | Unopened, RecordFailure> =>
  Stream.unwrap(
    Effect.gen(function* () {
      const clock = yield* Effect.clock
      const startedMs = clock.unsafeCurrentTimeMillis()
      const totals = yield* Effect.forEach(upkeeps, ({ total }) => total)
      const counted = totals.reduce((sum, total) => sum + total, 0)
      let { resealed } = before
      let done = 0
      let left = 0
      let changed = 0

      const progress = (store: SealedStore): Progress => {
        const seconds = Math.max(0.001, (clock.unsafeCurrentTimeMillis() - startedMs) / 1_000)
        const total = Math.max(counted, done)
        const perSecond = done / seconds
        const timeLeft = done === 0 ? Option.none() : Option.some(Duration.seconds((total - done) / perSecond))
        return { _tag: "Progress", store, walk: before.walk, done, total, resealed, left, perSecond, timeLeft }
      }

      /** What is done goes no faster than it may; time in which nothing was done is not made up for. */
      let freeMs = startedMs
      const paced = <A, E>(step: Effect.Effect<A, E>): Effect.Effect<A, E> =>
        Effect.suspend(() => {
          const from = { resealed, ms: Math.max(freeMs, clock.unsafeCurrentTimeMillis()) }
          return Effect.zipLeft(
            step,
            Effect.suspend(() => {
              freeMs = from.ms + ((resealed - from.resealed) / settings.perSecond) * 1_000
              return Effect.sleep(Math.max(0, freeMs - clock.unsafeCurrentTimeMillis()))
            })
          )
        })

      const walkOf = ({
        records,
        ring,
        store,
        subjects
      }: Upkeep): Stream.Stream<Progress | Unopened, RecordFailure> => {
        const primary = ring.keys.find((key) => key.primary)?.id
        // What the ring has sealed is opened to see whose it is, once there are rules.
        const isCurrent = (id: string | null) =>
          id !== null && (isSubjectId(id) || (id === primary && subjects === undefined))
        const settle = (record: StoredRecord) =>
          record.keyIds.length > 0 && record.keyIds.every(isCurrent)
            ? Effect.succeed<Resealed | Unopened>("Current")
            : Effect.zipRight(turn, outcomeOf(store, record, record.reseal))
        const settleAll = (batch: Chunk.Chunk<StoredRecord>) =>
          Effect.map(Effect.forEach(batch, settle, { concurrency: settings.concurrency }), (outcomes) => {
            done += outcomes.length
            for (const outcome of outcomes) {
              if (outcome === "Resealed") resealed++
              else if (outcome !== "Current" && outcome !== "Gone") left++
              if (outcome === "Changed") changed++
            }
            const missed = outcomes.filter((outcome) => typeof outcome === "object")
            return Chunk.fromIterable<Progress | Unopened>([...missed, progress(store)])
          })
        return Stream.grouped(records(settings), Math.max(1, Math.min(batch, Math.floor(settings.perSecond)))).pipe(
          Stream.mapEffect((batch) => paced(settleAll(batch))),
          Stream.flattenChunks
        )
      }

      const again = Stream.suspend(() =>
        changed === 0 || before.walk === walksMax
          ? Stream.empty
          : walks(upkeeps, settings, { walk: before.walk + 1, resealed })
      )
      const last = upkeeps[upkeeps.length - 1] as Upkeep
      return Stream.fromIterable(upkeeps).pipe(
        Stream.flatMap(walkOf),
        // Also where there is no record at all.
        Stream.concat(Stream.sync(() => progress(last.store))),
        Stream.concat(again)
      )
    })
  )
