/**
 * A PostgreSQL database opened for the stores and for the user's own SQL: a pool of connections and the transactions on
 * them. Stores on the same `PgDatabase` share both.
 *
 * Needs PostgreSQL 13 or newer with the encoding UTF8, and a connection to the server itself or through a pooler in
 * session mode: statements are prepared by name, and locks live as long as transactions.
 *
 * @since 0.1.0
 */
import * as Reactivity from "@effect/experimental/Reactivity"
import type * as SqlClient from "@effect/sql/SqlClient"
import * as Config from "effect/Config"
import type { ConfigError } from "effect/ConfigError"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import { identity } from "effect/Function"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import { type InvalidInput, StoreError, type StoreFailure } from "../Errors.js"
import { onlyKnown } from "../internal/storeOptions.js"
import * as Pool from "../Pool.js"
import { ConnectionPool } from "../sql/ConnectionPool.js"
import { type InContext, type Isolation, type Statement, statement, submit, Transactions } from "./database/access.js"
import { PgConnection } from "./database/connection.js"
import { databaseKeys, type Options } from "./database/options.js"
import { type ConnectionSettings, checkedSettings, describeConnection } from "./database/settings.js"
import * as Sql from "./database/sqlClient.js"

export type { TlsOptions } from "../internal/tls.js"
export type { Options } from "./database/options.js"

/**
 * Connections open (in use or not) and idle, and operations waiting for one.
 *
 * @since 0.1.0
 * @category models
 */
export interface PoolState {
  readonly open: number
  readonly idle: number
  readonly waiting: number
}

/**
 * @since 0.1.0
 * @category models
 */
export interface TransactionOptions {
  /**
   * Default `"read committed"`. Ignored inside another transaction. Above it, appends, the deletion of a stream and the
   * feed are refused with `StoreError`: they would decide on an old snapshot.
   */
  readonly isolation?: Isolation | undefined
}

/**
 * @since 0.1.0
 * @category models
 */
export interface PgDatabaseShape {
  /** Host, port and database, without secrets. */
  readonly connection: string

  /**
   * Runs the effect in a transaction. Everything that its fibers do on this database meanwhile, through stores or
   * `sql`, belongs to it and sees its writes.
   *
   * Waiting for a connection can be interrupted and ends with `PoolTimeout`. A failure or an interrupt of the effect
   * rolls back and stays the cause. A failure of COMMIT is typed: `StoreUnavailable` with `retryable` for a serialization
   * failure or a deadlock, `StoreError` for a deferred constraint, `CommitOutcomeUnknown` when the connection was lost
   * in the middle. Inside another transaction it is a savepoint: its failure, when caught, undoes only its own writes.
   * Its ends are its own: a COMMIT or ROLLBACK by hand in it fails it, and one that begins anew in the same statement
   * (`rollback; begin`, `commit and chain`) is not noticed.
   *
   * COMMIT waits for statements and inner transactions of forked fibers, for as long as for a connection. An inner one
   * that is not over by then ends everything: `PoolTimeout`, rolled back, and what it does next fails.
   */
  readonly transaction: <A, E, R>(
    self: Effect.Effect<A, E, R>,
    options?: TransactionOptions
  ) => Effect.Effect<A, E | StoreFailure, R>

  /**
   * The user's own SQL. Sessions have `enable_seqscan` and `jit` off, for the sake of the stores; `set local` turns them
   * on in a transaction. `reset all` and `discard all` take the timeouts and these from a session for as long as it lives.
   * `withTransaction` is `transaction`, with its failures as the `cause` of an `SqlError`. `.stream`
   * collects the rows first: page by a key to read many.
   */
  readonly sql: SqlClient.SqlClient

  /** The pool at this moment. */
  readonly state: Effect.Effect<PoolState>

  /** For stores: runs a statement on a connection of the pool, or in the transaction of the fiber. */
  readonly run: <A>(query: Statement<A>) => Effect.Effect<A, StoreFailure>

  /** For stores: the same, and calls back once what it did is committed. */
  readonly write: <A>(query: Statement<A>, committed: (value: A) => void) => Effect.Effect<A, StoreFailure>

  /**
   * For stores: runs a statement on a connection of the pool, outside of any fiber and transaction. What is answered
   * ends it as interruption ends `run`; `done` is called in any case.
   */
  readonly submit: <A>(query: Statement<A>, done: (exit: Exit.Exit<A, StoreFailure>) => void) => Effect.Effect<void>

  /** For stores: whether the fiber is in a transaction of this database. */
  readonly inTransaction: (fiber: InContext) => boolean

  readonly limits: Pool.Limits

  /** For stores: what a connection of their own (LISTEN) is opened with. */
  readonly settings: ConnectionSettings
}

/**
 * @since 0.1.0
 * @category tags
 */
export class PgDatabase extends Context.Tag("effect-stores/PgDatabase")<PgDatabase, PgDatabaseShape>() {}

