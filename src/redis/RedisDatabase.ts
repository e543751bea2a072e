/**
 * A Redis database opened for the stores: one server, a master under Sentinels, or a Cluster, and the connections to
 * it. Stores on the same `RedisDatabase` share them. Needs Redis 7 or newer, or Valkey.
 *
 * @since 0.1.0
 */
import * as Config from "effect/Config"
import * as ConfigError from "effect/ConfigError"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import type { InvalidInput, ReadFailure, StoreError, StoreFailure, StoreUnavailable } from "../Errors.js"
import * as Health from "../Health.js"
import * as variables from "../internal/config.js"
import type { Pages } from "../internal/pages.js"
import { PoolMeter } from "../internal/telemetry.js"
import { tlsSwitch } from "../internal/tls.js"
import { checked } from "../internal/validate.js"
import * as Pool from "../Pool.js"
import { ClientPool, type Request } from "./database/ClientPool.js"
import { command } from "./database/commands.js"
import type { Node, Options } from "./database/options.js"
import * as scanning from "./database/scan.js"
import { checkVariables, settings } from "./database/settings.js"
import { type Listener, subscribe } from "./database/subscription.js"

export type { TlsOptions } from "../internal/tls.js"
export type { Cluster, CommonOptions, NatMap, Node, Options, Sentinel, Standalone } from "./database/options.js"
export type { Listener } from "./database/subscription.js"

/**
 * @since 0.1.0
 * @category models
 */
export interface RedisDatabaseShape {
  /** Where it is, without secrets. */
  readonly connection: string

  /** Open connections, and how many of them are idle. */
  readonly state: Effect.Effect<{ readonly open: number; readonly idle: number }>

  /**
   * Whether the server responds, known within 2 seconds. If all connections are busy with what they are to send, it is
   * asked over another, and is `busy` and not `down`.
   */
  readonly health: Effect.Effect<Health.Health>

  /**
   * For stores: sends a command and returns its reply, within the pool's `writeTimeout`. Transient failures are
   * retried, so the command must be safe to repeat. If it finally fails with `StoreUnavailable`, or is interrupted
   * (which returns at once), it may still have happened.
   */
  readonly run: <A>(request: Request<A>) => Effect.Effect<A, StoreError | StoreUnavailable>

  /**
   * For stores: passes the keys that begin with `prefix`, from all masters, batch by batch, and never blocks a server
   * for long. Keys that come and go meanwhile, or move to another node, may be missed or come twice.
   */
  readonly scan: (
    prefix: string,
    operation: string,
    use: (keys: ReadonlyArray<Buffer>) => Effect.Effect<void, ReadFailure>
  ) => Effect.Effect<void, ReadFailure>

  /** For stores: the same page by page. */
  readonly pages: (prefix: string, operation: string) => Pages<Buffer, ReadFailure>

  /** For stores: hears a channel until the scope closes, on a connection of its own, made again whenever it is lost. */
  readonly subscribe: (channel: string, listener: Listener) => Effect.Effect<void, never, Scope.Scope>
}

/**
 * @since 0.1.0
 * @category tags
 */
export class RedisDatabase extends Context.Tag("effect-stores/RedisDatabase")<RedisDatabase, RedisDatabaseShape>() {}

/**
 * Opens the database until the scope closes. Fails with `InvalidInput` for bad options, with `StoreUnavailable` if the
 * server does not respond, and with `StoreError` if it refuses, for example because of a wrong password. The pool's
 * limits are `defaults` where the options give none, and `store` ends the name of the pool in metrics.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = (
  options: Options,
  defaults: Pool.RedisLimits = Pool.defaults.snapshotStore.redis,
  store?: string
): Effect.Effect<RedisDatabaseShape, InvalidInput | StoreFailure, Scope.Scope> =>
  Effect.gen(function* () {
    const { connect, connection } = yield* checked(() => settings(options), Effect.succeed)
    const limits = yield* Pool.redisLimits(options.pool, defaults)
    const meter = new PoolMeter(store === undefined ? "redis" : `redis.${store}`, connection, false)
    const pool = yield* Effect.acquireRelease(
      Effect.sync(() => new ClientPool(meter, limits, (onError) => connect(limits, onError))),
      (pool) => pool.shutdown
    )
    yield* pool.run({ operation: "connecting", size: 0, send: command("ping", []), onReply: () => undefined })
    return {
      connection,
      state: Effect.sync(() => pool.state),
      health: Health.make(pool.ask),
      run: (request) => pool.run(request),
      scan: (prefix, operation, use) => scanning.scan((request) => pool.run(request), prefix, operation, use),
      pages: (prefix, operation) => scanning.pages((request) => pool.run(request), prefix, operation),
      subscribe: (channel, listener) => subscribe(() => connect(limits, () => {}), channel, listener)
    }
  })

/**
 * How many connections the server allows to all its clients; `undefined` if it does not say.
 *
 * @since 0.1.0
 * @category getters
 */
