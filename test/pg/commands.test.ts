/**
 * The CommandStore on PostgreSQL beyond its contract.
 */
import { assert, it } from "@effect/vitest"
import {
  Config,
  ConfigProvider,
  Context,
  DateTime,
  Deferred,
  Effect,
  Fiber,
  Layer,
  Redacted,
  Schema,
  type Scope,
  Stream
} from "effect"
import { CommandStore, CommandWorker, Errors, Pool } from "effect-stores"
import { CommandStorePg, EventStorePg, PgDatabase } from "effect-stores/pg"
import { storeAccess } from "../../src/pg/database/access.js"
import { describeOwnPg, describePg, freshDatabase } from "../support/backends.js"
import { commandsOnSql, encodedCommand, lease, newCommand } from "../support/commandsOnSql.js"
import { eventually } from "../support/eventually.js"
import { startPostgres } from "../support/postgres.js"
import { type Proxy, startProxy } from "../support/proxy.js"
import { storeMigrations } from "./support/migrations.js"
import { query } from "./support/query.js"

const success = Schema.String

const createOne = Effect.flatMap(CommandStore.CommandStore, (store) => store.create(newCommand()))

/** Whether somebody waits for another's lock. */
const waiting = (url: string) =>
  Effect.map(
    query(url, "select from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"),
    ({ rowCount }) => rowCount === 1
  )

/** Holds what the statement locks until the scope closes. */
const locking = (url: string, statement: string) =>
  Effect.gen(function* () {
    const { sql, transaction } = Context.get(
      yield* Layer.build(PgDatabase.layer({ url: Redacted.make(url), idleInTransactionTimeout: "1 hour" })),
      PgDatabase.PgDatabase
    )
    const held = yield* Deferred.make<void>()
    const holding = transaction(
      Effect.zipRight(sql.unsafe(statement), Effect.zipRight(Deferred.succeed(held, undefined), Effect.never))
    )
    yield* Effect.forkScoped(holding)
    yield* Deferred.await(held)
  })

const Do = Schema.TaggedStruct("Do", { id: Schema.String })
const worker = CommandWorker.make({
  name: "w",
  handlers: [CommandWorker.handler(Do, () => Effect.succeed("by a worker"), { success: Schema.String })]
})

