/**
 * Nothing of what went through a sealed store, and no byte of a key, is to be seen anywhere: in files of databases, in
 * their logs, in objects, in log lines, spans, services and errors. On each backend.
 */
import * as path from "node:path"
import { Chunk, Effect, Layer, Redacted, Stream } from "effect"
import { DataStoreFileSystem } from "effect-stores/fs"
import {
  CacheStoreMemory,
  CommandStoreMemory,
  DataStoreMemory,
  EventStoreMemory,
  SnapshotStoreMemory
} from "effect-stores/memory"
import { DataStoreMinio } from "effect-stores/minio"
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
import { afterAll, test } from "vitest"
import { clientOf } from "../data/s3.js"
import { describeOwnPg, describeOwnRedis, describeWith, temporaryDirectory } from "../support/backends.js"
import { withClient } from "../support/databases.js"
import { startPostgres } from "../support/postgres.js"
import { startRedis } from "../support/redis.js"
import { startCeph } from "../support/s3.js"
import { canary, control, filesIn, type Seen } from "./canary.js"

const timeout = { timeout: 600_000 }

test("in memory", timeout, () =>
  Effect.flatMap(
    // Built once, since what is in memory is gone with its layer.
    Layer.build(
      Layer.mergeAll(
        EventStoreMemory.layer(),
        CommandStoreMemory.layer(),
        SnapshotStoreMemory.layer(),
        CacheStoreMemory.layer(),
        DataStoreMemory.layer()
      )
    ),
    (stores) => Effect.promise(() => canary(Layer.succeedContext(stores), {}))
  ).pipe(Effect.scoped, Effect.runPromise)
)

for (const [what, search] of [
  ["sealed", canary],
  ["plain, where it is found", control]
] as const) {
  test(`on SQLite, ${what}`, timeout, async () => {
    const folder = temporaryDirectory()
    const layer = Layer.mergeAll(
      EventStoreSqlite.layerFromDatabase(),
      CommandStoreSqlite.layerFromDatabase(),
      SnapshotStoreSqlite.layerFromDatabase(),
      CacheStoreSqlite.layerFromDatabase(),
      DataStoreSqlite.layerFromDatabase()
    ).pipe(Layer.provideMerge(SqliteDatabase.layer({ filename: path.join(folder, "stores.db") })))
    await search(layer, { stored: async () => filesIn(folder) })
  })

  test(`on the file system, ${what}`, timeout, async () => {
    const root = temporaryDirectory()
    await search(DataStoreFileSystem.layer({ root }), { stored: async () => filesIn(root) })
  })

  describeOwnPg(`on PostgreSQL, ${what}`, async () => {
    const server = await startPostgres({ settings: { log_statement: "all", log_min_messages: "debug1" } })
    afterAll(server.stop)

    test("data directory, WAL and log", timeout, async () => {
      const url = await server.createDatabase()
      const layer = Layer.mergeAll(
        EventStorePg.layerFromDatabase(),
        CommandStorePg.layerFromDatabase(),
        SnapshotStorePg.layerFromDatabase(),
        CacheStorePg.layerFromDatabase(),
        DataStorePg.layerFromDatabase()
      ).pipe(Layer.provideMerge(PgDatabase.layer({ url: Redacted.make(url) })))
      const stored = async (): Promise<ReadonlyArray<Seen>> => {
        const folder = await withClient(server.url, async (client) => {
          await client.query("checkpoint")
          const { rows } = await client.query("select current_setting('data_directory') as data")
          return rows[0].data as string
        })
        return [...filesIn(folder), ["the server's log", Buffer.from(server.log())]]
      }
      await search(layer, { stored })
    })
  })

  describeOwnRedis(`on Redis, ${what}`, async () => {
    const server = await startRedis({ persistent: true })
    afterAll(server.stop)

    test("RDB, AOF and log", timeout, async () => {
      const layer = Layer.mergeAll(SnapshotStoreRedis.layerFromDatabase(), CacheStoreRedis.layerFromDatabase()).pipe(
        Layer.provideMerge(RedisDatabase.layer({ url: Redacted.make(server.url) }))
      )
      const stored = async (): Promise<ReadonlyArray<Seen>> => {
        await server.command("save")
        const [, folder] = (await server.command("config", "get", "dir")) as [string, string]
        return [...filesIn(folder), ["the server's log", Buffer.from(server.log())]]
      }
      await search(layer, { stored })
    })
  })

  describeWith("ceph", `on Ceph's gateway, ${what}`, async () => {
    const server = await startCeph()
    afterAll(server.stop)

    test("bodies and headers of all objects", timeout, async () => {
      const options = {
        endpoint: server.endpoint,
        accessKey: server.accessKey,
        secretKey: Redacted.make(server.secretKey),
        bucketPrefix: "c-"
      }
      const client = clientOf(options)
      const stored = async (): Promise<ReadonlyArray<Seen>> => {
        const seen: Array<Seen> = []
        for await (const { name } of client.listObjects("c-canary", "", true) as AsyncIterable<{ name: string }>) {
          const body = Stream.fromAsyncIterable<Buffer, unknown>(
            await client.getObject("c-canary", name),
            (error) => error
          )
          const pieces = await Effect.runPromise(Stream.runCollect(body))
          seen.push([name, Buffer.concat(Chunk.toReadonlyArray(pieces))])
          const { metaData } = await client.statObject("c-canary", name)
          const values = Object.values(metaData as Record<string, string>)
          seen.push([`the headers of ${name}`, Buffer.from(JSON.stringify(metaData))])
          seen.push([`the record of ${name}`, Buffer.from(values.join(""), "base64url")])
        }
        return seen
      }
      await search(DataStoreMinio.layer(options), { stored })
    })
  })
}
