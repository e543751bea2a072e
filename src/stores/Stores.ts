/**
 * All five stores as one layer, each on the backend that Config names: in memory when it names none. A driver is loaded
 * only when a store was given to it. Every variable is listed in docs/configuration.md.
 *
 * @since 0.1.0
 */
import * as Config from "effect/Config"
import type { ConfigError } from "effect/ConfigError"
import type * as ConfigProvider from "effect/ConfigProvider"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import { CacheStore } from "../CacheStore.js"
import { CommandStore } from "../CommandStore.js"
import type { InvalidKeyLength, KeyCheckFailed } from "../CryptoError.js"
import * as CryptoService from "../CryptoService.js"
import { DataStore } from "../DataStore.js"
import { InvalidInput, type StoreFailure } from "../Errors.js"
import { EventStore } from "../EventStore.js"
import type { Health } from "../Health.js"
import { nameOf } from "../internal/config.js"
import { lacksKeys } from "../internal/lifted.js"
import { type Keys, onlyKnown } from "../internal/storeOptions.js"
import { checked, record, refuse } from "../internal/validate.js"
import { SnapshotStore } from "../SnapshotStore.js"
import { plans } from "./backends.js"
import { checkPools } from "./budget.js"
import { type Choices, partsOf, type Store, stores } from "./choices.js"
import { type Opener, type Plan, Session } from "./plans.js"
import { Reading } from "./reading.js"

/**
 * @since 0.1.0
 * @category models
 */
export type All = EventStore | CommandStore | SnapshotStore | CacheStore | DataStore

/**
 * Layers of the application's own. Each takes the place of the backend that Config names, and is used as it is: it is
 * not sealed when `ENCRYPTION_KEYS` is given.
 *
 * @since 0.1.0
 * @category models
 */
export interface Given<E = unknown, R = unknown> {
  readonly eventStore?: Layer.Layer<EventStore, E, R>
  readonly commandStore?: Layer.Layer<CommandStore, E, R>
  readonly snapshotStore?: Layer.Layer<SnapshotStore, E, R>
  readonly cacheStore?: Layer.Layer<CacheStore, E, R>
  readonly dataStore?: Layer.Layer<DataStore, E, R>
}

/**
 * @since 0.1.0
 * @category models
 */
export interface Options<E = unknown, R = unknown> extends Given<E, R> {
  /** Refuse an event store in memory, as `DURABLE=true` does: a variable that is missing must not lose the history. */
  readonly durable?: boolean | undefined
  /** What stands for variables that are absent or empty, each for itself: `{ EVENT_STORE: "sqlite" }`. */
  readonly defaults?: Readonly<Record<string, string>> | undefined
  /**
   * Seals the stores that Config has placed, instead of keys in `ENCRYPTION_*`: for keys of another provider, and for
   * rules whose a record is (`Subjects.withRules`). Give the same layer to whoever calls `Subjects.shred`.
   */
  readonly cryptoService?: Layer.Layer<CryptoService.CryptoService, E, R> | undefined
}

/**
 * The health of each store whose backend Config names. Stores that share a database show the same.
 *
 * @since 0.1.0
 * @category models
 */
export type HealthByStore = { readonly [S in keyof Given]?: Health }

/**
 * @since 0.1.0
 * @category tags
 */
export class StoresHealth extends Context.Tag("effect-stores/Stores/StoresHealth")<
  StoresHealth,
  Effect.Effect<HealthByStore>
>() {}

/**
 * Asks all backends at the same time, and returns within about 2 seconds.
 *
 * @since 0.1.0
 * @category getters
 */
export const health: Effect.Effect<HealthByStore, never, StoresHealth> = Effect.flatten(StoresHealth)

/**
 * @since 0.1.0
 * @category errors
 */
export type StoresError = ConfigError | InvalidInput | KeyCheckFailed | StoreFailure

const optionKeys: Keys<Options> = {
  eventStore: true,
  commandStore: true,
  snapshotStore: true,
  cacheStore: true,
  dataStore: true,
  durable: true,
  defaults: true,
  cryptoService: true
}

