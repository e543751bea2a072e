/**
 * Runs a projection that counts the events of each stream in a table of the stores' database, until it is killed. On
 * SIGUSR2 it stops in the middle of its next batch, as if by SIGSTOP from outside. Or counts the first of them the way
 * that comes to mind first: the position is read, then each event and its position are written in a transaction.
 */
import { SqlClient } from "@effect/sql"
import { Cause, Effect, Exit, Layer, Logger, Redacted, Schema, Stream } from "effect"
import { CheckpointStore, EventStore, Projection } from "effect-stores"
import { say, sayAndStop } from "./say.js"

const env = process.env

/** Only the driver that is used is loaded: start-up is most of a short worker's life. */
const stores = async () => {
  if (env.WORKER_SQLITE_FILE !== undefined) {
    const { CheckpointStoreSqlite, EventStoreSqlite, SqliteDatabase } = await import("effect-stores/sqlite")
    return Layer.mergeAll(
      EventStoreSqlite.layerFromDatabase(),
      CheckpointStoreSqlite.layerFromDatabase(),
      SqliteDatabase.layerSqlClient
    ).pipe(Layer.provide(SqliteDatabase.layer({ filename: env.WORKER_SQLITE_FILE })))
  }
  const { CheckpointStorePg, EventStorePg, PgDatabase } = await import("effect-stores/pg")
  return Layer.mergeAll(
    EventStorePg.layerFromDatabase(),
    CheckpointStorePg.layerFromDatabase(),
    PgDatabase.layerSqlClient
  ).pipe(Layer.provide(PgDatabase.layer({ url: Redacted.make(env.WORKER_PG_URL ?? ""), pool: { maxOpenConns: 6 } })))
}

const Happened = Schema.TaggedStruct("Happened", { n: Schema.Number })

/** One row for each stream; `disorder` counts events that did not come right after the one before. */
const count = (table: string, events: ReadonlyArray<EventStore.StreamId & { readonly version: number }>) =>
  Effect.flatMap(SqlClient.SqlClient, (sql) =>
    Effect.forEach(
      events,
      ({ aggregateId, version }) =>
        sql`insert into ${sql(table)} as c (id, n, last, disorder) values (${aggregateId}, 1, ${version}, 0)
            on conflict (id) do update set
              n = c.n + 1,
              disorder = c.disorder + case when c.last + 1 = excluded.last then 0 else 1 end,
              last = excluded.last`,
      { discard: true }
    )
  )

let isDue = false
process.on("SIGUSR2", () => {
  isDue = true
})

/** The next handler stops this process, which has no other transaction then: it would keep its rows from others. */
let isStopping = false
let open = 0
const gate = Effect.unsafeMakeLatch(true)
const alone = Effect.repeat(Effect.sleep("1 millis"), { until: () => open === 0 })

/** Until it is continued. */
const stop = Effect.sync(() => {
  isStopping = false
  sayAndStop({ stopped: true })
})

/** Where one writes at a time, nobody could take over while it is stopped in a transaction. */
const beforeIt = env.WORKER_SQLITE_FILE !== undefined

const watched = (store: CheckpointStore.CheckpointStoreShape): CheckpointStore.CheckpointStoreShape => ({
  ...store,
  transaction: (self) => {
    const counted = Effect.suspend(() => {
      open++
      return Effect.ensuring(
        store.transaction(self),
        Effect.sync(() => open--)
      )
    })
    return gate.whenOpen(
      Effect.suspend(() => {
        if (!isDue) return counted
        isDue = false
        gate.unsafeClose()
        const stopping = Effect.sync(() => {
          isStopping = true
        })
        // Uninterruptible, or what renews the lease would know first that it is lost, and nothing would be committed.
        return Effect.zipRight(alone, Effect.zipRight(beforeIt ? stop : stopping, counted)).pipe(
          Effect.uninterruptible,
          Effect.ensuring(gate.open)
        )
      })
    )
  },
  commit: (...args) =>
    Effect.tapErrorTag(store.commit(...args), "CheckpointLost", () => Effect.sync(() => say({ refused: true })))
})

const counted = Projection.make({
  name: "counted",
  delivery: "exactlyOnce",
  events: Happened,
  partitions: 4,
  batchSize: 20,
  lease: Number(env.WORKER_LEASE_MS),
  handle: (events) =>
    // Holds the transaction open, for a kill to meet it.
    count("counted", events).pipe(
      Effect.zipRight(Effect.suspend(() => (isStopping ? stop : Effect.void))),
      Effect.zipRight(Effect.sleep(Number(env.WORKER_HOLD_MS)))
    )
})

/** All processes read the position before any of them writes. */
const naive = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  const store = yield* EventStore.EventStore
  const [row] = yield* sql<{ position: number | string }>`select position from naive_position`
  yield* sql`insert into naive_ready values (${env.WORKER_NAME ?? ""})`
  yield* Effect.repeat(Effect.delay(sql<{ n: number | string }>`select count(*) as n from naive_ready`, "5 millis"), {
    until: ([ready]) => Number(ready?.n) >= Number(env.WORKER_PROCESSES)
  })
  const first = Stream.take(store.feed({ after: Number(row?.position) }), Number(env.WORKER_NAIVE))
  yield* Stream.runForEach(first, (event) =>
    sql.withTransaction(
      Effect.zipRight(count("naive", [event]), sql`update naive_position set position = ${event.position}`)
    )
  )
})

type Needs = EventStore.EventStore | CheckpointStore.CheckpointStore | SqlClient.SqlClient

const program: Effect.Effect<void, unknown, Needs> =
  env.WORKER_NAIVE === undefined
    ? Effect.updateService(
        Projection.run(counted, { owner: env.WORKER_NAME }),
        CheckpointStore.CheckpointStore,
        watched
      )
    : naive

// Standard output is for reports.
const logging = Logger.replace(Logger.defaultLogger, Logger.withConsoleError(Logger.logfmtLogger))

const exit = await Effect.runPromiseExit(program.pipe(Effect.provide(await stores()), Effect.provide(logging)))
if (Exit.isFailure(exit)) {
  say({ failure: Cause.pretty(exit.cause) })
  process.exitCode = 1
}
