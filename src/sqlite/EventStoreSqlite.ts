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
import { InvalidInput, StoreError, type StoreFailure } from "../Errors.js"
import { EventStore } from "../EventStore.js"
import * as Encoded from "../EventStoreEncoded.js"
import { checkOptions } from "../internal/storeOptions.js"
import { describe } from "../internal/validate.js"
import * as port from "./eventStoreEncoded.js"
import * as migrations from "./migrations.js"
import * as SqliteDatabase from "./SqliteDatabase.js"

/**
 * @since 0.1.0
 * @category models
 */
export interface StoreOptions {
  /** What the names of the tables begin with: `[a-z_][a-z0-9_]{0,30}` or empty. Default `"es_"`. */
  readonly prefix?: string | undefined
  /**
   * Create or update the tables at start. Default true. With false the start only checks that they are up to date, and
   * fails with `StoreError` otherwise.
   */
  readonly migrate?: boolean | undefined
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

/**
 * The port on an open database, with its tables checked or brought up to date: for layers that wrap it.
 *
 * @since 0.1.0
 * @category constructors
 */
export const makeEncoded = (
  options: Pick<StoreOptions, "prefix" | "migrate"> = {}
): Effect.Effect<Encoded.Encoded, InvalidInput | StoreFailure, SqliteDatabase.SqliteDatabase> =>
  Effect.gen(function* () {
    const database = yield* SqliteDatabase.SqliteDatabase
    const prefix = yield* checkedPrefix(options.prefix)
    yield* prepare(database, prefix, options.migrate ?? true)
    return port.make(database, prefix)
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
  Layer.effect(EventStore, makeStore(options))

/**
 * Opens the file and gives the EventStore on it, with the database for transactions and the user's own SQL.
 *
 * @since 0.1.0
 * @category layers
 */
export const layer = (
  options: Options
): Layer.Layer<EventStore | SqliteDatabase.SqliteDatabase, InvalidInput | StoreFailure> =>
  Layer.provideMerge(layerFromDatabase(options), SqliteDatabase.layer(options))

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
  options: SqliteDatabase.Options & Pick<StoreOptions, "prefix">
): Effect.Effect<ReadonlyArray<string>, InvalidInput | StoreFailure> =>
  Effect.scoped(
    Effect.gen(function* () {
      const prefix = yield* checkedPrefix(options.prefix)
      const database = yield* SqliteDatabase.make(options)
      return yield* database.write("migrate", (connection) => migrations.apply(connection, prefix))
    })
  )

/**
 * The SQL that creates the tables in an empty database, for who runs migrations by other means. Throws `InvalidInput`
 * for a bad prefix.
 *
 * @since 0.1.0
 * @category migrations
 */
export const migrationSql = (options: Pick<StoreOptions, "prefix"> = {}): string => {
  const { prefix = defaultPrefix } = options
  if (!isPrefix(prefix)) throw invalidPrefix(prefix)
  return migrations.sql(prefix)
}

const defaultPrefix = "es_"

const isPrefix = (prefix: unknown): prefix is string =>
  typeof prefix === "string" && /^(?:[a-z_][a-z0-9_]{0,30})?$/.test(prefix)

const invalidPrefix = (prefix: unknown): InvalidInput =>
  new InvalidInput({ what: "prefix", why: `must match [a-z_][a-z0-9_]{0,30} or be empty, not ${describe(prefix)}` })

const checkedPrefix = (prefix: string = defaultPrefix): Effect.Effect<string, InvalidInput> =>
  isPrefix(prefix) ? Effect.succeed(prefix) : Effect.fail(invalidPrefix(prefix))

/** Looks first: a database that is up to date need not be locked. */
const prepare = (
  database: SqliteDatabase.SqliteDatabaseShape,
  prefix: string,
  mayMigrate: boolean
): Effect.Effect<void, StoreFailure> =>
  Effect.flatMap(
    database.write("checking migrations", (connection) => migrations.missing(connection, prefix)),
    (missing) => {
      if (missing.length === 0) return Effect.void
      if (mayMigrate) return database.write("migrate", (connection) => migrations.apply(connection, prefix))
      const names = missing.map(({ id, name }) => `${id} (${name})`).join(", ")
      return Effect.fail(
        new StoreError({
          operation: "checking migrations",
          cause: new Error(`${database.filename} lacks the migrations ${names}: run EventStoreSqlite.migrate`)
        })
      )
    }
  )

const makeStore = (options: StoreOptions) =>
  Effect.gen(function* () {
    const liftOptions = yield* checkOptions("sqlite", options, Duration.millis(100))
    return Encoded.make(yield* makeEncoded(options), liftOptions)
  })
