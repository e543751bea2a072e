/**
 * The CheckpointStore in a SQLite file. Put it in the file of the read models, so that rows and checkpoint are
 * committed together; several processes may use the same file. Leases run on the clock of the machine.
 *
 * @since 0.1.0
 */
import type * as Config from "effect/Config"
import type { ConfigError } from "effect/ConfigError"
import * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import { CheckpointStore } from "../CheckpointStore.js"
import * as Encoded from "../checkpointStore/CheckpointStoreEncoded.js"
import type { InvalidInput, StoreFailure } from "../Errors.js"
import * as Pool from "../Pool.js"
import * as port from "./checkpointStore/port.js"
import { storeSchema } from "./checkpointStore/schema.js"
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
   * Refuse all writes of checkpoints with `ReadOnly`. Default false. File and tables are still created, unless
   * `migrate` is false, and the user's own SQL still writes.
   */
  readonly readOnly?: boolean | undefined
}

/**
 * @since 0.1.0
 * @category models
 */
export interface Options extends SqliteDatabase.Options, StoreOptions {}

const layers = storeLayers.make({
  tag: CheckpointStore,
  schema: storeSchema,
  keys: { readOnly: true },
  options: ({ readOnly }: StoreOptions) => Effect.succeed({ system: "sqlite", readOnly }),
  port: port.make,
  lift: (encoded, options) => Effect.succeed(Encoded.make(encoded, options)),
  pool: Pool.defaults.commandStore.sqlite
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
 * The CheckpointStore on an open database, where it shares connections and transactions with other stores and with the
 * user's own SQL.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerFromDatabase: (
  options?: StoreOptions
) => Layer.Layer<CheckpointStore, InvalidInput | StoreFailure, SqliteDatabase.SqliteDatabase> = layers.layerFromDatabase

/**
 * Opens the file and provides the CheckpointStore on it, with the database for transactions and the user's own SQL.
 * The pool's limits default to `Pool.defaults.commandStore.sqlite`.
 *
 * @since 0.1.0
 * @category layers
 */
export const layer: (
  options: Options
) => Layer.Layer<CheckpointStore | SqliteDatabase.SqliteDatabase, InvalidInput | StoreFailure> = layers.layer

/**
 * The same from Config; pool options are read with `Pool.sqliteConfig`.
 *
 * @example
 * ```ts
 * import { Config } from "effect"
 * import { Pool } from "effect-stores"
 * import { CheckpointStoreSqlite } from "effect-stores/sqlite"
 *
 * const layer = CheckpointStoreSqlite.layerConfig({
 *   filename: Config.string("CHECKPOINTS_FILE"),
 *   pool: Config.nested(Pool.sqliteConfig, "CHECKPOINTS_POOL")
 * })
 * ```
 *
 * @since 0.1.0
 * @category layers
 */
export const layerConfig: (
  config: Config.Config.Wrap<Options>
) => Layer.Layer<CheckpointStore | SqliteDatabase.SqliteDatabase, InvalidInput | StoreFailure | ConfigError> =
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
