/**
 * The CommandStore's statements on PostgreSQL, each in one place, and the rows they return. All are prepared by name,
 * once per connection; a filter has one text per set of conditions. Leases run on the server's clock at the moment when
 * a row is examined, even in a transaction, where `now()` stands still.
 */
import type Pg from "pg"
import type {
  Encoded,
  EncodedCommand,
  EncodedFilter,
  EncodedLease,
  EncodedNewCommand
} from "../../commandStore/CommandStoreEncoded.js"
import {
  column,
  columns,
  created,
  dueMs,
  fromRow,
  fromRows,
  inserted,
  isUndated,
  type OpenRow,
  openFromRow,
  payloadOf,
  payloadRow,
  type Row,
  toRow
} from "../../sql/commandRows.js"
import { commandConditions } from "../../sql/filters.js"
import type { Statement } from "../database/access.js"
import { anyOf, where } from "../database/filters.js"
import type { Names } from "../database/names.js"
import { distinct, distinctRows, orderOf, pageOf, rowCount } from "../database/pages.js"

type Request<K extends keyof Encoded> = Encoded[K] extends (request: infer R) => unknown ? R : never

const payload = ["data", "metadata", "coalesce(outcome, '')"]

const nowMs = "(extract(epoch from clock_timestamp()) * 1000)::bigint"

const indexed = commandConditions(anyOf)
// With the index, all matching rows would be sorted for each page.
const unindexed = commandConditions(anyOf, (column) => `(${column} + 0)`)

/** A row of `existing`. */
type ExistingRow = readonly [leaseLeftMs: number, token: string | null, changed: string | null, ...Row]

const firstRow = <R>({ rows }: Pg.QueryResult): R | undefined => (rows as ReadonlyArray<R>)[0]

