/**
 * A server that is reached over a Unix socket. There a statement can be written to a connection that has ended already,
 * which the operating system refuses with EPIPE, where TCP takes it and answers later.
 */
import { assert, it } from "@effect/vitest"
import { Effect, Fiber, Layer, Stream } from "effect"
import { EventStore } from "effect-stores"
import { EventStorePg, PgDatabase } from "effect-stores/pg"
import { afterAll, beforeAll } from "vitest"
import { describeOwnPg } from "../support/backends.js"
import { withClient } from "../support/databases.js"
import { type PostgresServer, startPostgres } from "../support/postgres.js"

describeOwnPg("PostgreSQL over a Unix socket", () => {
  let server: PostgresServer
  let directory: string
  beforeAll(async () => {
    server = await startPostgres()
    directory = await withClient(server.url, async (client) => {
      const { rows } = await client.query("show unix_socket_directories")
      return rows[0].unix_socket_directories
    })
  })
  afterAll(() => server.stop())

  const open = Layer.suspend(() =>
    EventStorePg.layer({
      host: directory,
      port: server.port,
      database: "postgres",
      username: "postgres",
      pollInterval: pollMs,
      pool: { maxOpenConns: 1 }
    })
  )

  const pollMs = 20
  const stream = { tenantId: "t", domain: "d", aggregateId: crypto.randomUUID() }
  const event = () => ({ id: crypto.randomUUID(), type: "Happened", data: {} })
  const services = Effect.all([EventStore.EventStore, PgDatabase.PgDatabase])

  const isAlive = (pid: number) => {
    try {
      return process.kill(pid, 0)
    } catch {
      return false
    }
  }

  /** Ends the one connection of the pool, and returns before the event loop can have seen it. */
  const endConnection = (blockedMs = 0) =>
    Effect.flatMap(PgDatabase.PgDatabase, ({ sql }) =>
      Effect.map(sql<{ pid: number }>`select pg_backend_pid() as pid`, ([row]) => {
        if (row === undefined) return
        const endedAt = Date.now()
        process.kill(row.pid, "SIGTERM")
        const wait = new Int32Array(new SharedArrayBuffer(4))
        while (isAlive(row.pid) || Date.now() - endedAt < blockedMs) Atomics.wait(wait, 0, 0, 1)
      })
    )

  it.live("a statement written when its connection has ended fails as what it is, and an append is repeated", () =>
    Effect.gen(function* () {
      const [store, { sql, transaction }] = yield* services
      const { position } = yield* store.append(stream, [event()], { expected: "noStream" })

      yield* endConnection()
      const statement = yield* Effect.flip(sql`select 1`)
      assert.deepInclude(statement.cause, { code: "EPIPE" })

      yield* endConnection()
      const read = yield* Effect.flip(store.version(stream))
      assert.deepInclude(read, { _tag: "StoreUnavailable", retryable: true })

      yield* endConnection()
      const write = yield* Effect.flip(store.maintenance.deleteStream(stream))
      assert.strictEqual(write._tag, "CommitOutcomeUnknown")
      assert.strictEqual(yield* store.version(stream), 1)

      const commit = yield* Effect.flip(transaction(endConnection()))
      assert.strictEqual(commit._tag, "CommitOutcomeUnknown")

      yield* endConnection()
      const one = yield* store.append(stream, [event()], { expected: 1 })
      yield* endConnection()
      const more = yield* store.append(stream, [event(), event()], { expected: 2 })
      assert.isBelow(position, one.position)
      assert.isBelow(one.position, more.position)
      assert.strictEqual(more.version, 4)
    }).pipe(Effect.provide(open))
  )

  it.live("a subscription goes on when its connection has ended between two of its reads", () =>
    Effect.gen(function* () {
      const store = yield* EventStore.EventStore
      const after = yield* store.head
      const subscriber = yield* Effect.fork(Stream.runCount(store.subscribe({ after, limit: 1 })))
      for (let n = 0; n < 5; n++) {
        // It blocks for longer than the poll interval, so what is written next is the subscription's own.
        yield* endConnection(pollMs * 2)
        yield* Effect.sleep(pollMs * 2)
      }
      assert.strictEqual((yield* Fiber.poll(subscriber))._tag, "None")
      yield* store.append(stream, [event()], { expected: "any" })
      assert.strictEqual(yield* Fiber.join(subscriber), 1)
    }).pipe(Effect.provide(open))
  )
})
