/**
 * One of several processes that write to one SQLite file at once: `sqliteLoad.ts <filename> <process> <programs>`.
 * Prints how many programs succeeded, and each error that was seen.
 */
import { Cause, Effect, Exit } from "effect"
import { EventStore } from "effect-stores"
import { EventStoreSqlite, SqliteDatabase } from "effect-stores/sqlite"

const [filename = "", process = "", programs = ""] = globalThis.process.argv.slice(2)

const event = { type: "Placed", data: { process } }

const program = (n: number) =>
  Effect.gen(function* () {
    const store = yield* EventStore.EventStore
    const { transaction } = yield* SqliteDatabase.SqliteDatabase
    const stream = { tenantId: "load", domain: process, aggregateId: String(n) }
    yield* store.append(stream, [event], { expected: "noStream" })
    yield* transaction(store.append(stream, [event], { expected: 1 }))
    if ((yield* store.version(stream)) !== 2) return yield* Effect.fail("an event is not there")
  })

const main = Effect.gen(function* () {
  const exits = yield* Effect.all(
    Array.from({ length: Number(programs) }, (_, n) => Effect.exit(program(n))),
    { concurrency: "unbounded" }
  )
  for (const exit of exits) if (Exit.isFailure(exit)) console.log(Cause.pretty(exit.cause))
  console.log(`${exits.filter(Exit.isSuccess).length} succeeded`)
})

// Where all processors are busy, waiting in line takes longer than by default.
const layer = EventStoreSqlite.layer({ filename, pool: { acquireTimeout: "120 seconds" } })

Effect.runFork(Effect.provide(main, layer))