/**
 * Opens the database until the scope closes. `InvalidInput` for options that make no sense, `StoreUnavailable` when the
 * server does not answer, `StoreError` when it refuses. Warns when the pool is larger than the server allows, or when
 * the server is set not to keep what it acknowledges. `defaults` are the pool's limits where the options give none.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = (
  options: Options,
  defaults: Pool.Defaults = Pool.defaults.eventStore.pg
): Effect.Effect<PgDatabaseShape, InvalidInput | StoreFailure, Scope.Scope> =>
  Effect.gen(function* () {
    const settings = yield* checkedSettings(yield* onlyKnown(options, databaseKeys))
    const limits = yield* Pool.limits(options.pool, defaults)
    const connection = describeConnection(Redacted.value(settings.client))

    const pool = yield* Effect.acquireRelease(
      Effect.sync(() => {
        let known = false
        const pool: ConnectionPool<PgConnection> = new ConnectionPool(connection, limits, {
          open: (done) =>
            PgConnection.open(
              settings,
              known,
              (lost) => pool.discardIdle(lost),
              (result) => {
                known ||= result instanceof PgConnection
                done(result)
              }
            ),
          close: (connection) => connection.close(),
          // A transaction that somebody left open would swallow what comes next.
          usable: (connection) => connection.usable && connection.outsideTransaction
        })
        return pool
      }),
      (pool) => pool.shutdown
    )
    yield* Effect.acquireRelease(
      Effect.sync(() =>
        setInterval(() => {
          const now = Date.now()
          for (const connection of pool.connections) connection.checkSilence(now)
        }, 1_000).unref()
      ),
      (timer) => Effect.sync(() => clearInterval(timer))
    )
    yield* examineServer(pool)

    const transactions = new Transactions(pool)
    return {
      connection,
      settings,
      transaction: (self, options) =>
        transactions.run(self, `begin isolation level ${options?.isolation ?? "read committed"}`, identity),
      sql: Sql.make(transactions, yield* Reactivity.make),
      state: Effect.sync(() => pool.state),
      run: <A>(query: Statement<A>) =>
        Effect.withFiberRuntime<A, StoreFailure>((fiber) => statement(transactions.poolOf(fiber), query)),
      write: <A>(query: Statement<A>, committed: (value: A) => void) =>
        Effect.withFiberRuntime<A, StoreFailure>((fiber) => {
          const transaction = transactions.current(fiber)
          const { onResult } = query
          return statement(transaction?.inside ?? pool, {
            ...query,
            onResult: (result) => {
              const value = onResult(result)
              if (transaction === undefined) committed(value)
              else transaction.onCommit(() => committed(value))
              return value
            }
          })
        }),
      submit: (query, done) => submit(pool, query, done),
      inTransaction: (fiber) => transactions.current(fiber) !== undefined,
      limits
    }
  })

/**
 * @since 0.1.0
 * @category layers
 */
export const layer = (options: Options): Layer.Layer<PgDatabase, InvalidInput | StoreFailure> =>
  Layer.scoped(PgDatabase, make(options))

/**
 * @since 0.1.0
 * @category layers
 */
export const layerConfig = (
  config: Config.Config.Wrap<Options>
): Layer.Layer<PgDatabase, InvalidInput | StoreFailure | ConfigError> =>
  Layer.scoped(
    PgDatabase,
    Effect.flatMap(Config.unwrap(config), (options) => make(options))
  )

/** What a server must be, and what its operator should know. */
const examineServer = (pool: ConnectionPool<PgConnection>): Effect.Effect<void, StoreFailure> =>
  Effect.gen(function* () {
    const found = yield* statement(pool, {
      text: "select name, setting from pg_settings where name = any ($1)",
      values: [
        [
          "server_version_num",
          "server_encoding",
          "max_connections",
          "superuser_reserved_connections",
          "fsync",
          "full_page_writes",
          "synchronous_commit"
        ]
      ],
      operation: "examining the server",
      kind: "read",
      onResult: (result) => new Map(result.rows.map(({ name, setting }) => [String(name), String(setting)]))
    })
    const refuse = (why: string) => new StoreError({ operation: "examining the server", cause: new Error(why) })
    if (Number(found.get("server_version_num")) < 130_000) return yield* refuse("PostgreSQL 13 or newer is needed")
    if (found.get("server_encoding") !== "UTF8") {
      return yield* refuse(`the database must have the encoding UTF8, not ${found.get("server_encoding")}`)
    }
    const allowed = Number(found.get("max_connections")) - Number(found.get("superuser_reserved_connections"))
    const { maxOpenConns } = pool.limits
    // One more is the connection that listens for appends of other processes.
    if (maxOpenConns + 1 > allowed) {
      yield* Effect.logWarning(
        `the pool may open ${maxOpenConns} connections and a listener, the server allows ${allowed} to all its clients`
      )
    }
    for (const setting of ["fsync", "full_page_writes", "synchronous_commit"]) {
      if (found.get(setting) === "off") {
        yield* Effect.logWarning(`the server has ${setting} off: acknowledged events may be lost when it crashes`)
      }
    }
  })
