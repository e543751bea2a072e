/**
 * That a snapshot holds one life of a stream, what was committed of it, and nothing that the caller did to a state.
 */
import * as path from "node:path"
import { assert } from "@effect/vitest"
import { Duration, Effect, Layer, Option, Schema } from "effect"
import { Aggregate, CommandStore, EventStore, EventStoreEncoded, SnapshotPolicy, SnapshotStore } from "effect-stores"
import { EventStoreMemory, SnapshotStoreMemory } from "effect-stores/memory"
import { CommandStoreSqlite, EventStoreSqlite, SnapshotStoreSqlite, SqliteDatabase } from "effect-stores/sqlite"
import { describe, it } from "vitest"
import { added, addTo, counter, Eager, flush, freshId, streamOf, warningsOf } from "./support/aggregates.js"
import { temporaryDirectory } from "./support/backends.js"

const inMemory = Layer.merge(EventStoreMemory.layer(), SnapshotStoreMemory.layer())

const latest = (aggregate: { readonly domain: string }, id: Aggregate.Id) =>
  Effect.flatMap(SnapshotStore.SnapshotStore, (store) =>
    Effect.map(store.latest(streamOf(aggregate, id)), Option.getOrUndefined)
  )

/** The sum by a snapshot, if one is left, and the sum by all events. */
const sums = (id: Aggregate.Id) =>
  Effect.gen(function* () {
    yield* flush(streamOf(Eager, id))
    const [loaded] = yield* warningsOf(Effect.zipLeft(Aggregate.load(Eager, id), flush(streamOf(Eager, id))))
    const events = yield* EventStore.EventStore
    const full = yield* events.fold(
      streamOf(Eager, id),
      0,
      (sum, { data }) => sum + (data as { readonly amount: number }).amount
    )
    return [loaded.state.sum, full]
  })

describe("a stream that is deleted and started again", () => {
  const betweenPages = (count: number, note: string, ids: ReadonlyArray<string> = [], isStartedAgain = true) => {
    const id = freshId()
    const stream = streamOf(Eager, id)
    let again: Effect.Effect<unknown> = Effect.void
    const layer = Layer.merge(
      Layer.effect(
        EventStore.EventStore,
        Effect.map(EventStoreMemory.makeEncoded, (encoded) => {
          const fill = (store: EventStore.EventStoreShape, amount: number) =>
            Effect.orDie(
              store.append(
                stream,
                Array.from({ length: count }, (_, i) => ({
                  id: ids[i],
                  type: "Added",
                  data: { amount },
                  metadata: { note }
                })),
                { expected: "noStream" }
              )
            )
          const store: EventStore.EventStoreShape = EventStoreEncoded.make(
            {
              ...encoded,
              readStream: (request) =>
                Effect.tap(encoded.readStream(request), () => {
                  const now = again
                  again = Effect.void
                  return now
                })
            },
            { system: "memory", pollInterval: Duration.seconds(1) }
          )
          Effect.runSync(fill(store, 1))
          again = Effect.zipRight(
            Effect.orDie(encoded.deleteStream(stream)),
            Effect.suspend(() => (isStartedAgain ? fill(store, 1_000) : Effect.void))
          )
          return store
        })
      ),
      SnapshotStoreMemory.layer()
    )
    return Effect.runPromise(
      Effect.gen(function* () {
        const loaded = yield* Aggregate.load(Eager, id)
        const sum = isStartedAgain ? count * 1_000 : 0
        assert.deepStrictEqual([loaded.state.sum, loaded.version], [sum, isStartedAgain ? count : 0])
        assert.deepStrictEqual(yield* sums(id), [sum, sum])
      }).pipe(Effect.provide(layer))
    )
  }

  it("between two pages of a load is loaded as one of its lives", () => betweenPages(1_500, ""))

  it("between two pages of few large events is loaded as one of its lives", () => betweenPages(3, "x".repeat(2 ** 20)))

  it("between two pages of a load with the same ids is loaded as one of its lives", () =>
    betweenPages(
      1_500,
      "",
      Array.from({ length: 1_500 }, () => crypto.randomUUID())
    ))

  it("and is deleted only, between two pages of a load, is loaded as one without events", () =>
    betweenPages(1_500, "", [], false))

  it("with the same ids and other content does not get the state of its earlier life", () => {
    const id = freshId()
    const stream = streamOf(Eager, id)
    const ids = [1, 2].map((n) => `00000000-0000-4000-8000-00000000000${n}`)
    const events = (amounts: ReadonlyArray<number>) =>
      amounts.map((amount, i) => ({ id: ids[i], type: "Added", data: { amount } }))
    return Effect.runPromise(
      Effect.gen(function* () {
        const store = yield* EventStore.EventStore
        yield* store.append(stream, events([1, 5]), { expected: "noStream" })
        assert.deepStrictEqual(yield* sums(id), [6, 6])
        assert.strictEqual((yield* latest(Eager, id))?.version, 2)
        yield* store.maintenance.deleteStream(stream)
        // The last event is the same but for its place in the store.
        yield* store.append(stream, events([3, 5]), { expected: "noStream" })
        assert.deepStrictEqual(yield* sums(id), [8, 8])
      }).pipe(Effect.provide(Layer.merge(EventStoreMemory.layer(), SnapshotStoreMemory.layer())))
    )
  })
})

