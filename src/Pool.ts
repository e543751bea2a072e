/**
 * The options of connection pools, as values and as typed Config, with the defaults of each store and backend. Zero or
 * absent always means the default. What a pool does with them is documented here; the pools live with their backends.
 *
 * @since 0.1.0
 */
import * as Config from "effect/Config"
import * as ConfigError from "effect/ConfigError"
import type * as Duration from "effect/Duration"
import * as Either from "effect/Either"
import { InvalidInput } from "./Errors.js"
import {
  attempted,
  checkedOptions,
  duration,
  integer,
  nameOf,
  type Options,
  type Reader,
  text,
  together
} from "./internal/config.js"
import { durationMs, timerMaxMs } from "./internal/durations.js"
import { describe, fields, givenKeys, invalid, Parts, record, refuse, retold } from "./internal/validate.js"

/**
 * Options of a pool of connections to a database.
 *
 * @since 0.1.0
 * @category models
 */
export interface PoolOptions {
  /** Connections open at the same time, at most. */
  readonly maxOpenConns?: number | undefined
  /** Connections kept open while unused, at most; more than that are closed after a second. At most `maxOpenConns`. */
  readonly maxIdleConns?: number | undefined
  /**
   * A connection older than this is closed, at once if it is idle and otherwise when it is released; some up to a tenth
   * earlier, so that those that were opened together do not all end together.
   */
  readonly connMaxLifetime?: Duration.DurationInput | undefined
  /** A connection unused for this long is closed. */
  readonly connMaxIdleTime?: Duration.DurationInput | undefined
  /** How long an operation waits for a connection before it fails with `PoolTimeout`. Default 10 seconds. */
  readonly acquireTimeout?: Duration.DurationInput | undefined
  /** Waiting operations, at most; one more fails with `PoolTimeout` at once. Default 10,000. */
  readonly maxWaiting?: number | undefined
}

/**
 * A Sqlite database is a file: a connection costs nothing to keep and does not age, so there is no `maxIdleConns` and
 * no `connMaxLifetime`, and giving one is an error. One of the `maxOpenConns` connections writes and the others read. A
 * single connection does both, and is kept open.
 *
 * @since 0.1.0
 * @category models
 */
export type SqlitePoolOptions = Omit<PoolOptions, "maxIdleConns" | "connMaxLifetime">

/**
 * Checked options with nothing left out. `Infinity` for a time means never.
 *
 * @since 0.1.0
 * @category models
 */
export interface Limits {
  readonly maxOpenConns: number
  readonly maxIdleConns: number
  readonly connMaxLifetimeMs: number
  readonly connMaxIdleTimeMs: number
  readonly acquireTimeoutMs: number
  readonly maxWaiting: number
}

/**
 * The limits of a pool when no option is given, and which options it has.
 *
 * @since 0.1.0
 * @category models
 */
export interface Defaults extends Limits {
  readonly options: ReadonlyArray<keyof PoolOptions>
}

const sqliteOptions = ["maxOpenConns", "connMaxIdleTime", "acquireTimeout", "maxWaiting"] as const
const pgOptions = [...sqliteOptions, "maxIdleConns", "connMaxLifetime"] as const

const waiting = { acquireTimeoutMs: 10_000, maxWaiting: 10_000 }

/**
 * Options of a pool of connections to Redis. Many commands share a connection at the same time: a command takes one
 * that is not busy. A connection to a Cluster is one to each of its nodes.
 *
 * @since 0.1.0
 * @category models
 */
export interface RedisPoolOptions {
  /** Connections open at the same time, at most; another is opened only when all are busy. */
  readonly poolSize?: number | undefined
  /** Connections opened at the start and kept open. At most `maxIdleConns`. */
  readonly minIdleConns?: number | undefined
  /** Connections kept open while unused, at most; more than that are closed within seconds. At most `poolSize`. */
  readonly maxIdleConns?: number | undefined
  /** How often a command is retried when its connection fails or the server cannot execute it now. */
  readonly maxRetries?: number | undefined
  /** How long a command may take, connecting and repeats included, before it fails with `StoreUnavailable`. */
  readonly writeTimeout?: Duration.DurationInput | undefined
}

/**
 * Checked options of a Redis pool with nothing left out.
 *
 * @since 0.1.0
 * @category models
 */
export interface RedisLimits {
  readonly poolSize: number
  readonly minIdleConns: number
  readonly maxIdleConns: number
  readonly maxRetries: number
  readonly writeTimeoutMs: number
}

