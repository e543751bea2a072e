/**
 * The bench of projections: catching up with one row upserted for each event, in batches of 100 that are committed with
 * their checkpoint, beside the bare feed, which does nothing with its events, and beside a loop that does the same by
 * hand, with nothing to keep others from doing it too. On PostgreSQL also beside emmett's consumer, where that is
 * installed. `--quick` is for a look; `--profile` shows where the time of our side goes.
 */
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { SqlClient } from "@effect/sql"
import { Chunk, Effect, Layer, ManagedRuntime, Redacted, Schema, Stream } from "effect"
import { type CheckpointStore, EventStore, Projection } from "effect-stores"
import { CheckpointStorePg, EventStorePg, PgDatabase } from "effect-stores/pg"
import { CheckpointStoreSqlite, EventStoreSqlite, SqliteDatabase } from "effect-stores/sqlite"
import { pgFacts, sqliteFacts } from "../drivers.js"
import { data, metadata, tenantId, type } from "../eventStore/workloads.js"
import { effectSide, type Workload } from "../harness.js"
import { areInstalled } from "../installed.js"
import { chosenBy, type Part, usage as partsUsage } from "../parts.js"
import { postgres } from "../servers.js"
import { emmett } from "./emmett.js"

export const usage = `followers [--what sqlite,pg] ${partsUsage}`

type Stores = EventStore.EventStore | CheckpointStore.CheckpointStore | SqlClient.SqlClient

const events = 10_000
const streams = 100
const batchSize = 100

/** What the issue of projections asks for. */
const bar = 0.5

/** Leases, retries and the fence against others may cost so much. */
const barByHand = 0.9

const OrderPlaced = Schema.TaggedStruct("OrderPlaced", {
  i: Schema.Number,
  customer: Schema.String,
  items: Schema.Array(Schema.Struct({ sku: Schema.String, n: Schema.Number })),
  note: Schema.String
})

const upsert = (placed: ReadonlyArray<EventStore.TypedEvent<typeof OrderPlaced.Type>>) =>
  Effect.flatMap(SqlClient.SqlClient, (sql) => {
    const rows = placed.map(({ aggregateId, data, version }) => ({
      id: `${aggregateId}/${version}`,
      customer: data.customer,
      version
    }))
    return sql`insert into bench_orders ${sql.insert(rows)}
      on conflict (id) do update set customer = excluded.customer, version = excluded.version`
  })

/** A generation of its own for each run, so that each begins at the first event. */
const projection = (generation: number) =>
  Projection.make({
    name: "orders",
    generation,
    delivery: "exactlyOnce",
    events: OrderPlaced,
    filter: { tenantId },
    batchSize,
    handle: upsert
  })

const orders = EventStore.forSchema(OrderPlaced)

const byHand = Effect.flatMap(SqlClient.SqlClient, (sql) =>
  Stream.runForEachChunk(Stream.rechunk(orders.feed({ filter: { tenantId } }), batchSize), (chunk) =>
    sql.withTransaction(
      Effect.zipRight(
        upsert(Chunk.toReadonlyArray(chunk)),
        sql`update bench_position set position = ${Chunk.unsafeLast(chunk).position}`
      )
    )
  )
)

const expected = (found: number): void => {
  if (found < events) throw new Error(`${found} events instead of ${events}`)
}

type Peer = Awaited<ReturnType<typeof emmett>>

const part = (
  title: string,
  layer: Layer.Layer<Stores, unknown>,
  facts: Readonly<Record<string, string>>,
  close: () => Promise<void>,
  peer: Peer | undefined = undefined
): Part => {
  const runtime = ManagedRuntime.make(layer)
  let generation = 0
  const workload: Workload = {
    name: `catching up with ${events} events`,
    concurrency: 1,
    events,
    bars: { "bare feed": bar, "by hand": barByHand },
    prepare: () =>
      runtime
        .runPromise(
          Effect.gen(function* () {
            const [sql, store] = [yield* SqlClient.SqlClient, yield* EventStore.EventStore]
            yield* sql`create table bench_orders (
            id varchar(100) primary key, customer varchar(100) not null, version integer not null
          )`
            yield* sql`create table bench_position (position bigint not null)`
            yield* sql`insert into bench_position values (0)`
            for (let n = 0; n < streams; n++) {
              const appended = Array.from({ length: events / streams }, (_, i) => ({
                type,
                data: data(i),
                metadata: metadata()
              }))
              yield* store.append({ tenantId, domain: "order", aggregateId: `${n}` }, appended, {
                expected: "noStream"
              })
            }
          })
        )
        .then(async () => {
          if (peer === undefined) return
          const placed = Array.from({ length: events / streams }, (_, i) => ({
            type,
            data: data(i),
            metadata: metadata()
          }))
          for (let n = 0; n < streams; n++) await peer.append(`order-${n}`, placed)
        }),
    ours: effectSide("effect-stores", runtime, false, () =>
      Effect.suspend(() => Projection.catchUp(projection(++generation)))
    ),
    raw: [
      effectSide("bare feed", runtime, false, () =>
        Effect.flatMap(EventStore.EventStore, (store) => {
          let count = 0
          return Stream.runForEachChunk(store.feed({ filter: { tenantId } }), (chunk) =>
            Effect.sync(() => {
              count += Chunk.size(chunk)
            })
          ).pipe(Effect.map(() => expected(count)))
        })
      ),
      effectSide("by hand", runtime, false, () => byHand),
      ...(peer === undefined ? [] : [peer.side])
    ]
  }
  return {
    title,
    workloads: [workload],
    facts: { ...facts, ...peer?.facts },
    close: async () => {
      await runtime.dispose()
      await peer?.close()
      await close()
    }
  }
}

const onSqlite = async (): Promise<Part> => {
  const directory = mkdtempSync(join(tmpdir(), "bench-followers-"))
  const layer = Layer.mergeAll(
    EventStoreSqlite.layerFromDatabase(),
    CheckpointStoreSqlite.layerFromDatabase(),
    SqliteDatabase.layerSqlClient
  ).pipe(Layer.provide(SqliteDatabase.layer({ filename: join(directory, "bench.db") })))
  const close = async () => rmSync(directory, { recursive: true })
  return part("Projection on SQLite, synchronous FULL", layer, sqliteFacts("FULL"), close)
}

const onPg = async (): Promise<Part> => {
  const server = await postgres()
  const peer = areInstalled()
    ? await emmett({ url: server.url, type, batchSize, events, table: "bench_orders" })
    : undefined
  const layer = Layer.mergeAll(
    EventStorePg.layerFromDatabase(),
    CheckpointStorePg.layerFromDatabase(),
    PgDatabase.layerSqlClient
  ).pipe(Layer.provide(PgDatabase.layer({ url: Redacted.make(server.url) })))
  return part("Projection on PostgreSQL", layer, await pgFacts(server.url), server.stop, peer)
}

export const prepare = chosenBy("followers", { sqlite: onSqlite, pg: onPg })
