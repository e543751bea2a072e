/**
 * docs/telemetry.md lists what can be seen, all of it and nothing else. A tour over all members of all stores is
 * recorded, and its spans, attributes and metrics are compared with the tables, both ways.
 */
import * as fs from "node:fs"
import { assert, it } from "@effect/vitest"
import { Effect, Layer, Metric, MetricKeyType, Redacted, Schedule, Schema } from "effect"
import {
  Aggregate,
  CommandStore,
  CommandWorker,
  EventStore,
  Projection,
  SnapshotPolicy,
  SnapshotStore
} from "effect-stores"
import { DataStoreFileSystem } from "effect-stores/fs"
import { CacheStoreMemory, DataStoreMemory, MemoryDatabase } from "effect-stores/memory"
import { DataStoreMinio } from "effect-stores/minio"
import { CommandStorePg, EventStorePg, PgDatabase } from "effect-stores/pg"
import { CacheStoreRedis, SnapshotStoreRedis } from "effect-stores/redis"
import { EventStoreSqlite, SqliteDatabase } from "effect-stores/sqlite"
import { TestStores } from "effect-stores/testkit"
import { describePg, freshDatabase, freshKeyPrefix, redisUrl, temporaryDirectory } from "./support/backends.js"
import { s3ProgramsMissing, startCeph } from "./support/s3.js"
import { cache, checkpoints, commands, events, id, objects, snapshots, stream, take } from "./support/tour.js"
import { recording } from "./support/tracing.js"

const Counter = Aggregate.make({
  domain: "counter",
  state: Schema.Struct({ n: Schema.Number }),
  event: Schema.TaggedStruct("Added", { n: Schema.Number }),
  initial: { n: 0 },
  evolve: (state, added) => ({ n: state.n + added.n }),
  snapshots: SnapshotPolicy.every(1)
})

const aggregates = Effect.flatMap(SnapshotStore.SnapshotStore, (snapshots) => {
  const counter = { tenantId: "t", aggregateId: "c" }
  const add = Aggregate.execute(Counter, counter, () => [{ _tag: "Added", n: 1 } as const])
  return take<EventStore.EventStore>({
    executed: Effect.zip(add, Aggregate.load(Counter, counter)),
    saved: snapshots.flush({ ...counter, domain: "counter" }),
    loaded: Aggregate.loadAt(Counter, counter, 1)
  })
})

const projections = Effect.gen(function* () {
  const store = yield* EventStore.EventStore
  yield* store.append(stream, [{ type: "Placed", data: {} }], { expected: "any" })
  const projection = Projection.make({
    name: "orders",
    delivery: "exactlyOnce",
    events: Schema.TaggedStruct("Placed", {}),
    retry: Schedule.recurs(0),
    onFailure: "skip",
    handle: (events) => (events.some(({ version }) => version === 2) ? Effect.fail("no") : Effect.void)
  })
  yield* Projection.catchUp(projection)
  yield* store.append(stream, [{ type: "Placed", data: {} }], { expected: "any" })
  yield* Projection.catchUp(projection)
  // It works on partitions while it runs.
  yield* Effect.timeout(Projection.run(projection), "200 millis").pipe(Effect.ignore)
})

const workers = Effect.gen(function* () {
  const store = yield* CommandStore.CommandStore
  const Place = Schema.TaggedStruct("Place", {})
  const handler = CommandWorker.handler(Place, () => Effect.fail("no"))
  const worker = CommandWorker.make({ name: "placing", handlers: [handler], attempts: 1 })
  yield* store.create({ id, tenantId: "t", domain: "order", type: "Place", data: {} })
  yield* CommandWorker.catchUp(worker)
})

const inMemory = Effect.gen(function* () {
  yield* Effect.all([events, commands, aggregates, snapshots, cache, objects, projections, checkpoints, workers])
  const { transaction } = yield* MemoryDatabase.MemoryDatabase
  yield* transaction(Effect.void)
}).pipe(Effect.provide([TestStores.layer, CacheStoreMemory.layer({ maxEntries: 1 }), DataStoreMemory.layer()]))

const onSqlite = (filename: string) =>
  Effect.gen(function* () {
    const { transaction } = yield* SqliteDatabase.SqliteDatabase
    yield* events
    yield* transaction(Effect.void)
  }).pipe(Effect.provide(EventStoreSqlite.layer({ filename })))

const onPg = (url: string) =>
  Effect.gen(function* () {
    const { sql, transaction } = yield* PgDatabase.PgDatabase
    const store = yield* EventStore.EventStore
    yield* Effect.all([events, commands])
    // One connection for two: one of them waits.
    yield* transaction(transaction(Effect.void))
    yield* Effect.all([store.head, store.head], { concurrency: "unbounded" })
    yield* sql`drop table es_events cascade`
    yield* Effect.exit(store.version(stream))
  }).pipe(
    Effect.provide(
      Layer.provideMerge(
        Layer.mergeAll(EventStorePg.layerFromDatabase(), CommandStorePg.layerFromDatabase()),
        PgDatabase.layer({ url: Redacted.make(url), pool: { maxOpenConns: 1, maxIdleConns: 1 } })
      )
    )
  )