const redisOptions = ["poolSize", "minIdleConns", "maxIdleConns", "maxRetries", "writeTimeout"] as const
const redis = { poolSize: 20, minIdleConns: 2, maxIdleConns: 10, maxRetries: 3, writeTimeoutMs: 3_000 } as const
const cacheRedis = { poolSize: 20, minIdleConns: 2, maxIdleConns: 10, maxRetries: 3, writeTimeoutMs: 3_000 } as const

/**
 * Options of a pool of HTTP connections. There is no bound on those in use: what is under way is bounded by who asks.
 *
 * @since 0.1.0
 * @category models
 */
export interface HttpPoolOptions {
  /** Connections kept open while unused, at most, to all hosts together. */
  readonly maxIdleConns?: number | undefined
  /** The same to one host. At most `maxIdleConns`. */
  readonly maxIdleConnsPerHost?: number | undefined
  /** A connection unused for this long is closed. Shorter than what the server waits. */
  readonly idleConnTimeout?: Duration.DurationInput | undefined
}

/**
 * Checked options of a pool of HTTP connections with nothing left out.
 *
 * @since 0.1.0
 * @category models
 */
export interface HttpLimits {
  readonly maxIdleConns: number
  readonly maxIdleConnsPerHost: number
  readonly idleConnTimeoutMs: number
}

const httpOptions = ["maxIdleConns", "maxIdleConnsPerHost", "idleConnTimeout"] as const
const minio = { maxIdleConns: 20, maxIdleConnsPerHost: 10, idleConnTimeoutMs: 90_000 } as const

const logs = {
  pg: {
    options: pgOptions,
    maxOpenConns: 25,
    maxIdleConns: 5,
    connMaxLifetimeMs: 30 * 60_000,
    connMaxIdleTimeMs: 5 * 60_000,
    ...waiting
  },
  sqlite: {
    options: sqliteOptions,
    maxOpenConns: 10,
    maxIdleConns: 10,
    connMaxLifetimeMs: Number.POSITIVE_INFINITY,
    connMaxIdleTimeMs: 5 * 60_000,
    ...waiting
  }
} as const

const states = {
  redis,
  pg: {
    options: pgOptions,
    maxOpenConns: 10,
    maxIdleConns: 5,
    connMaxLifetimeMs: 30 * 60_000,
    connMaxIdleTimeMs: 5 * 60_000,
    ...waiting
  },
  sqlite: {
    options: sqliteOptions,
    maxOpenConns: 1,
    maxIdleConns: 1,
    connMaxLifetimeMs: Number.POSITIVE_INFINITY,
    connMaxIdleTimeMs: 5 * 60_000,
    ...waiting
  }
} as const

/**
 * The defaults, by store and backend.
 *
 * @since 0.1.0
 * @category defaults
 */
export const defaults = {
  eventStore: logs,
  commandStore: logs,
  dataStore: { ...logs, minio },
  snapshotStore: states,
  cacheStore: { ...states, redis: cacheRedis }
} as const satisfies Record<string, Record<string, Defaults | RedisLimits | HttpLimits>>

/**
 * Checks options and fills in defaults. Options that the pool does not have are refused, unless they are `undefined`: a
 * misspelt option, or one of another backend, would have no effect.
 *
 * @since 0.1.0
 * @category constructors
 */
export const limits = (options: PoolOptions | undefined, otherwise: Defaults): Either.Either<Limits, InvalidInput> =>
  Either.try({ try: () => checkedLimits(options, otherwise), catch: invalid })

const known = <O extends object>(options: O | undefined, keys: ReadonlyArray<string>): Partial<O> => {
  if (options === undefined) return {}
  const all = record(options, "pool")
  fields(Object.fromEntries(givenKeys(all).map((key) => [key, true])), "pool", keys)
  return all as Partial<O>
}

