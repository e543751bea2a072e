/**
 * What each error of SQLite means: the table, and one real case of each meaning that is not tested elsewhere (a busy
 * file in processes.test.ts, a full disk in opening.test.ts).
 */
import * as fs from "node:fs"
import Sqlite from "better-sqlite3"
import { Effect } from "effect"
import { expect, it } from "vitest"
import { failure, isBusy, isDiskFailure } from "../../src/sqlite/database/failures.js"
import { freshFile, placed, streamOf, withStore } from "./support.js"

const error = (code: string) => new Sqlite.SqliteError("said by SQLite", code)

it.each([
  ["busy", ["SQLITE_BUSY", "SQLITE_BUSY_SNAPSHOT", "SQLITE_BUSY_RECOVERY", "SQLITE_LOCKED", "SQLITE_PROTOCOL"]],
  ["disk", ["SQLITE_FULL", "SQLITE_IOERR", "SQLITE_IOERR_WRITE", "SQLITE_IOERR_FSYNC", "SQLITE_IOERR_SHMSIZE"]],
  ["passing", ["SQLITE_CANTOPEN", "SQLITE_CANTOPEN_FULLPATH", "SQLITE_NOMEM", "SQLITE_SCHEMA", "SQLITE_INTERRUPT"]],
  ["passing", ["SQLITE_READONLY_CANTLOCK", "SQLITE_READONLY_RECOVERY"]],
  ["final", ["SQLITE_READONLY", "SQLITE_READONLY_DIRECTORY", "SQLITE_READONLY_DBMOVED", "SQLITE_CANTOPEN_ISDIR"]],
  ["final", ["SQLITE_CORRUPT", "SQLITE_CORRUPT_VTAB", "SQLITE_NOTADB", "SQLITE_CONSTRAINT_UNIQUE", "SQLITE_ERROR"]],
  ["final", ["SQLITE_TOOBIG", "SQLITE_MISMATCH", "SQLITE_MISUSE", "SQLITE_AUTH", "SQLITE_PERM", "SQLITE_UNHEARD_OF"]]
] as const)("%s is what %j means", (meaning, codes) => {
  for (const code of codes) {
    expect(isBusy(error(code)), code).toBe(meaning === "busy")
    expect(isDiskFailure(error(code)), code).toBe(meaning === "disk")
    const typed = failure("asking", error(code))
    expect(typed._tag, code).toBe(meaning === "final" ? "StoreError" : "StoreUnavailable")
  }
})

it("what no driver has thrown is no failure that passes", () => {
  expect(failure("asking", new Error("a bug"))).toMatchObject({ _tag: "StoreError", retryable: false })
})

it("a table that is gone fails for good, and a reader that cannot be opened for now fails as retryable", async () => {
  const filename = freshFile()
  await withStore({ filename, pool: { connMaxIdleTime: "20 millis" } }, (store, { sql, state }) =>
    Effect.gen(function* () {
      yield* store.append(streamOf("1"), [placed()], { expected: "noStream" })
      yield* store.count()
      while ((yield* state).readers.open > 0) yield* Effect.sleep("10 millis")
      fs.renameSync(filename, `${filename}.moved`)
      expect(yield* Effect.flip(store.count())).toMatchObject({ _tag: "StoreUnavailable", retryable: true })
      fs.renameSync(`${filename}.moved`, filename)
      expect(yield* store.count()).toBe(1)
      yield* sql`DROP TABLE es_events`
      expect(yield* Effect.flip(store.count())).toMatchObject({ _tag: "StoreError", retryable: false })
    })
  )
})
