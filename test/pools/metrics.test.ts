/**
 * What pools report as metrics: how many connections are open and idle, how many operations wait, and how long those
 * waited that had to.
 */
import * as path from "node:path"
import { Effect, Fiber, Layer, Redacted } from "effect"
import { EventStorePg, PgDatabase } from "effect-stores/pg"
import { CacheStoreRedis } from "effect-stores/redis"
import { EventStoreSqlite, SqliteDatabase } from "effect-stores/sqlite"
import { describe, expect, it } from "vitest"
import { describePg, describeRedis, freshDatabase, redisUrl, temporaryDirectory } from "../support/backends.js"
import { eventually } from "../support/eventually.js"
import { numbers, reported } from "./support.js"

describePg("the metrics of pools on PostgreSQL", () => {
  it("show what is open, idle and waiting, and how long those waited that had to", async () => {
    const layer = EventStorePg.layer({ url: Redacted.make(await freshDatabase()), pool: { maxOpenConns: 2 } })
    await Effect.gen(function* () {
      const { connection, sql, transaction } = yield* PgDatabase.PgDatabase
      const pool = reported("pg.EventStore", connection)
      yield* eventually(pool, ({ idle, open, waiting }) => open === 1 && idle === 1 && waiting === 0)
      const before = (yield* pool).waits
      for (const _ of numbers(5)) yield* sql`select 1`
      // Those that find a connection wait for none.
      expect((yield* pool).waits).toBe(before)
      const release = yield* Effect.makeLatch()
      const holders = yield* Effect.forEach(numbers(2), () => Effect.fork(transaction(release.await)))
      yield* eventually(pool, ({ idle, open }) => open === 2 && idle === 0)
      const opened = (yield* pool).waits
      const waiting = yield* Effect.forEach(numbers(7), () => Effect.fork(sql`select 1`))
      yield* eventually(pool, ({ waiting }) => waiting === 7)
      yield* Effect.sleep("50 millis")
      yield* release.open
      yield* Fiber.joinAll(holders)
      yield* Fiber.joinAll(waiting)
      const after = yield* eventually(pool, ({ idle, waiting }) => idle === 2 && waiting === 0)
      expect(after.waits).toBe(opened + 7)
      expect(after.longestMs).toBeGreaterThanOrEqual(50)
    }).pipe(Effect.provide(layer), Effect.runPromise)
  })

  it("add up over databases of one name, and are gone with them", async () => {
    const url = Redacted.make(await freshDatabase())
    const layer = PgDatabase.layer({ url, pool: { maxOpenConns: 1 } })
    await Effect.gen(function* () {
      const { connection } = yield* Effect.provide(PgDatabase.PgDatabase, yield* Layer.build(layer))
      const pool = reported("pg", connection)
      yield* Effect.scoped(
        Effect.gen(function* () {
          yield* Layer.build(Layer.fresh(layer))
          yield* eventually(pool, ({ idle, open }) => open === 2 && idle === 2)
        })
      )
      yield* eventually(pool, ({ idle, open }) => open === 1 && idle === 1)
      return pool
    }).pipe(
      Effect.scoped,
      Effect.flatMap((pool) => eventually(pool, ({ idle, open }) => open === 0 && idle === 0)),
      Effect.runPromise
    )
  })
})

describe("the metrics of pools on SQLite", () => {
  it("show the connection that writes and those that read", async () => {
    const filename = path.join(temporaryDirectory(), "metrics.db")
    await Effect.gen(function* () {
      const { reader, transaction } = yield* SqliteDatabase.SqliteDatabase
      const [writer, readers] = [reported("sqlite.writer", filename), reported("sqlite.readers", filename)]
      const release = yield* Effect.makeLatch()
      const writing = yield* Effect.forEach(numbers(3), () => Effect.fork(transaction(release.await)))
      const reading = yield* Effect.forEach(numbers(2), () => Effect.fork(reader.withTransaction(release.await)))
      yield* eventually(writer, ({ idle, open, waiting }) => open === 1 && idle === 0 && waiting === 2)
      yield* eventually(readers, ({ idle, open, waiting }) => open === 1 && idle === 0 && waiting === 1)
      yield* release.open
      yield* Fiber.joinAll(writing)
      yield* Fiber.joinAll(reading)
      expect((yield* eventually(writer, ({ idle }) => idle === 1)).waits).toBeGreaterThanOrEqual(2)
      expect((yield* eventually(readers, ({ idle }) => idle === 1)).waits).toBeGreaterThanOrEqual(1)
    }).pipe(Effect.provide(EventStoreSqlite.layer({ filename, pool: { maxOpenConns: 2 } })), Effect.runPromise)
  })
})

describeRedis("the metrics of pools on Redis", () => {
  it("show open and idle connections", async () => {
    const layer = CacheStoreRedis.layer({ url: Redacted.make(redisUrl() ?? ""), pool: { minIdleConns: 3 } })
    const before = await Effect.runPromise(reported("redis.CacheStore"))
    await Effect.gen(function* () {
      yield* Layer.build(layer)
      yield* eventually(
        reported("redis.CacheStore"),
        ({ idle, open }) => open - before.open === 3 && idle - before.idle === 3
      )
    }).pipe(Effect.scoped, Effect.runPromise)
    expect(await Effect.runPromise(reported("redis.CacheStore"))).toEqual(before)
  })
})
