/**
 * How a store is opened on a backend: its driver is loaded, then its variables are read, and when those of all stores
 * are right, it is opened.
 */
import * as Config from "effect/Config"
import * as ConfigError from "effect/ConfigError"
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import { InvalidInput, type StoreFailure } from "../Errors.js"
import type { Health } from "../Health.js"
import * as variables from "../internal/config.js"
import { nameOf } from "../internal/config.js"
import { eventIndexes, type IndexOptions } from "../internal/storeOptions.js"
import type { Store } from "./choices.js"

export type Failure = InvalidInput | StoreFailure

export interface Opened<S> {
  readonly services: Context.Context<S>
  readonly health: Effect.Effect<Health>
  /** The backend and where it is, without secrets. */
  readonly place: string
}

export type Opener<S> = (session: Session) => Effect.Effect<Opened<S>, Failure, Scope.Scope>

/** First the driver is loaded, then the variables are read, then the store is opened. */
export type Plan<S> = Effect.Effect<Config.Config<Opener<S>>, InvalidInput>

/** A pool of connections to a server that allows only so many. */
export interface OpenPool {
  readonly server: string
  /** The variable that bounds the pool; none for connections beside it that listen. */
  readonly variable: string | undefined
  readonly max: number
  /** What the server allows to all its clients, if it says so. */
  readonly allowed: Effect.Effect<number | undefined>
}

/** What was opened so far. */
export class Session {
  readonly pools: Array<OpenPool> = []
  private readonly databases = new Map<string, unknown>()

  opened<Service>(
    { allowed, place }: Pick<Kind<never, Service, never, never, never>, "allowed" | "place">,
    service: Service,
    max: number,
    variable?: string
  ): void {
    if (max > 0) this.pools.push({ server: serverOf(place(service)), variable, max, allowed: allowed(service) })
  }

