/**
 * The SnapshotStore on Redis while the servers change under it: a failover by Sentinels, slots that move between the
 * nodes of a Cluster, a node that is silent; and several processes that save at once.
 */
import { Effect, Exit, Random, Redacted } from "effect"
import { SnapshotStore } from "effect-stores"
import type { SnapshotStoreRedis } from "effect-stores/redis"
import { afterAll, beforeAll, expect, it, onTestFinished } from "vitest"
import { describeOwnRedis } from "../support/backends.js"
import { spawnWorker } from "../support/child.js"
import { startProxy } from "../support/proxy.js"
import {
  type RedisCluster,
  type RedisServer,
  startRedis,
  startRedisCluster,
  startRedisSentinel
} from "../support/redis.js"
import { at, clients, delete_, failure, latest, open, save, sockets, until } from "./fixtures.js"

const node = ({ port }: RedisServer) => ({ host: "127.0.0.1", port })
const password = "secret"

/**
 * Callers that save rising versions and read them back until they are stopped; fails on an answer that is wrong, and
 * does not end while one of them has none.
 */
const busy = (store: ReturnType<typeof open>) => {
  let going = true
  let answers = 0
  const errors: Array<unknown> = []
  /** Of each caller the greatest version that was acknowledged. */
  const acknowledged: Array<number> = []
  const callers = Array.from({ length: 8 }, async (_, caller) => {
    for (let version = 1; going; version++) {
      const exit = await store.exit(Effect.zip(save(version, `b${caller}`), latest(`b${caller}`)))
      if (Exit.isSuccess(exit)) {
        // A failover loses the last saves, so a version that was read may be older, and never newer.
        expect(exit.value[1]).toBeLessThanOrEqual(version)
        acknowledged[caller] = version
        answers++
      } else errors.push(failure(exit))
    }
  })
  const running = Promise.all(callers)
  running.catch(() => {})
  return {
    more: async (count: number) => {
      const before = answers
      await Promise.race([until(`${count} more answers`, () => answers > before + count), running])
    },
    stop: async () => {
      going = false
      await running
      for (const error of errors) expect(error).toMatchObject({ _tag: "StoreUnavailable", retryable: true })
      return { acknowledged, errors }
    }
  }
}

describeOwnRedis("the SnapshotStore under Sentinels", () => {
  it("a master that is killed in the middle of loads and saves is replaced, and every caller gets an answer", async () => {
    const group = await startRedisSentinel({ password })
    onTestFinished(group.stop)
    const before = sockets()
    const store = open({
      mode: "Sentinel",
      sentinels: group.sentinels.map(node),
      name: group.name,
      password: Redacted.make(password),
      pool: { writeTimeout: 1_000 }
    })
    await store.run(save(7, "survivor"))
    await until("a replica that has it", async () => {
      const sizes = await Promise.all(group.servers.map((server) => server.command("dbsize")))
      return sizes.every((size) => size === 1)
    })
    const callers = busy(store)
    await callers.more(200)
    await group.killMaster()
    await callers.more(200)
    await callers.stop()
    expect(await store.run(latest("survivor"))).toBe(7)
    expect(await store.run(save(6, "survivor"))).toBe(false)
    expect(await store.run(save(8, "survivor"))).toBe(true)
    await store.close()
    await until("no socket", () => sockets() <= before)
  })

  it("a master that becomes a replica in order is left for the new one", async () => {
    const group = await startRedisSentinel()
    onTestFinished(group.stop)
    const store = open({ mode: "Sentinel", sentinels: group.sentinels.map(node), name: group.name })
    const callers = busy(store)
    await callers.more(100)
    await group.failover()
    const master = await group.master()
    // The sentinels tell the old master ten seconds later, and until then it takes what it is sent.
    await until("connections to the new master", async () => (await clients(master)).length >= 2)
    await callers.more(100)
    await callers.stop()
    expect(await store.run(save(1e6))).toBe(true)
    expect(await master.command("hget", "es:snapshot:{tenant:domain:1}", "version")).toBe("1000000")
  })

  it("a sentinel that is gone and one that is silent are passed over", async () => {
    const group = await startRedisSentinel()
    onTestFinished(group.stop)
    const [gone, silent, well] = group.sentinels as [RedisServer, RedisServer, RedisServer]
    await gone.kill()
    silent.pause()
    const store = open({ mode: "Sentinel", sentinels: [gone, silent, well].map(node), name: group.name })
    expect(await store.run(save(1))).toBe(true)
  })

  it("a name that no sentinel knows fails the layer typed", async () => {
    const group = await startRedisSentinel()
    onTestFinished(group.stop)
    const store = open({ mode: "Sentinel", sentinels: group.sentinels.map(node), name: "unknown" })
    expect(failure(await store.exit(latest()))).toMatchObject({ _tag: "StoreUnavailable", operation: "connecting" })
  })
})

