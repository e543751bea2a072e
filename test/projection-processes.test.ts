/**
 * Four processes run one projection, are killed and are paused for longer than their leases while events are appended:
 * each event is counted once, and in the order of its stream, and whoever was paused cannot commit. The way that comes
 * to mind first counts wrong as soon as two processes go it.
 */
import * as path from "node:path"
import { SqlClient } from "@effect/sql"
import { Chunk, Effect, Layer, ManagedRuntime, Option, Redacted, Stream } from "effect"
import { CheckpointStore, EventStore } from "effect-stores"
import { CheckpointStorePg, EventStorePg, PgDatabase } from "effect-stores/pg"
import { CheckpointStoreSqlite, EventStoreSqlite, SqliteDatabase } from "effect-stores/sqlite"
import { expect, it } from "vitest"
import { describePg, freshDatabase, temporaryDirectory } from "./support/backends.js"
import { spawnWorker, type Worker } from "./support/child.js"
import { isFull } from "./support/scale.js"

const processes = 4
const streams = 50
const leaseMs = 3_000

const kills = isFull ? 50 : 5
const pauses = isFull ? 20 : 2
/** Each is a transaction of its own, so these are enough. */
const naiveEvents = 1_000
/** Everybody appends ten at a time. */
const eventsPerTurn = Math.ceil((isFull ? 100_000 : 10_000) / (kills + pauses + 1) / 10) * 10

const projector = new URL("./workers/projector.ts", import.meta.url)

type Env = Readonly<Record<string, string>>

type Stores = EventStore.EventStore | CheckpointStore.CheckpointStore | SqlClient.SqlClient

const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms))

interface Row {
  readonly id: string
  readonly n: number | string
  readonly disorder: number | string
}

/** What a worker says while it is at work; anything else is a failure. */
interface Said {
  readonly stopped?: boolean
  readonly refused?: boolean
}

interface Projector extends Worker {
  readonly name: string
  /** How often it has stopped, and how often a commit of it was refused since it was continued. */
  readonly said: { stopped: number; refused: number }
}

/** Looks until it is so. The bound is for a report, and no measure of speed. */
const until = async <A>(look: () => Promise<A>, isSo: (found: A) => boolean, maxMs = 600_000): Promise<A> => {
  for (const deadline = Date.now() + maxMs; ; await sleep(20)) {
    const found = await look()
    if (isSo(found)) return found
    if (Date.now() > deadline) throw new Error(`stuck at ${JSON.stringify(found)}`)
  }
}

