/**
 * The user's own SQL runs in sessions as the server gives them, and the statements of the stores in the same sessions
 * under their own settings: outside transactions, inside them, after failures and rollbacks, and behind a pooler.
 */
import { assert, it } from "@effect/vitest"
import { Deferred, Effect, Fiber, FastCheck as fc, Layer, Redacted } from "effect"
import { EventStore } from "effect-stores"
import { EventStorePg, PgDatabase } from "effect-stores/pg"
import { afterAll, beforeAll, describe } from "vitest"
import { type Statement, storeAccess } from "../../src/pg/database/access.js"
import { describePg, describeWith, freshDatabase } from "../support/backends.js"
import { withClient } from "../support/databases.js"
import { type PgBouncer, startPgBouncer } from "../support/pgbouncer.js"
import { isFull } from "../support/scale.js"

const stream = { tenantId: "t", domain: "d", aggregateId: "own-sql" }

const options = { statementTimeout: "40 seconds", lockTimeout: "30 seconds" } as const

/** What the operator of the server has set for this database; nothing of it is a default. */
const ofServer = {
  statement_timeout: "7min",
  lock_timeout: "6min",
  jit_above_cost: "12345",
  enable_seqscan: "on",
  jit: "on"
}

const settingsText = `select current_setting('statement_timeout') as statement_timeout,
  current_setting('lock_timeout') as lock_timeout, current_setting('jit_above_cost') as jit_above_cost,
  current_setting('enable_seqscan') as enable_seqscan, current_setting('jit') as jit`

const ofStores = { ...ofServer, statement_timeout: "40s", lock_timeout: "30s", enable_seqscan: "off", jit: "off" }
/** Behind a pooler no plan is kept, so the planner needs no help. */
const ofStoresPooled = { ...ofServer, statement_timeout: "40s", lock_timeout: "30s" }

/** The settings under which a store's statement runs, prepared by a name as its statements are. */
const seenByStore: Statement<unknown, "read"> = {
  name: "test/settings",
  text: `${settingsText} where $1::int = 1`,
  values: [1],
  operation: "settings",
  kind: "read",
  onResult: ({ rows }) => ({ ...rows[0] })
}
const failingStore: Statement<unknown, "read"> = {
  name: "test/failing",
  text: "select 1 / $1::int",
  values: [0],
  operation: "failing",
  kind: "read",
  onResult: ({ rows }) => rows
}

/** What happens on the one connection, one after the other. */
type Step =
  | { readonly do: "user" | "userWithParameters" | "userScript" | "store" | "setLocal" }
  | { readonly do: "userFails" | "storeFails" }
  | { readonly do: "transaction"; readonly steps: ReadonlyArray<Step>; readonly end: "commit" | "fail" | "statement" }

const single = fc.constantFrom("user", "userWithParameters", "userScript", "store", "store").map((name) => ({
  do: name as "user"
}))
const failing = fc.constantFrom("userFails", "storeFails").map((name) => ({ do: name as "userFails" }))
const end = fc.constantFrom("commit" as const, "fail" as const, "statement" as const)
const { inside } = fc.letrec<{ inside: Step }>((tie) => ({
  inside: fc.oneof(
    { maxDepth: 3 },
    { weight: 5, arbitrary: single },
    { weight: 1, arbitrary: fc.constant({ do: "setLocal" as const }) },
    {
      weight: 3,
      arbitrary: fc.record({
        do: fc.constant("transaction" as const),
        steps: fc.array(tie("inside"), { maxLength: 5 }),
        end
      })
    }
  )
}))
const steps: fc.Arbitrary<ReadonlyArray<Step>> = fc.array(
  fc.oneof(
    { weight: 3, arbitrary: single },
    { weight: 1, arbitrary: failing },
    {
      weight: 3,
      arbitrary: fc.record({ do: fc.constant("transaction" as const), steps: fc.array(inside, { maxLength: 6 }), end })
    }
  ),
  { maxLength: 8 }
)

