/**
 * Several processes, each with several fibers, append to the same streams at the versions they have read: for every
 * version of every stream exactly one append wins, and it is there.
 */
import * as path from "node:path"
import { Effect, type Layer, Redacted, Stream } from "effect"
import { EventStore } from "effect-stores"
import { EventStorePg } from "effect-stores/pg"
import { EventStoreSqlite } from "effect-stores/sqlite"
import { expect, it } from "vitest"
import { describePg, freshDatabase, temporaryDirectory } from "./support/backends.js"
import { spawnWorker } from "./support/child.js"

const processes = 4
const fibers = 16
const streams = 20
const appendsPerFiber = process.env.EFFECT_STORES_TEST === "full" ? 200 : 20

interface Acknowledged {
  readonly stream: string
  readonly version: number
  readonly ids: ReadonlyArray<string>
}

const contend = async (env: Record<string, string>, layer: Layer.Layer<EventStore.EventStore, unknown>) => {
  const startedAt = Date.now()
  const acknowledged: Array<Acknowledged> = []
  const blockedMs: Array<number> = []
  const finishedAt: Array<number> = []
  let conflicts = 0
  const workers = Array.from({ length: processes }, () =>
    spawnWorker(new URL("./workers/contender.ts", import.meta.url), {
      env: {
        ...env,
        WORKER_FIBERS: String(fibers),
        WORKER_APPENDS: String(appendsPerFiber),
        WORKER_STREAMS: String(streams)
      }
    })
  )
  await Promise.all(
    workers.map(async (worker) => {
      for await (const text of worker.lines) {
        const line = JSON.parse(text)
        if (line.ok !== undefined) acknowledged.push({ stream: line.ok, version: line.version, ids: line.ids })
        else if (line.conflict !== undefined) {
          conflicts++
          expect(line.actual).not.toBe(line.expected)
        } else if (line.blockedMs !== undefined) blockedMs.push(line.blockedMs)
        // Anything else, SQLITE_BUSY above all, is a failure.
        else expect(line).toBeUndefined()
      }
      finishedAt.push(Date.now() - startedAt)
      const { code, stderr } = await worker.exited
      expect(stderr).toBe("")
      expect(code).toBe(0)
    })
  )

  const events = await Effect.runPromise(
    Effect.provide(
      Effect.flatMap(EventStore.EventStore, (store) => Stream.runCollect(store.feed())),
      layer
    )
  )
  const stored = new Map<string, Array<string>>()
  for (const { aggregateId, id, version } of events) {
    const ids = stored.get(aggregateId) ?? []
    stored.set(aggregateId, ids)
    ids.push(id)
    expect(version).toBe(ids.length)
  }
  const claimed = new Set<string>()
  for (const { ids, stream, version } of acknowledged) {
    // It is there, whole, where the answer said.
    expect(stored.get(stream)?.slice(version - ids.length, version)).toEqual(ids)
    for (let v = version - ids.length + 1; v <= version; v++) {
      const place = `${stream}@${v}`
      expect(claimed.has(place), `two winners of ${place}`).toBe(false)
      claimed.add(place)
    }
  }
  // Nobody was killed, so there is nothing that nobody was told of.
  expect(claimed.size).toBe(events.length)
  const figures = {
    appends: acknowledged.length,
    events: events.length,
    conflicts,
    blockedMsMax: Math.round(Math.max(...blockedMs)),
    firstProcessDoneMs: Math.min(...finishedAt),
    lastProcessDoneMs: Math.max(...finishedAt)
  }
  expect(conflicts).toBeGreaterThan(0)
  return figures
}

it(`${processes} processes of ${fibers} fibers on one Sqlite file: one winner per version, no SQLITE_BUSY, no blocked event loop`, async () => {
  const filename = path.join(temporaryDirectory(), "shared.db")
  const figures = await contend({ WORKER_SQLITE_FILE: filename }, EventStoreSqlite.layer({ filename }))
  console.log("concurrency on Sqlite:", figures)
  expect(figures.blockedMsMax).toBeLessThan(2_000)
}, 600_000)

describePg("concurrency on PostgreSQL", () => {
  it(`${processes} processes of ${fibers} fibers: one winner per version`, async () => {
    const url = await freshDatabase()
    const figures = await contend({ WORKER_PG_URL: url }, EventStorePg.layer({ url: Redacted.make(url) }))
    console.log("concurrency on PostgreSQL:", figures)
  }, 600_000)
})
