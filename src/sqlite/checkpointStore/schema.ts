/**
 * The CheckpointStore's tables in SQLite.
 */
import type { StoreSchema } from "../database/migrations.js"

export const storeSchema: StoreSchema = {
  store: "CheckpointStore",
  table: "checkpoints",
  migrations: [
    {
      id: 1,
      name: "checkpoints",
      sql: ({ qualified }) => `CREATE TABLE ${qualified("checkpoints")} (
  name         TEXT NOT NULL,
  generation   INTEGER NOT NULL,
  partition    INTEGER NOT NULL,
  partitions   INTEGER NOT NULL,
  position     INTEGER NOT NULL DEFAULT 0,
  owner        TEXT,
  token        INTEGER NOT NULL DEFAULT 0,
  lease_end_ms INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (name, generation, partition)
) STRICT, WITHOUT ROWID;

CREATE TABLE ${qualified("dead_letters")} (
  name         TEXT NOT NULL,
  generation   INTEGER NOT NULL,
  position     INTEGER NOT NULL,
  partition    INTEGER NOT NULL,
  tenant_id    TEXT NOT NULL,
  domain       TEXT NOT NULL,
  aggregate_id TEXT NOT NULL,
  event_id     TEXT NOT NULL,
  type         TEXT NOT NULL,
  reason       TEXT NOT NULL,
  scope        TEXT NOT NULL,
  PRIMARY KEY (name, generation, position)
) STRICT, WITHOUT ROWID;
`
    }
  ]
}
