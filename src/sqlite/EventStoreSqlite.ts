/**
 * The EventStore in a SQLite file. An append is one INSERT or one immediate transaction, synchronous; several processes
 * may use the same file. What an acknowledged append survives is said at `SqliteDatabase.Synchronous`: by default a killed process
 * and a power cut. The events of other processes are found by polling.
 *
 * @since 0.1.0
 */
import * as Config from "effect/Config"
import type { ConfigError } from "effect/ConfigError"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { InvalidInput, StoreFailure } from "../Errors.js"
import { EventStore } from "../EventStore.js"
import * as Encoded from "../eventStore/EventStoreEncoded.js"
import { type Keys, liftOptions, onlyKnown, part, pollIntervalOf } from "../internal/storeOptions.js"
import * as Pool from "../Pool.js"
import * as preparation from "./database/preparation.js"
import { type NameOptions, type PreparationOptions, preparationKeys } from "./database/preparation.js"
import * as port from "./eventStore/port.js"
import { storeSchema } from "./eventStore/schema.js"
import * as SqliteDatabase from "./SqliteDatabase.js"

/**
 * @since 0.1.0
 * @category models
 */
export interface StoreOptions extends PreparationOptions {
  /**
   * Refuse all writes of events with `ReadOnly`. Default false. File and tables are made all the same, unless `migrate`
   * is false, and the user's own SQL still writes.
   */
  readonly readOnly?: boolean | undefined
  /** What events without one get as their `instanceId`. */
  readonly instanceId?: string | undefined
  /** How long `subscribe` goes without looking for events of other processes. Default 100 ms. */
  readonly pollInterval?: Duration.DurationInput | undefined
}

/**
 * @since 0.1.0
 * @category models
 */
export interface Options extends SqliteDatabase.Options, StoreOptions {}

const storeKeys: Keys<StoreOptions> = {
  ...preparationKeys,
  readOnly: true,
  instanceId: true,
  pollInterval: true
}

/**
 * The port on an open database, with its tables checked or brought up to date: for layers that wrap it.
 *
 * @since 0.1.0
 * @category constructors
 */
export const makeEncoded = (
  options: PreparationOptions = {}
): Effect.Effect<Encoded.Encoded, InvalidInput | StoreFailure, SqliteDatabase.SqliteDatabase> =>
  Effect.gen(function* () {
    const database = yield* SqliteDatabase.SqliteDatabase
    return port.make(database, yield* preparation.prepare(database, storeSchema, options))
  })

/**
 * The EventStore on a database that is open already, so that stores and the user's own SQL share its connections and
 * transactions.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerFromDatabase = (
  options: StoreOptions = {}
): Layer.Layer<EventStore, InvalidInput | StoreFailure, SqliteDatabase.SqliteDatabase> =>
  Layer.effect(
    EventStore,
    Effect.gen(function* () {
      const known = yield* onlyKnown(options, storeKeys)
      const lifting = yield* liftOptions("sqlite", known)
      const pollInterval = yield* pollIntervalOf(known, Duration.millis(100))
      return Encoded.make(yield* makeEncoded(part(known, preparationKeys)), { ...lifting, pollInterval })
    })
  )

/**
 * Opens the file and gives the EventStore on it, with the database for transactions and the user's own SQL.
 *
 * @since 0.1.0
 * @category layers
 */
export const layer: (
  options: Options
) => Layer.Layer<EventStore | SqliteDatabase.SqliteDatabase, InvalidInput | StoreFailure> = preparation.withDatabase(
  layerFromDatabase,
  storeKeys,
  Pool.defaults.eventStore.sqlite
)

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
export const layerConfig = (
  config: Config.Config.Wrap<Options>
): Layer.Layer<EventStore | SqliteDatabase.SqliteDatabase, InvalidInput | StoreFailure | ConfigError> =>
  Layer.unwrapEffect(Effect.map(Config.unwrap(config), layer))

/**
 * Creates or updates the tables, apart from any start; answers the names of the migrations it has applied. May run any
 * number of times and at once.
 *
 * @since 0.1.0
 * @category migrations
 */
export const migrate = (
  options: SqliteDatabase.Options & NameOptions
): Effect.Effect<ReadonlyArray<string>, InvalidInput | StoreFailure> => preparation.migrate(storeSchema, options)

/**
 * The SQL that creates the tables in a database without them, for who runs migrations by other means. Throws `InvalidInput`
 * for a bad prefix or another option.
 *
 * @since 0.1.0
 * @category migrations
 */
export const migrationSql = (options: NameOptions = {}): string => preparation.migrationSql(storeSchema, options)