/**
 * - `EVENT_STORE`, `COMMAND_STORE`, `SNAPSHOT_STORE`, `CACHE_STORE` and `DATA_STORE` name the backends.
 * - `PG_URL`, `SQLITE_FILENAME`, `REDIS_URL`, `MINIO_*` and `FS_ROOT` say where they are. `SNAPSHOT_STORE_PG_URL` says
 *   it for one store, which then has `SNAPSHOT_STORE_PG_*` instead of `PG_*`; and so on.
 * - `EVENT_STORE_POOL_MAX_OPEN_CONNS` and so on bound the pool of a store. With `PG_SHARED=true` the stores on
 *   PostgreSQL share one, `PG_POOL_*`, and transactions extend to all of them; `REDIS_SHARED` means the same. Stores in
 *   one SQLite file always share it.
 * - `ENCRYPTION_KEYS` and `ENCRYPTION_PRIMARY`, or `ENCRYPTION_KEY_FILE`, seal all stores. Without them a store that
 *   takes only what is sealed fails the start.
 * - `DURABLE=true` refuses an event store in memory.
 *
 * All that is wrong with the variables, alone or between them, is one error, before anything is opened; what depends on
 * one that is wrong is not judged. A warning names those that have no effect. At start one line is logged that names
 * the backend of each store, and a warning if `EXPECTED_PROCESSES` processes like this one may open more connections
 * than a server allows.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { EventStore } from "effect-stores"
 * import { Stores } from "effect-stores/stores"
 *
 * // EVENT_STORE=pg COMMAND_STORE=pg PG_URL=postgres://localhost/app CACHE_STORE=redis REDIS_URL=redis://localhost
 * const program = Effect.flatMap(EventStore.EventStore, (store) => store.head).pipe(
 *   Effect.provide(Stores.layer({ durable: true }))
 * )
 * ```
 *
 * @since 0.1.0
 * @category layers
 */
export const layer = <E = never, R = never>(
  options: Options<E, R> = {}
): Layer.Layer<All | StoresHealth, StoresError | E, R> => {
  const given = stores.flatMap((store) => {
    const own: unknown = options?.[store]
    // Of a layer that gives more than this store nothing else takes the place of anything.
    const only = (services: Context.Context<never>) => Context.pick(tags[store])(services as Context.Context<All>)
    return Layer.isLayer(own) ? [Layer.map(own as Layer.Layer<never, E, R>, only) as Layer.Layer<never, E, R>] : []
  })
  const cipher: unknown = options?.cryptoService
  const placed: Layer.Layer<never, StoresError | E, R> = Layer.isLayer(cipher)
    ? Layer.flatMap(cipher as Layer.Layer<CryptoService.CryptoService, E, R>, (keys) =>
        chosenByConfig(options, undefined, Context.pick(CryptoService.CryptoService)(keys))
      )
    : chosenByConfig(options)
  // Merged, and not built in here, so that what they share with the rest of the application is built once.
  return given.reduce(
    (all: Layer.Layer<never, StoresError | E, R>, own) => Layer.merge(all, own),
    placed
  ) as Layer.Layer<All | StoresHealth, StoresError | E, R>
}

/**
 * The stores that were not given, and their health.
 *
 * @internal
 */
export const chosenByConfig = (
  options: Options,
  provider?: ConfigProvider.ConfigProvider,
  cipher?: Context.Context<CryptoService.CryptoService>
): Layer.Layer<never, StoresError> => {
  const context = chosen(options, cipher)
  return Layer.scopedContext(provider === undefined ? context : Effect.withConfigProvider(context, provider))
}

