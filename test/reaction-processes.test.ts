/**
 * Processes that run a reaction and the worker of its commands are killed, at each moment on the way from an event to
 * the outcome of its command, and at random ones: each event leads to one command of each kind, each command has one
 * outcome, and what its handler writes in the transaction of the outcome is there once.
 */
import * as path from "node:path"
import { SqlClient } from "@effect/sql"
import { Effect, Layer, ManagedRuntime, Redacted } from "effect"
import { CommandStore, EventStore } from "effect-stores"
import { CommandStorePg, EventStorePg, PgDatabase } from "effect-stores/pg"
import { CommandStoreSqlite, EventStoreSqlite, SqliteDatabase } from "effect-stores/sqlite"
import { describe, expect, it } from "vitest"
import { describePg, freshDatabase, temporaryDirectory } from "./support/backends.js"
import { spawnWorker, type Worker } from "./support/child.js"
import { isFull, kills } from "./support/scale.js"

const processes = 3
const leaseMs = 500
const eventsPerKill = isFull ? 200 : 20

const reactor = new URL("./workers/reactor.ts", import.meta.url)

type Env = Readonly<Record<string, string>>

type Stores = EventStore.EventStore | CommandStore.CommandStore | SqlClient.SqlClient

interface Place {
  readonly env: Env
  readonly layer: Layer.Layer<Stores, unknown>
}

const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms))

const moments = [
  "before the command",
  "after the command, before the checkpoint",
  "taken over",
  "executed, before the commit",
  "after the commit"
]

const start = (env: Env): Worker => spawnWorker(reactor, { env: { ...env, WORKER_LEASE_MS: String(leaseMs) } })

/** The first line of a worker: the place where it stands, or why it failed. */
const firstLine = async (worker: Worker): Promise<unknown> => {
  for await (const line of worker.lines) return JSON.parse(line)
  return `ended: ${JSON.stringify(await worker.exited)}`
}

/** A database with the table of the handlers. */
const open = async ({ layer }: Place) => {
  const runtime = ManagedRuntime.make(layer)
  const run = runtime.runPromise
  const sql = await run(SqlClient.SqlClient)
  await run(sql`create table counted (id varchar(50) primary key, n integer not null, early integer not null)`)
  let appended = 0
  const append = (count: number) =>
    run(
      Effect.flatMap(EventStore.EventStore, (store) =>
        store.append(
          { tenantId: "t", domain: "d", aggregateId: `${Math.trunc(Math.random() * 20)}` },
          Array.from({ length: count }, () => ({ type: "Happened", data: { n: ++appended } })),
          { expected: "any" }
        )
      )
    )
  const count = (filter: CommandStore.Filter) =>
    run(Effect.flatMap(CommandStore.CommandStore, (store) => store.count(filter)))

  /** Two commands for each event, each of them done, and counted once. */
  const allDone = async () => {
    let last = -1
    let sinceMs = Date.now()
    for (;;) {
      const done = await count({ statuses: ["succeeded"] })
      if (done >= 2 * appended) break
      if (done > last) sinceMs = Date.now()
      // a slow machine still gets somewhere
      if (Date.now() - sinceMs > 300_000) throw new Error(`stuck: ${await count({})} commands, ${done} done`)
      last = done
      await sleep(20)
    }
    const statuses: ReadonlyArray<CommandStore.Status> = ["received", "succeeded", "failed"]
    expect(await Promise.all(statuses.map((status) => count({ statuses: [status] })))).toEqual([0, 2 * appended, 0])
    const rows = await run(sql<{ n: number | string; early: number | string }>`select n, early from counted`)
    expect(rows.length).toBe(2 * appended)
    expect(rows.filter(({ early, n }) => Number(n) !== 1 || Number(early) !== 0)).toEqual([])
  }
  return { append, allDone, appended: () => appended, dispose: () => runtime.dispose() }
}

const onPlace = (place: () => Promise<Place>) => {
  for (const moment of moments) {
    it(`one that is killed ${moment} leaves one command each, with one outcome`, async () => {
      const here = await place()
      const { allDone, append, dispose } = await open(here)
      await append(1)
      const first = start({ ...here.env, WORKER_STOP: moment })
      expect(await firstLine(first)).toEqual({ at: moment })
      first.kill("SIGKILL")
      await first.exited
      const second = start(here.env)
      try {
        await allDone()
      } finally {
        second.kill("SIGKILL")
        await second.exited
      }
      await dispose()
    })
  }

  it(`${processes} processes, ${kills} kills: each event leads to its commands once, each done once`, async () => {
    const startedAt = Date.now()
    const here = await place()
    const { allDone, append, appended, dispose } = await open(here)
    const workers = Array.from({ length: processes }, () => start(here.env))
    for (let i = 0; i < kills; i++) {
      await append(eventsPerKill)
      await sleep(Math.random() * 400)
      const at = Math.trunc(Math.random() * processes)
      workers[at]?.kill("SIGKILL")
      await workers[at]?.exited
      workers[at] = start(here.env)
    }
    await append(eventsPerKill)
    const failures: Array<unknown> = []
    for (const worker of workers) {
      void (async () => {
        for await (const line of worker.lines) failures.push(line)
      })()
    }
    try {
      await allDone()
    } finally {
      for (const worker of workers) worker.kill("SIGKILL")
      await Promise.all(workers.map(({ exited }) => exited))
    }
    expect(failures).toEqual([])
    await dispose()
    const seconds = Math.round((Date.now() - startedAt) / 100) / 10
    console.log("reactions:", JSON.stringify({ events: appended(), commands: 2 * appended(), kills, seconds }))
  })
}

describe("reactions on SQLite", () => {
  onPlace(async () => {
    const filename = path.join(temporaryDirectory(), "reactions.db")
    const database = SqliteDatabase.layer({ filename, pool: { acquireTimeout: "1 minute" } })
    const layer = Layer.mergeAll(
      EventStoreSqlite.layerFromDatabase(),
      CommandStoreSqlite.layerFromDatabase(),
      SqliteDatabase.layerSqlClient
    ).pipe(Layer.provide(database))
    return { env: { WORKER_SQLITE_FILE: filename }, layer }
  })
})

describePg("reactions on PostgreSQL", () => {
  onPlace(async () => {
    const url = await freshDatabase()
    const layer = Layer.mergeAll(
      EventStorePg.layerFromDatabase(),
      CommandStorePg.layerFromDatabase(),
      PgDatabase.layerSqlClient
    ).pipe(Layer.provide(PgDatabase.layer({ url: Redacted.make(url), pool: { maxOpenConns: 4 } })))
    return { env: { WORKER_PG_URL: url }, layer }
  })
})
