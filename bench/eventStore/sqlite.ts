/**
 * The EventStore on SQLite beside bare better-sqlite3: prepared statements that check the version and insert in one
 * immediate transaction, at the same synchronous level, in a file of its own with the same table.
 */
import { randomUUID } from "node:crypto"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import Database from "better-sqlite3"
import { Layer, ManagedRuntime } from "effect"
import { EventStoreSqlite, type SqliteDatabase } from "effect-stores/sqlite"
import type { Workload } from "../harness.js"
import { data, domain, type Raw, tenantId, workloads } from "./workloads.js"

export const sqlite = async (
  synchronous: SqliteDatabase.Synchronous
): Promise<{ workloads: ReadonlyArray<Workload>; close: () => Promise<void> }> => {
  const directory = mkdtempSync(join(tmpdir(), "es-bench-"))
  const runtime = ManagedRuntime.make(
    EventStoreSqlite.layer({ filename: join(directory, "ours.db"), synchronous }).pipe(Layer.orDie)
  )
  const db = new Database(join(directory, "raw.db"))
  db.pragma("journal_mode = WAL")
  db.pragma(`synchronous = ${synchronous}`)
  db.exec(EventStoreSqlite.migrationSql())
  const version = db.prepare(
    "select version from es_events where tenant_id = ? and domain = ? and aggregate_id = ? order by version desc limit 1"
  )
  const insert = db.prepare(
    "insert into es_events (id, tenant_id, domain, aggregate_id, version, type, data, metadata, created_ms) values (?, ?, ?, ?, ?, ?, ?, ?, ?)"
  )
  const read = db.prepare(
    "select * from es_events where tenant_id = ? and domain = ? and aggregate_id = ? and version > ? order by version"
  )
  const feed = db.prepare("select * from es_events where position > ? order by position limit 1000")
  const append = db.transaction((aggregateId: string, n: number) => {
    if (version.get(tenantId, domain, aggregateId) !== undefined) throw new Error("conflict")
    for (let i = 0; i < n; i++) {
      insert.run(
        randomUUID(),
        tenantId,
        domain,
        aggregateId,
        i + 1,
        "OrderPlaced",
        JSON.stringify(data(i)),
        "{}",
        Date.now()
      )
    }
  })

  const raw: Raw = {
    name: "bare better-sqlite3",
    bars: { append: 0.7, read: 0.8, readOf: 1_000 },
    append: async (aggregateId, n) => append.immediate(aggregateId, n),
    read: async (aggregateId) => {
      const rows = read.all(tenantId, domain, aggregateId, 0) as Array<{ data: string; metadata: string }>
      return rows.map((row) => ({ ...row, data: JSON.parse(row.data), metadata: JSON.parse(row.metadata) })).length
    },
    feed: async (limit) => {
      let after = 0
      let count = 0
      while (count < limit) {
        const rows = feed.all(after) as Array<{ position: number; data: string; metadata: string }>
        for (const row of rows) {
          JSON.parse(row.data)
          JSON.parse(row.metadata)
          after = row.position
        }
        count += rows.length
      }
      return count
    }
  }
  // The raw side has a file of its own, so the feed needs events there too.
  for (let i = 0; i < 20; i++) append.immediate(`feed-${i}`, 1_000)

  return {
    workloads: await workloads(runtime, [raw]),
    close: async () => {
      await runtime.dispose()
      db.close()
      rmSync(directory, { recursive: true })
    }
  }
}
