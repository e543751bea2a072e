/**
 * The EventStore on SQLite beside bare better-sqlite3: the same statements, prepared, at the same synchronous level, in
 * a file of its own with the same table.
 */
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import Database from "better-sqlite3"
import { Layer, ManagedRuntime } from "effect"
import { EventStoreSqlite, type SqliteDatabase } from "effect-stores/sqlite"
import { data, domain, metadata, newId, type Opened, type Raw, tenantId, type, workloads } from "./workloads.js"

const inStream = "tenant_id = ? AND domain = ? AND aggregate_id = ?"
const insertInto = (version: string) =>
  `INSERT INTO es_events (id, tenant_id, domain, aggregate_id, version, type, data, metadata, key_id, command_id, instance_id, created_ms) VALUES (?, ?, ?, ?, ${version}, ?, ?, ?, ?, ?, ?, ?)`
const columns = "position, id, version, type, data, metadata, key_id, command_id, instance_id, created_ms"

interface Row {
  position: number
  data: unknown
  metadata: unknown
}

type RowArray = [position: number, id: string, version: number, type: string, data: unknown, metadata: unknown]

export const sqlite = async (synchronous: SqliteDatabase.Synchronous): Promise<Opened> => {
  const directory = mkdtempSync(join(tmpdir(), "es-bench-"))
  const runtime = ManagedRuntime.make(
    EventStoreSqlite.layer({ filename: join(directory, "ours.db"), synchronous }).pipe(Layer.orDie)
  )
  const db = new Database(join(directory, "raw.db"))
  db.pragma("journal_mode = WAL")
  db.pragma(`synchronous = ${synchronous}`)
  db.exec(EventStoreSqlite.migrationSql())
  const version = db.prepare(`SELECT coalesce(max(version), 0) FROM es_events WHERE ${inStream}`).pluck()
  const insert = db.prepare(insertInto("?"))
  // NULL, which the table refuses, when the stream is at another version.
  const insertAfter = db.prepare(insertInto(`(SELECT version + 1 FROM es_events WHERE ${inStream} AND version = ?)`))
  const read = `SELECT ${columns} FROM es_events WHERE ${inStream} AND version > ? ORDER BY version`
  const readObjects = db.prepare(read)
  const readArrays = db.prepare(read).raw()
  const feed = db.prepare("SELECT * FROM es_events WHERE position > ? ORDER BY position LIMIT 1000").raw()

  /** From the type on. */
  const rest = (i: number) =>
    [type, JSON.stringify(data(i)), JSON.stringify(metadata()), null, null, null, Date.now()] as const

  const appendMany = db.transaction((aggregateId: string, n: number, after: number) => {
    if (version.get(tenantId, domain, aggregateId) !== after) throw new Error("conflict")
    for (let i = 0; i < n; i++) insert.run(newId(), tenantId, domain, aggregateId, after + i + 1, ...rest(i))
  })

  const objects: Raw = {
    name: "bare better-sqlite3",
    sharesTables: false,
    bars: { append: 0.7, read: 0.8, readOf: 1_000 },
    append: async (aggregateId, n, after) => {
      if (n > 1) appendMany.immediate(aggregateId, n, after)
      else if (after === 0) insert.run(newId(), tenantId, domain, aggregateId, 1, ...rest(0))
      else if (
        insertAfter.run(newId(), tenantId, domain, aggregateId, tenantId, domain, aggregateId, after, ...rest(0))
          .changes !== 1
      ) {
        throw new Error("conflict")
      }
    },
    // As one page: what a program without a stream would do.
    read: async (aggregateId) => {
      const rows = readObjects.all(tenantId, domain, aggregateId, 0) as Array<Row>
      for (const row of rows) {
        row.data = JSON.parse(row.data as string)
        row.metadata = JSON.parse(row.metadata as string)
      }
      return rows.length
    },
    feed: async (limit) => {
      let after = 0
      let count = 0
      while (count < limit) {
        const rows = feed.all(after) as Array<RowArray>
        if (rows.length === 0) break
        for (const row of rows) {
          JSON.parse(row[dataAt] as string)
          JSON.parse(row[metadataAt] as string)
          after = row[0]
        }
        count += rows.length
      }
      return count
    }
  }
  const names = feed.columns().map(({ name }) => name)
  const dataAt = names.indexOf("data")
  const metadataAt = names.indexOf("metadata")

  /** The driver's cheapest way, which few use. */
  const arrays: Raw = {
    name: "the same, rows as arrays",
    sharesTables: true,
    bars: {},
    read: async (aggregateId) => {
      const rows = readArrays.all(tenantId, domain, aggregateId, 0) as Array<RowArray>
      for (const row of rows) {
        row[4] = JSON.parse(row[4] as string)
        row[5] = JSON.parse(row[5] as string)
      }
      return rows.length
    }
  }

  const { sqlite_version } = db.prepare("SELECT sqlite_version() AS sqlite_version").get() as { sqlite_version: string }
  return {
    facts: { sqlite: sqlite_version },
    workloads: await workloads(runtime, [objects, arrays], {
      takesTurns: true,
      callers: [1, 8, 32, 128],
      appendsOnly: synchronous === "OFF"
    }),
    close: async () => {
      await runtime.dispose()
      db.close()
      rmSync(directory, { recursive: true })
    }
  }
}
