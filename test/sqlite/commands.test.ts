/**
 * The CommandStore on SQLite beyond its contract.
 */
import * as path from "node:path"
import Sqlite from "better-sqlite3"
import { Config, ConfigProvider, Effect, Layer } from "effect"
import { CommandStore, Pool } from "effect-stores"
import { CommandStoreSqlite, EventStoreSqlite, SqliteDatabase } from "effect-stores/sqlite"
import { describe, expect, it } from "vitest"
import { temporaryDirectory } from "../support/backends.js"
import { commandsOnSql, newCommand } from "../support/commandsOnSql.js"
import { openConnections, storeMigrations } from "./support.js"

const freshFile = () => path.join(temporaryDirectory(), "commands.db")

const createOne = Effect.flatMap(CommandStore.CommandStore, (store) => store.create(newCommand()))

describe("CommandStore on SQLite", () => {
  commandsOnSql({
    place: async () => {
      const filename = freshFile()
      return {
        database: SqliteDatabase.layer({ filename, pool: { acquireTimeout: "1 minute" } }),
        env: { WORKER_SQLITE_FILE: filename }
      }
    },
    tag: SqliteDatabase.SqliteDatabase,
    commands: CommandStoreSqlite.layerFromDatabase,
    port: CommandStoreSqlite.makeEncoded,
    events: EventStoreSqlite.layerFromDatabase,
    // Once it has begun its transaction nobody else can write.
    pauses: ["claimed"]
  })

  it("answers a repeat while another holds the file's lock", async () => {
    const filename = freshFile()
    await Effect.gen(function* () {
      const store = yield* CommandStore.CommandStore
      const command = newCommand()
      const { position } = yield* store.create(command)
      const other = new Sqlite(filename)
      other.exec("BEGIN IMMEDIATE")
      expect(yield* store.create(command)).toMatchObject({ position })
      other.exec("ROLLBACK")
      other.close()
    }).pipe(Effect.provide(CommandStoreSqlite.layer({ filename, pool: { acquireTimeout: 50 } })), Effect.runPromise)
  })

  it("gives no position again when the newest command is deleted", async () => {
    await Effect.gen(function* () {
      const store = yield* CommandStore.CommandStore
      const { id, position } = yield* store.create(newCommand())
      yield* store.delete(id)
      expect((yield* store.create(newCommand())).position).toBeGreaterThan(position)
    }).pipe(Effect.provide(CommandStoreSqlite.layer({ filename: freshFile() })), Effect.runPromise)
  })

  it("has up to 10 connections by default, as many as are given, and options from Config", async () => {
    const filename = freshFile()
    const layer = CommandStoreSqlite.layerConfig({
      filename: Config.string("FILE"),
      instanceId: Config.string("INSTANCE"),
      pool: Config.nested(Pool.sqliteConfig, "POOL")
    })
    const config = ConfigProvider.fromMap(
      new Map([
        ["FILE", filename],
        ["INSTANCE", "one"],
        ["POOL.MAX_OPEN_CONNS", "2"]
      ])
    )
    await Effect.gen(function* () {
      expect((yield* createOne).instanceId).toBe("one")
      const { reader } = yield* SqliteDatabase.SqliteDatabase
      yield* reader`SELECT 1`
      expect(openConnections(filename)).toBe(2)
    }).pipe(Effect.provide(layer), Effect.withConfigProvider(config), Effect.runPromise)
    expect(Pool.defaults.commandStore.sqlite.maxOpenConns).toBe(10)
  })

  storeMigrations(
    "CommandStoreSqlite",
    CommandStoreSqlite,
    ["commands", "attempt tokens"],
    Effect.map(createOne, ({ position }) => expect(position).toBeGreaterThan(0))
  )

  it("refuses an option of another store", async () => {
    const options = { filename: freshFile(), pollInterval: "1 second" }
    const refused = Effect.flip(Effect.scoped(Layer.build(CommandStoreSqlite.layer(options as never))))
    expect(await Effect.runPromise(refused)).toMatchObject({ _tag: "InvalidInput" })
  })
})
