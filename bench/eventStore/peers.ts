/**
 * The EventStore beside those of other libraries: emmett on both databases, dcb-es on PostgreSQL. All sides of a database
 * use the same server with pools of one size, or files in one folder. The bare driver is there too, as a measure for all.
 *
 * They promise less: emmett has no idempotent appends and no order over all streams that follows commits on SQLite,
 * dcb-es appends under a condition on tags instead of to a stream.
 */
import { join } from "node:path"
import type Pg from "pg"
import { barePg, bareSqlite } from "../drivers.js"
import type { Workload } from "../harness.js"
import { areInstalled, load, versionsOf } from "../installed.js"
import { chosenBy, type Part, usage as partsUsage } from "../parts.js"
import { draw } from "./appends.js"
import { maxOpenConns, numberOf, ours as oursOnPg, sameSql } from "./pg.js"
import { bare, ours as oursOnSqlite } from "./sqlite.js"
import { type Bars, data, metadata, newId, type Raw, type, type Workloads, workloads } from "./workloads.js"

export const usage = `peers [--what pg,sqlite] ${partsUsage}`

interface EmmettStore {
  readonly schema: { readonly migrate: () => Promise<unknown> }
  readonly appendToStream: (name: string, events: ReadonlyArray<object>, options: object) => Promise<unknown>
  readonly readStream: (name: string) => Promise<{ readonly events: ReadonlyArray<unknown> }>
}

const streamName = (aggregateId: string) => `order-${aggregateId}`

/** `inTurn` is for a store that fails under concurrent calls. */
const emmettSide = (
  store: EmmettStore,
  bars: Bars,
  stored: () => Promise<number>,
  inTurn: <A>(call: () => Promise<A>) => Promise<A>
): Raw => ({
  name: "emmett",
  sharesTables: false,
  bars,
  stored,
  append: (aggregateId, n, after) => {
    const events = Array.from({ length: n }, (_, i) => ({ type, data: data(i), metadata: metadata() }))
    const expectedStreamVersion = after === 0 ? "STREAM_DOES_NOT_EXIST" : BigInt(after)
    return inTurn(() => store.appendToStream(streamName(aggregateId), events, { expectedStreamVersion }))
  },
  read: async (aggregateId) => (await inTurn(() => store.readStream(streamName(aggregateId)))).events.length
})

const barsOfEmmettOnPg: Bars = {
  append: (_, callers) => ({ 1: 1.5, 32: 4, 128: 6 })[callers],
  fold: () => 1.5
}

const emmettOnPg = async (url: string, pool: Pg.Pool): Promise<Raw> => {
  const { getPostgreSQLEventStore } = await load<{
    readonly getPostgreSQLEventStore: (url: string, options: object) => EmmettStore
  }>("@event-driven-io/emmett-postgresql")
  const store = getPostgreSQLEventStore(url, { connectionOptions: { pool } })
  await store.schema.migrate()
  const stored = () => numberOf(pool, "select count(*) as n from emt_messages")
  return emmettSide(store, barsOfEmmettOnPg, stored, (call) => call())
}

interface SqliteConnection {
  readonly querySingle: <A>(sql: string) => Promise<A>
  readonly close: () => void
}

/**
 * On one connection, one call after the other: by itself it opens a connection for each call, and where calls overlap,
 * most fail because the database is locked.
 */
const emmettOnSqlite = async (fileName: string): Promise<{ readonly side: Raw; readonly close: () => void }> => {
  const { getSQLiteEventStore, sqliteConnection } = await load<{
    readonly getSQLiteEventStore: (options: object) => EmmettStore
    readonly sqliteConnection: (options: object) => SqliteConnection
  }>("@event-driven-io/emmett-sqlite")
  const connection = sqliteConnection({ fileName })
  const store = getSQLiteEventStore({ fileName, connectionOptions: { singleton: true, connection } })
  await store.schema.migrate()
  let last: Promise<unknown> = Promise.resolve()
  const inTurn = <A>(call: () => Promise<A>): Promise<A> => {
    const done = last.then(call)
    last = done.catch(() => {})
    return done
  }
  const stored = async () =>
    (await inTurn(() => connection.querySingle<{ n: number }>("SELECT count(*) AS n FROM emt_messages"))).n
  return { side: emmettSide(store, {}, stored, inTurn), close: connection.close }
}