const projectThroughAll = async (env: Env, layer: Layer.Layer<Stores, unknown>) => {
  const startedAt = Date.now()
  const runtime = ManagedRuntime.make(layer)
  const run = runtime.runPromise
  const sql = await run(SqlClient.SqlClient)
  for (const table of ["counted", "naive"]) {
    await run(sql`create table ${sql(table)} (
      id varchar(50) primary key, n integer not null, last integer not null, disorder integer not null
    )`)
  }
  await run(sql`create table naive_position (position bigint not null)`)
  await run(sql`insert into naive_position values (0)`)
  await run(sql`create table naive_ready (name varchar(50) not null)`)

  const appended = new Map<string, number>()
  const append = (count: number) =>
    Effect.gen(function* () {
      const store = yield* EventStore.EventStore
      let position = 0
      for (let n = 0; n < count; n += 10) {
        const id = `${Math.trunc(Math.random() * streams)}`
        const events = Array.from({ length: 10 }, (_, i) => ({ type: "Happened", data: { n: n + i } }))
        const stream = { tenantId: "t", domain: "d", aggregateId: id }
        position = (yield* store.append(stream, events, { expected: "any" })).position
        appended.set(id, (appended.get(id) ?? 0) + 10)
      }
      return position
    })

  const failures: Array<string> = []
  let started = 0
  const start = (more: Env = {}): Projector => {
    const name = `worker ${++started}`
    const worker = spawnWorker(projector, {
      env: {
        ...env,
        WORKER_NAME: name,
        WORKER_LEASE_MS: String(leaseMs),
        WORKER_HOLD_MS: "3",
        ...more
      }
    })
    const said = { stopped: 0, refused: 0 }
    void (async () => {
      for await (const line of worker.lines) {
        const { refused, stopped } = JSON.parse(line) as Said
        if (stopped) said.stopped++
        else if (refused) said.refused++
        else failures.push(line)
      }
    })()
    return { ...worker, name, said }
  }
  const workers = Array.from({ length: processes }, () => start())

  const checkpoints = run(CheckpointStore.CheckpointStore)
  const positions = async () =>
    Chunk.toReadonlyArray(await run(Stream.runCollect((await checkpoints).list({ name: "counted" }))))

  // Everybody is at work before the first is disturbed.
  let head = await run(append(eventsPerTurn))
  await until(positions, (found) => found.some(({ position }) => position > 0))
  const share = pauses / (kills + pauses)
  const turns = Array.from({ length: kills + pauses }, (_, i) =>
    Math.floor((i + 1) * share) > Math.floor(i * share) ? "pause" : "kill"
  )
  /** The names of those who have a partition, dead ones too. */
  const owners = async () => (await positions()).map(({ owner }) => Option.getOrNull(owner))
  let refused = 0
  for (const turn of turns) {
    head = await run(append(eventsPerTurn))
    await sleep(Math.random() * 200)
    if (turn === "kill") {
      const place = Math.trunc(Math.random() * processes)
      const victim = workers[place] as Projector
      victim.kill("SIGKILL")
      await victim.exited
      workers[place] = start()
    } else {
      // Whoever stops with a batch in its hands, until others have taken over all it had, must not commit that batch.
      const having = await until(owners, (names) => workers.some(({ name }) => names.includes(name)))
      const victim = workers.find(({ name }) => having.includes(name)) as Projector
      victim.kill("SIGUSR2")
      await until(
        async () => {
          head = await run(append(10))
          return victim.said.stopped
        },
        (stopped) => stopped > 0
      )
      await until(owners, (names) => !names.includes(victim.name))
      victim.said.stopped = 0
      victim.said.refused = 0
      victim.kill("SIGCONT")
      await until(
        async () => victim.said.refused,
        (times) => times > 0
      )
      refused++
    }
  }

  // What is left is done by whoever lives.
  await until(positions, (found) => found.length === 4 && found.every(({ position }) => position >= head), 600_000)
  for (const worker of workers) worker.kill("SIGKILL")
  await Promise.all(workers.map(({ exited }) => exited))
  expect(failures).toEqual([])

  const counts = (rows: ReadonlyArray<Row>) => new Map(rows.map(({ id, n }) => [id, Number(n)]))
  const rows = await run(sql<Row>`select id, n, disorder from counted`)
  expect(counts(rows)).toEqual(appended)
  expect(rows.filter(({ disorder }) => Number(disorder) > 0)).toEqual([])

  const both = [1, 2].map((n) =>
    start({ WORKER_NAIVE: String(naiveEvents), WORKER_NAME: `naive ${n}`, WORKER_PROCESSES: "2" })
  )
  for (const { code, signal } of await Promise.all(both.map(({ exited }) => exited))) {
    expect({ code, signal, failures }).toEqual({ code: 0, signal: null, failures: [] })
  }
  const naive = counts(await run(sql<Row>`select id, n, disorder from naive`))
  const total = [...appended.values()].reduce((sum, n) => sum + n, 0)
  const naiveTotal = [...naive.values()].reduce((sum, n) => sum + n, 0)
  expect(naiveTotal).toBeGreaterThan(naiveEvents)

  expect(refused).toBe(pauses)
  // Claimed anew: what was killed or stopped was taken over.
  expect(Math.max(...(await positions()).map(({ token }) => token))).toBeGreaterThan(1)
  await runtime.dispose()
  const seconds = Math.round((Date.now() - startedAt) / 100) / 10
  return { events: total, kills, pauses, refused, naive: `${naiveTotal} of ${naiveEvents}`, seconds }
}

const title = `${processes} processes, ${kills} kills and ${pauses} pauses: each event counts once and in order`

it(`on Sqlite: ${title}`, async () => {
  const filename = path.join(temporaryDirectory(), "projected.db")
  const database = SqliteDatabase.layer({ filename, pool: { acquireTimeout: "1 minute" } })
  const layer = Layer.mergeAll(
    EventStoreSqlite.layerFromDatabase(),
    CheckpointStoreSqlite.layerFromDatabase(),
    SqliteDatabase.layerSqlClient
  ).pipe(Layer.provide(database))
  const figures = await projectThroughAll({ WORKER_SQLITE_FILE: filename }, layer)
  console.log("projection on Sqlite:", JSON.stringify(figures))
})

describePg("a projection on PostgreSQL", () => {
  it(title, async () => {
    const url = await freshDatabase()
    const layer = Layer.mergeAll(
      EventStorePg.layerFromDatabase(),
      CheckpointStorePg.layerFromDatabase(),
      PgDatabase.layerSqlClient
    ).pipe(Layer.provide(PgDatabase.layer({ url: Redacted.make(url) })))
    const figures = await projectThroughAll({ WORKER_PG_URL: url }, layer)
    console.log("projection on PostgreSQL:", JSON.stringify(figures))
  })
})
