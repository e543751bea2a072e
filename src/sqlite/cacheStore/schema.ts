/**
 * The CacheStore's tables in SQLite.
 */
import { ever } from "../../sql/cacheRows.js"
import type { StoreSchema } from "../database/migrations.js"

/** A row without a value is the ticket of a load. `end_ms` is when neither entry nor ticket is needed any more. */
export const storeSchema: StoreSchema = {
  store: "CacheStore",
  table: "cache_entries",
  migrations: [
    {
      id: 1,
      name: "cache",
      sql: ({ qualified }) => `CREATE TABLE ${qualified("cache_entries")} (
  tenant_id TEXT NOT NULL,
  key       TEXT NOT NULL,
  token     TEXT,
  lease_ms  INTEGER NOT NULL,
  marks     TEXT,
  fresh_ms  INTEGER NOT NULL,
  kept_ms   INTEGER NOT NULL,
  grace_ms  INTEGER NOT NULL,
  end_ms    INTEGER NOT NULL,
  tags      TEXT,
  key_id    TEXT,
  value     TEXT,
  PRIMARY KEY (tenant_id, key)
) STRICT;

CREATE INDEX ${qualified("cache_entries_end")} ON ${qualified("cache_entries")} (end_ms) WHERE end_ms < ${ever};

CREATE TABLE ${qualified("cache_tags")} (
  tenant_id  TEXT NOT NULL,
  tag        TEXT NOT NULL,
  generation TEXT NOT NULL,
  expiries   INTEGER NOT NULL,
  expired_ms INTEGER NOT NULL,
  kept_ms    INTEGER NOT NULL,
  PRIMARY KEY (tenant_id, tag)
) STRICT;

CREATE INDEX ${qualified("cache_tags_kept")} ON ${qualified("cache_tags")} (kept_ms) WHERE kept_ms < ${ever};
`
    }
  ]
}
