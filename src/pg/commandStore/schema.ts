/**
 * The CommandStore's table in PostgreSQL.
 */
import { dueMs } from "../../sql/commandRows.js"
import type { StoreSchema } from "../database/schema/migrations.js"
import type { Positions } from "../database/schema/positions.js"

/** Its sequence has the name that the server gives it. */
export const positions: Positions = { table: "commands", sequence: "commands_position_seq" }

/**
 * The time has an index, so that pruning does not read the commands that stay: walking over 300,000 of them took 60 ms.
 * The one for workers has the received commands alone. A lease is in no index, and part of each page is left free, so
 * that the new version of a row whose lease is renewed fits on the same page and no index changes. `changed` is true or
 * null.
 */
export const storeSchema: StoreSchema = {
  store: "CommandStore",
  table: "commands",
  migrations: [
    {
      id: 1,
      name: "commands",
      sql: (n) =>
        `
create table ${n.qualified("commands")} (
  position       bigint generated always as identity,
  id             uuid not null,
  tenant_id      text collate "C" not null,
  domain         text collate "C" not null,
  type           text collate "C" not null,
  data           text not null,
  metadata       text not null,
  key_id         text,
  instance_id    text collate "C",
  created_ms     bigint not null,
  status         text collate "C" not null,
  attempts       int not null,
  lease_end_ms   bigint not null,
  finished_ms    bigint,
  outcome_key_id text,
  outcome        text,
  constraint ${n.bare("commands_pkey")} primary key (position),
  constraint ${n.bare("commands_id_key")} unique (id)
) with (fillfactor = 80);

create index ${n.bare("commands_created")} on ${n.qualified("commands")} (created_ms);
`.trim()
    },
    {
      id: 2,
      name: "attempt tokens",
      sql: (n) => `alter table ${n.qualified("commands")} add column token uuid, add column changed boolean;`
    },
    {
      id: 3,
      name: "due commands",
      sql: (n) =>
        `
alter table ${n.qualified("commands")} add column due_ms bigint;

create index ${n.bare("commands_due")} on ${n.qualified("commands")} (${dueMs}, position)
  where status = 'received';
`.trim()
    }
  ],
  needs: {
    read: { tables: { commands: ["select"] } },
    // An identity column draws for everybody; the privilege is to see whether the sequence is behind.
    write: { tables: { commands: ["insert", "update"] }, sequences: { commands_position_seq: ["select"] } }
  },
  positions
}
