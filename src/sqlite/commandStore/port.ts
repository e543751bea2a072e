/**
 * The CommandStore's port on SQLite. Every step that writes is one statement. Leases run on the clock of the machine,
 * which is the same for all processes that have the file open.
 */
import * as Effect from "effect/Effect"
import type { CreateOutcome, Encoded, EncodedLease, EncodedNewCommand } from "../../commandStore/CommandStoreEncoded.js"
import { takePage } from "../../internal/pages.js"
import {
  created,
  fromRow,
  fromRows,
  type OpenRow,
  openFromRow,
  payloadRow,
  type Row,
  sizeOf,
  toRow
} from "../../sql/commandRows.js"
import { executing } from "../../sql/transactions.js"
import type { StoreAccess } from "../database/access.js"
import { commitFailure, type StepConnection } from "../database/connection.js"
import { logQueries } from "../database/logQueries.js"
import type { Names } from "../database/names.js"
import { makeNote } from "../database/notes.js"
import * as statements from "./statements.js"

/** A row of `existing`. */
type ExistingRow = readonly [leaseEndMs: number, token: string | null, changed: number | null, ...Row]

export const make = (database: StoreAccess, names: Names): Effect.Effect<Encoded> =>
  Effect.sync(() => onDatabase(database, names))

const onDatabase = (database: StoreAccess, names: Names): Encoded => {
  const sql = statements.make(names)

  const endOf = (leaseMs: number): number => (leaseMs === 0 ? 0 : Date.now() + leaseMs)

  /** Runs one statement and returns how many rows it changed. */
  const changed = (connection: StepConnection, operation: string, text: string, params: ReadonlyArray<unknown>) => {
    try {
      return connection.prepare(text).run(...params)
    } catch (error) {
      throw commitFailure(operation, error)
    }
  }

  const change = (operation: string, text: string, params: () => ReadonlyArray<unknown>) =>
    database.writeGrouped(operation, (connection) => changed(connection, operation, text, params()).changes)

  const changeOne = (operation: string, text: string, params: () => ReadonlyArray<unknown>) =>
    Effect.map(change(operation, text, params), (changes) => changes > 0)

  /** Reads first: a repeat needs no lock, and others may hold the lock for long. */
  const create = (
    connection: StepConnection,
    command: EncodedNewCommand,
    lease: EncodedLease | null
  ): CreateOutcome => {
    for (;;) {
      const row = connection.prepare(sql.existing).get(command.id) as ExistingRow | undefined
      if (row !== undefined) {
        const [leaseEndMs, token, changed, ...stored] = row
        const leaseLeftMs = Math.max(0, leaseEndMs - Date.now())
        return { _tag: "Exists", command: fromRow(stored), leaseLeftMs, token, changed: changed === 1 }
      }
      const attempt = lease === null ? [0, 0, null] : [1, endOf(lease.leaseMs), lease.token]
      const { changes, lastInsertRowid } = changed(connection, "create", sql.insert, [...toRow(command), ...attempt])
      // Otherwise another process has stored it in between.
      if (changes > 0) return { _tag: "Created", command: created(command, Number(lastInsertRowid), lease) }
    }
  }

  return {
    create: (command, lease) => database.writeGrouped("create", (connection) => create(connection, command, lease)),

    takeOver: ({ attempts, id, leaseMs, position, token }) =>
      changeOne("takeOver", sql.takeOver, () => [endOf(leaseMs), token, id, position, attempts, Date.now()]),

    renew: ({ id, leaseMs, token }) => changeOne("renew", sql.renew, () => [endOf(leaseMs), id, token]),

    finish: ({ finishedAt, id, outcome, outcomeKeyId, position, status }) =>
      changeOne("finish", sql.finish, () => [status, outcome, outcomeKeyId, finishedAt, id, position]),

    close: ({ finishedAt, id, outcome, outcomeKeyId, position, status }) =>
      changeOne("close", sql.close, () => [status, outcome, outcomeKeyId, finishedAt, id, position, Date.now()]),

    open: ({ filter, limit }) =>
      database.read("open", (connection) => {
        const { params, text } = sql.open(filter)
        const nowMs = Date.now()
        const rows = connection.prepare(text).all(nowMs, nowMs, ...params, limit)
        return (rows as ReadonlyArray<OpenRow>).map(openFromRow)
      }),

    postpone: ({ dueInMs, id, position }) =>
      changeOne("postpone", sql.postpone, () => [Date.now() + dueInMs, id, position]),

    ...logQueries(database, sql, fromRow),

    list: ({ after, direction, filter, limit, maxBytes, through }) =>
      database.read("list", (connection) => {
        const { params, text } = sql.list(filter, direction)
        const rows = connection.prepare(text).iterate(after, through, ...params, limit)
        const { items, more } = takePage(rows as Iterable<Row>, { limit, maxBytes }, sizeOf)
        return { items: fromRows(items), more }
      }),

    info: database.read("info", (connection) =>
      connection.consistently(() => {
        const [count] = connection.prepare(sql.info).get() as [number]
        const last = connection.prepare(sql.last).get() as Row | undefined
        return {
          backend: "Sqlite",
          connection: database.connection,
          commands: count,
          lastCommand: last === undefined ? null : fromRow(last)
        }
      })
    ),

    update: (request) => {
      const { params, text } = sql.update(request)
      return changeOne("update", text, () => params)
    },

    replace: ({ changes, id, payloads, was }) =>
      changeOne("replace", sql.replace, () => [...payloadRow(payloads), changes ? 1 : null, id, ...payloadRow(was)]),

    delete: (id) => changeOne("delete", sql.delete, () => [id]),

    prune: (filter, limit) => {
      const { params, text } = sql.prune(filter)
      return change("prune", text, () => [...params, limit])
    },

    reset: Effect.asVoid(change("reset", sql.reset, () => [])),

    note: makeNote(database, names, "CommandStore"),

    transaction: (self) => database.transaction(executing(database, "SqliteDatabase", self))
  }
}
