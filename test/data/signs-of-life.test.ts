/**
 * What is being written says so from time to time, so that no sweep takes it for what a dead process has left, however
 * long its body keeps it waiting. On S3 it is in test/data/minio.test.ts.
 */
import * as fs from "node:fs"
import * as path from "node:path"
import { Effect, type Layer, Redacted } from "effect"
import type { DataStore } from "effect-stores"
import { DataStoreFileSystem } from "effect-stores/fs"
import { DataStorePg } from "effect-stores/pg"
import { DataStoreSqlite } from "effect-stores/sqlite"
import { expect, it } from "vitest"
import { describePg, freshDatabase, temporaryDirectory } from "../support/backends.js"
import { eventually } from "../support/eventually.js"
import { duringPut, hoursMs } from "./heldPut.js"

/** A put that waits for hours in the middle of its body; `age` makes it so where files and not clocks tell the time. */
const longPut = (
  layer: Layer.Layer<DataStore.DataStore, unknown>,
  hasBegun: Effect.Effect<boolean>,
  age: () => void = () => {}
): Promise<void> =>
  duringPut(layer, (store, time) =>
    Effect.gen(function* () {
      yield* eventually(hasBegun)
      age()
      yield* eventually(Effect.sync(() => time.sleepers() > 0))
      time.moveTo(Date.now())
      // The sign is given when its sleeper sleeps again.
      yield* eventually(Effect.sync(() => time.sleepers() > 0))
      expect(yield* store.sweep()).toBe(0)
    })
  )

it("a file that is being written is touched, so that it is not swept", () => {
  const root = temporaryDirectory()
  const incoming = () => fs.readdirSync(path.join(root, "incoming")).map((name) => path.join(root, "incoming", name))
  return longPut(
    DataStoreFileSystem.layer({ root }),
    Effect.sync(() => incoming().length === 1),
    () => {
      const old = (Date.now() - hoursMs) / 1_000
      for (const file of incoming()) fs.utimesSync(file, old, old)
    }
  )
})

it("rows that are being written are touched on SQLite, so that they are not swept", () =>
  longPut(DataStoreSqlite.layer({ filename: path.join(temporaryDirectory(), "long.db") }), Effect.succeed(true)))

describePg("PostgreSQL", () => {
  it("rows that are being written are touched, so that they are not swept", async () =>
    longPut(DataStorePg.layer({ url: Redacted.make(await freshDatabase()) }), Effect.succeed(true)))
})
