/**
 * A PostgreSQL database opened for the stores and for the user's own SQL: a pool of connections and the transactions on
 * them. Stores on the same `PgDatabase` share both.
 *
 * Needs PostgreSQL 13 or newer with the encoding UTF8, and a connection to the server itself or through a pooler. One
 * that lends its sessions for a transaction each must be told by the option `pooler`.
 *
 * @since 0.1.0
 */
import * as Reactivity from "@effect/experimental/Reactivity"
import * as SqlClient from "@effect/sql/SqlClient"
import * as PgClient from "@effect/sql-pg/PgClient"
import type * as Config from "effect/Config"
import * as ConfigError from "effect/ConfigError"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import { identity } from "effect/Function"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import type { InvalidInput, StoreFailure } from "../Errors.js"
import type { Health } from "../Health.js"
import * as variables from "../internal/config.js"
import { onlyKnown } from "../internal/storeOptions.js"
import { PoolMeter } from "../internal/telemetry.js"
import { tlsReaders } from "../internal/tls.js"
import * as Pool from "../Pool.js"
import type { PoolState } from "../sql/ConnectionPool.js"
import * as onClient from "./client/access.js"
import {
  accessTo,
  type Isolation,
  type Statement,
  type StoreAccess,
  storeAccess,
  Transactions
} from "./database/access.js"
import { poolOf } from "./database/connection.js"
import { health } from "./database/health.js"
import { databaseKeys, type Options, type SslMode, type SslOptions, sslModes } from "./database/options.js"
import { examineClient, examineServer } from "./database/server.js"
import { transactionSettings } from "./database/session.js"
import { checkedSettings, describeConnection, settingsOf } from "./database/settings.js"
import * as Sql from "./database/sqlClient.js"
import { SharedCommits } from "./groups/SharedCommits.js"

export type { TlsOptions } from "../internal/tls.js"
export type { PoolState } from "../sql/ConnectionPool.js"
export type { Isolation } from "./database/access.js"
export type { NameOptions } from "./database/names.js"
export type { Options, SslMode, SslOptions } from "./database/options.js"

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
   * rolls back, and remains the cause. A failure of COMMIT is typed: `StoreUnavailable` with `retryable` for a
   * serialization failure or a deadlock, `StoreError` for a deferred constraint, `CommitOutcomeUnknown` when the
   * connection was lost in the middle. Inside another transaction it is a savepoint: its failure, when caught, undoes
   * only its own writes. Do not run COMMIT or ROLLBACK by hand: it fails the transaction, and if it begins another in
   * the same statement (`rollback; begin`, `commit and chain`), it is not noticed.
   *
   * COMMIT waits for statements and inner transactions of forked fibers, for as long as for a connection. If an inner
   * transaction has not ended by then, everything is rolled back with `PoolTimeout`, and what it does next fails.
   */
  readonly transaction: <A, E, R>(
    self: Effect.Effect<A, E, R>,
    options?: TransactionOptions
  ) => Effect.Effect<A, E | StoreFailure, R>

  /**
   * The user's own SQL, on sessions as the server gives them: the settings and timeouts of the stores hold for their
   * own statements only, also in a transaction, and what a transaction sets with `set local` stays until its end. Two
   * things are this database's: statements and transactions are `read committed` unless `isolation` says otherwise,
   * and a transaction that does nothing ends after `idleInTransactionTimeout`. `reset all` changes nothing of that;
   * `discard all` costs the session's prepared statements, and the next use of a store on it fails as retryable.
   *
   * `withTransaction` is `transaction`, with its failures as the `cause` of an `SqlError`. `.stream` collects the rows
   * first: page by a key to read many.
   */
  readonly sql: SqlClient.SqlClient

  /** The pool at this moment. */
  readonly state: Effect.Effect<PoolState>

  /**
   * Whether the server responds, known within 2 seconds, and without waiting for the pool: if no connection is idle,
   * one is opened beside it. A pool, or a server, whose connections are all in use is `busy` and not `down`.
   */
  readonly health: Effect.Effect<Health>

  /** @internal */
  readonly [storeAccess]: StoreAccess
}

