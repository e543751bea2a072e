/**
 * The options of pools as the servers see them while 200 fibers work, and connections that the other side has closed
 * while they were idle: no caller ever sees one. What each option does in a moment that is held by hand is shown with
 * the databases (test/pg/database.test.ts, test/sqlite/pool.test.ts, test/redis/connections.test.ts,
 * test/data/sockets.test.ts).
 */
import { execFileSync } from "node:child_process"
import { Chunk, Effect, Fiber, Layer, Redacted, Ref, Stream } from "effect"
import { EventStore, SnapshotStore } from "effect-stores"
import { EventStorePg, PgDatabase } from "effect-stores/pg"
import { SnapshotStoreRedis } from "effect-stores/redis"
import { expect, it, onTestFinished } from "vitest"
import { clients } from "../redis/fixtures.js"
import { freshFile, openConnections, withStore } from "../sqlite/support.js"
import { describeOwnRedis, describePg, freshDatabase } from "../support/backends.js"
import { withClient } from "../support/databases.js"
import { eventually } from "../support/eventually.js"
import { startProxy } from "../support/proxy.js"
import { startRedis } from "../support/redis.js"
import { numbers } from "./support.js"

const fibers = 200

const streamOf = (n: number) => ({ tenantId: "pool", domain: "order", aggregateId: `${n}-${crypto.randomUUID()}` })
const event = { type: "Placed", data: { n: 1 } }

describePg("the pool on PostgreSQL", () => {
  const open = <A, E>(
    options: Omit<EventStorePg.Options, "url"> & { readonly url: string },
    body: Effect.Effect<A, E, EventStore.EventStore | PgDatabase.PgDatabase>
  ) => Effect.runPromise(Effect.provide(body, EventStorePg.layer({ ...options, url: Redacted.make(options.url) })))

  /** Looks at the server's connections of an application as often as it can, while the effect runs. */
  const watched = <A, E, R>(url: string, application: string, body: Effect.Effect<A, E, R>) =>
    Effect.gen(function* () {
      const found = { most: 0, processes: new Set<number>() }
      let over = false
      const watcher = yield* Effect.fork(
        Effect.promise(() =>
          withClient(url, async (client) => {
            while (!over) {
              const { rows } = await client.query("select pid from pg_stat_activity where application_name = $1", [
                application
              ])
              found.most = Math.max(found.most, rows.length)
              for (const { pid } of rows) found.processes.add(pid)
            }
          })
        )
      )
      yield* body
      over = true
      yield* Fiber.join(watcher)
      return found
    })

  const connections = (url: string, application: string) =>
    Effect.promise(() =>
      withClient(url, (client) =>
        client.query("select pid from pg_stat_activity where application_name = $1", [application])
      )
    ).pipe(Effect.map(({ rows }) => rows.length))

  /** As many connections as there may be, all in use at once and then idle. */
  const filled = (count: number) =>
    Effect.gen(function* () {
      const { state, transaction } = yield* PgDatabase.PgDatabase
      const release = yield* Effect.makeLatch()
      const holders = yield* Effect.forEach(numbers(count), () => Effect.fork(transaction(release.await)))
      yield* eventually(state, ({ idle, open }) => open === count && idle === 0)
      yield* release.open
      yield* Fiber.joinAll(holders)
    })

  it("old connections are replaced under work, and nobody sees it, nor more than the maximum", async () => {
    const url = await freshDatabase()
    const pool = {
      maxOpenConns: 8,
      maxIdleConns: 8,
      connMaxLifetime: "150 millis",
      acquireTimeout: "60 seconds"
    } as const
    await open(
      { url, applicationName: "work", pool },
      Effect.gen(function* () {
        const store = yield* EventStore.EventStore
        const work = Effect.forEach(
          numbers(fibers),
          (n) =>
            Effect.gen(function* () {
              const stream = streamOf(n)
              for (const version of numbers(10)) yield* store.append(stream, [event], { expected: version })
              expect(yield* store.version(stream)).toBe(10)
            }),
          { concurrency: "unbounded", discard: true }
        )
        const { most, processes } = yield* watched(url, "work", work)
        expect(most).toBeLessThanOrEqual(8)
        expect(processes.size).toBeGreaterThan(8)
      })
    )
  })

  it("old connections are closed without work too", async () => {
    const url = await freshDatabase()
    const pool = { maxOpenConns: 5, connMaxLifetime: "400 millis", connMaxIdleTime: "1 hour" } as const
    await open(
      { url, applicationName: "resting", pool },
      Effect.gen(function* () {
        yield* filled(5)
        yield* eventually(connections(url, "resting"), (count) => count === 0)
        const { state } = yield* PgDatabase.PgDatabase
        expect(yield* state).toEqual({ open: 0, idle: 0, waiting: 0 })
      })
    )
  })

  it("idle ones beyond maxIdleConns are closed when 200 fibers have worked", async () => {
    const url = await freshDatabase()
    await open(
      { url, applicationName: "surplus", pool: { maxOpenConns: 10, maxIdleConns: 3, acquireTimeout: "60 seconds" } },
      Effect.gen(function* () {
        const { sql } = yield* PgDatabase.PgDatabase
        const work = Effect.forEach(numbers(fibers), () => sql`select pg_sleep(0.01)`, { concurrency: "unbounded" })
        const { most } = yield* watched(url, "surplus", work)
        expect(most).toBeLessThanOrEqual(10)
        yield* eventually(connections(url, "surplus"), (count) => count === 3)
      })
    )
  })

  /** Two hundred at once, half of them writes, that find only connections which are closed. */
  const unaware = (close: Effect.Effect<unknown>) =>
    Effect.gen(function* () {
      const store = yield* EventStore.EventStore
      const { sql } = yield* PgDatabase.PgDatabase
      const failures = yield* Ref.make(Chunk.empty<unknown>())
      for (let round = 0; round < 5; round++) {
        yield* filled(5)
        // Long enough to be looked at before they are used.
        yield* Effect.sleep("150 millis")
        yield* close
        yield* Effect.forEach(
          numbers(fibers),
          (n): Effect.Effect<unknown, never> =>
            Effect.catchAll(
              n % 2 === 0
                ? (store.append(streamOf(n), [event], { expected: "noStream" }) as Effect.Effect<unknown, unknown>)
                : sql`select 1`,
              (error) => Ref.update(failures, Chunk.append(error))
            ),
          { concurrency: "unbounded", discard: true }
        )
      }
      expect(Chunk.toArray(yield* Ref.get(failures))).toEqual([])
    })

  const idlePool = { maxOpenConns: 5, maxIdleConns: 5, acquireTimeout: "60 seconds" } as const

  it("connections that the server has ended while they were idle never reach a caller", async () => {
    const url = await freshDatabase()
    // Returns when they are gone, and their sockets closed.
    const ending = "select pg_terminate_backend(pid, 10000) from pg_stat_activity where application_name = 'ended'"
    const script = `const { Client } = require("pg"), client = new Client(${JSON.stringify(url)})
      client.connect().then(() => client.query(${JSON.stringify(ending)})).then(() => client.end())`
    await open(
      { url, applicationName: "ended", pool: idlePool },
      unaware(
        // By another process, and while this one does not read its sockets: the statements follow in the same turn.
        Effect.sync(() => execFileSync(process.execPath, ["-e", script]))
      )
    )
  })

  it("connections that a proxy has reset, or closed, while they were idle never reach a caller", async () => {
    const url = new URL(await freshDatabase())
    const proxy = await startProxy(Number(url.port))
    onTestFinished(proxy.stop)
    const port = Number(url.port)
    url.port = String(proxy.port)
    await open({ url: url.href, pool: idlePool }, unaware(Effect.sync(proxy.reset)))
    await open({ url: url.href, pool: idlePool }, unaware(Effect.sync(() => proxy.leadTo(port))))
  })

  it("a subscription goes on when its connection and those of the pool are ended while idle", async () => {
    const url = await freshDatabase()
    await withClient(url, (client) =>
      open(
        { url, applicationName: "hearing", pool: idlePool },
        Effect.gen(function* () {
          const store = yield* EventStore.EventStore
          const reading = yield* Effect.fork(Stream.runCount(store.subscribe({ limit: 2 })))
          yield* store.append(streamOf(1), [event], { expected: "noStream" })
          yield* eventually(connections(url, "hearing listener"), (count) => count === 1)
          yield* Effect.promise(() =>
            client.query(
              `select pg_terminate_backend(pid, 10000) from pg_stat_activity where application_name like 'hearing%'`
            )
          )
          yield* store.append(streamOf(2), [event], { expected: "noStream" })
          expect(yield* Fiber.join(reading)).toBe(2)
        })
      )
    )
  })
})

