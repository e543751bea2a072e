/**
 * When snapshots are saved, and that neither their saving nor their store delays or fails who loads, changes or deletes
 * an aggregate.
 */
import * as path from "node:path"
import { assert } from "@effect/vitest"
import { Clock, Deferred, Effect, Exit, Fiber, Layer, Option, Schema, Scope } from "effect"
import { Aggregate, Errors, type EventStore, SnapshotPolicy, SnapshotStore, SnapshotStoreEncoded } from "effect-stores"
import { EventStoreMemory, SnapshotStoreMemory } from "effect-stores/memory"
import { EventStoreSqlite, SnapshotStoreSqlite, SqliteDatabase } from "effect-stores/sqlite"
import { describe, it as plainIt } from "vitest"
import {
  added,
  addTo,
  type CounterState,
  countedBy,
  counter,
  Eager,
  evolveAll,
  flush,
  freshId,
  streamOf,
  warningsOf
} from "./support/aggregates.js"
import { temporaryDirectory } from "./support/backends.js"

const used = "effect_stores_snapshots_used"

const Added = Schema.TaggedStruct("Added", { amount: Schema.Number })

const failure = (): Errors.ReadFailure =>
  new Errors.StoreUnavailable({ operation: "test", retryable: true, cause: new Error("gone") })

/** Stores in memory, some of whose members are others; they say how often each was asked. */
const withFaults = (faults: (encoded: SnapshotStoreEncoded.Encoded) => Partial<SnapshotStoreEncoded.Encoded>) =>
  Layer.mergeAll(
    EventStoreMemory.layer(),
    Layer.scoped(
      SnapshotStore.SnapshotStore,
      Effect.flatMap(SnapshotStoreMemory.makeEncoded, (encoded) =>
        SnapshotStoreEncoded.make({ ...encoded, ...faults(encoded) }, { system: "memory" })
      )
    )
  )

const run = <A, E>(
  layer: Layer.Layer<EventStore.EventStore | SnapshotStore.SnapshotStore, unknown>,
  effect: Effect.Effect<A, E, EventStore.EventStore | SnapshotStore.SnapshotStore>
): Promise<A> => Effect.runPromise(Effect.provide(effect, layer))

const memory = withFaults(() => ({}))

const latestVersion = (aggregate: { readonly domain: string }, id: Aggregate.Id) =>
  Effect.flatMap(SnapshotStore.SnapshotStore, (store) =>
    Effect.map(store.latest(streamOf(aggregate, id)), (found) => Option.getOrUndefined(found)?.version)
  )

/** Saves that do not end before they are let go. */
const heldSaves = () => {
  const begun = Effect.runSync(Deferred.make<void>())
  const letGo = Effect.runSync(Deferred.make<void>())
  const saved: Array<number> = []
  const layer = withFaults((encoded) => ({
    save: (snapshot) =>
      Deferred.succeed(begun, undefined).pipe(
        Effect.zipRight(Deferred.await(letGo)),
        Effect.zipRight(Effect.sync(() => saved.push(snapshot.version))),
        Effect.zipRight(encoded.save(snapshot))
      )
  }))
  return { layer, begun: Deferred.await(begun), letGo: Deferred.succeed(letGo, undefined), saved }
}

