/**
 * The bench of encryption: envelopes and object streams beside the cipher alone, and stores sealed beside the same
 * stores plain. `--quick` is for a look; `--profile` shows where the time of our side goes.
 */
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { Layer, Redacted } from "effect"
import { EventStoreMemory, SnapshotStoreMemory } from "effect-stores/memory"
import { EventStorePg, PgDatabase, SnapshotStorePg } from "effect-stores/pg"
import { EventStoreSqlite, SnapshotStoreSqlite, SqliteDatabase } from "effect-stores/sqlite"
import { pgFacts, sqliteFacts } from "../drivers.js"
import { chosenBy, type Part, usage as partsUsage } from "../parts.js"
import { postgres } from "../servers.js"
import { objects, records, stores } from "./sides.js"

export const usage = `crypto [--what records,objects,memory,sqlite,pg] ${partsUsage}`

const nothing = async () => {}

export const inMemory = async (): Promise<Part> => {
  const layer = () => Layer.mergeAll(EventStoreMemory.layer(), SnapshotStoreMemory.layer())
  return { title: "Stores in memory, sealed and plain", ...stores(layer(), layer(), true, undefined) }
}

const onSqlite = async (): Promise<Part> => {
  const directory = mkdtempSync(join(tmpdir(), "bench-crypto-"))
  const layer = (name: string) =>
    Layer.mergeAll(EventStoreSqlite.layerFromDatabase(), SnapshotStoreSqlite.layerFromDatabase()).pipe(
      Layer.provide(SqliteDatabase.layer({ filename: join(directory, name), synchronous: "NORMAL" }))
    )
  const { close, workloads } = stores(layer("plain.db"), layer("sealed.db"), true, undefined)
  return {
    title: "Stores on SQLite, synchronous NORMAL, sealed and plain",
    workloads,
    facts: sqliteFacts("NORMAL"),
    close: async () => {
      await close()
      rmSync(directory, { recursive: true })
    }
  }
}

const onPg = async (): Promise<Part> => {
  const server = await postgres()
  const layer = (prefix: string) =>
    Layer.mergeAll(EventStorePg.layerFromDatabase({ prefix }), SnapshotStorePg.layerFromDatabase({ prefix })).pipe(
      Layer.provide(PgDatabase.layer({ url: Redacted.make(server.url) }))
    )
  const { close, workloads } = stores(layer("plain_"), layer("sealed_"), false, 0.9)
  return {
    title: "Stores on PostgreSQL, sealed and plain",
    workloads,
    facts: await pgFacts(server.url),
    close: async () => {
      await close()
      await server.stop()
    }
  }
}

const parts: Readonly<Record<string, () => Promise<Part>>> = {
  records: async () => ({ title: "Records", workloads: records, close: nothing }),
  objects: async () => ({ title: "Objects", workloads: await objects(), close: nothing }),
  memory: inMemory,
  sqlite: onSqlite,
  pg: onPg
}

export const prepare = chosenBy("crypto", parts)
