/**
 * The port of subjects' keys on SQLite. What is destroyed is overwritten in the file and leaves the write-ahead log as
 * well, as far as no reader is still at it.
 */
import * as Effect from "effect/Effect"
import type { Encoded, EncodedSubjectKey } from "../../crypto/SubjectKeysEncoded.js"
import { type ReadFailure, StoreError, type StoreFailure } from "../../Errors.js"
import { nextAfter, type Pages, pageSize } from "../../internal/pages.js"
import { columnOf, columns, firstRef, fromRow, type Row, toRow } from "../../sql/subjectKeyRows.js"
import type { StoreAccess } from "../database/access.js"
import type { StepConnection } from "../database/connection.js"
import type { Names } from "../database/names.js"
import { makeNote } from "../database/notes.js"

export const make = (database: StoreAccess, names: Names): Effect.Effect<Encoded> =>
  Effect.sync(() => onDatabase(database, names))

/** A rollback would take the key away from what was sealed with it and is kept elsewhere. */
const inTransaction = (operation: string): StoreError =>
  new StoreError({
    operation,
    cause: new Error(
      "a transaction is open on the file that the keys of subjects are on: give them a file of their own"
    )
  })

const onDatabase = (database: StoreAccess, names: Names): Encoded => {
  const keys = names.qualified("subject_keys")
  const insert = `INSERT INTO ${keys} (${columns}) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (ref) DO NOTHING`
  const bury = `INSERT INTO ${keys} AS kept (ref, key_id, created_ms, shredded_ms) VALUES (?, ?, ?, ?)
    ON CONFLICT (ref) DO UPDATE SET
      key_id = coalesce(kept.key_id, excluded.key_id),
      wrapped = NULL,
      wrapped_by = NULL,
      shredded_ms = coalesce(kept.shredded_ms, excluded.shredded_ms)`
  const rewrap = `UPDATE ${keys} SET wrapped = ?, wrapped_by = ? WHERE ref = ? AND wrapped = ?`
  const ofRef = `SELECT ${columns} FROM ${keys} WHERE ref = ?`
  const after = `SELECT ${columns} FROM ${keys} WHERE ref > ? ORDER BY ref LIMIT ?`
  const count = `SELECT count(*) FROM ${keys}`

  const write = <A>(
    operation: string,
    change: (connection: StepConnection) => A,
    afterwards: (connection: StepConnection) => void = () => {}
  ): Effect.Effect<A, StoreFailure> =>
    Effect.withFiberRuntime((fiber) =>
      database.inTransaction(fiber)
        ? Effect.fail(inTransaction(operation))
        : database.write(operation, (connection) => {
            // What is overwritten or freed is zeroed in the file.
            connection.pragma("secure_delete = ON")
            const value = connection.atomically(operation, () => change(connection))
            afterwards(connection)
            return value
          })
    )

  const kept = (connection: StepConnection, ref: string): EncodedSubjectKey =>
    fromRow(connection.prepare(ofRef).get(ref) as Row)

  const allAfter = (ref: string): Pages<EncodedSubjectKey, ReadFailure> =>
    Effect.map(
      database.read("all", (connection) =>
        (connection.prepare(after).all(ref, pageSize) as ReadonlyArray<Row>).map((row) => fromRow(row))
      ),
      (items) => nextAfter(items, ({ ref }) => allAfter(ref))
    )

  return {
    find: (by, values) =>
      database.read("find", (connection) => {
        const select = `SELECT ${columns} FROM ${keys} WHERE ${columnOf[by]} IN (SELECT value FROM json_each(?))`
        const rows = connection.prepare(select).all(JSON.stringify(values)) as ReadonlyArray<Row>
        return rows.map((row) => fromRow(row))
      }),

    create: (key) =>
      write("create", (connection) => {
        connection.prepare(insert).run(...toRow(key))
        return kept(connection, key.ref)
      }),

    shred: ({ keyId, ref, shreddedAt }) =>
      write(
        "shred",
        (connection) => {
          connection.prepare(bury).run(ref, keyId, shreddedAt, shreddedAt)
          return kept(connection, ref)
        },
        emptyLog
      ),

    rewrap: ({ ref, was, wrapped, wrappedBy }) =>
      write("rewrap", (connection) => connection.prepare(rewrap).run(wrapped, wrappedBy, ref, was).changes > 0),

    all: allAfter(firstRef),

    count: database.read("count", (connection) => (connection.prepare(count).get() as [number])[0]),

    note: makeNote(database, names, "SubjectKeys")
  }
}

/** The log has the page as it was. Where a reader keeps it from being emptied, the next checkpoint does it. */
const emptyLog = (connection: StepConnection): void => {
  try {
    connection.pragma("wal_checkpoint(TRUNCATE)")
  } catch {
    // The tombstone is committed, and that is what was asked for.
  }
}