/**
 * @since 0.1.0
 * @category tags
 */
export class PgDatabase extends Context.Tag("effect-stores/PgDatabase")<PgDatabase, PgDatabaseShape>() {}

/**
 * Opens the database until the scope closes. Fails with `InvalidInput` for bad options, with `StoreUnavailable` if the
 * server does not respond, with `StoreError` if it refuses, or if what responds is a pooler that needs the option
 * `pooler`. Warns if the pool is larger than the server allows, unless the connections are `counted` together with
 * others, if the server may lose what it has acknowledged, or if it only reads. `defaults` are the pool's limits where
 * the options give none, and `store` ends the name of the pool in metrics.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = (
  options: Options,
  defaults: Pool.Defaults = Pool.defaults.eventStore.pg,
  store?: string,
  counted = false
): Effect.Effect<PgDatabaseShape, InvalidInput | StoreFailure, Scope.Scope> =>
  Effect.gen(function* () {
    const settings = yield* checkedSettings(yield* onlyKnown(options, databaseKeys))
    const limits = yield* Pool.limits(options.pool, defaults)
    const connection = describeConnection(Redacted.value(settings.client))

    const meter = new PoolMeter(store === undefined ? "pg" : `pg.${store}`, connection)
    const pool = yield* poolOf(connection, meter, settings, limits)
    yield* examineServer(pool, settings, counted)

    const transactions = new Transactions(pool, transactionSettings(settings))
    const commits = new SharedCommits(pool)
    const shared = settings.groupCommit ? <A>(query: Statement<A>) => commits.run(query) : undefined
    const transaction = <A, E, R>(self: Effect.Effect<A, E, R>, options?: TransactionOptions) =>
      transactions.run(self, `begin isolation level ${options?.isolation ?? "read committed"}`, identity)
    return {
      connection,
      transaction,
      sql: Sql.make(transactions, yield* Reactivity.make),
      state: Effect.sync(() => pool.state),
      health: health(pool, settings),
      [storeAccess]: { connection, transaction, limits, settings, ...accessTo(pool, transactions, shared) }
    }
  })

/**
 * The database on a client that the application has, so that one pool serves both: what the stores do inside the
 * client's `sql.withTransaction` belongs to it, and so does what the client does inside `transaction`. The sessions and
 * the pool are the application's: its timeouts hold, and the user must have `default_transaction_isolation = read
 * committed`. Fails with `StoreUnavailable` if the server does not respond, with `StoreError` if it is refused.
 *
 * What is weaker than on a database of its own:
 *
 * - A COMMIT that fails is a typed failure of `transaction`, as ever; of `sql.withTransaction` it is a defect. There a
 *   transaction in which a statement failed is rolled back without an error.
 * - Interruption waits: for the end of a statement that runs, and for the connection of one that has none yet, which is
 *   then not sent. What bounds them are `statement_timeout` and `lock_timeout` of the application's sessions, and the
 *   client's `connectTimeout`.
 * - Inner transactions are the client's savepoints: one after the other, not at the same time.
 * - A fiber that outlives its transaction may still use the connection, in the transaction of whoever has it next: wait
 *   for the fibers that are forked in one before it ends.
 * - No statement is prepared: each is planned anew.
 * - Nobody listens: appends of other processes are noticed by polling only, appends inside a transaction too, and the
 *   first of two levels of a cache is not used.
 * - `state` counts the connections that the stores use; `health` knows a full pool only by them.
 *
 * @since 0.1.0
 * @category constructors
 */
export const fromClient = (client: PgClient.PgClient): Effect.Effect<PgDatabaseShape, StoreFailure> =>
  Effect.gen(function* () {
    const { access, health, state, transaction } = yield* onClient.make(client)
    yield* examineClient(access.run)
    return {
      connection: access.connection,
      transaction: (self, options) => transaction(self, options?.isolation ?? "read committed"),
      sql: client,
      state,
      health,
      [storeAccess]: access
    }
  })

