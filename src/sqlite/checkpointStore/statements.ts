/**
 * The CheckpointStore's statements on SQLite, each in one place. All are prepared once per connection. Keywords are in
 * capitals.
 */
import { columns, letterColumns, place } from "../../sql/checkpointRows.js"
import type { Names } from "../database/names.js"

const ofPlace = `(${place}) = (?, ?, ?)`
const held = `${ofPlace} AND token = ? AND owner = ?`

export const make = (names: Names) => {
  const checkpoints = names.qualified("checkpoints")
  const letters = names.qualified("dead_letters")
  /** The first parameter is now. */
  const select = `SELECT ${columns}, max(0, lease_end_ms - ?) FROM ${checkpoints}`
  return {
    insert: `INSERT INTO ${checkpoints} (${place}, partitions) VALUES (?, ?, ?, ?)`,
    ofFollower: `${select} WHERE name = ? AND generation = ? ORDER BY partition`,
    claim: `UPDATE ${checkpoints} SET owner = ?, token = token + 1, lease_end_ms = ?
      WHERE ${ofPlace} AND (lease_end_ms <= ? OR token = ?)`,
    renew: `UPDATE ${checkpoints} SET lease_end_ms = ? WHERE ${held}`,
    release: `UPDATE ${checkpoints} SET owner = NULL, lease_end_ms = 0 WHERE ${held}`,
    commit: `UPDATE ${checkpoints} SET position = ?, lease_end_ms = ? WHERE ${held} AND position = ?`,
    find: `${select} WHERE ${ofPlace}`,
    list: `${select} WHERE (${place}) > (?, ?, ?) AND name = coalesce(?, name) AND generation = coalesce(?, generation)
      ORDER BY ${place} LIMIT ?`,
    delete: `DELETE FROM ${checkpoints} WHERE name = ? AND generation = ?`,
    record: `INSERT OR REPLACE INTO ${letters} (name, generation, ${letterColumns})
      VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
    settle: `DELETE FROM ${letters} WHERE name = ? AND generation = ? AND position = ?`,
    letters: `SELECT ${letterColumns} FROM ${letters} WHERE name = ? AND generation = ? AND position > ?
      ORDER BY position LIMIT ?`,
    deleteLetters: `DELETE FROM ${letters} WHERE name = ? AND generation = ?`,
    count: `SELECT (SELECT count(*) FROM ${checkpoints}), (SELECT count(*) FROM ${letters})`,
    reset: `DELETE FROM ${checkpoints}`,
    resetLetters: `DELETE FROM ${letters}`
  }
}
