/**
 * What a layer that seals keeps beside the objects: one value for all, whoever comes first.
 */
import * as path from "node:path"
import { Effect, Layer, Redacted, type Scope } from "effect"
import type { DataStoreEncoded } from "effect-stores"
import { DataStoreFileSystem } from "effect-stores/fs"
import { DataStoreMemory } from "effect-stores/memory"
import { DataStorePg, PgDatabase } from "effect-stores/pg"
import { DataStoreSqlite, SqliteDatabase } from "effect-stores/sqlite"
import { expect, it } from "vitest"
import { describePg, freshDatabase, temporaryDirectory } from "../support/backends.js"

type Open = Effect.Effect<DataStoreEncoded.Encoded, unknown, Scope.Scope>

/** `open` is a process of its own each time, as far as the backend knows. */
const oneForAll = (open: Open): Promise<void> =>
  Effect.gen(function* () {
    const ports = yield* Effect.all(Array.from({ length: 4 }, () => open))
    for (let round = 0; round < 5; round++) {
      const name = `note ${round}/../é`
      const values = yield* Effect.forEach(
        Array.from({ length: 16 }, (_, i) => i),
        (i) => ports[i % ports.length]?.note?.(name, `value ${i}`) ?? Effect.succeed(null),
        { concurrency: "unbounded" }
      )
      const [first] = values
      expect(first).toMatch(/^value \d+$/)
      expect(new Set(values)).toEqual(new Set([first]))
      for (const port of ports) {
        expect(yield* port.note?.(name, null) ?? Effect.succeed(null)).toBe(first)
        yield* port.reset
        expect(yield* port.note?.(name, "later") ?? Effect.succeed(null)).toBe(first)
      }
    }
  }).pipe(Effect.scoped, Effect.runPromise)

const title = "of several that note a value at once all return the first one's, and it stays, also when all is emptied"

it(`${title}: in memory`, () => {
  const port = Effect.runSync(DataStoreMemory.makeEncoded)
  return oneForAll(Effect.succeed(port))
})

it(`${title}: on the file system`, () => oneForAll(DataStoreFileSystem.makeEncoded({ root: temporaryDirectory() })))

it(`${title}: on SQLite`, () => {
  const database = SqliteDatabase.layer({ filename: path.join(temporaryDirectory(), "notes.db") })
  return oneForAll(
    Effect.flatMap(Layer.build(database), (context) => Effect.provide(DataStoreSqlite.makeEncoded(), context))
  )
})

describePg("PostgreSQL", () => {
  it(title, async () => {
    const database = PgDatabase.layer({ url: Redacted.make(await freshDatabase()) })
    return oneForAll(
      Effect.flatMap(Layer.build(database), (context) => Effect.provide(DataStorePg.makeEncoded(), context))
    )
  })
})
