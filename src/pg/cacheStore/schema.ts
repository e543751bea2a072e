/**
 * The CacheStore's tables in PostgreSQL, and the one function that its statements share.
 */
import { ever } from "../../sql/cacheRows.js"
import type { StoreSchema } from "../database/schema/migrations.js"

/**
 * Unlogged would be faster, and is not used: a crash of the server would then empty the cache of all processes at the
 * moment in which the database has the most to do. A row without a value is the ticket of a load. `end_ms` is when
 * neither entry nor ticket is needed any more.
 */
export const storeSchema: StoreSchema = {
  store: "CacheStore",
  table: "cache_entries",
  migrations: [
    {
      id: 1,
      name: "cache",
      sql: (n) => {
        const entries = n.qualified("cache_entries")
        const tags = n.qualified("cache_tags")
        return `
create table ${entries} (
  tenant_id text collate "C" not null,
  key       text collate "C" not null,
  token     text,
  lease_ms  bigint not null,
  marks     text,
  fresh_ms  bigint not null,
  kept_ms   bigint not null,
  grace_ms  bigint not null,
  end_ms    bigint not null,
  tags      text,
  key_id    text,
  value     text,
  constraint ${n.bare("cache_entries_pkey")} primary key (tenant_id, key)
) with (fillfactor = 80);

create index ${n.bare("cache_entries_end")} on ${entries} (end_ms) where end_ms < ${ever};

create table ${tags} (
  tenant_id  text collate "C" not null,
  tag        text collate "C" not null,
  generation text not null,
  expiries   bigint not null,
  expired_ms bigint not null,
  kept_ms    bigint not null,
  constraint ${n.bare("cache_tags_pkey")} primary key (tenant_id, tag)
);

create index ${n.bare("cache_tags_kept")} on ${tags} (kept_ms) where kept_ms < ${ever};

-- Until when an entry is fresh and kept by its tags as well: both 0 where a tag has removed it.
create function ${n.qualified("cache_times")}(
  p_tenant text, p_tags text, p_fresh bigint, p_kept bigint, p_grace bigint, out fresh bigint, out kept bigint
) language plpgsql stable as $$
declare
  removed boolean;
  expired bigint;
begin
  fresh := p_fresh;
  kept := p_kept;
  if p_tags is null then return; end if;
  select
    bool_or(t.generation is distinct from m.generation),
    min(case when t.expiries is distinct from m.expiries then coalesce(t.expired_ms, 0) end)
  into removed, expired
  from json_to_recordset(p_tags::json) m (name text, generation text, expiries bigint)
  left join ${tags} t on t.tenant_id = p_tenant and t.tag = m.name;
  if removed then
    fresh := 0;
    kept := 0;
  elsif expired is not null then
    fresh := 0;
    kept := least(kept, case when p_grace >= ${ever} then ${ever} else expired + p_grace end);
  end if;
end $$;
`.trim()
      }
    }
  ],
  needs: {
    read: { tables: { cache_entries: ["select"], cache_tags: ["select"] }, functions: ["cache_times"] },
    write: { tables: { cache_entries: ["insert", "update", "delete"], cache_tags: ["insert", "update", "delete"] } }
  }
}
