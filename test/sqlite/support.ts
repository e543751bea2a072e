/**
 * What the tests of the SQLite backend share: files of their own, effects run with the store, child processes.
 */
import { type ChildProcess, spawn } from "node:child_process"
import * as fs from "node:fs"
import * as path from "node:path"
import { fileURLToPath } from "node:url"
import { Chunk, Effect, Stream } from "effect"
import { EventStore } from "effect-stores"
import { EventStoreSqlite, SqliteDatabase } from "effect-stores/sqlite"
import { temporaryDirectory } from "../support/backends.js"

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

/** Looks again until it holds; the test's timeout bounds it. */
export const eventually = <E>(condition: Effect.Effect<boolean, E>): Effect.Effect<void, E> =>
  Effect.asVoid(Effect.repeat(Effect.delay(condition, "5 millis"), { until: (holds) => holds }))

/** Connections of this process to the file. Counted by their logs, because SQLite keeps the main file open longer. */
export const openConnections = (filename: string): number =>
  fs.readdirSync("/proc/self/fd").filter((fd) => {
    try {
      return fs.readlinkSync(`/proc/self/fd/${fd}`) === `${filename}-wal`
    } catch {
      return false
    }
  }).length

const childFile = fileURLToPath(new URL("./child.ts", import.meta.url))

export const childCommand = (command: string, filename: string): [string, ...Array<string>] => [
  process.execPath,
  "--import",
  "tsx",
  "--conditions=source",
  childFile,
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