describeOwnRedis("the SnapshotStore behind an address that moves", () => {
  it("leaves a server that has become a replica, although its connections stay open", async () => {
    const [first, second] = await Promise.all([startRedis(), startRedis()])
    const address = await startProxy(first.port)
    onTestFinished(async () => {
      address.stop()
      await Promise.all([first.stop(), second.stop()])
    })
    const store = open({ host: "127.0.0.1", port: address.port })
    expect(await store.run(save(1))).toBe(true)
    // Those to the old master go on, and it refuses what they write.
    address.leadNext(second.port)
    await first.command("replicaof", "127.0.0.1", second.port)
    await until("it saves on the new master", async () => Exit.isSuccess(await store.exit(save(2))))
    expect(await second.command("hget", "es:snapshot:{tenant:domain:1}", "version")).toBe("2")
  })
})

describeOwnRedis("the SnapshotStore on a Cluster", () => {
  let cluster: RedisCluster
  let options: SnapshotStoreRedis.Options
  beforeAll(async () => {
    cluster = await startRedisCluster({ password })
    options = { mode: "Cluster", nodes: cluster.nodes.map(node), password: Redacted.make(password) }
  })
  afterAll(() => cluster.stop())

  it("slots that move to another node under use lose no save", async () => {
    const store = open(options)
    await store.run(save(1, "b0"))
    const [first] = cluster.nodes as [RedisServer]
    const slot = Number(await first.command("cluster", "keyslot", "es:snapshot:{tenant:domain:b0}"))
    const callers = busy(store)
    await callers.more(100)
    for (const to of [0, 1, 2, 0]) {
      await cluster.moveSlot(slot, to).catch((error) => {
        if (!String(error).includes("is or goes nowhere")) throw error
      })
      await callers.more(100)
    }
    const { acknowledged, errors } = await callers.stop()
    expect(errors).toEqual([])
    for (const [caller, version] of acknowledged.entries()) {
      expect(await store.run(latest(`b${caller}`))).toBe(version)
    }
  })

  it("reset and info see the keys of all nodes, and those of other prefixes stay", async () => {
    const store = open({ ...options, prefix: "some:" })
    const other = open({ ...options, prefix: "some:more:" })
    const ids = Array.from({ length: 100 }, (_, n) => `${n}`)
    const saveAll = Effect.forEach(ids, (id) => save(1, id), { concurrency: 10 })
    await store.run(saveAll)
    await other.run(saveAll)
    const snapshots = Effect.flatMap(SnapshotStore.SnapshotStore, ({ info }) => info)
    expect(await store.run(snapshots)).toMatchObject({ snapshots: 100 })
    await store.run(Effect.flatMap(SnapshotStore.SnapshotStore, ({ reset }) => reset))
    expect(await store.run(snapshots)).toMatchObject({ snapshots: 0 })
    expect(await other.run(snapshots)).toMatchObject({ snapshots: 100 })
    expect(await other.run(delete_("1"))).toBe(true)
  })

  it("a node that is silent fails its callers, the others serve on, and it serves again when it speaks", async () => {
    const store = open({ ...options, prefix: "silent:", pool: { writeTimeout: 5_000 } })
    const ids = Array.from({ length: 30 }, (_, n) => `${n}`)
    const each = (version: number) =>
      Effect.forEach(ids, (id) => Effect.exit(save(version, id)), { concurrency: "unbounded" })
    await store.run(each(1))
    const paused = cluster.nodes[1] as RedisServer
    paused.pause()
    const exits = await store.run(each(2))
    paused.resume()
    const failed = exits.filter(Exit.isFailure)
    expect(failed.length).toBeGreaterThan(0)
    for (const exit of failed) expect(failure(exit)).toMatchObject({ _tag: "StoreUnavailable", retryable: true })
    await until("all nodes serve", async () => (await store.run(each(3))).every(Exit.isSuccess))
  })

  it("a wrong password is refused typed, and closing leaves no socket", async () => {
    const before = sockets()
    const wrong = open({ ...options, password: Redacted.make("wrong") })
    expect(failure(await wrong.exit(latest()))).toMatchObject({ _tag: "StoreError", retryable: false })
    const store = open(options)
    await store.run(save(99, "closing"))
    await store.close()
    await wrong.close()
    await until("no socket", () => sockets() <= before)
  })
})

describeOwnRedis("several processes on one Redis", () => {
  it("the greatest version stays, and whoever saved it is told so", async () => {
    const server = await startRedis()
    onTestFinished(() => server.stop())
    const versions = Array.from({ length: 400 }, (_, n) => n + 1)
    const taken = await Promise.all(
      [1, 2, 3].map(async () => {
        const shuffled = [...(await Effect.runPromise(Random.shuffle(versions)))]
        const worker = spawnWorker(new URL("../workers/redisSaver.ts", import.meta.url), {
          env: { WORKER_REDIS_URL: server.url, WORKER_VERSIONS: JSON.stringify(shuffled) }
        })
        const lines: Array<string> = []
        for await (const line of worker.lines) lines.push(line)
        const { code, stderr } = await worker.exited
        expect(code, stderr).toBe(0)
        return JSON.parse(lines[0] as string) as ReadonlyArray<number>
      })
    )
    // An equal version replaces, so each of them has saved the greatest.
    for (const each of taken) expect(Math.max(...each)).toBe(400)
    const store = open(at(server))
    expect(await store.run(latest("raced"))).toBe(400)
  })
})
