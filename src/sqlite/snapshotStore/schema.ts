/**
 * The SnapshotStore's table in SQLite.
 */
import type { StoreSchema } from "../database/migrations.js"

/**
 * Not WITHOUT ROWID, which keeps whole rows inside the tree of the key: states may be large. The state stands last, so
 * that the version is read without the pages that a large state overflows to.
 */
export const storeSchema: StoreSchema = {
  store: "SnapshotStore",
  table: "snapshots",
  migrations: [
    {
      id: 1,
      name: "snapshots",
      sql: ({ qualified }) => `CREATE TABLE ${qualified("snapshots")} (
  tenant_id       TEXT NOT NULL,
  domain          TEXT NOT NULL,
  aggregate_id    TEXT NOT NULL,
  version         INTEGER NOT NULL,
  last_event_mark TEXT NOT NULL,
  schema_version  TEXT NOT NULL,
  key_id          TEXT,
  checksum        TEXT NOT NULL,
  created_ms      INTEGER NOT NULL,
  state           TEXT NOT NULL,
  PRIMARY KEY (tenant_id, domain, aggregate_id)
) STRICT;
`
    }
  ]
}
