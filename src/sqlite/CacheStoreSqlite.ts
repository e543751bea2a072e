/**
 * The CacheStore in a SQLite file, which several processes may share. What is at its end is absent at once, and deleted
 * in the background, in small batches. A cache needs no commit that survives a power cut: `synchronous: "NORMAL"` makes
 * its writes several times faster.
 *
 * @since 0.1.0
 */
import type * as Config from "effect/Config"
import type { ConfigError } from "effect/ConfigError"
import type * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import { CacheStore } from "../CacheStore.js"
import * as Encoded from "../cacheStore/CacheStoreEncoded.js"
import type { InvalidInput, StoreFailure } from "../Errors.js"
import * as Pool from "../Pool.js"
import * as port from "./cacheStore/port.js"
import { storeSchema } from "./cacheStore/schema.js"
import type { NameOptions } from "./database/names.js"
import type { PreparationOptions } from "./database/storeLayers.js"
import * as storeLayers from "./database/storeLayers.js"
import type * as SqliteDatabase from "./SqliteDatabase.js"

/**
 * @since 0.1.0
 * @category models
 */
export interface StoreOptions extends PreparationOptions {
  /**
   * Refuse all writes of entries with `ReadOnly`. Default false. File and tables are made all the same, unless
   * `migrate` is false, and the user's own SQL still writes.
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
export interface Options extends SqliteDatabase.Options, StoreOptions {}

const layers = storeLayers.make({
  tag: CacheStore,
  schema: storeSchema,
  keys: { readOnly: true, lease: true, breaker: true },
  options: (options: StoreOptions) => Encoded.optionsOf("sqlite", options),
  port: port.make,
  lift: Encoded.make,
  pool: Pool.defaults.cacheStore.sqlite
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
) => Effect.Effect<Encoded.Encoded, InvalidInput | StoreFailure, SqliteDatabase.SqliteDatabase | Scope.Scope> =
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
) => Layer.Layer<CacheStore, InvalidInput | StoreFailure, SqliteDatabase.SqliteDatabase> = layers.layerFromDatabase

/**
 * Opens the file and gives the CacheStore on it, with the database for transactions and the user's own SQL. By default
 * one connection does everything, unless the layer of another store shares the file: `Pool.defaults.cacheStore.sqlite`.
 *
 * @since 0.1.0
 * @category layers
 */
export const layer: (
  options: Options
) => Layer.Layer<CacheStore | SqliteDatabase.SqliteDatabase, InvalidInput | StoreFailure> = layers.layer

/**
 * The same from Config; pool options are read with `Pool.sqliteConfig`.
 *
 * @example
 * ```ts
 * import { Config } from "effect"
 * import { Pool } from "effect-stores"
 * import { CacheStoreSqlite } from "effect-stores/sqlite"
 *
 * const layer = CacheStoreSqlite.layerConfig({
 *   filename: Config.string("CACHE_FILE"),
 *   pool: Config.nested(Pool.sqliteConfig, "CACHE_POOL")
 * })
 * ```
 *
 * @since 0.1.0
 * @category layers
 */
export const layerConfig: (
  config: Config.Config.Wrap<Options>
) => Layer.Layer<CacheStore | SqliteDatabase.SqliteDatabase, InvalidInput | StoreFailure | ConfigError> =
  layers.layerConfig

/**
 * Creates or updates the table, apart from any start; answers the names of the migrations it has applied. May run any
 * number of times and at once.
 *
 * @since 0.1.0
 * @category migrations
 */
export const migrate: (
  options: SqliteDatabase.Options & NameOptions
) => Effect.Effect<ReadonlyArray<string>, InvalidInput | StoreFailure> = layers.migrate

/**
 * The SQL that creates the table in a database without it, for who runs migrations by other means. Throws
 * `InvalidInput` for a bad prefix or another option.
 *
 * @since 0.1.0
 * @category migrations
 */
export const migrationSql: (options?: NameOptions) => string = layers.migrationSql
