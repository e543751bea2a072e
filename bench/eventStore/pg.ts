/**
 * The EventStore on PostgreSQL beside bare `pg`: with the library's own functions ("same SQL"), and with the leanest
 * function that still checks versions and takes the epoch lock ("reference"): fewer columns, no idempotency.
 */
import { randomUUID } from "node:crypto"
import { Layer, ManagedRuntime, Redacted } from "effect"
import { EventStorePg } from "effect-stores/pg"
import Pg from "pg"
import type { Workload } from "../harness.js"
import { data, domain, type Raw, tenantId, workloads } from "./workloads.js"

const maxOpenConns = 25

// Numbers as numbers, as the library reads them.
const types = {
  getTypeParser: (oid: number) => (oid === 20 || oid === 23 ? Number : (text: string) => text)
} as Pg.CustomTypesConfig

const referenceSql = `
create schema reference;
create table reference.streams (id text primary key, version int not null);
create sequence reference.positions;
create table reference.events (
  position bigint primary key, id uuid not null unique, stream text not null, version int not null,
  type text not null, data jsonb not null, at timestamptz not null default now(), unique (stream, version)
);
create function reference.append(p_stream text, p_expected int, p_ids uuid[], p_types text[], p_data text[])
returns int language plpgsql as $$
declare
  v int;
  n int := array_length(p_ids, 1);
begin
  if p_expected = 0 then
    insert into reference.streams values (p_stream, n) on conflict do nothing returning version into v;
  else
    update reference.streams set version = version + n where id = p_stream and version = p_expected returning version into v;
  end if;
  if v is null then
    return -1;
  end if;
  perform pg_advisory_xact_lock_shared(
    (7::bigint << 48) | (select case when is_called then last_value else 0 end from reference.positions)
  );
  insert into reference.events (position, id, stream, version, type, data)
  select nextval('reference.positions'), u.id, p_stream, v - n + u.o, u.type, u.data::jsonb
  from unnest(p_ids, p_types, p_data) with ordinality u (id, type, data, o);
  return v;
end $$;`

const columns =
  "position, id, version, type, data, metadata, key_id, command_id, instance_id, created_ms, tenant_id, domain, aggregate_id"

export const pg = async (url: string): Promise<{ workloads: ReadonlyArray<Workload>; close: () => Promise<void> }> => {
  const pool = new Pg.Pool({ connectionString: url, max: maxOpenConns })
  await pool.query(referenceSql)
  const runtime = ManagedRuntime.make(
    EventStorePg.layer({ url: Redacted.make(url), pool: { maxOpenConns, maxIdleConns: maxOpenConns } }).pipe(
      Layer.orDie
    )
  )

  const sameSql: Raw = {
    name: "same SQL, bare pg",
    bars: { append: 0.85, read: 0.85 },
    append: (aggregateId, n) =>
      n === 1
        ? pool.query({
            name: "one",
            text: "select * from public.es_append($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
            rowMode: "array",
            types,
            values: [
              tenantId,
              domain,
              aggregateId,
              0,
              randomUUID(),
              "OrderPlaced",
              JSON.stringify(data(0)),
              "{}",
              null,
              null,
              null,
              Date.now()
            ]
          } as Pg.QueryConfig)
        : pool.query({
            name: "all",
            text: "select * from public.es_append_all($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)",
            rowMode: "array",
            types,
            values: [
              [tenantId],
              [domain],
              [aggregateId],
              [0],
              [n],
              Array.from({ length: n }, () => randomUUID()),
              Array.from({ length: n }, () => "OrderPlaced"),
              Array.from({ length: n }, (_, i) => JSON.stringify(data(i))),
              Array.from({ length: n }, () => "{}"),
              Array.from({ length: n }, () => null),
              Array.from({ length: n }, () => null),
              Array.from({ length: n }, () => null),
              Array.from({ length: n }, () => Date.now())
            ]
          } as Pg.QueryConfig),
    // As one page: what a program without a stream would do.
    read: async (aggregateId) => {
      const result = await pool.query<Array<string>>({
        name: "read",
        text: `select ${columns} from public.es_events
               where tenant_id = $1 and domain = $2 and aggregate_id = $3 and version > $4 order by version`,
        rowMode: "array",
        types,
        values: [tenantId, domain, aggregateId, 0]
      } as Pg.QueryArrayConfig)
      return result.rows.map((row) => ({ data: JSON.parse(row[4] as string), metadata: JSON.parse(row[5] as string) }))
        .length
    },
    feed: async (limit) => {
      let after = 0
      let count = 0
      while (count < limit) {
        const result = await pool.query<Array<string>>({
          name: "feed",
          text: `select ${columns} from public.es_events where position > $1 order by position limit 1000`,
          rowMode: "array",
          types,
          values: [after]
        } as Pg.QueryArrayConfig)
        for (const row of result.rows) {
          JSON.parse(row[4] as string)
          JSON.parse(row[5] as string)
          after = Number(row[0])
        }
        count += result.rows.length
      }
      return count
    }
  }

  const reference: Raw = {
    name: "reference, bare pg",
    bars: { append: 0.85, read: 0.85 },
    append: (aggregateId, n) =>
      pool.query({
        name: "reference",
        text: "select reference.append($1, $2, $3, $4, $5)",
        values: [
          aggregateId,
          0,
          Array.from({ length: n }, () => randomUUID()),
          Array.from({ length: n }, () => "OrderPlaced"),
          Array.from({ length: n }, (_, i) => JSON.stringify(data(i)))
        ]
      }),
    read: async (aggregateId) => {
      const result = await pool.query({
        name: "reference-read",
        text: `select position, id, version, type, data, at from reference.events
               where stream = $1 and version > $2 order by version`,
        values: [aggregateId, 0]
      })
      return result.rows.length
    }
  }

  const list = await workloads(runtime, [sameSql, reference])
  await pool.query("analyze")
  return {
    workloads: list,
    close: async () => {
      await runtime.dispose()
      await pool.end()
    }
  }
}
