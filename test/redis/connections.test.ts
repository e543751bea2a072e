/**
 * The connections of a `RedisDatabase`: each option of the pool as the server sees it, and what callers get when the
 * server is gone, silent, busy or refuses.
 */
import * as net from "node:net"
import { inspect } from "node:util"
import { Config, ConfigProvider, Effect, Exit, Fiber, FiberId, Redacted } from "effect"
import { Pool } from "effect-stores"
import { RedisDatabase, SnapshotStoreRedis } from "effect-stores/redis"
import { afterAll, beforeAll, expect, it, onTestFinished } from "vitest"
import { describeOwnRedis } from "../support/backends.js"
import { type RedisServer, startRedis } from "../support/redis.js"
import { at, built, clients, failure, latest, open, proxyOf, save, sockets, until } from "./fixtures.js"

const password = "a-p$ss~w+rd"
const big = "x".repeat(200_000)
const all = (count: number, version = 1, state?: unknown) =>
  Effect.forEach(
    Array.from({ length: count }, (_, n) => n),
    (n) => save(version, `${n}`, state),
    { concurrency: "unbounded" }
  )

describeOwnRedis("the pool on Redis", () => {
  let server: RedisServer
  beforeAll(async () => {
    server = await startRedis()
  })
  afterAll(() => server.stop())

  it("minIdleConns are open from the start, and again after the server has closed them", async () => {
    const store = open(at(server, { pool: { minIdleConns: 3 } }))
    await store.run(save(1))
    await until("three connections", async () => (await clients(server)).length === 3)
    await server.command("client", "kill", "type", "normal")
    await until("three connections again", async () => (await clients(server)).length === 3)
    expect(await store.run(latest())).toBe(1)
  })

  it("small commands share a connection, however many there are at once", async () => {
    const store = open(at(server, { pool: { minIdleConns: 1 } }))
    await store.run(save(1))
    await store.run(all(50))
    expect((await clients(server)).length).toBe(1)
  })

  it("large values open further connections, at most poolSize, and those beyond maxIdleConns close", async () => {
    const store = open(at(server, { pool: { poolSize: 5, minIdleConns: 1, maxIdleConns: 2 } }))
    let most = 0
    let done = false
    const watching = (async () => {
      while (!done) most = Math.max(most, (await clients(server)).length)
    })()
    for (let n = 1; n <= 3; n++) await store.run(all(60, n, big))
    const { open: opened } = await store.run(Effect.flatMap(RedisDatabase.RedisDatabase, ({ state }) => state))
    done = true
    await watching
    expect(opened).toBe(5)
    expect(most).toBe(5)
    await until("two connections", async () => (await clients(server)).length === 2)
    expect(await store.run(latest("59"))).toBe(3)
  })

  it("a command is tried again maxRetries times, on new connections, and then fails typed", async () => {
    const proxy = await proxyOf(server)
    const options = (maxRetries: number) => ({ host: "127.0.0.1", port: proxy.port, pool: { maxRetries } })
    let cuts = 0
    const cutUpTo = (limit: number) => {
      cuts = 0
      proxy.onData = (data) => (/evalsha/.test(data) && cuts++ < limit ? "cut" : "pass")
    }
    const two = open(options(2))
    await two.run(latest())
    cutUpTo(2)
    expect(await two.run(save(1, "retried"))).toBe(true)
    cutUpTo(Number.POSITIVE_INFINITY)
    expect(failure(await two.exit(save(2, "retried")))).toMatchObject({ _tag: "StoreUnavailable", retryable: true })
    expect(cuts).toBe(3)
    const one = open(options(1))
    await one.exit(latest())
    cutUpTo(2)
    expect(failure(await one.exit(save(2, "retried")))).toMatchObject({ _tag: "StoreUnavailable", retryable: true })
    expect(cuts).toBe(2)
  })

  it("each pause before another try is four times as long, so that three outlast the restart of a server", async () => {
    const proxy = await proxyOf(server)
    const store = open({ host: "127.0.0.1", port: proxy.port, pool: { maxRetries: 3, writeTimeout: "1 hour" } })
    await store.run(latest())
    const cutAt: Array<number> = []
    proxy.onData = (data) => {
      if (!/evalsha/.test(data)) return "pass"
      cutAt.push(performance.now())
      return "cut"
    }
    failure(await store.exit(save(1, "paused")))
    const pauses = cutAt.slice(1).map((at, n) => at - (cutAt[n] ?? 0))
    // A bound from below: a busy machine makes them longer.
    expect(pauses.map((ms, n) => ms > 45 * 4 ** n)).toEqual([true, true, true])
  })

  it("an interrupted command is not tried again when its connection fails", async () => {
    const proxy = await proxyOf(server)
    const store = open({ host: "127.0.0.1", port: proxy.port })
    await store.run(latest())
    let fiber: Fiber.RuntimeFiber<unknown, unknown> | undefined
    let sent = 0
    proxy.onData = (data) => {
      if (!/evalsha/.test(data)) return "pass"
      sent++
      fiber?.unsafeInterruptAsFork(FiberId.none)
      return "cut"
    }
    fiber = store.runFork(save(1, "interrupted"))
    expect(Exit.isInterrupted(await Effect.runPromise(Fiber.await(fiber)))).toBe(true)
    // Longer than the pause before the first retry.
    await new Promise((resolve) => setTimeout(resolve, 250))
    expect(sent).toBe(1)
  })

  it("limits that are not given are those that the store opens the database with", async () => {
    const defaults = { ...Pool.defaults.cacheStore.redis, minIdleConns: 4 }
    await Effect.runPromise(
      Effect.scoped(
        Effect.gen(function* () {
          yield* RedisDatabase.make(at(server, {}), defaults)
          yield* Effect.promise(() => until("four connections", async () => (await clients(server)).length === 4))
        })
      )
    )
  })

  it("a server that is silent fails commands after writeTimeout, and serves again when it speaks", async () => {
    const frozen = await startRedis()
    onTestFinished(() => frozen.stop())
    const store = open(at(frozen, { pool: { writeTimeout: 2_000 } }))
    await store.run(save(1))
    frozen.pause()
    const started = performance.now()
    const failed = failure(await store.exit(all(20, 2)))
    expect(performance.now() - started).toBeGreaterThan(1_990)
    expect(failed).toMatchObject({ _tag: "StoreUnavailable", operation: "save", retryable: true })
    expect(String(failed)).toContain("no answer within 2000 ms")
    frozen.resume()
    await until("an answer", async () => Exit.isSuccess(await store.exit(save(3))))
    expect(await store.run(latest())).toBe(3)
  })

  it("a connection that swallows what it is sent is replaced by another", async () => {
    const proxy = await proxyOf(server)
    const store = open({ host: "127.0.0.1", port: proxy.port, pool: { writeTimeout: 2_000, minIdleConns: 1 } })
    await store.run(save(1, "swallowed"))
    const before = proxy.accepted
    proxy.onData = () => "keep"
    failure(await store.exit(latest("swallowed")))
    proxy.onData = () => "pass"
    expect(await store.run(latest("swallowed"))).toBe(1)
    expect(proxy.accepted).toBeGreaterThan(before)
  })

  it("a silent connection is replaced also when every caller gives up before writeTimeout", async () => {
    const proxy = await proxyOf(server)
    const store = open({ host: "127.0.0.1", port: proxy.port, pool: { writeTimeout: 3_000, minIdleConns: 1 } })
    await store.run(save(1, "impatient"))
    const before = proxy.accepted
    proxy.onData = (_, nth) => (nth <= before ? "keep" : "pass")
    const impatient = Effect.timeout(latest("impatient"), "200 millis")
    await until("an answer", async () => Exit.isSuccess(await store.exit(impatient)))
    // Another one would be opened in the end, when what is unanswered makes the silent one busy.
    const { open: opened } = await store.run(Effect.flatMap(RedisDatabase.RedisDatabase, ({ state }) => state))
    expect(opened).toBe(1)
  })

  it("a server that is paused by a client fails commands after writeTimeout", async () => {
    const store = open(at(server, { pool: { writeTimeout: 1_000 } }))
    await store.run(save(1, "paused"))
    await server.command("client", "pause", 5_000, "all")
    expect(failure(await store.exit(latest("paused")))).toMatchObject({ _tag: "StoreUnavailable", retryable: true })
    await until("an answer", async () => Exit.isSuccess(await store.exit(latest("paused"))))
  })

  it("a command's time runs from when it leaves, however long the turn goes on that sends it", async () => {
    const store = open(at(server, { pool: { writeTimeout: 2_000 } }))
    await store.run(save(1, "blocked"))
    // The server answers after the turn, and well within the time.
    await server.command("client", "pause", 2_750, "all")
    const fiber = store.runFork(latest("blocked"))
    const until = performance.now() + 2_500
    while (performance.now() < until);
    expect(await Effect.runPromise(Fiber.join(fiber))).toBe(1)
  })

  it("an interrupted command returns at once, also while the server is silent, and harms no other", async () => {
    const frozen = await startRedis()
    onTestFinished(() => frozen.stop())
    const store = open(at(frozen, { pool: { writeTimeout: 60_000 } }))
    await store.run(save(1))
    frozen.pause()
    const fibers = Array.from({ length: 10 }, () => store.runFork(latest()))
    const kept = store.runFork(latest())
    await Effect.runPromise(Effect.yieldNow())
    const exits = await Effect.runPromise(Effect.forEach(fibers, Fiber.interrupt))
    expect(exits.every(Exit.isInterrupted)).toBe(true)
    frozen.resume()
    expect(await Effect.runPromise(Fiber.join(kept))).toBe(1)
    const { idle, open: opened } = await store.run(Effect.flatMap(RedisDatabase.RedisDatabase, ({ state }) => state))
    expect(idle).toBe(opened)
  })

  it("a server that restarts under use loses no caller: each gets an answer or a typed error", async () => {
    const restarting = await startRedis({ persistent: true })
    onTestFinished(() => restarting.stop())
    const store = open(at(restarting))
    await store.run(save(1))
    let going = true
    let answered = 0
    const failures: Array<unknown> = []
    const callers = Array.from({ length: 8 }, async (_, caller) => {
      for (let version = 2; going; version++) {
        const exit = await store.exit(Effect.zipRight(save(version, `r${caller}`), latest(`r${caller}`)))
        if (Exit.isFailure(exit)) failures.push(failure(exit))
        else if (exit.value === version) answered++
        else throw new Error(`version ${exit.value} instead of ${version}`)
      }
    })
    await until("answers", () => answered > 100)
    for (let n = 0; n < 3; n++) {
      await restarting.restart()
      const before = answered
      await until("answers after a restart", () => answered > before + 100)
    }
    going = false
    await Promise.all(callers)
    for (const each of failures) expect(each).toMatchObject({ _tag: "StoreUnavailable", retryable: true })
  })

  it("closing leaves no socket, also when the server is silent or gone", async () => {
    const before = sockets()
    for (const harm of [undefined, "pause", "kill"] as const) {
      const own = await startRedis()
      onTestFinished(() => own.stop())
      const store = open(at(own, { pool: { writeTimeout: 2_000, minIdleConns: 4 } }))
      await store.run(all(20))
      if (harm !== undefined) await own[harm]()
      const waiting = store.runFork(latest())
      await store.close()
      await until(`no socket after ${harm}`, () => sockets() <= before)
      const exit = await Effect.runPromise(Fiber.await(waiting))
      if (Exit.isFailure(exit) && !Exit.isInterrupted(exit)) failure(exit)
    }
  })
})