describe("When snapshots are saved", () => {
  plainIt("by default every 100 events", () => {
    const Default = Aggregate.make({
      domain: "default",
      state: Schema.Number,
      event: Added,
      initial: 0,
      evolve: (sum, { amount }) => sum + amount
    })
    const id = freshId()
    const add = (count: number) =>
      Aggregate.append(
        Default,
        id,
        Array.from({ length: count }, () => ({ _tag: "Added" as const, amount: 1 })),
        { expected: "any" }
      )
    const versions = Effect.gen(function* () {
      const found: Array<number | undefined> = []
      for (const count of [99, 1, 99, 1, 250]) {
        yield* add(count)
        yield* Aggregate.load(Default, id)
        yield* flush(streamOf(Default, id))
        found.push(yield* latestVersion(Default, id))
      }
      return found
    })
    return run(memory, versions).then((found) => assert.deepStrictEqual(found, [undefined, 100, 100, 200, 450]))
  })

  plainIt("a policy is asked with state, version, events and duration of a load that read events, and else not", () => {
    const asked: Array<SnapshotPolicy.Sourcing<CounterState>> = []
    const Asking = counter((sourcing) => {
      asked.push(sourcing)
      return sourcing.version === 4
    })
    const id = freshId()
    const stream = streamOf(Asking, id)
    return run(
      memory,
      Effect.gen(function* () {
        yield* Aggregate.load(Asking, id)
        yield* addTo(Asking, id, 4)
        const start = yield* Clock.currentTimeMillis
        yield* Aggregate.load(Asking, id)
        const most = (yield* Clock.currentTimeMillis) - start + 1
        yield* flush(stream)
        yield* Aggregate.load(Asking, id)
        yield* addTo(Asking, id, 3)
        yield* Aggregate.loadAt(Asking, id, 6)
        yield* Aggregate.load(Asking, id)
        assert.deepStrictEqual(
          asked.map(({ events, state, version }) => ({ events, sum: state.sum, version })),
          [
            { events: 4, sum: 6, version: 4 },
            { events: 3, sum: 9, version: 7 }
          ]
        )
        const millis = asked.map(
          ({ duration }) => Number(duration.value._tag === "Nanos" ? duration.value.nanos : 0n) / 1e6
        )
        assert.ok(
          millis.every((millis) => millis > 0 && millis <= most + 1_000),
          String(millis)
        )
      })
    )
  })

  plainIt("a policy that throws fails no load, warns once each, and saves nothing", () => {
    const Throwing = counter(() => {
      throw new Error("policy")
    })
    const id = freshId()
    return run(
      memory,
      Effect.gen(function* () {
        yield* addTo(Throwing, id, 5)
        const [loaded, warnings] = yield* warningsOf(Aggregate.load(Throwing, id))
        assert.strictEqual(loaded.version, 5)
        assert.strictEqual(warnings.length, 1)
        assert.include(warnings[0], "policy")
        yield* flush(streamOf(Throwing, id))
        assert.strictEqual(yield* latestVersion(Throwing, id), undefined)
      })
    )
  })

  plainIt("with the policy `never` the SnapshotStore is not even asked", () => {
    let asked = 0
    const layer = withFaults(({ latest, save }) => ({
      latest: (...args) => {
        asked++
        return latest(...args)
      },
      save: (...args) => {
        asked++
        return save(...args)
      }
    }))
    const Never = counter(SnapshotPolicy.never)
    const id = freshId()
    return run(
      layer,
      Effect.gen(function* () {
        yield* addTo(Never, id, 200)
        const [loaded, counted] = yield* countedBy(used, Aggregate.load(Never, id))
        assert.deepStrictEqual([loaded.version, counted, asked], [200, {}, 0])
      })
    )
  })

  plainIt("no load waits for a save, and of what is offered while one is under way only the last follows", () => {
    const { begun, layer, letGo, saved } = heldSaves()
    const id = freshId()
    return run(
      layer,
      Effect.gen(function* () {
        yield* addTo(Eager, id, 1)
        yield* Aggregate.load(Eager, id)
        yield* begun
        for (let version = 2; version <= 20; version++) {
          yield* addTo(Eager, id, 1)
          assert.strictEqual((yield* Aggregate.load(Eager, id)).version, version)
        }
        assert.deepStrictEqual(saved, [])
        yield* letGo
        yield* flush(streamOf(Eager, id))
        assert.deepStrictEqual(saved, [1, 20])
      })
    )
  })

  plainIt("closing the layer finishes the save of the last load", () => {
    const { begun, layer, letGo, saved } = heldSaves()
    const id = freshId()
    const program = Effect.gen(function* () {
      const scope = yield* Scope.make()
      const context = yield* Layer.buildWithScope(layer, scope)
      const load = Effect.zipRight(addTo(Eager, id, 7), Aggregate.load(Eager, id))
      yield* Effect.provide(load, context)
      yield* begun
      const closing = yield* Effect.fork(Scope.close(scope, Exit.void))
      yield* Effect.repeatN(Effect.yieldNow(), 20)
      assert.strictEqual(closing.unsafePoll(), null)
      assert.deepStrictEqual(saved, [])
      yield* letGo
      yield* Fiber.join(closing)
      assert.deepStrictEqual(saved, [7])
    })
    return Effect.runPromise(program)
  })

  plainIt("a load that found a state of another form does not replace a newer one of another process", () => {
    const id = freshId()
    const stream = streamOf(Eager, id)
    let meanwhile: Effect.Effect<unknown> = Effect.void
    const layer = withFaults((encoded) => ({
      latest: (...request) =>
        Effect.tap(encoded.latest(...request), () => {
          const now = meanwhile
          meanwhile = Effect.void
          return now
        })
    }))
    return run(
      layer,
      Effect.gen(function* () {
        const store = yield* SnapshotStore.SnapshotStore
        const snapshot = { lastEventMark: crypto.randomUUID(), schemaVersion: "another", state: {} }
        yield* addTo(Eager, id, 3)
        yield* store.save(stream, { ...snapshot, version: 2 })
        // What a newer deployment than this one has saved of events that this load does not see.
        meanwhile = Effect.orDie(store.save(stream, { ...snapshot, version: 5 }))
        const [loaded] = yield* warningsOf(Effect.zipLeft(Aggregate.load(Eager, id), flush(stream)))
        assert.strictEqual(loaded.version, 3)
        assert.strictEqual(yield* latestVersion(Eager, id), 5)
      })
    )
  })

  plainIt("the end of who loads does not end the save", () => {
    const { begun, layer, letGo, saved } = heldSaves()
    const id = freshId()
    return run(
      layer,
      Effect.gen(function* () {
        yield* addTo(Eager, id, 3)
        const loading = yield* Effect.fork(Effect.zipRight(Aggregate.load(Eager, id), Effect.never))
        yield* begun
        yield* Fiber.interrupt(loading)
        yield* letGo
        yield* flush(streamOf(Eager, id))
        assert.deepStrictEqual(saved, [3])
      })
    )
  })
})

