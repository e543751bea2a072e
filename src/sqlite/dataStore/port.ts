/**
 * The DataStore's statements on SQLite, each in one place. Each step is synchronous and moves 512 KiB at most, so
 * that the event loop, and other writers, get their turn in between: 1 MiB took up to 58 ms, from a disk that writes 70
 * MiB a second.
 */
import * as Effect from "effect/Effect"
import { chunkBytes, type Encoded } from "../../dataStore/DataStoreEncoded.js"
import {
  columns,
  deletesAtOnce,
  type EntryRow,
  entryColumns,
  fromRow,
  inlineBytes,
  make as makePort,
  type Row,
  type Statements,
  toRow
} from "../../sql/dataStore.js"
import type { StoreAccess } from "../database/access.js"
import type { StepConnection } from "../database/connection.js"
import type { Names } from "../database/names.js"
import { makeNote } from "../database/notes.js"

export const make = (database: StoreAccess, names: Names): Effect.Effect<Encoded> =>
  Effect.sync(() => makePort("Sqlite", database.connection, statements(database, names)))

/**
 * Copies what is committed from the WAL to the file, as far as no reader still needs the old pages. SQLite does so by
 * itself once the WAL has 1,000 pages, within some commit, which then waits until 4 MiB are on the disk: 40 ms where a
 * commit of 1 MiB takes 8. Those who write that much do it after each commit.
 */
const checkpoint = (connection: StepConnection): void => {
  if (connection.inTransaction) return
  try {
    connection.pragma("wal_checkpoint(PASSIVE)")
  } catch {
    // What is in the WAL is safe there, and the next checkpoint takes it along.
  }
}

