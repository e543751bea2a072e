/**
 * All five stores on each kind of backend, for what is done to all that is stored: what is put into them, and how it
 * looks to who reads it.
 */
import * as path from "node:path"
import { Chunk, Duration, Effect, Layer, Option, Redacted, Stream } from "effect"
import {
  CacheStore,
  CacheStoreEncoded,
  CommandStore,
  CommandStoreEncoded,
  CryptoService,
  DataStore,
  DataStoreEncoded,
  EventStore,
  EventStoreEncoded,
  SnapshotStore,
  SnapshotStoreEncoded
} from "effect-stores"
import { DataStoreFileSystem } from "effect-stores/fs"
import {
  CacheStoreMemory,
  CommandStoreMemory,
  DataStoreMemory,
  EventStoreMemory,
  SnapshotStoreMemory
} from "effect-stores/memory"
import { CacheStorePg, CommandStorePg, DataStorePg, EventStorePg, PgDatabase, SnapshotStorePg } from "effect-stores/pg"
import { CacheStoreRedis, RedisDatabase, SnapshotStoreRedis } from "effect-stores/redis"
import {
  CacheStoreSqlite,
  CommandStoreSqlite,
  DataStoreSqlite,
  EventStoreSqlite,
  SnapshotStoreSqlite,
  SqliteDatabase
} from "effect-stores/sqlite"
import { keyBytesOf } from "../crypto/fixtures.js"

export type Stores =
  | EventStore.EventStore
  | CommandStore.CommandStore
  | SnapshotStore.SnapshotStore
  | CacheStore.CacheStore
  | DataStore.DataStore

export type World = Layer.Layer<Stores, unknown>

export interface Ports {
  readonly events: EventStoreEncoded.Encoded
  readonly commands: CommandStoreEncoded.Encoded
  readonly snapshots: SnapshotStoreEncoded.Encoded
  readonly cache: CacheStoreEncoded.Encoded
  readonly objects: DataStoreEncoded.Encoded
}

export const memoryPorts: Effect.Effect<Ports> = Effect.all({
  events: EventStoreMemory.makeEncoded,
  commands: CommandStoreMemory.makeEncoded,
  snapshots: SnapshotStoreMemory.makeEncoded,
  cache: Effect.suspend(() => Effect.map(Effect.orDie(CacheStoreMemory.makeEncoded()), ({ encoded }) => encoded)),
  objects: DataStoreMemory.makeEncoded
})

export const onPorts = ({ cache, commands, events, objects, snapshots }: Ports): World =>
  Layer.mergeAll(
    Layer.succeed(
      EventStore.EventStore,
      EventStoreEncoded.make(events, { system: "memory", pollInterval: Duration.seconds(1) })
    ),
    Layer.succeed(CommandStore.CommandStore, CommandStoreEncoded.make(commands, { system: "memory" })),
    Layer.scoped(SnapshotStore.SnapshotStore, SnapshotStoreEncoded.make(snapshots, { system: "memory" })),
    Layer.scoped(CacheStore.CacheStore, CacheStoreEncoded.make(cache, { system: "memory" })),
    Layer.succeed(DataStore.DataStore, DataStoreEncoded.make(objects, { system: "memory" }))
  )

export const onSqlite = (filename: string): World =>
  Layer.mergeAll(
    EventStoreSqlite.layerFromDatabase(),
    CommandStoreSqlite.layerFromDatabase(),
    SnapshotStoreSqlite.layerFromDatabase(),
    CacheStoreSqlite.layerFromDatabase(),
    DataStoreSqlite.layerFromDatabase()
  ).pipe(Layer.provide(SqliteDatabase.layer({ filename })))

export const onPg = (url: string): World =>
  Layer.mergeAll(
    EventStorePg.layerFromDatabase(),
    CommandStorePg.layerFromDatabase(),
    SnapshotStorePg.layerFromDatabase(),
    CacheStorePg.layerFromDatabase(),
    DataStorePg.layerFromDatabase()
  ).pipe(Layer.provide(PgDatabase.layer({ url: Redacted.make(url), pool: { maxOpenConns: 6 } })))

/** Snapshots and the cache in Redis, objects in files, the logs on SQLite. */
export const onRedisAndFiles = (url: string, prefix: string, directory: string): World =>
  Layer.mergeAll(
    Layer.mergeAll(EventStoreSqlite.layerFromDatabase(), CommandStoreSqlite.layerFromDatabase()).pipe(
      Layer.provide(SqliteDatabase.layer({ filename: path.join(directory, "logs.db") }))
    ),
    Layer.mergeAll(
      SnapshotStoreRedis.layerFromDatabase({ prefix: `${prefix}s:` }),
      CacheStoreRedis.layerFromDatabase({ prefix: `${prefix}c:` })
    ).pipe(Layer.provide(RedisDatabase.layer({ url: Redacted.make(url) }))),
    DataStoreFileSystem.layer({ root: path.join(directory, "objects"), sync: false })
  )

