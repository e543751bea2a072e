/**
 * The bare drivers that a bench measures beside, each on a database that ends with it. Ours uses the same server, or a
 * file in the same folder.
 */
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import Database from "better-sqlite3"
import Pg from "pg"
import { withClient } from "../test/support/databases.js"
import { postgres } from "./servers.js"

export const sqliteFacts = (synchronous: string): Readonly<Record<string, string>> => {
  const memory = new Database(":memory:")
  const version = memory.prepare("SELECT sqlite_version()").pluck().get()
  memory.close()
  return { SQLite: `${version} (synchronous ${synchronous})` }
}

const settings = ["fsync", "synchronous_commit", "shared_buffers"] as const

export const pgFacts = (url: string): Promise<Readonly<Record<string, string>>> =>
  withClient(url, async (client) => {
    const shown = ["server_version", ...settings].map((name) => `current_setting('${name}') as ${name}`)
    const { rows } = await client.query<Record<string, string>>(`select ${shown.join(", ")}`)
    const listed = settings.map((name) => `${name} ${rows[0]?.[name]}`).join(", ")
    return { PostgreSQL: `${rows[0]?.server_version?.split(" ")[0]} (${listed})` }
  })

/** How a backend treats the disk. */
export interface Disk {
  readonly synchronous: "OFF" | "NORMAL" | "FULL"
  /** Of the private server of PostgreSQL. */
  readonly settings: Readonly<Record<string, string>>
}

/** As applications have it. */
export const waiting: Disk = { synchronous: "FULL", settings: {} }

/** So that only the CPU's time counts, which is the same with every disk. */
export const notWaiting: Disk = { synchronous: "OFF", settings: { fsync: "off", synchronous_commit: "off" } }

export const bareSqlite = (synchronous: Disk["synchronous"]) => {
  const directory = mkdtempSync(join(tmpdir(), "es-bench-"))
  const db = new Database(join(directory, "raw.db"))
  db.pragma("journal_mode = WAL")
  db.pragma(`synchronous = ${synchronous}`)
  return {
    db,
    directory,
    /** For ours. */
    filename: join(directory, "ours.db"),
    facts: sqliteFacts(synchronous),
    close: async () => {
      db.close()
      rmSync(directory, { recursive: true })
    }
  }
}

/** No connection is opened anew while it measures. */
export const barePg = async (max: number, settings: Disk["settings"] = {}) => {
  const server = await postgres(settings)
  const pool = new Pg.Pool({ connectionString: server.url, max, idleTimeoutMillis: 5 * 60_000 })
  return {
    pool,
    /** For ours. */
    url: server.url,
    facts: await pgFacts(server.url),
    close: async () => {
      await pool.end()
      await server.stop()
    }
  }
}
