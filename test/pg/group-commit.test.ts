/**
 * Concurrent appends on PostgreSQL share transactions, and nobody notices but by the number of commits.
 */
import { assert, it } from "@effect/vitest"
import { Effect, Either, Exit, Fiber, Redacted, Stream } from "effect"
import { EventStore } from "effect-stores"
import { EventStorePg, PgDatabase } from "effect-stores/pg"
import type Pg from "pg"
import { beforeAll, describe, onTestFinished, vi } from "vitest"
import { type GroupCommitOptions, make } from "../../src/pg/eventStore/GroupCommit.js"
import { describePg, freshDatabase } from "../support/backends.js"
import { withClient } from "../support/databases.js"
import { eventually } from "../support/eventually.js"

describePg("group commit on PostgreSQL", () => {
  let url: string
  beforeAll(async () => {
    url = await freshDatabase()
  })

  const test = <A, E>(
    title: string,
    self: Effect.Effect<A, E, EventStore.EventStore | PgDatabase.PgDatabase>,
    options: Partial<EventStorePg.Options> = {}
  ) => it.live(title, () => Effect.provide(self, EventStorePg.layer({ url: Redacted.make(url), ...options })))

  const newStream = () => ({ tenantId: "t", domain: "d", aggregateId: crypto.randomUUID() })
  const event = () => ({ id: crypto.randomUUID(), type: "Happened", data: {} })
  const all = <A, E, R>(effects: ReadonlyArray<Effect.Effect<A, E, R>>) =>
    Effect.all(effects, { concurrency: "unbounded" })

  test(
    "200 appends at once take far fewer transactions than 200, and each is there",
    Effect.gen(function* () {
      const store = yield* EventStore.EventStore
      const transactions = Effect.promise(() =>
        withClient(url, async (client) => {
          const { rows } = await client.query(
            "select count(distinct xmin::text::bigint) as n, count(*) as events from es_events"
          )
          return { transactions: Number(rows[0].n), events: Number(rows[0].events) }
        })
      )
      const before = yield* transactions
      yield* all(Array.from({ length: 200 }, () => store.append(newStream(), [event()], { expected: "noStream" })))
      const after = yield* transactions
      assert.strictEqual(after.events - before.events, 200)
      assert.isBelow(after.transactions - before.transactions, 50)
    })
  )

  test(
    "each append keeps its own outcome: conflicts, repeats and clashes fail no neighbour",
    Effect.gen(function* () {
      const store = yield* EventStore.EventStore
      const known = newStream()
      const first = event()
      const { position } = yield* store.append(known, [first], { expected: "noStream" })
      const outcomes = yield* all(
        Array.from({ length: 80 }, (_, n) => {
          switch (n % 4) {
            case 0:
              return Effect.either(store.append(known, [event()], { expected: 99 }))
            case 1:
              return Effect.either(store.append(known, [first], { expected: "any" }))
            case 2:
              return Effect.either(store.append(known, [{ ...first, type: "Other" }], { expected: "any" }))
            default:
              return Effect.either(store.append(newStream(), [event()], { expected: "noStream" }))
          }
        })
      )
      for (const [n, outcome] of outcomes.entries()) {
        const tag = Either.match(outcome, { onLeft: (error) => error._tag, onRight: () => "Appended" })
        assert.strictEqual(tag, ["VersionConflict", "Appended", "DuplicateEvent", "Appended"][n % 4])
        if (n % 4 === 1) assert.deepStrictEqual(Either.getOrThrow(outcome), { version: 1, position })
      }
      assert.strictEqual(yield* store.version(known), 1)
    })
  )

  test(
    "100 appends at once to one stream get one version each, and that is where they are stored",
    Effect.gen(function* () {
      const store = yield* EventStore.EventStore
      const stream = newStream()
      const events = Array.from({ length: 100 }, event)
      const appended = yield* all(events.map((each) => store.append(stream, [each], { expected: "any" })))
      assert.deepStrictEqual(
        appended.map(({ version }) => version).sort((a, b) => a - b),
        events.map((_, i) => i + 1)
      )
      const stored = yield* store.fold(stream, [] as Array<string>, (ids, { id }) => [...ids, id])
      for (const [i, { version }] of appended.entries()) assert.strictEqual(stored[version - 1], events[i]?.id)
    })
  )

  test(
    "a stream that somebody holds locked delays its own appends only",
    Effect.gen(function* () {
      const store = yield* EventStore.EventStore
      const database = yield* PgDatabase.PgDatabase
      const locked = newStream()
      const held = yield* Effect.makeLatch()
      const release = yield* Effect.makeLatch()
      const holder = yield* Effect.fork(
        database.transaction(
          store
            .append(locked, [event()], { expected: "any" })
            .pipe(Effect.zipRight(held.open), Effect.zipRight(release.await))
        )
      )
      yield* held.await
      const waiting = yield* Effect.forEach(Array.from({ length: 5 }), () =>
        Effect.fork(store.append(locked, [event()], { expected: "any" }))
      )
      // Two are sent at once, so the next in line begin a group: with a stream that is locked, and its neighbours.
      const started = yield* Effect.forEach(["a", "b", "locked", "c", "d", "e"], (name) => {
        const stream = name === "locked" ? locked : newStream()
        return Effect.map(Effect.fork(store.append(stream, [event()], { expected: "any" })), (fiber) => ({
          fiber,
          stream
        }))
      })
      const neighbours = started.filter(({ stream }) => stream !== locked)
      // Done while the lock is held, or this would never come back.
      for (const { fiber, stream } of neighbours) {
        const { position, version } = yield* Fiber.join(fiber)
        const stored = yield* store.fold(stream, [] as Array<EventStore.Event>, (events, each) => [...events, each])
        assert.deepStrictEqual(
          stored.map((each) => [each.version, each.position]),
          [[version, position]]
        )
      }
      for (const fiber of waiting) assert.isTrue((yield* Fiber.poll(fiber))._tag === "None")
      yield* release.open
      yield* Fiber.join(holder)
      yield* Fiber.joinAll(waiting)
      yield* Fiber.joinAll(started.map(({ fiber }) => fiber))
      assert.strictEqual(yield* store.version(locked), 7)
    })
  )

  test(
    "an append that is refused, or finds its stream locked, changes no neighbour's answer",
    Effect.gen(function* () {
      const store = yield* EventStore.EventStore
      const database = yield* PgDatabase.PgDatabase
      const [locked, known, grown] = [newStream(), newStream(), newStream()]
      const repeated = event()
      yield* store.append(known, [repeated], { expected: "any" })
      yield* store.append(grown, [event(), event(), event()], { expected: "any" })
      const held = yield* Effect.makeLatch()
      const release = yield* Effect.makeLatch()
      const holder = yield* Effect.fork(
        database.transaction(
          store
            .append(locked, [event()], { expected: "any" })
            .pipe(Effect.zipRight(held.open), Effect.zipRight(release.await))
        )
      )
      yield* held.await
      const leaders = [
        store.append(locked, [event()], { expected: "any" }),
        store.append(newStream(), [event()], { expected: 7 }),
        store.append(known, [repeated], { expected: "any" })
      ]
      const led = yield* Effect.forEach(leaders, (leader) =>
        Effect.gen(function* () {
          const events = Array.from({ length: 4 }, event)
          const append = (n: number, stream: EventStore.StreamId) =>
            store.append(stream, [events[n] as EventStore.NewEvent], { expected: "any" })
          // Two are under way, so what follows is one group, and the leader its first.
          const underWay = [append(0, newStream()), append(1, newStream())]
          const [first, second, led, ...rest] = yield* Effect.forEach(
            [...underWay, leader, append(2, newStream()), append(3, grown)],
            (each) => Effect.fork(Effect.either(each))
          )
          const neighbours = [first, second, ...rest].filter((fiber) => fiber !== undefined)
          const answers = yield* Fiber.joinAll(neighbours)
          for (const [n, answer] of answers.entries()) {
            const stored = yield* Effect.flatten(store.get((events[n] as EventStore.NewEvent).id as string))
            assert.deepStrictEqual(Either.getOrThrow(answer), { version: stored.version, position: stored.position })
          }
          return led
        })
      )
      yield* release.open
      yield* Fiber.join(holder)
      yield* Effect.forEach(led, (fiber) => (fiber === undefined ? Effect.void : Fiber.join(fiber)))
    })
  )

  test(
    "appends interrupted in line or in a group leave the others, and are there as a whole or not at all",
    Effect.gen(function* () {
      const store = yield* EventStore.EventStore
      const streams = Array.from({ length: 300 }, newStream)
      const fibers = yield* Effect.forEach(streams, (stream) =>
        Effect.fork(store.append(stream, [event()], { expected: "noStream" }))
      )
      yield* Effect.sleep("3 millis")
      const exits = yield* all(fibers.map((fiber, n) => (n % 3 === 0 ? Fiber.interrupt(fiber) : Fiber.await(fiber))))
      for (const [n, exit] of exits.entries()) {
        const version = yield* store.version(streams[n] as EventStore.StreamId)
        if (n % 3 !== 0) assert.isTrue(Exit.isSuccess(exit))
        if (Exit.isSuccess(exit)) assert.strictEqual(version, 1)
        else assert.isTrue(Exit.isInterrupted(exit))
      }
      // The line is empty and goes on.
      yield* store.append(newStream(), [event()], { expected: "noStream" })
    })
  )

  test(
    "the same new event appended many times at once is stored once, and all get the same answer",
    Effect.gen(function* () {
      const store = yield* EventStore.EventStore
      const stream = newStream()
      const same = event()
      const answers = yield* all(
        Array.from({ length: 60 }, () => store.append(stream, [same], { expected: "noStream" }))
      )
      for (const answer of answers) assert.deepStrictEqual(answer, answers[0])
      // In two streams at once only one can have it.
      const contested = event()
      const either = yield* all(
        [newStream(), newStream()].map((each) => Effect.either(store.append(each, [contested], { expected: "any" })))
      )
      assert.lengthOf(either.filter(Either.isRight), 1)
      assert.strictEqual(either.find(Either.isLeft)?.left._tag, "DuplicateEvent")
    })
  )

  test(
    "the line is bounded: who finds it full, or waits too long in it, fails typed",
    Effect.gen(function* () {
      const store = yield* EventStore.EventStore
      const { sql } = yield* PgDatabase.PgDatabase
      // All connections are busy, so nothing that is under way comes back.
      const busy = yield* Effect.fork(sql`select pg_sleep(2)`)
      yield* Effect.sleep("50 millis")
      const outcomes = yield* all(
        Array.from({ length: 40 }, () => Effect.either(store.append(newStream(), [event()], { expected: "any" })))
      )
      for (const outcome of outcomes) {
        assert.strictEqual(Either.isLeft(outcome) ? outcome.left._tag : "Appended", "PoolTimeout")
      }
      yield* Fiber.interrupt(busy)
      yield* store.append(newStream(), [event()], { expected: "any" })
      assert.isAbove(yield* Stream.runCount(store.feed()), 0)
    }),
    { pool: { maxOpenConns: 1, acquireTimeout: "300 millis", maxWaiting: 10 } }
  )

  test(
    "large events share a transaction up to a mebibyte of text, so that no message is without bounds",
    Effect.gen(function* () {
      const store = yield* EventStore.EventStore
      const large = () => ({ id: crypto.randomUUID(), type: "Large", data: "x".repeat(300_000) })
      yield* all(Array.from({ length: 30 }, () => store.append(newStream(), [large()], { expected: "noStream" })))
      const { rows } = yield* Effect.promise(() =>
        withClient(url, (client) =>
          client.query<{ events: number; chars: number }>(
            `select count(*)::int as events, sum(length(data) + length(metadata))::int as chars
             from es_events where type = 'Large' group by xmin::text`
          )
        )
      )
      assert.strictEqual(Math.max(...rows.map(({ events }) => events)), 3)
      for (const { chars } of rows) assert.isAtMost(chars, 1024 * 1024)
    })
  )

  test(
    "a group that loses its connection is of unknown outcome for each of it, whatever its repeats fail with",
    Effect.gen(function* () {
      const store = yield* EventStore.EventStore
      const onServer = (text: string) =>
        Effect.promise(() => withClient(url, async (client) => (await client.query(text)).rowCount))
      const insertionsOf = (body: string) =>
        onServer(
          `create or replace function held_in_group() returns trigger language plpgsql as $$ begin ${body} end $$`
        )
      yield* insertionsOf("perform pg_sleep(600); return new;")
      yield* onServer(
        `create trigger held_in_group before insert on es_events for each row when (new.type = 'InGroup')
           execute function held_in_group()`
      )
      const inGroup = Array.from({ length: 5 }, () => ({ ...event(), type: "InGroup" }))
      // Two are sent at once, and what comes meanwhile is the next group.
      const before = yield* Effect.forEach([event(), event()], (each) =>
        Effect.fork(store.append(newStream(), [each], { expected: "any" }))
      )
      const fibers = yield* Effect.forEach(inGroup, (each) =>
        Effect.fork(Effect.either(store.append(newStream(), [each], { expected: "any" })))
      )
      const holding = "datname = current_database() and wait_event = 'PgSleep' and query like '%append_each%'"
      yield* eventually(onServer(`select from pg_stat_activity where ${holding}`), (count) => count === 1)
      // What is sent again fails, and says nothing of what was sent before.
      yield* insertionsOf("raise 'refused';")
      yield* onServer(`select pg_terminate_backend(pid) from pg_stat_activity where ${holding}`)
      const outcomes = yield* Fiber.joinAll(fibers)
      assert.deepStrictEqual(
        outcomes.map((outcome) => (Either.isLeft(outcome) ? outcome.left._tag : "Appended")),
        inGroup.map(() => "CommitOutcomeUnknown")
      )
      yield* Fiber.joinAll(before)
    }),
    { statementTimeout: "20 minutes" }
  )
})

