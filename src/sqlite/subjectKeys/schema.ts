/**
 * The table of subjects' keys in SQLite.
 */
import type { StoreSchema } from "../database/migrations.js"

export const storeSchema: StoreSchema = {
  store: "SubjectKeys",
  table: "subject_keys",
  migrations: [
    {
      id: 1,
      name: "subject keys",
      sql: ({ qualified }) => `CREATE TABLE ${qualified("subject_keys")} (
  ref         TEXT NOT NULL PRIMARY KEY,
  key_id      TEXT UNIQUE,
  wrapped     TEXT,
  wrapped_by  TEXT,
  created_ms  INTEGER NOT NULL,
  shredded_ms INTEGER,
  CHECK ((wrapped IS NULL) = (shredded_ms IS NOT NULL))
) STRICT;
`
    }
  ]
}
