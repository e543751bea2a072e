/**
 * The SnapshotStore's statements on SQLite, each in one place. All are prepared once per connection. Keywords are in
 * capitals.
 */
import { address, columns, replaceOlder } from "../../sql/snapshotRows.js"
import type { Names } from "../database/names.js"

const ofStream = `(${address}) = (?, ?, ?)`

export const make = (names: Names) => {
  const snapshots = names.qualified("snapshots")
  return {
    save: `INSERT INTO ${snapshots} AS stored (${address}, ${columns})
      VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ${replaceOlder.sqlite}`,
    latest: `SELECT ${columns} FROM ${snapshots} WHERE ${ofStream} AND version <= ?`,
    replace: `UPDATE ${snapshots} SET state = ?, key_id = ?, checksum = ?
      WHERE ${ofStream} AND checksum = ? AND state = ?`,
    addresses: `SELECT ${address}, key_id FROM ${snapshots} WHERE (${address}) > (?, ?, ?) ORDER BY ${address} LIMIT ?`,
    delete: `DELETE FROM ${snapshots} WHERE ${ofStream}`,
    count: `SELECT count(*) FROM ${snapshots}`,
    reset: `DELETE FROM ${snapshots}`
  }
}
