/**
 * The EventStore in PostgreSQL. An append is one round trip to one function. The server's settings determine what an
 * acknowledged append survives: by default a killed client, a killed server and a power cut (`fsync`,
 * `full_page_writes` and `synchronous_commit` are on; a warning at start says if they are not). The feed must be read
 * on the primary.
 *
 * Each stream of an `appendAll`, and each stream that a transaction of the caller has appended to, takes one entry of
 * the server's lock table until the transaction ends. The table has `max_locks_per_transaction` times
 * (`max_connections` + `max_prepared_transactions`) entries, 6,400 by default, shared by all clients. When it is full,
 * appends fail with `StoreUnavailable`. That is retryable outside a transaction of the caller, but not inside, where
 * the transaction itself is too large.
 *
 * @since 0.1.0
 */
import type * as Config from "effect/Config"
import type { ConfigError } from "effect/ConfigError"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
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
import type * as PgDatabase from "./PgDatabase.js"

export type { EventIndex, IndexOptions } from "../internal/storeOptions.js"

/**
 * @since 0.1.0
 * @category models
 */
export interface StoreOptions extends PreparationOptions, IndexOptions {
  /**
   * Refuse all writes of events with `ReadOnly`. Default false. Tables are still created, unless `migrate` is false,
   * and the user's own SQL still writes.
   */
  readonly readOnly?: boolean | undefined
  /** The `instanceId` of events that are given without one. */
  readonly instanceId?: string | undefined
  /**
   * Write the span that appends into the metadata of events that have no `traceparent`, so that whoever handles them
   * can link to it: see `Trace`. Default false.
   */
  readonly traceparent?: boolean | undefined
  /** How often `subscribe` reads when no notification arrives. Default 1 second. */
  readonly pollInterval?: Duration.DurationInput | undefined
}

/**
 * @since 0.1.0
 * @category models
 */
export interface Options extends PgDatabase.Options, StoreOptions {}

const layers = storeLayers.make({
  tag: EventStore,
  schema: storeSchema,
  indexes: checkedIndexes,
  keys: { indexes: true, readOnly: true, instanceId: true, traceparent: true, pollInterval: true },
  options: (options: StoreOptions) =>
    Effect.all([liftOptions("postgresql", options), pollIntervalOf(options, Duration.seconds(1))]).pipe(
      Effect.map(([lifting, pollInterval]) => ({ ...lifting, traceparent: options.traceparent, pollInterval }))
    ),
  port: port.make,
  lift: (encoded, options) => Effect.succeed(Encoded.make(encoded, options)),
  pool: Pool.defaults.eventStore.pg
})

/**
 * The port on an open database, with its tables checked or updated: for layers that wrap it.
 *
 * @since 0.1.0
 * @category constructors
 */
export const makeEncoded: (
  options?: PreparationOptions & IndexOptions
) => Effect.Effect<Encoded.Encoded, InvalidInput | StoreFailure, PgDatabase.PgDatabase | Scope.Scope> =
  layers.makeEncoded

/**
 * The EventStore on an open database, so that stores and the user's own SQL share its pool and its transactions.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerFromDatabase: (
  options?: StoreOptions
) => Layer.Layer<EventStore, InvalidInput | StoreFailure, PgDatabase.PgDatabase> = layers.layerFromDatabase

/**
 * Opens the database and provides the EventStore on it, with the database for transactions and the user's own SQL.
 *
 * @since 0.1.0
 * @category layers
 */
export const layer: (options: Options) => Layer.Layer<EventStore | PgDatabase.PgDatabase, InvalidInput | StoreFailure> =
  layers.layer

/**
 * The same from Config; pool options are read with `Pool.config`.
 *
 * @example
 * ```ts
 * import { Config } from "effect"
 * import { Pool } from "effect-stores"
 * import { EventStorePg } from "effect-stores/pg"
 *
 * const layer = EventStorePg.layerConfig({
 *   url: Config.redacted("DATABASE_URL"),
 *   pool: Config.nested(Pool.config, "EVENTS_POOL")
 * })
 * ```
 *
 * @since 0.1.0
 * @category layers
 */
export const layerConfig: (
  config: Config.Config.Wrap<Options>
) => Layer.Layer<EventStore | PgDatabase.PgDatabase, InvalidInput | StoreFailure | ConfigError> = layers.layerConfig

/**
 * Creates or updates tables and functions, apart from any start, and returns the names of the migrations it applied.
 * May run repeatedly and concurrently.
 *
 * @since 0.1.0
 * @category migrations
 */
export const migrate: (
  options: PgDatabase.Options & NameOptions & IndexOptions
) => Effect.Effect<ReadonlyArray<string>, InvalidInput | StoreFailure> = layers.migrate

/**
 * The SQL that creates everything in a database without it, for those who run migrations with another tool. Throws
 * `InvalidInput` for a bad schema or prefix, or another option.
 *
 * @since 0.1.0
 * @category migrations
 */
export const migrationSql: (options?: NameOptions & IndexOptions) => string = layers.migrationSql
