/**
 * The CacheStore's contract on two levels, and what the first level may serve while processes, the bus and the second
 * level come and go.
 */
import assert from "node:assert/strict"
import { Context, Effect, Fiber, Layer, ManagedRuntime, Option, Redacted } from "effect"
import { CacheBus, CacheStore, CacheStoreEncoded, CacheStoreTwoLevels, Errors } from "effect-stores"
import { CacheStoreMemory } from "effect-stores/memory"
import { CacheStorePg, PgDatabase } from "effect-stores/pg"
import { CacheStoreRedis, RedisDatabase } from "effect-stores/redis"
import { CacheStoreSuite } from "effect-stores/testing"
import Pg from "pg"
import { describe, it, onTestFinished, vi } from "vitest"
import { type Proxy, proxyOf, until } from "./redis/fixtures.js"
import {
  describeOwnRedis,
  describePg,
  describeRedis,
  freshDatabase,
  freshKeyPrefix,
  redisUrl
} from "./support/backends.js"
import { startRedis } from "./support/redis.js"
import { badInput, model } from "./support/scale.js"

const { get } = Effect.serviceFunctions(CacheStore.CacheStore)
const cache = <A, E>(use: (store: CacheStore.CacheStoreShape) => Effect.Effect<A, E>) =>
  Effect.flatMap(CacheStore.CacheStore, use)

/** A process: a store of its own until the end of the test. */
const open = <E>(layer: Layer.Layer<CacheStore.CacheStore, E>) => {
  const runtime = ManagedRuntime.make(layer)
  onTestFinished(() => runtime.dispose())
  return <A, F>(use: (store: CacheStore.CacheStoreShape) => Effect.Effect<A, F>) => runtime.runPromise(cache(use))
}

/** From now on to the end of the test time passes by what this returns alone. */
const holdTime = () => {
  vi.useFakeTimers({ toFake: ["Date"] })
  onTestFinished(() => void vi.useRealTimers())
  return (ms: number): void => void vi.setSystemTime(Date.now() + ms)
}

/** The second level and the bus in this process, with switches. */
const world = () => {
  const { encoded } = Effect.runSync(CacheStoreMemory.makeEncoded())
  const listeners = new Set<CacheBus.Listener>()
  const reads: Array<string> = []
  const published: Array<string> = []
  /** Runs before a read of the second level returns what it has found. */
  const held: { before: Effect.Effect<void> } = { before: Effect.void }
  const second = Layer.scoped(
    CacheStore.CacheStore,
    CacheStoreEncoded.make(
      {
        ...encoded,
        get: (place, left) =>
          Effect.tap(encoded.get(place, left), () => {
            reads.push(place.key)
            return held.before
          })
      },
      { system: "memory" }
    )
  )
  const bus = Layer.succeed(CacheBus.CacheBus, {
    publish: (text) =>
      Effect.sync(() => {
        published.push(text)
        for (const { message } of listeners) message(text)
      }),
    listen: (listener) =>
      Effect.asVoid(
        Effect.acquireRelease(
          Effect.sync(() => {
            listeners.add(listener)
            listener.connected()
          }),
          () => Effect.sync(() => listeners.delete(listener))
        )
      )
  })
  return { second, bus, listeners, reads, published, held }
}

const first = CacheStoreMemory.layer()
const shared = world()
const layer = CacheStoreTwoLevels.layer({ first, second: shared.second, bus: shared.bus })

CacheStoreSuite.contract("CacheStore on two levels", layer)
CacheStoreSuite.badInput(
  "CacheStore on two levels",
  CacheStoreTwoLevels.layer({ first, second: world().second }),
  badInput
)
CacheStoreSuite.model(
  "CacheStore on two levels",
  CacheStoreTwoLevels.layer({ first, second: CacheStoreMemory.layer() }),
  model
)
CacheStoreSuite.removalWins("CacheStore on two levels", layer, { runs: 50 })

describeRedis("CacheStore in memory before Redis", () => {
  const database = RedisDatabase.layer({ url: Redacted.make(redisUrl() ?? "") })
  const prefix = freshKeyPrefix()
  const layer = CacheStoreTwoLevels.layer({
    first,
    second: CacheStoreRedis.layerFromDatabase({ prefix }),
    bus: CacheStoreRedis.bus({ prefix })
  }).pipe(Layer.provide(database))
  CacheStoreSuite.contract("CacheStore in memory before Redis", layer)
})

