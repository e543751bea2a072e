/**
 * The EventStore on PostgreSQL beside bare `pg`: with the library's own statements ("same SQL": what the library costs
 * on top), and with the leanest function that still checks versions and takes the epoch lock ("reference": what its
 * table and function cost too). The reference has fewer columns, no metadata and no idempotency.
 */
import { Layer, ManagedRuntime, Redacted } from "effect"
import { EventStoreEncoded } from "effect-stores"
import { EventStorePg } from "effect-stores/pg"
import type Pg from "pg"
// The statements are no part of the package's surface; their texts come from where they stand, not from a copy.
import { checkedNames } from "../../src/pg/database/names.js"
import { outcomeAppended } from "../../src/pg/eventStore/functions.js"
import * as statements from "../../src/pg/eventStore/statements.js"
import { walk } from "../../src/sql/eventLookups.js"
import { barePg, type Disk, waiting } from "../drivers.js"
import type { Part } from "../parts.js"
import {
  barsOfDriver,
  data,
  domain,
  metadata,
  newId,
  type Raw,
  rawDomain,
  standard,
  tenantId,
  type,
  workloads
} from "./workloads.js"

export const maxOpenConns = 25

/** With as many connections as the other sides have. */
export const ours = (url: string) =>
  ManagedRuntime.make(
    EventStorePg.layer({ url: Redacted.make(url), pool: { maxOpenConns, maxIdleConns: maxOpenConns } }).pipe(
      Layer.orDie
    )
  )

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

const times = <A>(n: number, make: (i: number) => A): Array<A> => Array.from({ length: n }, (_, i) => make(i))

/** The number that a query answers. */
export const numberOf = async (pool: Pg.Pool, text: string, values: Array<unknown> = []): Promise<number> =>
  Number((await pool.query<{ n: string }>(text, values)).rows[0]?.n)

/** Bare `pg` with the library's statements on the library's tables, one append per statement. */
export const sameSql = (pool: Pg.Pool): Raw => {
  const sql = statements.make(checkedNames({}))
  const run = async ({ name, text, values }: Query): Promise<Array<Row>> => {
    const result = await pool.query({ name, text, values, rowMode: "array", types } as Pg.QueryArrayConfig)
    return result.rows as Array<Row>
  }
  const parseRows = (rows: Array<Row>): void => {
    for (const row of rows) {
      row[4] = JSON.parse(row[4] as string)
      row[5] = JSON.parse(row[5] as string)
    }
  }
  const encodedEvent = (i: number) => ({
    id: newId(),
    type,
    data: JSON.stringify(data(i)),
    metadata: JSON.stringify(metadata()),
    keyId: null,
    commandId: null,
    instanceId: null,
    createdAt: Date.now()
  })

  return {
    name: "same SQL, bare pg",
    sharesTables: true,
    bars: barsOfDriver(3),
    stored: () => numberOf(pool, "select count(*) as n from es_events where domain = $1", [rawDomain]),
    append: async (aggregateId, n, after) => {
      const append = {
        stream: { tenantId, domain: rawDomain, aggregateId },
        expected: after,
        events: times(n, encodedEvent)
      }
      const rows = await run(sql.append({ appends: [append], guards: [] }))
      if (rows[0]?.[0] !== outcomeAppended) throw new Error(`not appended: ${rows[0]}`)
    },
    // As one page: what a program without a stream would do.
    read: async (aggregateId) => {
      const stream = { tenantId, domain, aggregateId }
      const rows = await run(
        sql.readStream({
          ...forward,
          stream,
          fromVersion: 1,
          toVersion: unbounded,
          limit: unbounded,
          maxBytes: unbounded
        })
      )
      parseRows(rows)
      return rows.length
    },
    feed: async (limit) => {
      let after = 0
      let count = 0
      while (count < limit) {
        const rows = await run(
          sql.readFeed(
            {
              ...forward,
              after,
              through: unbounded,
              filter: EventStoreEncoded.anyEvent,
              limit: 1_000,
              maxBytes: unbounded
            },
            walk
          )
        )
        if (rows.length === 0) break
        parseRows(rows)
        after = rows[rows.length - 1]?.[0] as number
        count += rows.length
      }
      return count
    }
  }
}

const reference = (pool: Pg.Pool): Raw => ({
  name: "reference, bare pg",
  sharesTables: false,
  bars: {},
  stored: () => numberOf(pool, "select count(*) as n from reference.events"),
  append: async (aggregateId, n, after) => {
    const { rows } = await pool.query<{ version: number }>({
      name: "reference",
      text: "select reference.append($1, $2, $3, $4, $5) as version",
      values: [aggregateId, after, times(n, newId), times(n, () => type), times(n, (i) => JSON.stringify(data(i)))]
    })
    if (rows[0]?.version !== after + n) throw new Error(`not appended: ${rows[0]?.version}`)
  },
  read: async (aggregateId) => {
    const { rows } = await pool.query({
      name: "reference-read",
      text: `select position, id, version, type, data, at from reference.events
             where stream = $1 and version > $2 order by version`,
      values: [aggregateId, 0]
    })
    return rows.length
  }
})

export const pg = async ({ settings }: Disk = waiting): Promise<Part> => {
  const { close, facts, pool, url } = await barePg(maxOpenConns, settings)
  await pool.query(referenceSql)
  const runtime = ours(url)
  const options = {
    takesTurns: false,
    // Without statistics the planner takes a table that has just grown for a small one, on all sides.
    afterSeed: () => pool.query("analyze")
  }
  return {
    title: "Pg",
    facts,
    workloads: standard(await workloads(runtime, [sameSql(pool), reference(pool)], options), [1, 8, 32, 128]),
    close: async () => {
      await runtime.dispose()
      await close()
    }
  }
}

type Row = Array<unknown>

interface Query {
  readonly name?: string
  readonly text: string
  readonly values?: Array<unknown>
}

const forward = { direction: "forward" } as const
const unbounded = Number.MAX_SAFE_INTEGER
