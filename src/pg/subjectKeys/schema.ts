/**
 * The table of subjects' keys in PostgreSQL.
 */
import type { StoreSchema } from "../database/schema/migrations.js"

export const storeSchema: StoreSchema = {
  store: "SubjectKeys",
  table: "subject_keys",
  migrations: [
    {
      id: 1,
      name: "subject keys",
      sql: (n) =>
        `
create table ${n.qualified("subject_keys")} (
  ref         text collate "C" not null,
  key_id      text collate "C",
  wrapped     text,
  wrapped_by  text collate "C",
  created_ms  bigint not null,
  shredded_ms bigint,
  constraint ${n.bare("subject_keys_pkey")} primary key (ref),
  constraint ${n.bare("subject_keys_key_id")} unique (key_id),
  constraint ${n.bare("subject_keys_whole")} check ((wrapped is null) = (shredded_ms is not null))
);
`.trim()
    }
  ],
  needs: {
    read: { tables: { subject_keys: ["select"], notes: ["select"] } },
    write: { tables: { subject_keys: ["insert", "update"], notes: ["insert", "update"] } }
  }
}
