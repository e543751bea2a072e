/**
 * The pool of connections that the databases share: what waits in it is served or failed, each once, however many wait,
 * and interrupts lose no connection. Its connections here are plain objects, where it does not matter what they are.
 */
import * as fs from "node:fs"
import * as path from "node:path"
import { Deferred, Effect, Exit, Fiber } from "effect"
import { Pool } from "effect-stores"
import { describe, expect, it, onTestFinished, vi } from "vitest"
import { StoreUnavailable } from "../src/Errors.js"
import { PoolMeter } from "../src/internal/telemetry.js"
import { type AcquireFailure, ConnectionPool, OpenFailure, type Waiter } from "../src/sql/ConnectionPool.js"
import { freshFile, placed, streamOf, withStore } from "./sqlite/support.js"
import { eventually } from "./support/eventually.js"

interface Connection {
  readonly number: number
}

type Opened = Connection | OpenFailure

const poolOf = (limits: Partial<Pool.Limits>, open: (done: (result: Opened) => void) => void) =>
  new ConnectionPool<Connection>(
    "test",
    { ...Pool.defaults.eventStore.sqlite, maxOpenConns: 1, maxIdleConns: 1, maxWaiting: 100_000, ...limits },
    { open, close: () => {}, usable: () => true }
  )

const opening = (done: (result: Opened) => void) => done({ number: 1 })

const refused = () =>
  new OpenFailure(new StoreUnavailable({ operation: "opening", retryable: true, cause: new Error("refused") }), false)

/** Puts waiters in line; the promise gives the errors of all of them, and never resolves when one is served. */
const failuresOf = (pool: ConnectionPool<Connection>, count: number): Promise<ReadonlyArray<AcquireFailure>> =>
  new Promise((resolve) => {
    const errors: Array<AcquireFailure> = []
    const waiter = (): Waiter<Connection> => ({
      take: () => {},
      fail: (error) => {
        errors.push(error)
        if (errors.length === count) resolve(errors)
      }
    })
    for (let i = 0; i < count; i++) pool.take(waiter())
  })

const tags = (errors: ReadonlyArray<AcquireFailure>) => [...new Set(errors.map(({ _tag }) => _tag))]

/** The one connection of a pool that opens at once, in use. */
const held = (pool: ConnectionPool<Connection>): Connection => {
  let connection: Connection | undefined
  pool.take({
    take: (own) => {
      connection = own
    },
    fail: () => {}
  })
  if (connection === undefined) throw new Error("no connection")
  return connection
}

describe("thousands who wait", () => {
  const count = 10_000

  it("and whose deadlines pass together all get their PoolTimeout", async () => {
    const pool = poolOf({ acquireTimeoutMs: 1 }, opening)
    held(pool)
    expect(tags(await failuresOf(pool, count))).toEqual(["PoolTimeout"])
    expect(pool.state).toEqual({ open: 1, idle: 0, waiting: 0 })
  })

  it("all get the error when connections are refused at once", async () => {
    const pending: Array<(result: Opened) => void> = []
    const pool = poolOf({}, (done) => {
      // The first is refused when all are in line.
      if (pending.length === 0) pending.push(done)
      else done(refused())
    })
    const failures = failuresOf(pool, count)
    expect(pool.state).toEqual({ open: 1, idle: 0, waiting: count })
    pending[0]?.(refused())
    expect(tags(await failures)).toEqual(["StoreUnavailable"])
    expect(pool.state).toEqual({ open: 0, idle: 0, waiting: 0 })
  })

  it("all get StoreUnavailable when the pool is shut down, and so does who comes later", async () => {
    const pool = poolOf({}, opening)
    const connection = held(pool)
    const failures = failuresOf(pool, count)
    const shutdown = Effect.runPromise(pool.shutdown)
    expect(tags(await failures)).toEqual(["StoreUnavailable"])
    expect(tags(await failuresOf(pool, 1))).toEqual(["StoreUnavailable"])
    pool.release(connection)
    await shutdown
    expect(pool.state).toEqual({ open: 0, idle: 0, waiting: 0 })
  })

  it("for the writer of a SQLite file that is lost with its directory all get a typed error", () => {
    const filename = freshFile()
    const count = 4_000
    return withStore({ filename }, (store, { sql, state, transaction }) =>
      Effect.gen(function* () {
        const append = store.append(streamOf("1"), [placed()], { expected: "any" })
        yield* append
        const [full, end] = yield* Effect.all([Deferred.make<void>(), Deferred.make<void>()])
        const holding = Effect.gen(function* () {
          // The failure of the disk makes the connection one that is not used again.
          yield* sql`PRAGMA max_page_count = 1`
          yield* Effect.flip(store.append(streamOf("1"), [placed("x".repeat(100_000))], { expected: "any" }))
          yield* Deferred.succeed(full, undefined)
          yield* Deferred.await(end)
        })
        const holder = yield* Effect.fork(Effect.exit(transaction(holding)))
        yield* Deferred.await(full)
        const waiting = yield* Effect.forEach(Array.from({ length: count }), () => Effect.fork(Effect.flip(append)))
        yield* eventually(Effect.map(state, ({ writer }) => writer.waiting === count))
        fs.rmSync(path.dirname(filename), { recursive: true })
        yield* Deferred.succeed(end, undefined)
        const errors = yield* Fiber.joinAll([...waiting])
        yield* Fiber.join(holder)
        expect(tags(errors as ReadonlyArray<AcquireFailure>)).toEqual(["StoreError"])
      })
    )
  })
})