describe("an append that finds its stream locked", () => {
  it("waits for no longer than is left of its time", async () => {
    vi.useFakeTimers()
    onTestFinished(() => {
      vi.useRealTimers()
    })
    const busy: Array<() => void> = []
    const result: Pg.QueryResult = { rows: [], command: "", rowCount: 0, oid: 0, fields: [] }
    const stream = { tenantId: "t", domain: "d", aggregateId: "locked" }
    const statement = { text: "", operation: "append", kind: "write" } as const
    const options: GroupCommitOptions = {
      // Of one connection in two a single one may wait on the server.
      limits: { acquireTimeoutMs: 1_000, maxOpenConns: 2, maxWaiting: 10 },
      submit: (query, done) => {
        busy.push(() => done(Exit.succeed(query.onResult(result))))
        return Effect.void
      },
      waiting: () => ({ ...statement, onResult: () => "Exists" }),
      alone: () => ({ ...statement, onResult: () => ({ _tag: "Busy", stream }) }),
      group: () => ({ ...statement, onResult: () => [] })
    }
    const append = make(options)
    const failures: Array<string> = []
    for (const id of ["1", "2"]) {
      const added = { id, type: "T", data: "1", metadata: "{}", keyId: null, commandId: null, instanceId: null }
      const only = { stream, expected: "any" as const, events: [{ ...added, createdAt: 0 }] }
      Effect.runFork(
        Effect.catchAll(append({ appends: [only], guards: [] }), ({ _tag }) => Effect.sync(() => failures.push(_tag)))
      )
    }
    assert.lengthOf(busy, 2)
    await vi.advanceTimersByTimeAsync(600)
    for (const answer of busy.splice(0)) answer()
    // One is sent again to wait on the server, the other waits behind it.
    assert.lengthOf(busy, 1)
    await vi.advanceTimersByTimeAsync(399)
    assert.deepStrictEqual(failures, [])
    await vi.advanceTimersByTimeAsync(1)
    assert.deepStrictEqual(failures, ["PoolTimeout"])
  })
})
