/**
 * The CommandStore's table in SQLite.
 */
import { dueMs } from "../../sql/commandRows.js"
import type { StoreSchema } from "../database/migrations.js"

/**
 * AUTOINCREMENT, because positions must not be used again when the newest commands are deleted. The time has an
 * index, so that pruning does not read the commands that stay; the one for workers has the received commands alone.
 * `changed` is 1 or null.
 */
export const storeSchema: StoreSchema = {
  store: "CommandStore",
  table: "commands",
  migrations: [
    {
      id: 1,
      name: "commands",
      sql: ({ qualified }) => `CREATE TABLE ${qualified("commands")} (
  position       INTEGER PRIMARY KEY AUTOINCREMENT,
  id             TEXT NOT NULL UNIQUE,
  tenant_id      TEXT NOT NULL,
  domain         TEXT NOT NULL,
  type           TEXT NOT NULL,
  data           TEXT NOT NULL,
  metadata       TEXT NOT NULL,
  key_id         TEXT,
  instance_id    TEXT,
  created_ms     INTEGER NOT NULL,
  status         TEXT NOT NULL,
  attempts       INTEGER NOT NULL,
  lease_end_ms   INTEGER NOT NULL,
  finished_ms    INTEGER,
  outcome_key_id TEXT,
  outcome        TEXT
) STRICT;

CREATE INDEX ${qualified("commands_created")} ON ${qualified("commands")} (created_ms);
`
    },
    {
      id: 2,
      name: "attempt tokens",
      sql: ({ qualified }) => `ALTER TABLE ${qualified("commands")} ADD COLUMN token TEXT;
ALTER TABLE ${qualified("commands")} ADD COLUMN changed INTEGER;
`
    },
    {
      id: 3,
      name: "due commands",
      sql: ({ qualified }) => `ALTER TABLE ${qualified("commands")} ADD COLUMN due_ms INTEGER;

CREATE INDEX ${qualified("commands_due")} ON ${qualified("commands")} (${dueMs}, position)
  WHERE status = 'received';
`
    }
  ]
}