describe("a load", () => {
  it("reads the events once, and one of them again only where it took several pages", () => {
    const id = freshId()
    const Plain = counter(SnapshotPolicy.never)
    const read: Array<readonly [number, number]> = []
    const layer = Layer.effect(
      EventStore.EventStore,
      Effect.map(EventStoreMemory.makeEncoded, (encoded) =>
        EventStoreEncoded.make(
          {
            ...encoded,
            readStream: (request) =>
              Effect.tap(encoded.readStream(request), ({ items }) => {
                read.push([request.fromVersion, items.length])
              })
          },
          { system: "memory", pollInterval: Duration.seconds(1) }
        )
      )
    )
    return Effect.runPromise(
      Effect.gen(function* () {
        yield* addTo(Plain, id, 5)
        yield* Aggregate.load(Plain, id)
        assert.deepStrictEqual(read, [[1, 5]])
        yield* addTo(Plain, id, 1_495)
        read.length = 0
        assert.strictEqual((yield* Aggregate.load(Plain, id)).version, 1_500)
        const [again] = read.splice(-1)
        assert.deepStrictEqual(again, [1, 1])
        assert.strictEqual(
          read.reduce((sum, [, items]) => sum + items, 0),
          1_500
        )
      }).pipe(Effect.provide(layer))
    )
  })
})

describe("a transaction", () => {
  const onFile = (name: string) =>
    Layer.mergeAll(
      EventStoreSqlite.layerFromDatabase(),
      SnapshotStoreSqlite.layerFromDatabase(),
      CommandStoreSqlite.layerFromDatabase()
    ).pipe(
      Layer.provideMerge(SqliteDatabase.layer({ filename: path.join(temporaryDirectory(), name), synchronous: "OFF" }))
    )

  it("that is rolled back leaves no snapshot of what it had appended", () => {
    const id = freshId()
    return Effect.runPromise(
      Effect.gen(function* () {
        const { transaction } = yield* SqliteDatabase.SqliteDatabase
        const rolledBack = yield* Effect.flip(
          transaction(
            Effect.gen(function* () {
              yield* addTo(Eager, id, 5)
              assert.strictEqual((yield* Aggregate.load(Eager, id)).version, 5)
              return yield* Effect.fail("rolled back")
            })
          )
        )
        assert.strictEqual(rolledBack, "rolled back")
        yield* flush(streamOf(Eager, id))
        assert.strictEqual(yield* latest(Eager, id), undefined)
      }).pipe(Effect.provide(onFile("rollback.db")))
    )
  })

  it("that is rolled back leaves none on top of what was committed before either", () => {
    const id = freshId()
    return Effect.runPromise(
      Effect.gen(function* () {
        const { transaction } = yield* SqliteDatabase.SqliteDatabase
        yield* addTo(Eager, id, 3)
        yield* Effect.flip(
          transaction(
            Effect.gen(function* () {
              yield* addTo(Eager, id, 2)
              assert.strictEqual((yield* Aggregate.load(Eager, id)).version, 5)
              return yield* Effect.fail("rolled back")
            })
          )
        )
        yield* flush(streamOf(Eager, id))
        assert.strictEqual(yield* latest(Eager, id), undefined)
        assert.deepStrictEqual(yield* sums(id), [3, 3])
      }).pipe(Effect.provide(onFile("on-top.db")))
    )
  })

  it("of a command's first attempt leaves nothing to its second, which appends other events with the same ids", () => {
    const id = freshId()
    const command = { id: crypto.randomUUID(), tenantId: "tenant", domain: "c", type: "C", data: {} }
    return Effect.runPromise(
      Effect.gen(function* () {
        const commands = yield* CommandStore.CommandStore
        const attempt = (rate: number, fails: boolean) =>
          commands.execute(
            command,
            Effect.gen(function* () {
              yield* Aggregate.append(Eager, id, [added(rate)], { expected: 0 })
              const { state } = yield* Aggregate.load(Eager, id)
              if (fails) yield* Effect.fail("crashed")
              return state.sum
            }),
            { success: Schema.Number, transaction: true }
          )
        yield* Effect.flip(attempt(11, true))
        assert.strictEqual(yield* attempt(1_000, false), 1_000)
        assert.deepStrictEqual(yield* sums(id), [1_000, 1_000])
      }).pipe(Effect.provide(onFile("attempts.db")))
    )
  })
})

