/**
 * The EventStore in PostgreSQL. An append is one round trip to one function. What an acknowledged append survives is
 * what the server is set to: by default a killed client, a killed server and a power cut (`fsync`, `full_page_writes`
 * and `synchronous_commit` on; a warning at start says otherwise). The feed must be read on the primary.
 *
 * Each stream of an `appendAll`, and each stream that a transaction of the caller's has appended to, holds one place in
 * the server's table of locks until the end of the transaction. The table has room for `max_locks_per_transaction` times
 * (`max_connections` + `max_prepared_transactions`), 6,400 by default, shared by all. When it is full, appends fail with `StoreUnavailable`, which is
 * retryable outside of a transaction of the caller's and not inside, where the transaction itself is too large.
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as Config from "effect/Config"
import type { ConfigError } from "effect/ConfigError"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import { type InvalidInput, type StoreError, type StoreFailure, StoreUnavailable } from "../Errors.js"
import { EventStore } from "../EventStore.js"
import * as Encoded from "../eventStore/EventStoreEncoded.js"
import { type Keys, liftOptions, onlyKnown, part, pollIntervalOf } from "../internal/storeOptions.js"
import * as Pool from "../Pool.js"
import type { Statement } from "./database/access.js"
import { sqlStateOf } from "./database/failures.js"
import type { StoreSchema } from "./database/migrations.js"
import type { NameOptions } from "./database/names.js"
import * as preparation from "./database/preparation.js"
import { type PreparationOptions, preparationKeys } from "./database/preparation.js"
import * as GroupCommit from "./eventStore/GroupCommit.js"
import * as PgHints from "./eventStore/hints.js"
import * as schema from "./eventStore/schema.js"
import type { Attempt } from "./eventStore/statements.js"
import * as statements from "./eventStore/statements.js"
import * as PgDatabase from "./PgDatabase.js"

/**
 * @since 0.1.0
 * @category models
 */
export interface StoreOptions extends PreparationOptions {
  /**
   * Refuse all writes of events with `ReadOnly`. Default false. Tables are made all the same, unless `migrate` is false,
   * and the user's own SQL still writes.
   */
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

const storeSchema: StoreSchema = { store: "EventStore", migrations: schema.migrations }

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
): Effect.Effect<Encoded.Encoded, InvalidInput | StoreFailure, PgDatabase.PgDatabase | Scope.Scope> =>
  Effect.gen(function* () {
    const database = yield* PgDatabase.PgDatabase
    const names = yield* preparation.prepare(database, storeSchema, options)
    const sql = statements.make(names)
    // Outside of any transaction and of any fiber's life; its failure is a hint lost.
    const hints = yield* PgHints.make(database.settings, names.channel, () => database.submit(sql.notify, () => {}))
    const appended = (answer: Attempt) => {
      if (typeof answer === "object" && answer._tag === "Appended") hints.appended()
    }
    const grouped = GroupCommit.make({
      limits: database.limits,
      submit: database.submit,
      one: (append, wait) => observed(sql.appendOne(append, wait), appended),
      group: (appends) => observed(sql.appendGroup(appends), (answers) => answers.forEach(appended))
    })

    return {
      append: (appends, guards) =>
        Effect.withFiberRuntime<Encoded.AppendOutcome, StoreFailure>((fiber) => {
          const inside = database.inTransaction(fiber)
          const first = appends[0] as Encoded.EncodedAppend
          const single = appends.length === 1 && guards.length === 0 && first.events.length === 1
          const answer: Effect.Effect<Attempt, StoreFailure> =
            single && !inside
              ? grouped(first)
              : database.write(single ? sql.appendOne(first, true) : sql.appendMany(appends, guards), appended)
          const attempt: Effect.Effect<Encoded.AppendOutcome, StoreFailure> = Effect.flatMap(answer, (answer) => {
            if (typeof answer === "object") return Effect.succeed(answer)
            const ids = appends.flatMap(({ events }) => events.map(({ id }) => id))
            return Effect.flatMap(database.run(sql.byIds(ids)), (events) =>
              // Deleted in between, so they are free again.
              events.length === 0 ? attempt : Effect.succeed({ _tag: "Exists" as const, events })
            )
          })
          return Effect.catchAll(attempt, (error) => resolve(attempt, inside, error))
        }),
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

/** Tells of what a statement has done, also when nobody waits for it any more. */
const observed = <A>(query: Statement<A>, done: (value: A) => void): Statement<A> => ({
  ...query,
  onResult: (result) => {
    const value = query.onResult(result)
    done(value)
    return value
  }
})

/**
 * What an append does about a failure, when it is not part of a transaction of the caller's, which is the caller's to
 * repeat. Its event ids make a repeat safe, so it is repeated when the outcome is unknown, and when an id was taken by
 * an append that ran at the same time: the repeat finds it stored.
 */
const resolve = (
  attempt: Effect.Effect<Encoded.AppendOutcome, StoreFailure>,
  inTransaction: boolean,
  error: StoreFailure
): Effect.Effect<Encoded.AppendOutcome, StoreFailure> => {
  if (isUniqueViolation(error)) {
    return inTransaction
      ? Effect.fail(new StoreUnavailable({ operation: "append", retryable: true, cause: error.cause }))
      : attempt
  }
  // The locks of this very transaction have filled the server's table, and would again.
  if (inTransaction && sqlStateOf(error) === "53200" && error._tag === "StoreUnavailable") {
    return Effect.fail(new StoreUnavailable({ operation: "append", retryable: false, cause: error.cause }))
  }
  if (error._tag !== "CommitOutcomeUnknown" || inTransaction) return Effect.fail(error)
  // Whatever comes of the repeats: what is not known of the first attempt stays unknown.
  return Effect.withClock(
    Effect.mapError(Effect.retry(attempt, reconnecting), () => error),
    realTime
  )
}

// A server does not wait for a test's clock.
const realTime = Clock.make()

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
      const known = yield* onlyKnown(options, storeKeys)
      const lifting = yield* liftOptions("postgresql", known)
      const pollInterval = yield* pollIntervalOf(known, Duration.seconds(1))
      return Encoded.make(yield* makeEncoded(part(known, preparationKeys)), { ...lifting, pollInterval })
    })
  )

/**
 * Opens the database and gives the EventStore on it, with the database for transactions and the user's own SQL.
 *
 * @since 0.1.0
 * @category layers
 */
export const layer: (options: Options) => Layer.Layer<EventStore | PgDatabase.PgDatabase, InvalidInput | StoreFailure> =
  preparation.withDatabase(layerFromDatabase, storeKeys, Pool.defaults.eventStore.pg)

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
  options: PgDatabase.Options & NameOptions
): Effect.Effect<ReadonlyArray<string>, InvalidInput | StoreFailure> => preparation.migrate(storeSchema, options)

/**
 * The SQL that creates everything in a database without it, for who runs migrations by other means. Throws `InvalidInput`
 * for a bad schema or prefix, or another option.
 *
 * @since 0.1.0
 * @category migrations
 */
export const migrationSql = (options: NameOptions = {}): string => preparation.migrationSql(storeSchema, options)
