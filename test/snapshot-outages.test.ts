/**
 * That a SnapshotStore that hangs, is slow or is down does not keep loads waiting, is used again when it is back, and is
 * asked by few meanwhile.
 */
import * as fs from "node:fs"
import { assert } from "@effect/vitest"
import { Deferred, Duration, Effect, Fiber, Layer, Redacted } from "effect"
import { Aggregate, Errors, type EventStore, SnapshotPolicy, SnapshotStore, SnapshotStoreEncoded } from "effect-stores"
import { EventStoreMemory, SnapshotStoreMemory } from "effect-stores/memory"
import { EventStorePg, PgDatabase, SnapshotStorePg } from "effect-stores/pg"
import { SnapshotStoreRedis } from "effect-stores/redis"
import { Client } from "pg"
import { describe, expect, it } from "vitest"
import {
  addTo,
  CounterEvent,
  CounterState,
  countedBy,
  evolveAll,
  evolveCounter,
  flush,
  freshId,
  initialCounter,
  streamOf,
  warningsOf
} from "./support/aggregates.js"
import { describeOwnRedis, describePg, freshDatabase } from "./support/backends.js"
import { eventually } from "./support/eventually.js"
import { startRedis } from "./support/redis.js"

const used = "effect_stores_snapshots_used"

type Stores = EventStore.EventStore | SnapshotStore.SnapshotStore
type Options = Pick<Aggregate.Options<CounterState, unknown, CounterEvent, CounterEvent>, "snapshotTimeout">

const define = (options: Options = {}) =>
  Aggregate.make({
    domain: "counter",
    state: CounterState,
    event: CounterEvent,
    initial: initialCounter,
    evolve: evolveCounter,
    snapshots: SnapshotPolicy.every(1),
    ...options
  })

const Counter = define()

/** Leaves a snapshot behind. */
const saved = (id: Aggregate.Id) => Effect.zipLeft(Aggregate.load(Counter, id), flush(streamOf(Counter, id)))

const loads20 = (ids: ReadonlyArray<Aggregate.Id>) =>
  Effect.forEach(ids, (id) => Aggregate.load(Counter, id), { concurrency: "unbounded" })

const isHit = (id: Aggregate.Id, aggregate = Counter) =>
  Effect.map(Aggregate.load(aggregate, id), ({ snapshotVersion }) => snapshotVersion > 0)

type Lookup = SnapshotStoreEncoded.Encoded["latest"]

/** Stores in memory whose lookups go through `through`, once that is set; it counts them. */
const through = (inTransaction?: () => boolean) => {
  const state = {
    asked: 0,
    atOnce: 0,
    mostAtOnce: 0,
    through: undefined as ((latest: ReturnType<Lookup>) => ReturnType<Lookup>) | undefined
  }
  const count = (by: number) =>
    Effect.sync(() => {
      state.atOnce += by
      state.mostAtOnce = Math.max(state.mostAtOnce, state.atOnce)
    })
  const layer = Layer.merge(
    EventStoreMemory.layer(),
    Layer.scoped(
      SnapshotStore.SnapshotStore,
      Effect.flatMap(SnapshotStoreMemory.makeEncoded, (encoded) =>
        SnapshotStoreEncoded.make(
          {
            ...encoded,
            latest: (...request) =>
              Effect.suspend(() => {
                state.asked++
                const found = encoded.latest(...request)
                return Effect.acquireUseRelease(
                  count(1),
                  () => (state.through === undefined ? found : state.through(found)),
                  () => count(-1)
                )
              })
          },
          { system: "memory", inTransaction }
        )
      )
    )
  )
  /** What is said while loads go on until two more lookups have tried. */
  const warnedInTwoTries = <A, E, R>(loads: Effect.Effect<A, E, R>) =>
    warningsOf(
      eventually(
        Effect.map(loads, () => state.asked === 2),
        Boolean,
        "two tries"
      )
    ).pipe(Effect.map(([, warnings]) => warnings))
  return { state, layer, warnedInTwoTries }
}

