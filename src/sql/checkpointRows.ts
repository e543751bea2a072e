/**
 * Rows of the checkpoints table, the same on both databases. How much is left of a lease is computed on the clock of
 * the backend, so it is no column.
 */
import type { EncodedCheckpoint, EncodedDeadLetter, EncodedPlace } from "../checkpointStore/CheckpointStoreEncoded.js"

export const place = "name, generation, partition"

export const columns = `${place}, partitions, position, owner, token`

/** A row of `columns`, and how much is left of the lease. */
export type Row = readonly [
  name: string,
  generation: number,
  partition: number,
  partitions: number,
  position: number,
  owner: string | null,
  token: number,
  leaseLeftMs: number
]

export const placeOf = ({ generation, name, partition }: EncodedPlace): Array<unknown> => [name, generation, partition]

export const fromRow = ([
  name,
  generation,
  partition,
  partitions,
  position,
  owner,
  token,
  leaseLeftMs
]: Row): EncodedCheckpoint => ({ name, generation, partition, partitions, position, owner, token, leaseLeftMs })

/** Less than every place: no name is empty. */
export const firstPlace: EncodedPlace = { name: "", generation: 0, partition: 0 }

const address = "tenant_id, domain, aggregate_id"

export const letterColumns = `position, partition, ${address}, event_id, type, reason, scope`

/** A row of `letterColumns`. */
export type LetterRow = readonly [
  position: number,
  partition: number,
  tenantId: string,
  domain: string,
  aggregateId: string,
  eventId: string,
  type: string,
  reason: string,
  scope: EncodedDeadLetter["scope"]
]

export const toLetterRow = (letter: EncodedDeadLetter): LetterRow => [
  letter.position,
  letter.partition,
  letter.tenantId,
  letter.domain,
  letter.aggregateId,
  letter.eventId,
  letter.type,
  letter.reason,
  letter.scope
]

export const fromLetterRow = ([
  position,
  partition,
  tenantId,
  domain,
  aggregateId,
  eventId,
  type,
  reason,
  scope
]: LetterRow): EncodedDeadLetter => ({
  tenantId,
  domain,
  aggregateId,
  partition,
  position,
  eventId,
  type,
  reason,
  scope
})
