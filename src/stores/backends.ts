/**
 * The plan of each store on each of its backends. Drivers are loaded here, and only those of the backends chosen.
 */
import * as Config from "effect/Config"
import * as ConfigError from "effect/ConfigError"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Equal from "effect/Equal"
import * as Layer from "effect/Layer"
import type { CacheStore } from "../CacheStore.js"
import type { CommandStore } from "../CommandStore.js"
import type { DataStore } from "../DataStore.js"
import { type InvalidInput, StoreError } from "../Errors.js"
import type { EventStore } from "../EventStore.js"
import type { Health } from "../Health.js"
import * as variables from "../internal/config.js"
import { nameOf } from "../internal/config.js"
import type { MemoryDatabase } from "../memory/MemoryDatabase.js"
import * as Pool from "../Pool.js"
import type { PgDatabase } from "../pg/PgDatabase.js"
import type { RedisDatabase } from "../redis/RedisDatabase.js"
import type { SnapshotStore } from "../SnapshotStore.js"
import type { SqliteDatabase } from "../sqlite/SqliteDatabase.js"
import type { Choices, Store } from "./choices.js"
import {
  alone,
  type Failure,
  type Kind,
  load,
  type Opener,
  onDatabase,
  type Plan,
  type StoreOptions,
  type Switches,
  switches,
  up
} from "./plans.js"

const inferred = <Tag, Service, Options, P, Limits>(kind: Kind<Tag, Service, Options, P, Limits>) => kind

/** What a module of a store on a SQL database has. */
interface SqlModule<S, Tag> {
  readonly layerFromDatabase: (options: StoreOptions) => Layer.Layer<S, Failure, Tag>
  readonly migrationSql: (options: Pick<StoreOptions, "prefix">) => string
}

const onSql = <S, Tag>({ layerFromDatabase, migrationSql }: SqlModule<S, Tag>, listeners = 0) => ({
  layer: layerFromDatabase,
  // It throws for names that the database would not take.
  check: ({ prefix }: StoreOptions) => migrationSql({ prefix }),
  listeners
})

const pg = <S>(
  store: Store,
  { pgShared }: Choices,
  module: () => Promise<SqlModule<S, PgDatabase>>,
  listeners = 0
): Plan<S> =>
  Effect.map(
    load(store, "pg", () => Promise.all([import("../pg/PgDatabase.js"), module()])),
    ([{ PgDatabase, config, make, maxClients }, module]) => {
      const kind = inferred({
        name: "PG",
        where: ["url", "host"],
        tag: PgDatabase,
        config,
        pool: Pool.config,
        // The connections of all stores are counted together.
        make: (options, limits: Pool.Defaults, store) => make(options, limits, store, true),
        place: ({ connection }) => connection,
        health: ({ health }) => health,
        bound: "maxOpenConns",
        limits: (pool, defaults: Pool.Defaults) =>
          Either.map(Pool.limits(pool, defaults), ({ maxOpenConns }) => maxOpenConns),
        allowed: (database) => Effect.orElseSucceed(maxClients(database), () => undefined),
        beside: () => 0,
        shares: false
      })
      const cure = pgShared ? "without PG_SHARED each store has its own" : "PG_SHARED=true makes it one for all stores"
      const sharing = { isShared: pgShared, cure, defaults: Pool.defaults.eventStore.pg }
      return onDatabase(store, kind, Pool.defaults[store].pg, sharing, onSql(module, listeners))
    }
  )

const sqlite = <S>(store: Store, module: () => Promise<SqlModule<S, SqliteDatabase>>): Plan<S> =>
  Effect.map(
    load(store, "sqlite", () => Promise.all([import("../sqlite/SqliteDatabase.js"), module()])),
    ([{ SqliteDatabase, config, make }, module]) => {
      const kind = inferred({
        name: "SQLITE",
        where: ["filename"],
        tag: SqliteDatabase,
        config,
        pool: Pool.sqliteConfig,
        make,
        place: ({ filename }) => filename,
        health: ({ health }) => health,
        bound: "maxOpenConns",
        limits: (pool, defaults: Pool.Defaults) =>
          Either.map(Pool.limits(pool, defaults), ({ maxOpenConns }) => maxOpenConns),
        allowed: () => Effect.succeed(undefined),
        beside: () => 0,
        shares: true
      })
      const cure = "all stores in one file share it"
      const sharing = { isShared: true, cure, defaults: Pool.defaults.eventStore.sqlite }
      return onDatabase(store, kind, Pool.defaults[store].sqlite, sharing, onSql(module))
    }
  )

