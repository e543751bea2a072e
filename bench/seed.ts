/**
 * Fills the event table of a store with many events, by SQL: appending millions of them would take hours. The table
 * must be empty. What is in it follows from the numbers given, so a bench can name any stream, version and id.
 */
import type Database from "better-sqlite3"
import type { EventStore } from "effect-stores"
import type Pg from "pg"

export interface Seed {
  /** All of them, including the rare ones. */
  readonly events: number
  /**
   * Streams whose events alternate: the first has the events 1, 1 + `streams`, 1 + 2 `streams` and so on, without the
   * rare ones.
   */
  readonly streams: number
  /**
   * Events that are spread evenly over all others, each the only one of its stream, with a type, a domain, a tenant and
   * a command of their own, called `rare`. Default 0.
   */
  readonly rare?: number
  /** Bytes of each payload. Default 200. */
  readonly bytes?: number
}

/** Of 90 % of the events. The others have the types `Type1` to `Type9`. */
export const commonType = "Common"
/** Streams alternate between the tenants `tenant0` to `tenant9`, and of each tenant between the domains `domain0` to 4. */
const tenants = 10
const domains = 5
export const rare = "rare"

/** When the first event was created; each further one a millisecond later. */
export const startMs = 1_700_000_000_000

const spread = 2_654_435_761
const range = 4_294_967_296

const aggregateId = (stream: number): string =>
  Number((BigInt(stream) * BigInt(spread)) % BigInt(range))
    .toString(16)
    .padStart(8, "0")

/** The address of a stream, from 0, and how many events it has. Addresses that follow each other are far apart. */
export const streamOf = (
  { events, rare = 0, streams }: Seed,
  stream: number
): { readonly id: EventStore.StreamId; readonly version: number } => ({
  id: {
    tenantId: `tenant${stream % tenants}`,
    domain: `domain${Math.floor(stream / tenants) % domains}`,
    aggregateId: aggregateId(stream)
  },
  version: Math.ceil((events - rare - stream) / streams)
})

/** The id of the event at a position. */
export const idOf = (position: number): string => {
  const time = (startMs + position).toString(16).padStart(12, "0")
  return `${time.slice(0, 8)}-${time.slice(8)}-7000-8000-${position.toString(16).padStart(12, "0")}`
}

const columns = "position, id, tenant_id, domain, aggregate_id, version, type, data, metadata, command_id, created_ms"

interface Dialect {
  /** Yields `n`. */
  readonly numbers: (from: number, to: number) => string
  readonly hex: (value: string, digits: number) => string
  readonly uuid: (text: string) => string
}

const insert = (
  { hex, numbers, uuid }: Dialect,
  from: number,
  to: number,
  { bytes = 200, events, rare: rareEvents = 0, streams }: Seed
): string => {
  const gap = rareEvents === 0 ? events + 1 : Math.floor(events / rareEvents)
  const time = hex(`(${startMs} + n)`, 12)
  const data = `{"text":"${"x".repeat(Math.max(0, bytes - 11))}"}`
  return `
    with numbers as (${numbers(from, to)}),
    ranked as (
      select n, n % ${gap} = 0 and n / ${gap} <= ${rareEvents} as is_rare,
        n - 1 - case when n / ${gap} < ${rareEvents} then n / ${gap} else ${rareEvents} end as m
      from numbers
    ),
    placed as (select n, is_rare, m % ${streams} as s, m / ${streams} + 1 as v from ranked)
    insert into es_events (${columns})
    select
      n,
      ${uuid(`substr(${time}, 1, 8) || '-' || substr(${time}, 9) || '-7000-8000-' || ${hex("n", 12)}`)},
      case when is_rare then '${rare}' else 'tenant' || (s % ${tenants}) end,
      case when is_rare then '${rare}' else 'domain' || (s / ${tenants} % ${domains}) end,
      case when is_rare then '${rare}-' || n else ${hex(`(s * ${spread} % ${range})`, 8)} end,
      case when is_rare then 1 else v end,
      case when is_rare then '${rare}' when n % 10 > 0 then '${commonType}' else 'Type' || (n / 10 % 9 + 1) end,
      '${data}',
      '{}',
      case when is_rare then '${rare}' end,
      ${startMs} + n
    from placed`
}

/** How many one statement inserts. */
const chunk = 500_000

const pgDialect: Dialect = {
  numbers: (from, to) => `select n from generate_series(${from}::bigint, ${to}::bigint) n`,
  hex: (value, digits) => `lpad(to_hex(${value}), ${digits}, '0')`,
  uuid: (text) => `(${text})::uuid`
}

const sqliteDialect: Dialect = {
  numbers: (from, to) =>
    `with recursive r (n) as (select ${from} union all select n + 1 from r where n < ${to}) select n from r`,
  hex: (value, digits) => `printf('%0${digits}x', ${value})`,
  uuid: (text) => text
}

/**
 * Into `es_events`, and analyzes it. The index of streams is built afterwards: an event at a time it would be written all
 * over, again and again.
 */
export const seedPg = async (client: Pg.ClientBase, seed: Seed): Promise<void> => {
  await client.query("set synchronous_commit = off")
  await client.query("set maintenance_work_mem = '1GB'")
  const { rows } = await client.query<{ definition: string }>(
    `select pg_get_constraintdef(oid) as definition from pg_constraint
     where conrelid = 'es_events'::regclass and conname = 'es_events_version'`
  )
  await client.query("alter table es_events drop constraint es_events_version")
  for (let from = 1; from <= seed.events; from += chunk) {
    await client.query(insert(pgDialect, from, Math.min(seed.events, from + chunk - 1), seed))
  }
  await client.query(`alter table es_events add constraint es_events_version ${rows[0]?.definition}`)
  await client.query(`select setval('es_positions', ${seed.events})`)
  await client.query("vacuum analyze es_events")
  await client.query("reset maintenance_work_mem")
  await client.query("reset synchronous_commit")
}

/** Into `es_events`. */
export const seedSqlite = (db: Database.Database, seed: Seed): void => {
  const before = ["synchronous", "cache_size"].map((name) => [name, db.pragma(name, { simple: true })])
  db.pragma("synchronous = OFF")
  // In KiB. Streams that follow each other are far apart in their index.
  db.pragma("cache_size = -1000000")
  for (let from = 1; from <= seed.events; from += chunk) {
    db.exec(insert(sqliteDialect, from, Math.min(seed.events, from + chunk - 1), seed))
    db.pragma("wal_checkpoint(TRUNCATE)")
  }
  for (const [name, value] of before) db.pragma(`${name} = ${value}`)
}
