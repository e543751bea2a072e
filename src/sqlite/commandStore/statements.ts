/**
 * The CommandStore's statements on SQLite, each in one place. All are prepared once per connection; a filter has one
 * text per set of conditions. Keywords are in capitals.
 */
import type { DistinctField } from "../../CommandStore.js"
import type { Encoded, EncodedFilter } from "../../commandStore/CommandStoreEncoded.js"
import type { Direction } from "../../internal/pages.js"
import { column, columns, dueMs, inserted, isUndated } from "../../sql/commandRows.js"
import { commandConditions } from "../../sql/filters.js"
import { anyOf, filtered, unindexed } from "../database/filters.js"
import { boundsOf, distinctOf, stretchOf } from "../database/logQueries.js"
import type { Names } from "../database/names.js"

type Value = string | number | null

const conditions = commandConditions(anyOf)
// For pages in order of position: with the index on the time, each page would be sorted.
const unindexedConditions = commandConditions(anyOf, unindexed)

export const make = (names: Names) => {
  const commands = names.qualified("commands")
  return {
    insert: `INSERT INTO ${commands} (${inserted})
      VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'received', ?, ?, ?) ON CONFLICT (id) DO NOTHING`,

    existing: `SELECT lease_end_ms, token, changed, ${columns} FROM ${commands} WHERE id = ?`,

    takeOver: `UPDATE ${commands} SET attempts = attempts + 1, lease_end_ms = ?, token = ?
      WHERE id = ? AND position = ? AND attempts = ? AND status = 'received' AND lease_end_ms <= ?`,

    renew: `UPDATE ${commands} SET lease_end_ms = ? WHERE id = ? AND token = ? AND status = 'received'`,

    finish: `UPDATE ${commands} SET status = ?, outcome = ?, outcome_key_id = ?, finished_ms = ?, lease_end_ms = 0
      WHERE id = ? AND position = ? AND status = 'received'`,

    close: `UPDATE ${commands} SET status = ?, outcome = ?, outcome_key_id = ?, finished_ms = ?, lease_end_ms = 0
      WHERE id = ? AND position = coalesce(?, position) AND status = 'received' AND lease_end_ms <= ?`,

    open: (filter: EncodedFilter) => {
      const { params, where } = filtered(unindexedConditions, filter)
      // Named, since finished commands would be looked through by any other.
      const text = `SELECT id, type, position, attempts, ${dueMs} - ?, lease_end_ms, ${isUndated}
        FROM ${commands} INDEXED BY ${names.qualified("commands_due")}
        WHERE status = 'received' AND lease_end_ms <= ?${where} ORDER BY ${dueMs}, position LIMIT ?`
      return { text, params }
    },

    postpone: `UPDATE ${commands} SET due_ms = ? WHERE id = ? AND position = ? AND status = 'received'`,

    get: `SELECT ${columns} FROM ${commands} WHERE id = ?`,

    list: (filter: EncodedFilter, direction: Direction) => {
      const { params, where } = filtered(unindexedConditions, filter)
      const text = `SELECT ${columns} FROM ${commands} WHERE position > ? AND position <= ?${where}
        ORDER BY position${direction === "forward" ? "" : " DESC"} LIMIT ?`
      return { text, params }
    },

    distinct: (_: unknown, field: DistinctField, filter: EncodedFilter) => {
      const source = { from: commands, before: [], ...filtered(conditions, filter) }
      return {
        all: distinctOf(column[field], source),
        // An index would be looked through as a whole for every stretch.
        stretch: stretchOf(column[field], { ...source, from: `${commands} NOT INDEXED` }),
        few: false
      }
    },

    bounds: boundsOf(commands),

    count: (_: unknown, filter: EncodedFilter) => {
      const { params, where } = filtered(conditions, filter)
      return { text: `SELECT count(*) FROM ${commands} WHERE true${where}`, before: [], params }
    },

    info: `SELECT count(*) FROM ${commands}`,

    last: `SELECT ${columns} FROM ${commands} ORDER BY position DESC LIMIT 1`,

    update: ({ data, id, keyId, metadata, status }: Parameters<Encoded["update"]>[0]) => {
      const sets: Array<string> = []
      const params: Array<Value> = []
      const set = (name: string, value: Value) => {
        sets.push(`${name} = ?`)
        params.push(value)
      }
      if (data !== null) set("data", data)
      if (metadata !== null) set("metadata", metadata)
      if (sets.length > 0) set("key_id", keyId)
      if (data !== null) set("changed", 1)
      if (status !== null) {
        set("status", status.status)
        set("outcome", status.outcome)
        set("outcome_key_id", status.outcomeKeyId)
        set("finished_ms", status.finishedAt)
        set("lease_end_ms", 0)
      }
      return { text: `UPDATE ${commands} SET ${sets.join(", ")} WHERE id = ?`, params: [...params, id] }
    },

    replace: `UPDATE ${commands} SET data = ?, metadata = ?, key_id = ?, outcome = ?, outcome_key_id = ?,
        changed = coalesce(?, changed)
      WHERE id = ? AND data = ? AND metadata = ? AND key_id IS ? AND outcome IS ? AND outcome_key_id IS ?`,
    delete: `DELETE FROM ${commands} WHERE id = ?`,

    prune: (filter: EncodedFilter) => {
      const { params, where } = filtered(conditions, filter)
      const oldest = `SELECT position FROM ${commands} WHERE true${where} ORDER BY created_ms LIMIT ?`
      return { text: `DELETE FROM ${commands} WHERE position IN (${oldest})`, params }
    },

    reset: `DELETE FROM ${commands}`
  }
}
