/**
 * What the SnapshotStore on Redis adds to the contract: one round trip by script, keys that no other store touches, and
 * sense made of whatever is stored under them.
 */
import { Effect, Exit } from "effect"
import { SnapshotStore } from "effect-stores"
import { afterAll, beforeAll, beforeEach, expect, it, onTestFinished } from "vitest"
import { describeOwnRedis } from "../support/backends.js"
import { type RedisServer, startRedis } from "../support/redis.js"
import { at, delete_, failure, latest, open, save, snapshot, stream } from "./fixtures.js"

const key = (aggregateId = "1") => `es:snapshot:{tenant:domain:${aggregateId}}`

/** How often the server has run each command since its statistics were reset. */
const calls = async (server: RedisServer): Promise<Record<string, number>> =>
  Object.fromEntries(
    [...String(await server.command("info", "commandstats")).matchAll(/^cmdstat_([^:]+):calls=(\d+)/gm)].map(
      ([, name, count]) => [name, Number(count)]
    )
  )

const info = Effect.flatMap(SnapshotStore.SnapshotStore, (store) => store.info)
const reset = Effect.flatMap(SnapshotStore.SnapshotStore, (store) => store.reset)

describeOwnRedis("the SnapshotStore on Redis", () => {
  let server: RedisServer
  beforeAll(async () => {
    server = await startRedis()
  })
  afterAll(() => server.stop())
  beforeEach(() => server.command("flushall"))

  it("a save, a latest and a delete are one round trip each", async () => {
    const store = open(at(server))
    await store.run(save(1))
    await server.command("config", "resetstat")
    for (let version = 2; version <= 11; version++) await store.run(save(version))
    await store.run(latest())
    await store.run(delete_())
    // hget and hset are the script's own.
    const { config: _, info: __, ...commands } = await calls(server)
    expect(commands).toMatchObject({ evalsha: 10, hget: 10, hset: 10, hgetall: 1, unlink: 1 })
    const connecting = ["hello", "client|setname", "client|setinfo", "config|resetstat", "ping", "client|list"]
    expect(
      Object.keys(commands)
        .filter((name) => !connecting.includes(name))
        .sort()
    ).toEqual(["evalsha", "hget", "hgetall", "hset", "unlink"])
  })

  it("a server that has forgotten the script is taught it again", async () => {
    const store = open(at(server))
    await store.run(save(2))
    await server.command("script", "flush")
    expect(await store.run(save(1))).toBe(false)
    await server.command("script", "flush")
    expect(await store.run(save(3))).toBe(true)
    expect(await store.run(latest())).toBe(3)
  })

  it("versions are compared as numbers, exactly up to the greatest", async () => {
    const store = open(at(server))
    for (const [older, newer] of [
      [9, 10],
      [99, 100],
      [2 ** 53 - 2, 2 ** 53 - 1],
      [1e15, 1e15 + 1]
    ] as const) {
      const id = String(newer)
      expect(await store.run(save(older, id))).toBe(true)
      expect(await store.run(save(newer, id))).toBe(true)
      expect(await store.run(save(older, id))).toBe(false)
      expect(await store.run(latest(id))).toBe(newer)
    }
  })

  it("what is stored and is no snapshot is corrupt to a reader, and gives way to a save", async () => {
    const harms: ReadonlyArray<ReadonlyArray<string>> = [
      ["set", key(), "text"],
      ["rpush", key(), "a"],
      ["sadd", key(), "a"],
      ["hset", key(), "foreign", "field"],
      ...[
        "0",
        "-1",
        "1e300",
        "99999999999999999999",
        "9007199254740993",
        "0x7fffffff",
        "nan",
        "inf",
        " 7",
        "",
        "7.5"
      ].map((version) => ["hset", key(), "version", version])
    ]
    const store = open(at(server))
    for (const [name, ...args] of harms) {
      await server.command("del", key())
      await server.command(name as string, ...args)
      expect(failure(await store.exit(latest())), args.join(" ")).toMatchObject({ _tag: "SnapshotCorrupt" })
      expect(await store.run(save(1)), args.join(" ")).toBe(true)
      expect(await store.run(latest())).toBe(1)
    }
    for (const [field, value] of [
      ["state", `{"version":2}`],
      ["state", "{"],
      ["createdAt", "soon"],
      ["schemaVersion", "2"],
      ["lastEventMark", "018f0000-0000-7000-8000-000000000002"],
      ["keyId", "key"],
      ["version", "2"],
      ["checksum", ""]
    ] as const) {
      await server.command("hset", key(), field, value)
      expect(failure(await store.exit(latest())), field).toMatchObject({ _tag: "SnapshotCorrupt" })
      expect(await store.run(save(3))).toBe(true)
      expect(await store.run(latest())).toBe(3)
      await store.run(delete_())
      await store.run(save(1))
    }
    await server.command("hdel", key(), "state")
    expect(failure(await store.exit(latest()))).toMatchObject({ _tag: "SnapshotCorrupt" })
    await server.command("del", key())
    await server.command("set", key(), "text")
    expect(await store.run(delete_())).toBe(true)
    expect(await store.run(latest())).toBe(0)
  })

  it("a snapshot that was moved to the key of another stream is corrupt there", async () => {
    const store = open(at(server))
    await store.run(save(1, "from"))
    await server.command("rename", key("from"), key("to"))
    expect(failure(await store.exit(latest("to")))).toMatchObject({
      _tag: "SnapshotCorrupt",
      stream: { aggregateId: "to" }
    })
  })

  it("no two streams share a key, whatever their ids contain", async () => {
    const store = open(at(server))
    const parts = ["a", "a:", ":a", "a:b", "%", "%3A", "%25", "{", "}", "{}", "a}", "*", "a\\"]
    const streams = parts.flatMap((tenantId) =>
      parts.flatMap((domain) => parts.map((aggregateId) => ({ tenantId, domain, aggregateId })))
    )
    await store.run(
      Effect.flatMap(SnapshotStore.SnapshotStore, (store) =>
        Effect.gen(function* () {
          yield* Effect.forEach(streams, (each, n) => store.save(each, snapshot(n + 1)), { concurrency: 100 })
          for (const [n, each] of streams.entries()) {
            expect((yield* store.latest(each))._tag === "Some", JSON.stringify(each)).toBe(true)
            if (n % 100 === 0) expect(yield* store.latest(each)).toMatchObject({ value: { ...each, version: n + 1 } })
          }
        })
      )
    )
    expect((await store.run(info)).snapshots).toBe(streams.length)
    expect(await server.command("dbsize")).toBe(streams.length)
  })

  it("stores whose prefixes begin alike, or hold signs of patterns, count and reset their own keys only", async () => {
    const prefixes = ["es:", "es:snapshot:", "es:snapshot:a", "*", "e?:", "[e]s:", "es:\\", "es:*"]
    const stores = prefixes.map((prefix) => open(at(server, { prefix })))
    for (const store of stores) await store.run(Effect.all([save(1, "1"), save(1, "{2}"), save(1, "*")]))
    await server.command("set", "es:other", "kept")
    await server.command("set", "es:snapshot:other", "kept")
    for (const [n, store] of stores.entries()) {
      expect((await store.run(info)).snapshots, prefixes[n]).toBe(3)
      await store.run(reset)
      expect((await store.run(info)).snapshots).toBe(0)
      expect(await server.command("dbsize")).toBe(2 + 3 * (stores.length - n - 1))
    }
  })

  it("counting and resetting many goes in batches, and never by a command that blocks the server", async () => {
    const store = open(at(server))
    const filler = Array.from({ length: 5_000 }, (_, n) => [key(`f${n}`), "x"]).flat()
    await server.command("mset", ...filler)
    await server.command("config", "resetstat")
    expect((await store.run(info)).snapshots).toBe(5_000)
    await store.run(reset)
    expect((await store.run(info)).snapshots).toBe(0)
    const counted = await calls(server)
    expect(counted.scan).toBeGreaterThanOrEqual(6)
    expect(counted.unlink).toBeGreaterThanOrEqual(5)
    for (const blocking of ["keys", "flushdb", "flushall", "del"]) expect(counted[blocking]).toBeUndefined()
  })

  it("a server without memory refuses a save as one to repeat when there is room, and keeps the snapshot it has", async () => {
    const full = await startRedis({ settings: { maxmemory: "3mb", "maxmemory-policy": "noeviction" } })
    onTestFinished(() => full.stop())
    const store = open(at(full))
    await store.run(save(1))
    let exit: Exit.Exit<boolean, unknown> = Exit.succeed(true)
    for (let n = 0; Exit.isSuccess(exit) && n < 100; n++) exit = await store.exit(save(1, `f${n}`, "x".repeat(100_000)))
    expect(failure(exit)).toMatchObject({ _tag: "StoreUnavailable", operation: "save", retryable: true })
    expect(String(failure(exit))).toContain("OOM")
    expect(String(failure(exit))).not.toContain("xxx")
    expect(failure(await store.exit(save(2, "1", "x".repeat(3_000_000))))).toMatchObject({ _tag: "StoreUnavailable" })
    expect(await store.run(latest())).toBe(1)
  })

  it("a state of 16 MiB and a small one at the same time both come back", async () => {
    const store = open(at(server))
    const large = "ü".repeat(8 * 1024 * 1024 - 1)
    const results = await store.run(
      Effect.all([save(1, "large", large), ...Array.from({ length: 20 }, (_, n) => save(n + 1, "small"))], {
        concurrency: "unbounded"
      })
    )
    expect(results[0]).toBe(true)
    expect(await store.run(latest("small"))).toBe(20)
    const found = await store.run(Effect.flatMap(SnapshotStore.SnapshotStore, (store) => store.latest(stream("large"))))
    expect(found._tag === "Some" && found.value.state === large).toBe(true)
  })
})
