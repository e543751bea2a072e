/**
 * The SnapshotStore's table and statements on PostgreSQL, each in one place, and the rows they give. All are prepared by
 * name, once per connection.
 */
import type Pg from "pg"
import type { StreamId } from "../../EventStore.js"
import type { EncodedSnapshot } from "../../snapshotStore/SnapshotStoreEncoded.js"
import {
  address,
  addressOf,
  columns,
  fromRow,
  type Row,
  replaceOlder,
  toRow,
  versionBound
} from "../../sql/snapshotRows.js"
import type { Statement } from "../database/access.js"
import type { StoreSchema } from "../database/migrations.js"
import type { Names } from "../database/names.js"

/**
 * A snapshot is overwritten again and again. With a fifth of each page free the new row finds place beside the old one,
 * and the index is left alone: of 8,000 saves over 2,000 states of 1.8 kB 100 % were such, without it 92 %.
 *
 * States are compressed by lz4 where the server has it: for 1 MiB of JSON a save takes 6 ms, against 19 ms by PostgreSQL's
 * own pglz and 6 ms uncompressed, and needs less than half the room of the latter, in the table and in the WAL.
 */
export const storeSchema: StoreSchema = {
  store: "SnapshotStore",
  migrations: (n) => [
    {
      id: 1,
      name: "snapshots",
      sql: `
create table ${n.snapshots} (
  tenant_id       text collate "C" not null,
  domain          text collate "C" not null,
  aggregate_id    text collate "C" not null,
  version         bigint not null,
  last_event_mark uuid not null,
  schema_version  text not null,
  key_id          text,
  checksum        text not null,
  created_ms      bigint not null,
  state           text not null,
  constraint ${n.bare("snapshots_pkey")} primary key (${address})
) with (fillfactor = 80);

do $$ begin
  if exists (select from pg_settings where name = 'default_toast_compression' and 'lz4' = any (enumvals)) then
    execute $sql$alter table ${n.snapshots} alter column state set compression lz4$sql$;
  end if;
end $$;
`.trim()
    }
  ]
}

export const make = (names: Names) => {
  const { snapshots } = names
  // Names are per connection, and stores with other tables may share it.
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
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ${replaceOlder}`,
        toRow(snapshot)
      ),

    latest: (stream: StreamId, atMost: number): Statement<EncodedSnapshot | null> => ({
      name: named("latest"),
      text: `select ${columns} from ${snapshots} where ${ofStream} and version <= $4`,
      values: [...addressOf(stream), versionBound(atMost)],
      rowMode: "array",
      operation: "latest",
      kind: "read",
      onResult: ({ rows }: Pg.QueryResult) => (rows[0] === undefined ? null : fromRow(rows[0] as Row, stream))
    }),

    delete: (stream: StreamId) => change("delete", `delete from ${snapshots} where ${ofStream}`, addressOf(stream)),

    count: {
      name: named("count"),
      text: `select count(*) from ${snapshots}`,
      rowMode: "array",
      operation: "info",
      kind: "read",
      onResult: ({ rows }) => (rows[0] as readonly [number])[0]
    } satisfies Statement<number>,

    // TRUNCATE would lock the table against loads, which would wait, and fail, while a transaction that resets is open.
    reset: {
      text: `delete from ${snapshots}`,
      operation: "reset",
      kind: "write",
      onResult: () => undefined
    } satisfies Statement<void>
  }
}
