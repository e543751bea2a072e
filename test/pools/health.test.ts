/**
 * `health`: it is known while the pool is full, a full pool is busy and not down, and what is down is known in bounded
 * time. Pools are full because tests hold their connections by hand.
 */
import * as fs from "node:fs"
import * as path from "node:path"
import {
  Cause,
  ConfigProvider,
  Deferred,
  Effect,
  Exit,
  Fiber,
  Layer,
  Redacted,
  type Scope,
  TestClock,
  TestContext
} from "effect"
import { EventStore, Health } from "effect-stores"
import { DataStoreMinio } from "effect-stores/minio"
import { EventStorePg, PgDatabase } from "effect-stores/pg"
import { RedisDatabase } from "effect-stores/redis"
import { SqliteDatabase } from "effect-stores/sqlite"
import { Stores } from "effect-stores/stores"
import { describe, expect, it, onTestFinished } from "vitest"
import { proxyOf } from "../redis/fixtures.js"
import { describeOwnPg, describeOwnRedis, describePg, freshDatabase, temporaryDirectory } from "../support/backends.js"
import { certificates } from "../support/certificates.js"
import { eventually } from "../support/eventually.js"
import { startPostgres } from "../support/postgres.js"
import { startRedis } from "../support/redis.js"
import { held } from "./support.js"

const run = <A, E>(effect: Effect.Effect<A, E, Scope.Scope>) => Effect.runPromise(Effect.scoped(effect))

/** Transactions that hold connections of the database until the scope closes. */
const holding = (
  count: number,
  { transaction }: { readonly transaction: (self: Effect.Effect<void>) => Effect.Effect<void, unknown> }
) =>
  Effect.gen(function* () {
    const release = yield* Deferred.make<void>()
    const fibers = yield* Effect.forEach(Array.from({ length: count }), () =>
      Effect.forkScoped(transaction(Deferred.await(release)))
    )
    return Effect.zipRight(Deferred.succeed(release, undefined), Fiber.joinAll(fibers))
  })

const pgDatabase = (options: PgDatabase.Options) =>
  Effect.flatMap(Layer.build(PgDatabase.layer(options)), (context) => Effect.provide(PgDatabase.PgDatabase, context))

describe("health", () => {
  it("is down when nothing comes back in time, also under a clock that stands still", () =>
    run(
      Effect.gen(function* () {
        expect(yield* Health.make(Effect.never)).toMatchObject({
          status: "down",
          error: { _tag: "StoreUnavailable", operation: "health" }
        })
        expect(yield* TestClock.currentTimeMillis).toBe(0)
      }).pipe(Effect.provide(TestContext.TestContext))
    ))
})

describePg("health of PostgreSQL", () => {
  it("is busy while all connections are held and others wait, and up before and after", async () => {
    const url = Redacted.make(await freshDatabase())
    await run(
      Effect.gen(function* () {
        const database = yield* pgDatabase({ url, pool: { maxOpenConns: 2 } })
        expect(yield* database.health).toEqual({ status: "up" })
        const release = yield* holding(5, database)
        yield* eventually(database.state, ({ idle, open, waiting }) => open === 2 && idle === 0 && waiting === 3)
        expect(yield* Effect.all([database.health, database.health], { concurrency: 2 })).toEqual([
          { status: "busy" },
          { status: "busy" }
        ])
        expect(yield* database.state).toEqual({ open: 2, idle: 0, waiting: 3 })
        yield* release
        expect(yield* database.health).toEqual({ status: "up" })
        expect(yield* database.state).toEqual({ open: 2, idle: 2, waiting: 0 })
      })
    )
  })

  it("leaves no connection behind, also when it is interrupted", async () => {
    const url = await freshDatabase()
    await run(
      Effect.gen(function* () {
        const options = { url: Redacted.make(url), applicationName: "asked", pool: { maxOpenConns: 1 } }
        const database = yield* pgDatabase(options)
        const watcher = yield* pgDatabase({ url: Redacted.make(url) })
        const connections = watcher.sql`select 1 from pg_stat_activity where application_name = 'asked'`
        const release = yield* holding(1, database)
        yield* eventually(database.state, ({ idle, open }) => open === 1 && idle === 0)
        for (let turns = 0; turns < 30; turns++) {
          const asking = yield* Effect.fork(database.health)
          for (let n = 0; n < turns; n++) yield* Effect.promise(() => new Promise((resolve) => setImmediate(resolve)))
          yield* Fiber.interrupt(asking)
        }
        yield* eventually(connections, ({ length }) => length === 1)
        yield* release
        for (let n = 0; n < 10; n++) {
          const asking = yield* Effect.fork(database.health)
          yield* Effect.yieldNow()
          yield* Fiber.interrupt(asking)
        }
        yield* eventually(database.health, ({ status }) => status === "up")
        yield* eventually(connections, ({ length }) => length === 1)
      })
    )
  })
})

