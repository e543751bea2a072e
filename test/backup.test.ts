/**
 * What docs/backup.md says, done as it is printed: backups of stores that are written to, restored, and the readers
 * after it.
 */
import { execFile } from "node:child_process"
import * as fs from "node:fs"
import * as path from "node:path"
import { promisify } from "node:util"
import { assert, it } from "@effect/vitest"
import Sqlite from "better-sqlite3"
import { Effect, Fiber, Layer, Redacted, Stream } from "effect"
import { CommandStore, EventStore } from "effect-stores"
import { CommandStorePg, EventStorePg, PgDatabase } from "effect-stores/pg"
import { EventStoreSqlite, SqliteDatabase } from "effect-stores/sqlite"
import { describe } from "vitest"
import { describePg, describeWith, freshDatabase, temporaryDirectory } from "./support/backends.js"
import { blocksOf, markdown } from "./support/documents.js"

const commands = markdown()
  .filter(({ file }) => file === "docs/backup.md")
  .flatMap(blocksOf)
  .filter(({ language }) => language === "sh")
  .map(({ code }) => code)

/** Runs the block of the guide that has these words in it. */
const run = (words: string, cwd: string, env: Readonly<Record<string, string>> = {}) =>
  Effect.promise(() => {
    const found = commands.filter((code) => code.includes(words))
    assert.lengthOf(found, 1, words)
    return promisify(execFile)("bash", ["-ec", found[0] as string], { cwd, env: { ...process.env, ...env } })
  })

const streamOf = (aggregateId: string) => ({ tenantId: "t", domain: "d", aggregateId })
const event = { type: "Happened", data: 1 }

/** Appends to streams of its own until it is interrupted. */
const writing = (store: EventStore.EventStoreShape, name: string) =>
  store.append(streamOf(name), [event, event], { expected: "any" }).pipe(Effect.forever, Effect.fork)

const feedOf = (store: EventStore.EventStoreShape) =>
  Effect.map(Stream.runCollect(store.feed()), (events) => [...events])

describe("a backup of SQLite", () => {
  const open = (filename: string) =>
    Effect.map(Layer.build(EventStoreSqlite.layer({ filename })), (context) => ({
      store: Effect.runSync(Effect.provide(EventStore.EventStore, context)),
      sql: Effect.runSync(Effect.provide(SqliteDatabase.SqliteDatabase, context)).sql
    }))

  it.live("taken while others write is whole, and restored beside a log that was left", () =>
    Effect.gen(function* () {
      const directory = temporaryDirectory()
      const filename = path.join(directory, "events.db")
      const before = yield* Effect.gen(function* () {
        const { sql, store } = yield* open(filename)
        const writers = yield* Effect.forEach(["a", "b"], (name) => writing(store, name))
        yield* store.subscribe({ limit: 100 }).pipe(Stream.runDrain)
        const least = yield* store.head
        yield* sql`VACUUM INTO ${path.join(directory, "backup.db")}`
        yield* store.subscribe({ after: yield* store.head, limit: 100 }).pipe(Stream.runDrain)
        yield* Fiber.interruptAll(writers)
        for (const end of ["wal", "shm"]) fs.copyFileSync(`${filename}-${end}`, `${filename}-${end}-left`)
        return { least, events: yield* feedOf(store) }
      }).pipe(Effect.scoped)
      // As after a kill.
      for (const end of ["wal", "shm"]) fs.renameSync(`${filename}-${end}-left`, `${filename}-${end}`)
      yield* run("mv backup.db", directory)
      const { sql, store } = yield* open(filename)
      const restored = yield* feedOf(store)
      assert.isAtLeast(restored.length, before.least)
      assert.isBelow(restored.length, before.events.length)
      assert.deepStrictEqual(restored, before.events.slice(0, restored.length))
      const db = new Sqlite(filename, { readonly: true })
      assert.strictEqual(db.pragma("integrity_check", { simple: true }), "ok")
      db.close()

      // A reader outside has read all that there was.
      const after = before.events.length
      const refused = yield* Effect.flip(Stream.runDrain(store.subscribe({ after })))
      assert.deepInclude(refused, { _tag: "InvalidInput", what: "options.after" })
      yield* sql`UPDATE sqlite_sequence SET seq = max(seq, ${after}) WHERE name = 'es_events'`
      yield* store.append(streamOf("new"), [event], { expected: "noStream" })
      assert.strictEqual(yield* Stream.runCount(store.subscribe({ after, limit: 1 })), 1)
    }).pipe(Effect.scoped)
  )
})

describePg("a backup of PostgreSQL", () =>
  describeWith("postgresTools", "with its programs", () => {
    const open = (url: string) =>
      Effect.map(
        Layer.build(
          Layer.mergeAll(EventStorePg.layerFromDatabase(), CommandStorePg.layerFromDatabase()).pipe(
            Layer.provide(PgDatabase.layer({ url: Redacted.make(url), pool: { maxOpenConns: 5 } }))
          )
        ),
        (context) => ({
          events: Effect.runSync(Effect.provide(EventStore.EventStore, context)),
          commands: Effect.runSync(Effect.provide(CommandStore.CommandStore, context))
        })
      )

    it.live("taken while others write is whole, and the stores and their readers go on after it", () =>
      Effect.gen(function* () {
        const directory = temporaryDirectory()
        const [url, restoredUrl] = yield* Effect.promise(() => Promise.all([freshDatabase(), freshDatabase()]))
        const env = { DATABASE_URL: url, RESTORED_URL: restoredUrl }
        const before = yield* open(url)
        const command = () => ({ id: crypto.randomUUID(), tenantId: "t", domain: "d", type: "Do", data: 1 })
        for (let i = 0; i < 3; i++) yield* before.commands.create(command())
        const writers = yield* Effect.forEach(["a", "b"], (name) => writing(before.events, name))
        yield* before.events.subscribe({ limit: 100 }).pipe(Stream.runDrain)
        const least = yield* before.events.head
        yield* run("pg_dump", directory, env)
        yield* Fiber.interruptAll(writers)
        const all = yield* feedOf(before.events)
        yield* run("pg_restore", directory, env)

        const { commands, events } = yield* open(restoredUrl)
        const restored = yield* feedOf(events)
        assert.isAtLeast(restored.filter(({ position }) => position <= least).length, 100)
        assert.deepStrictEqual(
          restored,
          all.filter(({ position }) => restored.some((each) => each.position === position))
        )
        yield* commands.create(command())
        assert.strictEqual(yield* commands.count(), 4)

        const after = 12_000
        const refused = yield* Effect.flip(Stream.runDrain(events.subscribe({ after })))
        assert.deepInclude(refused, { _tag: "InvalidInput", what: "options.after" })
        yield* run("psql", directory, env)
        yield* events.append(streamOf("new"), [event], { expected: "noStream" })
        assert.strictEqual(yield* Stream.runCount(events.subscribe({ after, limit: 1 })), 1)
      }).pipe(Effect.scoped)
    )
  })
)
