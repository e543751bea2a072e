/**
 * Appends of any shape share transactions on PostgreSQL, and each is told what it would be told by itself.
 */
import { assert, it } from "@effect/vitest"
import { Effect, Exit, Fiber, FastCheck as fc, Redacted } from "effect"
import { EventStore } from "effect-stores"
import { EventStorePg, PgDatabase } from "effect-stores/pg"
import { beforeAll } from "vitest"
import { calls, contents, inDomain, interrupt, oneByOne, told } from "../support/appendCalls.js"
import { describePg, freshDatabase } from "../support/backends.js"
import { eventually } from "../support/eventually.js"
import { isFull } from "../support/scale.js"
import { query } from "./support/query.js"
import { together } from "./support/together.js"

describePg("appends of any shape at once on PostgreSQL", () => {
  let url: string
  beforeAll(async () => {
    url = await freshDatabase()
  })

  const layer = (options: Partial<EventStorePg.Options>) => EventStorePg.layer({ url: Redacted.make(url), ...options })
  const oneConnection = { pool: { maxOpenConns: 1 } }
  const streamOf = (aggregateId: string = crypto.randomUUID(), domain = "d") => ({ tenantId: "t", domain, aggregateId })
  const events = (count: number) => Array.from({ length: count }, (_, i) => ({ type: "Happened", data: { i } }))
  const numbers = (count: number) => Array.from({ length: count }, (_, i) => i)
  const transactionsIn = (domain: string) =>
    Effect.map(
      query(url, `select count(distinct xmin::text)::int as n from es_events where domain = '${domain}'`),
      ({ rows }) => rows[0]?.n
    )

  for (const groupCommit of [true, false]) {
    it.live(`share ${groupCommit ? "transactions" : "none with groupCommit false"}`, () =>
      Effect.gen(function* () {
        const store = yield* EventStore.EventStore
        const domain = `shared-${groupCommit}`
        const exits = yield* together(
          numbers(20).map(
            (i): Effect.Effect<unknown, EventStore.AppendError> =>
              i % 2 === 0
                ? store.append(streamOf(undefined, domain), events(3), { expected: "noStream" })
                : store.appendAll(
                    [
                      { stream: streamOf(undefined, domain), events: events(2), expected: "noStream" },
                      { stream: streamOf("common", domain), events: events(1), expected: "any" }
                    ],
                    { guards: [{ stream: streamOf("never", domain), expected: "noStream" }] }
                  )
          )
        )
        assert.deepStrictEqual(
          exits.map(Exit.isSuccess),
          exits.map(() => true)
        )
        // Two are sent by themselves, and one group.
        assert.strictEqual(yield* transactionsIn(domain), groupCommit ? 3 : 20)
        assert.strictEqual(yield* store.version(streamOf("common", domain)), 10)
      }).pipe(Effect.provide(layer({ ...oneConnection, groupCommit })))
    )
  }

  it.live("of one caller are sent at once, each by itself", () =>
    Effect.gen(function* () {
      const store = yield* EventStore.EventStore
      for (const i of numbers(5)) {
        yield* store.append(streamOf(undefined, "idle"), events(2), { expected: "noStream" })
        assert.strictEqual(yield* transactionsIn("idle"), i + 1)
      }
    }).pipe(Effect.provide(layer({})))
  )

  it.live("have the outcomes that they would have one after the other, and those interrupted have none", () =>
    Effect.gen(function* () {
      const store = yield* EventStore.EventStore
      const database = yield* PgDatabase.PgDatabase
      let run = 0
      const property = fc.asyncProperty(calls, async (calls) => {
        const domain = `run-${run++}`
        const make = inDomain(calls, domain)
        const found = await Effect.gen(function* () {
          const before = yield* store.head
          const exits = yield* together(make(store), (fibers) => interrupt(calls, fibers))
          return {
            exits: exits.map((exit, i) => (calls[i]?.interrupted ? "interrupted" : told(exit, before))),
            contents: yield* contents(store, domain, before)
          }
        }).pipe(Effect.provideService(PgDatabase.PgDatabase, database), Effect.runPromise)
        assert.deepStrictEqual(found, await Effect.runPromise(oneByOne(calls, make, domain)))
      })
      yield* Effect.promise(() => fc.assert(property, { numRuns: isFull ? 1_000 : 100 }))
    }).pipe(Effect.provide(layer(oneConnection)))
  )

  it.live("that name a locked stream take one connection in all, and delay no neighbour", () =>
    Effect.gen(function* () {
      const store = yield* EventStore.EventStore
      const { transaction } = yield* PgDatabase.PgDatabase
      const locked = streamOf()
      const held = yield* Effect.makeLatch()
      const release = yield* Effect.makeLatch()
      const holder = yield* Effect.fork(
        transaction(
          store
            .append(locked, events(1), { expected: "any" })
            .pipe(Effect.zipRight(held.open), Effect.zipRight(release.await))
        )
      )
      yield* held.await
      const naming = yield* Effect.forEach(numbers(8), (i) => {
        const free = { stream: streamOf(), events: events(2), expected: "noStream" as const }
        const taken = { stream: locked, events: events(1), expected: "any" as const }
        return Effect.fork(store.appendAll(i % 2 === 0 ? [free, taken] : [taken, free]))
      })
      const guarding = yield* Effect.fork(
        store.appendAll([{ stream: streamOf(), events: events(1), expected: "noStream" }], {
          guards: [{ stream: locked, expected: "streamExists" }]
        })
      )
      // Done while the lock is held, or this would never return.
      const neighbours = Effect.forEach(
        numbers(20),
        () => store.append(streamOf(), events(2), { expected: "noStream" }),
        { concurrency: "unbounded" }
      )
      yield* neighbours
      const waiting = query(
        url,
        `select from pg_locks l join pg_database d on d.oid = l.database
         where d.datname = current_database() and l.locktype = 'advisory' and not l.granted`
      )
      yield* eventually(waiting, ({ rowCount }) => rowCount === 1)
      yield* neighbours
      assert.strictEqual((yield* waiting).rowCount, 1)
      assert.deepStrictEqual(
        (yield* Effect.forEach(naming, Fiber.poll)).map(({ _tag }) => _tag),
        naming.map(() => "None")
      )
      yield* release.open
      yield* Fiber.join(holder)
      yield* Fiber.joinAll(naming)
      yield* Fiber.join(guarding)
      assert.strictEqual(yield* store.version(locked), 9)
    }).pipe(Effect.provide(layer({ pool: { maxOpenConns: 8 } })))
  )

  it.live("of more than 20 events go by themselves, and a group has no more than 500", () =>
    Effect.gen(function* () {
      const store = yield* EventStore.EventStore
      const sizes = [1, 1, 21, ...numbers(26).map(() => 20)]
      const exits = yield* together(
        sizes.map((size) => store.append(streamOf(undefined, "large"), events(size), { expected: "noStream" }))
      )
      assert.deepStrictEqual(
        exits.map((exit) => Exit.isSuccess(exit) && exit.value.version),
        sizes
      )
      const { rows } = yield* query(
        url,
        `select count(distinct aggregate_id)::int as streams, count(*)::int as events
         from es_events where domain = 'large' group by xmin::text order by 1, 2`
      )
      assert.deepStrictEqual(
        rows.map(({ events, streams }) => [streams, events]),
        [
          [1, 1],
          [1, 1],
          [1, 20],
          [1, 21],
          [25, 500]
        ]
      )
    }).pipe(Effect.provide(layer(oneConnection)))
  )
})