describeOwnPg("health of a PostgreSQL server", () => {
  it("is busy when others have all of its connections, and down when it is gone", async () => {
    const server = await startPostgres({ maxConnections: 10 })
    onTestFinished(server.stop)
    await run(
      Effect.gen(function* () {
        const database = yield* pgDatabase({
          url: Redacted.make(server.url),
          pool: { maxOpenConns: 5, connMaxIdleTime: "100 millis" }
        })
        const release = yield* holding(1, database)
        yield* eventually(database.state, ({ idle, open }) => open === 1 && idle === 0)
        const others = yield* held(server.url, 9)
        expect(yield* database.health).toEqual({ status: "busy" })
        yield* release
        // Idle again, it responds although the server takes no other.
        yield* database.sql`select 1`
        expect(yield* database.health).toEqual({ status: "up" })
        for (const client of others) yield* Effect.promise(() => client.end())
        yield* Effect.promise(server.kill)
        expect(yield* database.health).toMatchObject({ status: "down", error: { _tag: "StoreUnavailable" } })
        yield* Effect.promise(server.start)
        expect(yield* database.health).toEqual({ status: "up" })
      })
    )
  })

  it("is down within its time when nothing comes back, over an idle connection or over none", async () => {
    const server = await startPostgres()
    onTestFinished(server.stop)
    const proxy = await proxyOf(server)
    await run(
      Effect.gen(function* () {
        const url = new URL(server.url)
        url.port = String(proxy.port)
        const database = yield* pgDatabase({ url: Redacted.make(url.href), pool: { maxOpenConns: 2 } })
        proxy.onData = () => "keep"
        for (let n = 0; n < 2; n++) {
          expect(yield* database.health).toMatchObject({ status: "down", error: { _tag: "StoreUnavailable" } })
        }
        proxy.onData = () => "pass"
        yield* eventually(database.health, ({ status }) => status === "up")
        expect((yield* database.sql`select 1 as one`)[0]).toEqual({ one: 1 })
      })
    )
  })
})

describe("health of SQLite", () => {
  const database = (options: SqliteDatabase.Options) =>
    Effect.flatMap(Layer.build(SqliteDatabase.layer(options)), (context) =>
      Effect.provide(SqliteDatabase.SqliteDatabase, context)
    )

  it("is busy while its connections are held, and down when its file is gone", async () => {
    const folder = temporaryDirectory()
    const filename = path.join(folder, "health.db")
    await run(
      Effect.gen(function* () {
        const opened = yield* database({ filename, pool: { maxOpenConns: 2 } })
        expect(yield* opened.health).toEqual({ status: "up" })
        const release = yield* holding(2, opened)
        yield* eventually(opened.state, ({ writer }) => writer.waiting === 1)
        expect(yield* opened.health).toEqual({ status: "busy" })
        yield* release
        const readers = yield* holding(2, { transaction: (self) => opened.reader.withTransaction(self) })
        yield* eventually(opened.state, ({ readers }) => readers.waiting === 1)
        expect(yield* opened.health).toEqual({ status: "busy" })
        yield* readers
        expect(yield* opened.health).toEqual({ status: "up" })
        fs.renameSync(filename, path.join(folder, "moved.db"))
        expect(yield* opened.health).toMatchObject({ status: "down", error: { _tag: "StoreError" } })
      })
    )
  })

  it("in memory is up, and busy while its connection is held", () =>
    run(
      Effect.gen(function* () {
        const opened = yield* database({ filename: ":memory:" })
        expect(yield* opened.health).toEqual({ status: "up" })
        const release = yield* holding(1, opened)
        yield* eventually(opened.state, ({ writer }) => writer.idle === 0)
        expect(yield* opened.health).toEqual({ status: "busy" })
        yield* release
      })
    ))
})

