/**
 * The CacheStore in PostgreSQL. What is at its end is absent at once, and deleted in the background, in small batches
 * that pass over locked rows.
 *
 * Removals and sets inside a transaction on the same database take effect when it commits, and undone with it; so an
 * append and the invalidation of what was derived from it can be one.
 *
 * @since 0.1.0
 */
import type * as Config from "effect/Config"
import type { ConfigError } from "effect/ConfigError"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import { CacheBus } from "../CacheBus.js"
import { CacheStore } from "../CacheStore.js"
import * as Encoded from "../cacheStore/CacheStoreEncoded.js"
import type { InvalidInput, StoreFailure } from "../Errors.js"
import { checked, fields } from "../internal/validate.js"
import * as Pool from "../Pool.js"
import { make as makeBus } from "./cacheStore/bus.js"
import * as port from "./cacheStore/port.js"
import { storeSchema } from "./cacheStore/schema.js"
import { storeAccess } from "./database/access.js"
import { checkedNames, type NameOptions } from "./database/names.js"
import type { PreparationOptions } from "./database/storeLayers.js"
import * as storeLayers from "./database/storeLayers.js"
import * as PgDatabase from "./PgDatabase.js"

/**
 * @since 0.1.0
 * @category models
 */
export interface StoreOptions extends PreparationOptions {
  /**
   * Refuse all writes of entries with `ReadOnly`. Default false. The table is made all the same, unless `migrate` is
   * false, and the user's own SQL still writes.
   */
  readonly readOnly?: boolean | undefined
  /** How long the lock of a load lasts when its process dies; a living one renews it. Default 5 seconds. */
  readonly lease?: Duration.DurationInput | undefined
  /**
   * Whether `getOrSet` leaves the database alone for half a second after it was unavailable, and asks loaders
   * meanwhile. Default true.
   */
  readonly breaker?: boolean | undefined
}

/**
 * @since 0.1.0
 * @category models
 */
export interface Options extends PgDatabase.Options, StoreOptions {}

const layers = storeLayers.make({
  tag: CacheStore,
  schema: storeSchema,
  keys: { readOnly: true, lease: true, breaker: true },
  options: (options: StoreOptions) => Encoded.optionsOf("postgresql", options),
  port: port.make,
  lift: Encoded.make,
  pool: Pool.defaults.cacheStore.pg
})

/**
 * The port on an open database, with its tables checked or brought up to date: for layers that wrap it. Purges in the
 * background until the scope closes.
 *
 * @since 0.1.0
 * @category constructors
 */
export const makeEncoded: (
  options?: PreparationOptions
) => Effect.Effect<Encoded.Encoded, InvalidInput | StoreFailure, PgDatabase.PgDatabase | Scope.Scope> =
  layers.makeEncoded

/**
 * The CacheStore on a database that is open already: beside an EventStore, say, with which it then shares connections
 * and transactions. Inside a transaction removals and sets are part of it, and `getOrSet` stores nothing.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerFromDatabase: (
  options?: StoreOptions
) => Layer.Layer<CacheStore, InvalidInput | StoreFailure, PgDatabase.PgDatabase> = layers.layerFromDatabase

/**
 * Opens the database and gives the CacheStore on it, with the database for transactions and the user's own SQL. The
 * pool's limits are those of `Pool.defaults.cacheStore.pg` where the options give none.
 *
 * @since 0.1.0
 * @category layers
 */
export const layer: (options: Options) => Layer.Layer<CacheStore | PgDatabase.PgDatabase, InvalidInput | StoreFailure> =
  layers.layer

/**
 * The same from Config; pool options are read with `Pool.config`.
 *
 * @example
 * ```ts
 * import { Config } from "effect"
 * import { Pool } from "effect-stores"
 * import { CacheStorePg } from "effect-stores/pg"
 *
 * const layer = CacheStorePg.layerConfig({
 *   url: Config.redacted("DATABASE_URL"),
 *   pool: Config.nested(Pool.config, "CACHE_POOL")
 * })
 * ```
 *
 * @since 0.1.0
 * @category layers
 */
export const layerConfig: (
  config: Config.Config.Wrap<Options>
) => Layer.Layer<CacheStore | PgDatabase.PgDatabase, InvalidInput | StoreFailure | ConfigError> = layers.layerConfig

/**
 * Creates or updates the table, apart from any start; answers the names of the migrations it has applied. May run any
 * number of times and at once.
 *
 * @since 0.1.0
 * @category migrations
 */
export const migrate: (
  options: PgDatabase.Options & NameOptions
) => Effect.Effect<ReadonlyArray<string>, InvalidInput | StoreFailure> = layers.migrate

/**
 * The SQL that creates the table in a database without it, for who runs migrations by other means. Throws
 * `InvalidInput` for a bad schema or prefix, or another option.
 *
 * @since 0.1.0
 * @category migrations
 */
export const migrationSql: (options?: NameOptions) => string = layers.migrationSql

/**
 * The bus of two levels whose second is this store, by NOTIFY and LISTEN: for `CacheStoreTwoLevels`. Give it the names
 * of the store. A removal inside a transaction is told when that commits, under the lock that PostgreSQL takes for all
 * notifying transactions.
 *
 * @since 0.1.0
 * @category layers
 */
export const bus = (options: NameOptions = {}): Layer.Layer<CacheBus, InvalidInput, PgDatabase.PgDatabase> =>
  Layer.effect(
    CacheBus,
    Effect.flatMap(PgDatabase.PgDatabase, (database) =>
      checked(
        () => checkedNames(fields(options, "options", ["schema", "prefix"])),
        (names) => Effect.succeed(makeBus(database[storeAccess], names))
      )
    )
  )