const statements = (database: StoreAccess, names: Names): Statements => {
  const { qualified } = names
  const objects = qualified("objects")
  const rows = qualified("object_rows")
  const uploads = qualified("object_uploads")
  const buckets = qualified("buckets")
  const ofObject = "bucket = ? AND name = ?"
  const sql = {
    begin: `INSERT INTO ${uploads} VALUES (?, ?)`,
    touch: `UPDATE ${uploads} SET touched_ms = ? WHERE write_id = ?`,
    addRow: `INSERT INTO ${rows} VALUES (?, ?, ?)`,
    copyRows: `INSERT INTO ${rows} SELECT ?, n, bytes FROM ${rows} WHERE write_id = ? AND n >= ? AND n < ?`,
    placed: `DELETE FROM ${uploads} WHERE write_id = ?`,
    existing: `SELECT write_id, size FROM ${objects} WHERE ${ofObject}`,
    place: `INSERT INTO ${objects} (${columns}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET
      write_id = excluded.write_id, size = excluded.size, content_type = excluded.content_type,
      metadata = excluded.metadata, key_id = excluded.key_id, checksums = excluded.checksums,
      modified_ms = excluded.modified_ms`,
    find: `SELECT ${columns},
      CASE WHEN size <= ${inlineBytes} THEN (SELECT bytes FROM ${rows} r WHERE r.write_id = o.write_id AND n = 0) END
      FROM ${objects} o WHERE ${ofObject}`,
    rows: `SELECT bytes FROM ${rows} WHERE write_id = ? AND n >= ? AND n < ? ORDER BY n`,
    remove: `DELETE FROM ${objects} WHERE ${ofObject}`,
    pageFrom: `SELECT ${entryColumns} FROM ${objects} WHERE bucket = ? AND name >= ? ORDER BY name LIMIT ?`,
    pageAfter: `SELECT ${entryColumns} FROM ${objects} WHERE bucket = ? AND name > ? ORDER BY name LIMIT ?`,
    discard: `UPDATE ${uploads} SET touched_ms = 0 WHERE write_id = ?`,
    silent: `SELECT write_id FROM ${uploads} WHERE touched_ms <= ? LIMIT 100`,
    isSilent: `SELECT count(*) FROM ${uploads} WHERE write_id = ? AND touched_ms <= ?`,
    deleteRows: `DELETE FROM ${rows}
      WHERE rowid IN (SELECT rowid FROM ${rows} WHERE write_id = ? LIMIT ${deletesAtOnce})`,
    createBucket: `INSERT INTO ${buckets} VALUES (?, ?) ON CONFLICT DO NOTHING`,
    isUsed: `SELECT count(*) FROM (SELECT 1 FROM ${objects} WHERE bucket = ? LIMIT 1)`,
    deleteBucket: `DELETE FROM ${buckets} WHERE name = ?`,
    bucketExists: `SELECT count(*) FROM ${buckets} WHERE name = ?`,
    buckets: `SELECT name, created_ms FROM ${buckets}`,
    reset: [objects, rows, uploads, buckets].map((table) => `DELETE FROM ${table}`)
  }

  const step = <A>(operation: string, body: (connection: StepConnection) => A) =>
    database.write(operation, (connection) => connection.atomically(operation, () => body(connection)))

  /** A step of a large body. The event loop may turn before its checkpoint, which waits for the disk as well. */
  const largeStep = <A>(operation: string, body: (connection: StepConnection) => A) =>
    Effect.zipLeft(step(operation, body), Effect.ignore(database.write(operation, checkpoint)))

  const change = (connection: StepConnection, text: string, ...params: ReadonlyArray<unknown>): number =>
    connection.prepare(text).run(...params).changes

  const count = (connection: StepConnection, text: string, ...params: ReadonlyArray<unknown>): number =>
    (connection.prepare(text).get(...params) as [number])[0]

  const bytes = (value: Uint8Array): Uint8Array => Buffer.from(value.buffer, value.byteOffset, value.byteLength)

  return {
    rowsAtOnce: 2,

    begin: (writeId, nowMs) =>
      Effect.asVoid(step("put", (connection) => change(connection, sql.begin, writeId, nowMs))),

    touch: (writeId, nowMs) =>
      Effect.asVoid(step("put", (connection) => change(connection, sql.touch, nowMs, writeId))),

    addRows: (writeId, first, pieces, nowMs) =>
      largeStep("put", (connection) => {
        if (change(connection, sql.touch, nowMs, writeId) === 0) return false
        for (const [i, piece] of pieces.entries()) change(connection, sql.addRow, writeId, first + i, bytes(piece))
        return true
      }),

    copyRows: (from, to, first, rows, nowMs) =>
      largeStep("copy", (connection) =>
        change(connection, sql.touch, nowMs, to) === 0
          ? 0
          : change(connection, sql.copyRows, to, from, first, first + rows)
      ),

    place: (object, piece, condition) =>
      step("put", (connection) => {
        const { bucket, name, size, writeId } = object
        const refused = (outcome: "Refused" | "NoBucket" | "Gone") => ({ outcome, replaced: false })
        if (count(connection, sql.bucketExists, bucket) === 0) return refused("NoBucket")
        const existing = connection.prepare(sql.existing).get(bucket, name) as [string, number] | undefined
        if (condition._tag === "IfAbsent" && existing !== undefined) return refused("Refused")
        if (condition._tag === "IfMatch" && existing?.[0] !== condition.etag) return refused("Refused")
        if (size > chunkBytes) {
          if (change(connection, sql.placed, writeId) === 0) return refused("Gone")
        } else if (piece !== null && size > 0) change(connection, sql.addRow, writeId, 0, bytes(piece))
        change(connection, sql.place, ...toRow(object))
        return { outcome: "Stored", replaced: existing !== undefined && existing[1] > chunkBytes }
      }),

    find: ({ bucket, name }) =>
      database.read("get", (connection) => {
        const row = connection.prepare(sql.find).get(bucket, name) as [...Row, Buffer | null] | undefined
        if (row === undefined) return null
        const object = fromRow(row as unknown as Row)
        // An empty object has no rows.
        return { object, inline: object.size === 0 ? new Uint8Array(0) : (row[9] as Buffer | null) }
      }),

    rows: (writeId, first, rows) =>
      database.read("get", (connection) =>
        (connection.prepare(sql.rows).all(writeId, first, first + rows) as Array<[Buffer]>).map(([bytes]) => bytes)
      ),

    remove: ({ bucket, name }, ifMatch) =>
      step("delete", (connection) => {
        const existing = connection.prepare(sql.existing).get(bucket, name) as [string, number] | undefined
        if (existing === undefined || (ifMatch !== null && existing[0] !== ifMatch)) return undefined
        change(connection, sql.remove, bucket, name)
        return existing[1] > chunkBytes
      }),

    page: (bucket, from, isInclusive, limit) =>
      database.read(
        "list",
        (connection) =>
          connection.prepare(isInclusive ? sql.pageFrom : sql.pageAfter).all(bucket, from, limit) as Array<EntryRow>
      ),

    discard: (writeId) => Effect.asVoid(step("put", (connection) => change(connection, sql.discard, writeId))),

    silent: (untilMs) =>
      database.read("sweep", (connection) =>
        (connection.prepare(sql.silent).all(untilMs) as Array<[string]>).map(([writeId]) => writeId)
      ),

    deleteRows: (writeId, untilMs) =>
      step("sweep", (connection) => {
        if (count(connection, sql.isSilent, writeId, untilMs) === 0) return "Alive"
        if (change(connection, sql.deleteRows, writeId) > 0) return "More"
        change(connection, sql.placed, writeId)
        return "Gone"
      }),

    createBucket: (bucket, nowMs) =>
      step("buckets.create", (connection) => change(connection, sql.createBucket, bucket, nowMs) > 0),

    deleteBucket: (bucket) =>
      step("buckets.delete", (connection) =>
        count(connection, sql.isUsed, bucket) > 0 ? "NotEmpty" : change(connection, sql.deleteBucket, bucket) > 0
      ),

    bucketExists: (bucket) =>
      database.read("buckets.exists", (connection) => count(connection, sql.bucketExists, bucket) > 0),

    buckets: database.read(
      "buckets.list",
      (connection) => connection.prepare(sql.buckets).all() as Array<[string, number]>
    ),

    note: makeNote(database, names, "DataStore"),

    reset: Effect.asVoid(
      step("reset", (connection) => {
        for (const text of sql.reset) change(connection, text)
      })
    )
  }
}
