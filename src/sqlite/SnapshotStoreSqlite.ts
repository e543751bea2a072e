/**
 * The SnapshotStore in a SQLite file. A save is one statement, synchronous; several processes may use the same file.
 *
 * @since 0.1.0
 */
import type * as Config from "effect/Config"
import type { ConfigError } from "effect/ConfigError"
import * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import type { InvalidInput, StoreFailure } from "../Errors.js"
import * as Pool from "../Pool.js"
import { SnapshotStore } from "../SnapshotStore.js"
import * as Encoded from "../snapshotStore/SnapshotStoreEncoded.js"
import type { NameOptions } from "./database/names.js"
import type { PreparationOptions } from "./database/storeLayers.js"
import * as storeLayers from "./database/storeLayers.js"
import type * as SqliteDatabase from "./SqliteDatabase.js"
import * as port from "./snapshotStore/port.js"
import { storeSchema } from "./snapshotStore/schema.js"

/**
 * @since 0.1.0
 * @category models
 */
export interface StoreOptions extends PreparationOptions {
  /**
   * Refuse all writes of snapshots with `ReadOnly`. Default false. File and tables are still created, unless `migrate`
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
  tag: SnapshotStore,
  schema: storeSchema,
  keys: { readOnly: true },
  options: ({ readOnly }: StoreOptions) => Effect.succeed({ system: "sqlite", readOnly }),
  port: port.make,
  // There is only one connection that writes, and others need it too.
  lift: (encoded, options) => Encoded.make(encoded, { ...options, savesMax: 1 }),
  pool: Pool.defaults.snapshotStore.sqlite
})

/**
 * The port on an open database, with its table checked or updated: for layers that wrap it.
 *
 * @since 0.1.0
 * @category constructors
 */
export const makeEncoded: (
  options?: PreparationOptions
) => Effect.Effect<Encoded.Encoded, InvalidInput | StoreFailure, SqliteDatabase.SqliteDatabase> = layers.makeEncoded

/**
 * The SnapshotStore on an open database, where it shares file, connections and transactions with other stores. While a
 * transaction holds the connection that writes, background saves wait for its end, up to the pool's `acquireTimeout`:
 * do not call `flush` inside a transaction.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerFromDatabase: (
  options?: StoreOptions
) => Layer.Layer<SnapshotStore, InvalidInput | StoreFailure, SqliteDatabase.SqliteDatabase> = layers.layerFromDatabase

/**
 * Opens the file and provides the SnapshotStore on it, with the database for transactions and the user's own SQL. By
 * default one connection does everything, unless the layer of another store shares the file:
 * `Pool.defaults.snapshotStore.sqlite`.
 *
 * @since 0.1.0
 * @category layers
 */
export const layer: (
  options: Options
) => Layer.Layer<SnapshotStore | SqliteDatabase.SqliteDatabase, InvalidInput | StoreFailure> = layers.layer

/**
 * The same from Config; pool options are read with `Pool.sqliteConfig`.
 *
 * @example
 * ```ts
 * import { Config } from "effect"
 * import { Pool } from "effect-stores"
 * import { SnapshotStoreSqlite } from "effect-stores/sqlite"
 *
 * const layer = SnapshotStoreSqlite.layerConfig({
 *   filename: Config.string("SNAPSHOTS_FILE"),
 *   pool: Config.nested(Pool.sqliteConfig, "SNAPSHOTS_POOL")
 * })
 * ```
 *
 * @since 0.1.0
 * @category layers
 */
export const layerConfig: (
  config: Config.Config.Wrap<Options>
) => Layer.Layer<SnapshotStore | SqliteDatabase.SqliteDatabase, InvalidInput | StoreFailure | ConfigError> =
  layers.layerConfig

/**
 * Creates or updates the table, apart from any start, and returns the names of the migrations it applied. May run
 * repeatedly and concurrently.
 *
 * @since 0.1.0
 * @category migrations
 */
export const migrate: (
  options: SqliteDatabase.Options & NameOptions
) => Effect.Effect<ReadonlyArray<string>, InvalidInput | StoreFailure> = layers.migrate

/**
 * The SQL that creates the table in a database without it, for those who run migrations with another tool. Throws
 * `InvalidInput` for a bad prefix or another option.
 *
 * @since 0.1.0
 * @category migrations
 */
export const migrationSql: (options?: NameOptions) => string = layers.migrationSql
