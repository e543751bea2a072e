/**
 * Subjects that can be forgotten, such as the persons whose data an application holds. What is a subject's is sealed
 * with a key of its own, in all stores; when that key is destroyed, nobody reads it any more, wherever it is: in the
 * stores, in caches, in their backups. What this takes, and what it does not reach, is in docs/encryption.md.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Schema from "effect/Schema"
import type { KeyCheckFailed } from "./CryptoError.js"
import { CryptoService } from "./CryptoService.js"
import { SubjectKeys } from "./crypto/SubjectKeysEncoded.js"
import * as ledger from "./crypto/subjects/ledger.js"
import * as replacements from "./crypto/subjects/replacements.js"
import { refOf, type Subject, subjectOf } from "./crypto/subjects/rules.js"
import * as programs from "./crypto/subjects/shred.js"
import type { RecordFailure } from "./crypto/upkeep.js"
import type { InvalidInput, StoreFailure } from "./Errors.js"
import type { JsonObject } from "./Json.js"

export { SubjectKeys } from "./crypto/SubjectKeysEncoded.js"
export { type LedgerEntry, ShredLedger, type ShredLedgerShape } from "./crypto/subjects/ledger.js"
export type { Replacement, ReplacementOptions, ReplacementsOptions } from "./crypto/subjects/replacements.js"
export type {
  CacheRecord,
  CommandRecord,
  EventRecord,
  ObjectRecord,
  RuleOptions,
  SnapshotRecord,
  Subject
} from "./crypto/subjects/rules.js"
export type { Options, Shredding, ShredOptions, Unreached } from "./crypto/subjects/shred.js"

/**
 * Gives a CryptoService rules whose a record is, and the keys of subjects. Every store that is sealed with it seals
 * what is a subject's with the subject's key from then on, and everything else with the ring. Keys of subjects are
 * wrapped with the ring's primary key.
 *
 * When the layer is built, the ring's keys are held against what the store of keys has kept of them (`KeyCheckFailed`),
 * and whatever the ledger says was forgotten is destroyed again, in case a backup has brought it back.
 *
 * @example
 * ```ts
 * import { Config, Layer } from "effect"
 * import { CryptoService, Subjects } from "effect-stores"
 * import { EventStoreSqlite, SubjectKeysSqlite } from "effect-stores/sqlite"
 *
 * const keys = CryptoService.layerConfig(Config.nested(CryptoService.config, "ENCRYPTION")).pipe(
 *   Subjects.withRules({ domains: ["Customer"] }),
 *   Layer.provide(SubjectKeysSqlite.layer({ filename: "keys/subjects.db" })),
 *   Layer.provideMerge(Subjects.layerLedgerFile("ledger/forgotten.jsonl"))
 * )
 *
 * const stores = EventStoreSqlite.layer({ filename: "events.db" }).pipe(CryptoService.seal, Layer.provideMerge(keys))
 * ```
 *
 * @since 0.1.0
 * @category layers
 */
export const withRules =
  (options: programs.Options) =>
  <E, R>(
    layer: Layer.Layer<CryptoService, E, R>
  ): Layer.Layer<
    CryptoService,
    E | InvalidInput | StoreFailure | KeyCheckFailed,
    R | SubjectKeys | ledger.ShredLedger
  > =>
    Layer.provide(
      Layer.effect(
        CryptoService,
        Effect.flatMap(Effect.all([CryptoService, SubjectKeys, ledger.ShredLedger]), ([cipher, keys, ledger]) =>
          programs.withSubjects(cipher, keys, ledger, options)
        )
      ),
      layer
    )