it("readers of a SQLite file are never more than the pool says, with 200 fibers that read and write", async () => {
  const filename = freshFile()
  let most = 0
  await withStore({ filename, pool: { maxOpenConns: 3, acquireTimeout: "60 seconds" } }, (store, { reader }) =>
    Effect.forEach(
      numbers(fibers),
      (n) =>
        Effect.gen(function* () {
          const stream = streamOf(n)
          yield* store.append(stream, [event], { expected: "noStream" })
          const reading = Effect.zipRight(store.version(stream), Effect.yieldNow())
          yield* reader.withTransaction(Effect.zipRight(reading, store.version(stream)))
          most = Math.max(most, openConnections(filename))
        }),
      { concurrency: "unbounded", discard: true }
    )
  )
  expect(most).toBe(3)
})

describeOwnRedis("the pool on Redis", () => {
  it("connections that the server has ended while they were idle never reach a caller, nor too many the server", async () => {
    const server = await startRedis()
    onTestFinished(() => server.stop())
    let most = 0
    let over = false
    const watcher = (async () => {
      while (!over) most = Math.max(most, (await clients(server)).length)
    })()
    await Effect.gen(function* () {
      const store = yield* SnapshotStore.SnapshotStore
      for (let round = 0; round < 5; round++) {
        yield* Effect.promise(async () => {
          for (const line of await clients(server)) {
            await server.command("client", "kill", "id", /id=(\d+)/.exec(line)?.[1] ?? "")
          }
        })
        yield* Effect.forEach(
          numbers(fibers),
          (n) => {
            const state = { version: 1, lastEventMark: crypto.randomUUID(), schemaVersion: "1", state: n }
            return Effect.zipRight(store.save(streamOf(n), state), store.latest(streamOf(n)))
          },
          { concurrency: "unbounded", discard: true }
        )
      }
    }).pipe(
      Effect.provide(
        Layer.suspend(() =>
          SnapshotStoreRedis.layer({
            host: "127.0.0.1",
            port: server.port,
            pool: { poolSize: 4, minIdleConns: 4, maxIdleConns: 4 }
          })
        )
      ),
      Effect.runPromise
    )
    over = true
    await watcher
    expect(most).toBeLessThanOrEqual(4)
  })
})
