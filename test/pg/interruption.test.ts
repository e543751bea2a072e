/**
 * Interrupting operations on PostgreSQL at any moment leaves nothing behind: no connection, no transaction, no lock,
 * and no bystander is hit.
 */
import { assert, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Random, Redacted, Stream } from "effect"
import { EventStore } from "effect-stores"
import { EventStorePg, PgDatabase } from "effect-stores/pg"
import { beforeAll } from "vitest"
import { describePg, freshDatabase } from "../support/backends.js"
import { withClient } from "../support/databases.js"

const interrupts = 1_000

describePg("interruption on PostgreSQL", () => {
  let url: string
  beforeAll(async () => {
    url = await freshDatabase()
  })

  const applicationName = "interrupted"
  const layer = (options: Partial<EventStorePg.Options>) =>
    EventStorePg.layer({ url: Redacted.make(url), applicationName, ...options })

  const stream = (n: number) => ({ tenantId: "t", domain: "d", aggregateId: `hot-${n}` })
  const event = { type: "Happened", data: { text: "x".repeat(200) } }

  /** What the server still holds for the pool's connections, apart from being connected. */
  const leftovers = Effect.promise(() =>
    withClient(url, (client) =>
      client.query<{ busy: string; locks: string; connections: string }>(
        `select
           (select count(*) from pg_stat_activity where application_name = $1 and state <> 'idle') as busy,
           (select count(*) from pg_locks l join pg_stat_activity a using (pid) where a.application_name = $1) as locks,
           (select count(*) from pg_stat_activity where application_name = $1) as connections`,
        [applicationName]
      )
    )
  ).pipe(Effect.map((result) => result.rows[0] as { busy: string; locks: string; connections: string }))

  const settled = Effect.gen(function* () {
    // For a report; no measure of speed.
    const deadline = Date.now() + 60_000
    for (;;) {
      const found = yield* leftovers
      if (found.busy === "0" && found.locks === "0") return found
      if (Date.now() > deadline) assert.fail(`left behind: ${JSON.stringify(found)}`)
      yield* Effect.sleep("20 millis")
    }
  })

  it.live(
    `${interrupts} operations interrupted at random moments leave no connection, transaction or lock, and hit no bystander`,
    () =>
      Effect.gen(function* () {
        const store = yield* EventStore.EventStore
        const database = yield* PgDatabase.PgDatabase
        const max = 5

        // Bystanders use the same pool all the while; none of their statements may be cancelled.
        let bystanders = 0
        const bystander = (n: number) =>
          Effect.forever(
            Effect.tap(store.append({ ...stream(n), domain: "bystander" }, [event], { expected: "any" }), () =>
              Effect.sync(() => bystanders++)
            )
          )
        const watching = yield* Effect.forEach([0, 1], (n) => Effect.fork(bystander(n)))

        const operations: ReadonlyArray<(n: number) => Effect.Effect<unknown, unknown>> = [
          (n) => store.append(stream(n % 3), [event], { expected: "any" }),
          (n) => store.appendAll([{ stream: stream(n % 3), events: [event, event], expected: "any" }]),
          (n) => Stream.runDrain(store.read(stream(n % 3))),
          () => Stream.runDrain(store.feed({ limit: 500 })),
          () => Stream.runDrain(store.subscribe()),
          () => store.count(),
          () => database.sql`select pg_sleep(0.05)`,
          (n) =>
            database.transaction(
              Effect.gen(function* () {
                yield* store.append(stream(n % 3), [event], { expected: "any" })
                yield* Effect.sleep("2 millis")
                yield* database.transaction(store.append(stream(n % 3), [event], { expected: "any" }))
                yield* database.sql`select pg_sleep(0.005)`
              })
            )
        ]
        let interrupted = 0
        yield* Effect.forEach(
          Array.from({ length: interrupts }, (_, n) => n),
          (n) =>
            Effect.gen(function* () {
              const fiber = yield* Effect.fork(
                (operations[n % operations.length] as (n: number) => Effect.Effect<unknown>)(n)
              )
              const delay = yield* Random.nextIntBetween(0, 30)
              yield* delay === 0 ? Effect.yieldNow() : Effect.sleep(delay)
              if (Exit.isInterrupted(yield* Fiber.interrupt(fiber))) interrupted++
            }),
          { concurrency: 12 }
        )
        for (const fiber of watching) {
          const exit = yield* Fiber.interrupt(fiber)
          assert.isTrue(Exit.isInterrupted(exit), `a bystander was hit: ${exit}`)
        }
        const { busy, connections, locks } = yield* settled
        assert.isAtMost(Number(connections), max)
        // A notification of the last appends may still be under way; what leaked would stay.
        const deadline = Date.now() + 60_000
        let state = yield* database.state
        while (state.open !== state.idle && Date.now() < deadline) {
          yield* Effect.sleep("20 millis")
          state = yield* database.state
        }
        assert.deepStrictEqual({ waiting: state.waiting, inUse: state.open - state.idle }, { waiting: 0, inUse: 0 })
        console.log("interruption on PostgreSQL:", { interrupts, interrupted, bystanders, busy, locks, connections })
        assert.isAbove(interrupted, interrupts / 4)
        assert.isAbove(bystanders, 0)

        // What is there is whole: versions without gaps, and the pool serves on.
        for (const n of [0, 1, 2]) {
          const versions = yield* Stream.runFold(store.read(stream(n)), 0, (last, { version }) => {
            assert.strictEqual(version, last + 1)
            return version
          })
          assert.strictEqual(versions, yield* store.version(stream(n)))
        }
      }).pipe(Effect.provide(layer({ pool: { maxOpenConns: 5, maxIdleConns: 5 } })))
  )

  it.live("interrupting who waits for a connection returns at once, and whoever comes next is served", () =>
    Effect.gen(function* () {
      const database = yield* PgDatabase.PgDatabase
      const release = yield* Effect.makeLatch()
      const held = yield* Effect.makeLatch()
      const holder = yield* Effect.fork(database.transaction(Effect.zipRight(held.open, release.await)))
      yield* held.await
      const waiters: ReadonlyArray<Effect.Effect<unknown, unknown>> = [
        database.sql`select 1`,
        database.transaction(Effect.void),
        Effect.scoped(database.sql.reserve)
      ]
      for (const waiter of waiters) {
        const fiber = yield* Effect.fork(waiter)
        yield* Effect.sleep("10 millis")
        yield* Fiber.interrupt(fiber)
      }
      // The connection is still held: nobody has waited for it.
      yield* release.open
      yield* Fiber.join(holder)
      assert.lengthOf(yield* database.sql`select 1`, 1)
      assert.deepStrictEqual(yield* database.state, { open: 1, idle: 1, waiting: 0 })
    }).pipe(Effect.provide(layer({ pool: { maxOpenConns: 1 } })))
  )

  it.live("interrupting a long statement has the server cancel it, and returns when it has ended", () =>
    Effect.gen(function* () {
      const database = yield* PgDatabase.PgDatabase
      const fiber = yield* Effect.fork(database.sql`select pg_sleep(600)`)
      yield* Effect.sleep("50 millis")
      // By itself it would last for longer than the test may.
      yield* Fiber.interrupt(fiber)
      yield* settled
      assert.lengthOf(yield* database.sql`select 1`, 1)
    }).pipe(Effect.provide(layer({ pool: { maxOpenConns: 1 } })))
  )
})