const redis = <S>(
  store: "cacheStore" | "snapshotStore",
  { redisShared }: Choices,
  module: () => Promise<{
    readonly layerFromDatabase: (options: StoreOptions) => Layer.Layer<S, Failure, RedisDatabase>
    readonly prefixOf: (prefix: unknown) => string
  }>
): Plan<S> =>
  Effect.map(
    load(store, "redis", () => Promise.all([import("../redis/RedisDatabase.js"), module()])),
    ([{ RedisDatabase, config, make, maxClients }, { layerFromDatabase, prefixOf }]) => {
      const kind = inferred({
        name: "REDIS",
        where: ["url", "host", "sentinels", "nodes"],
        tag: RedisDatabase,
        config,
        pool: Pool.redisConfig,
        make,
        place: ({ connection }) => connection,
        health: ({ health }) => health,
        bound: "poolSize",
        limits: (pool, defaults: Pool.RedisLimits) =>
          Either.map(Pool.redisLimits(pool, defaults), ({ poolSize }) => poolSize),
        allowed: (database) => Effect.orElseSucceed(maxClients(database), () => undefined),
        // To a Cluster the driver keeps one for each, all of which may be to the same node.
        beside: ({ connection }, max) => (connection.startsWith("redis+cluster:") ? max : 0),
        shares: false
      })
      const cure = redisShared
        ? "without REDIS_SHARED each store has its own"
        : "REDIS_SHARED=true makes it one for both"
      const sharing = { isShared: redisShared, cure, defaults: Pool.defaults.cacheStore.redis }
      const check = ({ prefix }: StoreOptions) => prefixOf(prefix)
      return onDatabase(store, kind, Pool.defaults[store].redis, sharing, {
        layer: layerFromDatabase,
        check,
        listeners: 0
      })
    }
  )

/** In memory events, commands and snapshots share a database, so that transactions extend to all of them. */
const memory = <S>(
  store: Store,
  module: () => Promise<{
    readonly layerFromDatabase: (options: Switches) => Layer.Layer<S, Failure, MemoryDatabase>
  }>
): Plan<S> =>
  Effect.map(
    load(store, "memory", () => Promise.all([import("../memory/MemoryDatabase.js"), module()])),
    ([database, { layerFromDatabase }]) =>
      Config.map(
        Config.nested(switches(store), nameOf(store)),
        (options): Opener<S> =>
          (session) =>
            Effect.gen(function* () {
              const opened = yield* session.once("memory", Layer.build(database.layer))
              return {
                services: yield* Effect.provide(Layer.build(layerFromDatabase(options)), opened),
                place: "memory",
                health: up
              }
            })
      )
  )

/** In memory, on its own. */
const simple = <S>(
  store: Store,
  module: () => Promise<{
    readonly layer: (options: Switches) => Layer.Layer<S, Failure>
  }>
): Plan<S> =>
  Effect.map(load(store, "memory", module), ({ layer }) =>
    Config.map(Config.nested(switches(store), nameOf(store)), (options) =>
      alone("memory", layer(options), nameOf(store))
    )
  )

/** What the variables of the store say beside those of the backend: the same, or nothing. */
const agreed = <O extends object>(
  at: (name: string) => Config.Config<O>,
  [behind, name]: readonly [string, string],
  group = ""
): Config.Config<ReadonlyArray<ConfigError.ConfigError>> =>
  Config.map(Config.all([variables.attempted(at(behind)), variables.attempted(at(name))]), ([common, own]) =>
    common === variables.unread || own === variables.unread
      ? []
      : Object.entries(own).flatMap(([option, value]) => {
          const other = common[option as keyof O]
          return other === undefined || Equal.equals(other, value)
            ? []
            : [
                ConfigError.InvalidData(
                  [`${name}_${group}${nameOf(option)}`],
                  `is not what ${behind}_${group}${nameOf(option)} says: give one`
                )
              ]
        })
  )

const readOnlyAt = (name: string) => Config.nested(switches("dataStore"), name)

/** Of a backend that is asked anew each time: a file that its options name may be gone meanwhile. */
const asked = (health: Effect.Effect<Health, InvalidInput>): Effect.Effect<Health> =>
  Effect.catchAll(health, (cause) =>
    Effect.succeed<Health>({ status: "down", error: new StoreError({ operation: "health", cause }) })
  )

