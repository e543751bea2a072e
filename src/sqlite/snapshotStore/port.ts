/**
 * The SnapshotStore's port on SQLite: its statements, each in one place, and the rows they return.
 */
import * as Effect from "effect/Effect"
import type { Encoded } from "../../snapshotStore/SnapshotStoreEncoded.js"
import {
  address,
  addressOf,
  columns,
  fromRow,
  type Row,
  replaceOlder,
  toRow,
  versionBound
} from "../../sql/snapshotRows.js"
import type { Names } from "../database/names.js"
import { makeNote } from "../database/notes.js"
import type { StoreAccess } from "../database/storeAccess.js"

export const make = (database: StoreAccess, names: Names): Effect.Effect<Encoded> =>
  Effect.sync(() => onDatabase(database, names))

const onDatabase = (database: StoreAccess, names: Names): Encoded => {
  const snapshots = names.qualified("snapshots")
  const ofStream = `(${address}) = (?, ?, ?)`
  const sql = {
    save: `INSERT INTO ${snapshots} AS stored (${address}, ${columns})
      VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ${replaceOlder}`,
    latest: `SELECT ${columns} FROM ${snapshots} WHERE ${ofStream} AND version <= ?`,
    delete: `DELETE FROM ${snapshots} WHERE ${ofStream}`,
    count: `SELECT count(*) FROM ${snapshots}`,
    reset: `DELETE FROM ${snapshots}`
  }

  /** Runs one statement and returns how many rows it changed. */
  const change = (operation: string, text: string, params: ReadonlyArray<unknown>) =>
    database.write(operation, (connection) => {
      try {
        return connection.prepare(text).run(...params).changes
      } catch (error) {
        throw connection.commitFailure(operation, error)
      }
    })

  return {
    save: (snapshot) => Effect.map(change("save", sql.save, toRow(snapshot)), (changes) => changes > 0),

    latest: (stream, atMost) =>
      database.read("latest", (connection) => {
        const row = connection.prepare(sql.latest).get(...addressOf(stream), BigInt(versionBound(atMost)))
        return row === undefined ? null : fromRow(row as Row, stream)
      }),

    delete: (stream) => Effect.map(change("delete", sql.delete, addressOf(stream)), (changes) => changes > 0),

    info: database.read("info", (connection) => ({
      backend: "Sqlite",
      connection: database.connection,
      snapshots: (connection.prepare(sql.count).get() as [number])[0]
    })),

    note: makeNote(database, names, "SnapshotStore"),

    reset: Effect.asVoid(change("reset", sql.reset, []))
  }
}
