/**
 * That after `maintenance.update` no load returns what was redacted: on every pair of an EventStore and a SnapshotStore,
 * which know nothing of each other, whatever was being saved meanwhile and wherever.
 */
import * as path from "node:path"
import { assert } from "@effect/vitest"
import Sqlite from "better-sqlite3"
import { Deferred, Duration, Effect, Layer, Redacted } from "effect"
import { Aggregate, EventStore, EventStoreEncoded, SnapshotStore, SnapshotStoreEncoded } from "effect-stores"
import { EventStoreMemory, SnapshotStoreMemory } from "effect-stores/memory"
import { EventStorePg, SnapshotStorePg } from "effect-stores/pg"
import { SnapshotStoreRedis } from "effect-stores/redis"
import { EventStoreSqlite, SnapshotStoreSqlite, SqliteDatabase } from "effect-stores/sqlite"
import { describe, it } from "vitest"
import { query } from "./pg/support/query.js"
import { sealed } from "./sealed/support.js"
import {
  addTo,
  type CounterEvent,
  type CounterState,
  countedBy,
  Eager,
  eventsOf,
  evolveCounter,
  flush,
  freshId,
  initialCounter,
  streamOf,
  warningsOf
} from "./support/aggregates.js"
import {
  describePg,
  describeRedis,
  freshDatabase,
  freshKeyPrefix,
  redisUrl,
  temporaryDirectory
} from "./support/backends.js"

const used = "effect_stores_snapshots_used"

interface Kind<Store> {
  readonly name: string
  readonly describe: (title: string, define: () => void) => void
  readonly layer: Layer.Layer<Store, unknown>
}

const filename = () => path.join(temporaryDirectory(), "stores.db")
const fresh = <Store, E>(layer: (url: Redacted.Redacted) => Layer.Layer<Store, E>) =>
  Layer.unwrapEffect(Effect.map(Effect.promise(freshDatabase), (url) => layer(Redacted.make(url))))

const eventStores: ReadonlyArray<Kind<EventStore.EventStore>> = [
  { name: "memory", describe, layer: EventStoreMemory.layer() },
  {
    name: "Sqlite",
    describe,
    layer: Layer.suspend(() => EventStoreSqlite.layer({ filename: filename(), synchronous: "OFF" }))
  },
  { name: "PostgreSQL", describe: describePg, layer: fresh((url) => EventStorePg.layer({ url })) }
]

// Each on a database of its own, which the EventStore does not know.
const snapshotStores: ReadonlyArray<Kind<SnapshotStore.SnapshotStore>> = [
  { name: "memory", describe, layer: SnapshotStoreMemory.layer() },
  { name: "Sqlite", describe, layer: Layer.suspend(() => SnapshotStoreSqlite.layer({ filename: filename() })) },
  { name: "PostgreSQL", describe: describePg, layer: fresh((url) => SnapshotStorePg.layer({ url })) },
  {
    name: "Redis",
    describe: describeRedis,
    layer: Layer.suspend(() =>
      SnapshotStoreRedis.layer({ url: Redacted.make(redisUrl() ?? ""), prefix: freshKeyPrefix() })
    )
  }
]

const stateOf = (events: ReadonlyArray<EventStore.Event>): CounterState =>
  events.reduce(
    (state, { data, type }) => evolveCounter(state, { _tag: type, ...(data as object) } as CounterEvent),
    initialCounter
  )

/** Every load of the aggregate, at every version, is what its events say as they are now. */
const loadsAreReplays = (id: Aggregate.Id) =>
  Effect.gen(function* () {
    const events = yield* eventsOf(streamOf(Eager, id))
    for (let version = 1; version <= events.length; version++) {
      const { state } = yield* Aggregate.loadAt(Eager, id, version)
      assert.deepStrictEqual(state, stateOf(events.slice(0, version)), `at ${version}`)
    }
    const { state, version } = yield* Aggregate.load(Eager, id)
    assert.deepStrictEqual([state, version], [stateOf(events), events.length])
    yield* flush(streamOf(Eager, id))
    return state
  })

const name = (id: Aggregate.Id, secret: string) =>
  Aggregate.append(Eager, id, [{ _tag: "Renamed", name: secret }], { expected: "any" })

const redact = (id: Aggregate.Id, version: number, data: unknown) =>
  Effect.gen(function* () {
    const { maintenance } = yield* EventStore.EventStore
    const event = (yield* eventsOf(streamOf(Eager, id)))[version - 1]
    assert.ok(event !== undefined)
    yield* maintenance.update(event.id, { data })
  })

