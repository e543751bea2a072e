/**
 * Executes commands on a CommandStore and an EventStore that share one database, and reports what came of each. Either
 * one command, stopping itself at a place named by the environment, there to be killed or continued by the parent; or
 * many, at the same time as other processes, by many fibers.
 */
import { Cause, Effect, Exit, Layer, Logger, Redacted, Schema } from "effect"
import { CommandStore, CommandStoreEncoded, EventStore } from "effect-stores"
import { say, sayAndStop } from "./say.js"
import { streamOf } from "./store.js"

const env = process.env
const name = env.WORKER_NAME ?? ""

type Stores = CommandStore.CommandStore | EventStore.EventStore

/** A CommandStore that can stop on its way into a transaction, and before it commits. */
const stopping = <E, R>(port: Effect.Effect<CommandStoreEncoded.Encoded, E, R>) =>
  Layer.effect(
    CommandStore.CommandStore,
    Effect.map(port, (encoded) =>
      CommandStoreEncoded.make(
        {
          ...encoded,
          transaction: (self) =>
            Effect.zipRight(point("claimed"), encoded.transaction(Effect.zipLeft(self, point("finished"))))
        },
        { system: "test" }
      )
    )
  )

/** Only the driver that is used is loaded: start-up is most of a short worker's life. */
const stores = async (): Promise<Layer.Layer<Stores, unknown>> => {
  if (env.WORKER_SQLITE_FILE !== undefined) {
    const { CommandStoreSqlite, EventStoreSqlite, SqliteDatabase } = await import("effect-stores/sqlite")
    const database = SqliteDatabase.layer({ filename: env.WORKER_SQLITE_FILE, pool: { acquireTimeout: "1 minute" } })
    const both = Layer.merge(stopping(CommandStoreSqlite.makeEncoded()), EventStoreSqlite.layerFromDatabase())
    return Layer.provide(both, database)
  }
  const { CommandStorePg, EventStorePg, PgDatabase } = await import("effect-stores/pg")
  const database = PgDatabase.layer({ url: Redacted.make(env.WORKER_PG_URL ?? ""), pool: { maxOpenConns: 4 } })
  const both = Layer.merge(stopping(CommandStorePg.makeEncoded()), EventStorePg.layerFromDatabase())
  return Layer.provide(both, database)
}

const commandOf = (id: string): CommandStore.NewCommand => ({
  id,
  tenantId: "t",
  domain: "d",
  type: "Do",
  data: { id }
})

const point = (place: string) =>
  Effect.sync(() => {
    if (env.WORKER_STOP === place) sayAndStop({ at: place })
    else if (env.WORKER_REPORT === place) say({ at: place })
  })

/** For how long the effect keeps the event loop busy. */
const blockMs = Number(env.WORKER_BLOCK_MS ?? 0)

const one = (id: string) =>
  Effect.gen(function* () {
    const events = yield* EventStore.EventStore
    const commands = yield* CommandStore.CommandStore
    if (env.WORKER_PROCESSES !== undefined) yield* allReady(commands, id, Number(env.WORKER_PROCESSES))
    const work = Effect.gen(function* () {
      const { attempt } = yield* CommandStore.CurrentCommand
      const event = { type: "Ran", data: { attempt }, commandId: id }
      yield* events.append(streamOf(`${id} ${name}`), [event], { expected: "any" })
      yield* point("appended")
      if (blockMs > 0) {
        say({ begun: attempt })
        for (const endMs = Date.now() + blockMs; Date.now() < endMs; );
      }
      return name
    })
    const answer = yield* commands.execute(commandOf(id), work, {
      success: Schema.String,
      lease: Number(env.WORKER_LEASE_MS),
      transaction: env.WORKER_TRANSACTION !== undefined
    })
    say({ answer })
  })

const Refused = Schema.Struct({ _tag: Schema.Literal("Refused"), by: Schema.String })

/** Starting takes longer than executing, so all processes wait for the last. */
const allReady = (commands: CommandStore.CommandStoreShape, tenantId: string, processes: number) =>
  Effect.zipRight(
    commands.create({ ...commandOf(crypto.randomUUID()), tenantId, type: "Ready" }),
    Effect.repeat(Effect.delay(commands.count({ tenantId, types: ["Ready"] }), "5 millis"), {
      until: (ready) => ready >= processes
    })
  )

/** Each process asks for each command twice, by two fibers that come to it at about the same time. */
const race = (ids: ReadonlyArray<string>, processes: number, fibers: number) =>
  Effect.gen(function* () {
    const events = yield* EventStore.EventStore
    const commands = yield* CommandStore.CommandStore
    yield* allReady(commands, "t", processes)
    let next = 0
    const execute = Effect.suspend(() => {
      const turn = next++
      const id = ids[Math.trunc(turn / 2)] as string
      const work = Effect.gen(function* () {
        yield* events.append(streamOf(id), [{ type: "Ran", data: name }], { expected: "any" })
        const by = `${name} in turn ${turn}`
        return turn % 10 < 2 ? yield* Effect.fail(Refused.make({ _tag: "Refused", by })) : by
      })
      return commands.execute(commandOf(id), work, { success: Schema.String, failure: Refused }).pipe(
        Effect.map((by) => ({ id, succeeded: by })),
        Effect.catchTag("Refused", ({ by }) => Effect.succeed({ id, refused: by })),
        Effect.map(say)
      )
    })
    yield* Effect.all(
      Array.from({ length: fibers }, () =>
        Effect.whileLoop({ while: () => next < 2 * ids.length, body: () => execute, step: () => {} })
      ),
      { concurrency: "unbounded" }
    )
  })

const program =
  env.WORKER_COMMAND === undefined
    ? race(
        Array.from(
          { length: Number(env.WORKER_COMMANDS) },
          (_, n) => `00000000-0000-7000-8000-${`${n}`.padStart(12, "0")}`
        ),
        Number(env.WORKER_PROCESSES),
        Number(env.WORKER_FIBERS)
      )
    : one(env.WORKER_COMMAND)

// Standard output is for reports.
const logging = Logger.replace(Logger.defaultLogger, Logger.withConsoleError(Logger.logfmtLogger))

const exit = await Effect.runPromiseExit(program.pipe(Effect.provide(await stores()), Effect.provide(logging)))
if (Exit.isFailure(exit)) {
  say({ failure: Cause.pretty(exit.cause) })
  process.exitCode = 1
}
