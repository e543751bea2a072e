/**
 * The options of a Redis database: one server, a master under Sentinels, or a Cluster.
 */
import type * as Redacted from "effect/Redacted"
import type { TlsOptions } from "../../internal/tls.js"
import type * as Pool from "../../Pool.js"

/**
 * @since 0.1.0
 * @category models
 */
export interface Node {
  readonly host: string
  /** Default 6379, of a Sentinel 26379. */
  readonly port?: number | undefined
}

/**
 * Maps the addresses that Sentinels and Cluster nodes announce, such as `"10.0.0.1:6379"`, to hosts and ports reachable
 * from here.
 *
 * @since 0.1.0
 * @category models
 */
export type NatMap = Readonly<Record<string, Node>>

/**
 * @since 0.1.0
 * @category models
 */
export interface CommonOptions {
  readonly username?: string | undefined
  readonly password?: Redacted.Redacted | undefined
  /**
   * True: TLS, with a certificate for the host that is signed by an authority known to Node. Or the options of Node's
   * TLS. Default false: not encrypted.
   */
  readonly tls?: boolean | TlsOptions | undefined
  /** What `CLIENT LIST` shows. Default `effect-stores`. */
  readonly connectionName?: string | undefined
  readonly pool?: Pool.RedisPoolOptions | undefined
}

/**
 * One server.
 *
 * @since 0.1.0
 * @category models
 */
export interface Standalone extends CommonOptions {
  readonly mode?: "Standalone" | undefined
  /**
   * `redis://user:password@host:port/db`, or `rediss://…` for TLS, without parameters. Special characters in a password
   * are percent-encoded. An option that is given beside it must not differ from it; `tls` may say how to encrypt.
   */
  readonly url?: Redacted.Redacted | undefined
  /** Default `localhost`. */
  readonly host?: string | undefined
  readonly port?: number | undefined
  /** The number of a database. Default 0. */
  readonly db?: number | undefined
}

/**
 * The master that the Sentinels name when a connection is opened. A master that was replaced while it was still alive
 * keeps its connections until the Sentinels make it a replica, about ten seconds later; what was saved on it meanwhile
 * is lost.
 *
 * @since 0.1.0
 * @category models
 */
export interface Sentinel extends CommonOptions {
  readonly mode: "Sentinel"
  /** At least one; the others are asked for. */
  readonly sentinels: ReadonlyArray<Node>
  /** Their name of the master. */
  readonly name: string
  readonly db?: number | undefined
  readonly sentinelUsername?: string | undefined
  readonly sentinelPassword?: Redacted.Redacted | undefined
  readonly sentinelTls?: boolean | TlsOptions | undefined
  readonly natMap?: NatMap | undefined
}

/**
 * A Cluster. A connection of the pool is one to each of its nodes, and one that the driver keeps for subscriptions.
 * `maxRetries` counts redirections as well.
 *
 * @since 0.1.0
 * @category models
 */
export interface Cluster extends CommonOptions {
  readonly mode: "Cluster"
  /** At least one; the others are asked for. */
  readonly nodes: ReadonlyArray<Node>
  readonly natMap?: NatMap | undefined
}

/**
 * @since 0.1.0
 * @category models
 */
export type Options = Standalone | Sentinel | Cluster