it("connections that were opened together reach their age one after another, and none lives longer", () => {
  vi.useFakeTimers()
  onTestFinished(() => {
    vi.useRealTimers()
  })
  const connMaxLifetimeMs = 30 * 60_000
  const count = 25
  const closedAt: Array<number> = []
  const started = Date.now()
  const pool = new ConnectionPool<Connection>(
    "test",
    {
      ...Pool.defaults.eventStore.pg,
      maxOpenConns: count,
      maxIdleConns: count,
      connMaxLifetimeMs,
      connMaxIdleTimeMs: Number.POSITIVE_INFINITY
    },
    {
      open: (done) => done({ number: Math.random() }),
      close: () => closedAt.push(Date.now() - started),
      usable: () => true
    },
    new PoolMeter("test", "test")
  )
  for (const connection of Array.from({ length: count }, () => held(pool))) pool.release(connection)
  expect(pool.state).toEqual({ open: count, idle: count, waiting: 0 })
  // Without any work.
  vi.advanceTimersByTime(connMaxLifetimeMs + 2_000)
  expect(closedAt).toHaveLength(count)
  expect(Math.min(...closedAt)).toBeGreaterThanOrEqual(connMaxLifetimeMs * 0.9)
  expect(Math.max(...closedAt)).toBeLessThanOrEqual(connMaxLifetimeMs + 1_000)
  // Twenty-five seconds out of 180: that all are the same happens once in 10^50.
  expect(new Set(closedAt).size).toBeGreaterThan(1)
})

it("a connection that comes back past its age is closed, though somebody waits, who gets a new one", () => {
  vi.useFakeTimers()
  onTestFinished(() => {
    vi.useRealTimers()
  })
  let opened = 0
  const closed: Array<Connection> = []
  const pool = new ConnectionPool<Connection>(
    "test",
    { ...Pool.defaults.eventStore.pg, maxOpenConns: 1, maxIdleConns: 1, connMaxLifetimeMs: 1_000 },
    { open: (done) => done({ number: ++opened }), close: (connection) => closed.push(connection), usable: () => true },
    new PoolMeter("test", "test")
  )
  const first = held(pool)
  const served: Array<Connection> = []
  pool.take({ take: (connection) => served.push(connection), fail: (error) => expect(error).toBeUndefined() })
  vi.advanceTimersByTime(1_000)
  // In use it is left alone.
  expect([closed, served]).toEqual([[], []])
  pool.release(first)
  expect([closed, served]).toEqual([[{ number: 1 }], [{ number: 2 }]])
})

it("a connection that is there only when the pool has ended is closed", async () => {
  vi.useFakeTimers()
  onTestFinished(() => {
    vi.useRealTimers()
  })
  const opening: Array<(result: Opened) => void> = []
  const closed: Array<Connection> = []
  const pool = new ConnectionPool<Connection>(
    "test",
    { ...Pool.defaults.eventStore.pg, maxOpenConns: 1, maxIdleConns: 1 },
    { open: (done) => opening.push(done), close: (connection) => closed.push(connection), usable: () => true }
  )
  const failures = failuresOf(pool, 1)
  const shutdown = Effect.runPromise(pool.shutdown)
  expect(tags(await failures)).toEqual(["StoreUnavailable"])
  // It is not waited for for ever.
  await vi.advanceTimersByTimeAsync(60_000)
  await shutdown
  expect(closed).toEqual([])
  for (const done of opening) done({ number: 1 })
  expect(closed).toEqual([{ number: 1 }])
})