const chosen = (
  options: Options,
  cipher: Context.Context<CryptoService.CryptoService> | undefined
): Effect.Effect<Context.Context<never>, StoresError, Scope.Scope> =>
  Effect.gen(function* () {
    const { durable, defaults, ...given } = yield* onlyKnown(options, optionKeys)
    for (const layer of [...stores, "cryptoService"] as const) {
      if (given[layer] !== undefined && !Layer.isLayer(given[layer]))
        return yield* new InvalidInput({ what: layer, why: "must be a Layer" })
    }
    const reading = new Reading(yield* Effect.configProviderWith(Effect.succeed), yield* checkedDefaults(defaults))
    const choice = yield* partsOf(reading.one)
    const isDurable = durable === true || choice.durable
    if (isDurable && choice.eventStore === "memory" && given.eventStore === undefined) {
      reading.refuse("EVENT_STORE", mustBeDurable)
    }
    const byConfig = stores.filter((store) => given[store] === undefined)
    const plan = plans(choice)
    const openers = yield* Effect.forEach(byConfig, (store) =>
      Effect.matchEffect(plan[store]() as Plan<never>, {
        onSuccess: (config) => reading.one<Opener<never> | undefined>(config, undefined),
        onFailure: ({ what, why }) => Effect.sync(() => reading.refuse(what, why))
      })
    )
    const keys = cipher ?? (yield* keysOf(choice, reading))
    const [unknown] = reading.unknownDefaults
    if (unknown !== undefined) {
      return yield* new InvalidInput({ what: `defaults.${unknown}`, why: "is the name of no variable that is read" })
    }
    const idle = yield* reading.idle
    if (idle.length > 0) {
      const why = "they are misspelt, or of a backend that no store is on"
      yield* Effect.logWarning(`these variables have no effect: ${idle.join(", ")}; ${why}`)
    }
    yield* reading.done
    const session = new Session()
    const opened = yield* Effect.forEach(
      openers.filter((open) => open !== undefined),
      (open) => open(session)
    )
    const places = new Map(byConfig.map((store, i) => [store, opened[i]?.place]))
    if (isDurable && places.get("eventStore") === "sqlite :memory:") {
      reading.refuse("EVENT_STORE", mustBeDurable)
      yield* reading.done
    }
    yield* checkPools(session.pools, choice.expectedProcesses)

    const services = opened.reduce((all, { services }) => Context.merge(all, services), Context.empty())
    if (keys === undefined) {
      const serviceOf = (store: Store): object => services.unsafeMap.get(tags[store].key)
      const locked = yield* Effect.filter(byConfig, (store) => lacksKeys(serviceOf(store)))
      if (locked.length > 0) {
        reading.refuse("ENCRYPTION_KEYS", `must be given: only what is sealed goes to ${locked.map(nameOf).join(", ")}`)
        yield* reading.done
      }
    }
    const isSealed = keys !== undefined && opened.length > 0
    if (keys !== undefined && !isSealed)
      yield* Effect.logWarning("the keys seal nothing: all stores are layers of the application")
    const result = isSealed
      ? yield* Layer.build(
          Layer.provide(CryptoService.seal(Layer.succeedContext(services)), Layer.succeedContext(keys))
        )
      : services
    const writesPlain =
      keys !== undefined && Context.get(keys, CryptoService.CryptoService).policy === "ForbidEncryptAllowDecrypt"
    const seal = isSealed ? (writesPlain ? " (written plain)" : " (sealed)") : ""
    const described = (store: Store) =>
      places.has(store) ? `${places.get(store)}${seal}` : "by a layer of the application"
    yield* Effect.logInfo(stores.map((store) => `${nameOf(store)} ${described(store)}`).join(", "))
    const asked = new Map(byConfig.flatMap((store, i) => (opened[i] === undefined ? [] : [[store, opened[i].health]])))
    return Context.add(result, StoresHealth, healthOf(asked)) as Context.Context<never>
  })

const checkedDefaults = (defaults: unknown = {}) =>
  checked(() => {
    const given = record(defaults, "defaults")
    for (const [name, value] of Object.entries(given)) {
      if (typeof value !== "string") refuse(`defaults.${name}`, "must be text, as a variable has it")
    }
    return given as Readonly<Record<string, string>>
  }, Effect.succeed)

/** What several stores share is asked once. */
const healthOf = (asked: ReadonlyMap<Store, Effect.Effect<Health>>): Effect.Effect<HealthByStore> =>
  Effect.map(
    Effect.forEach(new Set(asked.values()), (ask) => Effect.map(ask, (health) => [ask, health] as const), {
      concurrency: "unbounded"
    }),
    (answers) => {
      const found = new Map(answers)
      return Object.fromEntries([...asked].map(([store, ask]) => [store, found.get(ask)]))
    }
  )

const mustBeDurable = "must not be memory: the stores were asked to be durable (DURABLE, or the option durable)"

const tags = {
  eventStore: EventStore,
  commandStore: CommandStore,
  snapshotStore: SnapshotStore,
  cacheStore: CacheStore,
  dataStore: DataStore
} as const

/** `undefined` when no keys are given. Half of them is refused, and names what is missing. */
const keysOf = (
  { encryption: { keyFile, keys, policy, primary } }: Choices,
  reading: Reading
): Effect.Effect<Context.Context<CryptoService.CryptoService> | undefined, never, Scope.Scope> => {
  const built = (name: string, layer: Layer.Layer<CryptoService.CryptoService, InvalidInput | InvalidKeyLength>) =>
    Effect.catchAll(Layer.build(layer), (error) =>
      Effect.sync(() => {
        // The name of a file that was mixed up may be a key.
        const isOfFile = error._tag === "InvalidInput" && error.what.startsWith("the key file")
        reading.refuse(name, isOfFile ? error.why : error.message)
        return undefined
      })
    )
  const ring = keys || primary !== undefined
  if (ring) {
    if (keyFile !== undefined) reading.refuse(keyFileName, "must not be given beside ENCRYPTION_KEYS")
    return Effect.flatMap(
      reading.one<CryptoService.Options | undefined>(Config.nested(CryptoService.config, "ENCRYPTION"), undefined),
      (options) =>
        options === undefined ? Effect.succeed(undefined) : built("ENCRYPTION_KEYS", CryptoService.layer(options))
    )
  }
  if (keyFile !== undefined && keyFile !== "") return built(keyFileName, CryptoService.layerFile(keyFile, { policy }))
  if (keyFile === undefined && policy !== undefined)
    reading.refuse("ENCRYPTION_KEYS", "must be given beside ENCRYPTION_POLICY")
  return Effect.succeed(undefined)
}

const keyFileName = "ENCRYPTION_KEY_FILE"