const run = <A, E>(layer: Layer.Layer<Stores, unknown>, effect: Effect.Effect<A, E, Stores>): Promise<A> =>
  Effect.runPromise(Effect.provide(effect, layer))

describe("A SnapshotStore", () => {
  const ids = Array.from({ length: 20 }, freshId)

  it("that hangs keeps no load waiting, is said to once, asked by one at a time, and used when it is back", () => {
    const { layer, state, warnedInTwoTries } = through()
    return run(
      layer,
      Effect.gen(function* () {
        yield* Effect.forEach(ids, (id) => Effect.zipRight(addTo(Counter, id, 5), saved(id)))
        state.through = () => Effect.never
        state.asked = 0
        const [[loaded, counted], warnings] = yield* warningsOf(countedBy(used, loads20(ids)))
        for (const each of loaded)
          assert.deepStrictEqual(each, { state: evolveAll(5), version: 5, snapshotVersion: 0, replayed: 5 })
        assert.deepStrictEqual([counted, state.asked], [{ unavailable: 20 }, 20])
        assert.deepStrictEqual([warnings.length, warnings[0]?.includes("within 100 ms")], [1, true], warnings.join())
        // From now on each round of loads ends without a lookup of its own, but for those that try.
        yield* eventually(Effect.sync(() => state.atOnce <= 1))
        Object.assign(state, { asked: 0, mostAtOnce: 0 })
        assert.deepStrictEqual([yield* warnedInTwoTries(loads20(ids)), state.mostAtOnce], [[], 1])
        state.through = undefined
        const [, said] = yield* warningsOf(eventually(isHit(ids[0] as Aggregate.Id)))
        assert.deepStrictEqual(said, [])
        const [again] = yield* countedBy(used, loads20(ids))
        assert.deepStrictEqual(
          again.map(({ snapshotVersion }) => snapshotVersion),
          ids.map(() => 5)
        )
      })
    )
  })

  it("that fails is said to once and left alone, and used when it is back, also by `loadAt`", () => {
    const { layer, state, warnedInTwoTries } = through()
    const [id] = ids as [Aggregate.Id]
    return run(
      layer,
      Effect.gen(function* () {
        yield* addTo(Counter, id, 5)
        yield* saved(id)
        const cause = new Error("gone")
        state.through = () => Effect.fail(new Errors.StoreUnavailable({ operation: "latest", retryable: true, cause }))
        const [loaded, warnings] = yield* warningsOf(Aggregate.loadAt(Counter, id, 5))
        assert.deepStrictEqual([loaded.state, loaded.snapshotVersion], [evolveAll(5), 0])
        assert.deepStrictEqual([warnings.length, warnings[0]?.includes("gone")], [1, true])
        state.asked = 0
        assert.deepStrictEqual(yield* warnedInTwoTries(Aggregate.load(Counter, id)), [])
        state.through = undefined
        yield* eventually(Effect.map(Aggregate.loadAt(Counter, id, 5), ({ snapshotVersion }) => snapshotVersion === 5))
      })
    )
  })

  it("that fails in a transaction is not taken to be down: that was the transaction's end", () => {
    let inside = false
    const { layer, state } = through(() => inside)
    const undone = new Errors.StoreUnavailable({ operation: "latest", retryable: true, cause: new Error("undone") })
    state.through = (found) => (inside ? Effect.fail(undone) : found)
    const [id] = ids as [Aggregate.Id]
    return run(
      layer,
      Effect.gen(function* () {
        yield* addTo(Counter, id, 5)
        yield* saved(id)
        inside = true
        const [loaded] = yield* warningsOf(Aggregate.load(Counter, id))
        assert.deepStrictEqual([loaded.version, loaded.snapshotVersion], [5, 0])
        inside = false
        assert.deepStrictEqual(yield* warningsOf(isHit(id)), [true, []])
      })
    )
  })

  it("that is slow is used by loads of long streams, and waited for by no others", () => {
    const { layer, state } = through()
    const [short, long] = ids as [Aggregate.Id, Aggregate.Id]
    return run(
      layer,
      Effect.gen(function* () {
        yield* addTo(Counter, short, 5)
        yield* addTo(Counter, long, 2_000)
        yield* Effect.forEach([short, long], saved)
        state.through = Effect.delay("300 millis")
        // The first lookup is left running, and tells that the store is slow and not down.
        const [first] = yield* warningsOf(Aggregate.load(Counter, short))
        assert.strictEqual(first.snapshotVersion, 0)
        yield* eventually(Effect.sync(() => state.atOnce === 0))
        const [hit, warnings] = yield* warningsOf(Aggregate.load(Counter, long))
        assert.deepStrictEqual([hit.snapshotVersion, warnings], [2_000, []])
        assert.strictEqual((yield* Aggregate.loadAt(Counter, long, 2_000)).snapshotVersion, 2_000)
        const asked = state.asked
        assert.strictEqual((yield* Aggregate.loadAt(Counter, long, 900)).snapshotVersion, 0)
        assert.strictEqual((yield* Aggregate.load(Counter, short)).snapshotVersion, 0)
        assert.ok(state.asked <= asked + 1, "only a try")
        // Who waits longer uses it for all streams.
        assert.strictEqual(yield* isHit(short, define({ snapshotTimeout: "10 seconds" })), true)
        state.through = undefined
        yield* eventually(isHit(short))
      })
    )
  })

  it("whose answer has come while the event loop was busy is in time", () => {
    const { layer, state } = through()
    const [id] = ids as [Aggregate.Id]
    return run(
      layer,
      Effect.gen(function* () {
        yield* addTo(Counter, id, 5)
        yield* saved(id)
        const busy = Effect.async<void>((resume) => {
          setTimeout(() => {
            // Comes from outside, like the answer of a server.
            fs.stat(".", () => resume(Effect.void))
            const untilMs = performance.now() + 500
            while (performance.now() < untilMs);
          }, 10)
        })
        state.through = (found) => Effect.zipRight(busy, found)
        assert.strictEqual((yield* Aggregate.load(Counter, id)).snapshotVersion, 5)
        state.through = undefined
        assert.strictEqual(yield* isHit(id), true, "its store is taken for slow")
      })
    )
  })

  it("is asked no longer by a load that was interrupted", () => {
    const { layer, state } = through()
    const [id] = ids as [Aggregate.Id]
    return run(
      layer,
      Effect.gen(function* () {
        const asked = yield* Deferred.make<void>()
        yield* addTo(Counter, id, 5)
        state.through = () => Effect.zipRight(Deferred.succeed(asked, undefined), Effect.never)
        const loading = yield* Effect.fork(Aggregate.load(define({ snapshotTimeout: Duration.infinity }), id))
        yield* Deferred.await(asked)
        yield* Fiber.interrupt(loading)
        assert.strictEqual(state.atOnce, 0)
        state.through = undefined
        // That was nobody's fault.
        yield* saved(id)
        assert.strictEqual(yield* isHit(id), true)
      })
    )
  })

  it("is waited for as long as the definition says; zero means the default, and nonsense is refused", () => {
    assert.strictEqual(define({ snapshotTimeout: 0 }).snapshotTimeoutMs, 100)
    assert.strictEqual(define({ snapshotTimeout: undefined }).snapshotTimeoutMs, 100)
    assert.strictEqual(define({ snapshotTimeout: "2 seconds" }).snapshotTimeoutMs, 2_000)
    for (const snapshotTimeout of [-1, 0.5, Number.NaN, "soon", {}, null])
      expect(() => define({ snapshotTimeout } as Options)).toThrow(/^snapshotTimeout/)
  })
})

