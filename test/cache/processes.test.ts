/**
 * Processes that share a cache: who loads when a loader is killed or stopped, and who is first.
 */
import assert from "node:assert/strict"
import * as path from "node:path"
import { Effect, type Layer, ManagedRuntime, Option, Redacted } from "effect"
import { CacheStore } from "effect-stores"
import { CacheStorePg } from "effect-stores/pg"
import { CacheStoreRedis } from "effect-stores/redis"
import { CacheStoreSqlite } from "effect-stores/sqlite"
import { afterAll, beforeAll, describe, it } from "vitest"
import { describeOwnRedis, describePg, freshDatabase, temporaryDirectory } from "../support/backends.js"
import { spawnWorker, type Worker } from "../support/child.js"
import { startRedis } from "../support/redis.js"
import { isFull } from "../support/scale.js"

const rounds = isFull ? 50 : 5
const lease = 1_000

interface Place {
  readonly layer: Layer.Layer<CacheStore.CacheStore, unknown>
  readonly env: Readonly<Record<string, string>>
}

const file = new URL("../workers/cacheStore.ts", import.meta.url)

const nextLine = async (lines: AsyncIterator<string>, expected: string): Promise<void> => {
  const { value } = await lines.next()
  assert.strictEqual(value, expected)
}

const processes = (start: () => Promise<Place>): void => {
  let place: Place
  let runtime: ManagedRuntime.ManagedRuntime<CacheStore.CacheStore, unknown>
  beforeAll(async () => {
    place = await start()
    runtime = ManagedRuntime.make(place.layer)
  })
  afterAll(() => runtime?.dispose())

  const use = <A, E>(body: (cache: CacheStore.CacheStoreShape) => Effect.Effect<A, E>) =>
    runtime.runPromise(Effect.flatMap(CacheStore.CacheStore, body))

  const spawn = (env: Record<string, string>): Worker =>
    spawnWorker(file, { env: { ...place.env, WORKER_LEASE_MS: String(lease), ...env } })

  it(`a loader that is killed is followed by another when its lease ends (${rounds} times)`, async () => {
    let killed = 0
    for (let round = 0; killed < rounds; round++) {
      // On a machine that is busy enough one that lives may be late to renew, but not each time.
      assert.ok(round < 4 * rounds, "nobody who lives keeps the lock")
      const key = `kill-${round}`
      const worker = spawn({ WORKER_KEY: key })
      const lines = worker.lines[Symbol.asyncIterator]()
      await nextLine(lines, "loading")
      // Longer than the lease: as long as it lives it renews, and nobody else loads.
      const early = await use((cache) =>
        Effect.option(cache.getOrSet("t", key, Effect.succeed("early"), { hardTimeout: 1.5 * lease }))
      )
      worker.kill("SIGKILL")
      await worker.exited
      if (Option.isSome(early)) continue
      killed++
      const value = await use((cache) => cache.getOrSet("t", key, Effect.succeed("new"), { hardTimeout: "30 seconds" }))
      assert.strictEqual(value, "new")
    }
  })

  it(`what a stopped loader brings after its lease replaces nothing (${rounds} times)`, async () => {
    for (let round = 0; round < rounds; round++) {
      const key = `stop-${round}`
      const worker = spawn({ WORKER_KEY: key, WORKER_LOAD_MS: "1" })
      const lines = worker.lines[Symbol.asyncIterator]()
      await nextLine(lines, "loading")
      worker.kill("SIGSTOP")
      // It may have been faster.
      const value = await use((cache) =>
        cache.getOrSet("t", key, Effect.succeed("new"), { ttl: "1 hour", hardTimeout: "30 seconds" })
      )
      await use((cache) => cache.set("t", key, "newer", { ttl: "1 hour" }))
      worker.kill("SIGCONT")
      await nextLine(lines, "done old")
      await worker.exited
      assert.ok(["new", "old"].includes(String(value)))
      assert.deepStrictEqual(await use((cache) => cache.get("t", key)), Option.some("newer"))
    }
  })

  it("of 64 in 4 processes that set a key if it is absent one does", async () => {
    const workers = Array.from({ length: 4 }, () => spawn({ WORKER_MODE: "race" }))
    const won = await Promise.all(
      workers.map(async (worker) => {
        const lines: Array<string> = []
        for await (const line of worker.lines) lines.push(line)
        const { code, stderr } = await worker.exited
        assert.strictEqual(code, 0, stderr)
        return (JSON.parse(lines[0] as string) as Array<string>).map((key) => [key, worker.process.pid] as const)
      })
    )
    const winners = new Map(won.flat())
    assert.strictEqual(won.flat().length, 25)
    assert.strictEqual(winners.size, 25)
    const stored = await use((cache) => cache.getMany("t", [...winners.keys()]))
    for (const [key, pid] of winners) assert.strictEqual(stored.get(key), pid)
  })
}

describe("processes that share a cache in SQLite", () => {
  const filename = path.join(temporaryDirectory(), "cache.db")
  processes(async () => ({
    layer: CacheStoreSqlite.layer({ filename, lease }),
    env: { WORKER_SQLITE_FILE: filename }
  }))
})

describePg("processes that share a cache in PostgreSQL", () => {
  processes(async () => {
    const url = await freshDatabase()
    return { layer: CacheStorePg.layer({ url: Redacted.make(url), lease }), env: { WORKER_PG_URL: url } }
  })
})

describeOwnRedis("processes that share a cache in Redis", () => {
  let stop: (() => Promise<void>) | undefined
  afterAll(() => stop?.())
  processes(async () => {
    const server = await startRedis()
    stop = server.stop
    return {
      layer: CacheStoreRedis.layer({ url: Redacted.make(server.url), lease }),
      env: { WORKER_REDIS_URL: server.url }
    }
  })
})
