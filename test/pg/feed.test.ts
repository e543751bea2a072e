/**
 * The proof of the feed on PostgreSQL: under concurrent writers, slow and rolled-back transactions, restarts and another
 * database's open transaction, readers that resume lose nothing, repeat nothing and reorder nothing. A naive reader in
 * the same run loses events, so the test can fail.
 */
import { assert, it } from "@effect/vitest"
import { Duration, Effect, Exit, Fiber, Layer, Random, Redacted, Scope, Stream } from "effect"
import { EventStore } from "effect-stores"
import { EventStorePg, PgDatabase } from "effect-stores/pg"
import Pg from "pg"
import { afterAll, beforeAll } from "vitest"
import { describeOwnPg } from "../support/backends.js"
import { withClient } from "../support/databases.js"
import { type PostgresServer, startPostgres } from "../support/postgres.js"

const eventsWanted = process.env.EFFECT_STORES_TEST === "full" ? 100_000 : 10_000
const writers = 16
const streams = 200
const readers = 3

interface Seen {
  readonly id: string
  readonly position: number
}

const newId = () => crypto.randomUUID()
const event = () => ({ id: newId(), type: "Happened", data: { text: "x".repeat(100) } })
const streamOf = (n: number) => ({ tenantId: "t", domain: "d", aggregateId: `s-${n}` })

const build = (url: string, options: Partial<EventStorePg.Options> = {}) =>
  Layer.build(EventStorePg.layer({ url: Redacted.make(url), ...options }))

