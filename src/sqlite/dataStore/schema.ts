/**
 * The DataStore's tables in SQLite.
 */
import { chunkBytes } from "../../dataStore/DataStoreEncoded.js"
import type { StoreSchema } from "../database/migrations.js"

/**
 * What is replaced or deleted gives its rows to whoever tidies up, by a trigger, so that no statement can forget it:
 * those of a small object go at once, those of a large one would hold up everybody.
 */
export const storeSchema: StoreSchema = {
  store: "DataStore",
  table: "objects",
  migrations: [
    {
      id: 1,
      name: "objects",
      sql: ({ qualified }) => {
        const objects = qualified("objects")
        const discard = `BEGIN
  DELETE FROM ${qualified("object_rows")} WHERE write_id = OLD.write_id AND OLD.size <= ${chunkBytes};
  INSERT INTO ${qualified("object_uploads")} SELECT OLD.write_id, 0 WHERE OLD.size > ${chunkBytes};
END;`
        return `CREATE TABLE ${qualified("buckets")} (
  name       TEXT NOT NULL PRIMARY KEY,
  created_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE ${objects} (
  bucket       TEXT NOT NULL REFERENCES ${qualified("buckets")} (name),
  name         TEXT NOT NULL,
  write_id     TEXT NOT NULL,
  size         INTEGER NOT NULL,
  content_type TEXT NOT NULL,
  metadata     TEXT NOT NULL,
  key_id       TEXT,
  checksums    TEXT,
  modified_ms  INTEGER NOT NULL,
  PRIMARY KEY (bucket, name)
) STRICT;

CREATE TABLE ${qualified("object_rows")} (
  write_id TEXT NOT NULL,
  n        INTEGER NOT NULL,
  bytes    BLOB NOT NULL,
  PRIMARY KEY (write_id, n)
) STRICT;

CREATE TABLE ${qualified("object_uploads")} (
  write_id   TEXT NOT NULL PRIMARY KEY,
  touched_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TRIGGER ${qualified("objects_replaced")} AFTER UPDATE OF write_id ON ${objects} ${discard}

CREATE TRIGGER ${qualified("objects_deleted")} AFTER DELETE ON ${objects} ${discard}
`
      }
    }
  ]
}