it("a server that is full is asked by one attempt at a time, and all waiters are served when it is not", async () => {
  const full = () => new OpenFailure(refused().error, true)
  let attempts = 0
  let most = 0
  let accepts = false
  const pool = poolOf({ maxOpenConns: 10, maxIdleConns: 10 }, (done) => {
    attempts++
    most = Math.max(most, attempts)
    setTimeout(() => {
      attempts--
      done(accepts ? { number: Math.random() } : full())
    }, 1)
  })
  let served = 0
  const waiter = (): Waiter<Connection> => ({ take: () => served++, fail: (error) => expect(error).toBeUndefined() })
  for (let i = 0; i < 10; i++) pool.take(waiter())
  await Effect.runPromise(eventually(Effect.sync(() => most === 10 && attempts === 0)))
  most = 0
  // Three attempts, each with its pause.
  for (let n = 0; n < 3; n++) {
    await Effect.runPromise(eventually(Effect.sync(() => attempts === 1)))
    await Effect.runPromise(eventually(Effect.sync(() => attempts === 0)))
  }
  expect(most).toBe(1)
  accepts = true
  await Effect.runPromise(eventually(Effect.sync(() => served === 10)))
  expect(pool.state).toEqual({ open: 10, idle: 0, waiting: 0 })
})

it("a fiber that is interrupted in the moment it is handed the connection gives it back", async () => {
  const pool = poolOf({}, opening)
  const connection = held(pool)
  const fiber = Effect.runFork(Effect.scoped(Effect.zipRight(pool.acquire, Effect.never)))
  await Effect.runPromise(eventually(Effect.sync(() => pool.state.waiting === 1)))
  const interrupted = Effect.sync(() => pool.release(connection)).pipe(Effect.zipRight(Fiber.interrupt(fiber)))
  expect(Exit.isInterrupted(await Effect.runPromise(interrupted))).toBe(true)
  expect(pool.state).toEqual({ open: 1, idle: 1, waiting: 0 })
})

describe("a pool whose connections have been unused", () => {
  interface Plain {
    readonly inUse: () => void
  }
  const rested = (limits: Partial<Pool.Limits>) => {
    const meter = new PoolMeter("rested", "test")
    const pool = new ConnectionPool<Plain>(
      "rested",
      { ...Pool.defaults.eventStore.sqlite, maxOpenConns: 4, maxIdleConns: 4, ...limits },
      { open: (done) => done({ inUse: () => {} }), close: () => {}, usable: () => true, restMs: 1 },
      meter
    )
    onTestFinished(() => Effect.runPromise(pool.shutdown))
    return pool
  }
  const taken = (pool: ConnectionPool<Plain>) =>
    new Promise<Plain>((resolve, reject) => pool.take({ take: resolve, fail: reject }))
  const rest = () => new Promise((resolve) => setTimeout(resolve, 5))

  it("gives each of them to who asks in the same turn, however few may wait", async () => {
    const pool = rested({ maxWaiting: 1 })
    const first = await Promise.all([taken(pool), taken(pool), taken(pool), taken(pool)])
    for (const connection of first) pool.release(connection)
    await rest()
    const again = await Promise.all([taken(pool), taken(pool), taken(pool), taken(pool)])
    expect(new Set(again)).toEqual(new Set(first))
    for (const connection of again) pool.release(connection)
  })

  it("keeps the surplus for a second", async () => {
    vi.useFakeTimers()
    onTestFinished(() => void vi.useRealTimers())
    const pool = rested({ maxIdleConns: 2 })
    const all = await Promise.all([taken(pool), taken(pool), taken(pool), taken(pool)])
    // The pool looks once a second.
    vi.advanceTimersByTime(500)
    for (const connection of all) pool.release(connection)
    vi.advanceTimersByTime(900)
    expect(pool.state.idle).toBe(4)
    vi.advanceTimersByTime(1_000)
    expect(pool.state.idle).toBe(2)
  })

  it("gives more of them than maxIdleConns to who comes again, and closes the surplus when nobody does", async () => {
    const pool = rested({ maxIdleConns: 2 })
    const all = () => Promise.all([taken(pool), taken(pool), taken(pool), taken(pool)])
    const first = await all()
    for (const connection of first) pool.release(connection)
    await rest()
    const again = await all()
    expect(new Set(again)).toEqual(new Set(first))
    for (const connection of again) pool.release(connection)
    expect(pool.state).toEqual({ open: 4, idle: 4, waiting: 0 })
    await vi.waitFor(() => expect(pool.state).toEqual({ open: 2, idle: 2, waiting: 0 }), 10_000)
    // Those that were used last.
    expect(new Set([await taken(pool), await taken(pool)])).toEqual(new Set(again.slice(2)))
  })
})