describe("When the SnapshotStore fails", () => {
  const bug = new Error("a bug")
  const faults: ReadonlyArray<readonly [string, Effect.Effect<never, Errors.ReadFailure>]> = [
    ["fails", Effect.suspend(() => Effect.fail(failure()))],
    ["dies", Effect.die(bug)],
    [
      "throws",
      Effect.suspend(() => {
        throw bug
      })
    ]
  ]

  for (const [how, fault] of faults) {
    plainIt(`a read that ${how} costs a warning and a full replay, and the store is left in peace`, () => {
      let saves = 0
      let reads = 0
      const layer = withFaults(({ save }) => ({
        latest: () => {
          reads++
          return fault
        },
        save: (snapshot) => {
          saves++
          return save(snapshot)
        }
      }))
      const id = freshId()
      return run(
        layer,
        Effect.gen(function* () {
          yield* addTo(Eager, id, 5)
          const now = Aggregate.load(Eager, id)
          for (const load of [now, Aggregate.loadAt(Eager, id, 5)]) {
            const [[loaded, counted], warnings] = yield* warningsOf(countedBy(used, load))
            assert.deepStrictEqual(loaded, { state: evolveAll(5), version: 5, snapshotVersion: 0, replayed: 5 })
            assert.deepStrictEqual(counted, { unavailable: 1 })
            // What is said to be back soon is not asked again at once.
            const isAsked = how !== "fails" || load === now
            assert.strictEqual(warnings.length, isAsked ? 1 : 0)
            if (isAsked) assert.match(warnings[0] ?? "", /gone|a bug/)
          }
          assert.strictEqual(reads, how === "fails" ? 1 : 2)
          yield* flush(streamOf(Eager, id))
          assert.strictEqual(saves, 0)
          const [executed] = yield* warningsOf(Aggregate.execute(Eager, id, () => [added(5)]))
          assert.strictEqual(executed.version, 6)
        })
      )
    })

    plainIt(`a save that ${how} costs a warning, and fails nobody`, () => {
      const id = freshId()
      return run(
        withFaults(() => ({ save: () => fault })),
        Effect.gen(function* () {
          yield* addTo(Eager, id, 5)
          const load = Effect.zipLeft(Aggregate.load(Eager, id), flush(streamOf(Eager, id)))
          const [[loaded, counted], warnings] = yield* warningsOf(countedBy("effect_stores_snapshots_saved", load))
          assert.strictEqual(loaded.version, 5)
          assert.deepStrictEqual(counted, { failed: 1 })
          assert.strictEqual(warnings.length, 1)
        })
      )
    })
  }

  plainIt("a state that cannot be encoded costs a warning, and fails nobody", () => {
    const bad = { decode: (n: number) => n, strict: true } as const
    const states: ReadonlyArray<Schema.Schema<number, number>> = [
      Schema.transform(Schema.Number, Schema.Number, {
        ...bad,
        encode: () => {
          throw new Error("encode")
        }
      }),
      Schema.transform(Schema.Number, Schema.Number, { ...bad, encode: () => Number.NaN }),
      Schema.Number.pipe(Schema.lessThan(3))
    ]
    return run(
      memory,
      Effect.forEach(
        states,
        (state) =>
          Effect.gen(function* () {
            const Unencodable = Aggregate.make({
              domain: "unencodable",
              state,
              event: Added,
              initial: 0,
              evolve: (sum, { amount }) => sum + amount,
              snapshots: SnapshotPolicy.every(1)
            })
            const id = freshId()
            yield* Aggregate.append(Unencodable, id, [{ _tag: "Added" as const, amount: 5 }], { expected: "any" })
            const load = Effect.zipLeft(Aggregate.load(Unencodable, id), flush(streamOf(Unencodable, id)))
            const [loaded, warnings] = yield* warningsOf(load)
            assert.deepStrictEqual([loaded.state, warnings.length], [5, 1], warnings.join())
            assert.strictEqual(yield* latestVersion(Unencodable, id), undefined)
          }),
        { discard: true }
      )
    )
  })

  plainIt("a decoder of the state that throws costs a warning and a full replay", () => {
    const definition = (decode: (n: number) => number) => {
      const state = Schema.transform(Schema.Number, Schema.Number, { strict: true, decode, encode: (n) => n })
      return Aggregate.make({
        domain: "undecodable",
        state,
        event: Added,
        initial: 0,
        evolve: (sum, { amount }) => sum + amount,
        snapshots: SnapshotPolicy.every(1)
      })
    }
    const Good = definition((n) => n)
    const Bad = definition(() => {
      throw new Error("decode")
    })
    const id = freshId()
    return run(
      memory,
      Effect.gen(function* () {
        yield* Aggregate.append(Good, id, [{ _tag: "Added" as const, amount: 5 }], { expected: "any" })
        yield* Aggregate.load(Good, id)
        yield* flush(streamOf(Good, id))
        const [[loaded, counted], warnings] = yield* warningsOf(countedBy(used, Aggregate.load(Bad, id)))
        assert.deepStrictEqual([loaded.state, loaded.replayed], [5, 1])
        assert.deepStrictEqual(counted, { otherSchema: 1 })
        assert.strictEqual(warnings.length, 1)
      })
    )
  })
})

