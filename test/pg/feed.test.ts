/**
 * The proof of the feed on PostgreSQL: under concurrent writers, slow and rolled-back transactions, restarts and another
 * database's open transaction, readers that resume and a subscription that loses its connections miss nothing, repeat
 * nothing and reorder nothing. A naive reader in the same run loses events, so the test can fail. After it, each trap
 * of the technique on its own.
 */
import { execFile } from "node:child_process"
import * as path from "node:path"
import { promisify } from "node:util"
import { assert, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Queue, Scope, Stream } from "effect"
import { afterAll, beforeAll } from "vitest"
import { describeOwnPg, temporaryDirectory } from "../support/backends.js"
import { eventually } from "../support/eventually.js"
import { type PostgresServer, startPostgres } from "../support/postgres.js"
import { isFull } from "../support/scale.js"
import { findPostgresTool } from "../support/tools.js"
import {
  build,
  connected,
  differences,
  event,
  Ledger,
  pollingReader,
  resumingReader,
  type Seen,
  storedIds,
  streamOf,
  writer
} from "./support/feed-load.js"
import { query } from "./support/query.js"
import { startStandby } from "./support/standby.js"

const eventsWanted = isFull ? 100_000 : 10_000
const writers = 16
const readers = 3

const lastDrawn = (url: string) =>
  Effect.map(query(url, "select pg_sequence_last_value('es_positions')::float8 as last"), ({ rows }) => rows[0].last)

/** A transaction of somebody else that has written and stays open until the scope closes. Answers its process id. */
const foreignTransaction = (url: string) =>
  Effect.flatMap(connected(url), (client) =>
    Effect.promise(async () => {
      await client.query("create table if not exists foreign_work (n int)")
      await client.query("begin")
      await client.query("insert into foreign_work values (1)")
      const { rows } = await client.query("select pg_backend_pid() as pid")
      return rows[0].pid as number
    })
  )

/** A test that needs more of PostgreSQL's programs than a server does; under CI it fails without. */
const liveWith = (tools: ReadonlyArray<string>, title: string, test: () => Effect.Effect<void, unknown>) => {
  const missing = tools.filter((tool) => findPostgresTool(tool) === undefined)
  if (missing.length === 0 || process.env.CI) it.live(title, test)
  else it.live.skip(`${title} [NOT TESTED: no ${missing.join(", ")} on this machine]`, test)
}
const run = (tool: string, args: ReadonlyArray<string>) =>
  Effect.promise(() => promisify(execFile)(findPostgresTool(tool) ?? tool, [...args]))

