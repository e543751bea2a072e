/**
 * The CommandStore in a SQLite file. Every step of an execution is one statement, synchronous; several processes may
 * use the same file. Leases run on the clock of the machine: if it is set forward, they end early.
 *
 * @since 0.1.0
 */
import type * as Config from "effect/Config"
import type { ConfigError } from "effect/ConfigError"
import * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import { CommandStore } from "../CommandStore.js"
import * as Encoded from "../commandStore/CommandStoreEncoded.js"
import type { InvalidInput, StoreFailure } from "../Errors.js"
import { liftOptions } from "../internal/storeOptions.js"
import * as Pool from "../Pool.js"
import * as port from "./commandStore/port.js"
import { storeSchema } from "./commandStore/schema.js"
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
   * Refuse all writes of commands with `ReadOnly`. Default false. File and tables are still created, unless `migrate`
   * is false, and the user's own SQL still writes.
   */
  readonly readOnly?: boolean | undefined
  /** The `instanceId` of commands that are given without one. */
  readonly instanceId?: string | undefined
}

/**
 * @since 0.1.0
 * @category models
 */
export interface Options extends SqliteDatabase.Options, StoreOptions {}

const layers = storeLayers.make({
  tag: CommandStore,
  schema: storeSchema,
  keys: { readOnly: true, instanceId: true },
  options: (options: StoreOptions) => liftOptions("sqlite", options),
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
 * The CommandStore on an open database, where it shares file, connections and transactions with other stores: `execute`
 * with `transaction` then commits outcome and events together. Only stores on one file share a
 * transaction. While such a transaction runs, nobody else writes to the file, not even the lease of another command:
 * keep it shorter than leases, and than the pool's `acquireTimeout`.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerFromDatabase: (
  options?: StoreOptions
) => Layer.Layer<CommandStore, InvalidInput | StoreFailure, SqliteDatabase.SqliteDatabase> = layers.layerFromDatabase

/**
 * Opens the file and provides the CommandStore on it, with the database for transactions and the user's own SQL. The
 * pool's limits default to `Pool.defaults.commandStore.sqlite`. Layers of one file share one database
 * (`SqliteDatabase.make`), so `execute` with `transaction` extends to the other stores in it.
 *
 * @since 0.1.0
 * @category layers
 */
export const layer: (
  options: Options
) => Layer.Layer<CommandStore | SqliteDatabase.SqliteDatabase, InvalidInput | StoreFailure> = layers.layer

/**
 * The same from Config; pool options are read with `Pool.sqliteConfig`.
 *
 * @example
 * ```ts
 * import { Config } from "effect"
 * import { Pool } from "effect-stores"
 * import { CommandStoreSqlite } from "effect-stores/sqlite"
 *
 * const layer = CommandStoreSqlite.layerConfig({
 *   filename: Config.string("COMMANDS_FILE"),
 *   pool: Config.nested(Pool.sqliteConfig, "COMMANDS_POOL")
 * })
 * ```
 *
 * @since 0.1.0
 * @category layers
 */
export const layerConfig: (
  config: Config.Config.Wrap<Options>
) => Layer.Layer<CommandStore | SqliteDatabase.SqliteDatabase, InvalidInput | StoreFailure | ConfigError> =
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