/**
 * Destroys the key of a subject, for ever. In this process nothing that it has sealed is read any more from then on, in
 * all others within the time that the result names. Reading gives `Shredded`, or the declared replacement; a cached
 * value is absent, and writing for the subject fails with `SubjectShredded`. What others write meanwhile is unreadable
 * as well. A subject that never had a key never will.
 *
 * The ledger is written first: if the process dies in between, or this fails, it has what was asked for, and the next
 * start, `replay`, or the same call again completes it. With `stores`, the result says what of the subject is left that
 * its key has not sealed.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { EventStore, Subjects } from "effect-stores"
 *
 * const forget = Effect.gen(function* () {
 *   const stores = [yield* EventStore.EventStore]
 *   const { unreached } = yield* Subjects.shred({ tenantId: "acme", id: "c-7" }, { stores })
 *   for (const { place, store } of unreached) yield* Effect.logError(`${store}: ${place} is still there`)
 * })
 * ```
 *
 * @since 0.1.0
 * @category forgetting
 */
export const shred = (
  subject: Subject,
  options?: programs.ShredOptions
): Effect.Effect<programs.Shredding, RecordFailure, CryptoService | ledger.ShredLedger> =>
  Effect.flatMap(Effect.all([CryptoService, ledger.ShredLedger]), ([cipher, ledger]) =>
    programs.shred(cipher, ledger, subject, options)
  )

/**
 * Destroys again what the ledger says was forgotten, and gives how many subjects were back: after a restore of the
 * store of keys while processes run. Each start does the same.
 *
 * @since 0.1.0
 * @category forgetting
 */
export const replay: Effect.Effect<number, StoreFailure | InvalidInput, CryptoService | ledger.ShredLedger> =
  Effect.flatMap(Effect.all([CryptoService, ledger.ShredLedger]), ([{ subjects }, ledger]) =>
    Effect.flatMap(programs.subjectsIn(subjects), ({ keys }) => programs.replay(keys, ledger))
  )

/**
 * What readers get in the place of an event or a command that was forgotten: a value of its Schema, the one that typed
 * readers and aggregates decode it with. Checked when the layer is built, by encoding and decoding it. Its metadata say
 * that it was replaced (`isReplaced`); all that is in clear is as it was.
 *
 * @example
 * ```ts
 * import { Schema } from "effect"
 * import { Subjects } from "effect-stores"
 *
 * const Registered = Schema.TaggedStruct("Registered", { name: Schema.String, country: Schema.String })
 *
 * const rules: Subjects.Options = {
 *   domains: ["Customer"],
 *   replacements: {
 *     events: [Subjects.replacement(Registered, { _tag: "Registered", name: "forgotten", country: "??" })]
 *   }
 * }
 * ```
 *
 * @since 0.1.0
 * @category replacements
 */
export const replacement: <
  A extends { readonly _tag: string },
  I extends { readonly _tag: string },
  O = never,
  OI = never
>(
  schema: Schema.Schema<A, I>,
  value: NoInfer<A>,
  options?: replacements.ReplacementOptions<O, OI>
) => replacements.Replacement = replacements.replacement

/**
 * Whether an event or a command is a replacement for what was forgotten.
 *
 * @since 0.1.0
 * @category replacements
 */
export const isReplaced: (record: { readonly metadata: JsonObject }) => boolean = replacements.isReplaced

/**
 * What a subject is kept under in the store of keys and in the ledger: for those who look for it there. 64 hexadecimal
 * digits. Throws `InvalidInput` for what is no subject.
 *
 * @since 0.1.0
 * @category models
 */
export const reference = (subject: Subject): string => refOf(subjectOf(subject, "subject"))

/**
 * A ledger in a file, one line of JSON for each entry, synced before a key is destroyed. Only its owner may read it.
 * Several processes of a machine may write to it; for several machines it belongs on a volume that they share, or
 * implement `ShredLedger` over what you have. Keep it apart from the databases and from their backups.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerLedgerFile: (file: string) => Layer.Layer<ledger.ShredLedger, InvalidInput> = ledger.layerFile

/**
 * A ledger that ends with the layer: for tests.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerLedgerMemory = (): Layer.Layer<ledger.ShredLedger> =>
  Layer.effect(ledger.ShredLedger, ledger.makeMemory)
