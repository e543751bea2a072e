/**
 * Several processes, each with several fibers, append to the same streams at the versions they have read: for every
 * version of every stream exactly one append wins and is there, and the whole can have happened one after another.
 */
import * as path from "node:path"
import { Effect, type Layer, Redacted } from "effect"
import type { EventStore } from "effect-stores"
import { EventStorePg } from "effect-stores/pg"
import { EventStoreSqlite } from "effect-stores/sqlite"
import { expect, it } from "vitest"
import { describePg, freshDatabase, temporaryDirectory } from "./support/backends.js"
import { spawnWorker } from "./support/child.js"
import { isFull } from "./support/scale.js"
import {
  type Acknowledged,
  catchUp,
  contradictions,
  type Line,
  lost,
  nothingStored,
  type Refused
} from "./workers/history.js"

const processes = 4
const fibers = 16
const streams = 20
const appendsPerFiber = isFull ? 600 : 60

const contender = new URL("./workers/contender.ts", import.meta.url)

type Env = Readonly<Record<string, string>>

/** Runs one contender to its end; each fiber goes on until that many of its appends were acknowledged. */
const runContender = async (env: Env, appendsPerFiber: number) => {
  const worker = spawnWorker(contender, {
    env: {
      ...env,
      WORKER_FIBERS: String(fibers),
      WORKER_APPENDS: String(appendsPerFiber),
      WORKER_STREAMS: String(streams)
    }
  })
  const acknowledged: Array<Acknowledged> = []
  const refused: Array<Refused> = []
  let blockedMs = Number.NaN
  let closedAt = Number.NaN
  // Anything but a conflict, SQLITE_BUSY above all, is a failure.
  const failures: Array<string> = []
  for await (const text of worker.lines) {
    const line: Line = JSON.parse(text)
    if ("writes" in line) acknowledged.push(line)
    else if ("conflict" in line) refused.push(line)
    else if ("blockedMs" in line) {
      blockedMs = line.blockedMs
      closedAt = Date.now()
    } else failures.push(line.failure)
  }
  expect({ failures, ...(await worker.exited) }).toEqual({ failures: [], code: 0, signal: null, stderr: "" })
  return { acknowledged, refused, blockedMs, lingeredMs: Date.now() - closedAt }
}

const contend = async (env: Env, layer: Layer.Layer<EventStore.EventStore, unknown>) => {
  const histories = await Promise.all(Array.from({ length: processes }, () => runContender(env, appendsPerFiber)))
  const acknowledged = histories.flatMap((history) => history.acknowledged)
  const refused = histories.flatMap((history) => history.refused)
  expect(acknowledged).toHaveLength(processes * fibers * appendsPerFiber)

  const stored = nothingStored()
  await Effect.runPromise(Effect.provide(catchUp(stored), layer))
  expect(lost(stored, acknowledged)).toEqual([])
  expect(contradictions(stored, acknowledged, refused)).toEqual([])
  // Otherwise nobody contended.
  expect(refused.length).toBeGreaterThan(acknowledged.length / 10)

  // What each process got done while all of them were at work.
  const begun = Math.max(...histories.map((history) => Math.min(...history.acknowledged.map(({ start }) => start))))
  const ended = Math.min(...histories.map((history) => Math.max(...history.acknowledged.map(({ end }) => end))))
  const shares = histories.map(
    (history) => history.acknowledged.filter(({ end, start }) => start >= begun && end <= ended).length
  )
  // Nobody starved.
  expect(Math.min(...shares)).toBeGreaterThan(Math.max(...shares) / 10)
  return {
    appends: acknowledged.length,
    guarded: acknowledged.filter(({ guards }) => guards.length > 0).length,
    events: stored.events,
    conflicts: refused.length,
    seconds: Math.round((ended - begun) / 1e5) / 10,
    shareMin: Math.min(...shares),
    shareMax: Math.max(...shares),
    blockedMsMax: Math.round(Math.max(...histories.map(({ blockedMs }) => blockedMs)))
  }
}

it(`${processes} processes of ${fibers} fibers on one Sqlite file: one winner per version, no SQLITE_BUSY`, async () => {
  const filename = path.join(temporaryDirectory(), "shared.db")
  const figures = await contend({ WORKER_SQLITE_FILE: filename }, EventStoreSqlite.layer({ filename }))
  console.log("concurrency on Sqlite:", JSON.stringify(figures))
})

it("a process that closed its Sqlite store ends", async () => {
  const { lingeredMs } = await runContender({ WORKER_SQLITE_FILE: path.join(temporaryDirectory(), "one.db") }, 1)
  // What keeps a process is a timer or a connection, and that for minutes or for ever.
  expect(lingeredMs).toBeLessThan(60_000)
})

describePg("concurrency on PostgreSQL", () => {
  it(`${processes} processes of ${fibers} fibers: one winner per version`, async () => {
    const url = await freshDatabase()
    const figures = await contend({ WORKER_PG_URL: url }, EventStorePg.layer({ url: Redacted.make(url) }))
    console.log("concurrency on PostgreSQL:", JSON.stringify(figures))
  })

  it("a process that closed its store ends", async () => {
    const { lingeredMs } = await runContender({ WORKER_PG_URL: await freshDatabase() }, 1)
    // What keeps a process is a timer or a connection, and that for minutes or for ever.
    expect(lingeredMs).toBeLessThan(60_000)
  })
})
