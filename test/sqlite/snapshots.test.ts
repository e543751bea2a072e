/**
 * The SnapshotStore on SQLite beyond its contract.
 */
import * as path from "node:path"
import { Config, ConfigProvider, Effect, Layer } from "effect"
import { Pool, SnapshotStore } from "effect-stores"
import { EventStoreSqlite, SnapshotStoreSqlite, SqliteDatabase } from "effect-stores/sqlite"
import { describe, expect, it } from "vitest"
import { temporaryDirectory } from "../support/backends.js"
import { snapshotOf, snapshotsOnSql, streamOf, versionOf } from "../support/snapshotsOnSql.js"
import { openConnections, storeMigrations } from "./support.js"

const freshFile = () => path.join(temporaryDirectory(), "snapshots.db")

const saveOne = Effect.flatMap(SnapshotStore.SnapshotStore, (store) =>
  Effect.zipRight(store.save(streamOf("a"), snapshotOf(1)), versionOf(store, streamOf("a")))
)

describe("SnapshotStore on SQLite", () => {
  snapshotsOnSql({
    place: async () => {
      const filename = freshFile()
      return { database: (pool) => SqliteDatabase.layer({ filename, pool }), env: { WORKER_SQLITE_FILE: filename } }
    },
    tag: SqliteDatabase.SqliteDatabase,
    snapshots: SnapshotStoreSqlite.layerFromDatabase,
    events: EventStoreSqlite.layerFromDatabase,
    waiting: (database) => Effect.map(database.state, ({ writer }) => writer.waiting),
    tables: "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
  })

  it("has one connection by default, and more when they are given", async () => {
    for (const [pool, readers] of [
      [undefined, 0],
      [{ maxOpenConns: 3 }, 1]
    ] as const) {
      const filename = freshFile()
      await Effect.gen(function* () {
        expect(yield* saveOne).toBe(1)
        expect(openConnections(filename)).toBe(1 + readers)
      }).pipe(Effect.provide(SnapshotStoreSqlite.layer({ filename, pool })), Effect.runPromise)
      expect(openConnections(filename)).toBe(0)
    }
  })

  it("has one save in the line for the connection that writes, however many are offered", () =>
    Effect.gen(function* () {
      const store = yield* SnapshotStore.SnapshotStore
      const database = yield* SqliteDatabase.SqliteDatabase
      const streams = Array.from({ length: 8 }, (_, i) => streamOf(`offered ${i}`))
      yield* database.transaction(
        Effect.gen(function* () {
          for (const stream of streams) yield* store.saveInBackground(stream, Effect.succeed(snapshotOf(1)))
          while ((yield* database.state).writer.waiting === 0) yield* Effect.sleep("1 millis")
          // As many turns as all would need to come to the line.
          for (let turn = 0; turn < 100; turn++) yield* Effect.promise(() => new Promise<void>(setImmediate))
          expect((yield* database.state).writer.waiting).toBe(1)
        })
      )
      for (const stream of streams) {
        yield* store.flush(stream)
        expect(yield* versionOf(store, stream)).toBe(1)
      }
    }).pipe(
      Effect.provide(
        Layer.provideMerge(
          SnapshotStoreSqlite.layerFromDatabase(),
          SqliteDatabase.layer({ filename: freshFile(), synchronous: "OFF" })
        )
      ),
      Effect.runPromise
    ))

  it("comes from Config", async () => {
    const filename = freshFile()
    const layer = SnapshotStoreSqlite.layerConfig({
      filename: Config.string("FILE"),
      pool: Config.nested(Pool.sqliteConfig, "POOL")
    })
    const config = ConfigProvider.fromMap(
      new Map([
        ["FILE", filename],
        ["POOL.MAX_OPEN_CONNS", "2"]
      ])
    )
    await Effect.gen(function* () {
      expect(yield* saveOne).toBe(1)
      expect(openConnections(filename)).toBe(2)
    }).pipe(Effect.provide(layer), Effect.withConfigProvider(config), Effect.runPromise)
  })

  storeMigrations(
    "SnapshotStoreSqlite",
    SnapshotStoreSqlite,
    ["snapshots"],
    Effect.map(saveOne, (version) => expect(version).toBe(1))
  )
})
