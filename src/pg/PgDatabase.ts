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
import type * as SqlClient from "@effect/sql/SqlClient"
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
import { accessTo, type Isolation, type StoreAccess, storeAccess, Transactions } from "./database/access.js"
import { poolOf } from "./database/connection.js"
import { health } from "./database/health.js"
import { databaseKeys, type Options, type SslMode, type SslOptions, sslModes } from "./database/options.js"
import { transactionSettings } from "./database/pooler.js"
import { examineServer } from "./database/server.js"
import { checkedSettings, describeConnection, settingsOf } from "./database/settings.js"
import * as Sql from "./database/sqlClient.js"

export type { TlsOptions } from "../internal/tls.js"
export type { PoolState } from "../sql/ConnectionPool.js"
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
   * The user's own SQL. Sessions have `enable_seqscan` and `jit` off, because the stores need it; `set local` turns
   * them on in a transaction. `reset all` and `discard all` remove these settings and the timeouts from a session for
   * as long as it lives. `withTransaction` is `transaction`, with its failures as the `cause` of an `SqlError`.
   * `.stream` collects the rows first: page by a key to read many.
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

    const transactions = new Transactions(pool, settings.pooled ? transactionSettings(settings) : "")
    const transaction = <A, E, R>(self: Effect.Effect<A, E, R>, options?: TransactionOptions) =>
      transactions.run(self, `begin isolation level ${options?.isolation ?? "read committed"}`, identity)
    return {
      connection,
      transaction,
      sql: Sql.make(transactions, yield* Reactivity.make),
      state: Effect.sync(() => pool.state),
      health: health(pool, settings),
      [storeAccess]: { connection, transaction, limits, settings, ...accessTo(pool, transactions) }
    }
  })

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
 * Options from the variables `URL`, or `HOST`, `PORT`, `DATABASE`, `USERNAME` and `PASSWORD`; `SSL_MODE`,
 * `SSL_CA_FILE`, `SSL_CERT_FILE` and `SSL_KEY_FILE` (names of files in PEM), `SSL_PASSPHRASE` and `SSL_SERVERNAME`; and
 * `APPLICATION_NAME`, `CONNECT_TIMEOUT`, `STATEMENT_TIMEOUT`, `LOCK_TIMEOUT` and `IDLE_IN_TRANSACTION_TIMEOUT`
 * (durations), `POOLER` (`transaction`) and `LISTEN_URL`, each optional, and those of `Pool.config` nested as `POOL`.
 * `SSL` is a short form: true is the mode `verify-full`, which is also that of files without a mode, and false is
 * `disable`.
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
  pool: variables.nested(Pool.config)
})(settingsOf)
