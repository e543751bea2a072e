/**
 * Encryption at rest for any store. CryptoService holds the keys and the policy; a store that is sealed with it keeps
 * envelopes instead of JSON, each bound to its place, and whoever uses the store cannot tell. What is sealed, what
 * stays in clear, and the formats byte by byte are in docs/encryption.md and docs/formats.md.
 *
 * @since 0.1.0
 */
import type * as Config from "effect/Config"
import type { ConfigError } from "effect/ConfigError"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Stream from "effect/Stream"
import type { InvalidKeyLength, KeyCheckFailed } from "./CryptoError.js"
import * as provider from "./crypto/keys/provider.js"
import * as ring from "./crypto/keys/ring.js"
import * as sources from "./crypto/keys/sources.js"
import * as programs from "./crypto/reencrypt.js"
import { sealAll } from "./crypto/seal.js"
import * as service from "./crypto/service.js"
import type { RecordFailure } from "./crypto/upkeep.js"
import type { InvalidInput, ReadOnly, StoreFailure } from "./Errors.js"
import * as variables from "./internal/config.js"
import { type Keys, onlyKnown } from "./internal/storeOptions.js"

export {
  type CryptoError,
  InvalidKeyLength,
  KeyCheckFailed,
  KeyDisabled,
  KeyProviderError,
  NotEncrypted,
  Shredded,
  SubjectShredded,
  Tampered,
  Truncated,
  UnknownKeyId,
  UnsupportedFormat,
  WrongKey
} from "./CryptoError.js"
export type { KeyStatus } from "./crypto/keys/key.js"
export {
  type KeyCacheOptions,
  KeyProvider,
  type KeyProviderInfo,
  type KeyProviderShape,
  type WrappedKeyOptions,
  wrapContext
} from "./crypto/keys/provider.js"
export type { KeyInfo, KeyOptions, RingOptions } from "./crypto/keys/ring.js"
export type {
  KeyCount,
  Progress,
  ReencryptOptions,
  SealedService,
  SurveyOptions,
  Unopened
} from "./crypto/reencrypt.js"
export type { Policy } from "./crypto/sealer.js"
export type { CryptoServiceShape, PolicyOptions, WatermarkOptions } from "./crypto/service.js"
export type { RecordFailure, SealedStore } from "./crypto/upkeep.js"

/**
 * @since 0.1.0
 * @category tags
 */
export class CryptoService extends Context.Tag("effect-stores/CryptoService")<
  CryptoService,
  service.CryptoServiceShape
>() {}

/**
 * @since 0.1.0
 * @category models
 */
export interface Options extends ring.RingOptions, service.PolicyOptions {}

const policyKeys: Keys<service.PolicyOptions> = { policy: true, watermark: true, nonces: true }
const optionKeys: Keys<Options> = { ...policyKeys, keys: true, primary: true }

/**
 * From keys at hand. A key of other than 32 bytes, two keys with one id, and a primary that is none of them, or not
 * enabled, fail here.
 *
 * @example
 * ```ts
 * import { Redacted } from "effect"
 * import { CryptoService } from "effect-stores"
 *
 * const layer = CryptoService.layer({
 *   keys: [
 *     { id: "2026", key: Redacted.make("6f1c…64 hexadecimal digits…") },
 *     { id: "2025", key: Redacted.make("…"), status: "decryptOnly" }
 *   ],
 *   primary: "2026"
 * })
 * ```
 *
 * @since 0.1.0
 * @category layers
 */
export const layer = (options: Options): Layer.Layer<CryptoService, InvalidInput | InvalidKeyLength> =>
  Layer.effect(
    CryptoService,
    Effect.gen(function* () {
      const known = yield* onlyKnown(options, optionKeys)
      return yield* service.make(yield* ring.make(known), known)
    })
  )

/**
 * Options from Config: `KEYS` lists `id=key` or `id=key:status`, separated by commas or white space, each key in
 * hexadecimal or base64url; `PRIMARY` names the one that seals. Empty counts as absent. Nest it: with
 * `Config.nested(CryptoService.config, "ENCRYPTION")` the variables are `ENCRYPTION_KEYS`, `ENCRYPTION_PRIMARY` and
 * `ENCRYPTION_POLICY`. No error shows a value of `KEYS`.
 *
 * @since 0.1.0
 * @category config
 */
export const config: Config.Config<Options> = variables.checkedOptions(
  {
    keys: sources.keyList,
    primary: variables.text,
    policy: variables.oneOf(["RequireEncrypt", "EncryptAllowPlaintext", "ForbidEncryptAllowDecrypt"])
  },
  "keys",
  "primary"
)(ring.checkRing)

/**
 * @since 0.1.0
 * @category layers
 */
export const layerConfig = (
  options: Config.Config.Wrap<Options> = config
): Layer.Layer<CryptoService, InvalidInput | InvalidKeyLength | ConfigError> =>
  Layer.unwrapEffect(Effect.map(variables.read(options), layer))

/**
 * From a JSON file `{ "primary": "b", "keys": [{ "id": "b", "key": "…", "status": "enabled" }] }`. A file that others
 * than its owner may read or write is refused.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerFile = (
  path: string,
  options: service.PolicyOptions = {}
): Layer.Layer<CryptoService, InvalidInput | InvalidKeyLength> =>
  Layer.unwrapEffect(
    Effect.flatMap(onlyKnown(options, policyKeys), (known) =>
      Effect.map(sources.ringFile(path), (ring) => layer({ ...ring, ...known }))
    )
  )

/**
 * @since 0.1.0
 * @category models
 */