const onRedis = (url: string) =>
  Effect.all([snapshots, cache]).pipe(
    Effect.provide([
      SnapshotStoreRedis.layer({ url: Redacted.make(url), prefix: freshKeyPrefix() }),
      CacheStoreRedis.layer({ url: Redacted.make(url), prefix: freshKeyPrefix() })
    ])
  )

const onFiles = (root: string) => Effect.provide(objects, DataStoreFileSystem.layer({ root }))

const onS3 = Effect.acquireUseRelease(
  Effect.promise(() => startCeph(2 ** 30)),
  ({ accessKey, endpoint, secretKey }) =>
    Effect.provide(objects, DataStoreMinio.layer({ endpoint, accessKey, secretKey: Redacted.make(secretKey) })),
  (server) => Effect.promise(server.stop)
)

const documented = fs.readFileSync(new URL("../docs/telemetry.md", import.meta.url), "utf8")

/** The rows of the table whose first heading is this, as the names that are quoted in each of its cells. */
const tableOf = (heading: string): ReadonlyArray<ReadonlyArray<ReadonlyArray<string>>> => {
  const lines = documented.split("\n")
  const start = lines.findIndex((line) => line.startsWith(`| ${heading} `))
  assert.isAbove(start, 0, `a table of ${heading}`)
  const rows = lines.slice(start + 2)
  const end = rows.findIndex((line) => !line.startsWith("|"))
  const cells = (row: string) => row.split("|").slice(1, -1)
  return rows
    .slice(0, end)
    .map((row) => cells(row).map((cell) => [...cell.matchAll(/`([^`]+)`/g)].map(([, name = ""]) => name)))
}

const sorted = (names: Iterable<string>): ReadonlyArray<string> => [...new Set(names)].sort()

/** Those of every store operation on a database, as the document says. */
const isCommon = (name: string): boolean => !name.startsWith("effect_stores.") && name !== returnedRows
const returnedRows = "db.response.returned_rows"

const kindOf = (type: MetricKeyType.MetricKeyType<unknown, unknown>): string =>
  MetricKeyType.isCounterKey(type) ? "counter" : MetricKeyType.isGaugeKey(type) ? "gauge" : "histogram"

describePg("docs/telemetry.md", () => {
  it.live("lists the spans, attributes and metrics that a tour over all stores shows, and no others", () =>
    Effect.gen(function* () {
      const { spans: recorded, tracer } = recording()
      const url = yield* Effect.promise(freshDatabase)
      const redis = redisUrl()
      // Where these are missing, the others show every span; what they add of their own is then not looked for.
      const tour = Effect.all([
        inMemory,
        onSqlite(`${temporaryDirectory()}/events.db`),
        onPg(url),
        onFiles(temporaryDirectory()),
        redis === undefined ? Effect.void : onRedis(redis),
        s3ProgramsMissing("ceph") === undefined ? onS3 : Effect.void
      ])
      yield* Effect.withTracer(Effect.scoped(tour), tracer)

      // The user's own statements are spans of @effect/sql.
      const ours = recorded.filter(({ name }) => !name.startsWith("sql."))
      const seen = new Map<string, Set<string>>()
      for (const { attributes, name } of ours) {
        const names = seen.get(name) ?? new Set()
        seen.set(name, names)
        for (const attribute of attributes.keys()) names.add(attribute)
      }
      const spans = new Map(
        tableOf("span").flatMap(([names = [], attributes = []]) =>
          names.map((name) => [
            name,
            attributes.map((each) => (each === returnedRows ? each : `effect_stores.${each}`))
          ])
        )
      )
      assert.deepStrictEqual(sorted(seen.keys()), sorted(spans.keys()))
      for (const [name, attributes] of seen) {
        assert.deepStrictEqual(
          sorted([...attributes].filter((each) => !isCommon(each))),
          sorted(spans.get(name) ?? []),
          name
        )
      }
      const attributes = tableOf("attribute").flatMap(([names = []]) => names)
      assert.deepStrictEqual(sorted([...seen.values()].flatMap((each) => [...each])), sorted(attributes))

      // the quoted names of the meaning
      const [, systems = []] = tableOf("attribute").find(([names]) => names?.includes("db.system.name")) ?? []
      const isAll = redis !== undefined && s3ProgramsMissing("ceph") === undefined
      const seenSystems = new Set(ours.flatMap(({ attributes }) => attributes.get("db.system.name") ?? []).map(String))
      assert.deepStrictEqual(sorted(seenSystems), sorted(systems.filter((system) => isAll || seenSystems.has(system))))

      const metrics = Metric.unsafeSnapshot(undefined)
        .map(({ metricKey: { keyType, name, tags } }) => ({ keyType, name, labels: tags.map(({ key }) => key) }))
        .filter(({ name }) => name.startsWith("effect_stores_"))
      const rows = documented.split("\n").flatMap((line) => {
        const [, name, kind, labels] = /^\| `(effect_stores_\w+)` *\| (\w+) *\| ([^|]*?) *\|/.exec(line) ?? []
        return name === undefined ? [] : [`${name} ${kind} ${sorted((labels ?? "").match(/\w+/g) ?? []).join(" ")}`]
      })
      assert.deepStrictEqual(
        sorted(metrics.map(({ keyType, labels, name }) => `${name} ${kindOf(keyType)} ${sorted(labels).join(" ")}`)),
        sorted(rows)
      )
    })
  )
})
