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
import { type Keys, onlyKnown } from "../internal/storeOptions.js"
import { SnapshotStore } from "../SnapshotStore.js"
import { plans } from "./backends.js"
import { checkPools } from "./budget.js"
import { type Choices, choices, type Store, stores } from "./choices.js"
import { type Plan, Session } from "./plans.js"

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
export type StoresError = ConfigError | InvalidInput | InvalidKeyLength | KeyCheckFailed | StoreFailure

const optionKeys: Keys<Options> = {
  eventStore: true,
  commandStore: true,
  snapshotStore: true,
  cacheStore: true,
  dataStore: true,
  durable: true
}

/**
 * - `EVENT_STORE`, `COMMAND_STORE`, `SNAPSHOT_STORE`, `CACHE_STORE` and `DATA_STORE` name the backends.
 * - `PG_URL`, `SQLITE_FILENAME`, `REDIS_URL`, `MINIO_*` and `FS_ROOT` say where they are.
 * - `EVENT_STORE_POOL_MAX_OPEN_CONNS` and so on bound the pool of a store. With `PG_SHARED=true` the stores on
 *   PostgreSQL share one, `PG_POOL_*`, and transactions extend to all of them; `REDIS_SHARED` means the same. Stores in
 *   one SQLite file always share it.
 * - `ENCRYPTION_KEYS` and `ENCRYPTION_PRIMARY`, or `ENCRYPTION_KEY_FILE`, seal all stores.
 * - `DURABLE=true` refuses an event store in memory.
 *
 * All variables that cannot be read are reported together, before anything is opened; what a database refuses of them
 * is reported when it is opened. At start one line is logged that names the backend of each store, and a warning if
 * `EXPECTED_PROCESSES` processes like this one may open more connections than a server allows.
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
  // Merged, and not built in here, so that what they share with the rest of the application is built once.
  return given.reduce(
    (all: Layer.Layer<never, StoresError | E, R>, own) => Layer.merge(all, own),
    chosenByConfig(options)
  ) as Layer.Layer<All | StoresHealth, StoresError | E, R>
}

/**
 * The stores that were not given, and their health.
 *
 * @internal
 */
export const chosenByConfig = (
  options: Options,
  provider?: ConfigProvider.ConfigProvider
): Layer.Layer<never, StoresError> =>
  Layer.scopedContext(provider === undefined ? chosen(options) : Effect.withConfigProvider(chosen(options), provider))

const chosen = (options: Options): Effect.Effect<Context.Context<never>, StoresError, Scope.Scope> =>
  Effect.gen(function* () {
    const { durable, ...given } = yield* onlyKnown(options, optionKeys)
    for (const store of stores) {
      if (given[store] !== undefined && !Layer.isLayer(given[store]))
        return yield* new InvalidInput({ what: store, why: "must be a Layer" })
    }
    const choice = yield* choices
    const isDurable = durable === true || choice.durable
    if (isDurable && choice.eventStore === "memory" && given.eventStore === undefined) return yield* forgetful
    const keys = yield* keysOf(choice)
    const byConfig = stores.filter((store) => given[store] === undefined)
    const plan = plans(choice)
    const configs = yield* Effect.forEach(byConfig, (store) => plan[store]() as Plan<never>)
    const openers = yield* Config.all(configs)
    const session = new Session()
    const opened = yield* Effect.forEach(openers, (open) => open(session))
    const places = new Map(byConfig.map((store, i) => [store, opened[i]?.place]))
    if (isDurable && places.get("eventStore") === "sqlite :memory:") return yield* forgetful
    yield* checkPools(session.pools, choice.expectedProcesses)

    const services = opened.reduce((all, { services }) => Context.merge(all, services), Context.empty())
    const isSealed = keys !== undefined && opened.length > 0
    if (keys !== undefined && !isSealed)
      yield* Effect.logWarning("ENCRYPTION_* seal nothing: all stores are layers of the application")
    const result = isSealed
      ? yield* Layer.build(Layer.provide(CryptoService.seal(Layer.succeedContext(services)), keys))
      : services
    const writesPlain = choice.encryption.policy === "ForbidEncryptAllowDecrypt"
    const seal = isSealed ? (writesPlain ? " (written plain)" : " (sealed)") : ""
    const described = (store: Store) =>
      places.has(store) ? `${places.get(store)}${seal}` : "by a layer of the application"
    yield* Effect.logInfo(stores.map((store) => `${nameOf(store)} ${described(store)}`).join(", "))
    const asked = new Map(byConfig.flatMap((store, i) => (opened[i] === undefined ? [] : [[store, opened[i].health]])))
    return Context.add(result, StoresHealth, healthOf(asked)) as Context.Context<never>
  })

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

const forgetful = new InvalidInput({
  what: "EVENT_STORE",
  why: "must not be memory: the stores were asked to be durable (DURABLE, or the option durable)"
})

const tags = {
  eventStore: EventStore,
  commandStore: CommandStore,
  snapshotStore: SnapshotStore,
  cacheStore: CacheStore,
  dataStore: DataStore
} as const

/** `undefined` when no keys are given. Half of them fails, and names what is missing. */
const keysOf = ({
  encryption: { keyFile, keys, policy, primary }
}: Choices): Effect.Effect<
  Layer.Layer<CryptoService.CryptoService, ConfigError | InvalidInput | InvalidKeyLength> | undefined,
  InvalidInput
> => {
  const ring = keys !== undefined || primary !== undefined
  if (keyFile !== undefined) {
    return ring
      ? Effect.fail(new InvalidInput({ what: "ENCRYPTION_KEY_FILE", why: "must not be given beside ENCRYPTION_KEYS" }))
      : Effect.succeed(CryptoService.layerFile(keyFile, { policy }))
  }
  if (ring) return Effect.succeed(CryptoService.layerConfig(Config.nested(CryptoService.config, "ENCRYPTION")))
  return policy === undefined
    ? Effect.succeed(undefined)
    : Effect.fail(new InvalidInput({ what: "ENCRYPTION_KEYS", why: "must be given beside ENCRYPTION_POLICY" }))
}