/**
 * The same as a layer, on the application's `PgClient`.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerFromClient: Layer.Layer<PgDatabase, StoreFailure, PgClient.PgClient> = Layer.effect(
  PgDatabase,
  Effect.flatMap(PgClient.PgClient, fromClient)
)

/**
 * How many connections the server allows to all its clients; `undefined` behind a pooler, which has a bound of its own.
 *
 * @since 0.1.0
 * @category getters
 */
export const maxClients = ({
  [storeAccess]: { run, settings }
}: PgDatabaseShape): Effect.Effect<number | undefined, StoreFailure> =>
  settings.pooled
    ? Effect.succeed(undefined)
    : run({
        text: `select current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
          as allowed`,
        operation: "maxClients",
        kind: "read",
        onResult: (result) => Number(result.rows[0]?.allowed)
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
): Layer.Layer<PgDatabase, InvalidInput | StoreFailure | ConfigError.ConfigError> =>
  Layer.scoped(
    PgDatabase,
    Effect.flatMap(variables.read(config), (options) => make(options))
  )

/** `SSL` is a short form of `SSL_MODE`. */
const ssl: variables.Reader<boolean | SslOptions> = variables.switched(
  variables.group({ mode: variables.oneOf(sslModes), ...tlsReaders }),
  (on, options, name) =>
    (options.mode ?? modeOf(on)) === modeOf(on)
      ? undefined
      : ConfigError.InvalidData([`${name}_MODE`], `must be ${modeOf(on)} beside \`${name}\`=${on}: give one of them`),
  (on, options) =>
    on === undefined || options === undefined
      ? (on ?? options)
      : Object.defineProperty(options, "mode", { value: modeOf(on), enumerable: true })
)

const modeOf = (on: boolean): SslMode => (on ? "verify-full" : "disable")

const pooler: variables.Reader<"transaction"> = variables.oneOf(
  ["transaction"],
  "must be transaction, for a pooler that lends a session of the server for one transaction, as PgBouncer with " +
    "pool_mode = transaction does, or be left out, for one that lends it for a session, and for the server itself"
)

const timeout = variables.duration("infinity")

/**
 * The database's `sql` as the `SqlClient` of @effect/sql, for repositories, resolvers and migrations that name no
 * backend. What they do in a transaction of the database belongs to it.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerSqlClient: Layer.Layer<SqlClient.SqlClient, never, PgDatabase> = Layer.effect(
  SqlClient.SqlClient,
  Effect.map(PgDatabase, ({ sql }) => sql)
)

/**
 * Options from the variables `URL`, or `HOST`, `PORT`, `DATABASE`, `USERNAME` and `PASSWORD`; `SSL_MODE`,
 * `SSL_CA_FILE`, `SSL_CERT_FILE` and `SSL_KEY_FILE` (names of files in PEM), `SSL_PASSPHRASE` and `SSL_SERVERNAME`; and
 * `APPLICATION_NAME`, `CONNECT_TIMEOUT`, `STATEMENT_TIMEOUT`, `LOCK_TIMEOUT` and `IDLE_IN_TRANSACTION_TIMEOUT`
 * (durations), `POOLER` (`transaction`), `LISTEN_URL` and `GROUP_COMMIT`, each optional, and those of `Pool.config`
 * nested as `POOL`. `SSL` is a short form: true is the mode `verify-full`, which is also that of files without a mode,
 * and false is `disable`.
 *
 * @since 0.1.0
 * @category config
 */
export const config: Config.Config<Options> = variables.checkedOptions({
  url: variables.secret,
  host: variables.text,
  port: variables.port,
  database: variables.text,
  username: variables.text,
  password: variables.secret,
  ssl,
  applicationName: variables.text,
  connectTimeout: timeout,
  statementTimeout: timeout,
  lockTimeout: timeout,
  idleInTransactionTimeout: timeout,
  pooler,
  listenUrl: variables.secret,
  groupCommit: variables.flag,
  pool: variables.nested(Pool.config)
})(settingsOf)
