/**
 * What the tests of aggregates share: a definition, the pairs of backends it is loaded from, the way underneath their
 * SnapshotStore, and what a load says and counts.
 */
import * as path from "node:path"
import Sqlite from "better-sqlite3"
import { Context, Effect, FastCheck, Layer, Logger, Metric, Redacted, Runtime, Schema } from "effect"
import { Aggregate, EventStore, SnapshotPolicy, SnapshotStore, SnapshotStoreEncoded, Uuid } from "effect-stores"
import { EventStoreMemory, SnapshotStoreMemory } from "effect-stores/memory"
import { EventStorePg, SnapshotStorePg } from "effect-stores/pg"
import { SnapshotStoreRedis } from "effect-stores/redis"
import { EventStoreSqlite, SnapshotStoreSqlite } from "effect-stores/sqlite"
import { Redis } from "ioredis"
import { Client } from "pg"
import { describe } from "vitest"
import { describePg, describeRedis, freshDatabase, freshKeyPrefix, redisUrl, temporaryDirectory } from "./backends.js"

export const CounterEvent = Schema.Union(
  Schema.TaggedStruct("Added", { amount: Schema.Number }),
  Schema.TaggedStruct("Renamed", { name: Schema.String })
)

export type CounterEvent = typeof CounterEvent.Type

export const CounterState = Schema.Struct({ sum: Schema.Number, name: Schema.String, trail: Schema.String })

export type CounterState = typeof CounterState.Type

/** Which events, how many of each and in which order: two histories that differ have different trails. */
export const trailAfter = (trail: string, event: unknown): string => {
  let hash = 0
  for (const char of trail + JSON.stringify(event)) hash = (Math.imul(hash, 31) + char.charCodeAt(0)) | 0
  return `t${(hash >>> 0).toString(16)}`
}

export const evolveCounter = (state: CounterState, event: CounterEvent): CounterState => ({
  sum: event._tag === "Added" ? state.sum + event.amount : state.sum,
  name: event._tag === "Renamed" ? event.name : state.name,
  trail: trailAfter(state.trail, event)
})

/** Tests that expect a snapshot to be used wait for it, however busy the machine is. */
export const snapshotTimeout = "1 minute"

export const initialCounter: CounterState = { sum: 0, name: "", trail: "" }

export const counter = (
  snapshots: SnapshotPolicy.SnapshotPolicy<CounterState> = SnapshotPolicy.every(100),
  domain = "counter"
) =>
  Aggregate.make({
    domain,
    state: CounterState,
    event: CounterEvent,
    initial: initialCounter,
    evolve: evolveCounter,
    snapshots,
    snapshotTimeout
  })

export const added = (amount: number): CounterEvent => ({ _tag: "Added", amount })

export const freshId = (): Aggregate.Id => ({ tenantId: "tenant", aggregateId: crypto.randomUUID() })

export const streamOf = (aggregate: { readonly domain: string }, id: Aggregate.Id): EventStore.StreamId => ({
  ...id,
  domain: aggregate.domain
})

/** What a snapshot names its last event by. */
export const markOf = ({ createdAt, data, id, metadata, position, type }: EventStore.Event): string =>
  Uuid.derived(id, [position, createdAt.epochMillis, type, JSON.stringify(data), JSON.stringify(metadata)])

/** Every load that reads events leaves a snapshot. */
export const Eager = counter(SnapshotPolicy.every(1))

export const addTo = (aggregate: ReturnType<typeof counter>, id: Aggregate.Id, count: number) =>
  Aggregate.append(
    aggregate,
    id,
    Array.from({ length: count }, (_, i) => added(i)),
    { expected: "any" }
  )

/** The state after so many events of `addTo`, if they came at once. */
export const evolveAll = (count: number): CounterState =>
  Array.from({ length: count }, (_, i) => added(i)).reduce(evolveCounter, initialCounter)

/** What is stored for a snapshot, whether it makes sense or not. */
export type RawSnapshot = Omit<SnapshotStoreEncoded.EncodedSnapshot, keyof EventStore.StreamId>