/** What has no place for several stores. */
const unprefixed = (instead: string): Config.Config<unknown> =>
  Config.mapOrFail(variables.text("PREFIX"), (prefix) =>
    prefix === undefined
      ? Either.right(undefined)
      : Either.left(ConfigError.InvalidData(["PREFIX"], `has no effect on this backend: give ${instead}`))
  )

const dataStore = nameOf("dataStore")

const minio: Plan<DataStore> = Effect.map(
  load("dataStore", "minio", () => import("../minio/DataStoreMinio.js")),
  ({ config, health, layer }) => {
    const common = Config.nested(config, "MINIO")
    const pool = (name: string) => Config.nested(Config.nested(Pool.httpConfig, "POOL"), name)
    const own = readOnlyAt(dataStore)
    return Config.map(
      variables.together(
        Config.all({
          common,
          pool: pool(dataStore),
          own,
          unprefixed: Config.nested(unprefixed("MINIO_BUCKET_PREFIX"), dataStore)
        }),
        Config.map(
          Config.all([agreed(readOnlyAt, ["MINIO", dataStore]), agreed(pool, ["MINIO", dataStore], "POOL_")]),
          (errors) => errors.flat()
        )
      ),
      ({ common, own, pool }) => {
        const all = { ...common, ...own, pool: { ...common.pool, ...pool } }
        return alone(`minio ${common.endpoint}`, layer(all), "MINIO", asked(health(all)))
      }
    )
  }
)

const fileSystem: Plan<DataStore> = Effect.map(
  load("dataStore", "fs", () => import("../fs/DataStoreFileSystem.js")),
  ({ config, health, layer }) =>
    Config.map(
      variables.together(
        Config.all({
          common: Config.nested(config, "FS"),
          own: readOnlyAt(dataStore),
          unprefixed: Config.nested(unprefixed("another FS_ROOT"), dataStore)
        }),
        agreed(readOnlyAt, ["FS", dataStore])
      ),
      ({ common, own }) => alone(`fs ${common.root}`, layer({ ...common, ...own }), "FS", asked(health(common)))
    )
)

export const plans = (choices: Choices) => ({
  eventStore: {
    memory: () => memory("eventStore", () => import("../memory/EventStoreMemory.js")),
    sqlite: () => sqlite("eventStore", () => import("../sqlite/EventStoreSqlite.js")),
    // One connection listens for appends of other processes.
    pg: () => pg("eventStore", choices, () => import("../pg/EventStorePg.js"), 1)
  }[choices.eventStore] satisfies () => Plan<EventStore>,
  commandStore: {
    memory: () => memory("commandStore", () => import("../memory/CommandStoreMemory.js")),
    sqlite: () => sqlite("commandStore", () => import("../sqlite/CommandStoreSqlite.js")),
    pg: () => pg("commandStore", choices, () => import("../pg/CommandStorePg.js"))
  }[choices.commandStore] satisfies () => Plan<CommandStore>,
  snapshotStore: {
    memory: () => memory("snapshotStore", () => import("../memory/SnapshotStoreMemory.js")),
    sqlite: () => sqlite("snapshotStore", () => import("../sqlite/SnapshotStoreSqlite.js")),
    pg: () => pg("snapshotStore", choices, () => import("../pg/SnapshotStorePg.js")),
    redis: () => redis("snapshotStore", choices, () => import("../redis/SnapshotStoreRedis.js"))
  }[choices.snapshotStore] satisfies () => Plan<SnapshotStore>,
  cacheStore: {
    memory: () => simple("cacheStore", () => import("../memory/CacheStoreMemory.js")),
    sqlite: () => sqlite("cacheStore", () => import("../sqlite/CacheStoreSqlite.js")),
    pg: () => pg("cacheStore", choices, () => import("../pg/CacheStorePg.js")),
    redis: () => redis("cacheStore", choices, () => import("../redis/CacheStoreRedis.js"))
  }[choices.cacheStore] satisfies () => Plan<CacheStore>,
  dataStore: {
    memory: () => simple("dataStore", () => import("../memory/DataStoreMemory.js")),
    sqlite: () => sqlite("dataStore", () => import("../sqlite/DataStoreSqlite.js")),
    pg: () => pg("dataStore", choices, () => import("../pg/DataStorePg.js")),
    minio: () => minio,
    fs: () => fileSystem
  }[choices.dataStore] satisfies () => Plan<DataStore>
})