describePg("CacheStore in memory before PostgreSQL", async () => {
  const database = PgDatabase.layer({ url: Redacted.make(await freshDatabase()) })
  const layer = CacheStoreTwoLevels.layer({
    first,
    second: CacheStorePg.layerFromDatabase(),
    bus: CacheStorePg.bus()
  }).pipe(Layer.provide(database))
  CacheStoreSuite.contract("CacheStore in memory before PostgreSQL", layer)
})

describe("two levels", () => {
  it("read the second level once, and then the first", async () => {
    const { bus, reads, second } = world()
    const run = open(CacheStoreTwoLevels.layer({ first, second, bus }))
    await run((store) => store.set("t", "k", 1))
    for (let i = 0; i < 5; i++) assert.deepStrictEqual(await run((store) => store.get("t", "k")), Option.some(1))
    assert.deepStrictEqual(reads, ["k"])
  })

  it("a removal in one process is not served by another's first level", async () => {
    const { bus, second } = world()
    const [one, two] = [0, 1].map(() => open(CacheStoreTwoLevels.layer({ first, second, bus }))) as [
      ReturnType<typeof open>,
      ReturnType<typeof open>
    ]
    const removals: ReadonlyArray<(store: CacheStore.CacheStoreShape) => Effect.Effect<unknown, unknown>> = [
      (store) => store.delete("t", "k"),
      (store) => store.invalidate("t", { tags: ["g"] }),
      (store) => store.expire("t", { keys: ["k"] }),
      (store) => store.expire("t", { tags: ["g"] }),
      (store) => store.touch("t", "k", 1).pipe(Effect.zipRight(Effect.sleep(5))),
      (store) => store.clear("t"),
      (store) => store.reset
    ]
    for (const removal of removals) {
      await one((store) => store.set("t", "k", 1, { tags: ["g"] }))
      await one((store) => store.set("u", "k", 2, { tags: ["g"] }))
      for (const run of [one, two]) assert.deepStrictEqual(await run((store) => store.get("t", "k")), Option.some(1))
      await one(removal)
      for (const run of [one, two]) assert.deepStrictEqual(await run((store) => store.get("t", "k")), Option.none())
    }
  })

  for (const [name, change] of Object.entries<
    (store: CacheStore.CacheStoreShape, pass: (ms: number) => void) => Effect.Effect<unknown, unknown>
  >({
    set: (store) => store.set("t", "k", 2),
    setMany: (store) => store.setMany("t", [{ key: "k", value: 2 }]),
    touch: (store, pass) => Effect.map(store.touch("t", "k", 1), () => pass(1)),
    delete: (store) => store.delete("t", "k"),
    deleteMany: (store) => store.deleteMany("t", ["k"]),
    "invalidate by key": (store) => store.invalidate("t", { keys: ["k"] }),
    "invalidate by tag": (store) => store.invalidate("t", { tags: ["g"] }),
    "expire by key": (store) => store.expire("t", { keys: ["k"] }),
    "expire by tag": (store) => store.expire("t", { tags: ["g"] }),
    // The second level has lost what the first still has.
    setIfAbsent: (store) => store.setIfAbsent("t", "k", 2)
  })) {
    it(`${name}: the first levels serve the key no more as it was, and all others as before`, async () => {
      const { bus, reads, second } = world()
      const [one, two] = [0, 1].map(() =>
        open(CacheStoreTwoLevels.layer({ first, second, bus, staleness: "1 hour" }))
      ) as [ReturnType<typeof open>, ReturnType<typeof open>]
      const other = open(second)
      const pass = holdTime()
      await other((store) => store.set("t", "k", 1, { ttl: "1 hour", tags: ["g"] }))
      for (const tenantId of ["t", "u"]) await other((store) => store.set(tenantId, "l", 1, { ttl: "1 hour" }))
      const found = (run: ReturnType<typeof open>) =>
        Promise.all([
          run((store) => store.get("t", "k")),
          run((store) => store.get("t", "l")),
          run((store) => store.get("u", "l"))
        ])
      const all = [Option.some(1), Option.some(1), Option.some(1)]
      for (const run of [one, two]) assert.deepStrictEqual(await found(run), all)
      reads.length = 0
      for (const run of [one, two]) assert.deepStrictEqual(await found(run), all)
      assert.deepStrictEqual(reads, [])
      if (name === "setIfAbsent") await other((store) => store.delete("t", "k"))
      await one((store) => change(store, pass))
      reads.length = 0
      const now = /^set/.test(name) ? Option.some(2) : Option.none()
      for (const run of [one, two]) assert.deepStrictEqual(await found(run), [now, Option.some(1), Option.some(1)])
      assert.deepStrictEqual(reads, ["k", "k"])
    })
  }

  it("what a load has stored is what its own process reads from then on", async () => {
    const { bus, reads, second } = world()
    const run = open(CacheStoreTwoLevels.layer({ first, second, bus, staleness: "1 hour" }))
    const other = open(second)
    for (const key of ["k", "l"]) {
      await run((store) => store.set("t", key, "old", { ttl: "1 hour" }))
      await run((store) => store.get("t", key))
    }
    const load = Effect.succeed("new")
    await run((store) => store.getOrSet("t", "k", load, { ttl: "3 hours", refreshAhead: "2 hours" }))
    await until("the refresh", async () => Option.contains(await other((store) => store.get("t", "k")), "new"))
    reads.length = 0
    assert.deepStrictEqual(await run((store) => store.get("t", "k")), Option.some("new"))
    assert.deepStrictEqual(await run((store) => store.get("t", "l")), Option.some("old"))
    assert.deepStrictEqual(reads, ["k"])
  })

  it("a reader that has read the second level before a removal does not fill the first after it", async () => {
    for (const target of [{ keys: ["k"] }, { tags: ["g"] }]) {
      const { bus, held, second } = world()
      const run = open(CacheStoreTwoLevels.layer({ first, second, bus }))
      await run((store) => store.set("t", "k", 1, { tags: ["g"] }))
      const outcome = await run((store) =>
        Effect.gen(function* () {
          const latch = yield* Effect.makeLatch(false)
          let reading = false
          held.before = Effect.zipRight(
            Effect.sync(() => {
              reading = true
            }),
            latch.await
          )
          const reader = yield* Effect.fork(store.get("t", "k"))
          while (!reading) yield* Effect.sleep(1)
          held.before = Effect.void
          yield* store.invalidate("t", target)
          yield* latch.open
          return [yield* Fiber.join(reader), yield* store.get("t", "k")]
        })
      )
      // It had asked before.
      assert.deepStrictEqual(outcome, [Option.some(1), Option.none()])
    }
  })

  it("a lost bus empties the first level, and until it is back the second is read", async () => {
    const { bus, listeners, reads, second } = world()
    const run = open(CacheStoreTwoLevels.layer({ first, second, bus }))
    const other = open(second)
    await run((store) => store.set("t", "k", 1))
    await run((store) => store.get("t", "k"))
    for (const { lost } of listeners) lost()
    // Nobody tells this process.
    await other((store) => store.set("t", "k", 2))
    assert.deepStrictEqual(await run((store) => store.get("t", "k")), Option.some(2))
    await other((store) => store.set("t", "k", 3))
    assert.deepStrictEqual(await run((store) => store.get("t", "k")), Option.some(3))
    for (const { connected } of listeners) connected()
    assert.deepStrictEqual(await run((store) => store.get("t", "k")), Option.some(3))
    reads.length = 0
    assert.deepStrictEqual(await run((store) => store.get("t", "k")), Option.some(3))
    assert.deepStrictEqual(reads, [])
  })

  it("without a bus the first level is as old as the staleness at most, the time of its reading included", async () => {
    const { held, reads, second } = world()
    const run = open(CacheStoreTwoLevels.layer({ first, second, staleness: 300 }))
    const other = open(second)
    const pass = holdTime()
    await other((store) => store.set("t", "k", 1, { ttl: "1 hour" }))
    const latch = Effect.unsafeMakeLatch()
    held.before = latch.await
    const reader = run((store) => store.get("t", "k"))
    await until("a read", () => reads.length === 1)
    // Read, and removed while it is on its way.
    held.before = Effect.void
    await other((store) => store.delete("t", "k"))
    pass(200)
    await Effect.runPromise(latch.open)
    assert.deepStrictEqual(await reader, Option.some(1))
    pass(99)
    assert.deepStrictEqual(await run((store) => store.get("t", "k")), Option.some(1))
    assert.deepStrictEqual(reads, ["k"])
    pass(1)
    assert.deepStrictEqual(await run((store) => store.get("t", "k")), Option.none())
  })

  it("a first level that cannot remove is not read again before a new connection of the bus empties it", async () => {
    const { bus, listeners, reads, second } = world()
    const { encoded } = Effect.runSync(CacheStoreMemory.makeEncoded())
    let isStuck = false
    const stuck = <A>(removal: Effect.Effect<A, Errors.StoreFailure>) =>
      Effect.suspend(() =>
        isStuck
          ? Effect.fail(new Errors.StoreUnavailable({ operation: "delete", retryable: true, cause: "stuck" }))
          : removal
      )
    const first = Layer.scoped(
      CacheStore.CacheStore,
      CacheStoreEncoded.make(
        {
          ...encoded,
          remove: (...args) => stuck(encoded.remove(...args)),
          invalidateTags: (...args) => stuck(encoded.invalidateTags(...args)),
          reset: (...args) => stuck(encoded.reset(...args))
        },
        { system: "memory" }
      )
    )
    const run = open(CacheStoreTwoLevels.layer({ first, second, bus, staleness: "1 hour" }))
    const found = (key: string) => run((store) => store.get("t", key))
    const removals: ReadonlyArray<(store: CacheStore.CacheStoreShape) => Effect.Effect<unknown, unknown>> = [
      (store) => store.delete("t", "k"),
      (store) => store.invalidate("t", { tags: ["g"] }),
      (store) => store.clear("t")
    ]
    for (const remove of removals) {
      for (const key of ["k", "l"]) {
        await run((store) => store.set("t", key, 1, { ttl: "1 hour", tags: ["g"] }))
        assert.deepStrictEqual(await found(key), Option.some(1))
      }
      isStuck = true
      await run(remove)
      assert.deepStrictEqual(await found("k"), Option.none())
      reads.length = 0
      await found("l")
      assert.deepStrictEqual(reads, ["l"])
      // One that cannot be emptied either stays unread.
      for (const { connected } of listeners) connected()
      await found("l")
      assert.deepStrictEqual(reads, ["l", "l"])
      isStuck = false
      for (const { connected } of listeners) connected()
      await run((store) => store.set("t", "l", 2, { ttl: "1 hour" }))
      await found("l")
      reads.length = 0
      assert.deepStrictEqual(await found("l"), Option.some(2))
      assert.deepStrictEqual(reads, [])
    }
  })

  it("a value is not kept in the first level beyond its time to live", async () => {
    const { second } = world()
    const run = open(CacheStoreTwoLevels.layer({ first, second, staleness: "1 hour" }))
    const pass = holdTime()
    await run((store) => store.set("t", "k", 1, { ttl: 200, grace: "1 hour" }))
    await run((store) => store.get("t", "k"))
    pass(199)
    assert.deepStrictEqual(await run((store) => store.get("t", "k")), Option.some(1))
    pass(1)
    assert.deepStrictEqual(await run((store) => store.get("t", "k")), Option.none())
  })

  it("a removal of more than a message holds is heard by others all the same", async () => {
    const { bus, published, second } = world()
    const [one, two] = [0, 1].map(() => open(CacheStoreTwoLevels.layer({ first, second, bus }))) as [
      ReturnType<typeof open>,
      ReturnType<typeof open>
    ]
    const keys = Array.from({ length: 1_000 }, (_, i) => `k${i}`.padEnd(255, "x"))
    await one((store) =>
      store.setMany(
        "t",
        keys.map((key) => ({ key, value: 1 }))
      )
    )
    assert.strictEqual((await two((store) => store.getMany("t", keys))).size, 1_000)
    published.length = 0
    await one((store) => store.deleteMany("t", keys))
    assert.strictEqual((await two((store) => store.getMany("t", keys))).size, 0)
    // PostgreSQL refuses messages of 8,000 bytes.
    assert.ok(published.length > 0 && published.every((text) => Buffer.byteLength(text) < 8_000))
  })

  it("a store that was made by hand, and options that make no sense, are refused", async () => {
    const byHand = Layer.map(first, (context) =>
      Context.make(CacheStore.CacheStore, { ...Context.get(context, CacheStore.CacheStore) })
    )
    for (const layer of [
      CacheStoreTwoLevels.layer({ first: byHand, second: first }),
      CacheStoreTwoLevels.layer({ first, second: byHand })
    ]) {
      const error = await Effect.runPromise(Effect.flip(Effect.provide(get("t", "k"), layer)))
      assert.strictEqual(error._tag, "InvalidInput")
    }
    for (const staleness of [0, 3_600_001, Number.NaN]) {
      const layer = CacheStoreTwoLevels.layer({ first, second: first, staleness })
      const error = await Effect.runPromise(Effect.flip(Layer.launch(layer)))
      assert.strictEqual(error.what, "staleness")
    }
  })
})

