/**
 * What the CacheStore on Redis adds to the contract: its commands and their writes to the socket, what outlives what,
 * and servers that are dead, silent, or change.
 */
import assert from "node:assert/strict"
import { setTimeout as delay } from "node:timers/promises"
import { Effect, Exit, ManagedRuntime, Option, Redacted } from "effect"
import { CacheStore } from "effect-stores"
import { CacheStoreRedis } from "effect-stores/redis"
import { afterAll, beforeAll, beforeEach, it, onTestFinished } from "vitest"
import { failure, proxyOf, until } from "../redis/fixtures.js"
import { describeOwnRedis, patientRedis } from "../support/backends.js"
import { type RedisServer, startRedis, startRedisCluster, startRedisSentinel } from "../support/redis.js"
import { isFull } from "../support/scale.js"

const password = "secret"
const node = ({ port }: RedisServer) => ({ host: "127.0.0.1", port })

/** A store until the end of the test. */
const open = (options: CacheStoreRedis.Options) => {
  const runtime = ManagedRuntime.make(CacheStoreRedis.layer(options))
  onTestFinished(() => runtime.dispose())
  const body = <A, E>(use: (cache: CacheStore.CacheStoreShape) => Effect.Effect<A, E>) =>
    Effect.flatMap(CacheStore.CacheStore, use)
  return {
    run: <A, E>(use: (cache: CacheStore.CacheStoreShape) => Effect.Effect<A, E>) => runtime.runPromise(body(use)),
    exit: <A, E>(use: (cache: CacheStore.CacheStoreShape) => Effect.Effect<A, E>) => runtime.runPromiseExit(body(use))
  }
}

const calls = async (server: RedisServer): Promise<Record<string, number>> =>
  Object.fromEntries(
    [...String(await server.command("info", "commandstats")).matchAll(/^cmdstat_([^:]+):calls=(\d+)/gm)].map(
      ([, name, count]) => [name, Number(count)]
    )
  )

const keysOf = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => `k${from + i}`)

