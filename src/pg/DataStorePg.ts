/**
 * The DataStore in PostgreSQL: a body is rows of 256 KiB, written and read 1 MiB at a time, and a put of less is one
 * statement. For assets of some megabytes that belong to what is in the database already.
 *
 * Inside a transaction of the caller's a put is part of it, and holds its connection while the body comes.
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
import type * as PgDatabase from "./PgDatabase.js"

/**
 * @since 0.1.0
 * @category models
 */
export interface StoreOptions extends PreparationOptions {
  /**
   * Refuse all writes of objects with `ReadOnly`. Default false. The tables are made all the same, unless `migrate` is
   * false, and the user's own SQL still writes.
   */
  readonly readOnly?: boolean | undefined
}

/**
 * @since 0.1.0
 * @category models
 */
export interface Options extends PgDatabase.Options, StoreOptions {}

const layers = storeLayers.make({
  tag: DataStore,
  schema: storeSchema,
  keys: { readOnly: true },
  options: ({ readOnly }: StoreOptions) => Effect.succeed({ system: "postgresql", readOnly }),
  port: port.make,
  lift: (encoded, options) => Effect.succeed(Encoded.make(encoded, options)),
  pool: Pool.defaults.dataStore.pg
})

/**
 * The port on an open database, with its tables checked or brought up to date: for layers that wrap it.
 *
 * @since 0.1.0
 * @category constructors
 */
export const makeEncoded: (
  options?: PreparationOptions
) => Effect.Effect<Encoded.Encoded, InvalidInput | StoreFailure, PgDatabase.PgDatabase> = layers.makeEncoded

/**
 * The DataStore on a database that is open already: beside an EventStore, say, with which it then shares pool and
 * transactions.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerFromDatabase: (
  options?: StoreOptions
) => Layer.Layer<DataStore, InvalidInput | StoreFailure, PgDatabase.PgDatabase> = layers.layerFromDatabase

/**
 * Opens the database and gives the DataStore on it, with the database for transactions and the user's own SQL. The
 * pool's limits are those of `Pool.defaults.dataStore.pg` where the options give none.
 *
 * @since 0.1.0
 * @category layers
 */
export const layer: (options: Options) => Layer.Layer<DataStore | PgDatabase.PgDatabase, InvalidInput | StoreFailure> =
  layers.layer

/**
 * The same from Config; pool options are read with `Pool.config`.
 *
 * @example
 * ```ts
 * import { Config } from "effect"
 * import { Pool } from "effect-stores"
 * import { DataStorePg } from "effect-stores/pg"
 *
 * const layer = DataStorePg.layerConfig({
 *   url: Config.redacted("DATABASE_URL"),
 *   pool: Config.nested(Pool.config, "OBJECTS_POOL")
 * })
 * ```
 *
 * @since 0.1.0
 * @category layers
 */
export const layerConfig: (
  config: Config.Config.Wrap<Options>
) => Layer.Layer<DataStore | PgDatabase.PgDatabase, InvalidInput | StoreFailure | ConfigError> = layers.layerConfig

/**
 * Creates or updates the tables, apart from any start; answers the names of the migrations it has applied. May run any
 * number of times and at once.
 *
 * @since 0.1.0
 * @category migrations
 */
export const migrate: (
  options: PgDatabase.Options & NameOptions
) => Effect.Effect<ReadonlyArray<string>, InvalidInput | StoreFailure> = layers.migrate

/**
 * The SQL that creates the tables in a database without it, for who runs migrations by other means. Throws
 * `InvalidInput` for a bad schema or prefix, or another option.
 *
 * @since 0.1.0
 * @category migrations
 */
export const migrationSql: (options?: NameOptions) => string = layers.migrationSql
