/**
 * Appends whose stream, or whose event id, is held by somebody's open transaction: they wait where they disturb nobody,
 * and nobody who gives up waits with them. Locks are waited for without end here, so what would wait is seen to hang.
 */
import { assert, it } from "@effect/vitest"
import { Duration, Effect, Either, Exit, Fiber, Option, Redacted } from "effect"
import { EventStore } from "effect-stores"
import { EventStorePg, PgDatabase } from "effect-stores/pg"
import { beforeAll } from "vitest"
import { describePg, freshDatabase } from "../support/backends.js"
import { withClient } from "../support/databases.js"
import { eventually } from "../support/eventually.js"

describePg("locked streams on PostgreSQL", () => {
  let url: string
  beforeAll(async () => {
    url = await freshDatabase()
  })

  const test = <A, E>(
    title: string,
    self: Effect.Effect<A, E, EventStore.EventStore | PgDatabase.PgDatabase>,
    pool: EventStorePg.Options["pool"] = {}
  ) =>
    it.live(title, () =>
      Effect.provide(self, EventStorePg.layer({ url: Redacted.make(url), lockTimeout: Duration.infinity, pool }))
    )

  const newStream = () => ({ tenantId: "t", domain: "d", aggregateId: crypto.randomUUID() })
  const event = () => ({ id: crypto.randomUUID(), type: "Happened", data: {} })

  /** Statements of this database that wait for somebody's lock. */
  const lockWaits = Effect.promise(() =>
    withClient(url, async (client) => {
      const { rowCount } = await client.query(
        "select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
      )
      return rowCount ?? 0
    })
  )
  /** An open transaction of another process that has appended the event to the stream. */
  const held = (stream: EventStore.StreamId, held = event()) =>
    Effect.gen(function* () {
      const opened = yield* Effect.makeLatch()
      const end = yield* Effect.makeLatch()
      const append = Effect.gen(function* () {
        const store = yield* EventStore.EventStore
        const { transaction } = yield* PgDatabase.PgDatabase
        const body = store
          .append(stream, [held], { expected: "any" })
          .pipe(
            Effect.zipRight(opened.open),
            Effect.zipRight(end.await),
            Effect.zipRight(Effect.fail("rolled back" as const))
          )
        yield* Effect.exit(transaction(body))
      })
      const layer = EventStorePg.layer({ url: Redacted.make(url), pool: { maxOpenConns: 1 } })
      const holder = yield* Effect.fork(Effect.provide(append, layer))
      yield* opened.await
      return { rollBack: Effect.zipRight(end.open, Fiber.join(holder)) }
    })

  test(
    "an interrupted append stops waiting for its stream, on the server and in line",
    Effect.gen(function* () {
      const store = yield* EventStore.EventStore
      const stream = newStream()
      const { rollBack } = yield* held(stream)
      const fibers = yield* Effect.forEach([1, 2, 3], () =>
        Effect.fork(store.append(stream, [event()], { expected: "any" }))
      )
      yield* eventually(lockWaits, (waits) => waits > 0)
      // The last first: one waits on the server, and the others behind it.
      for (const fiber of fibers.reverse()) assert.isTrue(Exit.isInterrupted(yield* Fiber.interrupt(fiber)))
      assert.strictEqual(yield* lockWaits, 0)
      yield* rollBack
      assert.strictEqual(yield* store.version(stream), 0)
      yield* store.append(stream, [event()], { expected: "noStream" })
    }),
    { acquireTimeout: "1 minute" }
  )

  test(
    "an interrupted append stops waiting for an event id that somebody else has inserted",
    Effect.gen(function* () {
      const store = yield* EventStore.EventStore
      const [stream, contested] = [newStream(), event()]
      const { rollBack } = yield* held(newStream(), contested)
      const fiber = yield* Effect.fork(store.append(stream, [contested], { expected: "any" }))
      yield* eventually(lockWaits, (waits) => waits > 0)
      assert.isTrue(Exit.isInterrupted(yield* Fiber.interrupt(fiber)))
      yield* rollBack
      assert.strictEqual(yield* store.version(stream), 0)
    })
  )

  test(
    "an interrupted append leaves the line for a connection, and the appends behind it are made",
    Effect.gen(function* () {
      const store = yield* EventStore.EventStore
      const database = yield* PgDatabase.PgDatabase
      const busy = yield* Effect.fork(database.sql`select pg_sleep(30)`)
      yield* eventually(database.state, ({ idle, open }) => open === 1 && idle === 0)
      const streams = Array.from({ length: 4 }, newStream)
      const fibers = yield* Effect.forEach(streams, (stream) =>
        Effect.fork(store.append(stream, [event()], { expected: "any" }))
      )
      yield* eventually(database.state, ({ waiting }) => waiting > 0)
      const [first, ...others] = fibers
      if (first !== undefined) assert.isTrue(Exit.isInterrupted(yield* Fiber.interrupt(first)))
      yield* Fiber.interrupt(busy)
      yield* Fiber.joinAll(others)
      const versions = yield* Effect.forEach(streams, store.version)
      assert.deepStrictEqual(versions, [0, 1, 1, 1])
    }),
    { maxOpenConns: 1 }
  )

  test(
    "a locked stream takes one connection however many append to it, and many of them half of the pool",
    Effect.gen(function* () {
      const store = yield* EventStore.EventStore
      const { sql } = yield* PgDatabase.PgDatabase
      const [one, ...more] = yield* Effect.forEach(Array.from({ length: 6 }, newStream), (stream) =>
        Effect.map(held(stream), (held) => ({ ...held, stream }))
      )
      if (one === undefined) return
      const appendTo = (stream: EventStore.StreamId, times: number) =>
        Effect.forEach(Array.from({ length: times }, event), (each) =>
          Effect.fork(store.append(stream, [each], { expected: "any" }))
        )
      const others = Effect.all([
        sql`select 1`,
        store.version(one.stream),
        store.append(newStream(), [event()], { expected: "noStream" })
      ])

      const waiting = yield* appendTo(one.stream, 30)
      yield* eventually(lockWaits, (waits) => waits > 0)
      yield* others
      assert.strictEqual(yield* lockWaits, 1)

      const elsewhere = yield* Effect.forEach(more, ({ stream }) => appendTo(stream, 3))
      yield* eventually(lockWaits, (waits) => waits > 1)
      yield* others
      assert.strictEqual(yield* lockWaits, 2)

      yield* Effect.forEach([one, ...more], ({ rollBack }) => rollBack)
      const appended = yield* Fiber.joinAll(waiting)
      const versions = appended.map(({ version }) => version)
      assert.deepStrictEqual(new Set(versions), new Set(versions.map((_, i) => i + 1)))
      // In the order they were made, but for the first two, which are sent at once and may be answered in either order.
      const queued = versions.slice(2)
      assert.deepStrictEqual(
        queued,
        [...queued].sort((a, b) => a - b)
      )
      yield* Effect.forEach(elsewhere, Fiber.joinAll)
    }),
    { maxOpenConns: 4, maxIdleConns: 4 }
  )

  test(
    "who waits for a locked stream for longer than acquireTimeout fails typed, and so does one more than may wait",
    Effect.gen(function* () {
      const store = yield* EventStore.EventStore
      const stream = newStream()
      const { rollBack } = yield* held(stream)
      const first = yield* Effect.fork(store.append(stream, [event()], { expected: "any" }))
      yield* eventually(lockWaits, (waits) => waits === 1)
      const failures = yield* Effect.all(
        Array.from({ length: 5 }, () => Effect.flip(store.append(stream, [event()], { expected: "any" }))),
        { concurrency: "unbounded" }
      )
      for (const failure of failures) assert.strictEqual(failure._tag, "PoolTimeout")
      yield* rollBack
      assert.strictEqual((yield* Fiber.join(first)).version, 1)
    }),
    { acquireTimeout: "300 millis", maxWaiting: 4 }
  )

  test(
    "an event id in somebody's open transaction delays the append that has it, and no neighbour",
    Effect.gen(function* () {
      const store = yield* EventStore.EventStore
      const contested = event()
      const { rollBack } = yield* held(newStream(), contested)
      const isContested = (n: number) => n % 10 === 9
      const fibers = yield* Effect.forEach(
        Array.from({ length: 40 }, (_, n) => n),
        (n) =>
          Effect.fork(
            Effect.either(store.append(newStream(), [isContested(n) ? contested : event()], { expected: "any" }))
          )
      )
      const waiting = fibers.filter((_, n) => isContested(n))
      // Done while the id is held, or this would never come back.
      const appended = yield* Fiber.joinAll(fibers.filter((_, n) => !isContested(n)))
      assert.isTrue(appended.every(Either.isRight))
      for (const fiber of waiting) assert.strictEqual((yield* Fiber.poll(fiber))._tag, "None")
      yield* rollBack
      const tags = (yield* Fiber.joinAll(waiting)).map((each) => (Either.isLeft(each) ? each.left._tag : "Appended"))
      assert.deepStrictEqual(tags.sort(), ["Appended", "DuplicateEvent", "DuplicateEvent", "DuplicateEvent"])
    })
  )

  test(
    "deleting a stream waits for an append to it that is under way, so that no half of a stream is left",
    Effect.gen(function* () {
      const store = yield* EventStore.EventStore
      const stream = newStream()
      yield* store.append(stream, [event()], { expected: "noStream" })
      const { rollBack } = yield* held(stream)
      const deleting = yield* Effect.fork(store.maintenance.deleteStream(stream))
      yield* eventually(lockWaits, (waits) => waits === 1)
      yield* rollBack
      yield* Fiber.join(deleting)
      assert.strictEqual(yield* store.version(stream), 0)
    })
  )

  test(
    "an append that is interrupted before it has found its stream locked is not sent again to wait for it",
    Effect.gen(function* () {
      const store = yield* EventStore.EventStore
      const stream = newStream()
      const { rollBack } = yield* held(stream)
      // So that a connection is there, and the append is on its way to the server in the moment it is made.
      yield* store.version(stream)
      const { state } = yield* PgDatabase.PgDatabase
      const fiber = yield* Effect.fork(store.append(stream, [event()], { expected: "any" }))
      yield* Effect.repeat(Effect.zipRight(Effect.yieldNow(), state), { until: ({ idle }) => idle === 0 })
      // Ends while the lock is held, or this would never come back.
      const exit = yield* Fiber.interrupt(fiber).pipe(
        Effect.disconnect,
        Effect.timeoutFail({ duration: "90 seconds", onTimeout: () => new Error("it waits for the lock") })
      )
      assert.isTrue(Exit.isInterrupted(exit))
      assert.strictEqual(yield* lockWaits, 0)
      yield* rollBack
      assert.strictEqual(yield* store.version(stream), 0)
    }),
    { maxOpenConns: 1 }
  )

  test(
    "one more than may wait for locked streams fails at once, and the others go on waiting",
    Effect.gen(function* () {
      const store = yield* EventStore.EventStore
      const stream = newStream()
      const { rollBack } = yield* held(stream)
      const first = yield* Effect.fork(store.append(stream, [event()], { expected: "any" }))
      yield* eventually(lockWaits, (waits) => waits === 1)
      const fibers = yield* Effect.forEach([1, 2, 3], () =>
        Effect.fork(Effect.either(store.append(stream, [event()], { expected: "any" })))
      )
      const answers = yield* eventually(Effect.forEach(fibers, Fiber.poll), (polled) => polled.some(Option.isSome))
      const answered = yield* Effect.forEach(answers.filter(Option.isSome), ({ value }) => value)
      assert.deepStrictEqual(
        answered.map((answer) => (Either.isLeft(answer) ? answer.left._tag : "Appended")),
        ["PoolTimeout"]
      )
      yield* rollBack
      yield* Fiber.join(first)
      const all = yield* Fiber.joinAll(fibers)
      assert.lengthOf(all.filter(Either.isRight), 2)
    }),
    { acquireTimeout: "1 minute", maxWaiting: 2 }
  )
})
