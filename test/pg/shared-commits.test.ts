/**
 * Commands and snapshots that are written at the same time share transactions on PostgreSQL, and each keeps its own
 * outcome.
 */
import { assert, it } from "@effect/vitest"
import { Effect, Either, Exit, Fiber, Layer, Option, Redacted, Schema } from "effect"
import { CommandStore, type EventStore, SnapshotStore } from "effect-stores"
import { CommandStorePg, PgDatabase, SnapshotStorePg } from "effect-stores/pg"
import { beforeAll } from "vitest"
import { describePg, describeWith, freshDatabase } from "../support/backends.js"
import { eventually } from "../support/eventually.js"
import { startPgBouncer } from "../support/pgbouncer.js"
import { connected } from "./support/feed-load.js"
import { query } from "./support/query.js"
import { together } from "./support/together.js"

describePg("writes of commands and snapshots at once on PostgreSQL", () => {
  let url: string
  beforeAll(async () => {
    url = await freshDatabase()
  })

  const layer = (options: Partial<PgDatabase.Options> = {}) =>
    Layer.merge(CommandStorePg.layerFromDatabase(), SnapshotStorePg.layerFromDatabase()).pipe(
      Layer.provideMerge(PgDatabase.layer({ url: Redacted.make(url), ...options }))
    )
  const oneConnection = { pool: { maxOpenConns: 1 } }
  const numbers = (count: number) => Array.from({ length: count }, (_, i) => i)
  const command = (domain: string, id: string = crypto.randomUUID()) => ({
    id,
    tenantId: "t",
    domain,
    type: "Place",
    data: { amount: 1 }
  })
  const streamOf = (domain: string, aggregateId: string = crypto.randomUUID()): EventStore.StreamId => ({
    tenantId: "t",
    domain,
    aggregateId
  })
  const snapshot = (version: number) => ({
    version,
    lastEventMark: crypto.randomUUID(),
    schemaVersion: "1",
    state: { version }
  })
  const transactionsOf = (table: string, domain: string) =>
    Effect.map(
      query(url, `select count(distinct xmin::text)::int as n from ${table} where domain = '${domain}'`),
      ({ rows }) => rows[0]?.n
    )

  for (const groupCommit of [true, false]) {
    it.live(`share ${groupCommit ? "transactions" : "none with groupCommit false"}`, () =>
      Effect.gen(function* () {
        const commands = yield* CommandStore.CommandStore
        const snapshots = yield* SnapshotStore.SnapshotStore
        const domain = `shared-${groupCommit}`
        const exits = yield* together(
          numbers(20).map(
            (i): Effect.Effect<unknown, unknown> =>
              i % 2 === 0 ? commands.create(command(domain)) : snapshots.save(streamOf(domain), snapshot(i))
          )
        )
        assert.deepStrictEqual(
          exits.map(Exit.isSuccess),
          exits.map(() => true)
        )
        // Two are sent by themselves, a command and a snapshot, and the others as one group.
        assert.strictEqual(yield* transactionsOf("es_commands", domain), groupCommit ? 2 : 10)
        assert.strictEqual(yield* transactionsOf("es_snapshots", domain), groupCommit ? 2 : 10)
      }).pipe(Effect.provide(layer({ ...oneConnection, groupCommit })))
    )
  }

  it.live("keep their own outcomes: repeats, clashes, and snapshots that are older", () =>
    Effect.gen(function* () {
      const commands = yield* CommandStore.CommandStore
      const snapshots = yield* SnapshotStore.SnapshotStore
      const known = command("outcomes")
      const stream = streamOf("outcomes")
      const first = yield* commands.create(known)
      yield* snapshots.save(stream, snapshot(10))
      const same = command("outcomes")
      const exits = yield* together<unknown, unknown>([
        commands.create(command("outcomes")),
        commands.create(command("outcomes")),
        commands.create(known),
        commands.create({ ...known, type: "Other" }),
        snapshots.save(stream, snapshot(11)),
        snapshots.save(stream, snapshot(9)),
        snapshots.save(stream, snapshot(12)),
        commands.create(same),
        commands.create(same),
        commands.create({ ...same, data: 2 })
      ])
      const outcomes = exits.map((exit) =>
        Exit.match(exit, {
          onFailure: (cause) => (cause._tag === "Fail" ? (cause.error as { _tag: string })._tag : cause._tag),
          onSuccess: (value) => (typeof value === "boolean" ? value : (value as CommandStore.Command).id)
        })
      )
      assert.deepStrictEqual(outcomes.slice(2), [
        known.id,
        "DuplicateCommand",
        true,
        false,
        true,
        same.id,
        same.id,
        "DuplicateCommand"
      ])
      assert.deepStrictEqual(exits[2], Exit.succeed(first))
      assert.deepStrictEqual(exits[7], exits[8])
      assert.strictEqual(Option.getOrThrow(yield* snapshots.latest(stream)).version, 12)
    }).pipe(Effect.provide(layer(oneConnection)))
  )

  it.live("executed at once, each runs once, and its outcome is kept", () =>
    Effect.gen(function* () {
      const commands = yield* CommandStore.CommandStore
      let runs = 0
      const execute = (id: string, total: number) =>
        commands.execute(
          command("executed", id),
          Effect.sync(() => {
            runs++
            return total
          }),
          { success: Schema.Number }
        )
      const ids = numbers(50).map(() => crypto.randomUUID())
      const totals = yield* Effect.forEach([...ids, ...ids], (id) => execute(id, ids.indexOf(id)), {
        concurrency: "unbounded"
      })
      assert.deepStrictEqual(totals, [...numbers(50), ...numbers(50)])
      assert.strictEqual(runs, 50)
      assert.strictEqual(yield* commands.count({ domain: "executed", statuses: ["succeeded"] }), 50)
    }).pipe(Effect.provide(layer()))
  )

  it.live("of which one fails do not fail with it", () =>
    Effect.gen(function* () {
      const commands = yield* CommandStore.CommandStore
      yield* query(
        url,
        `create function refusing() returns trigger language plpgsql as $$ begin raise 'refused'; end $$;
         create trigger refusing before insert on es_commands for each row when (new.type = 'Refused')
           execute function refusing()`
      )
      const exits = yield* together(
        numbers(12).map((i) => commands.create({ ...command("refusing"), type: i % 3 === 0 ? "Refused" : "Taken" }))
      )
      assert.deepStrictEqual(
        exits.map(Exit.isSuccess),
        numbers(12).map((i) => i % 3 !== 0)
      )
      assert.strictEqual(yield* commands.count({ domain: "refusing" }), 8)
    }).pipe(Effect.provide(layer(oneConnection)))
  )

  it.live("do not wait for one that waits for a lock, in a group or by itself", () =>
    Effect.gen(function* () {
      const snapshots = yield* SnapshotStore.SnapshotStore
      const locked = streamOf("locked")
      yield* snapshots.save(locked, snapshot(1))
      const other = yield* connected(url)
      const client = (text: string) => Effect.promise(() => other.query(text))
      yield* client("begin")
      yield* client(`select from es_snapshots where aggregate_id = '${locked.aggregateId}' for update`)
      const blocked = yield* Effect.forEach([2, 3, 4, 5], (version) =>
        Effect.fork(snapshots.save(locked, snapshot(version)))
      )
      // Done while the lock is held, or this would never return.
      yield* Effect.forEach(numbers(50), (i) => snapshots.save(streamOf("locked"), snapshot(i + 1)), {
        concurrency: "unbounded"
      })
      assert.deepStrictEqual(
        (yield* Effect.forEach(blocked, Fiber.poll)).map(({ _tag }) => _tag),
        ["None", "None", "None", "None"]
      )
      yield* client("commit")
      yield* Fiber.joinAll(blocked)
      assert.strictEqual(Option.getOrThrow(yield* snapshots.latest(locked)).version, 5)
    }).pipe(Effect.scoped, Effect.provide(layer({ pool: { maxOpenConns: 8 } })))
  )

  it.live("leave out a caller that is interrupted while it waits, and are there or not where it was sent", () =>
    Effect.gen(function* () {
      const commands = yield* CommandStore.CommandStore
      const made = numbers(6).map(() => command("interrupted"))
      const exits = yield* together(
        made.map((each) => commands.create(each)),
        (fibers) => Effect.forEach([4, 2, 0], (i) => Fiber.interrupt(fibers[i] as Fiber.RuntimeFiber<unknown, unknown>))
      )
      assert.deepStrictEqual(exits.map(Exit.isSuccess), [false, true, false, true, false, true])
      const stored = yield* Effect.forEach(made, ({ id }) => commands.get(id))
      assert.deepStrictEqual(stored.map(Option.isSome), [false, true, false, true, false, true])
      // The line is empty and goes on.
      yield* commands.create(command("interrupted"))
    }).pipe(Effect.provide(layer(oneConnection)))
  )

  it.live("wait in a line that is bounded, and each no longer than acquireTimeout", () =>
    Effect.gen(function* () {
      const commands = yield* CommandStore.CommandStore
      const { sql } = yield* PgDatabase.PgDatabase
      const busy = yield* Effect.fork(sql`select pg_sleep(600)`)
      const sleeping = query(url, "select from pg_stat_activity where wait_event = 'PgSleep'")
      yield* eventually(sleeping, ({ rowCount }) => rowCount === 1)
      const outcomes = yield* Effect.forEach(numbers(40), () => Effect.either(commands.create(command("bounded"))), {
        concurrency: "unbounded"
      })
      assert.deepStrictEqual(
        outcomes.map((outcome) => (Either.isLeft(outcome) ? outcome.left._tag : "Created")),
        outcomes.map(() => "PoolTimeout")
      )
      yield* Fiber.interrupt(busy)
      yield* commands.create(command("bounded"))
      assert.strictEqual(yield* commands.count({ domain: "bounded" }), 1)
    }).pipe(Effect.provide(layer({ pool: { maxOpenConns: 1, acquireTimeout: "300 millis", maxWaiting: 10 } })))
  )

  it.live("are of unknown outcome where their connection is lost, each of them", () =>
    Effect.gen(function* () {
      const snapshots = yield* SnapshotStore.SnapshotStore
      yield* query(
        url,
        `create function sleeping() returns trigger language plpgsql as $$ begin perform pg_sleep(600); return new; end $$;
         create trigger sleeping before insert on es_snapshots for each row when (new.domain = 'lost')
           execute function sleeping()`
      )
      const killed = yield* Effect.fork(
        together(
          numbers(6).map((i) => snapshots.save(streamOf(i < 2 ? "found" : "lost"), snapshot(1))),
          () => Effect.void
        )
      )
      const held = "datname = current_database() and wait_event = 'PgSleep'"
      yield* eventually(query(url, `select from pg_stat_activity where ${held}`), ({ rowCount }) => rowCount === 1)
      yield* query(url, `select pg_terminate_backend(pid) from pg_stat_activity where ${held}`)
      const exits = yield* Fiber.join(killed)
      assert.deepStrictEqual(
        exits.map((exit): unknown =>
          Exit.isSuccess(exit) ? "Saved" : exit.cause._tag === "Fail" && exit.cause.error._tag
        ),
        ["Saved", "Saved", ...numbers(4).map(() => "CommitOutcomeUnknown")]
      )
    }).pipe(Effect.provide(layer({ ...oneConnection, statementTimeout: "20 minutes" })))
  )

  const settings = Effect.flatMap(
    PgDatabase.PgDatabase,
    ({ sql }) =>
      sql`select string_agg(name || '=' || setting, ', ') as found from pg_settings
          where name in ('lock_timeout', 'statement_timeout', 'enable_seqscan')`
  )

  it.live("leave the user's session as it was, and come behind the user's statements", () =>
    Effect.gen(function* () {
      const commands = yield* CommandStore.CommandStore
      const before = yield* settings
      for (const _ of numbers(2)) {
        const exits = yield* together(numbers(6).map(() => commands.create(command("session"))))
        assert.isTrue(exits.every(Exit.isSuccess))
        assert.deepStrictEqual(yield* settings, before)
      }
      assert.strictEqual(yield* transactionsOf("es_commands", "session"), 6)
    }).pipe(Effect.provide(layer({ ...oneConnection, lockTimeout: "3 seconds" })))
  )

  describeWith("pgbouncer", "behind a pooler", () => {
    it.live("share transactions too, and leave nothing in its sessions", () =>
      Effect.gen(function* () {
        const pooler = yield* Effect.acquireRelease(
          Effect.promise(() => startPgBouncer(url, { default_pool_size: 1 })),
          (pooler) => Effect.promise(() => pooler.stop())
        )
        yield* Effect.gen(function* () {
          const commands = yield* CommandStore.CommandStore
          const before = yield* settings
          const exits = yield* together(numbers(12).map(() => commands.create(command("pooled"))))
          assert.isTrue(exits.every(Exit.isSuccess))
          assert.deepStrictEqual(yield* settings, before)
          assert.strictEqual(yield* transactionsOf("es_commands", "pooled"), 3)
        }).pipe(
          Effect.provide(layer({ ...oneConnection, url: Redacted.make(pooler.through(url)), pooler: "transaction" }))
        )
      }).pipe(Effect.scoped)
    )
  })
})
