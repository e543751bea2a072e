/**
 * Killing what writes, and what it writes to, at random moments: every append that was acknowledged is there, and no
 * batch is there in part.
 */
import * as path from "node:path"
import Sqlite from "better-sqlite3"
import { Effect, type Layer, Redacted } from "effect"
import type { EventStore } from "effect-stores"
import { EventStorePg } from "effect-stores/pg"
import { EventStoreSqlite } from "effect-stores/sqlite"
import { afterAll, beforeAll, expect, it } from "vitest"
import { describeOwnPg, describePg, freshDatabase, temporaryDirectory } from "./support/backends.js"
import { spawnWorker } from "./support/child.js"
import { withClient } from "./support/databases.js"
import { type PostgresServer, startPostgres } from "./support/postgres.js"
import { isFull, kills } from "./support/scale.js"
import { type Acknowledged, catchUp, type Line, lost, nothingStored, now } from "./workers/history.js"

const serverKills = isFull ? 15 : 5

const writer = new URL("./workers/writer.ts", import.meta.url)

type Env = Readonly<Record<string, string>>

interface Writer {
  /** Everything that it was told so far. */
  readonly acknowledged: ReadonlyArray<Acknowledged>
  /** Resolves when an append that it begins from now on is acknowledged; rejects when it ends before. */
  readonly progress: () => Promise<void>
  /** Kills it and resolves when it is gone. */
  readonly kill: () => Promise<void>
}

const startWriter = (env: Env): Writer => {
  const worker = spawnWorker(writer, { env })
  const acknowledged: Array<Acknowledged> = []
  const waiting = new Map<() => void, number>()
  const read = async () => {
    let cut: string | undefined
    for await (const text of worker.lines) {
      if (cut !== undefined) throw new Error(`the writer said: ${cut}`)
      let line: Line
      try {
        line = JSON.parse(text)
      } catch {
        // The kill came amid this line, which must be the last: nobody was told.
        cut = text
        continue
      }
      if (!("writes" in line)) throw new Error(`the writer gave up: ${text}`)
      acknowledged.push(line)
      for (const [resolve, since] of waiting) {
        if (line.start >= since && waiting.delete(resolve)) resolve()
      }
    }
    return worker.exited
  }
  const ended = read()
  // Seen by whoever kills it or waits for its progress.
  ended.catch(() => {})
  return {
    acknowledged,
    progress: async () => {
      const exit = await Promise.race([new Promise<void>((resolve) => waiting.set(resolve, now())), ended])
      if (exit !== undefined) throw new Error(`the writer ended: ${JSON.stringify(exit)}`)
    },
    kill: async () => {
      worker.kill("SIGKILL")
      expect(await ended).toMatchObject({ signal: "SIGKILL" })
    }
  }
}

const randomMoment = () => new Promise((resolve) => setTimeout(resolve, 5 + Math.random() * 495))

/** Kills a writer, and starts it again on the same data, as often as that; `verify` looks at the data in between. */
const killAgainAndAgain = async (
  env: Env,
  layer: Layer.Layer<EventStore.EventStore, unknown>,
  verify: () => Promise<void>
) => {
  const startedAt = Date.now()
  const acknowledged: Array<Acknowledged> = []
  const stored = nothingStored()
  for (let cycle = 1; cycle <= kills; cycle++) {
    const victim = startWriter({ ...env, WORKER_NAME: "victim" })
    const survivor = cycle % 5 === 0 ? startWriter({ ...env, WORKER_NAME: "survivor" }) : undefined
    await Promise.all([victim.progress(), survivor?.progress()])
    await randomMoment()
    await victim.kill()
    if (survivor !== undefined) {
      // What the dead one held must not hold up the other.
      await survivor.progress()
      await survivor.kill()
    }
    const told = [...victim.acknowledged, ...(survivor?.acknowledged ?? [])]
    await verify()
    await Effect.runPromise(Effect.provide(catchUp(stored), layer))
    expect(lost(stored, told), `after kill ${cycle}`).toEqual([])
    acknowledged.push(...told)
  }
  // Once more from the beginning, as nobody who has followed sees what is gone from the past.
  const again = nothingStored()
  await Effect.runPromise(Effect.provide(catchUp(again), layer))
  expect(lost(again, acknowledged)).toEqual([])
  expect(again.events).toBe(stored.events)
  return { kills, ...figures(acknowledged, again.events, startedAt) }
}

