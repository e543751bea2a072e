/**
 * Where events and snapshots are kept while loads are measured. Pairs of one backend of events read the same events.
 */
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { Layer, ManagedRuntime, Redacted } from "effect"
import type { EventStore, SnapshotStore } from "effect-stores"
import { EventStorePg, SnapshotStorePg } from "effect-stores/pg"
import { SnapshotStoreRedis } from "effect-stores/redis"
import { EventStoreSqlite, SnapshotStoreSqlite } from "effect-stores/sqlite"
import { withClient } from "../../test/support/databases.js"
import { withRedis } from "../../test/support/redis.js"
import { pgFacts, sqliteFacts } from "../drivers.js"
import * as servers from "../servers.js"

type Stores = EventStore.EventStore | SnapshotStore.SnapshotStore

/** A pool of its own each, as in an application. */
export interface Pair {
  readonly snapshots: string
  readonly runtime: ManagedRuntime.ManagedRuntime<Stores, unknown>
}

export interface Backend {
  readonly events: string
  readonly pairs: ReadonlyArray<Pair>
  /** Versions and settings that the figures depend on. */
  readonly facts: Readonly<Record<string, string>>
  /** What the server would do by itself, but perhaps in the middle of a measurement. */
  readonly settle: () => Promise<void>
  readonly close: () => Promise<void>
}

const pair = (snapshots: string, layer: Layer.Layer<Stores, unknown>): Pair => ({
  snapshots,
  runtime: ManagedRuntime.make(layer)
})

const sqlite = async (): Promise<Backend> => {
  const directory = mkdtempSync(join(tmpdir(), "es-bench-"))
  const events = EventStoreSqlite.layer({ filename: join(directory, "bench.db") })
  const { runtime, snapshots } = pair("Sqlite", Layer.provideMerge(SnapshotStoreSqlite.layerFromDatabase(), events))
  return {
    events: "Sqlite",
    pairs: [{ runtime, snapshots }],
    facts: sqliteFacts("FULL"),
    settle: async () => {},
    close: async () => {
      await runtime.dispose()
      rmSync(directory, { recursive: true })
    }
  }
}

const pg = async (): Promise<Backend> => {
  const [postgres, redis] = await Promise.all([servers.postgres(), servers.redis()])
  const url = Redacted.make(postgres.url)
  const events = EventStorePg.layer({ url })
  const pairs = [
    pair("Pg", Layer.provideMerge(SnapshotStorePg.layerFromDatabase(), events)),
    pair("Redis", Layer.merge(SnapshotStoreRedis.layer({ url: Redacted.make(redis.url) }), events))
  ]
  const redisInfo = await withRedis(redis.url, (client) => client.info("server"))
  return {
    events: "Pg",
    pairs,
    facts: {
      ...(await pgFacts(postgres.url)),
      Redis: /redis_version:(\S+)/.exec(redisInfo)?.[1] ?? "?"
    },
    settle: () =>
      withClient(postgres.url, async (client) => {
        await client.query("vacuum analyze")
        await client.query("checkpoint")
      }),
    close: async () => {
      for (const { runtime } of pairs) await runtime.dispose()
      await Promise.all([postgres.stop(), redis.stop()])
    }
  }
}

export const backends: Readonly<Record<string, () => Promise<Backend>>> = { sqlite, pg }
