/**
 * Killing what writes, at random moments: every append that was acknowledged is there, and no batch is half there.
 */
import * as path from "node:path"
import Sqlite from "better-sqlite3"
import { Chunk, Effect, type Layer, Redacted, Stream } from "effect"
import { EventStore } from "effect-stores"
import { EventStorePg } from "effect-stores/pg"
import { EventStoreSqlite } from "effect-stores/sqlite"
import { afterAll, beforeAll, expect, it } from "vitest"
import { describeOwnPg, describePg, freshDatabase, temporaryDirectory } from "./support/backends.js"
import { spawnWorker } from "./support/child.js"
import { withClient } from "./support/databases.js"
import { type PostgresServer, startPostgres } from "./support/postgres.js"

const full = process.env.EFFECT_STORES_TEST === "full"
const kills = full ? 50 : 10
const serverKills = full ? 10 : 2

interface Acknowledged {
  readonly stream: string
  readonly version: number
  readonly ids: ReadonlyArray<string>
}

/** Runs the writer, and does `harm` at a random moment after its first acknowledgement; answers what was acknowledged. */
const writeUntil = async (
  env: Record<string, string>,
  harm: (kill: () => void) => Promise<unknown>
): Promise<ReadonlyArray<Acknowledged>> => {
  const worker = spawnWorker(new URL("./workers/writer.ts", import.meta.url), { env })
  const acknowledged: Array<Acknowledged> = []
  let harmed: Promise<unknown> | undefined
  for await (const text of worker.lines) {
    // The last line may be cut by the kill: then nobody was told.
    if (!text.endsWith("}")) continue
    const line = JSON.parse(text)
    acknowledged.push({ stream: line.ok, version: line.version, ids: line.ids })
    harmed ??= new Promise((resolve) => setTimeout(resolve, Math.random() * 300)).then(() => harm(worker.kill))
  }
  const { stderr } = await worker.exited
  if (harmed === undefined) throw new Error(`the writer ended before its first append: ${stderr}`)
  await harmed
  return acknowledged
}

const verify = async (
  layer: Layer.Layer<EventStore.EventStore, unknown>,
  acknowledged: ReadonlyArray<Acknowledged>
): Promise<number> => {
  const events = await Effect.runPromise(
    Effect.provide(
      Effect.flatMap(EventStore.EventStore, (store) => Stream.runCollect(store.feed())),
      layer
    )
  )
  const streams = new Map<string, Array<string>>()
  const batches = new Map<string, { size: number; found: number }>()
  for (const { aggregateId, id, metadata, version } of Chunk.toReadonlyArray(events)) {
    const ids = streams.get(aggregateId) ?? []
    streams.set(aggregateId, ids)
    ids.push(id)
    expect(version).toBe(ids.length)
    const batch = batches.get(String(metadata.batch)) ?? { size: Number(metadata.size), found: 0 }
    batch.found++
    batches.set(String(metadata.batch), batch)
  }
  for (const [name, { found, size }] of batches) expect(found, `batch ${name} is half there`).toBe(size)
  for (const { ids, stream, version } of acknowledged) {
    expect(streams.get(stream)?.slice(version - ids.length, version)).toEqual(ids)
  }
  return events.length
}

it(`a writer on a Sqlite file, killed ${kills} times, loses nothing that it acknowledged`, async () => {
  const filename = path.join(temporaryDirectory(), "crash.db")
  const acknowledged: Array<Acknowledged> = []
  let events = 0
  for (let n = 0; n < kills; n++) {
    acknowledged.push(...(await writeUntil({ WORKER_SQLITE_FILE: filename }, async (kill) => kill())))
    const file = new Sqlite(filename)
    expect(file.pragma("integrity_check", { simple: true })).toBe("ok")
    file.close()
    events = await verify(EventStoreSqlite.layer({ filename }), acknowledged)
  }
  console.log("crash on Sqlite:", { kills, acknowledged: acknowledged.length, events })
}, 600_000)

describePg("crash on PostgreSQL", () => {
  it(`a writer killed ${kills} times loses nothing that it acknowledged, and leaves no connection`, async () => {
    const url = await freshDatabase()
    const layer = EventStorePg.layer({ url: Redacted.make(url) })
    const acknowledged: Array<Acknowledged> = []
    let events = 0
    for (let n = 0; n < kills; n++) {
      acknowledged.push(...(await writeUntil({ WORKER_PG_URL: url }, async (kill) => kill())))
      events = await verify(layer, acknowledged)
    }
    const left = async () =>
      withClient(url, async (client) => {
        const { rowCount } = await client.query(
          "select 1 from pg_stat_activity where application_name = 'worker' and datname = current_database()"
        )
        return rowCount
      })
    await expect.poll(left, { timeout: 5_000 }).toBe(0)
    console.log("crash on PostgreSQL, client killed:", { kills, acknowledged: acknowledged.length, events })
  }, 600_000)
})

describeOwnPg("crash of PostgreSQL", () => {
  let server: PostgresServer
  beforeAll(async () => {
    server = await startPostgres()
  }, 120_000)
  afterAll(() => server?.stop())

  it(`a server killed ${serverKills} times loses nothing that was acknowledged`, async () => {
    const url = await server.createDatabase()
    const acknowledged: Array<Acknowledged> = []
    let events = 0
    for (let n = 0; n < serverKills; n++) {
      const harm = async (kill: () => void) => {
        await server.kill()
        kill()
        await server.start()
      }
      acknowledged.push(...(await writeUntil({ WORKER_PG_URL: url }, harm)))
      events = await verify(EventStorePg.layer({ url: Redacted.make(url) }), acknowledged)
    }
    console.log("crash of PostgreSQL, server killed:", { serverKills, acknowledged: acknowledged.length, events })
  }, 600_000)
})