describeOwnRedis("the CacheStore on Redis", () => {
  let server: RedisServer
  beforeAll(async () => {
    server = await startRedis()
  })
  afterAll(() => server?.stop())
  beforeEach(() => server.command("flushall"))

  it("plain entries are SET, GET, MGET and UNLINK, one command each", async () => {
    const store = open({ url: Redacted.make(server.url) })
    await store.run((cache) => cache.get("t", "k"))
    await server.command("config", "resetstat")
    await store.run((cache) => cache.set("t", "k", 1))
    await store.run((cache) => cache.get("t", "k"))
    await store.run((cache) => cache.getOrSet("t", "k", Effect.die("loaded")))
    await store.run((cache) => cache.getMany("t", keysOf(0, 100)))
    await store.run((cache) => cache.deleteMany("t", keysOf(0, 100)))
    const { get, mget, set, unlink } = await calls(server)
    assert.deepStrictEqual({ get, mget, set, unlink }, { get: 2, mget: 1, set: 1, unlink: 1 })
  })

  it("many keys are one write to the socket, with and without tags", async () => {
    const proxy = await proxyOf(server)
    const store = open({ host: "127.0.0.1", port: proxy.port, pool: { poolSize: 1, minIdleConns: 1, maxIdleConns: 1 } })
    await store.run((cache) =>
      cache.setMany(
        "t",
        [
          { key: "a", value: 1 },
          { key: "b", value: 1 }
        ],
        { tags: ["g"] }
      )
    )
    await store.run((cache) => cache.getMany("t", ["a", "b"]))
    let writes: Array<string> = []
    proxy.onData = (data) => {
      writes.push(data)
      return "pass"
    }
    const entries = keysOf(0, 100).map((key) => ({ key, value: 1 }))
    const count = async (use: (cache: CacheStore.CacheStoreShape) => Effect.Effect<unknown, unknown>) => {
      writes = []
      await store.run(use)
      return writes.filter((data) => !/^\*1\r\n\$4\r\nping/i.test(data)).length
    }
    assert.strictEqual(await count((cache) => cache.setMany("t", entries)), 1)
    assert.strictEqual(await count((cache) => cache.getMany("t", keysOf(0, 100))), 1)
    // The tags, then the entries; the entries plainly, with the server's time, and their tags.
    assert.strictEqual(await count((cache) => cache.setMany("t", entries, { tags: ["g"] })), 2)
    assert.strictEqual(await count((cache) => cache.getMany("t", keysOf(0, 100))), 3)
  })

  it("what callers ask for in the same turn is one write to the socket", async () => {
    const proxy = await proxyOf(server)
    const store = open({ host: "127.0.0.1", port: proxy.port, pool: { poolSize: 1, minIdleConns: 1, maxIdleConns: 1 } })
    await store.run((cache) => cache.get("t", "k"))
    const writes: Array<string> = []
    proxy.onData = (data) => {
      writes.push(data)
      return "pass"
    }
    await store.run((cache) =>
      Effect.forEach(keysOf(0, 100), (key) => cache.get("t", key), { concurrency: "unbounded", discard: true })
    )
    assert.strictEqual(writes.filter((data) => /get/i.test(data)).length, 1)
  })

  it("values of all sizes that are written in one turn come back whole", async () => {
    const store = open({
      url: Redacted.make(server.url),
      pool: { poolSize: 1, minIdleConns: 1, maxIdleConns: 1, ...patientRedis }
    })
    const sizes = Array.from({ length: 60 }, (_, i) => [10, 5_000, 200_000, 300_000, 1_000_000][i % 5] as number)
    const value = (i: number) => `${i}:${"é".repeat((sizes[i] as number) / 2)}`
    await store.run((cache) =>
      Effect.forEach(sizes, (_, i) => cache.set("t", `size-${i}`, value(i)), {
        concurrency: "unbounded",
        discard: true
      })
    )
    // What is read between what is written, each with its own reply.
    const found = await store.run((cache) =>
      Effect.forEach(
        sizes,
        (_, i) =>
          Effect.zipLeft(cache.get("t", `size-${i}`), cache.set("t", `again-${i}`, value(i)), { concurrent: true }),
        { concurrency: "unbounded" }
      )
    )
    for (const [i, one] of found.entries()) assert.ok(Option.contains(one, value(i)), `${i}`)
  })

  it("commands of text and of bytes in one turn keep their order, so that each gets its own reply", async () => {
    const store = open({ url: Redacted.make(server.url), pool: { poolSize: 1, minIdleConns: 1, maxIdleConns: 1 } })
    const keys = keysOf(0, 20)
    await store.run((cache) =>
      cache.setMany(
        "t",
        keys.map((key) => ({ key, value: `${key} ${"x".repeat(1_000)}` }))
      )
    )
    let clearing = true
    const clears = store
      .run((cache) =>
        Effect.repeatN(
          Effect.forEach(
            ["u", "v", "w"],
            (tenant) =>
              // What SCAN has found is unlinked by its bytes.
              Effect.zipRight(
                cache.setMany(
                  tenant,
                  keys.map((key) => ({ key, value: 1 }))
                ),
                cache.clear(tenant)
              ),
            { concurrency: "unbounded", discard: true }
          ),
          isFull ? 500 : 50
        )
      )
      .finally(() => {
        clearing = false
      })
    // Each goes on by itself, so that whatever else is sent comes between them.
    let found = 0
    await store.run((cache) =>
      Effect.forEach(
        keys,
        (key) =>
          Effect.iterate(0, {
            while: () => clearing,
            body: () =>
              Effect.map(cache.get("t", key), (one) => {
                assert.ok(Option.contains(one, `${key} ${"x".repeat(1_000)}`), key)
                return found++
              })
          }),
        { concurrency: "unbounded" }
      )
    )
    await clears
    assert.ok(found > 1_000, `${found} values`)
  })

  it("what it walks through it asks for by SCAN, and a reset touches nobody else's keys", async () => {
    const store = open({ url: Redacted.make(server.url), prefix: "es:[c]*?" })
    await server.command("set", "es:cache", "kept")
    await server.command("set", "es:[c]*?x", "kept")
    const other = open({ url: Redacted.make(server.url), prefix: "es:[c]*?x" })
    await other.run((cache) => cache.set("t", "k", 1))
    for (let from = 0; from < 3_000; from += 1_000) {
      await store.run((cache) =>
        cache.setMany(
          "t",
          keysOf(from, from + 1_000).map((key) => ({ key, value: 1 }))
        )
      )
    }
    await server.command("config", "resetstat")
    assert.strictEqual(await store.run((cache) => cache.count("t")), 3_000)
    await store.run((cache) => cache.reset)
    assert.strictEqual(await server.command("dbsize"), 3)
    const counted = await calls(server)
    assert.ok((counted.scan ?? 0) >= 3)
    for (const blocking of ["keys", "flushdb", "flushall", "del"]) assert.strictEqual(counted[blocking], undefined)
  })

  it("no structure outlives its entries: tags, tickets and expired entries leave nothing", async () => {
    const store = open({ url: Redacted.make(server.url) })
    const memory = async () => Number(/used_memory:(\d+)/.exec(String(await server.command("info", "memory")))?.[1])
    await store.run((cache) => cache.set("t", "warm", 1, { ttl: 1, tags: ["g"] }))
    await delay(50)
    const before = await memory()
    const batches = isFull ? 200 : 20
    for (let batch = 0; batch < batches; batch++) {
      await store.run((cache) =>
        cache.setMany(
          "t",
          keysOf(batch * 1_000, (batch + 1) * 1_000).map((key) => ({ key, value: key })),
          { ttl: 1_000, tags: [`g${batch}`, "all"] }
        )
      )
    }
    await store.run((cache) => cache.getOrSet("t", "loaded", Effect.succeed(1), { ttl: 500, grace: 100, tags: ["l"] }))
    await store.exit((cache) => cache.getOrSet("t", "failed", Effect.fail("no value"), { tags: ["f"] }))
    await until("no key", async () => (await server.command("dbsize")) === 0)
    assert.ok((await memory()) < before * 1.5 + 1_000_000)
  })

  it("a key lives as long as the longest of what it holds, and a tag as long as its entries", async () => {
    const store = open({ url: Redacted.make(server.url), lease: 1_000 })
    const left = async (kind: "k" | "t", name: string) =>
      Number(await server.command("pttl", `es:cache:{${kind}:t:${name}`)) / 3_600_000
    const within = (hours: number, most: number) => assert.ok(hours > most - 0.5 && hours <= most, `${hours}`)
    await store.run((cache) => cache.set("t", "k", 1, { ttl: "1 hour", grace: "1 hour", tags: ["g"] }))
    await store.run((cache) => cache.set("t", "plain", 1, { ttl: "1 hour" }))
    within(await left("k", "k"), 2)
    within(await left("t", "g"), 2)
    // A refresh ahead is under way, and its lease is shorter.
    const started = Effect.unsafeMakeLatch()
    const going = Effect.unsafeMakeLatch()
    const load = () => Effect.as(Effect.zipRight(started.open, going.await), new Map())
    await store.run((cache) => cache.getOrSetMany("t", ["k", "plain"], load, { refreshAhead: "1 day", tags: ["g"] }))
    await Effect.runPromise(started.await)
    within(await left("k", "k"), 2)
    within(await left("k", "plain"), 1)
    await store.run((cache) => cache.expire("t", { tags: ["g"] }))
    within(await left("t", "g"), 2)
    await store.run((cache) => cache.expire("t", { keys: ["k"] }))
    within(await left("k", "k"), 1)
    await Effect.runPromise(going.open)
  })

  it("what is no entry is absent, and gives way to a set", async () => {
    const store = open({ url: Redacted.make(server.url) })
    const key = "es:cache:{k:t:k"
    for (const text of ["", "x", "s", "s9", "u", "c", "c{}", "s000{", "s003abc1", `c${"9".repeat(200)}`, "\xff\xfe"]) {
      await server.command("set", key, text)
      assert.deepStrictEqual(await store.run((cache) => cache.get("t", "k")), Option.none(), text)
      assert.strictEqual(
        await store.run((cache) => cache.getOrSet("t", "k", Effect.succeed(2), { hardTimeout: 2_000 })),
        2
      )
      await store.run((cache) => cache.set("t", "k", 1))
      assert.deepStrictEqual(await store.run((cache) => cache.get("t", "k")), Option.some(1))
    }
  })
})

