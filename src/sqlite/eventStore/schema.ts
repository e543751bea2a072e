/**
 * The EventStore's tables in SQLite.
 */
import type { EventIndex } from "../../internal/storeOptions.js"
import type { StoreSchema } from "../database/migrations.js"

/**
 * No table of streams: a stream's version is a seek to the end of the unique index, cheaper than a row to keep.
 * AUTOINCREMENT, because positions must not be used again when the newest events are deleted. `changed` is 1 or null.
 * The second table has a row for each stream of which maintenance has changed an event, so it is hardly ever more than
 * empty.
 */
export const storeSchema: StoreSchema = {
  store: "EventStore",
  table: "events",
  migrations: [
    {
      id: 1,
      name: "events",
      sql: ({ qualified }) => `CREATE TABLE ${qualified("events")} (
  position     INTEGER PRIMARY KEY AUTOINCREMENT,
  id           TEXT NOT NULL UNIQUE,
  tenant_id    TEXT NOT NULL,
  domain       TEXT NOT NULL,
  aggregate_id TEXT NOT NULL,
  version      INTEGER NOT NULL,
  type         TEXT NOT NULL,
  data         TEXT NOT NULL,
  metadata     TEXT NOT NULL,
  key_id       TEXT,
  command_id   TEXT,
  instance_id  TEXT,
  created_ms   INTEGER NOT NULL,
  UNIQUE (tenant_id, domain, aggregate_id, version)
) STRICT;

CREATE INDEX ${qualified("events_command")} ON ${qualified("events")} (command_id) WHERE command_id IS NOT NULL;
`
    },
    {
      id: 2,
      name: "revisions",
      sql: ({ qualified }) => `CREATE TABLE ${qualified("revisions")} (
  tenant_id    TEXT NOT NULL,
  domain       TEXT NOT NULL,
  aggregate_id TEXT NOT NULL,
  revision     TEXT NOT NULL,
  PRIMARY KEY (tenant_id, domain, aggregate_id)
) STRICT, WITHOUT ROWID;
`
    },
    {
      id: 3,
      name: "changed events",
      sql: ({ qualified }) => `ALTER TABLE ${qualified("events")} ADD COLUMN changed INTEGER;
`
    }
  ],
  // The position is a part of every index.
  indexes: {
    type: "(type)",
    domain: "(domain)",
    tenant: "(tenant_id)",
    time: "(created_ms)"
  } satisfies Record<EventIndex, string>
}
