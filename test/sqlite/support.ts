/**
 * What the tests of the SQLite backend share: files of their own, effects run with the store, child processes.
 */
import { type ChildProcess, spawn } from "node:child_process"
import * as fs from "node:fs"
import * as path from "node:path"
import Sqlite from "better-sqlite3"
import { Chunk, Effect, Layer, Stream } from "effect"
import { EventStore } from "effect-stores"
import { EventStoreSqlite, SqliteDatabase } from "effect-stores/sqlite"
import { expect, it } from "vitest"
import { temporaryDirectory } from "../support/backends.js"
import { bundled } from "../support/child.js"

export const freshFile = (): string => path.join(temporaryDirectory(), "events.db")

export const streamOf = (aggregateId: string): EventStore.StreamId => ({
  tenantId: "tenant",
  domain: "order",
  aggregateId
})

export const placed = (data: unknown = { total: 1 }): EventStore.NewEvent => ({ type: "Placed", data })

/** Runs an effect with a store of its own on the file. */
export const withStore = <A, E>(
  options: EventStoreSqlite.Options,
  effect: (
    store: EventStore.EventStoreShape,
    database: SqliteDatabase.SqliteDatabaseShape
  ) => Effect.Effect<A, E, EventStore.EventStore | SqliteDatabase.SqliteDatabase>
): Promise<A> =>
  Effect.runPromise(
    Effect.flatMap(Effect.all([EventStore.EventStore, SqliteDatabase.SqliteDatabase]), ([store, database]) =>
      effect(store, database)
    ).pipe(Effect.provide(EventStoreSqlite.layer(options)))
  )

export const readAll = (store: EventStore.EventStoreShape, aggregateId: string) =>
  Effect.map(Stream.runCollect(store.read(streamOf(aggregateId))), Chunk.toReadonlyArray)

/** Connections of this process to the file. Counted by their logs, because SQLite keeps the main file open longer. */
export const openConnections = (filename: string): number =>
  fs.readdirSync("/proc/self/fd").filter((fd) => {
    try {
      return fs.readlinkSync(`/proc/self/fd/${fd}`) === `${filename}-wal`
    } catch {
      return false
    }
  }).length

const childFile = new URL("./child.ts", import.meta.url)

export const childCommand = (command: string, filename: string): [string, ...Array<string>] => [
  process.execPath,
  bundled(childFile),
  command,
  filename
]

export interface Child {
  readonly process: ChildProcess
  /** Resolves at the first line of output that is this text. */
  readonly printed: (line: string) => Promise<void>
  /** Resolves with all output; rejects when it exits with a failure. */
  readonly done: Promise<string>
}

export const startChild = (command: readonly [string, ...Array<string>]): Child => {
  const child = spawn(command[0], command.slice(1), { stdio: ["pipe", "pipe", "pipe"] })
  let output = ""
  let errors = ""
  const done = new Promise<string>((resolve, reject) => {
    child.stderr.on("data", (chunk) => (errors += chunk))
    child.on("error", reject)
    child.on("close", (code) =>
      code === 0 ? resolve(output) : reject(new Error(`child exited with ${code}: ${output}${errors}`))
    )
  })
  const waiting = new Set<() => void>()
  child.stdout.on("data", (chunk) => {
    output += chunk
    for (const look of waiting) look()
  })
  const printed = (line: string) =>
    Promise.race([
      new Promise<void>((resolve) => {
        const look = () => {
          if (output.split("\n").includes(line)) resolve()
        }
        waiting.add(look)
        look()
      }),
      done.then(() => {})
    ])
  return { process: child, printed, done }
}

interface StoreModule<Store, E extends { readonly message: string }> {
  readonly layer: (
    options: SqliteDatabase.Options & { readonly prefix?: string; readonly migrate?: boolean }
  ) => Layer.Layer<Store | SqliteDatabase.SqliteDatabase, E>
  readonly migrate: (
    options: SqliteDatabase.Options & { readonly prefix?: string }
  ) => Effect.Effect<ReadonlyArray<string>, E>
  readonly migrationSql: (options?: { readonly prefix?: string }) => string
}

/** The migrations of a store that stands beside the EventStore. `use` fails unless the store works. */
export const storeMigrations = <Store, E extends { readonly message: string }, E2>(
  name: string,
  module: StoreModule<Store, E>,
  migrations: ReadonlyArray<string>,
  use: Effect.Effect<void, E2, Store>
): void =>
  it("has migrations that can be run apart and printed, and asks for them with migrate false", async () => {
    const [filename, printed] = [freshFile(), freshFile()]
    const opening = (options: Parameters<typeof module.layer>[0]) =>
      Effect.runPromise(Effect.flip(Effect.scoped(Layer.build(module.layer(options)))))
    expect((await opening({ filename, migrate: false })).message).toContain(`${name}.migrate`)
    expect(await Effect.runPromise(module.migrate({ filename, prefix: "p_" }))).toEqual(migrations)
    expect(await Effect.runPromise(module.migrate({ filename, prefix: "p_" }))).toEqual([])
    const db = new Sqlite(printed)
    db.exec(module.migrationSql({ prefix: "p_" }))
    // Beside the other's, in either order.
    db.exec(EventStoreSqlite.migrationSql({ prefix: "p_" }))
    db.close()
    for (const file of [filename, printed]) {
      await Effect.runPromise(Effect.provide(use, module.layer({ filename: file, prefix: "p_", migrate: false })))
    }
    expect(() => module.migrationSql({ prefix: "x; --" })).toThrow(/prefix/)
    expect(await opening({ filename, prefix: "x; --" })).toMatchObject({ _tag: "InvalidInput", what: "prefix" })
  })