const checkedLimits = (options: PoolOptions | undefined, otherwise: Defaults): Limits => {
  const given = known(options, otherwise.options)
  const parts = new Parts()
  const { all, part } = parts
  const maxOpenConns = part(() => count(given.maxOpenConns, "pool.maxOpenConns", otherwise.maxOpenConns))
  const maxIdleConns = atMost(parts, given, "maxIdleConns", otherwise.maxIdleConns, maxOpenConns, "maxOpenConns")
  const timeOf = (option: "connMaxLifetime" | "connMaxIdleTime" | "acquireTimeout") =>
    part(() => time(given[option], `pool.${option}`, otherwise[`${option}Ms`]))
  const connMaxLifetimeMs = timeOf("connMaxLifetime")
  const connMaxIdleTimeMs = timeOf("connMaxIdleTime")
  const acquireTimeoutMs = timeOf("acquireTimeout")
  const maxWaiting = part(() => count(given.maxWaiting, "pool.maxWaiting", otherwise.maxWaiting))
  return all(() => ({
    maxOpenConns: maxOpenConns(),
    maxIdleConns: maxIdleConns(),
    connMaxLifetimeMs: connMaxLifetimeMs(),
    connMaxIdleTimeMs: connMaxIdleTimeMs(),
    acquireTimeoutMs: acquireTimeoutMs(),
    maxWaiting: maxWaiting()
  }))
}

/**
 * The same for a pool of connections to Redis.
 *
 * @since 0.1.0
 * @category constructors
 */
export const redisLimits = (
  options: RedisPoolOptions | undefined,
  otherwise: RedisLimits
): Either.Either<RedisLimits, InvalidInput> =>
  Either.try({ try: () => checkedRedisLimits(options, otherwise), catch: invalid })

const checkedRedisLimits = (options: RedisPoolOptions | undefined, otherwise: RedisLimits): RedisLimits => {
  const given = known(options, redisOptions)
  const parts = new Parts()
  const { all, part } = parts
  const poolSize = part(() => count(given.poolSize, "pool.poolSize", otherwise.poolSize))
  const maxIdleConns = atMost(parts, given, "maxIdleConns", otherwise.maxIdleConns, poolSize, "poolSize")
  const minIdleConns = atMost(parts, given, "minIdleConns", otherwise.minIdleConns, maxIdleConns, "maxIdleConns")
  const maxRetries = part(() => count(given.maxRetries, "pool.maxRetries", otherwise.maxRetries))
  const writeTimeoutMs = part(() => {
    const ms = time(given.writeTimeout, "pool.writeTimeout", otherwise.writeTimeoutMs)
    return forTimer(ms, "pool.writeTimeout", given.writeTimeout)
  })
  return all(() => ({
    poolSize: poolSize(),
    minIdleConns: minIdleConns(),
    maxIdleConns: maxIdleConns(),
    maxRetries: maxRetries(),
    writeTimeoutMs: writeTimeoutMs()
  }))
}

/**
 * The same for a pool of HTTP connections.
 *
 * @since 0.1.0
 * @category constructors
 */
export const httpLimits = (
  options: HttpPoolOptions | undefined,
  otherwise: HttpLimits
): Either.Either<HttpLimits, InvalidInput> =>
  Either.try({ try: () => checkedHttpLimits(options, otherwise), catch: invalid })

const checkedHttpLimits = (options: HttpPoolOptions | undefined, otherwise: HttpLimits): HttpLimits => {
  const given = known(options, httpOptions)
  const parts = new Parts()
  const { all, part } = parts
  const maxIdleConns = part(() => count(given.maxIdleConns, "pool.maxIdleConns", otherwise.maxIdleConns))
  const maxIdleConnsPerHost = atMost(
    parts,
    given,
    "maxIdleConnsPerHost",
    otherwise.maxIdleConnsPerHost,
    maxIdleConns,
    "maxIdleConns"
  )
  const idleConnTimeoutMs = part(() => {
    const ms = time(given.idleConnTimeout, "pool.idleConnTimeout", otherwise.idleConnTimeoutMs)
    return forTimer(ms, "pool.idleConnTimeout", given.idleConnTimeout)
  })
  return all(() => ({
    maxIdleConns: maxIdleConns(),
    maxIdleConnsPerHost: maxIdleConnsPerHost(),
    idleConnTimeoutMs: idleConnTimeoutMs()
  }))
}

/** A number that another one bounds. */
const atMost = <K extends string>(
  { part }: Parts,
  given: { readonly [P in K]?: unknown },
  option: K,
  otherwise: number,
  bound: () => number,
  name: string
): (() => number) => {
  const what = `pool.${option}`
  const asked = part(() => count(given[option], what, 0))
  return part(() => {
    const most = bound()
    const value = asked() || Math.min(otherwise, most)
    return value <= most ? value : refuse(what, `must not exceed ${name} (${most})`)
  })
}

/** Node's timers take what is longer for one millisecond. */
const forTimer = (ms: number, what: string, value: unknown): number =>
  ms <= timerMaxMs ? ms : refuse(what, `must be from 1 ms to 24 days, not ${describe(value)}`)