/** Snapshots underneath their store: what an operator, a disk or a faulty process does to them. */
export class RawSnapshots extends Context.Tag("test/RawSnapshots")<
  RawSnapshots,
  {
    readonly get: (stream: EventStore.StreamId) => Effect.Effect<RawSnapshot | undefined>
    /** Whatever is there, whatever the version. On Redis only where there was one to `get` before. */
    readonly put: (stream: EventStore.StreamId, snapshot: RawSnapshot) => Effect.Effect<void>
    readonly delete: (stream: EventStore.StreamId) => Effect.Effect<void>
  }
>() {}

export type Stores = EventStore.EventStore | SnapshotStore.SnapshotStore | RawSnapshots

export interface Pair {
  readonly name: string
  /** How much a test of this pair costs beside the one in memory: properties run that many times less often. */
  readonly cost: number
  readonly layer: Layer.Layer<Stores, unknown>
  readonly describe: (title: string, define: () => void | Promise<void>) => void
}

const memory = Effect.map(SnapshotStoreMemory.makeEncoded, (encoded) => {
  const latest = (stream: EventStore.StreamId) => Effect.orDie(encoded.latest(stream, Number.POSITIVE_INFINITY))
  const remove = (stream: EventStore.StreamId) => Effect.asVoid(Effect.orDie(encoded.delete(stream)))
  return Layer.mergeAll(
    EventStoreMemory.layer(),
    Layer.scoped(SnapshotStore.SnapshotStore, SnapshotStoreEncoded.make(encoded, { system: "memory" })),
    Layer.succeed(RawSnapshots, {
      get: (stream) =>
        Effect.map(latest(stream), (found) => {
          if (found === null) return undefined
          const { aggregateId: _a, domain: _d, tenantId: _t, ...raw } = found
          return raw
        }),
      put: (stream, raw) =>
        Effect.zipRight(remove(stream), Effect.asVoid(Effect.orDie(encoded.save({ ...stream, ...raw })))),
      delete: remove
    })
  )
})

const columns = "version, last_event_mark, schema_version, key_id, checksum, created_ms, state"

interface Row {
  readonly version: number | string
  readonly last_event_mark: string
  readonly schema_version: string
  readonly key_id: string | null
  readonly checksum: string
  readonly created_ms: number | string
  readonly state: string
}

const fromRow = (row: Row | undefined): RawSnapshot | undefined =>
  row === undefined
    ? undefined
    : {
        version: Number(row.version),
        lastEventMark: row.last_event_mark,
        schemaVersion: row.schema_version,
        keyId: row.key_id,
        checksum: row.checksum,
        createdAt: Number(row.created_ms),
        state: row.state
      }

const addressOf = ({ aggregateId, domain, tenantId }: EventStore.StreamId) => [tenantId, domain, aggregateId]

const valuesOf = (stream: EventStore.StreamId, raw: RawSnapshot) => [
  ...addressOf(stream),
  raw.version,
  raw.lastEventMark,
  raw.schemaVersion,
  raw.keyId,
  raw.checksum,
  raw.createdAt,
  raw.state
]

const rawSqlite = (filename: string) =>
  Layer.scoped(
    RawSnapshots,
    Effect.map(
      Effect.acquireRelease(
        Effect.sync(() => new Sqlite(filename)),
        (db) => Effect.sync(() => db.close())
      ),
      (db) => ({
        get: (stream: EventStore.StreamId) =>
          Effect.sync(() =>
            fromRow(
              db
                .prepare(`SELECT ${columns} FROM es_snapshots WHERE (tenant_id, domain, aggregate_id) = (?, ?, ?)`)
                .get(...addressOf(stream)) as Row | undefined
            )
          ),
        put: (stream: EventStore.StreamId, raw: RawSnapshot) =>
          Effect.sync(() => {
            db.prepare(
              `INSERT OR REPLACE INTO es_snapshots (tenant_id, domain, aggregate_id, ${columns})
               VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`
            ).run(...valuesOf(stream, raw))
          }),
        delete: (stream: EventStore.StreamId) =>
          Effect.sync(() => {
            db.prepare("DELETE FROM es_snapshots WHERE (tenant_id, domain, aggregate_id) = (?, ?, ?)").run(
              ...addressOf(stream)
            )
          })
      })
    )
  )

