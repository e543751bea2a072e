/**
 * The CacheStore in Redis: one server, a master under Sentinels, or a Cluster. Redis may lose what it has acknowledged,
 * by eviction, a crash or a failover; a cache may, too.
 *
 * @since 0.1.0
 */
import * as Config from "effect/Config"
import type { ConfigError } from "effect/ConfigError"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { CacheBus, type Listener } from "../CacheBus.js"
import { CacheStore } from "../CacheStore.js"
import * as Encoded from "../cacheStore/CacheStoreEncoded.js"
import type { InvalidInput, StoreFailure } from "../Errors.js"
import * as variables from "../internal/config.js"
import { type Keys, onlyKnown } from "../internal/storeOptions.js"
import { checked, fields, identifier, Parts, refuse } from "../internal/validate.js"
import * as Pool from "../Pool.js"
import * as port from "./cacheStore/port.js"
import { command } from "./database/commands.js"
import * as RedisDatabase from "./RedisDatabase.js"

/**
 * @since 0.1.0
 * @category models
 */
export interface StoreOptions {
  /**
   * What the keys begin with, without braces. Default `es:cache:`. Stores with the same prefix on the same database
   * are the same store; with others they never touch, also when one prefix is the beginning of the other.
   */
  readonly prefix?: string | undefined
  /** Refuse all writes with `ReadOnly`. Default false. */
  readonly readOnly?: boolean | undefined
  /** How long the lock of a load lasts when its process dies; a living one renews it. Default 5 seconds. */
  readonly lease?: Duration.DurationInput | undefined
  /**
   * Whether `getOrSet` leaves the server alone for half a second after it was unavailable, and asks loaders meanwhile.
   * Default true.
   */
  readonly breaker?: boolean | undefined
}

/**
 * @since 0.1.0
 * @category models
 */
export type Options = RedisDatabase.Options & StoreOptions

/**
 * The port on an open database: for layers that wrap it.
 *
 * @since 0.1.0
 * @category constructors
 */
export const makeEncoded = (
  options: Pick<StoreOptions, "prefix"> = {}
): Effect.Effect<Encoded.Encoded, InvalidInput, RedisDatabase.RedisDatabase> =>
  Effect.flatMap(RedisDatabase.RedisDatabase, (database) =>
    checked(
      () => prefixOf(fields(options, "options", ["prefix"]).prefix),
      (prefix) => Effect.succeed(port.make(database, prefix))
    )
  )

/**
 * Throws `InvalidInput`.
 *
 * @internal
 */
export const prefixOf = (value: unknown): string => {
  const prefix = value === undefined ? "es:cache:" : identifier(value, "prefix")
  return /[{}]/.test(prefix) ? refuse("prefix", "must not contain braces") : prefix
}

const storeKeys: Keys<StoreOptions> = { prefix: true, readOnly: true, lease: true, breaker: true }

/** Before anything is opened. */
const checkedOptions = (options: StoreOptions) =>
  Effect.flatMap(onlyKnown(options, storeKeys), (known) =>
    Effect.all({
      prefix: checked(() => prefixOf(known.prefix), Effect.succeed),
      lifting: Encoded.optionsOf("redis", known)
    })
  )

/**
 * The CacheStore on a database that is open already, so that stores share its connections.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerFromDatabase = (
  options: StoreOptions = {}
): Layer.Layer<CacheStore, InvalidInput, RedisDatabase.RedisDatabase> =>
  Layer.scoped(
    CacheStore,
    Effect.gen(function* () {
      const { lifting, prefix } = yield* checkedOptions(options)
      const { connection } = yield* RedisDatabase.RedisDatabase
      return yield* Encoded.make(yield* makeEncoded({ prefix }), { ...lifting, connection })
    })
  )

/**
 * Opens the database and gives the CacheStore on it, with the database for other stores.
 *
 * @since 0.1.0
 * @category layers
 */
export const layer = ({
  breaker,
  lease,
  prefix,
  readOnly,
  ...database
}: Options): Layer.Layer<CacheStore | RedisDatabase.RedisDatabase, InvalidInput | StoreFailure> => {
  const options = { breaker, lease, prefix, readOnly }
  return Layer.unwrapEffect(
    Effect.as(
      checkedOptions(options),
      Layer.provideMerge(
        layerFromDatabase(options),
        RedisDatabase.layer(database, Pool.defaults.cacheStore.redis, "CacheStore")
      )
    )
  )
}

/**
 * The same from Config. `config` reads the database's options with `RedisDatabase.config`, beside the store's own.
 *
 * @example
 * ```ts
 * import { Config } from "effect"
 * import { CacheStoreRedis } from "effect-stores/redis"
 *
 * // CACHE_URL=redis://localhost:6379
 * const layer = CacheStoreRedis.layerConfig(Config.nested(CacheStoreRedis.config, "CACHE"))
 * ```
 *
 * @since 0.1.0
 * @category layers
 */
export const layerConfig = (
  config: Config.Config.Wrap<Options>
): Layer.Layer<CacheStore | RedisDatabase.RedisDatabase, InvalidInput | StoreFailure | ConfigError> =>
  Layer.unwrapEffect(Effect.map(variables.read(config), layer))

/**
 * Options from the variables of `RedisDatabase.config`, `PREFIX`, `READ_ONLY`, `LEASE` (a duration) and `BREAKER`.
 *
 * @since 0.1.0
 * @category config
 */
export const config: Config.Config<Options> = Config.zipWith(
  RedisDatabase.config,
  variables.checkedOptions({
    prefix: variables.text,
    readOnly: variables.flag,
    lease: variables.duration(),
    breaker: variables.flag
  })((options) => {
    const { all, part } = new Parts()
    part(() => prefixOf(options.prefix))
    part(() => (options.lease === undefined ? undefined : Encoded.leaseMsOf(options.lease)))
    all(() => undefined)
  }),
  (database, store) => ({ ...database, ...store })
)

/**
 * The bus of two levels whose second is this store, by PUBLISH and SUBSCRIBE: for `CacheStoreTwoLevels`. Give it the
 * prefix of the store.
 *
 * @since 0.1.0
 * @category layers
 */
export const bus = (
  options: Pick<StoreOptions, "prefix"> = {}
): Layer.Layer<CacheBus, InvalidInput, RedisDatabase.RedisDatabase> =>
  Layer.effect(
    CacheBus,
    Effect.flatMap(RedisDatabase.RedisDatabase, (database) =>
      checked(
        () => `${prefixOf(fields(options, "options", ["prefix"]).prefix)}{bus}`,
        (channel) =>
          Effect.succeed({
            publish: (text: string) =>
              database.run({
                operation: "publish",
                size: text.length,
                send: command("publish", [channel, text]),
                onReply: () => undefined
              }),
            listen: (listener: Listener) => database.subscribe(channel, listener)
          })
      )
    )
  )