describe("When an aggregate is deleted", () => {
  plainIt("inside a transaction that a save waits for, neither waits for the other without end", () => {
    const filename = path.join(temporaryDirectory(), "stores.db")
    const layer = SnapshotStoreSqlite.layerFromDatabase().pipe(
      Layer.provideMerge(EventStoreSqlite.layer({ filename, synchronous: "OFF" }))
    )
    const id = freshId()
    const stream = streamOf(Eager, id)
    const program = Effect.gen(function* () {
      const database = yield* SqliteDatabase.SqliteDatabase
      yield* addTo(Eager, id, 4)
      const change = Effect.zipRight(Aggregate.load(Eager, id), Aggregate.delete(Eager, id))
      const [deleted, warnings] = yield* warningsOf(Effect.zipLeft(database.transaction(change), flush(stream)))
      assert.deepStrictEqual([deleted, warnings], [4, []])
      assert.strictEqual(yield* latestVersion(Eager, id), undefined)
    })
    return Effect.runPromise(Effect.provide(program, layer))
  })

  plainIt("a save of this process that is under way does not survive it", () => {
    const { begun, layer, letGo, saved } = heldSaves()
    const id = freshId()
    return run(
      layer,
      Effect.gen(function* () {
        yield* addTo(Eager, id, 4)
        yield* Aggregate.load(Eager, id)
        yield* begun
        const deleting = yield* Effect.fork(Aggregate.delete(Eager, id))
        yield* Effect.repeatN(Effect.yieldNow(), 20)
        yield* letGo
        assert.strictEqual(yield* Fiber.join(deleting), 4)
        yield* flush(streamOf(Eager, id))
        assert.deepStrictEqual(saved, [4])
        assert.strictEqual(yield* latestVersion(Eager, id), undefined)
        yield* addTo(Eager, id, 2)
        assert.deepStrictEqual((yield* Aggregate.load(Eager, id)).state, evolveAll(2))
      })
    )
  })
})
