/**
 * The options of a PostgreSQL database, and their keys: others are refused.
 */
import type * as Duration from "effect/Duration"
import type * as Redacted from "effect/Redacted"
import type { Keys } from "../../internal/storeOptions.js"
import type { TlsOptions } from "../../internal/tls.js"
import type * as Pool from "../../Pool.js"

export const sslModes = ["disable", "require", "verify-ca", "verify-full"] as const

/**
 * How to encrypt, as libpq names it. `require` asks nothing of the server's certificate unless authorities are given;
 * `verify-ca` asks who has signed it; `verify-full` asks for the name or address of the host, too. `allow` and
 * `prefer` are not supported: they do not say whether to encrypt.
 *
 * @since 0.1.0
 * @category models
 */
export type SslMode = (typeof sslModes)[number]

/**
 * @since 0.1.0
 * @category models
 */
export interface SslOptions extends TlsOptions {
  /** Default: the `sslmode` of the URL, or else `verify-full`. */
  readonly mode?: SslMode | undefined
}

/**
 * @since 0.1.0
 * @category models
 */
export interface Options {
  /**
   * `postgres://user:password@host:port/database`, with the parameters `sslmode` (`disable`, `require`, `verify-ca`,
   * `verify-full`), `sslrootcert`, `sslcert`, `sslkey`, `application_name`, `connect_timeout`, `host`, `port`, `user`
   * and `dbname` as libpq means them; others are refused. Special characters in a name or a password are
   * percent-encoded. An option that is given beside it must not differ from it. Environment variables are not read.
   */
  readonly url?: Redacted.Redacted | undefined
  /** A host name, or the directory of a Unix socket. Default `localhost`. */
  readonly host?: string | undefined
  readonly port?: number | undefined
  /** Default: the name of the user. */
  readonly database?: string | undefined
  /** Default: the name of the process's user. */
  readonly username?: string | undefined
  readonly password?: Redacted.Redacted | undefined
  /**
   * True: TLS, with a certificate for the host that is signed by an authority known to Node (`verify-full`). Or a mode,
   * files with certificates and the options of Node's TLS. Default: the `sslmode` of the URL, or else false, not
   * encrypted.
   */
  readonly ssl?: boolean | SslOptions | undefined
  /** What `pg_stat_activity` shows. Default `effect-stores`. */
  readonly applicationName?: string | undefined
  /** How long connecting may take. Default 10 seconds. */
  readonly connectTimeout?: Duration.DurationInput | undefined
  /** How long the server lets a statement of a store run. Default 60 seconds; infinity for no limit. */
  readonly statementTimeout?: Duration.DurationInput | undefined
  /** How long a statement of a store waits for a lock. Default 10 seconds; infinity for no limit. */
  readonly lockTimeout?: Duration.DurationInput | undefined
  /**
   * How long a transaction may do nothing before the server ends it. Default 60 seconds; infinity for no limit. A
   * client that vanishes in the middle of an append holds back the feed until then.
   */
  readonly idleInTransactionTimeout?: Duration.DurationInput | undefined
  /**
   * Give `"transaction"` when the URL leads to a pooler that lends a session of the server for one transaction, such as
   * PgBouncer with `pool_mode = transaction`. Statements are not prepared then, and nothing is set that outlives a
   * transaction. Nobody listens, unless `listenUrl` is given. Without this option there must be no such pooler: the
   * settings of our sessions would reach others.
   */
  readonly pooler?: "transaction" | undefined
  /**
   * Where LISTEN connects: the server itself, or a pooler in session mode. A URL like `url`, complete by itself; `ssl`,
   * `applicationName` and `connectTimeout` apply to it too. Default: `url`; and with `pooler` nowhere: then other
   * processes' appends are noticed by polling only, and the first of two levels of a cache is not used.
   */
  readonly listenUrl?: Redacted.Redacted | undefined
  /**
   * Whether appends, new and finished commands, and snapshots that are written at the same time, outside a transaction,
   * share round trips and transactions, each with an outcome of its own. Default true.
   */
  readonly groupCommit?: boolean | undefined
  readonly pool?: Pool.PoolOptions | undefined
}

export const databaseKeys: Keys<Options> = {
  url: true,
  host: true,
  port: true,
  database: true,
  username: true,
  password: true,
  ssl: true,
  applicationName: true,
  connectTimeout: true,
  statementTimeout: true,
  lockTimeout: true,
  idleInTransactionTimeout: true,
  pooler: true,
  listenUrl: true,
  groupCommit: true,
  pool: true
}
