/**
 * Rows of the snapshots table, the same on both databases: their columns, what makes a save monotonic, and the
 * snapshots made of them.
 */
import type { StreamId } from "../EventStore.js"
import type { EncodedAddress, EncodedSnapshot } from "../snapshotStore/SnapshotStoreEncoded.js"

export const address = "tenant_id, domain, aggregate_id"

const values = ["version", "last_event_mark", "schema_version", "key_id", "checksum", "created_ms", "state"]

/** All but the address, which need not be in a row. */
export const columns = values.join(", ")

/** The end of the INSERT of `address` and `columns` into a table that is called `stored`, in each dialect's case. */
export const replaceOlder = {
  pg: `on conflict (${address})
  do update set ${values.map((name) => `${name} = excluded.${name}`).join(", ")}
  where stored.version <= excluded.version`,
  sqlite: `ON CONFLICT (${address})
  DO UPDATE SET ${values.map((name) => `${name} = excluded.${name}`).join(", ")}
  WHERE stored.version <= excluded.version`
}

/** A row of `columns`. */
export type Row = readonly [
  version: number,
  lastEventMark: string,
  schemaVersion: string,
  keyId: string | null,
  checksum: string,
  createdAt: number,
  state: string
]

export const addressOf = ({ aggregateId, domain, tenantId }: StreamId): Array<unknown> => [
  tenantId,
  domain,
  aggregateId
]

/** The parameters of a save: address and columns. */
export const toRow = (snapshot: EncodedSnapshot): Array<unknown> => [
  ...addressOf(snapshot),
  snapshot.version,
  snapshot.lastEventMark,
  snapshot.schemaVersion,
  snapshot.keyId,
  snapshot.checksum,
  snapshot.createdAt,
  snapshot.state
]

export const fromRow = (row: Row, { aggregateId, domain, tenantId }: StreamId): EncodedSnapshot => ({
  tenantId,
  domain,
  aggregateId,
  version: row[0],
  lastEventMark: row[1],
  schemaVersion: row[2],
  keyId: row[3],
  checksum: row[4],
  createdAt: row[5],
  state: row[6]
})

export type AddressRow = readonly [tenantId: string, domain: string, aggregateId: string, keyId: string | null]

export const addressFrom = ([tenantId, domain, aggregateId, keyId]: AddressRow): EncodedAddress => ({
  tenantId,
  domain,
  aggregateId,
  keyId
})

/** Less than every address: no part of one is empty. */
export const firstAddress: StreamId = { tenantId: "", domain: "", aggregateId: "" }

/**
 * Without a bound, every row must be found, even one whose version was corrupted beyond any number: a row that nobody
 * sees would keep newer snapshots out, and nobody would delete it.
 */
export const versionBound = (atMost: number): string =>
  atMost === Number.MAX_SAFE_INTEGER ? "9223372036854775807" : String(atMost)
