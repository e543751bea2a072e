/**
 * The SnapshotStore in PostgreSQL. A save is one statement, and so is a load.
 *
 * @since 0.1.0
 */
import type * as Config from "effect/Config"
import type { ConfigError } from "effect/ConfigError"
import * as Effect from "effect/Effect"
import * as FiberRefs from "effect/FiberRefs"
import type * as Layer from "effect/Layer"
import type { InvalidInput, StoreFailure } from "../Errors.js"
import * as Pool from "../Pool.js"
import { SnapshotStore } from "../SnapshotStore.js"
import * as Encoded from "../snapshotStore/SnapshotStoreEncoded.js"
import type { NameOptions } from "./database/names.js"
import type { PreparationOptions } from "./database/storeLayers.js"
import * as storeLayers from "./database/storeLayers.js"
import type * as PgDatabase from "./PgDatabase.js"
import * as port from "./snapshotStore/port.js"
import { storeSchema } from "./snapshotStore/schema.js"

/**
 * @since 0.1.0
 * @category models
 */
export interface StoreOptions extends PreparationOptions {
  /**
   * Refuse all writes of snapshots with `ReadOnly`. Default false. The table is still created, unless `migrate` is
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
  tag: SnapshotStore,
  schema: storeSchema,
  keys: { readOnly: true },
  options: ({ readOnly }: StoreOptions) => Effect.succeed({ system: "postgresql", readOnly }),
  port: port.make,
  // Saves may all wait for one lock, and other operations of the pool must not wait with them.
  lift: (encoded, options, { inTransaction, limits }) =>
    Encoded.make(encoded, {
      ...options,
      savesMax: Math.max(1, Math.floor(limits.maxOpenConns / 4)),
      inTransaction: ({ context, fiberRefs }) =>
        inTransaction({ currentContext: context, getFiberRef: (ref) => FiberRefs.getOrDefault(fiberRefs, ref) })
    }),
  pool: Pool.defaults.snapshotStore.pg
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
 * The SnapshotStore on an open database, where it shares pool and transactions with other stores. A background save
 * takes a connection of its own, even while the caller has a transaction open. It waits up to the pool's
 * `acquireTimeout` for it, and up to `lockTimeout` if that transaction has saved a snapshot of the same stream: do not
 * call `flush` inside a transaction. Background saves take at most a quarter of the pool.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerFromDatabase: (
  options?: StoreOptions
) => Layer.Layer<SnapshotStore, InvalidInput | StoreFailure, PgDatabase.PgDatabase> = layers.layerFromDatabase

/**
 * Opens the database and provides the SnapshotStore on it, with the database for transactions and the user's own SQL.
 * The pool's limits default to `Pool.defaults.snapshotStore.pg`.
 *
 * @since 0.1.0
 * @category layers
 */
export const layer: (
  options: Options
) => Layer.Layer<SnapshotStore | PgDatabase.PgDatabase, InvalidInput | StoreFailure> = layers.layer

/**
 * The same from Config; pool options are read with `Pool.config`.
 *
 * @example
 * ```ts
 * import { Config } from "effect"
 * import { Pool } from "effect-stores"
 * import { SnapshotStorePg } from "effect-stores/pg"
 *
 * const layer = SnapshotStorePg.layerConfig({
 *   url: Config.redacted("DATABASE_URL"),
 *   pool: Config.nested(Pool.config, "SNAPSHOTS_POOL")
 * })
 * ```
 *
 * @since 0.1.0
 * @category layers
 */
export const layerConfig: (
  config: Config.Config.Wrap<Options>
) => Layer.Layer<SnapshotStore | PgDatabase.PgDatabase, InvalidInput | StoreFailure | ConfigError> = layers.layerConfig

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
