/**
 * The bare drivers that a bench measures beside, each on a database that ends with it. Ours uses the same server, or a
 * file in the same folder.
 */
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import Database from "better-sqlite3"
import Pg from "pg"
import { postgres } from "./servers.js"

export const bareSqlite = (synchronous: "FULL" | "NORMAL") => {
  const directory = mkdtempSync(join(tmpdir(), "es-bench-"))
  const db = new Database(join(directory, "raw.db"))
  db.pragma("journal_mode = WAL")
  db.pragma(`synchronous = ${synchronous}`)
  return {
    db,
    /** For ours. */
    filename: join(directory, "ours.db"),
    facts: { SQLite: `${db.prepare("SELECT sqlite_version()").pluck().get()} (synchronous ${synchronous})` },
    close: async () => {
      db.close()
      rmSync(directory, { recursive: true })
    }
  }
}

/** No connection is opened anew while it measures. */
export const barePg = async (max: number) => {
  const server = await postgres()
  const pool = new Pg.Pool({ connectionString: server.url, max, idleTimeoutMillis: 5 * 60_000 })
  const { rows } = await pool.query<{ server_version: string }>("show server_version")
  return {
    pool,
    /** For ours. */
    url: server.url,
    facts: { PostgreSQL: rows[0]?.server_version.split(" ")[0] ?? "?" },
    close: async () => {
      await pool.end()
      await server.stop()
    }
  }
}