describeOwnRedis("Snapshots on Redis", () => {
  for (const outage of ["stopped", "killed"] as const) {
    it(`that is ${outage} are done without, and used again when it is back`, async () => {
      const server = await startRedis({ persistent: true })
      const ids = Array.from({ length: 20 }, freshId)
      const stores = Layer.merge(
        EventStoreMemory.layer(),
        SnapshotStoreRedis.layer({
          url: Redacted.make(server.url),
          // Longer than any test: loads do not rely on it.
          pool: { writeTimeout: "1 hour" }
        })
      )
      try {
        await run(
          stores,
          Effect.gen(function* () {
            yield* Effect.forEach(ids, (id) => Effect.zipRight(addTo(Counter, id, 5), saved(id)))
            yield* Effect.promise(async () => (outage === "stopped" ? server.pause() : server.kill()))
            for (let round = 0; round < 50; round++) {
              for (const { state } of yield* loads20(ids)) assert.deepStrictEqual(state, evolveAll(5))
            }
            yield* Effect.promise(async () => (outage === "stopped" ? server.resume() : server.start()))
            yield* eventually(isHit(ids[0] as Aggregate.Id))
          })
        )
      } finally {
        await server.stop()
      }
    })
  }
})

describePg("Snapshots on PostgreSQL", () => {
  const holding = async <A>(url: string, use: (letGo: () => Promise<void>) => Promise<A>): Promise<A> => {
    const client = new Client({ connectionString: url })
    await client.connect()
    try {
      await client.query("begin")
      await client.query("lock table es_snapshots in access exclusive mode")
      return await use(async () => void (await client.query("rollback")))
    } finally {
      await client.end()
    }
  }

  const layerOf = (url: string) =>
    Layer.provideMerge(
      SnapshotStorePg.layerFromDatabase(),
      // No more connections than a few, which loads must not occupy.
      EventStorePg.layer({ url: Redacted.make(url), lockTimeout: "1 hour", pool: { maxOpenConns: 4 } })
    )

  it("whose table is locked are done without, on the pool of the events too, and used again", async () => {
    const url = await freshDatabase()
    const ids = Array.from({ length: 20 }, freshId)
    const layer = layerOf(url)
    await run(
      layer,
      Effect.gen(function* () {
        yield* Effect.forEach(ids, (id) => Effect.zipRight(addTo(Counter, id, 5), saved(id)))
        const runtime = yield* Effect.runtime<Stores>()
        yield* Effect.promise(() =>
          holding(url, async (letGo) => {
            const effect = Effect.gen(function* () {
              for (let round = 0; round < 20; round++) {
                for (const { state } of yield* loads20(ids)) assert.deepStrictEqual(state, evolveAll(5))
              }
              yield* Effect.promise(letGo)
              yield* eventually(isHit(ids[0] as Aggregate.Id))
            })
            await Effect.runPromise(Effect.provide(effect, runtime))
          })
        )
      })
    )
  })

  it("are waited for in a transaction, which giving up on them would fail", async () => {
    const url = await freshDatabase()
    const id = freshId()
    await Effect.runPromise(
      Effect.gen(function* () {
        const { transaction } = yield* PgDatabase.PgDatabase
        yield* addTo(Counter, id, 5)
        yield* saved(id)
        const runtime = yield* Effect.runtime<Stores | PgDatabase.PgDatabase>()
        const loaded = yield* Effect.promise(() =>
          holding(url, async (letGo) => {
            const loading = Effect.runFork(
              Effect.provide(transaction(Effect.zipLeft(Aggregate.load(Counter, id), addTo(Counter, id, 1))), runtime)
            )
            // Many times as long as a load waits elsewhere.
            await new Promise((resume) => setTimeout(resume, 500))
            await letGo()
            return Effect.runPromise(Fiber.join(loading))
          })
        )
        assert.deepStrictEqual([loaded.state, loaded.snapshotVersion], [evolveAll(5), 5])
        assert.strictEqual((yield* Aggregate.load(Counter, id)).version, 6)
      }).pipe(Effect.provide(layerOf(url)))
    )
  })
})