/** The first key seals, all open. */
export const ring = (
  names: readonly [string, ...Array<string>],
  options: CryptoService.PolicyOptions = {}
): ReturnType<typeof CryptoService.layer> =>
  CryptoService.layer({
    keys: names.map((id) => ({ id, key: Redacted.make(keyBytesOf(id)) })),
    primary: names[0],
    ...options
  })

export const under = (
  world: World,
  names: readonly [string, ...Array<string>],
  options?: CryptoService.PolicyOptions
): World => world.pipe(CryptoService.seal, Layer.provide(ring(names, options)))

export const allStores = Effect.all([
  EventStore.EventStore,
  CommandStore.CommandStore,
  SnapshotStore.SnapshotStore,
  CacheStore.CacheStore,
  DataStore.DataStore
])

export const tenantId = "acme"
export const streamOf = (n: number) => ({ tenantId, domain: "Account", aggregateId: `a-${n}` })
export const idOf = (n: number) => `00000000-0000-7000-8000-${n.toString(16).padStart(12, "0")}`
export const mark = "00000000-0000-7000-8000-00000000000f"
export const bucket = "documents"

/** Lengths of objects: none, few bytes, more than a segment and a piece. */
const objectLengths = [0, 10, 300_000]
const bodyOf = (length: number) => Buffer.alloc(length, "grüße ")

/** So many events and commands; 10 streams with snapshots, entries of all kinds, objects. */
export const fill = (count: number, commandCount: number = count / 2) =>
  Effect.gen(function* () {
    const [events, commands, snapshots, cache, objects] = yield* allStores
    for (let from = 0; from < count; from += 100) {
      const some = Array.from({ length: Math.min(100, count - from) }, (_, i) => from + i)
      yield* events.append(
        streamOf(from % 1_000),
        some.map((n) => ({ id: idOf(n), type: "Added", data: { n }, metadata: n % 2 === 0 ? {} : { by: n } })),
        { expected: "any" }
      )
    }
    yield* Effect.forEach(
      Array.from({ length: commandCount }, (_, n) => n),
      (n) => {
        const id = idOf(1_000_000 + n)
        const command = { id, tenantId, domain: "Account", type: "Add", data: { n }, metadata: n % 3 ? { n } : {} }
        return Effect.zipRight(
          commands.create(command),
          n % 2 === 0 ? Effect.void : commands.update(id, { status: "succeeded", outcome: { sum: n } })
        )
      },
      { concurrency: 8, discard: true }
    )
    for (let n = 0; n < 10; n++) {
      const snapshot = { version: n + 1, lastEventMark: mark, schemaVersion: "1", state: { n } }
      yield* snapshots.save({ ...streamOf(n), domain: "Konto: % ü" }, snapshot)
      yield* cache.set(tenantId, `k:${n}`, { n }, { ttl: "1 hour" })
      yield* cache.set(`${tenantId}: %`, `k:${n}`, { n }, { ttl: "1 hour", grace: "1 hour", tags: ["t"] })
    }
    yield* objects.buckets.create(bucket)
    for (const length of objectLengths)
      yield* objects.put({ bucket, name: `o/${length}` }, bodyOf(length), { metadata: { length: String(length) } })
  })

/** All that is there, as its users see it. */
export const look = Effect.gen(function* () {
  const [events, commands, snapshots, cache, objects] = yield* allStores
  const feed = Chunk.toReadonlyArray(yield* Stream.runCollect(events.feed()))
  const log = Chunk.toReadonlyArray(yield* Stream.runCollect(commands.list()))
  const states = yield* Effect.forEach(
    Array.from({ length: 10 }, (_, n) => n),
    (n) => snapshots.latest({ ...streamOf(n), domain: "Konto: % ü" })
  )
  const cached = yield* Effect.forEach([tenantId, `${tenantId}: %`], (tenant) =>
    Effect.forEach(
      Array.from({ length: 10 }, (_, n) => n),
      (n) => cache.get(tenant, `k:${n}`)
    )
  )
  const bodies = yield* Effect.forEach(objectLengths, (length) =>
    Effect.gen(function* () {
      const found = Option.getOrThrow(yield* objects.get({ bucket, name: `o/${length}` }))
      const body = Buffer.concat(Chunk.toReadonlyArray(yield* Stream.runCollect(found.body)))
      const { contentType, metadata, modifiedAt, sha256, size } = found.info
      return { body: body.toString("hex"), contentType, metadata, modifiedAt, sha256, size }
    })
  )
  return { feed, log, states, cached, bodies }
})
