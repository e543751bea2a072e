/**
 * The CommandStore in PostgreSQL. Every step of an execution is one statement. Leases run on the clock of the server,
 * so the clocks of the processes need not agree.
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
import type * as PgDatabase from "./PgDatabase.js"

/**
 * @since 0.1.0
 * @category models
 */
export interface StoreOptions extends PreparationOptions {
  /**
   * Refuse all writes of commands with `ReadOnly`. Default false. The table is still created, unless `migrate` is
   * false, and the user's own SQL still writes.
   */
  readonly readOnly?: boolean | undefined
  /** The `instanceId` of commands that are given without one. */
  readonly instanceId?: string | undefined
}

/**
 * @since 0.1.0
 * @category models
 */
export interface Options extends PgDatabase.Options, StoreOptions {}

const layers = storeLayers.make({
  tag: CommandStore,
  schema: storeSchema,
  keys: { readOnly: true, instanceId: true },
  options: (options: StoreOptions) => liftOptions("postgresql", options),
  port: port.make,
  lift: (encoded, options) => Effect.succeed(Encoded.make(encoded, options)),
  pool: Pool.defaults.commandStore.pg
})

/**
 * The port on an open database, with its table checked or updated: for layers that wrap it.
 *
 * @since 0.1.0
 * @category constructors
 */
export const makeEncoded: (
  options?: PreparationOptions
) => Effect.Effect<Encoded.Encoded, InvalidInput | StoreFailure, PgDatabase.PgDatabase> = layers.makeEncoded

/**
 * The CommandStore on an open database, where it shares pool and transactions with other stores: `execute` with
 * `transaction` then commits outcome and events together. Such an execution sometimes needs a second connection, to
 * renew its lease beside its transaction. Only stores on one `PgDatabase.layer` share a transaction.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerFromDatabase: (
  options?: StoreOptions
) => Layer.Layer<CommandStore, InvalidInput | StoreFailure, PgDatabase.PgDatabase> = layers.layerFromDatabase

/**
 * Opens the database and provides the CommandStore on it, with the database for transactions and the user's own SQL.
 * The pool's limits default to `Pool.defaults.commandStore.pg`. The `layer` of another store opens another database,
 * even if the `url` is the same, and `execute` with `transaction` does not extend to it: see `layerFromDatabase`.
 *
 * @since 0.1.0
 * @category layers
 */
export const layer: (
  options: Options
) => Layer.Layer<CommandStore | PgDatabase.PgDatabase, InvalidInput | StoreFailure> = layers.layer

/**
 * The same from Config; pool options are read with `Pool.config`.
 *
 * @example
 * ```ts
 * import { Config } from "effect"
 * import { Pool } from "effect-stores"
 * import { CommandStorePg } from "effect-stores/pg"
 *
 * const layer = CommandStorePg.layerConfig({
 *   url: Config.redacted("DATABASE_URL"),
 *   pool: Config.nested(Pool.config, "COMMANDS_POOL")
 * })
 * ```
 *
 * @since 0.1.0
 * @category layers
 */
export const layerConfig: (
  config: Config.Config.Wrap<Options>
) => Layer.Layer<CommandStore | PgDatabase.PgDatabase, InvalidInput | StoreFailure | ConfigError> = layers.layerConfig

/**
 * Creates or updates the table, apart from any start, and returns the names of the migrations it applied. May run
 * repeatedly and concurrently.
 *
 * @since 0.1.0
 * @category migrations
 */
export const migrate: (
  options: PgDatabase.Options & NameOptions
) => Effect.Effect<ReadonlyArray<string>, InvalidInput | StoreFailure> = layers.migrate

/**
 * The SQL that creates the table in a database without it, for those who run migrations with another tool. Throws
 * `InvalidInput` for a bad schema or prefix, or another option.
 *
 * @since 0.1.0
 * @category migrations
 */
export const migrationSql: (options?: NameOptions) => string = layers.migrationSql
