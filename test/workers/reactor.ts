/**
 * Runs a reaction and the worker of its commands, which counts each in a table of the stores' database, until it is
 * killed. May stop itself at a place named by the environment, there to be killed by the parent.
 */
import { SqlClient } from "@effect/sql"
import { Cause, DateTime, Effect, Exit, Layer, Logger, Redacted, Schema } from "effect"
import {
  type CheckpointStore,
  CommandStore,
  CommandStoreEncoded,
  CommandWorker,
  type EventStore,
  Projection,
  Reaction
} from "effect-stores"
import { say, sayAndStop } from "./say.js"

const env = process.env

type Stores = EventStore.EventStore | CheckpointStore.CheckpointStore | CommandStore.CommandStore | SqlClient.SqlClient

const point = (place: string) =>
  Effect.sync(() => {
    if (env.WORKER_STOP === place) sayAndStop({ at: place })
  })

/** A CommandStore that can stop around each of its steps. */
const stopping = <E, R>(port: Effect.Effect<CommandStoreEncoded.Encoded, E, R>) =>
  Layer.effect(
    CommandStore.CommandStore,
    Effect.map(port, (encoded) =>
      CommandStoreEncoded.make(
        {
          ...encoded,
          create: (command, lease) =>
            point("before the command").pipe(
              Effect.zipRight(encoded.create(command, lease)),
              Effect.zipLeft(point("after the command, before the checkpoint"))
            ),
          takeOver: (request) => Effect.zipLeft(encoded.takeOver(request), point("taken over")),
          transaction: (self) =>
            Effect.zipLeft(
              encoded.transaction(Effect.zipLeft(self, point("executed, before the commit"))),
              point("after the commit")
            )
        },
        { system: "test" }
      )
    )
  )

/** Only the driver that is used is loaded: start-up is most of a short worker's life. */
const stores = async (): Promise<Layer.Layer<Stores, unknown>> => {
  if (env.WORKER_SQLITE_FILE !== undefined) {
    const { CheckpointStoreSqlite, CommandStoreSqlite, EventStoreSqlite, SqliteDatabase } = await import(
      "effect-stores/sqlite"
    )
    return Layer.mergeAll(
      EventStoreSqlite.layerFromDatabase(),
      CheckpointStoreSqlite.layerFromDatabase(),
      stopping(CommandStoreSqlite.makeEncoded()),
      SqliteDatabase.layerSqlClient
    ).pipe(
      Layer.provide(SqliteDatabase.layer({ filename: env.WORKER_SQLITE_FILE, pool: { acquireTimeout: "1 minute" } }))
    )
  }
  const { CheckpointStorePg, CommandStorePg, EventStorePg, PgDatabase } = await import("effect-stores/pg")
  return Layer.mergeAll(
    EventStorePg.layerFromDatabase(),
    CheckpointStorePg.layerFromDatabase(),
    stopping(CommandStorePg.makeEncoded()),
    PgDatabase.layerSqlClient
  ).pipe(Layer.provide(PgDatabase.layer({ url: Redacted.make(env.WORKER_PG_URL ?? ""), pool: { maxOpenConns: 12 } })))
}

const Happened = Schema.TaggedStruct("Happened", { n: Schema.Number })
const Now = Schema.TaggedStruct("Now", { n: Schema.Number })
const Later = Schema.TaggedStruct("Later", { n: Schema.Number })

const reaction = Reaction.make({
  name: "on_happened",
  events: Happened,
  commands: Schema.Union(Now, Later),
  partitions: 2,
  batchSize: 20,
  lease: Number(env.WORKER_LEASE_MS),
  react: ({ createdAt, data: { n } }) => [
    { domain: "d", command: Now.make({ n }) },
    { domain: "d", command: Later.make({ n }), dueAt: DateTime.add(createdAt, { millis: 300 }) }
  ]
})

const worker = CommandWorker.make({
  name: "counter",
  // How often a process is killed says nothing about a command.
  attempts: 1_000,
  pollInterval: "50 millis",
  handlers: [
    CommandWorker.handler(
      Schema.Union(Now, Later),
      ({ createdAt, data, dueAt, id }) =>
        Effect.gen(function* () {
          const sql = yield* SqlClient.SqlClient
          const early = data._tag === "Later" && (yield* DateTime.now).epochMillis < (dueAt ?? createdAt).epochMillis
          yield* sql`insert into counted as c (id, n, early) values (${id}, 1, ${early ? 1 : 0})
            on conflict (id) do update set n = c.n + 1`
        }),
      { transaction: true, lease: Number(env.WORKER_LEASE_MS) }
    )
  ]
})

const program = Effect.all([Projection.run(reaction), CommandWorker.run(worker)], { concurrency: 2, discard: true })

// Standard output is for reports.
const logging = Logger.replace(Logger.defaultLogger, Logger.withConsoleError(Logger.logfmtLogger))

const exit = await Effect.runPromiseExit(program.pipe(Effect.provide(await stores()), Effect.provide(logging)))
if (Exit.isFailure(exit)) {
  say({ failure: Cause.pretty(exit.cause) })
  process.exitCode = 1
}
