/**
 * Rows of the commands table, the same on both databases: which columns are written and selected, in which order, and
 * the commands made of them. Mapped by hand, like the rows of events.
 */
import type { DistinctField } from "../CommandStore.js"
import type {
  EncodedCommand,
  EncodedLease,
  EncodedNewCommand,
  EncodedOpenCommand,
  EncodedPayloads
} from "../commandStore/CommandStoreEncoded.js"

const given = "id, tenant_id, domain, type, data, metadata, key_id, instance_id, created_ms, due_ms"

/** The columns of an INSERT: everything that a new command has. */
export const inserted = `${given}, status, attempts, lease_end_ms, token`

export const columns = `position, ${given}, status, outcome, outcome_key_id, attempts, finished_ms`

/** The order in which workers take commands: an index on it, with the position, has the received ones. */
export const dueMs = "coalesce(due_ms, created_ms)"

/** 1 for a command without a due time, which is due at once. */
export const isUndated = "case when due_ms is null then 1 else 0 end"

export const column: { readonly [K in DistinctField]: string } = {
  tenantId: "tenant_id",
  domain: "domain",
  type: "type",
  status: "status",
  instanceId: "instance_id"
}

/** A row of `columns`. */
export type Row = readonly [
  position: number,
  id: string,
  tenantId: string,
  domain: string,
  type: string,
  data: string,
  metadata: string,
  keyId: string | null,
  instanceId: string | null,
  createdAt: number,
  dueAt: number | null,
  status: EncodedCommand["status"],
  outcome: string | null,
  outcomeKeyId: string | null,
  attempts: number,
  finishedAt: number | null
]

/** The parameters of an INSERT, before status and attempt. */
export const toRow = (command: EncodedNewCommand): Array<unknown> => [
  command.id,
  command.tenantId,
  command.domain,
  command.type,
  command.data,
  command.metadata,
  command.keyId,
  command.instanceId,
  command.createdAt,
  command.dueAt
]

/** The command that was just stored; the statement need not return it. */
export const created = (command: EncodedNewCommand, position: number, lease: EncodedLease | null): EncodedCommand => ({
  ...command,
  position,
  status: "received",
  outcome: null,
  outcomeKeyId: null,
  attempts: lease === null ? 0 : 1,
  finishedAt: null
})

export const fromRow = (row: Row): EncodedCommand => ({
  id: row[1],
  tenantId: row[2],
  domain: row[3],
  type: row[4],
  data: row[5],
  metadata: row[6],
  keyId: row[7],
  instanceId: row[8],
  createdAt: row[9],
  dueAt: row[10],
  position: row[0],
  status: row[11],
  outcome: row[12],
  outcomeKeyId: row[13],
  attempts: row[14],
  finishedAt: row[15]
})

/**
 * A row of a command that is open for workers. One without a due time is due at once, although the clock that has said
 * when it was created may be ahead of the one that says what is due.
 */
export type OpenRow = readonly [
  id: string,
  type: string,
  position: number,
  attempts: number,
  dueInMs: number,
  leaseEndMs: number,
  isUndated: number
]

export const openFromRow = ([
  id,
  type,
  position,
  attempts,
  dueInMs,
  leaseEndMs,
  isUndated
]: OpenRow): EncodedOpenCommand => ({
  id,
  type,
  position,
  attempts,
  dueInMs: isUndated === 1 ? Math.min(0, dueInMs) : dueInMs,
  isLeftBehind: leaseEndMs > 0
})

export const fromRows = (rows: ReadonlyArray<Row>): ReadonlyArray<EncodedCommand> => rows.map(fromRow)

export const payloadOf = (row: Row): ReadonlyArray<string | null> => [row[5], row[6], row[12]]

/** What a row counts for in the bounds of a page: about the bytes of its payload. */
export const sizeOf = (row: Row): number => row[5].length + row[6].length + (row[12]?.length ?? 0)

export const payloadRow = ({ data, keyId, metadata, outcome, outcomeKeyId }: EncodedPayloads) => [
  data,
  metadata,
  keyId,
  outcome,
  outcomeKeyId
]