describeOwnPg("the feed on PostgreSQL", () => {
  let server: PostgresServer
  beforeAll(async () => {
    server = await startPostgres({ maxConnections: 120 })
  })
  afterAll(() => server?.stop())

  const freshDatabase = Effect.promise(() => server.createDatabase())

  it.live(
    `${eventsWanted} events by ${writers} writers: ${readers} resuming readers and a subscription see each once, in order`,
    () =>
      Effect.gen(function* () {
        const startedAt = Date.now()
        const url = yield* freshDatabase
        const otherUrl = yield* freshDatabase
        const writing = [
          yield* build(url, { applicationName: "writing" }),
          yield* build(url, { applicationName: "writing" })
        ] as const
        const { store } = yield* build(url, { applicationName: "reading", pollInterval: "200 millis" })

        let writersDone = false
        let over = false
        // The wrong readers go on till the end, also when something fails.
        yield* Effect.addFinalizer(() => Effect.sync(() => (over = true)))
        const isOver = () => over

        const seen = Array.from({ length: readers }, (): Array<Seen> => [])
        const readerFibers = yield* Effect.forEach(seen, (each) => Effect.fork(resumingReader(store, each, isOver)))
        const subscribed: Array<Seen> = []
        const subscription = yield* Effect.fork(
          Stream.runForEachChunk(store.subscribe(), (chunk) =>
            Effect.sync(() => {
              for (const { id, position } of chunk) subscribed.push({ id, position })
            })
          )
        )
        const naive: Array<Seen> = []
        const oneStatement: Array<Seen> = []
        const wrongFibers = yield* Effect.all([
          Effect.fork(
            pollingReader(
              url,
              "select id, position from es_events where position > $1 order by position",
              naive,
              isOver
            )
          ),
          Effect.fork(
            pollingReader(
              url,
              `with bound as materialized (select es_head() as at)
               select id, position from bound, es_events where position > $1 and position <= bound.at order by position`,
              oneStatement,
              isOver
            )
          )
        ])

        const ledger = new Ledger()
        const listenersKilled = new Set<number>()
        let readingKilled = 0
        const chaos = Effect.gen(function* () {
          const restarts: Array<{ readonly at: number; readonly mode: "immediate" | "fast" }> = [
            { at: 0.3, mode: "immediate" },
            { at: 0.6, mode: "fast" }
          ]
          // A restart ends the foreign transaction, so it is opened again.
          let foreign = yield* Scope.make()
          let pid = yield* Scope.extend(foreignTransaction(otherUrl), foreign)
          while (!writersDone) {
            yield* Effect.sleep("200 millis")
            const next = restarts[0]
            if (next !== undefined && ledger.acknowledged.length >= eventsWanted * next.at) {
              restarts.shift()
              yield* Scope.close(foreign, Exit.void)
              yield* Effect.promise(() => server.restart(next.mode))
              foreign = yield* Scope.make()
              pid = yield* Scope.extend(foreignTransaction(otherUrl), foreign)
            }
            const killed = yield* query(
              url,
              `select pid, application_name as name, pg_terminate_backend(pid) from pg_stat_activity
               where application_name like '%listener' or (application_name = 'reading' and random() < 0.1)`
            )
            for (const { name, pid } of killed.rows) {
              if (name === "reading") readingKilled++
              else listenersKilled.add(pid)
            }
          }
          assert.lengthOf(restarts, 0)
          return { foreign, pid }
        })
        const chaosFiber = yield* Effect.fork(chaos)
        yield* Effect.all(
          Array.from({ length: writers }, (_, i) => {
            const { database, store } = writing[i % 2 === 0 ? 0 : 1]
            return writer(store, database, ledger, eventsWanted)
          }),
          { concurrency: "unbounded" }
        )
        writersDone = true
        const { foreign, pid } = yield* Fiber.join(chaosFiber)

        const stored = (yield* query(
          url,
          `select id, position::float8 as position, domain, aggregate_id, version::float8 as version
           from es_events order by position`
        )).rows as Array<Seen & { domain: string; aggregate_id: string; version: number }>
        const last = stored.at(-1)?.position ?? 0
        // No own writer is active, so nothing is held back, and the readers reach the end: all this while the
        // transaction of the other database is open, which holds back whoever goes by transaction ids.
        assert.strictEqual(yield* store.head, yield* lastDrawn(url))
        const arrived = yield* Effect.exit(
          eventually(
            Effect.sync(() => subscribed.at(-1)?.position ?? 0),
            (position) => position >= last,
            "the subscription did not reach the end"
          )
        )
        over = true
        const resumes = yield* Fiber.joinAll(readerFibers)
        yield* Fiber.joinAll(wrongFibers)
        const activity = yield* query(
          url,
          `select state, pg_snapshot_xmin(pg_current_snapshot())::text::bigint <= backend_xid::text::bigint as holds_xmin
           from pg_stat_activity where pid = $1`,
          [pid]
        )
        assert.deepStrictEqual(activity.rows, [{ state: "idle in transaction", holds_xmin: true }])
        yield* Scope.close(foreign, Exit.void)
        const subscriptionExit = yield* Fiber.interrupt(subscription)

        console.log(
          `the feed on PostgreSQL: ${JSON.stringify({
            events: stored.length,
            slowTransactions: ledger.slow,
            rolledBack: ledger.rolledBack,
            refused: ledger.refused,
            outcomeUnknown: ledger.unknown.length,
            resumes,
            listenersKilled: listenersKilled.size,
            readingConnectionsKilled: readingKilled,
            lostByReaders: seen.map((each) => differences(each, stored).lost),
            lostBySubscription: differences(subscribed, stored).lost,
            lostByNaiveReader: differences(naive, stored).lost,
            lostByBoundInSameStatement: differences(oneStatement, stored).lost,
            seconds: Math.round((Date.now() - startedAt) / 1000)
          })}`
        )

        for (const each of [...seen, subscribed]) {
          assert.deepStrictEqual(differences(each, stored), { lost: 0, duplicated: 0, outOfOrder: 0, neverStored: 0 })
          assert.lengthOf(each, stored.length)
        }
        assert.isTrue(Exit.isSuccess(arrived), `the subscription did not reach the end: ${arrived}`)
        assert.isTrue(Exit.isInterrupted(subscriptionExit), `the subscription ended: ${subscriptionExit}`)
        const versions = new Map<string, number>()
        for (const { aggregate_id, domain, version } of stored) {
          const key = `${domain}/${aggregate_id}`
          assert.strictEqual(version, (versions.get(key) ?? 0) + 1)
          versions.set(key, version)
        }

        // What the writers were told is what is stored.
        const rows = new Map(stored.map((row) => [row.id, row]))
        assert.lengthOf(
          ledger.acknowledged.filter((id) => !rows.has(id)),
          0
        )
        for (const [id, { position, version }] of ledger.results) {
          assert.include(rows.get(id), { position, version })
        }
        assert.lengthOf(
          ledger.undone.filter((id) => rows.has(id)),
          0
        )
        let found = 0
        for (const ids of ledger.unknown) {
          const there = ids.filter((id) => rows.has(id)).length
          assert.oneOf(there, [0, ids.length])
          found += there
        }
        assert.strictEqual(stored.length, ledger.acknowledged.length + found)

        // The load was what it is meant to be.
        assert.isAbove(differences(naive, stored).lost, 0)
        assert.isAtLeast(ledger.slow, eventsWanted / 50)
        assert.isAbove(ledger.rolledBack, 0)
        assert.isAtLeast(Math.min(...resumes), 20)
        assert.isAtLeast(listenersKilled.size, 3)
      }).pipe(Effect.scoped)
  )

  it.live(
    "an append of another process wakes a subscription long before it polls, also after its listener was lost",
    () =>
      Effect.gen(function* () {
        const url = yield* freshDatabase
        const { store: subscriber } = yield* build(url, { pollInterval: "1 hour", applicationName: "subscriber" })
        const { store: appender } = yield* build(url)
        const live = yield* Queue.unbounded<string>()
        yield* Effect.forkScoped(Stream.runForEach(subscriber.subscribe(), ({ id }) => live.offer(id)))
        const listeners = (suffix: string) =>
          query(url, `select pid ${suffix} from pg_stat_activity where application_name = 'subscriber listener'`)
        const listening = eventually(
          listeners(", state = 'idle' and query ilike 'listen %' as listens"),
          ({ rows }) => rows.some(({ listens }) => listens),
          "nobody listens"
        )
        const appended = event()
        const arrives = (id: string) =>
          Effect.flatMap(Effect.timeout(live.take, "90 seconds"), (got) =>
            Effect.sync(() => assert.strictEqual(got, id))
          )
        yield* listening
        for (const each of [appended, event(), event(), event()]) {
          yield* appender.append(streamOf(0), [each], { expected: "any" })
          yield* arrives(each.id)
        }
        yield* listeners(", pg_terminate_backend(pid)")
        // Nobody listens now.
        const missed = event()
        yield* appender.append(streamOf(0), [missed], { expected: "any" })
        yield* arrives(missed.id)
        yield* listening
        for (const each of [event(), event()]) {
          yield* appender.append(streamOf(0), [each], { expected: "any" })
          yield* arrives(each.id)
        }
      }).pipe(Effect.scoped)
  )

  it.live("the first event of a fresh store is seen, and the head of an empty one is 0", () =>
    Effect.gen(function* () {
      const { store } = yield* build(yield* freshDatabase)
      assert.strictEqual(yield* store.head, 0)
      assert.deepStrictEqual(yield* storedIds(store), [])
      const first = event()
      yield* store.append(streamOf(0), [first], { expected: "noStream" })
      assert.deepStrictEqual(yield* storedIds(store), [first.id])
    }).pipe(Effect.scoped)
  )

  it.live("an open append holds back its own store's feed, until it commits, rolls back or loses its connection", () =>
    Effect.gen(function* () {
      const url = yield* freshDatabase
      const { database, store } = yield* build(url)
      const terminate = query(
        url,
        "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and state = 'idle in transaction'"
      )
      const ends: ReadonlyArray<readonly [Effect.Effect<unknown, string>, commits: boolean]> = [
        [Effect.void, true],
        [Effect.fail("rollback"), false],
        [terminate, false]
      ]
      for (const [end, commits] of ends) {
        const before = yield* store.head
        const opened = yield* Effect.makeLatch()
        const close = yield* Effect.makeLatch()
        const [slow, quick] = [event(), event()]
        const transaction = yield* Effect.fork(
          Effect.exit(
            database.transaction(
              store
                .append(streamOf(1), [slow], { expected: "any" })
                .pipe(Effect.zipRight(opened.open), Effect.zipRight(close.await), Effect.zipRight(end))
            )
          )
        )
        yield* opened.await
        const { position } = yield* store.append(streamOf(2), [quick], { expected: "any" })
        assert.strictEqual(yield* store.head, before)
        assert.deepStrictEqual(yield* storedIds(store, before), [])
        yield* close.open
        assert.strictEqual(Exit.isSuccess(yield* Fiber.join(transaction)), commits)
        // At once after COMMIT and ROLLBACK; the backend of a lost connection ends when it ends.
        if (end === terminate) {
          yield* eventually(store.head, (head) => head >= position, "the head did not move")
        }
        assert.isAtLeast(yield* store.head, position)
        assert.deepStrictEqual(yield* storedIds(store, before), commits ? [slow.id, quick.id] : [quick.id])
      }
    }).pipe(Effect.scoped)
  )

  it.live("nothing of anybody else holds the feed back: other stores, other databases, locks of the application", () =>
    Effect.gen(function* () {
      const url = yield* freshDatabase
      yield* Effect.scoped(build(url))
      // The same objects under the same oids, so that only the database tells their locks apart.
      const twinUrl = `${url}_twin`
      const nameOf = (url: string) => new URL(url).pathname.slice(1)
      yield* query(server.url, `create database "${nameOf(twinUrl)}" template "${nameOf(url)}"`)
      const oid = (url: string) =>
        Effect.map(query(url, "select 'es_events'::regclass::oid"), ({ rows }) => rows[0].oid)
      assert.strictEqual(yield* oid(url), yield* oid(twinUrl))

      const { store } = yield* build(url)
      const openAppends = [
        yield* build(url, { prefix: "other_" }),
        yield* build(url, { schema: "other" }),
        yield* build(twinUrl)
      ]
      const close = yield* Effect.makeLatch()
      for (const { database, store } of openAppends) {
        const opened = yield* Effect.makeLatch()
        const append = store.append(streamOf(1), [event()], { expected: "any" })
        yield* Effect.forkScoped(
          database.transaction(Effect.zipRight(append, Effect.zipRight(opened.open, close.await)))
        )
        yield* opened.await
      }
      yield* foreignTransaction(url)
      yield* foreignTransaction(twinUrl)
      const application = yield* connected(url)
      yield* Effect.promise(() =>
        application.query("select pg_advisory_lock(1), pg_advisory_lock(1, 1), pg_advisory_lock_shared(-1)")
      )

      const events = [event(), event()]
      for (const each of events) {
        yield* store.append(streamOf(1), [each], { expected: "any" })
        assert.strictEqual(yield* store.head, yield* lastDrawn(url))
      }
      assert.deepStrictEqual(
        yield* storedIds(store),
        events.map(({ id }) => id)
      )
      for (const { store } of openAppends) assert.strictEqual(yield* store.head, 0)
      yield* close.open
    }).pipe(Effect.scoped)
  )

  it.live("a transaction whose snapshot could be older than the bound is refused the feed, typed", () =>
    Effect.gen(function* () {
      const { database, store } = yield* build(yield* freshDatabase)
      yield* store.append(streamOf(1), [event()], { expected: "any" })
      for (const isolation of ["repeatable read", "serializable"] as const) {
        for (const read of [
          Stream.runDrain(store.feed()),
          Stream.runDrain(store.subscribe({ limit: 1 })),
          store.head
        ]) {
          const refused = yield* Effect.flip(database.transaction(read, { isolation }))
          assert.strictEqual(refused._tag, "StoreError")
        }
      }
      assert.lengthOf(yield* database.transaction(storedIds(store)), 1)
    }).pipe(Effect.scoped)
  )

  it.live("sessions are read committed, whatever the database's default is", () =>
    Effect.gen(function* () {
      const url = yield* freshDatabase
      const name = new URL(url).pathname.slice(1)
      yield* query(url, `alter database "${name}" set default_transaction_isolation = 'serializable'`)
      const { store } = yield* build(url)
      yield* Effect.all(
        Array.from({ length: 20 }, () => store.append(streamOf(1), [event()], { expected: "any" })),
        { concurrency: "unbounded" }
      )
      assert.lengthOf(yield* storedIds(store), 20)
    }).pipe(Effect.scoped)
  )

  liveWith(
    ["pg_dump", "psql"],
    "a store that was dumped and restored shows all its events, and goes on after them",
    () =>
      Effect.gen(function* () {
        const file = path.join(temporaryDirectory(), "dump.sql")
        for (const count of [0, 5]) {
          const url = yield* freshDatabase
          const { store } = yield* build(url)
          for (let i = 0; i < count; i++) {
            yield* store.append(streamOf(i), [event(), event()], { expected: "noStream" })
          }
          const before = yield* Stream.runCollect(store.feed())
          assert.strictEqual(before.length, 2 * count)
          yield* run("pg_dump", ["--dbname", url, "--file", file])
          const restoredUrl = yield* freshDatabase
          yield* run("psql", ["--dbname", restoredUrl, "-X", "-q", "-v", "ON_ERROR_STOP=1", "--file", file])

          const { store: restored } = yield* build(restoredUrl)
          assert.deepStrictEqual(yield* Stream.runCollect(restored.feed()), before)
          const head = yield* restored.head
          const next = event()
          yield* restored.append(streamOf(count), [next], { expected: "noStream" })
          assert.deepStrictEqual(yield* storedIds(restored, head), [next.id])
          // A session that draws positions in advance would hand them out late.
          const sequence = yield* query(restoredUrl, "select cache_size::int as cache from pg_sequences")
          assert.deepStrictEqual(sequence.rows, [{ cache: 1 }])
        }
      }).pipe(Effect.scoped)
  )

  liveWith(
    ["pg_basebackup"],
    "a standby, which does not see the writers' locks, refuses the feed and gives streams",
    () =>
      Effect.gen(function* () {
        const url = yield* freshDatabase
        const { store } = yield* build(url)
        yield* store.append(streamOf(1), [event()], { expected: "any" })
        const standby = yield* Effect.acquireRelease(
          Effect.promise(() =>
            startStandby({ pgBasebackup: findPostgresTool("pg_basebackup") ?? "pg_basebackup", primaryUrl: url })
          ),
          (standby) => Effect.promise(() => standby.stop())
        )
        const { store: replica } = yield* build(standby.urlOf(url))
        const refused = yield* Effect.flip(Stream.runDrain(replica.feed()))
        // It may be promoted: what becomes of subscriptions then is told in failover.test.ts.
        assert.deepInclude(refused, { _tag: "StoreUnavailable", retryable: true })
        assert.include(refused.message, "primary")
        assert.strictEqual((yield* Stream.runCollect(replica.read(streamOf(1)))).length, 1)
      }).pipe(Effect.scoped)
  )
})
