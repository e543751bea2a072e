/**
 * The tables of the stores in SQLite, for each store a list of versions. How a database is brought up to them is in
 * `migrations.ts`.
 */
import type { StoreSchema } from "./migrations.js"

/**
 * No table of streams: a stream's version is a seek to the end of the unique index, cheaper than a row to keep.
 * AUTOINCREMENT, because positions must not be used again when the newest events are deleted.
 */
export const eventStore: StoreSchema = {
  store: "EventStore",
  migrations: [
    {
      id: 1,
      name: "events",
      sql: (prefix) => `CREATE TABLE ${prefix}events (
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

CREATE INDEX ${prefix}events_command ON ${prefix}events (command_id) WHERE command_id IS NOT NULL;
`
    }
  ]
}

/**
 * Not WITHOUT ROWID, which keeps whole rows inside the tree of the key: states may be large. The state stands last, so
 * that the version is read without the pages that a large state overflows to.
 */
export const snapshotStore: StoreSchema = {
  store: "SnapshotStore",
  migrations: [
    {
      id: 1,
      name: "snapshots",
      sql: (prefix) => `CREATE TABLE ${prefix}snapshots (
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

/**
 * AUTOINCREMENT, because positions must not be used again when the newest commands are deleted. Only the
 * time has an index beside position and id, so that what is pruned is found without reading what is kept.
 */
export const commandStore: StoreSchema = {
  store: "CommandStore",
  migrations: [
    {
      id: 1,
      name: "commands",
      sql: (prefix) => `CREATE TABLE ${prefix}commands (
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

CREATE INDEX ${prefix}commands_created ON ${prefix}commands (created_ms);
`
    }
  ]
}