export interface ProviderOptions extends service.PolicyOptions {
  /** Wrapped by the provider for `wrapContext(id)`. */
  readonly keys: ReadonlyArray<provider.WrappedKeyOptions>
  readonly primary: string
  readonly cache?: provider.KeyCacheOptions | undefined
}

/**
 * From keys that a provider has wrapped, such as a key management service. A key is unwrapped when it is first needed,
 * once for all who need it at that time, and again when its lifetime in the cache has ended. A failure is not cached.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerProvider = (
  options: ProviderOptions
): Layer.Layer<CryptoService, InvalidInput, provider.KeyProvider> =>
  Layer.effect(
    CryptoService,
    Effect.gen(function* () {
      const known = yield* onlyKnown(options, { ...policyKeys, keys: true, primary: true, cache: true })
      return yield* service.make(yield* provider.makeRing(yield* provider.KeyProvider, known, known.cache), known)
    })
  )

/**
 * Seals every store that the layer gives, one or several, whatever their backend: what they store from now on are
 * envelopes. The layer gives the same services as before, and asks for CryptoService.
 *
 * When the layer is built, each key is held against the check value that the store keeps of it, and nothing is written
 * when one is another than it was (`KeyCheckFailed`). A store that is sealed already is refused, and so is a layer
 * without a store.
 *
 * An append under `any` or `streamExists` needs the version that it will have. It is asked for, or guessed from what
 * was last seen, and the append is sent again, up to 60 times, while others are faster; then it fails with
 * `StoreUnavailable`, which is retryable.
 *
 * @example
 * ```ts
 * import { Config, Layer } from "effect"
 * import { CryptoService } from "effect-stores"
 * import { EventStoreSqlite } from "effect-stores/sqlite"
 *
 * const layer = EventStoreSqlite.layer({ filename: "events.db" }).pipe(
 *   CryptoService.seal,
 *   Layer.provide(CryptoService.layerConfig(Config.nested(CryptoService.config, "ENCRYPTION")))
 * )
 * ```
 *
 * @since 0.1.0
 * @category layers
 */
export const seal = <A, E, R>(
  layer: Layer.Layer<A, E, R>
): Layer.Layer<A, E | InvalidInput | StoreFailure | KeyCheckFailed, R | CryptoService> =>
  Layer.flatMap(layer, (services) =>
    Layer.scopedContext(Effect.flatMap(CryptoService, (cipher) => sealAll(services, cipher)))
  )

/**
 * Seals anew, with the primary key, whatever in these stores needs another key or, under `EncryptAllowPlaintext`, is
 * plain: for a rotation, once all processes have the new primary, and for a migration.
 *
 * 1. Every record of every store is looked at.
 * 2. One that needs another key is opened, sealed, opened again to be sure, and put in the place of what it was if that
 *    is still the same. So nothing that others write meanwhile is lost, and they need not stop.
 * 3. If any was not the same any more, all this happens again, in up to 10 walks.
 *
 * What was done is seen in what is stored: a program that ends in the middle, by a failure or with its process, is
 * begun again and goes on with what is left. Of an object the key header is exchanged, and its body stays as it is,
 * unless `deep`. The last `Progress` has `left: 0` when nothing that was looked at needs another key any more;
 * `countKeys` asks the stores themselves. A record that does not open is given as `Unopened`, stays as it is, and stops
 * nothing. The stream fails when a backend or a provider of keys does.
 *
 * @example
 * ```ts
 * import { Console, Effect, Stream } from "effect"
 * import { CryptoService, EventStore } from "effect-stores"
 *
 * const rotate = Effect.gen(function* () {
 *   const stores = [yield* EventStore.EventStore]
 *   yield* Stream.runForEach(CryptoService.reencrypt(stores, { perSecond: 2_000 }), Console.log)
 *   return yield* CryptoService.countKeys(stores)
 * })
 * ```
 *
 * @since 0.1.0
 * @category maintenance
 */
export const reencrypt: (
  stores: ReadonlyArray<programs.SealedService>,
  options?: programs.ReencryptOptions
) => Stream.Stream<programs.Progress | programs.Unopened, RecordFailure | ReadOnly> = programs.reencrypt

/**
 * How many records of these stores need which key, and how many are plain: so that it can be asked whether nothing is
 * left under an old key. Looks at all records, opens none, and needs no key. With `deep` the header is looked at that
 * bodies of objects once began with.
 *
 * @since 0.1.0
 * @category maintenance
 */
export const countKeys: (
  stores: ReadonlyArray<programs.SealedService>,
  options?: programs.SurveyOptions
) => Effect.Effect<ReadonlyArray<programs.KeyCount>, RecordFailure> = programs.countKeys

/**
 * The records of these stores that do not open, each with its place and the reason. Opens all records; of objects what
 * stands beside the body, and with `deep` the body. Fails when a backend or a provider of keys does.
 *
 * @since 0.1.0
 * @category maintenance
 */
export const findUnopened: (
  stores: ReadonlyArray<programs.SealedService>,
  options?: programs.SurveyOptions
) => Stream.Stream<programs.Unopened, RecordFailure> = programs.findUnopened