describePg("CommandStore on PostgreSQL", () => {
  commandsOnSql({
    place: async () => {
      const url = await freshDatabase()
      return {
        database: PgDatabase.layer({ url: Redacted.make(url), pool: { maxOpenConns: 4 } }),
        env: { WORKER_PG_URL: url }
      }
    },
    tag: PgDatabase.PgDatabase,
    commands: CommandStorePg.layerFromDatabase,
    port: CommandStorePg.makeEncoded,
    events: EventStorePg.layerFromDatabase,
    pauses: ["claimed", "appended"]
  })

  it.live(
    "who creates a command that another transaction is creating waits for its end, and gets what came of it",
    () =>
      Effect.gen(function* () {
        const url = yield* Effect.promise(freshDatabase)
        yield* Effect.gen(function* () {
          const store = yield* CommandStore.CommandStore
          const { transaction } = yield* PgDatabase.PgDatabase
          for (const end of [Effect.void, Effect.fail("undo")]) {
            const command = newCommand()
            const created = yield* Deferred.make<void>()
            const enough = yield* Deferred.make<void>()
            const first = yield* Effect.fork(
              transaction(
                Effect.gen(function* () {
                  const { position } = yield* store.create(command)
                  yield* Deferred.succeed(created, undefined)
                  yield* Deferred.await(enough)
                  yield* end
                  return position
                })
              )
            )
            yield* Deferred.await(created)
            const second = yield* Effect.fork(store.create(command))
            yield* eventually(waiting(url))
            yield* Deferred.succeed(enough, undefined)
            const [one, other] = [yield* Fiber.await(first), yield* Fiber.join(second)]
            if (one._tag === "Success") assert.strictEqual(other.position, one.value)
            assert.strictEqual(yield* store.count({ types: [command.type] }), end === Effect.void ? 1 : 2)
          }
        }).pipe(Effect.provide(CommandStorePg.layer({ url: Redacted.make(url) })))
      })
  )

  it.live("what ends an attempt keeps its lock to the end of the transaction, so that nobody takes it over", () =>
    Effect.gen(function* () {
      const url = yield* Effect.promise(freshDatabase)
      const database = yield* Layer.build(PgDatabase.layer({ url: Redacted.make(url) }))
      yield* Effect.gen(function* () {
        const port = yield* CommandStorePg.makeEncoded()
        const { transaction } = yield* PgDatabase.PgDatabase
        for (const undone of [false, true]) {
          const id = crypto.randomUUID()
          const first = lease(1)
          const { position } = (yield* port.create(encodedCommand(id), first)).command
          yield* eventually(
            Effect.map(
              port.create(encodedCommand(id), null),
              (found) => found._tag === "Exists" && found.leaseLeftMs === 0
            )
          )
          const finish = { id, position, status: "failed", outcome: "1", outcomeKeyId: null, finishedAt: 1 } as const
          const finished = yield* Deferred.make<void>()
          const enough = yield* Deferred.make<void>()
          const ending = yield* Effect.fork(
            transaction(
              Effect.gen(function* () {
                assert.isTrue(yield* port.finish(finish))
                yield* Deferred.succeed(finished, undefined)
                yield* Deferred.await(enough)
                if (undone) yield* Effect.fail("undo")
              })
            )
          )
          yield* Deferred.await(finished)
          const taking = yield* Effect.fork(port.takeOver({ ...lease(60_000), id, position, attempts: 1 }))
          yield* eventually(waiting(url))
          yield* Deferred.succeed(enough, undefined)
          yield* Fiber.await(ending)
          assert.strictEqual(yield* Fiber.join(taking), undone)
          assert.isFalse(yield* port.renew({ ...first, id }))
          assert.strictEqual(yield* port.finish(finish), undone)
        }
      }).pipe(Effect.provide(database))
    }).pipe(Effect.scoped)
  )

  // What is in the way of a claim, until the scope closes.
  const inTheWay: ReadonlyArray<
    readonly [
      name: string,
      hold: (place: {
        readonly id: string
        readonly url: string
        readonly ours: PgDatabase.PgDatabase["Type"]
        readonly proxy: Proxy
      }) => Effect.Effect<void, unknown, Scope.Scope>
    ]
  > = [
    ["its row locked", ({ id, url }) => locking(url, `select from es_commands where id = '${id}' for update`)],
    ["its table locked", ({ url }) => locking(url, "lock table es_commands in access exclusive mode")],
    [
      "the pool's only connection in use",
      ({ ours }) =>
        Effect.gen(function* () {
          const held = yield* Deferred.make<void>()
          yield* Effect.forkScoped(ours.transaction(Effect.zipRight(Deferred.succeed(held, undefined), Effect.never)))
          yield* Deferred.await(held)
        })
    ],
    [
      "a server that is silent",
      ({ proxy }) => Effect.acquireRelease(Effect.sync(proxy.hold), () => Effect.sync(proxy.release))
    ]
  ]
  for (const [name, hold] of inTheWay) {
    it.live(
      `an execution that waits with ${name} ends when its caller's time is over, and leaves no lease behind`,
      () =>
        Effect.gen(function* () {
          const url = yield* Effect.promise(freshDatabase)
          const proxy = yield* Effect.acquireRelease(
            Effect.promise(() => startProxy(Number(new URL(url).port || 5432))),
            (proxy) => Effect.sync(proxy.stop)
          )
          const through = new URL(url)
          through.host = `127.0.0.1:${proxy.port}`
          // Longer than the test may take: nothing but the caller ends the waiting.
          const long = "1 hour"
          const database = PgDatabase.layer({
            url: Redacted.make(through.href),
            pool: { maxOpenConns: 1, acquireTimeout: long },
            lockTimeout: long,
            statementTimeout: long,
            idleInTransactionTimeout: long
          })
          yield* Effect.gen(function* () {
            const store = yield* CommandStore.CommandStore
            const [open, fresh] = [newCommand(), newCommand()]
            yield* store.create(open)
            const asked = name === "its row locked" ? [open] : [open, fresh]
            yield* Effect.scoped(
              Effect.gen(function* () {
                yield* hold({ id: open.id, url, ours: yield* PgDatabase.PgDatabase, proxy })
                for (const command of asked) {
                  const execute = store.execute(command, Effect.die("must not run"), { success, lease: "1 hour" })
                  const error = yield* Effect.flip(Effect.timeout(execute, "300 millis"))
                  assert.strictEqual(error._tag, "TimeoutException")
                }
              })
            )
            for (const command of [open, fresh]) {
              // With an hour's lease left behind it would wait for that.
              const answer = yield* store.execute(command, Effect.succeed("done"), { success, lease: "1 hour" })
              assert.strictEqual(answer, "done")
            }
          }).pipe(Effect.provide(Layer.provideMerge(CommandStorePg.layerFromDatabase(), database)))
        }).pipe(Effect.scoped)
    )
  }

  it.live("rows of earlier versions are read, and their commands executed to the end, by a worker too", () =>
    Effect.gen(function* () {
      const url = yield* Effect.promise(freshDatabase)
      yield* Effect.provide(Effect.asVoid(CommandStore.CommandStore), CommandStorePg.layer({ url: Redacted.make(url) }))
      yield* query(url, "alter table es_commands drop column token, drop column changed, drop column due_ms")
      yield* query(url, "delete from es_migrations where store = 'CommandStore' and id > 1")
      const [received, leased, finished, open] = [newCommand(), newCommand(), newCommand(), newCommand()]
      for (const [{ data, id }, status, attempts, leaseEndMs, outcome] of [
        [received, "received", 0, 0, null],
        [leased, "received", 1, Date.now() + 500, null],
        [finished, "succeeded", 1, 0, `"before"`],
        [open, "received", 0, 0, null]
      ] as const) {
        yield* query(
          url,
          `insert into es_commands (id, tenant_id, domain, type, data, metadata, created_ms, status, attempts, lease_end_ms, outcome)
           values ($1, 't', 'd', 'Do', $2, '{}', 0, $3, $4, $5, $6)`,
          [id, JSON.stringify(data), status, attempts, leaseEndMs, outcome]
        )
      }
      yield* Effect.gen(function* () {
        const store = yield* CommandStore.CommandStore
        const attempt = Effect.map(CommandStore.CurrentCommand, ({ attempt }) => `attempt ${attempt}`)
        const answers = yield* Effect.forEach([received, leased, finished], (command) =>
          store.execute(command, attempt, { success })
        )
        assert.deepStrictEqual(answers, ["attempt 1", "attempt 2", "before"])
        assert.strictEqual((yield* Effect.flip(store.create({ ...finished, data: 2 })))._tag, "DuplicateCommand")
        assert.strictEqual(yield* CommandWorker.catchUp(worker), 1)
        assert.strictEqual(yield* store.execute(open, attempt, { success }), "by a worker")
      }).pipe(Effect.provide(CommandStorePg.layer({ url: Redacted.make(url) })))
    })
  )

  it.live("pruning looks again at a command that somebody is just opening", () =>
    Effect.gen(function* () {
      const url = yield* Effect.promise(freshDatabase)
      const layer = CommandStorePg.layer({ url: Redacted.make(url) })
      yield* Effect.gen(function* () {
        const store = yield* CommandStore.CommandStore
        const { transaction } = yield* PgDatabase.PgDatabase
        const [opened, done] = [newCommand(), newCommand()]
        for (const command of [opened, done]) {
          yield* store.create(command)
          yield* store.update(command.id, { status: "failed" })
        }
        const updated = yield* Deferred.make<void>()
        const enough = yield* Deferred.make<void>()
        const opening = yield* Effect.fork(
          transaction(
            Effect.gen(function* () {
              yield* store.update(opened.id, { status: "received" })
              yield* Deferred.succeed(updated, undefined)
              yield* Deferred.await(enough)
            })
          )
        )
        yield* Deferred.await(updated)
        const pruning = yield* Effect.fork(store.prune({ createdUntil: DateTime.unsafeMake(Date.now() + 60_000) }))
        yield* eventually(waiting(url))
        yield* Deferred.succeed(enough, undefined)
        yield* Fiber.join(opening)
        assert.strictEqual(yield* Fiber.join(pruning), 1)
        assert.strictEqual(yield* store.count({ statuses: ["received"] }), 1)
      }).pipe(Effect.provide(layer))
    })
  )

  it.live("no statement but those that count scans the table, though it was analyzed while it was empty", () =>
    Effect.gen(function* () {
      const url = yield* Effect.promise(freshDatabase)
      const layer = CommandStorePg.layer({ url: Redacted.make(url), pool: { maxOpenConns: 1 } })
      yield* Effect.gen(function* () {
        const store = yield* CommandStore.CommandStore
        const { sql, transaction } = yield* PgDatabase.PgDatabase
        yield* sql`analyze es_commands`
        const command = newCommand()
        // Fails every other time, so that a command is put off, and given up.
        let runs = 0
        const handler = CommandWorker.handler(Do, () => (runs++ % 2 === 0 ? Effect.fail("no") : Effect.void))
        const failing = CommandWorker.make({ name: "w", domain: "d", handlers: [handler], attempts: 2, pause: 1 })
        const all = Effect.gen(function* () {
          yield* store.execute(newCommand(), Effect.succeed("done"), { success })
          yield* store.create(command)
          yield* store.get(command.id)
          yield* store.update(command.id, { data: 1 })
          yield* store.update(command.id, { data: { id: command.id } })
          yield* Stream.runDrain(store.list())
          yield* store.page({ direction: "backward", limit: 10, filter: { statuses: ["received"] } })
          yield* store.prune({ createdUntil: DateTime.unsafeMake(0) })
          yield* store.delete(crypto.randomUUID())
          yield* store.cancel((yield* store.create(newCommand())).id)
          yield* store.create(newCommand())
          yield* CommandWorker.catchUp(failing)
        })
        // More than the server tries before it keeps a plan for all parameters.
        yield* Effect.repeatN(all, 10)
        const scans = sql.unsafe(
          "select seq_scan::int as whole from pg_stat_xact_user_tables where relname = 'es_commands'"
        )
        yield* transaction(
          Effect.gen(function* () {
            // Others than ours may not be reported yet.
            const before = yield* scans
            yield* all
            assert.deepStrictEqual(yield* scans, before)
          })
        )
      }).pipe(Effect.provide(layer))
    })
  )

  it.live(
    "a worker finds open commands by the index that has them alone, though it was analyzed while it was empty",
    () =>
      Effect.gen(function* () {
        const url = yield* Effect.promise(freshDatabase)
        const layer = CommandStorePg.layer({ url: Redacted.make(url), pool: { maxOpenConns: 1 } })
        yield* Effect.gen(function* () {
          const store = yield* CommandStore.CommandStore
          const { sql, transaction } = yield* PgDatabase.PgDatabase
          yield* sql`analyze es_commands`
          const look = CommandWorker.catchUp(worker)
          // More than the server tries before it keeps a plan for all parameters.
          yield* Effect.repeatN(look, 10)
          yield* Effect.forEach(Array.from({ length: 100 }), () => store.execute(newCommand(), Effect.void))
          const scans = sql.unsafe<{ readonly name: string; readonly n: number }>(
            `select indexrelid::regclass::text as name, pg_stat_get_xact_numscans(indexrelid)::int as n
           from pg_index where indrelid = 'es_commands'::regclass order by 1`
          )
          yield* transaction(
            Effect.gen(function* () {
              const before = yield* scans
              yield* look
              const after = yield* scans
              assert.deepStrictEqual(
                after.filter(({ n }, i) => n > (before[i]?.n ?? 0)).map(({ name }) => name),
                ["es_commands_due"]
              )
            })
          )
        }).pipe(Effect.provide(layer))
      })
  )

  it.live("comes from Config, with up to 25 connections by default", () =>
    Effect.gen(function* () {
      const url = yield* Effect.promise(freshDatabase)
      const layer = CommandStorePg.layerConfig({
        url: Config.redacted("URL"),
        schema: Config.string("SCHEMA"),
        instanceId: Config.string("INSTANCE"),
        pool: Config.nested(Pool.config, "POOL")
      })
      const config = ConfigProvider.fromMap(
        new Map([
          ["URL", url],
          ["SCHEMA", "apart"],
          ["INSTANCE", "one"],
          ["POOL.MAX_IDLE_CONNS", "3"]
        ])
      )
      yield* Effect.gen(function* () {
        assert.strictEqual((yield* createOne).instanceId, "one")
        assert.deepInclude((yield* PgDatabase.PgDatabase)[storeAccess].limits, { maxOpenConns: 25, maxIdleConns: 3 })
        assert.strictEqual((yield* query(url, "select 1 from apart.es_commands")).rowCount, 1)
      }).pipe(Effect.provide(layer), Effect.withConfigProvider(config))
    })
  )

  storeMigrations(
    "CommandStorePg",
    CommandStorePg,
    ["commands", "attempt tokens", "due commands"],
    Effect.map(createOne, ({ position }) => assert.isAbove(position, 0))
  )

  it.live("refuses an option of another store", () =>
    Effect.gen(function* () {
      const options = { url: Redacted.make(yield* Effect.promise(freshDatabase)), pollInterval: "1 second" }
      const refused = yield* Effect.flip(Effect.scoped(Layer.build(CommandStorePg.layer(options as never))))
      assert.include(refused, { _tag: "InvalidInput" })
    })
  )
})

