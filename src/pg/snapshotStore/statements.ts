/**
 * The SnapshotStore's statements on PostgreSQL, each in one place, and the rows they return. All are prepared by name,
 * once per connection.
 */
import type Pg from "pg"
import type { StreamId } from "../../EventStore.js"
import { pageSize } from "../../internal/pages.js"
import type { Encoded, EncodedAddress, EncodedSnapshot } from "../../snapshotStore/SnapshotStoreEncoded.js"
import {
  type AddressRow,
  address,
  addressFrom,
  addressOf,
  columns,
  fromRow,
  type Row,
  replaceOlder,
  toRow,
  versionBound
} from "../../sql/snapshotRows.js"
import type { Statement } from "../database/access.js"
import type { Names } from "../database/names.js"

export const make = (names: Names) => {
  const snapshots = names.qualified("snapshots")
  // Names belong to a connection, and stores with other tables may share it.
  const named = (name: string) => `${names.channel}/snapshot_${name}`
  const ofStream = `(${address}) = ($1, $2, $3)`
  const change = (operation: string, text: string, values: Array<unknown>): Statement<boolean> => ({
    name: named(operation),
    text,
    values,
    operation,
    kind: "write",
    onResult: (result) => result.rowCount === 1
  })

  return {
    save: (snapshot: EncodedSnapshot) =>
      change(
        "save",
        `insert into ${snapshots} as stored (${address}, ${columns})
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ${replaceOlder.pg}`,
        toRow(snapshot)
      ),

    latest: (stream: StreamId, atMost: number): Statement<EncodedSnapshot | null, "read"> => ({
      name: named("latest"),
      text: `select ${columns} from ${snapshots} where ${ofStream} and version <= $4`,
      values: [...addressOf(stream), versionBound(atMost)],
      rowMode: "array",
      operation: "latest",
      kind: "read",
      onResult: ({ rows }: Pg.QueryResult) => (rows[0] === undefined ? null : fromRow(rows[0] as Row, stream))
    }),

    replace: ({ checksum, keyId, state, was }: Parameters<Encoded["replace"]>[0]) =>
      change(
        "replace",
        `update ${snapshots} set state = $4, key_id = $5, checksum = $6
         where ${ofStream} and checksum = $7 and state = $8`,
        [...addressOf(was), state, keyId, checksum, was.checksum, was.state]
      ),

    addresses: (after: StreamId): Statement<ReadonlyArray<EncodedAddress>, "read"> => ({
      name: named("addresses"),
      text: `select ${address}, key_id from ${snapshots} where (${address}) > ($1, $2, $3)
             order by ${address} limit ${pageSize}`,
      values: addressOf(after),
      rowMode: "array",
      operation: "addresses",
      kind: "read",
      onResult: ({ rows }: Pg.QueryResult) => (rows as ReadonlyArray<AddressRow>).map(addressFrom)
    }),

    delete: (stream: StreamId) => change("delete", `delete from ${snapshots} where ${ofStream}`, addressOf(stream)),

    count: {
      name: named("count"),
      text: `select count(*) from ${snapshots}`,
      rowMode: "array",
      operation: "info",
      kind: "read",
      onResult: ({ rows }) => (rows[0] as readonly [number])[0]
    } satisfies Statement<number, "read">,

    // TRUNCATE would lock the table against loads: they would wait, and fail, while a transaction that resets is open.
    reset: {
      text: `delete from ${snapshots}`,
      operation: "reset",
      kind: "write",
      onResult: () => undefined
    } satisfies Statement<void>
  }
}