/** Runs the steps, and compares the settings that each statement sees. Returns what `set local` leaves. */
const run = (
  database: PgDatabase.PgDatabaseShape,
  steps: ReadonlyArray<Step>,
  expectedOfStores: unknown,
  ownTimeout = ofServer.statement_timeout,
  depth = 0
): Effect.Effect<string, unknown> =>
  Effect.gen(function* () {
    const { sql, transaction, [storeAccess]: stores } = database
    let own = ownTimeout
    const ofUser = (rows: ReadonlyArray<unknown>) => assert.deepEqual(rows, [{ ...ofServer, statement_timeout: own }])
    for (const step of steps) {
      switch (step.do) {
        case "user":
          ofUser(yield* sql.unsafe(settingsText))
          break
        case "userWithParameters":
          ofUser(yield* sql`${sql.literal(settingsText)} where ${1}::int = 1`)
          break
        case "userScript":
          ofUser((yield* sql.unsafe<ReadonlyArray<unknown>>(`select 1; ${settingsText}`))[1] ?? [])
          break
        case "store":
          assert.deepEqual(yield* stores.run(seenByStore), expectedOfStores)
          break
        case "setLocal":
          own = own === "11s" ? "12s" : "11s"
          yield* sql.unsafe(`set local statement_timeout = '${own}'`)
          break
        case "userFails":
          yield* Effect.flip(sql`select 1 / ${0}::int`)
          break
        case "storeFails":
          yield* Effect.flip(stores.run(failingStore))
          break
        case "transaction": {
          const body = Effect.tap(
            Effect.suspend(() => run(database, step.steps, expectedOfStores, own, depth + 1)),
            () =>
              step.end === "commit"
                ? Effect.void
                : step.end === "fail"
                  ? Effect.fail("undone" as unknown)
                  : sql`select 1 / ${0}::int`
          )
          const left = yield* step.end === "commit" ? transaction(body) : Effect.as(Effect.flip(transaction(body)), own)
          if (depth > 0) own = left
          break
        }
      }
    }
    return own
  })