describeOwnPg("CommandStore on PostgreSQL that restarts", () => {
  it.live("an execution goes on over a restart of the server, and is finished once", () =>
    Effect.gen(function* () {
      const server = yield* Effect.acquireRelease(
        Effect.promise(() => startPostgres()),
        (server) => Effect.promise(server.stop)
      )
      for (const mode of ["fast", "immediate"] as const) {
        const url = yield* Effect.promise(() => server.createDatabase())
        yield* Effect.gen(function* () {
          const store = yield* CommandStore.CommandStore
          const command = newCommand()
          let runs = 0
          const work = Effect.suspend(() => {
            runs++
            return Effect.as(runs === 1 ? Effect.promise(() => server.restart(mode)) : Effect.void, `run ${runs}`)
          })
          const execute = store.execute(command, work, { success })
          assert.strictEqual(yield* execute, "run 1")
          assert.strictEqual(yield* execute, "run 1")

          // In a transaction the restart undoes it, and asking again runs it again.
          const inOne = newCommand()
          runs = 0
          const transacted = store.execute(inOne, Effect.zipRight(createOne, work), {
            success,
            transaction: true,
            lease: "500 millis"
          })
          const before = yield* store.count()
          const answer = yield* Effect.retry(transacted, {
            while: Errors.isRetryable,
            times: 10
          })
          assert.strictEqual(answer, "run 2")
          assert.strictEqual(yield* store.count(), before + 2)
        }).pipe(Effect.provide(CommandStorePg.layer({ url: Redacted.make(url) })))
      }
    }).pipe(Effect.scoped)
  )
})
