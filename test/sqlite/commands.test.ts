/**
 * The CommandStore on SQLite beyond its contract.
 */
import * as path from "node:path"
import Sqlite from "better-sqlite3"
import { Config, ConfigProvider, Deferred, Effect, Layer, Schema } from "effect"
import { CommandStore, CommandStoreEncoded, CommandWorker, Pool } from "effect-stores"
import { CommandStoreSqlite, EventStoreSqlite, SqliteDatabase } from "effect-stores/sqlite"
import { describe, expect, it } from "vitest"
import * as statements from "../../src/sqlite/commandStore/statements.js"
import { checkedNames } from "../../src/sqlite/database/names.js"
import { temporaryDirectory } from "../support/backends.js"
import { commandsOnSql, newCommand } from "../support/commandsOnSql.js"
import { openConnections, storeMigrations } from "./support.js"

const freshFile = () => path.join(temporaryDirectory(), "commands.db")

const createOne = Effect.flatMap(CommandStore.CommandStore, (store) => store.create(newCommand()))

const Do = Schema.TaggedStruct("Do", { id: Schema.String })
const worker = CommandWorker.make({
  name: "w",
  handlers: [CommandWorker.handler(Do, () => Effect.succeed("by a worker"), { success: Schema.String })]
})

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

  for (const name of ["another process writes", "a transaction of this process writes"]) {
    it(`an execution that waits while ${name} ends when its caller's time is over, and leaves no lease behind`, async () => {
      const filename = freshFile()
      const database = SqliteDatabase.layer({ filename, pool: { acquireTimeout: "1 hour" } })
      const success = Schema.String
      await Effect.gen(function* () {
        const store = yield* CommandStore.CommandStore
        const { transaction } = yield* SqliteDatabase.SqliteDatabase
        const [open, fresh] = [newCommand(), newCommand()]
        yield* store.create(open)
        const held = yield* Deferred.make<void>()
        const holding =
          name === "another process writes"
            ? Effect.acquireRelease(
                Effect.sync(() => {
                  const other = new Sqlite(filename)
                  other.exec("BEGIN IMMEDIATE")
                  return other
                }),
                (other) => Effect.sync(() => other.close())
              )
            : Effect.zipRight(
                Effect.forkScoped(transaction(Effect.zipRight(Deferred.succeed(held, undefined), Effect.never))),
                Deferred.await(held)
              )
        yield* Effect.scoped(
          Effect.gen(function* () {
            yield* holding
            for (const command of [open, fresh]) {
              const execute = store.execute(command, Effect.die("must not run"), { success, lease: "1 hour" })
              const error = yield* Effect.flip(Effect.timeout(execute, "300 millis"))
              expect(error._tag).toBe("TimeoutException")
            }
          })
        )
        for (const command of [open, fresh]) {
          // With an hour's lease left behind it would wait for that.
          expect(yield* store.execute(command, Effect.succeed("done"), { success, lease: "1 hour" })).toBe("done")
        }
      }).pipe(Effect.provide(Layer.provideMerge(CommandStoreSqlite.layerFromDatabase(), database)), Effect.runPromise)
    })
  }

  it("rows of earlier versions are read, and their commands executed to the end, by a worker too", async () => {
    const filename = freshFile()
    const layer = CommandStoreSqlite.layer({ filename })
    await Effect.runPromise(Effect.provide(Effect.asVoid(CommandStore.CommandStore), layer))
    const [received, leased, finished, open] = [newCommand(), newCommand(), newCommand(), newCommand()]
    const before = new Sqlite(filename)
    before.exec(`DROP INDEX es_commands_due; ALTER TABLE es_commands DROP COLUMN due_ms;
      ALTER TABLE es_commands DROP COLUMN token; ALTER TABLE es_commands DROP COLUMN changed`)
    before.exec("DELETE FROM es_migrations WHERE store = 'CommandStore' AND id > 1")
    const insert = before.prepare(
      `INSERT INTO es_commands (id, tenant_id, domain, type, data, metadata, created_ms, status, attempts, lease_end_ms, outcome)
       VALUES (?, 't', 'd', 'Do', ?, '{}', 0, ?, ?, ?, ?)`
    )
    for (const [{ data, id }, ...rest] of [
      [received, "received", 0, 0, null],
      [leased, "received", 1, Date.now() + 500, null],
      [finished, "succeeded", 1, 0, `"before"`],
      [open, "received", 0, 0, null]
    ] as const) {
      insert.run(id, JSON.stringify(data), ...rest)
    }
    before.close()
    await Effect.gen(function* () {
      const store = yield* CommandStore.CommandStore
      const attempt = Effect.map(CommandStore.CurrentCommand, ({ attempt }) => `attempt ${attempt}`)
      const answers = yield* Effect.forEach([received, leased, finished], (command) =>
        store.execute(command, attempt, { success: Schema.String })
      )
      expect(answers).toEqual(["attempt 1", "attempt 2", "before"])
      expect(yield* Effect.flip(store.create({ ...finished, data: 2 }))).toMatchObject({ _tag: "DuplicateCommand" })
      expect(yield* CommandWorker.catchUp(worker)).toBe(1)
      expect(yield* store.execute(open, attempt, { success: Schema.String })).toBe("by a worker")
    }).pipe(Effect.provide(layer), Effect.runPromise)
  })

  it("finds open commands by the index that has them alone, in its order, whatever the filter", async () => {
    const filename = freshFile()
    await Effect.runPromise(Effect.provide(createOne, CommandStoreSqlite.layer({ filename })))
    const file = new Sqlite(filename)
    const { open } = statements.make(checkedNames({}))
    for (const filter of [
      CommandStoreEncoded.anyCommand,
      { ...CommandStoreEncoded.anyCommand, tenantId: "t", domain: "d", types: ["Do", "Other"] }
    ]) {
      const { params, text } = open(filter)
      const plan = file.prepare(`EXPLAIN QUERY PLAN ${text}`).all(0, 0, ...params, 1) as ReadonlyArray<{
        readonly detail: string
      }>
      const details = plan.map(({ detail }) => detail).filter((detail) => !detail.includes("json_each"))
      expect(details[0]).toBe("SCAN es_commands USING INDEX es_commands_due")
      expect(details.filter((detail) => detail.includes("ORDER BY"))).toEqual([])
    }
    file.close()
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
    ["commands", "attempt tokens", "due commands"],
    Effect.map(createOne, ({ position }) => expect(position).toBeGreaterThan(0))
  )

  it("refuses an option of another store", async () => {
    const options = { filename: freshFile(), pollInterval: "1 second" }
    const refused = Effect.flip(Effect.scoped(Layer.build(CommandStoreSqlite.layer(options as never))))
    expect(await Effect.runPromise(refused)).toMatchObject({ _tag: "InvalidInput" })
  })
})
