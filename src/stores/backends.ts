/**
 * The plan of each store on each of its backends. Drivers are loaded here, and only those of the backends chosen.
 */
import * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Layer from "effect/Layer"
import type { CacheStore } from "../CacheStore.js"
import type { CommandStore } from "../CommandStore.js"
import type { DataStore } from "../DataStore.js"
import type { EventStore } from "../EventStore.js"
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
  readOnly,
  type StoreOptions,
  up
} from "./plans.js"

const inferred = <Tag, Service, Options, P, Limits>(kind: Kind<Tag, Service, Options, P, Limits>) => kind

const pg = <S>(
  store: Store,
  { pgShared }: Choices,
  module: () => Promise<{ readonly layerFromDatabase: (options: StoreOptions) => Layer.Layer<S, Failure, PgDatabase> }>
): Plan<S> =>
  Effect.map(
    load(store, "pg", () => Promise.all([import("../pg/PgDatabase.js"), module()])),
    ([{ PgDatabase, config, make, maxClients }, { layerFromDatabase }]) => {
      const kind = inferred({
        name: "PG",
        tag: PgDatabase,
        config,
        pool: Pool.config,
        make,
        place: ({ connection }) => connection,
        health: ({ health }) => health,
        bound: "maxOpenConns",
        limits: (pool, defaults: Pool.Defaults) =>
          Either.map(Pool.limits(pool, defaults), ({ maxOpenConns }) => maxOpenConns),
        allowed: (database) => Effect.orElseSucceed(maxClients(database), () => undefined)
      })
      const cure = pgShared ? "without PG_SHARED each store has its own" : "PG_SHARED=true makes it one for all stores"
      const sharing = { isShared: pgShared, cure, defaults: Pool.defaults.eventStore.pg }
      return onDatabase(store, kind, Pool.defaults[store].pg, sharing, layerFromDatabase)
    }
  )

const sqlite = <S>(
  store: Store,
  module: () => Promise<{
    readonly layerFromDatabase: (options: StoreOptions) => Layer.Layer<S, Failure, SqliteDatabase>
  }>
): Plan<S> =>
  Effect.map(
    load(store, "sqlite", () => Promise.all([import("../sqlite/SqliteDatabase.js"), module()])),
    ([{ SqliteDatabase, config, make }, { layerFromDatabase }]) => {
      const kind = inferred({
        name: "SQLITE",
        tag: SqliteDatabase,
        config,
        pool: Pool.sqliteConfig,
        make,
        place: ({ filename }) => filename,
        health: ({ health }) => health,
        bound: "maxOpenConns",
        limits: (pool, defaults: Pool.Defaults) =>
          Either.map(Pool.limits(pool, defaults), ({ maxOpenConns }) => maxOpenConns),
        allowed: () => Effect.succeed(undefined)
      })
      // A process opens a file once.
      const cure = "all stores in one file share it"
      const sharing = { isShared: true, cure, defaults: Pool.defaults.eventStore.sqlite }
      return onDatabase(store, kind, Pool.defaults[store].sqlite, sharing, layerFromDatabase)
    }
  )

const redis = <S>(
  store: "cacheStore" | "snapshotStore",
  { redisShared }: Choices,
  module: () => Promise<{
    readonly layerFromDatabase: (options: StoreOptions) => Layer.Layer<S, Failure, RedisDatabase>
  }>
): Plan<S> =>
  Effect.map(
    load(store, "redis", () => Promise.all([import("../redis/RedisDatabase.js"), module()])),
    ([{ RedisDatabase, config, make, maxClients }, { layerFromDatabase }]) => {
      const kind = inferred({
        name: "REDIS",
        tag: RedisDatabase,
        config,
        pool: Pool.redisConfig,
        make,
        place: ({ connection }) => connection,
        health: ({ health }) => health,
        bound: "poolSize",
        limits: (pool, defaults: Pool.RedisLimits) =>
          Either.map(Pool.redisLimits(pool, defaults), ({ poolSize }) => poolSize),
        allowed: (database) => Effect.orElseSucceed(maxClients(database), () => undefined)
      })
      const cure = redisShared
        ? "without REDIS_SHARED each store has its own"
        : "REDIS_SHARED=true makes it one for both"
      const sharing = { isShared: redisShared, cure, defaults: Pool.defaults.cacheStore.redis }
      return onDatabase(store, kind, Pool.defaults[store].redis, sharing, layerFromDatabase)
    }
  )

/** In memory events, commands and snapshots share a database, so that transactions extend to all of them. */
const memory = <S>(
  store: Store,
  module: () => Promise<{
    readonly layerFromDatabase: (options: {
      readonly readOnly?: boolean | undefined
    }) => Layer.Layer<S, Failure, MemoryDatabase>
  }>
): Plan<S> =>
  Effect.map(
    load(store, "memory", () => Promise.all([import("../memory/MemoryDatabase.js"), module()])),
    ([database, { layerFromDatabase }]) =>
      Config.map(
        Config.nested(readOnly, nameOf(store)),
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
    readonly layer: (options: { readonly readOnly?: boolean | undefined }) => Layer.Layer<S, Failure>
  }>
): Plan<S> =>
  Effect.map(load(store, "memory", module), ({ layer }) =>
    Config.map(Config.nested(readOnly, nameOf(store)), (options) => alone("memory", layer(options), nameOf(store)))
  )

/** What a store of one backend only has: the variable of the store goes before that of the backend. */
const own = Config.nested(readOnly, nameOf("dataStore"))

const minio: Plan<DataStore> = Effect.map(
  load("dataStore", "minio", () => import("../minio/DataStoreMinio.js")),
  ({ config, health, layer }) =>
    Config.map(
      Config.all([
        Config.nested(config, "MINIO"),
        Config.nested(Config.nested(Pool.httpConfig, "POOL"), nameOf("dataStore")),
        own
      ]),
      ([options, pool, own]) => {
        const all = { ...options, ...own, pool: { ...options.pool, ...pool } }
        return alone(`minio ${options.endpoint}`, layer(all), "MINIO", Effect.orDie(health(all)))
      }
    )
)

const fileSystem: Plan<DataStore> = Effect.map(
  load("dataStore", "fs", () => import("../fs/DataStoreFileSystem.js")),
  ({ config, health, layer }) =>
    Config.map(Config.all([Config.nested(config, "FS"), own]), ([options, own]) =>
      alone(`fs ${options.root}`, layer({ ...options, ...own }), "FS", Effect.orDie(health(options)))
    )
)

export const plans = (choices: Choices) => ({
  eventStore: {
    memory: () => memory("eventStore", () => import("../memory/EventStoreMemory.js")),
    sqlite: () => sqlite("eventStore", () => import("../sqlite/EventStoreSqlite.js")),
    pg: () => pg("eventStore", choices, () => import("../pg/EventStorePg.js"))
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
