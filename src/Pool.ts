/**
 * The options of connection pools, as values and as typed Config, with the defaults of each store and backend. Zero or
 * absent always means the default. What a pool does with them is documented here; the pools live with their backends.
 *
 * @since 0.1.0
 */
import * as Config from "effect/Config"
import * as ConfigError from "effect/ConfigError"
import * as Duration from "effect/Duration"
import * as Either from "effect/Either"
import { InvalidInput } from "./Errors.js"
import { describe } from "./internal/validate.js"

/**
 * Options of a pool of connections to a database.
 *
 * @since 0.1.0
 * @category models
 */
export interface PoolOptions {
  /** Connections open at the same time, at most. */
  readonly maxOpenConns?: number | undefined
  /** Connections kept open while unused, at most; what comes back beyond it is closed. At most `maxOpenConns`. */
  readonly maxIdleConns?: number | undefined
  /** A connection older than this is closed when it comes back. */
  readonly connMaxLifetime?: Duration.DurationInput | undefined
  /** A connection unused for this long is closed. */
  readonly connMaxIdleTime?: Duration.DurationInput | undefined
  /** How long an operation waits in line for a connection before it fails with `PoolTimeout`. Default 10 seconds. */
  readonly acquireTimeout?: Duration.DurationInput | undefined
  /** Operations in line, at most; one more fails with `PoolTimeout` at once. Default 10,000. */
  readonly maxWaiting?: number | undefined
}

/**
 * A Sqlite database is a file: a connection costs nothing to keep and does not age, so only some options apply. Of
 * `maxOpenConns` one connection writes and the others read.
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

const waiting = { acquireTimeoutMs: 10_000, maxWaiting: 10_000 }

/**
 * The defaults, by store and backend.
 *
 * @since 0.1.0
 * @category defaults
 */
export const defaults = {
  eventStore: {
    pg: {
      maxOpenConns: 25,
      maxIdleConns: 5,
      connMaxLifetimeMs: 30 * 60_000,
      connMaxIdleTimeMs: 5 * 60_000,
      ...waiting
    },
    sqlite: {
      maxOpenConns: 10,
      maxIdleConns: 10,
      connMaxLifetimeMs: Number.POSITIVE_INFINITY,
      connMaxIdleTimeMs: 5 * 60_000,
      ...waiting
    }
  }
} as const satisfies Record<string, Record<string, Limits>>

/**
 * Checks options and fills in defaults.
 *
 * @since 0.1.0
 * @category constructors
 */
export const limits = (options: PoolOptions | undefined, otherwise: Limits): Either.Either<Limits, InvalidInput> => {
  const maxOpenConns = count(options?.maxOpenConns, "pool.maxOpenConns", otherwise.maxOpenConns)
  return Either.all({
    maxOpenConns,
    maxIdleConns: Either.flatMap(maxOpenConns, (open) =>
      Either.flatMap(
        count(options?.maxIdleConns, "pool.maxIdleConns", Math.min(otherwise.maxIdleConns, open)),
        (idle) =>
          idle <= open ? Either.right(idle) : refuse("pool.maxIdleConns", `must not exceed maxOpenConns (${open})`)
      )
    ),
    connMaxLifetimeMs: time(options?.connMaxLifetime, "pool.connMaxLifetime", otherwise.connMaxLifetimeMs),
    connMaxIdleTimeMs: time(options?.connMaxIdleTime, "pool.connMaxIdleTime", otherwise.connMaxIdleTimeMs),
    acquireTimeoutMs: time(options?.acquireTimeout, "pool.acquireTimeout", otherwise.acquireTimeoutMs),
    maxWaiting: count(options?.maxWaiting, "pool.maxWaiting", otherwise.maxWaiting)
  })
}

const refuse = (what: string, why: string) => Either.left(new InvalidInput({ what, why }))

const count = (value: unknown, what: string, otherwise: number): Either.Either<number, InvalidInput> => {
  if (value === undefined || value === 0) return Either.right(otherwise)
  return typeof value === "number" && Number.isInteger(value) && value > 0 && value <= 1_000_000
    ? Either.right(value)
    : refuse(what, `must be a whole number from 0 to 1000000, not ${describe(value)}`)
}

const time = (value: unknown, what: string, otherwiseMs: number): Either.Either<number, InvalidInput> => {
  if (value === undefined) return Either.right(otherwiseMs)
  // A negative or NaN number would silently decode as zero, which here means the default.
  const decoded =
    typeof value === "number" && !(value >= 0)
      ? undefined
      : Duration.decodeUnknown(value)._tag === "Some"
        ? Duration.decode(value as Duration.DurationInput)
        : undefined
  if (decoded === undefined) return refuse(what, `must be a duration of at least zero, not ${describe(value)}`)
  const ms = Duration.toMillis(decoded)
  return Either.right(ms === 0 ? otherwiseMs : ms)
}

const option = <A>(config: Config.Config<A>): Config.Config<A | undefined> => Config.withDefault(config, undefined)

const valid = <A extends PoolOptions>(config: Config.Config<A>): Config.Config<A> =>
  Config.mapOrFail(config, (options) =>
    Either.mapBoth(limits(options, defaults.eventStore.pg), {
      onLeft: (error) => ConfigError.InvalidData([error.what.slice("pool.".length)], error.why),
      onRight: () => options
    })
  )

/**
 * Pool options from the keys `maxOpenConns`, `maxIdleConns`, `connMaxLifetime`, `connMaxIdleTime`, `acquireTimeout`
 * (durations such as `"30 minutes"`) and `maxWaiting`, each optional; other keys are not read. Nest it: with
 * `Config.nested(Pool.config, "POOL")` the environment variables are `POOL_maxOpenConns` and so on.
 *
 * @since 0.1.0
 * @category config
 */
export const config: Config.Config<PoolOptions> = valid(
  Config.all({
    maxOpenConns: option(Config.integer("maxOpenConns")),
    maxIdleConns: option(Config.integer("maxIdleConns")),
    connMaxLifetime: option(Config.duration("connMaxLifetime")),
    connMaxIdleTime: option(Config.duration("connMaxIdleTime")),
    acquireTimeout: option(Config.duration("acquireTimeout")),
    maxWaiting: option(Config.integer("maxWaiting"))
  })
)

/**
 * The same for a Sqlite database.
 *
 * @since 0.1.0
 * @category config
 */
export const sqliteConfig: Config.Config<SqlitePoolOptions> = valid(
  Config.all({
    maxOpenConns: option(Config.integer("maxOpenConns")),
    connMaxIdleTime: option(Config.duration("connMaxIdleTime")),
    acquireTimeout: option(Config.duration("acquireTimeout")),
    maxWaiting: option(Config.integer("maxWaiting"))
  })
)
