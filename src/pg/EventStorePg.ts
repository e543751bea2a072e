/**
 * The EventStore in PostgreSQL. An append is one round trip to one function. What an acknowledged append survives is
 * what the server is set to: by default a killed client, a killed server and a power cut (`fsync`, `full_page_writes`
 * and `synchronous_commit` on; a warning at start says otherwise). The feed must be read on the primary.
 *
 * @since 0.1.0
 */
import * as Config from "effect/Config"
import type { ConfigError } from "effect/ConfigError"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Layer from "effect/Layer"
import * as Runtime from "effect/Runtime"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import { InvalidInput, StoreError, type StoreFailure, StoreUnavailable } from "../Errors.js"
import { EventStore } from "../EventStore.js"
import * as Encoded from "../EventStoreEncoded.js"
import * as migration from "./migrate.js"
import * as PgDatabase from "./PgDatabase.js"
import * as PgHints from "./PgHints.js"
import * as schema from "./schema.js"
import * as statements from "./statements.js"

/**
 * @since 0.1.0
 * @category models
 */
export interface StoreOptions extends schema.NameOptions {
  /**
   * Create or update tables and functions at start. Default true. With false the start only checks that they are up to
   * date, and fails with `StoreError` otherwise.
   */
  readonly migrate?: boolean | undefined
  /** Refuse all writes of events with `ReadOnly`. Default false. */
  readonly readOnly?: boolean | undefined
  /** What events without one get as their `instanceId`. */
  readonly instanceId?: string | undefined
  /** How long `subscribe` goes without looking when no notification arrives. Default 1 second. */
  readonly pollInterval?: Duration.DurationInput | undefined
}

/**
 * @since 0.1.0
 * @category models
 */
export interface Options extends PgDatabase.Options, StoreOptions {}

/**
 * The port on an open database, with its tables checked or brought up to date: for layers that wrap it.
 *
 * @since 0.1.0
 * @category constructors
 */
export const makeEncoded = (
  options: schema.NameOptions & Pick<StoreOptions, "migrate"> = {}
): Effect.Effect<Encoded.Encoded, InvalidInput | StoreFailure, PgDatabase.PgDatabase | Scope.Scope> =>
  Effect.gen(function* () {
    const database = yield* PgDatabase.PgDatabase
    const names = yield* schema.names(options)
    yield* prepare(database, names, options.migrate ?? true)
    const sql = statements.make(names)
    const runtime = yield* Effect.runtime<never>()
    const hints = yield* PgHints.make(database.settings, names.channel, () => {
      // Outside of any transaction and of any fiber's life; its failure is a hint lost.
      Runtime.runCallback(runtime)(Effect.ignore(database.run(sql.notify)))
    })

    return {
      append: (appends, guards) => {
        const ids = () => appends.flatMap(({ events }) => events.map(({ id }) => id))
        const attempt = Effect.flatMap(
          database.write(sql.append(appends, guards), (answer) => {
            if (answer !== "Exists" && answer._tag === "Appended") hints.appended()
          }),
          (answer): Effect.Effect<Encoded.AppendOutcome, StoreFailure> =>
            answer === "Exists"
              ? Effect.map(database.run(sql.byIds(ids())), (events) => ({ _tag: "Exists", events }))
              : Effect.succeed(answer)
        )
        return Effect.catchAll(attempt, (error) => resolve(database, attempt, error))
      },
      readStream: (request) => database.run(sql.readStream(request)),
      version: (stream) => database.run(sql.version(stream)),
      head: database.run(sql.head),
      readFeed: (request) => database.run(sql.readFeed(request)),
      get: (id) => database.run(sql.get(id)),
      distinct: (request) => database.run(sql.distinct(request)),
      count: (filter) => database.run(sql.count(filter)),
      info: Effect.map(Effect.all([database.run(sql.info), database.run(sql.last)]), ([counts, lastEvent]) => ({
        backend: "Pg",
        connection: database.connection,
        ...counts,
        lastEvent
      })),
      update: (request) => database.run(sql.update(request)),
      deleteStream: (stream) => database.run(sql.deleteStream(stream)),
      reset: database.run(sql.reset),
      hints: hints.register
    }
  })

/**
 * What an append does about a failure, when it is not part of a transaction of the caller's, which is the caller's to
 * repeat. Its event ids make a repeat safe, so it is repeated when the outcome is unknown, and when an id was taken by
 * an append that ran at the same time: the repeat finds it stored.
 */
