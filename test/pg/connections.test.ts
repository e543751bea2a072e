/**
 * What becomes of connections that are lost, spoilt, cancelled or handed over in a bad moment, and of who waits for
 * them.
 */
import dns from "node:dns"
import { inspect } from "node:util"
import { assert, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Layer, Redacted, Scope } from "effect"
import { EventStore } from "effect-stores"
import { EventStorePg, PgDatabase } from "effect-stores/pg"
import { beforeAll, onTestFinished, vi } from "vitest"
import { storeAccess } from "../../src/pg/database/access.js"
import { type AcquireFailure, ConnectionPool } from "../../src/sql/ConnectionPool.js"
import { describePg, freshDatabase } from "../support/backends.js"
import { eventually } from "../support/eventually.js"

type Environment = EventStore.EventStore | PgDatabase.PgDatabase

describePg("connections to PostgreSQL", () => {
  let url: string
  beforeAll(async () => {
    url = await freshDatabase()
  })

  const open = (options: Partial<EventStorePg.Options> = {}) =>
    Layer.suspend(() => EventStorePg.layer({ url: Redacted.make(url), pool: { maxOpenConns: 1 }, ...options }))

  const test = <A, E>(
    title: string,
    self: Effect.Effect<A, E, Environment>,
    options: Partial<EventStorePg.Options> = {}
  ) => it.live(title, () => Effect.provide(self, open(options)))

  const newStream = () => ({ tenantId: "t", domain: "d", aggregateId: crypto.randomUUID() })
  const event = { type: "Happened", data: {} }
  const pid = Effect.flatMap(PgDatabase.PgDatabase, ({ sql }) =>
    Effect.map(sql`select pg_backend_pid() as pid`, ([row]) => row?.pid)
  )
  const state = Effect.flatMap(PgDatabase.PgDatabase, (database) => database.state)
  test(
    "one that was asked to cancel is not used again, so that a late cancel hits no bystander",
    Effect.gen(function* () {
      const { sql } = yield* PgDatabase.PgDatabase
      const before = yield* pid
      const fiber = yield* Effect.fork(sql`select pg_sleep(30)`)
      yield* eventually(state, ({ idle }) => idle === 0)
      yield* Fiber.interrupt(fiber)
      assert.notStrictEqual(yield* pid, before)
    })
  )

  for (const spoil of ["discard all", "deallocate all"]) {
    test(
      `one whose prepared statements are gone (${spoil}) fails the next use as retryable, and is replaced`,
      Effect.gen(function* () {
        const store = yield* EventStore.EventStore
        const { sql } = yield* PgDatabase.PgDatabase
        const stream = newStream()
        const uses: ReadonlyArray<Effect.Effect<unknown, EventStore.AppendError>> = [
          store.append(stream, [event], { expected: "any" }),
          store.version(stream)
        ]
        for (const use of uses) {
          yield* use
          const before = yield* store.version(stream)
          yield* sql.unsafe(spoil)
          assert.deepInclude(yield* Effect.flip(use), { _tag: "StoreUnavailable", retryable: true })
          assert.strictEqual(yield* store.version(stream), before)
          yield* use
        }
      })
    )
  }

  it.live("a host name that was found once and is not found now is an outage, not a mistake", () =>
    Effect.gen(function* () {
      // The machine's name service, as it looks from a network that comes and goes.
      const lookup = dns.lookup
      yield* Effect.addFinalizer(() => Effect.sync(() => Object.assign(dns, { lookup })))
      const name = "database.invalid"
      const server = new URL(url)
      const named = new URL(url)
      named.hostname = name
      const open = Layer.suspend(() =>
        EventStorePg.layer({ url: Redacted.make(named.href), pool: { maxOpenConns: 1 } })
      )
      const answer = (found: boolean) =>
        Object.assign(dns, {
          lookup: (host: string, options: dns.LookupAllOptions, done: (...answer: Array<unknown>) => void) =>
            host !== name
              ? lookup(host, options, done)
              : found
                ? lookup(server.hostname, options, done)
                : done(Object.assign(new Error(`getaddrinfo ENOTFOUND ${name}`), { code: "ENOTFOUND" }))
        })
      answer(false)
      const mistake = yield* Effect.flip(Effect.scoped(Layer.build(open)))
      assert.strictEqual(mistake._tag, "StoreError")

      answer(true)
      const database = yield* Effect.provide(PgDatabase.PgDatabase, yield* Layer.build(open))
      answer(false)
      yield* Effect.flip(database.sql`select pg_terminate_backend(pg_backend_pid())`)
      yield* eventually(database.state, ({ open }) => open === 0)
      const query = { text: "select 1", operation: "asking", kind: "read", onResult: () => 1 } as const
      assert.deepInclude(yield* Effect.flip(database[storeAccess].run(query)), {
        _tag: "StoreUnavailable",
        retryable: true
      })
      answer(true)
      assert.strictEqual(yield* database[storeAccess].run(query), 1)
    }).pipe(Effect.scoped)
  )

  it.live("printing the database tells no password", () =>
    Effect.gen(function* () {
      const secret = "s3cret-of-nobody"
      const address = new URL(url)
      // Servers of tests trust whoever comes, so any password will do.
      if (address.password === "") address.password = secret
      const password = decodeURIComponent(address.password)
      const layer = open({ url: Redacted.make(address.href) })
      const context = yield* Layer.build(layer)
      const database = yield* Effect.provide(PgDatabase.PgDatabase, context)
      for (const each of [database, context]) {
        const printed = [
          inspect(each, { depth: Number.POSITIVE_INFINITY, showHidden: true, getters: true }),
          JSON.stringify(each),
          String(each)
        ]
        for (const text of printed) assert.notInclude(text, password)
      }
    }).pipe(Effect.scoped)
  )

  it.live("closing the database fails whoever waits for a connection, and does not open more for them", () =>
    Effect.gen(function* () {
      const scope = yield* Scope.make()
      const database = yield* Effect.provide(PgDatabase.PgDatabase, yield* Layer.buildWithScope(open(), scope))
      const query = { text: "select 1", operation: "asking", kind: "read", onResult: () => 1 } as const
      const release = yield* Effect.makeLatch()
      const holder = yield* Effect.fork(database.transaction(release.await))
      yield* eventually(database.state, ({ idle, open }) => open === 1 && idle === 0)
      const waiting = yield* Effect.forEach([1, 2, 3], () => Effect.fork(Effect.flip(database[storeAccess].run(query))))
      yield* eventually(database.state, (state) => state.waiting === 3)
      const closing = yield* Effect.fork(Scope.close(scope, Exit.void))
      // While the connection they wait for is in use still.
      for (const failure of yield* Fiber.joinAll(waiting)) {
        assert.deepInclude(failure, { _tag: "StoreUnavailable", retryable: false })
      }
      yield* release.open
      yield* Fiber.join(closing)
      yield* Fiber.await(holder)
    })
  )

  test(
    "one that is handed to a fiber in the moment of its interruption comes back",
    Effect.gen(function* () {
      const { sql } = yield* PgDatabase.PgDatabase
      for (let n = 0; n < 20; n++) {
        const scope = yield* Scope.make()
        yield* Scope.extend(sql.reserve, scope)
        const waiter = yield* Effect.fork(Effect.scoped(sql.reserve))
        yield* eventually(state, ({ waiting }) => waiting === 1)
        const me = yield* Effect.fiberId
        // The last that closing does is to hand the connection over; the interrupt comes before the waiter runs.
        yield* Scope.close(scope, Exit.void)
        waiter.unsafeInterruptAsFork(me)
        yield* Fiber.await(waiter)
        assert.deepStrictEqual(yield* state, { open: 1, idle: 1, waiting: 0 })
      }
    })
  )

  /** Counts who waits in vain, in any pool. */
  const poolTimeouts = Effect.sync(() => {
    let count = 0
    const { take } = ConnectionPool.prototype
    const spy = vi.spyOn(ConnectionPool.prototype, "take").mockImplementation(function (
      this: ConnectionPool<object>,
      waiter
    ) {
      const { fail } = waiter
      const counted = (error: AcquireFailure) => {
        if (error._tag === "PoolTimeout") count++
        fail.call(waiter, error)
      }
      take.call(this, Object.assign(waiter, { fail: counted }))
    })
    onTestFinished(() => spy.mockRestore())
    return () => count
  })

  test(
    "COMMIT waits once for an inner transaction that outlives its parent, and then everything is rolled back",
    Effect.gen(function* () {
      const store = yield* EventStore.EventStore
      const { sql, transaction } = yield* PgDatabase.PgDatabase
      const stream = newStream()
      const held = yield* Effect.makeLatch()
      const release = yield* Effect.makeLatch()
      let daemon: Fiber.Fiber<Exit.Exit<unknown, unknown>> | undefined
      const timeouts = yield* poolTimeouts
      const failure = yield* Effect.flip(
        transaction(
          Effect.gen(function* () {
            yield* store.append(stream, [event], { expected: "any" })
            const inner = transaction(Effect.zipRight(held.open, Effect.zipRight(release.await, sql`select 1`)))
            daemon = yield* Effect.forkDaemon(Effect.exit(inner))
            yield* held.await
          })
        )
      )
      assert.strictEqual(failure._tag, "PoolTimeout")
      assert.strictEqual(timeouts(), 1)
      assert.strictEqual(yield* store.version(stream), 0)
      yield* release.open
      if (daemon !== undefined) assert.isTrue(Exit.isFailure(yield* Fiber.join(daemon)))
      yield* store.append(stream, [event], { expected: "noStream" })
    }),
    { pool: { maxOpenConns: 2, acquireTimeout: "1 second" } }
  )
})