const rawPg = (connectionString: string) =>
  Layer.scoped(
    RawSnapshots,
    Effect.map(
      Effect.acquireRelease(
        Effect.promise(async () => {
          const client = new Client({ connectionString })
          client.on("error", () => {})
          await client.connect()
          return client
        }),
        (client) => Effect.promise(() => client.end())
      ),
      (client) => {
        const query = (text: string, values: Array<unknown>) => Effect.promise(() => client.query<Row>(text, values))
        const where = "WHERE (tenant_id, domain, aggregate_id) = ($1, $2, $3)"
        return {
          get: (stream: EventStore.StreamId) =>
            Effect.map(query(`SELECT ${columns} FROM es_snapshots ${where}`, addressOf(stream)), ({ rows }) =>
              fromRow(rows[0])
            ),
          put: (stream: EventStore.StreamId, raw: RawSnapshot) =>
            Effect.zipRight(
              query(`DELETE FROM es_snapshots ${where}`, addressOf(stream)),
              Effect.asVoid(
                query(
                  `INSERT INTO es_snapshots (tenant_id, domain, aggregate_id, ${columns})
                   VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`,
                  valuesOf(stream, raw)
                )
              )
            ),
          delete: (stream: EventStore.StreamId) =>
            Effect.asVoid(query(`DELETE FROM es_snapshots ${where}`, addressOf(stream)))
        }
      }
    )
  )

const rawRedis = (url: string, prefix: string) =>
  Layer.scoped(
    RawSnapshots,
    Effect.map(
      Effect.acquireRelease(
        Effect.sync(() => {
          const client = new Redis(url)
          client.on("error", () => {})
          return client
        }),
        (client) => Effect.sync(() => client.disconnect())
      ),
      (client) => {
        const keys = new Map<string, string>()
        /** By looking, since how a key is made of an address is the store's own affair. */
        const keyOf = async ({ aggregateId }: EventStore.StreamId): Promise<string | undefined> => {
          for (let cursor = "0"; !keys.has(aggregateId); ) {
            const [next, found] = await client.scan(cursor, "MATCH", `${prefix}*${aggregateId}*`, "COUNT", 1000)
            if (found[0] !== undefined) keys.set(aggregateId, found[0])
            cursor = next
            if (cursor === "0") break
          }
          return keys.get(aggregateId)
        }
        return {
          get: (stream: EventStore.StreamId) =>
            Effect.promise(async () => {
              const key = await keyOf(stream)
              const hash = key === undefined ? {} : await client.hgetall(key)
              if (hash.state === undefined) return undefined
              return {
                version: Number(hash.version),
                lastEventMark: hash.lastEventMark ?? "",
                schemaVersion: hash.schemaVersion ?? "",
                keyId: hash.keyId || null,
                checksum: hash.checksum ?? "",
                createdAt: Number(hash.createdAt),
                state: hash.state
              }
            }),
          put: (stream: EventStore.StreamId, { keyId, ...raw }: RawSnapshot) =>
            Effect.promise(async () => {
              const key = await keyOf(stream)
              if (key === undefined) throw new Error("no key to write to")
              await client.hset(key, { ...raw, keyId: keyId ?? "" })
            }),
          delete: (stream: EventStore.StreamId) =>
            Effect.promise(async () => {
              const key = await keyOf(stream)
              if (key !== undefined) await client.del(key)
            })
        }
      }
    )
  )