interface Bus {
  readonly proxy: Proxy
  /** A process whose connections all go through the proxy, its first level bounded by an hour only. */
  readonly near: Layer.Layer<CacheStore.CacheStore, unknown>
  /** The second level alone: what it writes is told to nobody. */
  readonly far: Layer.Layer<CacheStore.CacheStore, unknown>
  readonly listeners: () => Promise<number>
  /** Ends the connection that listens, on the server. */
  readonly kill: () => Promise<unknown>
  /** What a client sends to begin to listen. */
  readonly listens: RegExp
}

const losesItsBus = (start: () => Promise<Bus>): void => {
  const opened = async () => {
    const { far, kill, listeners, listens, near, proxy } = await start()
    let listening = 0
    proxy.onData = (data, nth) => {
      if (listens.test(data)) listening = nth
      return "pass"
    }
    const run = open(near)
    const past = open(far)
    const found = (key = "k") => run((store) => store.get("t", key))
    const listened = () => until("a listener", async () => (await listeners()) === 1)
    return {
      put: (value: number) => past((store) => store.set("t", "k", value, { ttl: "1 hour" })),
      seen: (value: number) => until(`${value} in the first level`, async () => Option.contains(await found(), value)),
      /** Reads `value` into the first level, which then serves it although the second has another. */
      hold: async (key: string, value: number, other: number) => {
        await found(key)
        await listened()
        await past((store) => store.set("t", key, value, { ttl: "1 hour" }))
        await until(`${value} is kept`, async () => {
          await past((store) => store.set("t", key, value, { ttl: "1 hour" }))
          await found(key)
          await past((store) => store.set("t", key, other, { ttl: "1 hour" }))
          return Option.contains(await found(key), value)
        })
      },
      listened,
      kill,
      /** From now on nothing is heard on the connection that listens, nor on one that takes its place. */
      silence: () => {
        proxy.onData = (data, nth) => (nth === listening || listens.test(data) ? "keep" : "pass")
      }
    }
  }

  it("a listener that is killed empties the first level, and the next one fills it again", async () => {
    const { hold, kill, listened, seen } = await opened()
    await hold("k", 1, 2)
    await kill()
    // No message says so, and the first level would keep 1 for an hour.
    await seen(2)
    await listened()
    await hold("l", 1, 2)
  })

  it("a connection that goes silent is noticed, and until there is another the second level is read", async () => {
    const { hold, put, seen, silence } = await opened()
    await hold("k", 1, 2)
    const from = performance.now()
    silence()
    await seen(2)
    // Two seconds, and much for a machine that is busy; its staleness is an hour.
    assert.ok(performance.now() - from < 20_000)
    await put(3)
    await seen(3)
  })
}

