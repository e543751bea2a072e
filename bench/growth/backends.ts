/**
 * Stores of a given number of events, each a database of its own that ends with the bench; those of PostgreSQL are on one
 * server. With the snapshots in the same database, as an application has them.
 */
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import Database from "better-sqlite3"
import { Layer, ManagedRuntime, Redacted } from "effect"
import { EventStore, type SnapshotStore } from "effect-stores"
import { EventStorePg, SnapshotStorePg } from "effect-stores/pg"
import { EventStoreSqlite, SnapshotStoreSqlite } from "effect-stores/sqlite"
import { createDatabase, withClient } from "../../test/support/databases.js"
import { type Seed, seedPg, seedSqlite } from "../seed.js"
import { postgres } from "../servers.js"
import { seedOf } from "./workloads.js"

export type Stores = EventStore.EventStore | SnapshotStore.SnapshotStore

export interface Filled {
  readonly seed: Seed
  readonly runtime: ManagedRuntime.ManagedRuntime<Stores, unknown>
}

export interface Backend {
  readonly title: string
  readonly open: () => Promise<{
    /** Versions and settings that the figures depend on. */
    readonly facts: Readonly<Record<string, string>>
    readonly filled: (events: number) => Promise<Filled>
    readonly close: () => Promise<void>
  }>
}

/** The layer creates the tables, and the seed fills them. */
const filledBy = async (
  layer: Layer.Layer<Stores, unknown>,
  events: number,
  fill: (seed: Seed) => Promise<void>
): Promise<Filled> => {
  const runtime = ManagedRuntime.make(layer)
  await runtime.runPromise(EventStore.EventStore)
  const seed = seedOf(events)
  await fill(seed)
  return { seed, runtime }
}

const sqlite: Backend["open"] = async () => {
  const directory = mkdtempSync(join(tmpdir(), "es-bench-"))
  const memory = new Database(":memory:")
  const version = memory.prepare("select sqlite_version()").pluck().get()
  memory.close()
  const opened: Array<Filled> = []
  return {
    facts: { SQLite: `${version} (synchronous FULL)` },
    filled: async (events) => {
      const filename = join(directory, `${events}.db`)
      const store = await filledBy(
        Layer.provideMerge(SnapshotStoreSqlite.layerFromDatabase(), EventStoreSqlite.layer({ filename })),
        events,
        async (seed) => {
          const db = new Database(filename)
          seedSqlite(db, seed)
          db.close()
        }
      )
      opened.push(store)
      return store
    },
    close: async () => {
      for (const { runtime } of opened) await runtime.dispose()
      rmSync(directory, { recursive: true })
    }
  }
}

const pg: Backend["open"] = async () => {
  const server = await postgres()
  const settings = await withClient(server.url, async (client) => {
    const shown = ["server_version", "fsync", "shared_buffers"].map((name) => `current_setting('${name}') as ${name}`)
    return (await client.query<Record<string, string>>(`select ${shown.join(", ")}`)).rows[0]
  })
  const opened: Array<Filled & { readonly url: string }> = []
  return {
    facts: {
      PostgreSQL: `${settings?.server_version?.split(" ")[0]} (fsync ${settings?.fsync}, shared_buffers ${settings?.shared_buffers})`
    },
    filled: async (events) => {
      const url = await createDatabase(server.url)
      const store = await filledBy(
        Layer.provideMerge(SnapshotStorePg.layerFromDatabase(), EventStorePg.layer({ url: Redacted.make(url) })),
        events,
        (seed) =>
          withClient(url, async (client) => {
            await seedPg(client, seed)
            await client.query("checkpoint")
          })
      )
      opened.push({ ...store, url })
      return store
    },
    close: async () => {
      for (const { runtime, url } of opened) {
        await runtime.dispose()
        await withClient(server.url, (client) => client.query(`drop database "${new URL(url).pathname.slice(1)}"`))
      }
      await server.stop()
    }
  }
}

export const backends: Readonly<Record<string, Backend>> = {
  pg: { title: "Pg", open: pg },
  sqlite: { title: "Sqlite", open: sqlite }
}
