/**
 * The EventStore in a SQLite file. An append is one INSERT or one immediate transaction, synchronous; several processes
 * may use the same file. `SqliteDatabase.Synchronous` documents what an acknowledged append survives: by default a
 * killed process and a power cut. Events of other processes are found by polling.
 *
 * @since 0.1.0
 */
import type * as Config from "effect/Config"
import type { ConfigError } from "effect/ConfigError"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import type { InvalidInput, StoreFailure } from "../Errors.js"
import { EventStore } from "../EventStore.js"
import * as Encoded from "../eventStore/EventStoreEncoded.js"
import { checkedIndexes, type IndexOptions, liftOptions, pollIntervalOf } from "../internal/storeOptions.js"
import * as Pool from "../Pool.js"
import type { NameOptions } from "./database/names.js"
import type { PreparationOptions } from "./database/storeLayers.js"
import * as storeLayers from "./database/storeLayers.js"
import * as port from "./eventStore/port.js"
import { storeSchema } from "./eventStore/schema.js"
import type * as SqliteDatabase from "./SqliteDatabase.js"

export type { EventIndex, IndexOptions } from "../internal/storeOptions.js"

/**
 * @since 0.1.0
 * @category models
 */
export interface StoreOptions extends PreparationOptions, IndexOptions {
  /**
   * Refuse all writes of events with `ReadOnly`. Default false. File and tables are still created, unless `migrate` is
   * false, and the user's own SQL still writes.
   */
  readonly readOnly?: boolean | undefined
  /** The `instanceId` of events that are given without one. */
  readonly instanceId?: string | undefined
  /**
   * Write the span that appends into the metadata of events that have no `traceparent`, so that whoever handles them
   * can link to it: see `Trace`. Default false.
   */
  readonly traceparent?: boolean | undefined
  /** How often `subscribe` looks for events of other processes. Default 100 ms. */
  readonly pollInterval?: Duration.DurationInput | undefined
}

/**
 * @since 0.1.0
 * @category models
 */
export interface Options extends SqliteDatabase.Options, StoreOptions {}

const layers = storeLayers.make({
  tag: EventStore,
  schema: storeSchema,
  indexes: checkedIndexes,
  keys: { indexes: true, readOnly: true, instanceId: true, traceparent: true, pollInterval: true },
  options: (options: StoreOptions) =>
    Effect.all([liftOptions("sqlite", options), pollIntervalOf(options, Duration.millis(100))]).pipe(
      Effect.map(([lifting, pollInterval]) => ({ ...lifting, traceparent: options.traceparent, pollInterval }))
    ),
  port: port.make,
  lift: (encoded, options) => Effect.succeed(Encoded.make(encoded, options)),
  pool: Pool.defaults.eventStore.sqlite
})

/**
 * The port on an open database, with its tables checked or updated: for layers that wrap it.
 *
 * @since 0.1.0
 * @category constructors
 */
export const makeEncoded: (
  options?: PreparationOptions & IndexOptions
) => Effect.Effect<Encoded.Encoded, InvalidInput | StoreFailure, SqliteDatabase.SqliteDatabase> = layers.makeEncoded

/**
 * The EventStore on an open database, so that stores and the user's own SQL share its connections and transactions.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerFromDatabase: (
  options?: StoreOptions
) => Layer.Layer<EventStore, InvalidInput | StoreFailure, SqliteDatabase.SqliteDatabase> = layers.layerFromDatabase

/**
 * Opens the file and provides the EventStore on it, with the database for transactions and the user's own SQL.
 *
 * @since 0.1.0
 * @category layers
 */
export const layer: (
  options: Options
) => Layer.Layer<EventStore | SqliteDatabase.SqliteDatabase, InvalidInput | StoreFailure> = layers.layer

/**
 * The same from Config; pool options are read with `Pool.sqliteConfig`.
 *
 * @example
 * ```ts
 * import { Config } from "effect"
 * import { Pool } from "effect-stores"
 * import { EventStoreSqlite } from "effect-stores/sqlite"
 *
 * const layer = EventStoreSqlite.layerConfig({
 *   filename: Config.string("EVENTS_FILE"),
 *   pool: Config.nested(Pool.sqliteConfig, "EVENTS_POOL")
 * })
 * ```
 *
 * @since 0.1.0
 * @category layers
 */
export const layerConfig: (
  config: Config.Config.Wrap<Options>
) => Layer.Layer<EventStore | SqliteDatabase.SqliteDatabase, InvalidInput | StoreFailure | ConfigError> =
  layers.layerConfig

/**
 * Creates or updates the tables, apart from any start, and returns the names of the migrations it applied. May run
 * repeatedly and concurrently.
 *
 * @since 0.1.0
 * @category migrations
 */
export const migrate: (
  options: SqliteDatabase.Options & NameOptions & IndexOptions
) => Effect.Effect<ReadonlyArray<string>, InvalidInput | StoreFailure> = layers.migrate

/**
 * The SQL that creates the tables in a database without them, for those who run migrations with another tool. Throws
 * `InvalidInput` for a bad prefix or another option.
 *
 * @since 0.1.0
 * @category migrations
 */
export const migrationSql: (options?: NameOptions & IndexOptions) => string = layers.migrationSql
