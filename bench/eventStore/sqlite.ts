/**
 * The EventStore on SQLite beside bare better-sqlite3: the same statements, prepared, at the same synchronous level, in
 * a file of its own with the same table.
 */
import type Database from "better-sqlite3"
import { Layer, ManagedRuntime } from "effect"
import { EventStoreSqlite, type SqliteDatabase } from "effect-stores/sqlite"
import { bareSqlite, type Disk, notWaiting, waiting } from "../drivers.js"
import type { Workload } from "../harness.js"
import type { Part } from "../parts.js"
import {
  barsOfDriver,
  data,
  domain,
  metadata,
  newId,
  type Raw,
  standard,
  tenantId,
  type,
  type Workloads,
  workloads
} from "./workloads.js"

const inStream = "tenant_id = ? AND domain = ? AND aggregate_id = ?"
const insertInto = (version: string) =>
  `INSERT INTO es_events (id, tenant_id, domain, aggregate_id, version, type, data, metadata, key_id, command_id, instance_id, created_ms) VALUES (?, ?, ?, ?, ${version}, ?, ?, ?, ?, ?, ?, ?)`
const readStream = `SELECT position, id, version, type, data, metadata, key_id, command_id, instance_id, created_ms
  FROM es_events WHERE ${inStream} AND version > ? ORDER BY version`

interface Row {
  position: number
  data: unknown
  metadata: unknown
}

type RowArray = [position: number, id: string, version: number, type: string, data: unknown, metadata: unknown]

/** Bare better-sqlite3 with the same table, each append committed by itself. */
export const bare = (db: Database.Database): Raw => {
  db.exec(EventStoreSqlite.migrationSql())
  const version = db.prepare(`SELECT coalesce(max(version), 0) FROM es_events WHERE ${inStream}`).pluck()
  const insert = db.prepare(insertInto("?"))
  // NULL, which the table refuses, when the stream is at another version.
  const insertAfter = db.prepare(insertInto(`(SELECT version + 1 FROM es_events WHERE ${inStream} AND version = ?)`))
  const count = db.prepare("SELECT count(*) FROM es_events").pluck()
  const readObjects = db.prepare(readStream)
  const feed = db.prepare("SELECT * FROM es_events WHERE position > ? ORDER BY position LIMIT 1000").raw()

  /** From the type on. */
  const rest = (i: number) =>
    [type, JSON.stringify(data(i)), JSON.stringify(metadata()), null, null, null, Date.now()] as const

  const appendMany = db.transaction((aggregateId: string, n: number, after: number) => {
    if (version.get(tenantId, domain, aggregateId) !== after) throw new Error("conflict")
    for (let i = 0; i < n; i++) insert.run(newId(), tenantId, domain, aggregateId, after + i + 1, ...rest(i))
  })

  const names = feed.columns().map(({ name }) => name)
  const dataAt = names.indexOf("data")
  const metadataAt = names.indexOf("metadata")

  return {
    name: "bare better-sqlite3",
    sharesTables: false,
    bars: barsOfDriver(5),
    stored: async () => count.get() as number,
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
      let read = 0
      while (read < limit) {
        const rows = feed.all(after) as Array<RowArray>
        if (rows.length === 0) break
        for (const row of rows) {
          JSON.parse(row[dataAt] as string)
          JSON.parse(row[metadataAt] as string)
          after = row[0]
        }
        read += rows.length
      }
      return read
    }
  }
}

/** The driver's cheapest way to read, which few use. */
const asArrays = (db: Database.Database): Raw => {
  const readArrays = db.prepare(readStream).raw()
  return {
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
}

export const ours = (filename: string, synchronous: SqliteDatabase.Synchronous) =>
  ManagedRuntime.make(EventStoreSqlite.layer({ filename, synchronous }).pipe(Layer.orDie))

const opened = async (
  { synchronous }: Disk,
  title: string,
  rawsOf: (db: Database.Database) => ReadonlyArray<Raw>,
  chosen: (workloads: Workloads) => ReadonlyArray<Workload>
): Promise<Part> => {
  const { close, db, facts, filename } = bareSqlite(synchronous)
  const runtime = ours(filename, synchronous)
  return {
    title,
    facts,
    workloads: chosen(await workloads(runtime, rawsOf(db), { takesTurns: true })),
    close: async () => {
      await runtime.dispose()
      await close()
    }
  }
}

export const sqlite = (disk: Disk = waiting) =>
  opened(
    disk,
    "Sqlite",
    (db) => [bare(db), asArrays(db)],
    (workloads) => standard(workloads, [1, 8, 32, 128])
  )

/** Appends by one caller: all that waiting for the disk hides, without a bar. */
export const sqliteOff = () =>
  opened(
    notWaiting,
    "Sqlite, synchronous OFF (shows the CPU)",
    (db) => [{ ...bare(db), bars: {} }],
    ({ appendToExisting, appendToNew }) => [appendToNew(1, 1), appendToExisting(1), appendToNew(100, 1)]
  )