describeOwnPg("the feed on PostgreSQL", () => {
  let server: PostgresServer
  beforeAll(async () => {
    server = await startPostgres({ maxConnections: 120 })
  }, 120_000)
  afterAll(() => server?.stop())

  const query = (url: string, sql: string, values: ReadonlyArray<unknown> = []) =>
    Effect.promise(() => withClient(url, (client) => client.query(sql, [...values])))

  /** A transaction of someone else that has written and stays open until the scope closes. */
  const foreignTransaction = (url: string) =>
    Effect.acquireRelease(
      Effect.promise(async () => {
        const client = new Pg.Client({ connectionString: url })
        client.on("error", () => {})
        await client.connect()
        await client.query("create table if not exists foreign_work (n int)")
        await client.query("begin")
        await client.query("insert into foreign_work values (1)")
        return client
      }),
      (client) => Effect.promise(() => client.end().catch(() => {}))
    )

  it.live(
    `${eventsWanted} events by ${writers} writers: ${readers} resuming readers and a subscription see each once, in order`,
    () =>
      Effect.gen(function* () {
        const startedAt = Date.now()
        const url = yield* Effect.promise(() => server.createDatabase())
        const otherUrl = yield* Effect.promise(() => server.createDatabase())
        const writing = yield* build(url, { pool: { maxOpenConns: 20, maxIdleConns: 20 } })
        const reading = yield* build(url, { applicationName: "reading", pollInterval: "200 millis" })
        const store = yield* Effect.provide(EventStore.EventStore, writing)
        const database = yield* Effect.provide(PgDatabase.PgDatabase, writing)
        const readStore = yield* Effect.provide(EventStore.EventStore, reading)

        let acknowledged: Array<string> = []
        let unknown = 0
        let rolledBack = 0
        let writersDone = false
        let done = false

        // One append in one of the shapes that the feed must cope with; answers the ids that are committed.
        const write = Effect.gen(function* () {
          const shape = yield* Random.nextIntBetween(0, 100)
          const stream = streamOf(yield* Random.nextIntBetween(0, streams))
          const events = Array.from({ length: yield* Random.nextIntBetween(1, 11) }, event)
          const ids = events.map(({ id }) => id)
          const append = store.append(stream, events, { expected: "any" })
          if (shape < 70) return yield* Effect.as(append, ids)
          if (shape < 80) {
            const second = [event()]
            const other = { ...stream, domain: "e" }
            yield* store.appendAll([
              { stream, events, expected: "any" },
              { stream: other, events: second, expected: "any" }
            ])
            return [...ids, ...second.map(({ id }) => id)]
          }
          // Slow: positions are drawn long before they are committed, or never are.
          const pause = Effect.sleep(Duration.millis(yield* Random.nextIntBetween(10, 300)))
          if (shape < 85) {
            const undone = database.transaction(
              Effect.zipRight(Effect.zipRight(append, pause), Effect.fail("rollback" as const))
            )
            yield* Effect.catchIf(
              undone,
              (error) => error === "rollback",
              () => Effect.sync(() => rolledBack++)
            )
            return []
          }
          if (shape < 92) {
            const inner = store.append({ ...stream, domain: "f" }, [event()], { expected: "any" })
            const savepoint = Effect.ignore(database.transaction(Effect.zipRight(inner, Effect.fail("undo"))))
            yield* database.transaction(Effect.zipRight(Effect.zipRight(append, savepoint), pause))
            return ids
          }
          yield* database.transaction(Effect.zipRight(append, pause))
          return ids
        })
        const retryLater = <E>(error: E) =>
          typeof error === "object" && error !== null && "retryable" in error && error.retryable === true
            ? Effect.zipRight(
                Effect.sync(() => unknown++),
                Effect.as(Effect.sleep("50 millis"), [] as Array<string>)
              )
            : Effect.fail(error)
        const writer = Effect.whileLoop({
          while: () => acknowledged.length < eventsWanted,
          body: () => Effect.catchAll(write, retryLater),
          step: (ids) => {
            acknowledged = acknowledged.concat(ids)
          }
        })

        // Resumes from the last position it has seen, after being interrupted at a random moment.
        let resumes = 0
        const resumingReader = (seen: Array<Seen>) => {
          const pass = Effect.suspend(() =>
            Stream.runForEachChunk(readStore.feed({ after: seen.at(-1)?.position ?? 0 }), (chunk) =>
              Effect.sync(() => {
                for (const { id, position } of chunk) seen.push({ id, position })
              })
            )
          ).pipe(Effect.catchAll(retryLater))
          const interrupted = Effect.gen(function* () {
            const fiber = yield* Effect.fork(pass)
            yield* Effect.sleep(Duration.millis(yield* Random.nextIntBetween(1, 60)))
            const exit = yield* Fiber.interrupt(fiber)
            // A failure that is not the interrupt must not pass unseen.
            if (Exit.isFailure(exit) && !Exit.isInterrupted(exit)) return yield* exit
            resumes++
          })
          return Effect.zipRight(Effect.repeat(interrupted, { until: () => done }), pass)
        }

        // The readers that are wrong: no bound, and the bound in the same statement as the scan.
        const wrongReader = (seen: Array<Seen>, sql: string) =>
          Effect.promise(async () => {
            let client: Pg.Client | undefined
            while (!done) {
              try {
                if (client === undefined) {
                  client = new Pg.Client({ connectionString: url })
                  client.on("error", () => {})
                  await client.connect()
                }
                const { rows } = await client.query(sql, [seen.at(-1)?.position ?? 0])
                for (const { id, position } of rows) if (id !== null) seen.push({ id, position: Number(position) })
              } catch {
                await client?.end().catch(() => {})
                client = undefined
              }
              await new Promise((resolve) => setTimeout(resolve, 1))
            }
            await client?.end()
          })

        const seen = Array.from({ length: readers }, (): Array<Seen> => [])
        const subscribed: Array<Seen> = []
        const naive: Array<Seen> = []
        const oneStatement: Array<Seen> = []
        const subscription = yield* Effect.fork(
          Stream.runForEach(readStore.subscribe(), ({ id, position }) =>
            Effect.sync(() => subscribed.push({ id, position }))
          )
        )
        const readerFibers = yield* Effect.forEach(seen, (each) => Effect.fork(resumingReader(each)))
        const wrongFibers = yield* Effect.all([
          Effect.fork(wrongReader(naive, "select id, position from es_events where position > $1 order by position")),
          Effect.fork(
            wrongReader(
              oneStatement,
              `with bound as materialized (select es_head() as at)
               select id, position from bound left join es_events on position > $1 and position <= bound.at order by position`
            )
          )
        ])

        // Meanwhile: restarts, killed listeners, and another database's transaction, opened again after each restart.
        let listenersKilled = 0
        const chaos = Effect.gen(function* () {
          let foreign = yield* Scope.make()
          yield* Scope.extend(foreignTransaction(otherUrl), foreign)
          const restarts: Array<readonly [number, "immediate" | "fast"]> = [
            [0.3, "immediate"],
            [0.6, "fast"]
          ]
          while (!writersDone) {
            yield* Effect.sleep("200 millis")
            const next = restarts[0]
            if (next !== undefined && acknowledged.length >= eventsWanted * next[0]) {
              restarts.shift()
              yield* Scope.close(foreign, Exit.void)
              yield* Effect.promise(() => server.restart(next[1]))
              foreign = yield* Scope.make()
              yield* Scope.extend(foreignTransaction(otherUrl), foreign)
            }
            const killed = yield* query(
              url,
              "select pg_terminate_backend(pid) from pg_stat_activity where application_name like '%listener'"
            )
            listenersKilled += killed.rowCount ?? 0
          }
          assert.lengthOf(restarts, 0)
          return foreign
        })
        const chaosFiber = yield* Effect.fork(chaos)
        yield* Effect.all(
          Array.from({ length: writers }, () => writer),
          { concurrency: "unbounded" }
        )
        writersDone = true
        const foreign = yield* Fiber.join(chaosFiber)

        // The other database's transaction is still open: it must not hold anything back.
        const all = (yield* query(
          url,
          "select id, position::float8 as position, domain, aggregate_id, version::float8 as version from es_events order by position"
        )).rows as Array<Seen & { domain: string; aggregate_id: string; version: number }>
        const last = all.at(-1)?.position ?? 0
        assert.isAtLeast(yield* readStore.head, last)
        const caughtUp = Date.now() + 10_000
        while ((subscribed.at(-1)?.position ?? 0) < last && Date.now() < caughtUp) yield* Effect.sleep("20 millis")
        done = true
        yield* Fiber.joinAll(readerFibers)
        yield* Fiber.joinAll(wrongFibers)
        const subscriptionExit = yield* Fiber.interrupt(subscription)
        yield* Scope.close(foreign, Exit.void)

        const ids = all.map(({ id }) => id)
        const lost = (each: ReadonlyArray<Seen>) => {
          const found = new Set(each.map(({ id }) => id))
          return ids.filter((id) => !found.has(id)).length
        }
        console.log("the feed on PostgreSQL:", {
          events: all.length,
          acknowledged: acknowledged.length,
          retriedFailures: unknown,
          rolledBack,
          resumes,
          listenersKilled,
          lostByReaders: seen.map(lost),
          lostBySubscription: lost(subscribed),
          lostByNaiveReader: lost(naive),
          lostByBoundInSameStatement: lost(oneStatement),
          seconds: Math.round((Date.now() - startedAt) / 1000)
        })

        assert.isTrue(Exit.isInterrupted(subscriptionExit), `the subscription ended: ${subscriptionExit}`)
        const present = new Set(ids)
        assert.lengthOf(
          acknowledged.filter((id) => !present.has(id)),
          0
        )
        for (const each of [...seen, subscribed]) {
          // The same ids in the same order: nothing lost, repeated or reordered.
          assert.deepStrictEqual(
            each.map(({ id }) => id),
            ids
          )
        }
        const versions = new Map<string, number>()
        for (const { aggregate_id, domain, version } of all) {
          const key = `${domain}/${aggregate_id}`
          assert.strictEqual(version, (versions.get(key) ?? 0) + 1)
          versions.set(key, version)
        }
        assert.isAbove(lost(naive), 0)
        assert.isAbove(listenersKilled, 0)
      }).pipe(Effect.scoped),
    600_000
  )

  it.live("an append of another process wakes a subscription long before it polls", () =>
    Effect.gen(function* () {
      const url = yield* Effect.promise(() => server.createDatabase())
      const one = yield* build(url, { pollInterval: "30 seconds" })
      const other = yield* build(url)
      const subscriber = yield* Effect.provide(EventStore.EventStore, one)
      const appender = yield* Effect.provide(EventStore.EventStore, other)
      const live = yield* Effect.fork(Stream.runCollect(subscriber.subscribe({ limit: 2 })))
      for (const n of [0, 1]) {
        yield* Effect.sleep("300 millis")
        yield* appender.append(streamOf(n), [event()], { expected: "any" })
      }
      const got = yield* Fiber.join(live).pipe(Effect.timeout("5 seconds"))
      assert.strictEqual(got.length, 2)
    }).pipe(Effect.scoped)
  )

  it.live("the first event of a fresh store is seen, and the head of an empty one is 0", () =>
    Effect.gen(function* () {
      const store = yield* Effect.provide(
        EventStore.EventStore,
        yield* build(yield* Effect.promise(() => server.createDatabase()))
      )
      assert.strictEqual(yield* store.head, 0)
      yield* store.append(streamOf(0), [event()], { expected: "noStream" })
      assert.strictEqual((yield* Stream.runCollect(store.feed())).length, 1)
    }).pipe(Effect.scoped)
  )

  it.live("an open append holds the head back, until it commits or rolls back; that of another store does not", () =>
    Effect.gen(function* () {
      const url = yield* Effect.promise(() => server.createDatabase())
      const context = yield* build(url)
      const store = yield* Effect.provide(EventStore.EventStore, context)
      const database = yield* Effect.provide(PgDatabase.PgDatabase, context)
      const other = yield* Effect.provide(EventStore.EventStore, yield* build(url, { prefix: "other_" }))
      for (const end of [Effect.void, Effect.fail("rollback")]) {
        const before = yield* store.head
        const opened = yield* Effect.makeLatch()
        const close = yield* Effect.makeLatch()
        const slow = yield* Effect.fork(
          Effect.exit(
            database.transaction(
              store
                .append(streamOf(1), [event()], { expected: "any" })
                .pipe(Effect.zipRight(opened.open), Effect.zipRight(close.await), Effect.zipRight(end))
            )
          )
        )
        yield* opened.await
        const { position } = yield* store.append(streamOf(2), [event()], { expected: "any" })
        assert.strictEqual(yield* store.head, before)
        const { position: otherPosition } = yield* other.append(streamOf(2), [event()], { expected: "any" })
        assert.isAtLeast(yield* other.head, otherPosition)
        yield* close.open
        yield* Fiber.join(slow)
        assert.isAtLeast(yield* store.head, position)
      }
    }).pipe(Effect.scoped)
  )

  it.live("a transaction whose snapshot could be older than the bound is refused the feed, typed", () =>
    Effect.gen(function* () {
      const context = yield* build(yield* Effect.promise(() => server.createDatabase()))
      const store = yield* Effect.provide(EventStore.EventStore, context)
      const database = yield* Effect.provide(PgDatabase.PgDatabase, context)
      for (const isolation of ["repeatable read", "serializable"] as const) {
        const refused = yield* Effect.flip(database.transaction(Stream.runDrain(store.feed()), { isolation }))
        assert.strictEqual(refused._tag, "StoreError")
      }
      yield* database.transaction(Stream.runDrain(store.feed()))
    }).pipe(Effect.scoped)
  )

  it.live("sessions are read committed, whatever the role's default is", () =>
    Effect.gen(function* () {
      const url = yield* Effect.promise(() => server.createDatabase())
      const name = new URL(url).pathname.slice(1)
      yield* query(url, `alter database "${name}" set default_transaction_isolation = 'serializable'`)
      const store = yield* Effect.provide(EventStore.EventStore, yield* build(url))
      yield* Effect.all(
        Array.from({ length: 20 }, () => store.append(streamOf(1), [event()], { expected: "any" })),
        { concurrency: "unbounded" }
      )
      assert.strictEqual((yield* Stream.runCollect(store.feed())).length, 20)
    }).pipe(Effect.scoped)
  )
})