const count = (value: unknown, what: string, otherwise: number): number => {
  if (value === undefined || value === 0) return otherwise
  return typeof value === "number" && Number.isInteger(value) && value > 0 && value <= 1_000_000
    ? value
    : refuse(what, `must be a whole number from 0 to 1000000, not ${describe(value)}`)
}

const time = (value: unknown, what: string, otherwiseMs: number): number =>
  value === undefined ? otherwiseMs : durationMs(value, what) || otherwiseMs

const lasting = duration("0 for the default", "infinity")
const timer = duration("0 for the default")

const sqliteReaders = {
  maxOpenConns: integer,
  connMaxIdleTime: lasting,
  acquireTimeout: lasting,
  maxWaiting: integer
} as const

const pgReaders = { ...sqliteReaders, maxIdleConns: integer, connMaxLifetime: lasting } as const

const redisReaders = {
  poolSize: integer,
  minIdleConns: integer,
  maxIdleConns: integer,
  maxRetries: integer,
  writeTimeout: timer
} as const

const httpReaders = { maxIdleConns: integer, maxIdleConnsPerHost: integer, idleConnTimeout: timer } as const

/** Those of the other kinds are asked for to be refused: a bound that bounds nothing must not be overlooked. */
const poolConfig = <T extends Record<string, Reader<unknown>>>(
  readers: T,
  kind: string,
  check: (options: Options<T>) => unknown
) => {
  const own = Object.keys(readers)
  const others = Object.keys({ ...pgReaders, ...redisReaders, ...httpReaders }).filter((key) => !own.includes(key))
  const why = `is not an option of a pool ${kind}, which has ${own.map(nameOf).join(", ")}`
  return together(
    checkedOptions(readers)((options) =>
      retold(
        () => check(options),
        ({ what, why }) => new InvalidInput({ what: what.slice("pool.".length), why })
      )
    ),
    Config.map(Config.all(others.map((option) => attempted(text(nameOf(option))))), (values) =>
      others.flatMap((option, i) => (values[i] === undefined ? [] : [ConfigError.InvalidData([nameOf(option)], why)]))
    )
  )
}

/**
 * Pool options from the variables `MAX_OPEN_CONNS`, `MAX_IDLE_CONNS`, `CONN_MAX_LIFETIME`, `CONN_MAX_IDLE_TIME`,
 * `ACQUIRE_TIMEOUT` (durations such as `30s` or `5 minutes`) and `MAX_WAITING`, each optional; an empty one is absent.
 * Nest it: with `Config.nested(Pool.config, "POOL")` the environment variables are `POOL_MAX_OPEN_CONNS` and so on.
 * Those of pools of other kinds, such as `POOL_SIZE`, are refused. Others are not read, so a misspelt one is not
 * noticed, and its option keeps the default.
 *
 * @since 0.1.0
 * @category config
 */
export const config: Config.Config<PoolOptions> = poolConfig(pgReaders, "on PostgreSQL", (given) =>
  checkedLimits(given, logs.pg)
)

/**
 * The same for a Sqlite database, without `MAX_IDLE_CONNS` and `CONN_MAX_LIFETIME`.
 *
 * @since 0.1.0
 * @category config
 */
export const sqliteConfig: Config.Config<SqlitePoolOptions> = poolConfig(sqliteReaders, "on SQLite", (given) =>
  checkedLimits(given, logs.sqlite)
)

/**
 * The options of a Redis pool from the variables `POOL_SIZE`, `MIN_IDLE_CONNS`, `MAX_IDLE_CONNS`, `MAX_RETRIES` and
 * `WRITE_TIMEOUT` (a duration), each optional.
 *
 * @since 0.1.0
 * @category config
 */
export const redisConfig: Config.Config<RedisPoolOptions> = poolConfig(redisReaders, "on Redis", (given) =>
  checkedRedisLimits(given, redis)
)

/**
 * The options of a pool of HTTP connections from the variables `MAX_IDLE_CONNS`, `MAX_IDLE_CONNS_PER_HOST` and
 * `IDLE_CONN_TIMEOUT` (a duration), each optional.
 *
 * @since 0.1.0
 * @category config
 */
export const httpConfig: Config.Config<HttpPoolOptions> = poolConfig(httpReaders, "of HTTP connections", (given) =>
  checkedHttpLimits(given, minio)
)
