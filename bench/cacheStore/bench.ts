/**
 * The bench of the CacheStore: in memory beside bentocache, on Redis beside raw ioredis with its own pipelining and
 * bentocache, on SQLite and PostgreSQL beside the bare drivers. `--quick` is for a look; `--profile` shows where the
 * time of our side goes; `--docs` writes the table of each backend that was measured into docs/.
 */
import { Redacted } from "effect"
import { CacheStoreMemory } from "effect-stores/memory"
import { CacheStorePg } from "effect-stores/pg"
import { CacheStoreRedis } from "effect-stores/redis"
import { CacheStoreSqlite } from "effect-stores/sqlite"
import { Redis } from "ioredis"
import { barePg, bareSqlite } from "../drivers.js"
import { chosenBy, type Part, usage as partsUsage } from "../parts.js"
import { redis } from "../servers.js"
import { bentocache, keys, text, value, workloadsOf } from "./sides.js"

export const usage = `cache-store [--what memory,redis,sqlite,pg] ${partsUsage}`

const memory = async (): Promise<Part> => {
  const bento = await bentocache(undefined)
  const { close, workloads } = workloadsOf(
    CacheStoreMemory.layer(),
    true,
    bento === undefined ? [] : [bento],
    (side, operation) => (side === "bentocache" && operation === "getOrSet" ? 1 : undefined),
    1_000_000
  )
  return {
    title: "InMemory",
    workloads,
    facts: { ...bento?.facts },
    close: async () => {
      await close()
      await bento?.close()
    }
  }
}

const onRedis = async (): Promise<Part> => {
  const server = await redis()
  const { port } = new URL(server.url)
  const raw = new Redis(server.url, { enableAutoPipelining: true })
  await raw.mset(keys.flatMap((key) => [`raw:${key}`, text]))
  const bento = await bentocache(Number(port))
  const ioredis = {
    name: "ioredis",
    get: async () => JSON.parse((await raw.get("raw:key-1")) ?? "null"),
    set: () => raw.set("raw:key-1", JSON.stringify(value), "PX", 60_000),
    getMany: async () => (await raw.mget(keys.map((key) => `raw:${key}`))).map((found) => JSON.parse(found ?? "null")),
    getOrSet: async () => JSON.parse((await raw.get("raw:key-1")) ?? "null")
  }
  const { close, workloads } = workloadsOf(
    CacheStoreRedis.layer({ url: Redacted.make(server.url) }),
    false,
    bento === undefined ? [ioredis] : [ioredis, bento],
    (side, _, concurrency) => (side === "ioredis" && concurrency === 64 ? 0.85 : undefined)
  )
  return {
    title: "Redis",
    workloads,
    facts: { Redis: /redis_version:(\S+)/.exec(await raw.info("server"))?.[1] ?? "?", ...bento?.facts },
    close: async () => {
      await close()
      await bento?.close()
      raw.disconnect()
      await server.stop()
    }
  }
}

const onSqlite = async (): Promise<Part> => {
  const bare = bareSqlite("NORMAL")
  const { db, facts, filename } = bare
  db.exec("CREATE TABLE cache (key TEXT PRIMARY KEY, value TEXT NOT NULL, end_ms INTEGER NOT NULL) STRICT")
  const put = db.prepare(
    `INSERT INTO cache VALUES (?, ?, ?)
ON CONFLICT (key) DO UPDATE SET value = excluded.value, end_ms = excluded.end_ms`
  )
  const read = db.prepare("SELECT value FROM cache WHERE key = ? AND end_ms > ?").pluck()
  for (const key of keys) put.run(key, text, Date.now() + 3_600_000)
  const get = (key: string): unknown => JSON.parse(read.get(key, Date.now()) as string)
  const { close, workloads } = workloadsOf(
    CacheStoreSqlite.layer({ filename, synchronous: "NORMAL" }),
    true,
    [
      {
        name: "better-sqlite3",
        get: async () => get("key-1"),
        set: async () => put.run("key-1", JSON.stringify(value), Date.now() + 60_000),
        getMany: async () => keys.map(get),
        getOrSet: async () => get("key-1")
      }
    ],
    () => undefined
  )
  return {
    title: "Sqlite",
    workloads,
    facts,
    close: async () => {
      await close()
      await bare.close()
    }
  }
}

const onPg = async (): Promise<Part> => {
  const bare = await barePg(10)
  const { facts, pool, url } = bare
  await pool.query("create table raw_cache (key text primary key, value text not null, end_ms bigint not null)")
  const now = "(extract(epoch from clock_timestamp()) * 1000)::bigint"
  const put = `insert into raw_cache values ($1, $2, ${now} + $3::bigint)
on conflict (key) do update set value = excluded.value, end_ms = excluded.end_ms`
  for (const key of keys) await pool.query(put, [key, text, 3_600_000])
  const get = async () => {
    const { rows } = await pool.query({
      name: "get",
      text: `select value from raw_cache where key = $1 and end_ms > ${now}`,
      values: ["key-1"]
    })
    return JSON.parse(rows[0].value)
  }
  const { close, workloads } = workloadsOf(
    CacheStorePg.layer({ url: Redacted.make(url) }),
    false,
    [
      {
        name: "pg",
        get,
        set: () => pool.query({ name: "set", text: put, values: ["key-1", JSON.stringify(value), 60_000] }),
        getMany: async () => {
          const { rows } = await pool.query({
            name: "many",
            text: `select key, value from raw_cache where key = any ($1) and end_ms > ${now}`,
            values: [keys]
          })
          return new Map(rows.map((row) => [row.key, JSON.parse(row.value)]))
        },
        getOrSet: get
      }
    ],
    () => undefined
  )
  return {
    title: "Pg",
    workloads,
    facts,
    close: async () => {
      await close()
      await bare.close()
    }
  }
}

export const prepare = chosenBy("cache-store", { memory, redis: onRedis, sqlite: onSqlite, pg: onPg })
