/**
 * The DataStore in a SQLite file: a body is rows of 256 KiB, written and read 512 KiB at a time; several processes may
 * use the same file. For assets of some megabytes that belong to what is in the database already.
 *
 * Inside a transaction of the caller's a put is part of it. What is deleted leaves its space to what comes next; the
 * file does not become smaller.
 *
 * @since 0.1.0
 */
import type * as Config from "effect/Config"
import type { ConfigError } from "effect/ConfigError"
import * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import { DataStore } from "../DataStore.js"
import * as Encoded from "../dataStore/DataStoreEncoded.js"
import type { InvalidInput, StoreFailure } from "../Errors.js"
import * as Pool from "../Pool.js"
import type { NameOptions } from "./database/names.js"
import type { PreparationOptions } from "./database/storeLayers.js"
import * as storeLayers from "./database/storeLayers.js"
import * as port from "./dataStore/port.js"
import { storeSchema } from "./dataStore/schema.js"
import type * as SqliteDatabase from "./SqliteDatabase.js"

/**
 * @since 0.1.0
 * @category models
 */
export interface StoreOptions extends PreparationOptions {
  /**
   * Refuse all writes of objects with `ReadOnly`. Default false. File and tables are still created, unless `migrate`
   * is false, and the user's own SQL still writes.
   */
  readonly readOnly?: boolean | undefined
}

/**
 * @since 0.1.0
 * @category models
 */
export interface Options extends SqliteDatabase.Options, StoreOptions {}

const layers = storeLayers.make({
  tag: DataStore,
  schema: storeSchema,
  keys: { readOnly: true },
  options: ({ readOnly }: StoreOptions) => Effect.succeed({ system: "sqlite", readOnly }),
  port: port.make,
  lift: (encoded, options) => Effect.succeed(Encoded.make(encoded, options)),
  pool: Pool.defaults.dataStore.sqlite
})

/**
 * The port on an open database, with its tables checked or updated: for layers that wrap it.
 *
 * @since 0.1.0
 * @category constructors
 */
export const makeEncoded: (
  options?: PreparationOptions
) => Effect.Effect<Encoded.Encoded, InvalidInput | StoreFailure, SqliteDatabase.SqliteDatabase> = layers.makeEncoded

/**
 * The DataStore on an open database, where it shares file, connections and transactions with other stores.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerFromDatabase: (
  options?: StoreOptions
) => Layer.Layer<DataStore, InvalidInput | StoreFailure, SqliteDatabase.SqliteDatabase> = layers.layerFromDatabase

/**
 * Opens the file and provides the DataStore on it, with the database for transactions and the user's own SQL. The
 * pool's limits are those of `Pool.defaults.dataStore.sqlite` where the options give none.
 *
 * @since 0.1.0
 * @category layers
 */
export const layer: (
  options: Options
) => Layer.Layer<DataStore | SqliteDatabase.SqliteDatabase, InvalidInput | StoreFailure> = layers.layer

/**
 * The same from Config; pool options are read with `Pool.sqliteConfig`.
 *
 * @example
 * ```ts
 * import { Config } from "effect"
 * import { Pool } from "effect-stores"
 * import { DataStoreSqlite } from "effect-stores/sqlite"
 *
 * const layer = DataStoreSqlite.layerConfig({
 *   filename: Config.string("OBJECTS_FILE"),
 *   pool: Config.nested(Pool.sqliteConfig, "OBJECTS_POOL")
 * })
 * ```
 *
 * @since 0.1.0
 * @category layers
 */
export const layerConfig: (
  config: Config.Config.Wrap<Options>
) => Layer.Layer<DataStore | SqliteDatabase.SqliteDatabase, InvalidInput | StoreFailure | ConfigError> =
  layers.layerConfig

/**
 * Creates or updates the tables, apart from any start, and returns the names of the migrations it applied. May run
 * repeatedly and concurrently.
 *
 * @since 0.1.0
 * @category migrations
 */
export const migrate: (
  options: SqliteDatabase.Options & NameOptions
) => Effect.Effect<ReadonlyArray<string>, InvalidInput | StoreFailure> = layers.migrate

/**
 * The SQL that creates the tables in a database without it, for those who run migrations with another tool. Throws
 * `InvalidInput` for a bad prefix or another option.
 *
 * @since 0.1.0
 * @category migrations
 */
export const migrationSql: (options?: NameOptions) => string = layers.migrationSql