describeOwnRedis("health of Redis", () => {
  const database = (options: RedisDatabase.Options) =>
    Effect.flatMap(Layer.build(RedisDatabase.layer(options)), (context) =>
      Effect.provide(RedisDatabase.RedisDatabase, context)
    )
  const set = (bytes: number) => ({
    operation: "set",
    size: bytes,
    send: (driver: { readonly set: (key: string, value: Buffer) => Promise<unknown> }) =>
      driver.set("large", Buffer.alloc(bytes)),
    onReply: () => undefined
  })

  it("is busy while all connections are, up when they are not, and down when the server is silent or gone", async () => {
    const server = await startRedis()
    onTestFinished(() => server.stop())
    const proxy = await proxyOf(server)
    await run(
      Effect.gen(function* () {
        const pool = { poolSize: 2, minIdleConns: 1, writeTimeout: "1 hour" } as const
        const opened = yield* database({ host: "127.0.0.1", port: proxy.port, pool })
        expect(yield* opened.health).toEqual({ status: "up" })
        // What the pool sends is kept, and what others send is not.
        let last = 0
        const kept: Array<number> = []
        proxy.onData = (data, nth) => {
          if (kept.length < 2 && !kept.includes(nth) && /large/.test(data)) kept.push(nth)
          last = Math.max(last, nth)
          return kept.includes(nth) ? "keep" : "pass"
        }
        const sending = yield* Effect.forEach([1, 2], () => Effect.forkScoped(opened.run(set(300_000))))
        yield* eventually(Effect.sync(() => kept.length === 2))
        expect(yield* opened.health).toEqual({ status: "busy" })
        expect(kept).not.toContain(last)
        yield* Fiber.interruptAll(sending)
        proxy.onData = () => "keep"
        expect(yield* opened.health).toMatchObject({ status: "down", error: { _tag: "StoreUnavailable" } })
        proxy.onData = () => "cut"
        yield* Effect.promise(() => server.stop())
        expect(yield* opened.health).toMatchObject({ status: "down", error: { _tag: "StoreUnavailable" } })
      })
    )
  })
})

describe("health of an S3 server", () => {
  it("that is not there is down, and options are checked", () =>
    run(
      Effect.gen(function* () {
        const options = { endpoint: "http://127.0.0.1:1", accessKey: "a", secretKey: Redacted.make("b") }
        expect(yield* DataStoreMinio.health(options)).toMatchObject({
          status: "down",
          error: { _tag: "StoreUnavailable" }
        })
        const refused = yield* Effect.exit(DataStoreMinio.health({ ...options, endpoint: "nowhere" }))
        expect(Exit.isFailure(refused) && String(Cause.squash(refused.cause))).toContain("endpoint")
      })
    ))
})

describe("health of a chosen S3 server", () => {
  it("is down when a file that its variables name is gone since the start", async () => {
    const ca = certificates(temporaryDirectory()).authority
    const variables = {
      DATA_STORE: "minio",
      MINIO_ENDPOINT: "https://127.0.0.1:1",
      MINIO_ACCESS_KEY: "a",
      MINIO_SECRET_KEY: "b",
      MINIO_TLS_CA_FILE: ca
    }
    const provider = ConfigProvider.fromMap(new Map(Object.entries(variables)), { pathDelim: "_" })
    await Effect.gen(function* () {
      expect((yield* Stores.health).dataStore).toMatchObject({ status: "down", error: { _tag: "StoreUnavailable" } })
      fs.rmSync(ca)
      const { dataStore } = yield* Stores.health
      expect(dataStore).toMatchObject({ status: "down", error: { _tag: "StoreError", operation: "health" } })
      expect(String(dataStore?.status === "down" && dataStore.error)).toContain("tls.caFile")
    }).pipe(Effect.provide(Stores.layer().pipe(Layer.provide(Layer.setConfigProvider(provider)))), Effect.runPromise)
  })
})

describePg("health of all stores", () => {
  it("names each, asks what several share once, and does not know layers of the application", async () => {
    const url = await freshDatabase()
    const folder = temporaryDirectory()
    const variables = {
      EVENT_STORE: "pg",
      COMMAND_STORE: "pg",
      SNAPSHOT_STORE: "memory",
      CACHE_STORE: "sqlite",
      DATA_STORE: "fs",
      PG_URL: url,
      PG_SHARED: "true",
      PG_POOL_MAX_OPEN_CONNS: "1",
      SQLITE_FILENAME: path.join(folder, "cache.db"),
      FS_ROOT: path.join(folder, "objects")
    }
    const provider = ConfigProvider.fromMap(new Map(Object.entries(variables)), { pathDelim: "_" })
    const up = { status: "up" }
    await Effect.gen(function* () {
      expect(yield* Stores.health).toEqual({
        eventStore: up,
        commandStore: up,
        snapshotStore: up,
        cacheStore: up,
        dataStore: up
      })
      fs.rmSync(path.join(folder, "objects"), { recursive: true })
      expect((yield* Stores.health).dataStore).toMatchObject({ status: "down" })
    }).pipe(Effect.provide(Stores.layer().pipe(Layer.provide(Layer.setConfigProvider(provider)))), Effect.runPromise)
    await Effect.gen(function* () {
      yield* EventStore.EventStore
      const health = yield* Stores.health
      expect(Object.keys(health)).not.toContain("eventStore")
      expect(health.commandStore).toEqual(up)
    }).pipe(
      Effect.provide(
        Stores.layer({ eventStore: EventStorePg.layer({ url: Redacted.make(url) }) }).pipe(
          Layer.provide(Layer.setConfigProvider(ConfigProvider.fromMap(new Map())))
        )
      ),
      Effect.runPromise
    )
  })
})