const figures = (acknowledged: ReadonlyArray<Acknowledged>, events: number, startedAt: number) => ({
  acknowledgedAppends: acknowledged.length,
  acknowledgedEvents: acknowledged.flatMap(({ writes }) => writes.flatMap(({ ids }) => ids)).length,
  storedEvents: events,
  seconds: Math.round((Date.now() - startedAt) / 100) / 10
})

it(`a writer on a Sqlite file, killed ${kills} times, loses nothing that it acknowledged`, async () => {
  const filename = path.join(temporaryDirectory(), "crash.db")
  const figures = await killAgainAndAgain(
    { WORKER_SQLITE_FILE: filename },
    EventStoreSqlite.layer({ filename }),
    async () => {
      const file = new Sqlite(filename)
      expect(file.pragma("integrity_check", { simple: true })).toBe("ok")
      file.close()
    }
  )
  console.log("crash on Sqlite:", JSON.stringify(figures))
})

describePg("crash on PostgreSQL", () => {
  it(`a writer killed ${kills} times loses nothing that it acknowledged, and leaves no connection`, async () => {
    const url = await freshDatabase()
    const connections = () =>
      withClient(url, async (client) => {
        const { rowCount } = await client.query(
          "SELECT FROM pg_stat_activity WHERE application_name = 'worker' AND datname = current_database()"
        )
        return rowCount
      })
    const figures = await killAgainAndAgain(
      { WORKER_PG_URL: url },
      EventStorePg.layer({ url: Redacted.make(url) }),
      // The server notices by itself that the client is gone.
      () => expect.poll(connections, { timeout: 600_000, interval: 20 }).toBe(0)
    )
    console.log("crash on PostgreSQL, client killed:", JSON.stringify(figures))
  })
})

describeOwnPg("crash of PostgreSQL", () => {
  let server: PostgresServer
  beforeAll(async () => {
    server = await startPostgres()
  })
  afterAll(() => server?.stop())

  it(`a server killed ${serverKills} times under a living writer loses nothing that was acknowledged, and the writer goes on`, async () => {
    const startedAt = Date.now()
    const url = await server.createDatabase()
    const survivor = startWriter({ WORKER_PG_URL: url })
    const recoveriesMs: Array<number> = []
    const stored = nothingStored()
    const layer = EventStorePg.layer({ url: Redacted.make(url) })
    await survivor.progress()
    for (let cycle = 1; cycle <= serverKills; cycle++) {
      await randomMoment()
      await server.kill()
      const told = [...survivor.acknowledged]
      await server.start()
      const restartedAt = Date.now()
      await survivor.progress()
      recoveriesMs.push(Date.now() - restartedAt)
      // The writer is at work meanwhile, so a batch is either wholly in what is read or not at all.
      await Effect.runPromise(Effect.provide(catchUp(stored), layer))
      expect(lost(stored, told), `after kill ${cycle} of the server`).toEqual([])
    }
    // Both at once, in whatever they are about.
    await Promise.all([server.kill(), survivor.kill()])
    await server.start()
    const again = nothingStored()
    await Effect.runPromise(Effect.provide(catchUp(again), layer))
    expect(lost(again, survivor.acknowledged)).toEqual([])
    console.log(
      "crash of PostgreSQL, server killed:",
      JSON.stringify({
        kills: serverKills + 1,
        ...figures(survivor.acknowledged, again.events, startedAt),
        recoveryMsMax: Math.max(...recoveriesMs)
      })
    )
    // It was not waiting for a time-out of TCP or of its own.
    expect(Math.max(...recoveriesMs)).toBeLessThan(60_000)
  })
})