describe("a loaded state", () => {
  it("may be changed by its owner, and the snapshot is not", () => {
    const Meeting = Aggregate.make({
      domain: "meeting",
      state: Schema.Struct({ at: Schema.Date }),
      event: Schema.TaggedStruct("Planned", { at: Schema.Date }),
      initial: { at: new Date(0) },
      evolve: (_, { at }) => ({ at: new Date(at) }),
      snapshots: SnapshotPolicy.every(1)
    })
    const id = freshId()
    const at = new Date("2026-11-24T10:00:00Z")
    return Effect.runPromise(
      Effect.gen(function* () {
        yield* Aggregate.append(Meeting, id, [{ _tag: "Planned", at }], { expected: "any" })
        const { state } = yield* Aggregate.load(Meeting, id)
        state.at.setUTCHours(0)
        yield* flush(streamOf(Meeting, id))
        assert.ok((yield* latest(Meeting, id)) !== undefined)
        assert.strictEqual((yield* Aggregate.load(Meeting, id)).state.at.toISOString(), at.toISOString())
      }).pipe(Effect.provide(Layer.merge(EventStoreMemory.layer(), SnapshotStoreMemory.layer())))
    )
  })

  it("may be changed where its Schema gives parts of it as they are, too", () => {
    const Loose = Aggregate.make({
      domain: "unknown",
      state: Schema.Struct({ meta: Schema.Unknown }),
      event: Schema.TaggedStruct("Happened", {}),
      initial: { meta: {} },
      evolve: () => ({ meta: { good: true } }),
      snapshots: SnapshotPolicy.every(1)
    })
    const id = freshId()
    return Effect.runPromise(
      Effect.gen(function* () {
        yield* Aggregate.append(Loose, id, [{ _tag: "Happened" }], { expected: "any" })
        const { state } = yield* Aggregate.load(Loose, id)
        Object.assign(state.meta as object, { bad: true })
        yield* flush(streamOf(Loose, id))
        const again = yield* Aggregate.load(Loose, id)
        assert.deepStrictEqual([again.snapshotVersion, again.state], [1, { meta: { good: true } }])
      }).pipe(Effect.provide(inMemory))
    )
  })

  it("comes back as the same member of a union", () => {
    const Either = Aggregate.make({
      domain: "union",
      state: Schema.Union(
        Schema.Struct({ sum: Schema.Number }),
        Schema.Struct({ sum: Schema.Number, note: Schema.optional(Schema.String) })
      ),
      event: Schema.TaggedStruct("Noted", {}),
      initial: { sum: 0 },
      evolve: ({ sum }) => ({ sum: sum + 1, note: "important" }),
      snapshots: SnapshotPolicy.every(1)
    })
    const id = freshId()
    return Effect.runPromise(
      Effect.gen(function* () {
        yield* Aggregate.append(Either, id, [{ _tag: "Noted" }], { expected: "any" })
        yield* Effect.zipLeft(Aggregate.load(Either, id), flush(streamOf(Either, id)))
        const again = yield* Aggregate.load(Either, id)
        assert.deepStrictEqual([again.snapshotVersion, again.state], [1, { sum: 1, note: "important" }])
      }).pipe(Effect.provide(inMemory))
    )
  })

  it("is loaded in the end although its evolve changes the events, as it must not", () => {
    const Careless = Aggregate.make({
      domain: "careless",
      state: Schema.Struct({ count: Schema.Number }),
      event: Schema.TaggedStruct("Filled", { items: Schema.Unknown }),
      initial: { count: 0 },
      evolve: ({ count }, { items }) => ({ count: count + (items as Array<number>).push(1) }),
      snapshots: SnapshotPolicy.every(1)
    })
    const id = freshId()
    return Effect.runPromise(
      Effect.gen(function* () {
        const events = Array.from({ length: 1_500 }, () => ({ _tag: "Filled" as const, items: [] }))
        yield* Aggregate.append(Careless, id, events, { expected: "any" })
        const [loaded] = yield* warningsOf(Aggregate.load(Careless, id))
        assert.strictEqual(loaded.version, 1_500)
      }).pipe(Effect.provide(inMemory))
    )
  })

  it("with a field that its Schema does not know is not saved without it", () => {
    const Loose = Aggregate.make({
      domain: "loose",
      state: Schema.Struct({ sum: Schema.Number }),
      event: Schema.TaggedStruct("Added", { amount: Schema.Number }),
      initial: { sum: 0 },
      evolve: (state, { amount }) => ({ ...state, sum: state.sum + amount, twice: amount * 2 }),
      snapshots: SnapshotPolicy.every(1)
    })
    const id = freshId()
    return Effect.runPromise(
      Effect.gen(function* () {
        yield* Aggregate.append(Loose, id, [{ _tag: "Added", amount: 1 }], { expected: "any" })
        const [, warnings] = yield* warningsOf(Effect.zipRight(Aggregate.load(Loose, id), flush(streamOf(Loose, id))))
        assert.match(warnings.join(), /was not saved/)
        assert.strictEqual(yield* latest(Loose, id), undefined)
      }).pipe(Effect.provide(Layer.merge(EventStoreMemory.layer(), SnapshotStoreMemory.layer())))
    )
  })
})