describeOwnRedis("the CacheStore on a Redis that is away", () => {
  it("a dead server fails operations typed and no load, drops what it was to write, and is used again", async () => {
    const server = await startRedis()
    onTestFinished(() => server.stop())
    const store = open({ url: Redacted.make(server.url), pool: { writeTimeout: 1_000 } })
    await store.run((cache) => cache.set("t", "k", "before", { ttl: "1 hour" }))
    await server.kill()
    const failed = failure(await store.exit((cache) => cache.set("t", "k", "during")))
    assert.strictEqual(failed._tag, "StoreUnavailable")
    let loads = 0
    const load = Effect.sync(() => ++loads)
    for (let i = 1; i <= 5; i++) assert.strictEqual(await store.run((cache) => cache.getOrSet("t", "l", load)), i)
    await server.start()
    await until("a stored value", async () => {
      await store.run((cache) => cache.getOrSet("t", "l", load))
      const found = await store.exit((cache) => cache.get("t", "l"))
      return Exit.isSuccess(found) && Option.isSome(found.value)
    })
    assert.deepStrictEqual(await store.run((cache) => cache.get("t", "k")), Option.none())
  })

  it("a silent server fails an operation within writeTimeout, and after the first load nobody waits for it", async () => {
    const server = await startRedis()
    onTestFinished(() => server.stop())
    const writeTimeout = 1_500
    const proxy = await proxyOf(server)
    const store = open({ host: "127.0.0.1", port: proxy.port, pool: { writeTimeout } })
    await store.run((cache) => cache.get("t", "k"))
    server.pause()
    const failed = failure(await store.exit((cache) => cache.get("t", "k")))
    assert.strictEqual(failed._tag, "StoreUnavailable")
    await store.run((cache) => cache.getOrSet("t", "k", Effect.succeed(0)))
    let sent = 0
    proxy.onData = (data) => {
      sent += data.match(/\{k:t:k\d/g)?.length ?? 0
      return "pass"
    }
    for (let i = 0; i < 20; i++) {
      assert.strictEqual(await store.run((cache) => cache.getOrSet("t", `k${i}`, Effect.succeed(i))), i)
    }
    // Each of them would have sent its command, and waited for it; a probe does so now and then, and nobody waits.
    assert.ok(sent < 10, `${sent} sent`)
    server.resume()
    await until("a stored value", async () => {
      await store.run((cache) => cache.getOrSet("t", "l", Effect.succeed(1)))
      const found = await store.exit((cache) => cache.get("t", "l"))
      return Exit.isSuccess(found) && Option.isSome(found.value)
    })
  })
})

/** Callers that set, read and load until they are stopped. */
const busy = (store: ReturnType<typeof open>) => {
  let going = true
  let answers = 0
  const errors: Array<unknown> = []
  const callers = Array.from({ length: 8 }, async (_, caller) => {
    for (let i = 0; going; i++) {
      const key = `c${caller}-${i % 50}`
      const exit = await store.exit((cache) =>
        Effect.gen(function* () {
          yield* cache.set("t", key, i, { tags: ["g"], grace: "1 hour" })
          const found = yield* cache.get("t", key)
          const loaded = yield* cache.getOrSet("t", `${key}-loaded`, Effect.succeed(i), { tags: ["g"] })
          const many = yield* cache.getMany("t", [key, `${key}-loaded`])
          return { found, loaded, many: many.size }
        })
      )
      if (Exit.isSuccess(exit)) answers++
      else errors.push(failure(exit))
    }
  })
  return {
    errors,
    more: (count: number) => {
      const before = answers
      return until(`${count} more answers`, () => answers > before + count)
    },
    stop: async () => {
      going = false
      await Promise.all(callers)
      return errors
    }
  }
}

describeOwnRedis("the CacheStore on servers that change", () => {
  it("slots of a Cluster that move under load surface no error, and each key is listed once", async () => {
    const cluster = await startRedisCluster({ password })
    onTestFinished(cluster.stop)
    const store = open({ mode: "Cluster", nodes: cluster.nodes.map(node), password: Redacted.make(password) })
    const callers = busy(store)
    await callers.more(10)
    const slot = async (key: string) => Number(await cluster.nodes[0]?.command("cluster", "keyslot", key))
    for (const key of ["es:cache:{k:t:c1-1", "es:cache:{k:t:c2-2", "es:cache:{t:t:g"]) {
      const at = await slot(key)
      const to = (Math.floor(at / 5_462) + 1) % 3
      await cluster.moveSlot(at, to)
      await callers.more(10)
    }
    assert.deepStrictEqual(await callers.stop(), [])
    await store.run((cache) => cache.clear("t"))
    await store.run((cache) =>
      cache.setMany(
        "t",
        keysOf(0, 300).map((key) => ({ key, value: key }))
      )
    )
    assert.strictEqual(await store.run((cache) => cache.count("t")), 300)
    assert.strictEqual((await store.run((cache) => cache.getMany("t", keysOf(0, 300)))).size, 300)
  })

  it("a master that is killed is replaced in the middle of loads, and every error is typed", async () => {
    const group = await startRedisSentinel({ password })
    onTestFinished(group.stop)
    const store = open({
      mode: "Sentinel",
      sentinels: group.sentinels.map(node),
      name: group.name,
      password: Redacted.make(password),
      pool: { writeTimeout: 1_000 }
    })
    const callers = busy(store)
    await callers.more(10)
    await group.killMaster()
    await callers.more(10)
    for (const error of await callers.stop())
      assert.strictEqual((error as { readonly _tag: string })._tag, "StoreUnavailable")
  })
})