  once<A, E, R>(key: string, open: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> {
    return Effect.suspend(() => {
      const found = this.databases.get(key)
      return found === undefined
        ? Effect.tap(open, (database) => this.databases.set(key, database))
        : Effect.succeed(found as A)
    })
  }
}

const packages: Readonly<Record<string, string>> = {
  sqlite: "better-sqlite3, @effect/sql, @effect/experimental and @effect/platform",
  pg: "pg, @effect/sql-pg, @effect/sql, @effect/experimental and @effect/platform",
  redis: "ioredis",
  minio: "minio"
}

/** Loads modules of a backend, and with them its driver. */
export const load = <A>(store: Store, backend: string, modules: () => Promise<A>): Effect.Effect<A, InvalidInput> =>
  Effect.tryPromise({
    try: modules,
    catch: (cause) => {
      const needed = packages[backend] === undefined ? "" : `, which needs ${packages[backend]}`
      return new InvalidInput({ what: nameOf(store), why: `${backend}${needed}, cannot be loaded: ${String(cause)}` })
    }
  })

/** An option that was refused is named by its variable: `pool.maxOpenConns` behind `PG` is `PG_POOL_MAX_OPEN_CONNS`. */
export const namedBehind =
  (prefix: string) =>
  <E>(error: E): E | InvalidInput =>
    error instanceof InvalidInput && /^[a-z][A-Za-z.]*$/.test(error.what)
      ? new InvalidInput({ what: [prefix, ...error.what.split(".").map(nameOf)].join("_"), why: error.why })
      : error

/** Opens a store that shares nothing. */
export const alone =
  <S>(place: string, layer: Layer.Layer<S, Failure>, prefix: string, health: Effect.Effect<Health> = up): Opener<S> =>
  () =>
    Effect.map(Effect.mapError(Layer.build(layer), namedBehind(prefix)), (services) => ({ services, place, health }))

/** What is in this process's memory is there. */
export const up: Effect.Effect<Health> = Effect.succeed({ status: "up" })

export interface Switches {
  /** Whether it refuses writes. */
  readonly readOnly?: boolean | undefined
  /** Whether events tell the trace that they were appended in. */
  readonly traceparent?: boolean | undefined
}

export interface StoreOptions extends Switches, IndexOptions {
  /** What the names of its tables or keys begin with. */
  readonly prefix?: string | undefined
}

const switchesOf = (store: Store) => ({
  readOnly: variables.flag,
  ...(store === "eventStore" && { traceparent: variables.flag })
})

export const switches = (store: Store): Config.Config<Switches> => variables.options(switchesOf(store))

const storeOptions = (store: Store): Config.Config<StoreOptions> =>
  variables.options({
    prefix: variables.text,
    ...switchesOf(store),
    ...(store === "eventStore" && { indexes: variables.listOf(eventIndexes) })
  })

/** A kind of database that stores may share. */
export interface Kind<Tag, Service, Options, Pool, Limits> {
  /** What its variables begin with. */
  readonly name: string
  readonly tag: Context.Tag<Tag, Service>
  readonly config: Config.Config<Options>
  readonly pool: Config.Config<Pool>
  readonly make: (options: Options, defaults: Limits, store?: string) => Effect.Effect<Service, Failure, Scope.Scope>
  readonly place: (service: Service) => string
  readonly health: (service: Service) => Effect.Effect<Health>
  /** The options that say where it is, the usual one first. */
  readonly where: readonly [string, ...ReadonlyArray<string>]
  /** The option that bounds its pool. */
  readonly bound: string
  readonly limits: (pool: Pool | undefined, defaults: Limits) => Either.Either<number, InvalidInput>
  readonly allowed: (service: Service) => Effect.Effect<number | undefined>
  /** How many connections the driver may have beside a pool of that size, to listen. */
  readonly beside: (service: Service, max: number) => number
  /** All that are in one place share it, as a process opens a file once. */
  readonly shares: boolean
}

export interface Sharing<Limits> {
  /**
   * The stores on this database share one pool, that of the database's own variables. `undefined`: not known, as the
   * switch is wrong.
   */
  readonly isShared: boolean | undefined
  /** How to change that. */
  readonly cure: string
  readonly defaults: Limits
}

/** A store on a kind of database. */
export interface OnDatabase<S, Tag> {
  readonly layer: (options: StoreOptions) => Layer.Layer<S, Failure, Tag>
  /** Throws `InvalidInput`. */
  readonly check: (options: StoreOptions) => unknown
  /** Connections beside the pool. */
  readonly listeners: number
}

const isGiven = ({ pool = {}, ...others }: { readonly pool?: object | undefined }): boolean =>
  Object.keys(pool).length + Object.keys(others).length > 0

/** The host behind which a database is. */
const serverOf = (place: string): string => place.replace(/(?<=:\/\/.*)\/[^/]*$/, "")

/**
 * A store on a database, with a pool of its own or the one that is shared. Variables of the other would have no effect,
 * and are refused. A store whose own variables say where its database is has it for itself.
 */
export const onDatabase = <
  S,
  Tag,
  Service,
  P extends object,
  Options extends { readonly pool?: P | undefined },
  Limits
>(
  store: Store,
  kind: Kind<Tag, Service, Options, P, Limits>,
  defaults: Limits,
  sharing: Sharing<Limits>,
  on: OnDatabase<S, Tag>
): Config.Config<Opener<S>> => {
  const name = nameOf(store)
  const placeApart = `${name}_${kind.name}`
  const checkPool = ({ pool }: { readonly pool: P }) =>
    kind.shares ? undefined : Either.getOrThrowWith(kind.limits(pool, defaults), (error) => error)
  const pool = Config.nested(kind.pool, "POOL")
  const common = Config.option(Config.nested(kind.config, kind.name))
  const apart = Config.option(Config.nested(kind.config, placeApart))
  const read = Config.all({
    common,
    apart,
    own: Config.nested(variables.checkedBy(checkPool)(Config.all({ pool })), name),
    names: Config.nested(variables.checkedBy(on.check)(storeOptions(store)), name)
  })
  const isSharedIf = (isApart: boolean) => kind.shares || (isApart ? false : sharing.isShared)
  const placeIf = (isApart: boolean) => (isApart ? placeApart : kind.name)
  /** What is wrong between variables of different groups, as far as each of them is known to be there. */
  const wrong = Config.map(
    Config.all({
      common: variables.attempted(common),
      apart: variables.attempted(apart),
      where: Config.nested(
        Config.all(kind.where.map((option) => variables.attempted(variables.secret(nameOf(option))))),
        placeApart
      ),
      pools: Config.all({
        own: variables.attempted(Config.nested(pool, name)),
        common: variables.attempted(Config.nested(pool, kind.name)),
        apart: variables.attempted(Config.nested(pool, placeApart))
      })
    }),
    ({ apart, common, pools, where }): ReadonlyArray<ConfigError.ConfigError> => {
      const isApart = apart === variables.unread || (Option.isSome(apart) && isGiven(apart.value))
      const place = placeIf(isApart)
      const [usual] = kind.where
      const errors: Array<ConfigError.ConfigError> = []
      if (!isApart && common !== variables.unread && Option.isNone(common)) errors.push(missing(kind.name, usual, ""))
      if (isApart && where.every((value) => value === undefined)) {
        errors.push(missing(placeApart, usual, `: ${placeApart}_* stand instead of ${kind.name}_*`))
      }
      const isShared = isSharedIf(isApart)
      const idle = isShared ? pools.own : isApart ? pools.apart : pools.common
      const [behind, used] = isShared ? [name, place] : [place, name]
      if (isShared !== undefined && (idle === variables.unread || Object.keys(idle).length > 0)) {
        const why = `have no effect: the pool is that of ${used}_POOL_*; ${sharing.cure}`
        errors.push(ConfigError.InvalidData([`${behind}_POOL_*`], why))
      }
      return errors
    }
  )
  const opener = ({ apart, common, names, own: { pool } }: Config.Config.Success<typeof read>): Opener<S> => {
    const isApart = Option.isSome(apart) && isGiven(apart.value)
    const isShared = isSharedIf(isApart) === true
    const owner = isShared ? undefined : store.charAt(0).toUpperCase() + store.slice(1)
    const place = placeIf(isApart)
    const used = isShared ? place : name
    // Where there is none it was refused.
    const database = Option.getOrThrow(isApart ? apart : common)
    const options = isShared ? database : { ...database, pool }
    const limits = isShared ? sharing.defaults : defaults
    return (session) => {
      const open = Effect.gen(function* () {
        const service = yield* Effect.mapError(kind.make(options, limits, owner), (error) =>
          namedBehind(error instanceof InvalidInput && error.what.startsWith("pool") ? used : place)(error)
        )
        const max = yield* kind.limits(options.pool, limits)
        session.opened(kind, service, max, `${used}_POOL_${nameOf(kind.bound)}`)
        session.opened(kind, service, kind.beside(service, max))
        return service
      })
      return Effect.gen(function* () {
        const service = yield* isShared ? session.once(place, open) : open
        session.opened(kind, service, on.listeners)
        const built = Effect.mapError(
          Layer.build(Layer.provide(on.layer(names), Layer.succeed(kind.tag, service))),
          namedBehind(name)
        )
        const described = `${kind.name.toLowerCase()} ${kind.place(service)}`
        return { services: yield* built, place: described, health: kind.health(service) }
      })
    }
  }
  return Config.map(variables.together(read, wrong), opener)
}

const missing = (place: string, option: string, why: string): ConfigError.ConfigError =>
  ConfigError.MissingData([`${place}_${nameOf(option)}`], `must be given${why}`)
