/**
 * The CheckpointStore's tables in PostgreSQL.
 */
import { place } from "../../sql/checkpointRows.js"
import type { StoreSchema } from "../database/schema/migrations.js"

/**
 * Checkpoints are few and are written for every batch: with half of each page free, the new row fits on the page of the
 * old one, and the index does not change.
 */
export const storeSchema: StoreSchema = {
  store: "CheckpointStore",
  table: "checkpoints",
  migrations: [
    {
      id: 1,
      name: "checkpoints",
      sql: (n) =>
        `
create table ${n.qualified("checkpoints")} (
  name         text collate "C" not null,
  generation   int not null,
  partition    int not null,
  partitions   int not null,
  position     bigint not null default 0,
  owner        text collate "C",
  token        bigint not null default 0,
  lease_end_ms bigint not null default 0,
  constraint ${n.bare("checkpoints_pkey")} primary key (${place})
) with (fillfactor = 50);

create table ${n.qualified("dead_letters")} (
  name         text collate "C" not null,
  generation   int not null,
  position     bigint not null,
  partition    int not null,
  tenant_id    text collate "C" not null,
  domain       text collate "C" not null,
  aggregate_id text collate "C" not null,
  event_id     uuid not null,
  type         text collate "C" not null,
  reason       text not null,
  scope        text not null,
  constraint ${n.bare("dead_letters_pkey")} primary key (name, generation, position)
);
`.trim()
    }
  ],
  needs: {
    read: { tables: { checkpoints: ["select"], dead_letters: ["select"] } },
    write: {
      tables: { checkpoints: ["insert", "update", "delete"], dead_letters: ["insert", "update", "delete"] }
    }
  }
}