const resolve = (
  database: PgDatabase.PgDatabaseShape,
  attempt: Effect.Effect<Encoded.AppendOutcome, StoreFailure>,
  error: StoreFailure
): Effect.Effect<Encoded.AppendOutcome, StoreFailure> => {
  const unknown = error._tag === "CommitOutcomeUnknown"
  if (!unknown && !isUniqueViolation(error)) return Effect.fail(error)
  return Effect.flatMap(database.inTransaction, (inside) => {
    if (inside) {
      return Effect.fail(
        isUniqueViolation(error)
          ? new StoreUnavailable({ operation: "append", retryable: true, cause: error.cause })
          : error
      )
    }
    // Whatever comes of the repeats: what is not known of the first attempt stays unknown.
    const repeated = unknown ? Effect.retry(attempt, reconnecting) : attempt
    return unknown ? Effect.mapError(repeated, () => error) : repeated
  })
}

/** A server that restarts is back in about a second. */
const reconnecting = Schedule.intersect(Schedule.exponential("50 millis"), Schedule.recurs(6))

const isUniqueViolation = (error: StoreFailure): error is StoreError =>
  error._tag === "StoreError" &&
  error.operation === "append" &&
  typeof error.cause === "object" &&
  error.cause !== null &&
  "code" in error.cause &&
  error.cause.code === "23505"

/**
 * The EventStore on a database that is open already, so that stores and the user's own SQL share its pool and its
 * transactions.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerFromDatabase = (
  options: StoreOptions = {}
): Layer.Layer<EventStore, InvalidInput | StoreFailure, PgDatabase.PgDatabase> =>
  Layer.scoped(
    EventStore,
    Effect.gen(function* () {
      const pollInterval = Duration.decodeUnknown(options.pollInterval ?? Duration.seconds(1))
      if (pollInterval._tag === "None" || Duration.toMillis(pollInterval.value) <= 0) {
        return yield* new InvalidInput({ what: "pollInterval", why: "must be a duration greater than zero" })
      }
      const encoded = yield* makeEncoded(options)
      return Encoded.make(encoded, { ...options, system: "postgresql", pollInterval: pollInterval.value })
    })
  )

/**
 * Opens the database and gives the EventStore on it, with the database for transactions and the user's own SQL.
 *
 * @since 0.1.0
 * @category layers
 */
export const layer = (options: Options): Layer.Layer<EventStore | PgDatabase.PgDatabase, InvalidInput | StoreFailure> =>
  Layer.provideMerge(layerFromDatabase(options), PgDatabase.layer(options))

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
export const layerConfig = (
  config: Config.Config.Wrap<Options>
): Layer.Layer<EventStore | PgDatabase.PgDatabase, InvalidInput | StoreFailure | ConfigError> =>
  Layer.unwrapEffect(Effect.map(Config.unwrap(config), layer))

/**
 * Creates or updates tables and functions, apart from any start; answers the names of the migrations it has applied.
 * May run any number of times and at once.
 *
 * @since 0.1.0
 * @category migrations
 */
export const migrate = (
  options: PgDatabase.Options & schema.NameOptions
): Effect.Effect<ReadonlyArray<string>, InvalidInput | StoreFailure> =>
  Effect.scoped(
    Effect.gen(function* () {
      const names = yield* schema.names(options)
      const database = yield* PgDatabase.make(options)
      return yield* migration.apply(database, names, schema.migrations(names))
    })
  )

/**
 * The SQL that creates everything in an empty database, for who runs migrations by other means. Throws `InvalidInput`
 * for a bad schema or prefix.
 *
 * @since 0.1.0
 * @category migrations
 */
export const migrationSql = (options: schema.NameOptions = {}): string => {
  const names = schema.names(options)
  if (Either.isLeft(names)) throw names.left
  return migration.sql(names.right, schema.migrations(names.right))
}

/** Looks first: a database that is up to date need not be locked. */
const prepare = (
  database: PgDatabase.PgDatabaseShape,
  names: schema.Names,
  mayMigrate: boolean
): Effect.Effect<void, StoreFailure> =>
  Effect.flatMap(migration.missing(database, names, schema.migrations(names)), (missing) => {
    if (missing.length === 0) return Effect.void
    if (mayMigrate) return migration.apply(database, names, schema.migrations(names))
    const lacking = missing.map(({ id, name }) => `${id} (${name})`).join(", ")
    return Effect.fail(
      new StoreError({
        operation: "checking migrations",
        cause: new Error(`${database.connection} lacks the migrations ${lacking}: run EventStorePg.migrate`)
      })
    )
  })
