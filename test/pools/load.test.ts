/**
 * Load and outages: thousands of programs at once on default pools, against servers that allow less than the pools
 * would open, and servers that go away meanwhile.
 */
import * as path from "node:path"
import { Cause, Duration, Effect, Exit, Fiber, Layer, Redacted, Ref, Schedule } from "effect"
import { CacheStore, CommandStore, EventStore, SnapshotStore } from "effect-stores"
import { CommandStorePg, EventStorePg, PgDatabase, SnapshotStorePg } from "effect-stores/pg"
import { CacheStoreRedis, SnapshotStoreRedis } from "effect-stores/redis"
import { EventStoreSqlite } from "effect-stores/sqlite"
import { describe, expect, it, onTestFinished } from "vitest"
import { clients } from "../redis/fixtures.js"
import { describeOwnPg, describeOwnRedis, patient, temporaryDirectory } from "../support/backends.js"
import { spawnWorker } from "../support/child.js"
import { withClient } from "../support/databases.js"
import { eventually } from "../support/eventually.js"
import { startPostgres } from "../support/postgres.js"
import { startProxy } from "../support/proxy.js"
import { startRedis } from "../support/redis.js"
import { isFull } from "../support/scale.js"
import { held, numbers } from "./support.js"

const programs = 2_000
const outage = isFull ? "60 seconds" : "10 seconds"

const streamOf = (n: number) => ({ tenantId: "load", domain: "order", aggregateId: String(n) })
const event = { type: "Placed", data: { n: 1 } }

/** How the effects ended: how many went well, and the errors of the others. */
const outcomes = <A, E, R>(effects: ReadonlyArray<Effect.Effect<A, E, R>>) =>
  Effect.map(Effect.all(effects.map(Effect.exit), { concurrency: "unbounded" }), (exits) => ({
    succeeded: exits.filter(Exit.isSuccess).length,
    errors: [...new Set(exits.flatMap((exit) => (Exit.isFailure(exit) ? [Cause.pretty(exit.cause)] : [])))]
  }))

describeOwnPg("load on PostgreSQL", () => {
  it("2,000 programs on three default pools, where the server allows 30 connections and another has 10", async () => {
    const server = await startPostgres({ maxConnections: 30 })
    onTestFinished(server.stop)
    const url = Redacted.make(server.url)
    let most = 0
    let watching = true
    await Effect.gen(function* () {
      yield* held(server.url, 10)
      const stores = yield* Layer.build(
        Layer.mergeAll(
          EventStorePg.layer({ url, pool: patient }),
          CommandStorePg.layer({ url, pool: patient }),
          SnapshotStorePg.layer({ url, pool: patient })
        )
      )
      const watcher = yield* Effect.forkScoped(
        Effect.promise(async () => {
          // One connection for all looks: the server may be full.
          await withClient(server.url, async (client) => {
            while (watching) {
              const { rows } = await client.query(
                "select count(*)::int as n from pg_stat_activity where application_name = 'effect-stores'"
              )
              most = Math.max(most, rows[0].n)
            }
          })
        })
      )
      const program = (n: number) =>
        Effect.gen(function* () {
          const events = yield* EventStore.EventStore
          const commands = yield* CommandStore.CommandStore
          const snapshots = yield* SnapshotStore.SnapshotStore
          const { tenantId, domain } = streamOf(n)
          yield* commands.create({ id: crypto.randomUUID(), tenantId, domain, type: "Place", data: n })
          yield* events.append(streamOf(n), [event], { expected: "noStream" })
          const state = { version: 1, lastEventMark: crypto.randomUUID(), schemaVersion: "1", state: n }
          yield* snapshots.save(streamOf(n), state)
        })
      const found = yield* outcomes(numbers(programs).map(program)).pipe(Effect.provide(stores))
      watching = false
      yield* Fiber.join(watcher)
      expect(found).toEqual({ succeeded: programs, errors: [] })
      expect(most).toBeLessThanOrEqual(30 - 10 - 1)
      expect(most).toBeGreaterThan(5)
    }).pipe(Effect.scoped, Effect.runPromise)
  })

  it("who waits too long for a server that is full gets PoolTimeout, and the others are served in their order", async () => {
    const server = await startPostgres({ maxConnections: 10 })
    onTestFinished(server.stop)
    await Effect.gen(function* () {
      const opened = (acquireTimeout: Duration.DurationInput) =>
        Effect.gen(function* () {
          const pool = { acquireTimeout, maxOpenConns: 5, connMaxIdleTime: "50 millis" } as const
          const layer = PgDatabase.layer({ url: Redacted.make(server.url), pool })
          const { sql, state } = yield* Effect.provide(PgDatabase.PgDatabase, yield* Layer.build(layer))
          yield* eventually(state, ({ open }) => open === 0)
          return { sql, state }
        })
      const impatient = yield* opened("2 seconds")
      const { sql, state } = yield* opened("10 minutes")
      // All that the server has, but for what is asked for them meanwhile.
      const others = yield* held(server.url, 10)
      const late = yield* Effect.flip(impatient.sql`select 1`)
      expect(late.cause).toMatchObject({ _tag: "PoolTimeout", waitedMs: 2_000 })
      const served: Array<number> = []
      const waiting: Array<Fiber.RuntimeFiber<unknown, unknown>> = []
      for (const n of numbers(50)) {
        waiting.push(yield* Effect.fork(Effect.tap(sql`select 1`, () => Effect.sync(() => served.push(n)))))
        yield* eventually(state, (state) => state.waiting === n + 1)
      }
      yield* Effect.promise(() => others[0]?.end() ?? Promise.resolve())
      yield* Fiber.joinAll(waiting)
      expect(served).toEqual(numbers(50))
    }).pipe(Effect.scoped, Effect.runPromise)
  })

  /** Programs that each append one event, again and again until it is there; resolves when all have. */
  const persistent = (appended: Ref.Ref<number>) =>
    Effect.gen(function* () {
      const store = yield* EventStore.EventStore
      yield* Effect.forEach(
        numbers(programs),
        (n) =>
          store.append(streamOf(n), [{ ...event, id: crypto.randomUUID() }], { expected: "noStream" }).pipe(
            Effect.retry({
              while: (error) => ("retryable" in error && error.retryable) || error._tag === "CommitOutcomeUnknown",
              schedule: Schedule.jittered(Schedule.spaced("200 millis"))
            }),
            Effect.zipRight(Ref.update(appended, (count) => count + 1))
          ),
        { concurrency: "unbounded", discard: true }
      )
      return yield* store.count({ tenantId: "load" })
    })

  /** The outage's end, and how long after it the first program went on. */
  const recovery = (begin: Effect.Effect<void>, end: Effect.Effect<void>, url: string) =>
    Effect.gen(function* () {
      const appended = yield* Ref.make(0)
      const layer = EventStorePg.layer({ url: Redacted.make(url), pool: patient })
      const context = yield* Layer.build(layer)
      yield* begin
      const all = yield* Effect.fork(Effect.provide(persistent(appended), context))
      yield* Effect.sleep(outage)
      const before = yield* Ref.get(appended)
      yield* end
      const [passed] = yield* Effect.timed(eventually(Ref.get(appended), (count) => count > before))
      expect(before).toBe(0)
      console.log(`good again ${Math.round(Duration.toMillis(passed))} ms after the outage`)
      // No measure of speed: what is asserted is that nobody sleeps on after the outage.
      expect(Duration.toMillis(passed)).toBeLessThan(isFull ? 2_000 : 10_000)
      expect(yield* Fiber.join(all)).toBe(programs)
    }).pipe(Effect.scoped, Effect.runPromise)

  it(`after ${outage} without the server, with 2,000 who wait, it is good again at once`, async () => {
    const server = await startPostgres({ maxConnections: 60 })
    onTestFinished(server.stop)
    await recovery(Effect.promise(server.kill), Effect.promise(server.start), server.url)
  })

  it(`after ${outage} in which nothing comes back, with 2,000 who wait, it is good again at once`, async () => {
    const server = await startPostgres({ maxConnections: 60 })
    onTestFinished(server.stop)
    const proxy = await startProxy(server.port)
    onTestFinished(proxy.stop)
    const url = new URL(server.url)
    url.port = String(proxy.port)
    await recovery(Effect.sync(proxy.hold), Effect.sync(proxy.release), url.href)
  })
})