describePg("the user's own SQL on PostgreSQL", () => {
  let url: string
  beforeAll(async () => {
    url = await freshDatabase()
    await withClient(url, async (client) => {
      for (const [name, value] of Object.entries(ofServer)) {
        await client.query(
          `alter database ${client.escapeIdentifier(new URL(url).pathname.slice(1))} set ${name} = '${value}'`
        )
      }
    })
  })

  /** With one connection, so that every statement meets what the one before it has left. */
  const open = (more: Partial<PgDatabase.Options> = {}) =>
    Layer.suspend(() => EventStorePg.layer({ url: Redacted.make(url), pool: { maxOpenConns: 1 }, ...options, ...more }))

  const test = <A, E>(
    title: string,
    self: Effect.Effect<A, E, EventStore.EventStore | PgDatabase.PgDatabase>,
    more: Partial<PgDatabase.Options> = {}
  ) => it.live(title, () => Effect.provide(self, open(more)))

  const historiesOn = (layer: Layer.Layer<PgDatabase.PgDatabase, unknown>, expectedOfStores: unknown) =>
    Effect.gen(function* () {
      const database = yield* PgDatabase.PgDatabase
      yield* Effect.promise(() =>
        fc.assert(
          fc.asyncProperty(steps, (history) =>
            Effect.runPromise(Effect.asVoid(run(database, history, expectedOfStores)))
          ),
          { numRuns: isFull ? 1_000 : 100 }
        )
      )
    }).pipe(Effect.provide(layer))

  it.live(
    "is as the server gives it, and the stores' statements have their settings, in any history on one connection",
    () => historiesOn(open(), ofStores)
  )

  describeWith("pgbouncer", "behind a pooler", () => {
    let pooler: PgBouncer
    beforeAll(async () => {
      pooler = await startPgBouncer(url, { default_pool_size: 1 })
    })
    afterAll(() => pooler.stop())

    it.live("is as the server gives it, and the stores' statements have their timeouts, in any history", () =>
      historiesOn(
        Layer.suspend(() => open({ url: Redacted.make(pooler.through(url)), pooler: "transaction" })),
        ofStoresPooled
      )
    )
  })

  test(
    "differs from a session of the bare driver in nothing but what is documented",
    Effect.gen(function* () {
      const all = "select name, setting from pg_settings order by name"
      const store = yield* EventStore.EventStore
      const { sql, transaction } = yield* PgDatabase.PgDatabase
      const documented = ["application_name", "default_transaction_isolation"]
      const bare = yield* Effect.promise(() => withClient(url, async (client) => (await client.query(all)).rows))
      const without = (rows: ReadonlyArray<object>, names: ReadonlyArray<string>) =>
        // Those of the language are there once a function has run.
        rows.filter(
          (row) => !("name" in row && (names.includes(String(row.name)) || /^plpgsql\./.test(String(row.name))))
        )
      const same = (rows: ReadonlyArray<object>, names: ReadonlyArray<string> = []) =>
        assert.deepEqual(without(rows, [...documented, ...names]), without(bare, [...documented, ...names]))
      const stream = { tenantId: "t", domain: "d", aggregateId: crypto.randomUUID() }
      const append = store.append(stream, [{ type: "T", data: 1 }], { expected: "any" })

      same(yield* sql.unsafe(all))
      yield* append
      same(yield* sql.unsafe(all))
      yield* append
      same(yield* Effect.scoped(Effect.flatMap(sql.reserve, (own) => own.execute(all, [], undefined))))
      const inside = ["idle_in_transaction_session_timeout"]
      yield* transaction(
        Effect.gen(function* () {
          same(yield* sql.unsafe(all), inside)
          yield* append
          same(yield* sql.unsafe(all), inside)
        })
      )
      yield* sql.withTransaction(Effect.map(sql.unsafe(all), (rows) => same(rows, inside)))
    })
  )

  test(
    "shares a bound of idleness in every transaction, whatever the session was set to when it began, and not outside",
    Effect.gen(function* () {
      const { sql, transaction, [storeAccess]: stores } = yield* PgDatabase.PgDatabase
      const idle = "idle_in_transaction_session_timeout"
      const shown = Effect.map(sql.unsafe<Record<string, unknown>>(`show ${idle}`), ([row]) => row?.[idle])
      const store = stores.run(seenByStore)
      for (const before of [
        store,
        shown,
        transaction(shown),
        transaction(store),
        Effect.flip(stores.run(failingStore))
      ]) {
        for (const first of [store, shown]) {
          yield* Effect.asVoid<unknown, unknown, never>(before)
          const inside = transaction(Effect.zipRight(Effect.asVoid<unknown, unknown, never>(first), shown))
          assert.strictEqual(yield* inside, "5s")
        }
      }
      yield* store
      assert.strictEqual(yield* shown, "0")
    }),
    { idleInTransactionTimeout: "5 seconds" }
  )

  test(
    "is not ended by the stores' timeout, however long it takes, on sql and in a transaction",
    Effect.gen(function* () {
      const { sql, transaction } = yield* PgDatabase.PgDatabase
      const slow = sql`select pg_sleep(${1})`
      yield* slow
      yield* transaction(slow)
      // Longer than a silent server is waited for.
      yield* sql`select pg_sleep(7)`
    }),
    { statementTimeout: "200 millis" }
  )

  test(
    "may be what must be alone: VACUUM, an index that is created concurrently, a procedure that commits",
    Effect.gen(function* () {
      const store = yield* EventStore.EventStore
      const { sql } = yield* PgDatabase.PgDatabase
      const stream = { tenantId: "t", domain: "d", aggregateId: crypto.randomUUID() }
      for (const text of ["vacuum es_events", "create index concurrently own on es_events (type)", "drop index own"]) {
        // The store has the session before it.
        yield* store.version(stream)
        yield* sql.unsafe(text)
      }
      yield* sql`create procedure committing(n int) language plpgsql as $$ begin commit; perform n; commit; end $$`
      yield* store.version(stream)
      yield* sql`call committing(${1})`
    })
  )

  test(
    "may set the isolation of a transaction as its first statement",
    Effect.gen(function* () {
      const store = yield* EventStore.EventStore
      const { sql, transaction } = yield* PgDatabase.PgDatabase
      yield* store.head
      const isolation = Effect.zipRight(
        sql`set transaction isolation level repeatable read`,
        sql`select current_setting('transaction_isolation') as level`
      )
      for (const found of [yield* transaction(isolation), yield* sql.withTransaction(isolation)]) {
        assert.deepEqual(found, [{ level: "repeatable read" }])
      }
    })
  )

  test(
    "may go back to a savepoint by hand after a failure, and go on under the server's settings",
    Effect.gen(function* () {
      const store = yield* EventStore.EventStore
      const { sql, transaction } = yield* PgDatabase.PgDatabase
      yield* sql`create table kept (n int primary key)`
      yield* transaction(
        Effect.gen(function* () {
          yield* store.version(stream)
          yield* sql`savepoint by_hand`
          yield* sql`insert into kept values (1)`
          assert.isTrue((yield* Effect.exit(sql`insert into kept values (1)`))._tag === "Failure")
          yield* sql`rollback to savepoint by_hand`
          assert.deepEqual(yield* sql.unsafe(settingsText), [ofServer])
          yield* store.version(stream)
          yield* sql`rollback to savepoint by_hand`
          assert.deepEqual(yield* sql.unsafe(settingsText), [ofServer])
          yield* sql`insert into kept values (2)`
        })
      )
      assert.deepEqual(yield* sql`select n from kept`, [{ n: 2 }])
    })
  )

  test(
    "may end a transaction by hand and begin another, and goes on under the server's settings",
    Effect.gen(function* () {
      const store = yield* EventStore.EventStore
      const { sql, transaction } = yield* PgDatabase.PgDatabase
      for (const end of ["rollback and chain", "abort and chain", "commit and chain", "end and chain"]) {
        yield* transaction(
          Effect.gen(function* () {
            yield* store.version(stream)
            yield* sql`select 1`
            yield* sql.unsafe(end)
            assert.deepEqual(yield* sql.unsafe(settingsText), [ofServer], end)
          })
        )
      }
    })
  )

  test(
    "may end by hand a transaction in which a store has failed and begin another, and goes on under the server's settings",
    Effect.gen(function* () {
      const { sql, transaction, [storeAccess]: stores } = yield* PgDatabase.PgDatabase
      for (const end of ["rollback and chain", "abort and chain"]) {
        // The session is set for the stores, and nothing in the transaction has switched it.
        yield* stores.run(seenByStore)
        yield* transaction(
          Effect.gen(function* () {
            yield* Effect.flip(stores.run(failingStore))
            yield* sql.unsafe(end)
            assert.deepEqual(yield* sql.unsafe(settingsText), [ofServer], end)
          })
        )
      }
    })
  )

  test(
    "may throw away what is prepared in the session: one connection is given up, and named by no wrong reason",
    Effect.gen(function* () {
      const store = yield* EventStore.EventStore
      const { sql, transaction } = yield* PgDatabase.PgDatabase
      const one = sql`select ${1}::int as one`
      // The first statement after it is a store's, or the user's, for which the session is switched.
      const firsts: ReadonlyArray<Effect.Effect<unknown, unknown>> = [store.version(stream), one]
      for (const first of firsts) {
        yield* transaction(Effect.zipRight(sql`select 1`, sql`deallocate all`))
        yield* Effect.exit(first)
        assert.deepEqual(yield* one, [{ one: 1 }])
        assert.strictEqual(yield* store.version(stream), 0)
      }
    })
  )

  test(
    "with a value that cannot be sent fails alone, and leaves its connection to nobody",
    Effect.gen(function* () {
      const store = yield* EventStore.EventStore
      const { sql, state, transaction } = yield* PgDatabase.PgDatabase
      yield* sql`create table v (n int)`
      const unsendable = sql.unsafe("select $1::json", [{ amount: 1n }])
      const done = yield* Deferred.make<void>()
      const rolledBack = transaction(
        Effect.zipRight(sql`select 1`, Effect.zipRight(Deferred.await(done), Effect.fail("rolled back")))
      )
      const inserted = Effect.zipRight(sql`insert into v values (1)`, Deferred.succeed(done, undefined))
      const work = [Effect.ignore(unsendable), Effect.ignore(rolledBack), inserted]
      // With one connection the insertion waits for the transaction, which here waits for nothing.
      yield* Effect.fork(Effect.delay(Deferred.succeed(done, undefined), "1 second"))
      yield* Effect.all(work, { concurrency: "unbounded" })
      assert.deepEqual(yield* sql`select n from v`, [{ n: 1 }])
      for (const _ of [1, 2, 3]) assert.strictEqual((yield* Effect.exit(unsendable))._tag, "Failure")
      yield* transaction(Effect.zipRight(Effect.ignore(unsendable), sql`insert into v values (2)`))
      assert.deepEqual(yield* sql`select n from v order by n`, [{ n: 1 }, { n: 2 }])
      assert.strictEqual(yield* store.version(stream), 0)
      assert.isAtMost((yield* state).open, 1)
    })
  )

  test(
    "is in no transaction of a fiber that was only joined",
    Effect.gen(function* () {
      const { sql, transaction } = yield* PgDatabase.PgDatabase
      yield* sql`create table u (n int)`
      const forked = yield* Deferred.make<Fiber.Fiber<unknown, unknown>>()
      const joined = yield* Deferred.make<void>()
      const other = yield* Effect.fork(
        transaction(
          Effect.gen(function* () {
            yield* Deferred.succeed(forked, yield* Effect.forkDaemon(sql`select 1`))
            yield* Deferred.await(joined)
            yield* Effect.fail("rolled back")
          })
        )
      )
      yield* Fiber.join(yield* Deferred.await(forked))
      const insertion = yield* Effect.fork(sql`insert into u values (1)`)
      yield* Deferred.succeed(joined, undefined)
      yield* Fiber.await(other)
      yield* Fiber.join(insertion)
      assert.deepEqual(yield* sql`select n from u`, [{ n: 1 }])
    })
  )

  describe("the stores' plans", () => {
    test(
      "are made and kept under the stores' settings, whatever the user does between their statements",
      Effect.gen(function* () {
        const { sql, transaction, [storeAccess]: stores } = yield* PgDatabase.PgDatabase
        yield* sql`create table planned (id int primary key, text text)`
        yield* sql`insert into planned values (1, 'one')`
        yield* sql`analyze planned`
        const lookup: Statement<unknown> = {
          name: "test/lookup",
          text: "select text from planned where id = $1",
          values: [1],
          operation: "lookup",
          kind: "read",
          onResult: ({ rows }) => rows
        }
        const explained: Statement<string> = {
          text: `explain execute "test/lookup" (1)`,
          operation: "explain",
          kind: "read",
          onResult: ({ rows }) => JSON.stringify(rows)
        }
        const bystander = sql`select ${1}::int as one`
        // More often than the server tries before it keeps a plan for all parameters.
        yield* Effect.repeatN(Effect.zipRight(bystander, stores.run(lookup)), 10)
        yield* transaction(Effect.repeatN(Effect.zipRight(bystander, stores.run(lookup)), 10))
        assert.include(yield* stores.run(explained), "planned_pkey")
        assert.include(yield* transaction(Effect.zipRight(bystander, stores.run(explained))), "planned_pkey")
        // Of a table with one row the server would scan all.
        assert.include(JSON.stringify(yield* sql`explain select text from planned where id = ${1}`), "Seq Scan")
      })
    )
  })
})