/** The SnapshotStore as another process has it, whose next save is held between its load and its write. */
const heldElsewhere = Effect.gen(function* () {
  const begun = yield* Deferred.make<void>()
  const letGo = yield* Deferred.make<void>()
  const store = yield* SnapshotStoreEncoded.relift(yield* SnapshotStore.SnapshotStore, (port) =>
    Effect.succeed({
      ...port,
      save: (snapshot: SnapshotStoreEncoded.EncodedSnapshot) =>
        Deferred.succeed(begun, undefined).pipe(
          Effect.zipRight(Deferred.await(letGo)),
          Effect.zipRight(port.save(snapshot))
        )
    })
  )
  return { store, begun: Deferred.await(begun), letGo: Deferred.succeed(letGo, undefined) }
})

/** What was redacted is in use nowhere, and what came after it is. */
const redaction = Effect.gen(function* () {
  const id = freshId()
  const stream = streamOf(Eager, id)
  yield* addTo(Eager, id, 2)
  yield* name(id, "person@example.org")
  yield* addTo(Eager, id, 2)
  assert.strictEqual((yield* loadsAreReplays(id)).name, "person@example.org")
  assert.strictEqual((yield* Aggregate.load(Eager, id)).snapshotVersion, 5)

  // Another process has loaded one event more, and not saved it yet.
  const other = yield* heldElsewhere
  yield* addTo(Eager, id, 1)
  const before = yield* Effect.provideService(Aggregate.load(Eager, id), SnapshotStore.SnapshotStore, other.store)
  assert.deepStrictEqual([before.state.name, before.version], ["person@example.org", 6])
  yield* other.begun

  yield* redact(id, 3, { name: "redacted" })
  const [[state, counted], warnings] = yield* warningsOf(countedBy(used, loadsAreReplays(id)))
  assert.strictEqual(state.name, "redacted")
  // Those that look for a state of version 5 or later find what is of no use any more; the last replaces it.
  assert.deepStrictEqual(counted, { missing: 4, otherStream: 3 })
  assert.strictEqual(warnings.length, 3)
  assert.strictEqual((yield* Aggregate.load(Eager, id)).snapshotVersion, 6)

  yield* other.letGo
  yield* other.store.flush(stream)
  const [late] = yield* warningsOf(loadsAreReplays(id))
  assert.strictEqual(late.name, "redacted")
  yield* addTo(Eager, id, 3)
  const [grown, none] = yield* warningsOf(loadsAreReplays(id))
  assert.deepStrictEqual([grown.name, none], ["redacted", []])

  // The same event once more, then another, and what makes no difference to the state.
  for (const [version, data] of [
    [3, { name: "nobody" }],
    [1, { amount: 7 }],
    [1, { amount: 7 }]
  ] as const) {
    yield* redact(id, version, data)
    yield* warningsOf(loadsAreReplays(id))
    const again = yield* Aggregate.load(Eager, id)
    assert.deepStrictEqual([again.state.name, again.snapshotVersion], ["nobody", 9])
  }
}).pipe(Effect.scoped)

for (const events of eventStores) {
  for (const snapshots of snapshotStores) {
    const title = `Redaction of events on ${events.name} with snapshots on ${snapshots.name}`
    events.describe(title, () =>
      snapshots.describe("a load is what a replay gives", () => {
        const stores = Layer.mergeAll(events.layer, snapshots.layer)
        it("also with a save under way in another process", () => Effect.runPromise(Effect.provide(redaction, stores)))
        it("also sealed", () => Effect.runPromise(Effect.provide(redaction, sealed(stores))))
      })
    )
  }
}