describeOwnRedis("opening Redis", () => {
  it("a server that accepts and never answers fails the layer typed within writeTimeout", async () => {
    const accepted = new Set<net.Socket>()
    const silent = net.createServer((socket) => accepted.add(socket))
    await new Promise<void>((resolve) => silent.listen(0, "127.0.0.1", resolve))
    onTestFinished(() => {
      for (const socket of accepted) socket.destroy()
      silent.close()
    })
    const { port } = silent.address() as net.AddressInfo
    const before = sockets()
    const exit = await built(SnapshotStoreRedis.layer({ host: "127.0.0.1", port, pool: { writeTimeout: 250 } }))
    expect(failure(exit)).toMatchObject({ _tag: "StoreUnavailable", operation: "connecting", retryable: true })
    // the accepting ends are sockets of this process, too
    await until("no socket", () => {
      for (const socket of accepted) socket.destroy()
      return sockets() <= before
    })
  })

  it("a server that is not there fails the layer typed, with the reason", async () => {
    const gone = await startRedis()
    await gone.stop()
    const error = failure(await built(SnapshotStoreRedis.layer(at(gone))))
    expect(error).toMatchObject({ _tag: "StoreUnavailable", retryable: true })
    expect(String(error)).toContain("ECONNREFUSED")
  })

  it("wrong and missing passwords are refused, once, and shown nowhere", async () => {
    const server = await startRedis({ password })
    onTestFinished(() => server.stop())
    const { port } = server
    for (const given of ["wrong-secret", undefined]) {
      const layer = SnapshotStoreRedis.layer({
        host: "127.0.0.1",
        port,
        password: given === undefined ? undefined : Redacted.make(given)
      })
      const error = failure(await built(layer))
      expect(error).toMatchObject({ _tag: "StoreError", retryable: false })
      expect(String(error)).toMatch(/WRONGPASS|NOAUTH/)
      expect(inspect(error, { depth: 20, showHidden: true })).not.toContain("wrong-secret")
    }
    const store = open({ host: "127.0.0.1", port, password: Redacted.make(password) })
    const database = await store.run(RedisDatabase.RedisDatabase)
    expect(database.connection).toBe(`redis://127.0.0.1:${port}/0`)
    expect(inspect(database, { depth: 20, showHidden: true })).not.toContain(password)
  })

  it("what a URL says is taken, and what is given beside it adds to it", async () => {
    const server = await startRedis({ password })
    onTestFinished(() => server.stop())
    const { port } = server
    const whole = `redis://default:${encodeURIComponent(password)}@127.0.0.1:${port}/3`
    const secret = Redacted.make(password)
    for (const options of [
      { url: Redacted.make(whole) },
      { url: Redacted.make(whole), host: "127.0.0.1", port, username: "default", password: secret, db: 3, tls: false },
      { url: Redacted.make("redis://127.0.0.1"), port, password: secret, db: 3 }
    ]) {
      const store = open({ ...options, connectionName: "mine" })
      expect((await store.run(RedisDatabase.RedisDatabase)).connection).toBe(`redis://127.0.0.1:${port}/3`)
      const admin = open({ host: "127.0.0.1", port, password: secret, connectionName: "admin" })
      await store.run(save(1))
      expect(await admin.run(latest())).toBe(0)
      await until("its name and database", async () => {
        const list = await admin.run(clientList)
        return list.some((line) => line.includes(" name=mine ") && line.includes(" db=3 "))
      })
      await store.close()
    }
  })

  it("a database that the server does not have is refused, and nothing is written to another", async () => {
    const server = await startRedis()
    onTestFinished(() => server.stop())
    const store = open(at(server, { db: 99 }))
    expect(failure(await store.exit(save(1)))).toMatchObject({ _tag: "StoreError" })
    expect(await server.command("dbsize")).toBe(0)
  })

  it("options that make no sense are refused by name, and no value of a secret is shown", async () => {
    const bad: ReadonlyArray<readonly [options: object, what: string]> = [
      [{ mode: "Other" }, "mode"],
      [{ host: "" }, "host"],
      [{ port: 0 }, "port"],
      [{ db: -1 }, "db"],
      [{ url: "redis://x" }, "url"],
      [{ url: Redacted.make("http://x") }, "url"],
      [{ url: Redacted.make("redis://x/zero") }, "url"],
      [{ url: Redacted.make("redis://u:%zz@x") }, "url"],
      [{ url: Redacted.make("redis://x?db=1") }, "url"],
      [{ password: "plain-secret" }, "password"],
      [{ hots: "x" }, "a key of options"],
      [{ nodes: [{ host: "x" }] }, "a key of options"],
      [{ mode: "Cluster", nodes: [] }, "nodes"],
      [{ mode: "Cluster", nodes: [{ host: "x", port: "1" }] }, "nodes[0].port"],
      [{ mode: "Cluster", nodes: [{ host: "x" }], db: 1 }, "a key of options"],
      [{ mode: "Sentinel", sentinels: [{ host: "x" }] }, "name"],
      [{ mode: "Sentinel", sentinels: [{}], name: "x" }, "sentinels[0].host"],
      [{ pool: { poolSize: -1 } }, "pool.poolSize"],
      [{ pool: { poolSize: 2, maxIdleConns: 3 } }, "pool.maxIdleConns"],
      [{ pool: { maxIdleConns: 3, minIdleConns: 4 } }, "pool.minIdleConns"],
      [{ pool: { writeTimeout: "60 days" } }, "pool.writeTimeout"],
      [{ pool: { maxOpenConns: 1 } }, "a key of pool"],
      [{ prefix: "a{b" }, "prefix"],
      [{ prefix: "" }, "prefix"]
    ]
    for (const [options, what] of bad) {
      const error = failure(await built(SnapshotStoreRedis.layer(options as SnapshotStoreRedis.Options)))
      expect(error, inspect(options)).toMatchObject({ _tag: "InvalidInput", what })
      expect(String(error)).not.toContain("secret")
    }
  })

  it("the modes and the pool are read from Config", async () => {
    const read = (entries: Record<string, string>) =>
      Effect.runPromiseExit(
        Effect.withConfigProvider(
          Config.nested(SnapshotStoreRedis.config, "REDIS"),
          ConfigProvider.fromMap(new Map(Object.entries(entries).map(([key, value]) => [`REDIS.${key}`, value])))
        )
      )
    expect(await read({ URL: "redis://h", "POOL.POOL_SIZE": "3", PREFIX: "p:" })).toMatchObject({
      value: { url: Redacted.make("redis://h"), pool: { poolSize: 3 }, prefix: "p:" }
    })
    expect(await read({ MODE: "Cluster", NODES: "a:1, [::1]:2,c" })).toMatchObject({
      value: { mode: "Cluster", nodes: [{ host: "a", port: 1 }, { host: "::1", port: 2 }, { host: "c" }] }
    })
    expect(await read({ MODE: "Sentinel", SENTINELS: "a:1", NAME: "m", SENTINEL_PASSWORD: "p" })).toMatchObject({
      value: { mode: "Sentinel", sentinels: [{ host: "a", port: 1 }], name: "m", sentinelPassword: Redacted.make("p") }
    })
    for (const wrong of [
      { MODE: "Else" },
      { MODE: "Cluster" },
      { MODE: "Cluster", NODES: "a:b" },
      { MODE: "Sentinel", SENTINELS: "a" },
      { MODE: "Cluster", NODES: "a", DB: "1" },
      { "POOL.WRITE_TIMEOUT": "soon" },
      { "POOL.POOL_SIZE": "-1" }
    ]) {
      expect(Exit.isFailure(await read(wrong as unknown as Record<string, string>)), inspect(wrong)).toBe(true)
    }
  })
})

const clientList = Effect.flatMap(RedisDatabase.RedisDatabase, ({ run }) =>
  run({
    operation: "client list",
    size: 0,
    send: (driver) => driver.client("LIST"),
    onReply: (reply) => String(reply).split("\n")
  })
)