export const pairs: ReadonlyArray<Pair> = [
  {
    name: "memory, memory",
    cost: 1,
    describe,
    layer: Layer.unwrapEffect(memory)
  },
  {
    name: "Sqlite, Sqlite",
    cost: 2,
    describe,
    layer: Layer.suspend(() => {
      const filename = path.join(temporaryDirectory(), "stores.db")
      const stores = SnapshotStoreSqlite.layerFromDatabase().pipe(
        Layer.provideMerge(EventStoreSqlite.layer({ filename, synchronous: "OFF" }))
      )
      return Layer.provideMerge(rawSqlite(filename), stores)
    })
  },
  {
    name: "PostgreSQL, PostgreSQL",
    cost: 6,
    describe: describePg,
    layer: Layer.unwrapEffect(
      Effect.map(Effect.promise(freshDatabase), (url) => {
        const stores = SnapshotStorePg.layerFromDatabase().pipe(
          Layer.provideMerge(EventStorePg.layer({ url: Redacted.make(url) }))
        )
        return Layer.provideMerge(rawPg(url), stores)
      })
    )
  },
  {
    name: "PostgreSQL, Redis",
    cost: 6,
    describe: (title, define) =>
      describePg(title, () => {
        describeRedis("and Redis", define)
      }),
    layer: Layer.unwrapEffect(
      Effect.map(Effect.promise(freshDatabase), (pg) => {
        const url = redisUrl() ?? ""
        const prefix = freshKeyPrefix()
        return Layer.mergeAll(
          EventStorePg.layer({ url: Redacted.make(pg) }),
          SnapshotStoreRedis.layer({ url: Redacted.make(url), prefix }),
          rawRedis(url, prefix)
        )
      })
    )
  }
]

/** What was warned of or worse while an effect ran, those of its saves in the background that ended included. */
export const warningsOf = <A, E, R>(
  effect: Effect.Effect<A, E, R>
): Effect.Effect<readonly [A, ReadonlyArray<string>], E, R> =>
  Effect.suspend(() => {
    const warnings: Array<string> = []
    const logger = Logger.make(({ cause, logLevel, message }) => {
      if (logLevel.ordinal >= 30_000) warnings.push(`${logLevel.label} ${String(message)} ${String(cause)}`)
    })
    return Effect.map(effect, (result) => [result, warnings] as const).pipe(
      Effect.provide(Logger.replace(Logger.defaultLogger, logger))
    )
  })

/** A counter of the library by its outcomes. */
export const outcomesOf = (name: string): Effect.Effect<Readonly<Record<string, number>>> =>
  Effect.map(Metric.snapshot, (pairs) => {
    const counts: Record<string, number> = {}
    for (const { metricKey, metricState } of pairs) {
      if (metricKey.name !== name || !("count" in metricState)) continue
      for (const { key, value } of metricKey.tags) if (key === "outcome") counts[value] = Number(metricState.count)
    }
    return counts
  })

/** By how much a counter rose while an effect ran, by outcome; nothing else may run beside it. */
export const countedBy = <A, E, R>(
  name: string,
  effect: Effect.Effect<A, E, R>
): Effect.Effect<readonly [A, Readonly<Record<string, number>>], E, R> =>
  Effect.gen(function* () {
    const before = yield* outcomesOf(name)
    const result = yield* effect
    const after = yield* outcomesOf(name)
    const risen = Object.entries(after).flatMap(([outcome, count]) => {
      const by = count - (before[outcome] ?? 0)
      return by === 0 ? [] : [[outcome, by] as const]
    })
    return [result, Object.fromEntries(risen)] as const
  })

/** Waits for what was offered to be saved. */
export const flush = (stream: EventStore.StreamId) =>
  Effect.flatMap(SnapshotStore.SnapshotStore, (store) => store.flush(stream))

/** Holds a property against random values, as often as given; the report of a failure names the seed. */
export const property = <A, E, R>(
  arbitrary: FastCheck.Arbitrary<A>,
  numRuns: number,
  body: (value: A) => Effect.Effect<void, E, R>
): Effect.Effect<void, never, R> =>
  Effect.flatMap(Effect.runtime<R>(), (runtime) =>
    Effect.promise((signal) =>
      FastCheck.assert(
        FastCheck.asyncProperty(arbitrary, (value) => Runtime.runPromise(runtime)(body(value), { signal })),
        { numRuns }
      )
    )
  )

export const eventsOf = (stream: EventStore.StreamId) =>
  Effect.flatMap(EventStore.EventStore, (store) =>
    store.fold(stream, Array.of<EventStore.Event>(), (events, event) => [...events, event])
  )
