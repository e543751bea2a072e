/**
 * Sweeps of the DataStores on SQL against a put that everybody took for dead, and that goes on in the very moment
 * between the sweep's look and its deletes.
 */
import * as path from "node:path"
import Sqlite from "better-sqlite3"
import { Effect, Fiber, type Layer, Redacted } from "effect"
import type { DataStore } from "effect-stores"
import { DataStorePg } from "effect-stores/pg"
import { DataStoreSqlite } from "effect-stores/sqlite"
import { expect, it } from "vitest"
import { describePg, freshDatabase, temporaryDirectory } from "../support/backends.js"
import { withClient } from "../support/databases.js"
import { eventually } from "../support/eventually.js"
import { duringPut } from "./heldPut.js"

/** `meanwhile` starts the sweep, holds it where it has looked, and gives the sign of life for the put. */
const between = (
  layer: Layer.Layer<DataStore.DataStore, unknown>,
  meanwhile: (sweep: Effect.Effect<number, unknown>) => Effect.Effect<number, unknown>
): Promise<void> => duringPut(layer, (store) => Effect.map(meanwhile(store.sweep()), (swept) => expect(swept).toBe(0)))

const title = "a put that gives a sign of life after the sweep has looked loses none of its rows, and is not counted"

it(`${title}: on SQLite`, () => {
  const filename = path.join(temporaryDirectory(), "swept.db")
  return between(DataStoreSqlite.layer({ filename }), (sweep) =>
    Effect.acquireUseRelease(
      Effect.sync(() => new Sqlite(filename)),
      (file) =>
        Effect.gen(function* () {
          file.exec("BEGIN IMMEDIATE")
          const sweeping = yield* Effect.fork(sweep)
          // Looking needs no lock: if it had found nothing, it would have ended. It waits where it deletes.
          for (let turns = 0; turns < 20; turns++) yield* Effect.sleep("2 millis")
          expect(sweeping.unsafePoll()).toBeNull()
          file.prepare("UPDATE es_object_uploads SET touched_ms = ?").run(Date.now())
          file.exec("COMMIT")
          return yield* Fiber.join(sweeping)
        }),
      (file) => Effect.sync(() => file.close())
    )
  )
})

describePg("PostgreSQL", () => {
  it(title, async () => {
    const url = await freshDatabase()
    await between(DataStorePg.layer({ url: Redacted.make(url) }), (sweep) =>
      Effect.promise(() =>
        withClient(url, async (client) => {
          await client.query("begin")
          await client.query("select from es_object_uploads for update")
          const sweeping = Effect.runPromise(sweep)
          const waiting = Effect.promise(() =>
            withClient(url, async (other) => {
              const { rows } = await other.query(
                "select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
              )
              return rows.length
            })
          )
          await Effect.runPromise(eventually(waiting, (count) => count === 1))
          await client.query("update es_object_uploads set touched_ms = $1", [Date.now()])
          await client.query("commit")
          return await sweeping
        })
      )
    )
  })
})