describe("load on SQLite", () => {
  it("2,000 programs in 4 processes on one file: none sees that it is busy", async () => {
    const filename = path.join(temporaryDirectory(), "load.db")
    const workers = numbers(4).map((n) =>
      spawnWorker(new URL("./sqliteLoad.ts", import.meta.url), { args: [filename, String(n), String(programs / 4)] })
    )
    const printed = await Promise.all(
      workers.map(async ({ exited, lines }) => {
        const all: Array<string> = []
        for await (const line of lines) all.push(line)
        const { code, stderr } = await exited
        return { code, stderr, all }
      })
    )
    for (const worker of printed) expect(worker).toEqual({ code: 0, stderr: "", all: [`${programs / 4} succeeded`] })
    await Effect.gen(function* () {
      const store = yield* EventStore.EventStore
      expect(yield* store.count({ tenantId: "load" })).toBe(2 * programs)
    }).pipe(Effect.provide(EventStoreSqlite.layer({ filename })), Effect.runPromise)
  })
})

describeOwnRedis("load on Redis", () => {
  it("2,000 programs on two default pools: none runs out of time, and no more connections than configured", async () => {
    const server = await startRedis()
    onTestFinished(() => server.stop())
    const at = { host: "127.0.0.1", port: server.port }
    let most = 0
    let watching = true
    const watcher = (async () => {
      while (watching) most = Math.max(most, (await clients(server)).length)
    })()
    await Effect.gen(function* () {
      const options = isFull ? at : { ...at, pool: { writeTimeout: "10 minutes" } as const }
      const stores = yield* Layer.build(Layer.merge(CacheStoreRedis.layer(options), SnapshotStoreRedis.layer(options)))
      const value = "x".repeat(20_000)
      const program = (n: number) =>
        Effect.gen(function* () {
          const cache = yield* CacheStore.CacheStore
          const snapshots = yield* SnapshotStore.SnapshotStore
          yield* cache.set("load", `key-${n}`, value)
          const state = { version: 1, lastEventMark: crypto.randomUUID(), schemaVersion: "1", state: value }
          yield* snapshots.save(streamOf(n), state)
          yield* cache.get("load", `key-${n}`)
          yield* snapshots.latest(streamOf(n))
        })
      const found = yield* outcomes(numbers(programs).map(program)).pipe(Effect.provide(stores))
      expect(found).toEqual({ succeeded: programs, errors: [] })
    }).pipe(Effect.scoped, Effect.runPromise)
    watching = false
    await watcher
    expect(most).toBeLessThanOrEqual(40)
  })
})