interface Dcb {
  readonly Tags: { readonly fromObj: (tags: object) => unknown }
  readonly Query: { readonly fromItems: (items: ReadonlyArray<object>) => unknown }
}

interface DcbStore {
  readonly ensureInstalled: () => Promise<void>
  readonly append: (command: object) => Promise<unknown>
  readonly read: (query: unknown) => AsyncIterable<unknown>
}

/** A stream is a tag: its events are appended if there are none yet. */
const dcb = async (pool: Pg.Pool): Promise<Raw> => {
  const { Query, Tags } = await load<Dcb>("@dcb-es/event-store")
  const { PostgresEventStore } = await load<{ readonly PostgresEventStore: new (options: object) => DcbStore }>(
    "@dcb-es/event-store-postgres"
  )
  const store = new PostgresEventStore({ pool, tablePrefix: "dcb" })
  await store.ensureInstalled()
  const of = (tags: unknown) => Query.fromItems([{ types: [type], tags }])
  return {
    name: "dcb-es",
    sharesTables: false,
    bars: {},
    stored: () => numberOf(pool, "select count(*) as n from dcb_events"),
    append: (aggregateId, n, after) => {
      const tags = Tags.fromObj({ order: aggregateId })
      const events = Array.from({ length: n }, (_, i) => ({
        type,
        tags,
        data: data(i),
        metadata: { ...metadata(), id: newId() }
      }))
      return store.append(after === 0 ? { events, condition: { failIfEventsMatch: of(tags) } } : { events })
    },
    read: async (aggregateId) => {
      let count = 0
      for await (const _ of store.read(of(Tags.fromObj({ order: aggregateId })))) count++
      return count
    }
  }
}

const measured = ({ appendToNew, fold }: Workloads): ReadonlyArray<Workload> => [
  ...[1, 8, 32, 128].map((callers) => appendToNew(1, callers)),
  fold(10_000)
]

const mustBeInstalled = () => {
  if (!areInstalled()) throw new Error("there is nothing to measure beside: npm run bench:install")
}

const onPg = async (): Promise<Part> => {
  mustBeInstalled()
  const { close, facts, pool, url } = await barePg(maxOpenConns)
  const runtime = oursOnPg(url)
  // Of its own driver, which it teaches to read numbers in its way.
  const { Pool } = await load<typeof Pg>("pg")
  const theirs = new Pool({ connectionString: url, max: maxOpenConns, idleTimeoutMillis: 5 * 60_000 })
  const sides = [{ ...sameSql(pool), bars: {} }, await emmettOnPg(url, theirs), await dcb(pool)]
  return {
    title: "Pg",
    facts: { ...facts, ...versionsOf("@event-driven-io/emmett-postgresql", "@dcb-es/event-store-postgres") },
    workloads: measured(await workloads(runtime, sides, { takesTurns: false, afterSeed: () => pool.query("analyze") })),
    close: async () => {
      await runtime.dispose()
      await theirs.end()
      await close()
    }
  }
}

const onSqlite = async (): Promise<Part> => {
  mustBeInstalled()
  const { close, db, directory, facts, filename } = bareSqlite("FULL")
  const runtime = oursOnSqlite(filename, "FULL")
  const emmett = await emmettOnSqlite(join(directory, "emmett.db"))
  return {
    title: "Sqlite",
    facts: { ...facts, ...versionsOf("@event-driven-io/emmett-sqlite") },
    workloads: measured(await workloads(runtime, [{ ...bare(db), bars: {} }, emmett.side], { takesTurns: true })),
    close: async () => {
      await runtime.dispose()
      emmett.close()
      await close()
    }
  }
}

export const prepare = chosenBy(
  "peers",
  { pg: onPg, sqlite: onSqlite },
  { isQuick: ({ concurrency }) => concurrency !== 8, draw }
)
