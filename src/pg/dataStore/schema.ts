/**
 * The DataStore's tables in PostgreSQL.
 */
import { chunkBytes } from "../../dataStore/DataStoreEncoded.js"
import type { StoreSchema } from "../database/schema/migrations.js"

/**
 * Bytes are stored outside of their rows, uncompressed: a quarter of a megabyte of a picture or an archive only costs
 * time to compress. Names are in order of bytes. What is replaced or deleted gives its rows to whoever tidies up, by a
 * trigger, so that no statement can forget it.
 */
export const storeSchema: StoreSchema = {
  store: "DataStore",
  table: "objects",
  migrations: [
    {
      id: 1,
      name: "objects",
      sql: (n) =>
        `
create table ${n.qualified("buckets")} (
  name       text collate "C" primary key,
  created_ms bigint not null
);

create table ${n.qualified("objects")} (
  bucket       text collate "C" not null references ${n.qualified("buckets")} (name),
  name         text collate "C" not null,
  write_id     text not null,
  size         bigint not null,
  content_type text not null,
  metadata     text not null,
  key_id       text,
  checksums    text,
  modified_ms  bigint not null,
  constraint ${n.bare("objects_pkey")} primary key (bucket, name)
);

create table ${n.qualified("object_rows")} (
  write_id text not null,
  n        int not null,
  bytes    bytea not null,
  constraint ${n.bare("object_rows_pkey")} primary key (write_id, n)
);
alter table ${n.qualified("object_rows")} alter column bytes set storage external;

create table ${n.qualified("object_uploads")} (
  write_id   text not null,
  touched_ms bigint not null,
  constraint ${n.bare("object_uploads_pkey")} primary key (write_id)
);

create function ${n.qualified("discard_object")}() returns trigger language plpgsql as $$
begin
  if tg_op = 'DELETE' or new.write_id <> old.write_id then
    if old.size <= ${chunkBytes} then
      delete from ${n.qualified("object_rows")} where write_id = old.write_id;
    else
      insert into ${n.qualified("object_uploads")} values (old.write_id, 0);
    end if;
  end if;
  return null;
end $$;

create trigger ${n.bare("objects_discarded")} after update or delete on ${n.qualified("objects")}
for each row execute function ${n.qualified("discard_object")}();
`.trim()
    }
  ],
  needs: {
    read: { tables: { buckets: ["select"], objects: ["select"], object_rows: ["select"] } },
    write: {
      tables: {
        buckets: ["insert", "update", "delete"],
        objects: ["insert", "update", "delete"],
        object_rows: ["insert", "delete"],
        object_uploads: ["select", "insert", "update", "delete"]
      }
    }
  }
}
