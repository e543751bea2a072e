/**
 * Migrations: once, whoever starts when; checked at every start; in the user's hands when wanted.
 */
import Sqlite from "better-sqlite3"
import { Effect, Layer } from "effect"
import { EventStoreSqlite } from "effect-stores/sqlite"
import { describe, expect, it } from "vitest"
import {
  childCommand,
  freshFile,
  openConnections,
  placed,
  readAll,
  startChild,
  streamOf,
  withStore
} from "./support.js"

const opening = (options: EventStoreSqlite.Options) =>
  Effect.runPromise(Effect.flip(Effect.scoped(Layer.build(EventStoreSqlite.layer(options)))))

const withRaw = <A>(filename: string, use: (db: Sqlite.Database) => A): A => {
  const db = new Sqlite(filename)
  try {
    return use(db)
  } finally {
    db.close()
  }
}

const applied = (filename: string, prefix = "es_") =>
  withRaw(filename, (db) => db.prepare(`SELECT id, name FROM ${prefix}migrations`).all())

const versions = [
  { id: 1, name: "events" },
  { id: 2, name: "revisions" },
  { id: 3, name: "changed events" }
]

describe("migrations of the EventStore on SQLite", () => {
  it("are applied once when 8 processes start at once on an empty file", async () => {
    const filename = freshFile()
    const children = Array.from({ length: 8 }, () => startChild(childCommand("start", filename)))
    await Promise.all(children.map(({ done }) => done))
    expect(applied(filename)).toEqual(versions)
    await withStore({ filename }, (store) =>
      Effect.map(readAll(store, "child"), (events) =>
        expect(new Set(events.map(({ data }) => data))).toEqual(new Set(children.map(({ process }) => process.pid)))
      )
    )
  })

  it("can be run apart from the start, any number of times, and say what they did", async () => {
    const filename = freshFile()
    expect(await Effect.runPromise(EventStoreSqlite.migrate({ filename }))).toEqual([
      "events",
      "revisions",
      "changed events",
      "es_events_type"
    ])
    expect(await Effect.runPromise(EventStoreSqlite.migrate({ filename }))).toEqual([])
    expect(openConnections(filename)).toBe(0)
    await withStore({ filename, migrate: false }, (store) => store.append(streamOf("1"), [placed()], { expected: 0 }))
  })

  it("are not run with migrate false: the start fails and names what to run, and changes nothing", async () => {
    const filename = freshFile()
    const error = await opening({ filename, migrate: false })
    expect(error._tag).toBe("StoreError")
    expect(error.message).toContain("EventStoreSqlite.migrate")
    expect(withRaw(filename, (db) => db.prepare("SELECT count(*) FROM sqlite_schema").pluck().get())).toBe(0)
  })

  it("can be printed, and what is printed is what a start makes", async () => {
    const [printed, made] = [freshFile(), freshFile()]
    withRaw(printed, (db) => db.exec(EventStoreSqlite.migrationSql({ prefix: "shop_" })))
    await withStore({ filename: printed, prefix: "shop_", migrate: false }, (store) =>
      store.append(streamOf("1"), [placed()], { expected: 0 })
    )
    await Effect.runPromise(EventStoreSqlite.migrate({ filename: made, prefix: "shop_" }))
    const schema = (filename: string) =>
      withRaw(filename, (db) => db.prepare("SELECT type, name, sql FROM sqlite_schema ORDER BY name").all())
    expect(schema(printed)).toEqual(schema(made))
    expect(() => EventStoreSqlite.migrationSql({ prefix: "x; --" })).toThrow(/prefix/)
  })

  it("give every prefix its own tables, also none", async () => {
    const filename = freshFile()
    for (const prefix of ["", "a_", "b_"]) {
      await withStore({ filename, prefix }, (store) =>
        store.append(streamOf("1"), [placed()], { expected: "noStream" })
      )
      expect(applied(filename, prefix)).toEqual(versions)
    }
  })

  it("refuse a database that a newer version has migrated", async () => {
    const filename = freshFile()
    await Effect.runPromise(EventStoreSqlite.migrate({ filename }))
    withRaw(filename, (db) => db.exec("INSERT INTO es_migrations VALUES ('EventStore', 999, 'later', 'x')"))
    for (const migrate of [true, false]) {
      const error = await opening({ filename, migrate })
      expect(error._tag).toBe("StoreError")
      expect(error.message).toContain("999 (later)")
    }
  })
})