export const make = (names: Names) => {
  const commands = names.qualified("commands")
  // Names belong to a connection, and stores with other tables may share it.
  const named = (name: string) => `${names.channel}/command_${name}`

  const read = <A>(
    operation: string,
    variant: string,
    text: string,
    values: Array<unknown>,
    onResult: (result: Pg.QueryResult) => A
  ): Statement<A, "read"> => ({
    name: named(operation + variant),
    text,
    values,
    rowMode: "array",
    operation,
    kind: "read",
    onResult
  })

  const change = (operation: string, variant: string, text: string, values: Array<unknown>): Statement<number> => ({
    name: named(operation + variant),
    text,
    values,
    operation,
    kind: "write",
    onResult: ({ rowCount }) => rowCount ?? 0
  })

  return {
    /** Null if the id is taken. Inserting an id that another transaction has inserted waits for its end. */
    insert: (command: EncodedNewCommand, lease: EncodedLease | null): Statement<EncodedCommand | null> => ({
      name: named("insert"),
      text: `insert into ${commands} (${inserted})
             values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, 'received', $11,
                     case when $12 = 0 then 0 else ${nowMs} + $12 end, $13)
             on conflict (id) do nothing returning position`,
      values: [...toRow(command), lease === null ? 0 : 1, lease?.leaseMs ?? 0, lease?.token ?? null],
      rowMode: "array",
      operation: "create",
      kind: "write",
      onResult: (result) => {
        const row = firstRow<readonly [position: number]>(result)
        return row === undefined ? null : created(command, row[0], lease)
      }
    }),

    /** The command, how long its lease still runs, and whose it is. */
    existing: (id: string) =>
      read(
        "create",
        "",
        `select greatest(0, lease_end_ms - ${nowMs}), token, changed, ${columns} from ${commands} where id = $1`,
        [id],
        (result) => {
          const row = firstRow<ExistingRow>(result)
          if (row === undefined) return null
          const [leaseLeftMs, token, changed, ...stored] = row
          return { command: fromRow(stored), leaseLeftMs, token, changed: changed !== null }
        }
      ),

    takeOver: ({ attempts, id, leaseMs, position, token }: Request<"takeOver">) =>
      change(
        "takeOver",
        "",
        `update ${commands} set attempts = attempts + 1, lease_end_ms = ${nowMs} + $4, token = $5
         where id = $1 and position = $2 and attempts = $3 and status = 'received' and lease_end_ms <= ${nowMs}`,
        [id, position, attempts, leaseMs, token]
      ),

    renew: ({ id, leaseMs, token }: Request<"renew">) =>
      change(
        "renew",
        "",
        `update ${commands} set lease_end_ms = case when $3 = 0 then 0 else ${nowMs} + $3 end
         where id = $1 and token = $2 and status = 'received'`,
        [id, token, leaseMs]
      ),

    finish: ({ finishedAt, id, outcome, outcomeKeyId, position, status }: Request<"finish">) =>
      change(
        "finish",
        "",
        `update ${commands} set status = $3, outcome = $4, outcome_key_id = $5, finished_ms = $6, lease_end_ms = 0
         where id = $1 and position = $2 and status = 'received'`,
        [id, position, status, outcome, outcomeKeyId, finishedAt]
      ),

    close: ({ finishedAt, id, outcome, outcomeKeyId, position, status }: Request<"close">) =>
      change(
        "close",
        "",
        `update ${commands} set status = $3, outcome = $4, outcome_key_id = $5, finished_ms = $6, lease_end_ms = 0
         where id = $1 and position = coalesce($2, position) and status = 'received' and lease_end_ms <= ${nowMs}`,
        [id, position, status, outcome, outcomeKeyId, finishedAt]
      ),

    open: ({ filter, limit }: Request<"open">) => {
      const values: Array<unknown> = [limit]
      const { shape, sql } = where(unindexed, filter, values)
      return read(
        "open",
        `_${shape}`,
        `select id, type, position, attempts, ${dueMs} - ${nowMs}, lease_end_ms, ${isUndated}
         from ${commands}
         where status = 'received' and lease_end_ms <= ${nowMs}${sql} order by ${dueMs}, position limit $1`,
        values,
        ({ rows }) => (rows as ReadonlyArray<OpenRow>).map(openFromRow)
      )
    },

    postpone: ({ dueInMs, id, position }: Request<"postpone">) =>
      change(
        "postpone",
        "",
        `update ${commands} set due_ms = ${nowMs} + $3 where id = $1 and position = $2 and status = 'received'`,
        [id, position, dueInMs]
      ),

    get: (id: string) =>
      read("get", "", `select ${columns} from ${commands} where id = $1`, [id], (result) => {
        const row = firstRow<Row>(result)
        return row === undefined ? null : fromRow(row)
      }),

    list: (request: Request<"list">) => {
      const values: Array<unknown> = [request.after, request.through, request.limit, request.maxBytes]
      const { shape, sql } = where(unindexed, request.filter, values)
      const order = orderOf(request.direction)
      const rows = `from ${commands} where position > $1 and position <= $2${sql}`
      const page = { payload, rows, key: "position", direction: order, limit: "$3", maxBytes: "$4" } as const
      return read(
        "list",
        `_${request.direction}_${shape}`,
        `select ${columns} ${rows}
         order by position ${order} limit ${rowCount(page)}`,
        values,
        ({ rows }) => pageOf<Row, EncodedCommand>(rows, request, payloadOf, fromRows)
      )
    },

    distinct: ({ after, field, filter, limit }: Request<"distinct">) => {
      const name = column[field]
      const values: Array<unknown> = [after, limit]
      const { shape, sql } = where(indexed, filter, values)
      return read("distinct", `_${name}_${shape}`, distinct(name, commands, sql), values, distinctRows)
    },

    count: (filter: EncodedFilter) => {
      const values: Array<unknown> = []
      const { shape, sql } = where(indexed, filter, values)
      return read(
        "count",
        `_${shape}`,
        `select count(*) from ${commands} where true${sql}`,
        values,
        (result) => firstRow<readonly [number]>(result)?.[0] ?? 0
      )
    },

    // One row, even if there is no command.
    info: read(
      "info",
      "",
      `select (select count(*) from ${commands}), last.*
       from (select) as always
       left join (select ${columns} from ${commands} order by position desc limit 1) as last on true`,
      [],
      (result) => {
        const [count, ...last] = firstRow(result) as readonly [number, ...Row]
        return { commands: count, lastCommand: count === 0 ? null : fromRow(last) }
      }
    ),

    update: ({ data, id, keyId, metadata, status }: Request<"update">) => {
      const values: Array<unknown> = [id]
      const sets: Array<string> = []
      const set = (name: string, value: unknown) => sets.push(`${name} = $${values.push(value)}`)
      if (data !== null) set("data", data)
      if (metadata !== null) set("metadata", metadata)
      if (sets.length > 0) set("key_id", keyId)
      if (data !== null) sets.push("changed = true")
      if (status !== null) {
        set("status", status.status)
        set("outcome", status.outcome)
        set("outcome_key_id", status.outcomeKeyId)
        set("finished_ms", status.finishedAt)
        sets.push("lease_end_ms = 0")
      }
      const shape = [data, metadata, status].map((change) => (change === null ? "0" : "1")).join("")
      return change("update", `_${shape}`, `update ${commands} set ${sets.join(", ")} where id = $1`, values)
    },

    replace: ({ changes, id, payloads, was }: Request<"replace">) =>
      change(
        "replace",
        "",
        `update ${commands} set data = $2, metadata = $3, key_id = $4, outcome = $5, outcome_key_id = $6,
           changed = coalesce($12, changed)
         where id = $1 and data = $7 and metadata = $8 and key_id is not distinct from $9
           and outcome is not distinct from $10 and outcome_key_id is not distinct from $11`,
        [id, ...payloadRow(payloads), ...payloadRow(was), changes ? true : null]
      ),

    delete: (id: string) => change("delete", "", `delete from ${commands} where id = $1`, [id]),

    // Rows are locked as they are found: one that is just being changed is examined again, and the next is taken
    // instead if it no longer matches.
    prune: (filter: EncodedFilter, limit: number) => {
      const values: Array<unknown> = [limit]
      const { shape, sql } = where(indexed, filter, values)
      return change(
        "prune",
        `_${shape}`,
        `delete from ${commands} where position = any (array(
           select position from ${commands} where true${sql} order by created_ms limit $1 for update
         ))`,
        values
      )
    },

    reset: {
      text: `truncate ${commands}`,
      operation: "reset",
      kind: "write",
      onResult: () => undefined
    } satisfies Statement<void>
  }
}
