/**
 * The CommandStore's port on SQLite: its statements, each in one place, and the rows they return. Every step that
 * writes is one statement. Leases run on the clock of the machine, which is the same for all processes that have the
 * file open.
 */
import * as Effect from "effect/Effect"
import type { CreateOutcome, Encoded, EncodedNewCommand } from "../../commandStore/CommandStoreEncoded.js"
import { takePage } from "../../internal/pages.js"
import {
  column,
  columns,
  created,
  fromRow,
  fromRows,
  inserted,
  type Row,
  sizeOf,
  toRow
} from "../../sql/commandRows.js"
import { executing } from "../../sql/executing.js"
import { commandConditions } from "../../sql/filters.js"
import type { SqliteConnection } from "../database/connection.js"
import { anyOf, filtered, unindexed } from "../database/filters.js"
import type { Names } from "../database/names.js"
import type { StoreAccess } from "../database/storeAccess.js"

type Value = string | number | null

export const make = (database: StoreAccess, names: Names): Effect.Effect<Encoded> =>
  Effect.sync(() => onDatabase(database, names))

const onDatabase = (database: StoreAccess, names: Names): Encoded => {
  const commands = names.qualified("commands")
  const ofAttempt = "id = ? AND attempts = ? AND status = 'received'"
  const sql = {
    insert: `INSERT INTO ${commands} (${inserted})
      VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 'received', ?, ?) ON CONFLICT (id) DO NOTHING`,
    existing: `SELECT lease_end_ms, ${columns} FROM ${commands} WHERE id = ?`,
    takeOver: `UPDATE ${commands} SET attempts = attempts + 1, lease_end_ms = ?
      WHERE ${ofAttempt} AND lease_end_ms <= ?`,
    renew: `UPDATE ${commands} SET lease_end_ms = ? WHERE ${ofAttempt}`,
    finish: `UPDATE ${commands} SET status = ?, outcome = ?, outcome_key_id = ?, finished_ms = ?, lease_end_ms = 0
      WHERE ${ofAttempt}`,
    get: `SELECT ${columns} FROM ${commands} WHERE id = ?`,
    countAll: `SELECT count(*) FROM ${commands}`,
    last: `SELECT ${columns} FROM ${commands} ORDER BY position DESC LIMIT 1`,
    delete: `DELETE FROM ${commands} WHERE id = ?`,
    reset: `DELETE FROM ${commands}`
  }

  const endOf = (leaseMs: number): number => (leaseMs === 0 ? 0 : Date.now() + leaseMs)

  /** Runs one statement and returns how many rows it changed. */
  const changed = (connection: SqliteConnection, operation: string, text: string, params: ReadonlyArray<unknown>) => {
    try {
      return connection.prepare(text).run(...params)
    } catch (error) {
      throw connection.commitFailure(operation, error)
    }
  }

  const change = (operation: string, text: string, params: () => ReadonlyArray<unknown>) =>
    database.write(operation, (connection) => changed(connection, operation, text, params()).changes)

  const changeOne = (operation: string, text: string, params: () => ReadonlyArray<unknown>) =>
    Effect.map(change(operation, text, params), (changes) => changes > 0)

  /** Reads first: a repeat needs no lock, and others may hold the lock for long. */
  const create = (connection: SqliteConnection, command: EncodedNewCommand, leaseMs: number): CreateOutcome => {
    for (;;) {
      const row = connection.prepare(sql.existing).get(command.id) as [leaseEndMs: number, ...Row] | undefined
      if (row !== undefined) {
        const [leaseEndMs, ...stored] = row
        return { _tag: "Exists", command: fromRow(stored), leaseLeftMs: Math.max(0, leaseEndMs - Date.now()) }
      }
      const params = [...toRow(command), leaseMs > 0 ? 1 : 0, endOf(leaseMs)]
      const { changes, lastInsertRowid } = changed(connection, "create", sql.insert, params)
      // Otherwise another process has stored it in between.
      if (changes > 0) return { _tag: "Created", command: created(command, Number(lastInsertRowid), leaseMs) }
    }
  }

  return {
    create: (command, leaseMs) => database.write("create", (connection) => create(connection, command, leaseMs)),

    takeOver: ({ attempts, id, leaseMs }) =>
      changeOne("takeOver", sql.takeOver, () => [endOf(leaseMs), id, attempts, Date.now()]),

    renew: ({ attempt, id, leaseMs }) => changeOne("renew", sql.renew, () => [endOf(leaseMs), id, attempt]),

    finish: ({ attempt, finishedAt, id, outcome, outcomeKeyId, status }) =>
      changeOne("finish", sql.finish, () => [status, outcome, outcomeKeyId, finishedAt, id, attempt]),

    get: (id) =>
      database.read("get", (connection) => {
        const row = connection.prepare(sql.get).get(id) as Row | undefined
        return row === undefined ? null : fromRow(row)
      }),

    list: ({ after, direction, filter, limit, maxBytes, through }) =>
      database.read("list", (connection) => {
        const { params, where } = filtered(unindexedConditions, filter)
        const rows = connection
          .prepare(
            `SELECT ${columns} FROM ${commands} WHERE position > ? AND position <= ?${where}
             ORDER BY position${direction === "forward" ? "" : " DESC"} LIMIT ?`
          )
          .iterate(after, through, ...params, limit)
        const { items, more } = takePage(rows as Iterable<Row>, { limit, maxBytes }, sizeOf)
        return { items: fromRows(items), more }
      }),

    distinct: ({ after, field, filter, limit }) =>
      database.read("distinct", (connection) => {
        const { params, where } = filtered(conditions, filter)
        const name = column[field]
        const rows = connection
          .prepare(`SELECT DISTINCT ${name} FROM ${commands} WHERE ${name} > ?${where} ORDER BY 1 LIMIT ?`)
          // No value is empty, so all are greater than the empty string.
          .all(after ?? "", ...params, limit) as Array<[string]>
        return rows.map(([value]) => value)
      }),

    count: (filter) =>
      database.read("count", (connection) => {
        const { params, where } = filtered(conditions, filter)
        const text = `SELECT count(*) FROM ${commands} WHERE true${where}`
        return (connection.prepare(text).get(...params) as [number])[0]
      }),

    info: database.read("info", (connection) =>
      connection.db.transaction(() => {
        const [count] = connection.prepare(sql.countAll).get() as [number]
        const last = connection.prepare(sql.last).get() as Row | undefined
        return {
          backend: "Sqlite",
          connection: database.connection,
          commands: count,
          lastCommand: last === undefined ? null : fromRow(last)
        }
      })()
    ),

    update: ({ data, id, keyId, metadata, status }) => {
      const sets: Array<string> = []
      const params: Array<Value> = []
      const set = (name: string, value: Value) => {
        sets.push(`${name} = ?`)
        params.push(value)
      }
      if (data !== null) set("data", data)
      if (metadata !== null) set("metadata", metadata)
      if (sets.length > 0) set("key_id", keyId)
      if (status !== null) {
        set("status", status.status)
        set("outcome", status.outcome)
        set("outcome_key_id", status.outcomeKeyId)
        set("finished_ms", status.finishedAt)
        set("lease_end_ms", 0)
      }
      return changeOne("update", `UPDATE ${commands} SET ${sets.join(", ")} WHERE id = ?`, () => [...params, id])
    },

    delete: (id) => changeOne("delete", sql.delete, () => [id]),

    prune: (filter, limit) => {
      const { params, where } = filtered(conditions, filter)
      const oldest = `SELECT position FROM ${commands} WHERE true${where} ORDER BY created_ms LIMIT ?`
      return change("prune", `DELETE FROM ${commands} WHERE position IN (${oldest})`, () => [...params, limit])
    },

    reset: Effect.asVoid(change("reset", sql.reset, () => [])),

    transaction: (self) => database.transaction(executing(database, "SqliteDatabase", self))
  }
}

const conditions = commandConditions(anyOf)
// For pages in order of position: with the index on the time, each page would be sorted.
const unindexedConditions = commandConditions(anyOf, unindexed)
