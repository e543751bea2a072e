/**
 * What opening a SQLite database promises: its durability is what was asked for, and what cannot be opened is a typed
 * error.
 */
import * as fs from "node:fs"
import * as path from "node:path"
import Sqlite from "better-sqlite3"
import { Config, ConfigProvider, Effect, Layer } from "effect"
import { EventStore, Pool } from "effect-stores"
import { EventStoreSqlite, SqliteDatabase } from "effect-stores/sqlite"
import { describe, expect, it } from "vitest"
import { temporaryDirectory } from "../support/backends.js"
import { freshFile, placed, readAll, streamOf, withStore } from "./support.js"

const opening = (options: EventStoreSqlite.Options) =>
  Effect.runPromise(Effect.flip(Effect.scoped(Layer.build(EventStoreSqlite.layer(options)))))

const levels = { OFF: 0, NORMAL: 1, FULL: 2, EXTRA: 3 } as const

describe("synchronous", () => {
  it("is FULL unless told, on the connections that write and read, also when the file is opened again", async () => {
    const filename = freshFile()
    for (const _ of ["new", "opened again"]) {
      const seen = await withStore({ filename }, (store, { reader, sql }) =>
        Effect.zipRight(
          store.append(streamOf("1"), [placed()], { expected: "any" }),
          Effect.all([sql`PRAGMA synchronous`, reader`PRAGMA synchronous`, sql`PRAGMA journal_mode`])
        )
      )
      expect(seen).toEqual([[{ synchronous: 2 }], [{ synchronous: 2 }], [{ journal_mode: "wal" }]])
    }
    // Why it is set at every open: the driver itself opens the same file with NORMAL.
    const raw = new Sqlite(filename)
    expect(raw.pragma("synchronous", { simple: true })).toBe(levels.NORMAL)
    raw.close()
  })

  it.each(["OFF", "NORMAL", "FULL", "EXTRA"] as const)(
    "is %s when told so, also for readers opened later",
    async (synchronous) => {
      const seen = await withStore({ filename: freshFile(), synchronous }, (_, { reader, sql }) =>
        Effect.all([sql`PRAGMA synchronous`, reader`PRAGMA synchronous`])
      )
      expect(seen.flat()).toEqual([{ synchronous: levels[synchronous] }, { synchronous: levels[synchronous] }])
    }
  )
})

describe("opening", () => {
  it("refuses options that make no sense with the name of the option", async () => {
    const refused = async (options: object) => {
      const error = await opening({ filename: freshFile(), ...options })
      expect(error._tag).toBe("InvalidInput")
      return error._tag === "InvalidInput" ? error.what : undefined
    }
    expect(await refused({ filename: "" })).toBe("filename")
    expect(await refused({ filename: "  " })).toBe("filename")
    expect(await refused({ filename: "a\0b" })).toBe("filename")
    expect(await refused({ filename: 12 })).toBe("filename")
    expect(await refused({ synchronous: "full" })).toBe("synchronous")
    expect(await refused({ prefix: "Es-" })).toBe("prefix")
    expect(await refused({ prefix: "a; DROP TABLE x" })).toBe("prefix")
    expect(await refused({ prefix: `a${"b".repeat(31)}` })).toBe("prefix")
    expect(await refused({ pollInterval: -1 })).toBe("pollInterval")
    expect(await refused({ pool: { maxOpenConns: -1 } })).toBe("pool.maxOpenConns")
  })

  it("fails with a StoreError where there is no file and no database", async () => {
    const directory = temporaryDirectory()
    const text = path.join(directory, "text.db")
    fs.writeFileSync(text, "this is a text and no database, long enough to have a header\n".repeat(100))
    const unopenable = [path.join(text, "a.db"), path.join(directory, "n".repeat(300))]
    for (const filename of [directory, text, ...unopenable]) {
      expect(await opening({ filename })).toMatchObject({ _tag: "StoreError", operation: `opening ${filename}` })
    }
  })

  it("closes every connection with the scope, and leaves the file complete without its log", async () => {
    const filename = freshFile()
    await withStore({ filename }, (store) =>
      Effect.zipRight(store.append(streamOf("1"), [placed()], { expected: "noStream" }), readAll(store, "1"))
    )
    expect(fs.readdirSync(path.dirname(filename))).toEqual([path.basename(filename)])
    const raw = new Sqlite(filename, { readonly: true })
    expect(raw.prepare("SELECT count(*) FROM es_events").pluck().get()).toBe(1)
    raw.close()
  })

  it("leaves waiting for other processes to the event loop: SQLite itself does not wait", () =>
    withStore({ filename: freshFile() }, (_, { reader, sql }) =>
      Effect.gen(function* () {
        for (const client of [sql, reader]) expect(yield* client`PRAGMA busy_timeout`).toEqual([{ timeout: 0 }])
      })
    ))

  it("takes its options from Config, and in memory one connection does everything", async () => {
    const layer = EventStoreSqlite.layerConfig({
      filename: Config.string("FILE"),
      pool: Config.nested(Pool.sqliteConfig, "POOL")
    })
    const provider = ConfigProvider.fromMap(
      new Map([
        ["FILE", ":memory:"],
        ["POOL.MAX_OPEN_CONNS", "4"]
      ])
    )
    const program = Effect.gen(function* () {
      const store = yield* EventStore.EventStore
      const database = yield* SqliteDatabase.SqliteDatabase
      yield* store.append(streamOf("1"), [placed()], { expected: "noStream" })
      return { events: yield* store.count(), state: yield* database.state }
    })
    const { events, state } = await Effect.runPromise(
      program.pipe(Effect.provide(layer), Effect.withConfigProvider(provider))
    )
    expect(events).toBe(1)
    expect(state.readers).toEqual(state.writer)
  })

  it("discards a connection whose disk was full, and the next append succeeds on a new one", async () => {
    const big = { text: "x".repeat(1_000_000) }
    await withStore({ filename: freshFile() }, (store, { sql, state }) =>
      Effect.gen(function* () {
        // The limit belongs to the connection, so it tells whether that one is still in use.
        yield* sql`PRAGMA max_page_count = 20`
        const error = yield* Effect.flip(store.append(streamOf("1"), [placed(big)], { expected: "noStream" }))
        expect(error).toMatchObject({ _tag: "StoreUnavailable", retryable: true })
        expect(yield* store.append(streamOf("1"), [placed(big)], { expected: "noStream" })).toMatchObject({
          version: 1
        })
        expect((yield* state).writer).toEqual({ open: 1, idle: 1, waiting: 0 })
      })
    )
  })
})
