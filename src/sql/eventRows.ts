/**
 * Rows of the events table, the same on both databases: which columns are selected, in which order, and the events made
 * of them. Mapped by hand: a Schema would cost forty times as much.
 */
import type { DistinctField, StreamId } from "../EventStore.js"
import type { EncodedEvent } from "../eventStore/EventStoreEncoded.js"

/** For reads of one stream: its address need not be in every row. */
export const streamColumns = "position, id, version, type, data, metadata, key_id, command_id, instance_id, created_ms"

export const columns = `${streamColumns}, tenant_id, domain, aggregate_id`

export const column: { readonly [K in DistinctField]: string } = {
  tenantId: "tenant_id",
  domain: "domain",
  aggregateId: "aggregate_id",
  type: "type",
  commandId: "command_id",
  instanceId: "instance_id"
}

type Fields = readonly [
  position: number,
  id: string,
  version: number,
  type: string,
  data: string,
  metadata: string,
  keyId: string | null,
  commandId: string | null,
  instanceId: string | null,
  createdAt: number
]

/** A row of `streamColumns` and the revision of the stream. */
export type StreamRow = readonly [...Fields, revision: string | null]

/** Of an empty page it does not matter. */
export const revisionOf = ([row]: ReadonlyArray<StreamRow>): string | null => row?.[10] ?? null

/** A row of `columns`. */
export type Row = readonly [...Fields, tenantId: string, domain: string, aggregateId: string]

const toEvent = (row: StreamRow | Row, tenantId: string, domain: string, aggregateId: string): EncodedEvent => ({
  id: row[1],
  tenantId,
  domain,
  aggregateId,
  version: row[2],
  position: row[0],
  type: row[3],
  data: row[4],
  metadata: row[5],
  keyId: row[6],
  commandId: row[7],
  instanceId: row[8],
  createdAt: row[9]
})

export const fromRow = (row: Row): EncodedEvent => toEvent(row, row[10], row[11], row[12])

export const fromRows = (rows: ReadonlyArray<Row>): ReadonlyArray<EncodedEvent> => {
  const events = new Array<EncodedEvent>(rows.length)
  for (let i = 0; i < rows.length; i++) events[i] = fromRow(rows[i] as Row)
  return events
}

export const fromStreamRows = (rows: ReadonlyArray<StreamRow>, stream: StreamId): ReadonlyArray<EncodedEvent> => {
  const { aggregateId, domain, tenantId } = stream
  const events = new Array<EncodedEvent>(rows.length)
  for (let i = 0; i < rows.length; i++) events[i] = toEvent(rows[i] as StreamRow, tenantId, domain, aggregateId)
  return events
}

export const payloadOf = (row: StreamRow | Row): ReadonlyArray<string> => [row[4], row[5]]

/** What a row counts for in the bounds of a page: about the bytes of its payload. */
export const sizeOf = (row: StreamRow | Row): number => row[4].length + row[5].length