describeOwnRedis("two levels that lose their bus on Redis", () => {
  losesItsBus(async () => {
    const server = await startRedis()
    onTestFinished(() => server.stop())
    const proxy = await proxyOf(server)
    return {
      proxy,
      near: CacheStoreTwoLevels.layer({
        first,
        second: CacheStoreRedis.layerFromDatabase(),
        bus: CacheStoreRedis.bus(),
        staleness: "1 hour"
      }).pipe(Layer.provide(RedisDatabase.layer({ host: "127.0.0.1", port: proxy.port }))),
      far: CacheStoreRedis.layer({ url: Redacted.make(server.url) }),
      listeners: async () => {
        const [, count] = (await server.command("pubsub", "numsub", "es:cache:{bus}")) as [string, number]
        return Number(count)
      },
      kill: () => server.command("client", "kill", "type", "pubsub"),
      listens: /subscribe/
    }
  })
})

describePg("two levels that lose their bus on PostgreSQL", () => {
  losesItsBus(async () => {
    const url = new URL(await freshDatabase())
    const admin = new Pg.Client({ connectionString: url.href })
    await admin.connect()
    onTestFinished(() => admin.end())
    const proxy = await proxyOf({ port: Number(url.port || 5432) })
    const through = new URL(url)
    through.hostname = "127.0.0.1"
    through.port = String(proxy.port)
    const listeners = "from pg_stat_activity where datname = current_database() and application_name like '% listener'"
    return {
      proxy,
      near: CacheStoreTwoLevels.layer({
        first,
        second: CacheStorePg.layerFromDatabase(),
        bus: CacheStorePg.bus(),
        staleness: "1 hour"
      }).pipe(Layer.provide(PgDatabase.layer({ url: Redacted.make(through.href) }))),
      far: CacheStorePg.layer({ url: Redacted.make(url.href) }),
      listeners: async () => {
        const { rows } = await admin.query(`select count(*)::int as n ${listeners}`)
        return rows[0].n
      },
      kill: () => admin.query(`select pg_terminate_backend(pid) ${listeners}`),
      listens: /listen "/
    }
  })
})