describe("Redaction", () => {
  const runOn = <A, E>(
    layer: Layer.Layer<EventStore.EventStore, unknown>,
    effect: Effect.Effect<A, E, EventStore.EventStore | SnapshotStore.SnapshotStore>
  ) => Effect.runPromise(Effect.provide(effect, Layer.merge(layer, SnapshotStoreMemory.layer())))

  it("between two pages of a load leaves neither a state nor a snapshot that is half of each", () => {
    const id = freshId()
    let between: Effect.Effect<unknown> = Effect.void
    const layer = Layer.effect(
      EventStore.EventStore,
      Effect.map(EventStoreMemory.makeEncoded, (encoded) => {
        const readStream: EventStoreEncoded.Encoded["readStream"] = (request) =>
          Effect.tap(encoded.readStream(request), () => {
            const now = between
            between = Effect.void
            return now
          })
        return EventStoreEncoded.make(
          { ...encoded, readStream },
          { system: "memory", pollInterval: Duration.seconds(1) }
        )
      })
    )
    return runOn(
      layer,
      Effect.gen(function* () {
        yield* addTo(Eager, id, 1_500)
        const context = yield* Effect.context<EventStore.EventStore>()
        // Neither the first event nor the last: those alone would not show it.
        between = Effect.zipRight(redact(id, 2, { amount: 1e6 }), addTo(Eager, id, 1)).pipe(
          Effect.provide(context),
          Effect.orDie
        )
        const loaded = yield* Aggregate.load(Eager, id)
        assert.deepStrictEqual([loaded.state, loaded.version], [stateOf(yield* eventsOf(streamOf(Eager, id))), 1_501])
        yield* flush(streamOf(Eager, id))
        const again = yield* Aggregate.load(Eager, id)
        assert.deepStrictEqual([again.state, again.snapshotVersion], [loaded.state, 1_501])
      })
    )
  })

  it("that is rolled back leaves no snapshot, nor one that a later redaction would make valid", () => {
    const id = freshId()
    const layer = EventStoreSqlite.layer({ filename: filename(), synchronous: "OFF" })
    const program = Effect.gen(function* () {
      const { transaction } = yield* SqliteDatabase.SqliteDatabase
      yield* addTo(Eager, id, 3)
      yield* loadsAreReplays(id)
      const inside = Effect.gen(function* () {
        yield* redact(id, 1, { amount: 100 })
        assert.strictEqual((yield* Aggregate.load(Eager, id)).state.sum, 103)
        return yield* Effect.fail("rolled back")
      })
      yield* warningsOf(Effect.exit(transaction(inside)))
      yield* redact(id, 1, { amount: 1_000 })
      yield* flush(streamOf(Eager, id))
      const [state] = yield* warningsOf(loadsAreReplays(id))
      assert.strictEqual(state.sum, 1_003)
    })
    return Effect.runPromise(Effect.provide(program, Layer.provideMerge(SnapshotStoreMemory.layer(), layer)))
  })

  const changeAll = (id: Aggregate.Id) => redact(id, 2, { amount: 50 })

  it("on a file of the first version works from its migration on, and its snapshots are still used", () => {
    const file = filename()
    const snapshots = filename()
    const id = freshId()
    const stores = Layer.suspend(() =>
      Layer.merge(EventStoreSqlite.layer({ filename: file }), SnapshotStoreSqlite.layer({ filename: snapshots }))
    )
    const run = <A, E>(effect: Effect.Effect<A, E, EventStore.EventStore | SnapshotStore.SnapshotStore>) =>
      Effect.runPromise(Effect.provide(effect, stores))
    return run(Effect.zipRight(addTo(Eager, id, 3), loadsAreReplays(id)))
      .then(() => {
        const db = new Sqlite(file)
        db.exec("DROP TABLE es_revisions; DELETE FROM es_migrations WHERE store = 'EventStore' AND id = 2")
        db.close()
      })
      .then(() =>
        run(
          Effect.gen(function* () {
            assert.strictEqual((yield* Aggregate.load(Eager, id)).snapshotVersion, 3)
            yield* changeAll(id)
            const [{ sum }] = yield* warningsOf(loadsAreReplays(id))
            assert.strictEqual(sum, 52)
          })
        )
      )
  })
})

describePg("Redaction on PostgreSQL", () => {
  it("on tables of the first version works from their migration on", async () => {
    const url = await freshDatabase()
    const id = freshId()
    const run = <A, E>(effect: Effect.Effect<A, E, EventStore.EventStore | SnapshotStore.SnapshotStore>) =>
      Effect.runPromise(
        Effect.provide(
          effect,
          Layer.merge(EventStorePg.layer({ url: Redacted.make(url) }), SnapshotStoreMemory.layer())
        )
      )
    await run(addTo(Eager, id, 3))
    await Effect.runPromise(
      query(url, "drop table es_revisions; delete from es_migrations where store = 'EventStore' and id = 2")
    )
    await run(
      Effect.gen(function* () {
        yield* loadsAreReplays(id)
        yield* redact(id, 2, { amount: 50 })
        const [{ sum }] = yield* warningsOf(loadsAreReplays(id))
        assert.strictEqual(sum, 52)
        assert.strictEqual(yield* Aggregate.delete(Eager, id), 3)
        assert.strictEqual((yield* query(url, "select from es_revisions")).rowCount, 0)
      })
    )
  })

  it("of two events of a stream at once leaves a revision that stands for both", async () => {
    const url = await freshDatabase()
    const id = freshId()
    const layer = EventStorePg.layer({ url: Redacted.make(url) })
    await Effect.runPromise(
      Effect.gen(function* () {
        const { maintenance } = yield* EventStore.EventStore
        yield* addTo(Eager, id, 20)
        yield* loadsAreReplays(id)
        const events = yield* eventsOf(streamOf(Eager, id))
        const exits = yield* Effect.forEach(
          events,
          ({ id: event }, i) =>
            Effect.zipRight(
              Effect.exit(maintenance.update(event, { data: { amount: i * 100 } })),
              // A load between two of them must not outlive the second.
              warningsOf(Aggregate.load(Eager, id))
            ),
          { concurrency: "unbounded" }
        )
        assert.strictEqual(exits.length, 20)
        yield* flush(streamOf(Eager, id))
        const [{ sum }] = yield* warningsOf(loadsAreReplays(id))
        assert.strictEqual(sum, 19_000)
      }).pipe(Effect.provide(Layer.merge(layer, SnapshotStoreMemory.layer())))
    )
  })
})
