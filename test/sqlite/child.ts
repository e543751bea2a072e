/**
 * The other process in tests of the SQLite backend: `child.ts <command> <filename>`.
 */
import * as fs from "node:fs"
import Sqlite from "better-sqlite3"
import { Effect, Exit } from "effect"
import { EventStore } from "effect-stores"
import { EventStoreSqlite, SqliteDatabase } from "effect-stores/sqlite"

const [command, filename = ""] = process.argv.slice(2)

const stream = { tenantId: "tenant", domain: "order", aggregateId: "child" }
const event = (i: number) => ({ id: `00000000-0000-7000-8000-${String(i).padStart(12, "0")}`, type: "Placed", data: i })

const say = (line: string): void => {
  // At once, so that a trace shows the line between the system calls before and after it.
  fs.writeSync(1, `${line}\n`)
}

const withStore = <A, E>(effect: Effect.Effect<A, E, EventStore.EventStore | SqliteDatabase.SqliteDatabase>) =>
  Effect.provide(effect, EventStoreSqlite.layer({ filename }))

const commands: { readonly [command: string]: Effect.Effect<void, unknown> } = {
  migrate: Effect.map(EventStoreSqlite.migrate({ filename }), (names) => say(`applied ${names.join(",")}`)),

  start: withStore(
    Effect.flatMap(EventStore.EventStore, (store) =>
      Effect.map(store.append(stream, [{ type: "Started", data: process.pid }], { expected: "any" }), () =>
        say("started")
      )
    )
  ),

  append: withStore(
    Effect.flatMap(EventStore.EventStore, (store) =>
      Effect.forEach(
        Array.from({ length: 50 }, (_, i) => i),
        (i) => Effect.map(store.append(stream, [event(i)], { expected: i }), () => say(`acknowledged ${i}`))
      )
    )
  ),

  // Repeats an append whose outcome is not known, with the same id.
  appendOnFaultyDisk: withStore(
    Effect.flatMap(EventStore.EventStore, (store) =>
      Effect.forEach(
        Array.from({ length: 50 }, (_, i) => i),
        (i) =>
          Effect.retry(
            Effect.tapError(store.append(stream, [event(i)], { expected: i }), (error) =>
              Effect.sync(() => say(`failed ${error._tag}`))
            ),
            { while: (error) => error._tag === "CommitOutcomeUnknown", times: 3 }
          )
      )
    )
  ),

  // The same of appends that share their commits.
  appendTogetherOnFaultyDisk: withStore(
    Effect.flatMap(Effect.all([EventStore.EventStore, SqliteDatabase.SqliteDatabase]), ([store, { transaction }]) =>
      Effect.forEach(
        Array.from({ length: 30 }, (_, i) => i),
        (i) => {
          const one = (aggregateId: string) =>
            Effect.retry(
              Effect.tapError(
                store.append(
                  { ...stream, aggregateId },
                  [{ ...event(i), id: event(i).id.replace(/^./, aggregateId) }],
                  { expected: i }
                ),
                (error) => Effect.sync(() => say(`failed ${error._tag}`))
              ),
              { while: (error) => error._tag === "CommitOutcomeUnknown", times: 3 }
            )
          // They wait while the connection is taken.
          const holding = transaction(Effect.sleep("10 millis"))
          return Effect.all([holding, ...["a", "b", "c"].map(one)], { concurrency: "unbounded", discard: true })
        },
        { discard: true }
      )
    )
  ),

  read: Effect.provide(
    Effect.flatMap(EventStore.EventStore, (store) => Effect.map(store.count(), (count) => say(`read ${count}`))),
    EventStoreSqlite.layer({ filename, readOnly: true, migrate: false })
  ),

  // Until it is told to end.
  lock: Effect.sync(() => {
    const db = new Sqlite(filename)
    db.exec("BEGIN IMMEDIATE")
    say("locked")
    process.stdin.on("end", () => {
      db.exec("COMMIT")
      db.close()
    })
    process.stdin.resume()
  })
}

Effect.runCallback(commands[command ?? ""] ?? Effect.fail(`no command ${command}`), {
  onExit: (exit) => {
    if (Exit.isFailure(exit)) {
      console.error(String(exit.cause))
      process.exitCode = 1
    }
  }
})