export const maxClients = (
  database: RedisDatabaseShape
): Effect.Effect<number | undefined, StoreError | StoreUnavailable> =>
  database.run({
    operation: "info",
    size: 0,
    send: command("info", ["clients"]),
    onReply: (reply) => {
      const [, count] = /^maxclients:(\d+)/m.exec(String(reply)) ?? []
      return count === undefined ? undefined : Number(count)
    }
  })

/**
 * @since 0.1.0
 * @category layers
 */
export const layer = (
  options: Options,
  defaults?: Pool.RedisLimits,
  store?: string
): Layer.Layer<RedisDatabase, InvalidInput | StoreFailure> =>
  Layer.scoped(RedisDatabase, make(options, defaults, store))

/**
 * @since 0.1.0
 * @category layers
 */
export const layerConfig = (
  config: Config.Config.Wrap<Options>
): Layer.Layer<RedisDatabase, InvalidInput | StoreFailure | ConfigError.ConfigError> =>
  Layer.scoped(
    RedisDatabase,
    Effect.flatMap(variables.read(config), (options) => make(options))
  )

const nodes: variables.Reader<ReadonlyArray<Node>> = (name) =>
  Config.mapOrFail(variables.list(name), (texts) =>
    texts === undefined
      ? Either.right(undefined)
      : Either.all(
          texts.map((text): Either.Either<Node, ConfigError.ConfigError> => {
            const [, v6, host = v6, port] = text.match(/^(?:\[([^\]]+)\]|([^:]+))(?::(\d+))?$/) ?? []
            return host === undefined
              ? Either.left(ConfigError.InvalidData([name], "must be host:port,host:port"))
              : Either.right({ host, port: port === undefined ? undefined : Number(port) })
          })
        )
  )

/**
 * Options from the variables `MODE` (`Standalone`, the default, `Sentinel` or `Cluster`), `USERNAME`, `PASSWORD`,
 * `TLS`, `CONNECTION_NAME` and those of the mode: `URL`, `HOST`, `PORT` and `DB`; `SENTINELS`
 * (`host:port,host:port`), `NAME`, `DB`, `SENTINEL_USERNAME`, `SENTINEL_PASSWORD` and `SENTINEL_TLS`; or `NODES`. The
 * pool's are nested as `POOL`. Beside `TLS` (true or false) there are `TLS_CA_FILE`, `TLS_CERT_FILE` and `TLS_KEY_FILE`
 * (names of files in PEM), `TLS_PASSPHRASE` and `TLS_SERVERNAME`, each of which asks for TLS as well, and the same
 * beside `SENTINEL_TLS`.
 *
 * @example
 * ```ts
 * import { Config } from "effect"
 * import { RedisDatabase } from "effect-stores/redis"
 *
 * // REDIS_MODE=Cluster REDIS_NODES=10.0.0.1:6379,10.0.0.2:6379 REDIS_POOL_POOL_SIZE=10
 * const layer = RedisDatabase.layerConfig(Config.nested(RedisDatabase.config, "REDIS"))
 * ```
 *
 * @since 0.1.0
 * @category config
 */
export const config: Config.Config<Options> = variables.checkedOptions({
  mode: variables.oneOf(["Standalone", "Sentinel", "Cluster"]),
  username: variables.text,
  password: variables.secret,
  tls: tlsSwitch,
  connectionName: variables.text,
  url: variables.secret,
  host: variables.text,
  port: variables.port,
  db: variables.integer,
  sentinels: nodes,
  name: variables.text,
  sentinelUsername: variables.text,
  sentinelPassword: variables.secret,
  sentinelTls: tlsSwitch,
  nodes,
  pool: variables.nested(Pool.redisConfig)
})(checkVariables) as Config.Config<Options>
