/**
 * A database file that is taken away under an open store. The system keeps such a file as long as somebody has it open,
 * so what is written there looks stored and is lost.
 */
import * as fs from "node:fs"
import { Effect } from "effect"
import { expect, it } from "vitest"
import { freshFile, placed, readAll, streamOf, withStore } from "./support.js"

const removeFile = (filename: string) => {
  for (const suffix of ["", "-wal", "-shm"]) fs.rmSync(filename + suffix, { force: true })
}

const away: { readonly [how: string]: (filename: string) => void } = {
  deleted: removeFile,
  moved: (filename) => fs.renameSync(filename, `${filename}.moved`),
  replaced: (filename) => {
    const other = freshFile()
    fs.writeFileSync(other, "")
    removeFile(filename)
    fs.renameSync(other, filename)
  }
}

it.each(Object.keys(away))("a file that was %s under an open store fails writes soon, typed and named", (how) => {
  const filename = freshFile()
  return withStore({ filename }, (store, { sql, transaction }) =>
    Effect.gen(function* () {
      const append = store.append(streamOf("1"), [placed()], { expected: "any" })
      yield* append
      away[how]?.(filename)
      // Nothing looks at every write whether the file is in its place.
      const error = yield* Effect.flip(Effect.forever(Effect.delay(append, "10 millis")))
      expect(error).toMatchObject({ _tag: "StoreError", operation: "append", retryable: false })
      expect(error.message).toContain(`${filename} was moved, deleted or replaced`)
      // It stays so, in transactions and for the user's SQL too.
      expect(yield* Effect.flip(transaction(append))).toMatchObject({ _tag: "StoreError" })
      expect(yield* Effect.flip(sql`DELETE FROM es_events`)).toMatchObject({ _tag: "SqlError" })
    })
  )
})

it("a transaction during which the file is deleted is not acknowledged", () => {
  const filename = freshFile()
  return withStore({ filename }, (store, { transaction }) =>
    Effect.gen(function* () {
      const append = store.append(streamOf("1"), [placed()], { expected: "any" })
      const slow = append.pipe(
        Effect.zipRight(Effect.sync(() => removeFile(filename))),
        Effect.zipRight(Effect.sleep("1100 millis"))
      )
      expect(yield* Effect.flip(transaction(slow))).toMatchObject({ _tag: "StoreError", operation: "COMMIT" })
    })
  )
})

it("no connection is opened to a file that has taken the place of the store's", () => {
  const filename = freshFile()
  const other = freshFile()
  return withStore({ filename, pool: { connMaxIdleTime: "20 millis" } }, (store, { state }) =>
    Effect.gen(function* () {
      yield* store.append(streamOf("1"), [placed()], { expected: "any" })
      yield* Effect.promise(() => withStore({ filename: other }, () => Effect.void))
      removeFile(filename)
      fs.renameSync(other, filename)
      expect((yield* state).readers.open).toBe(0)
      expect(yield* Effect.flip(readAll(store, "1"))).toMatchObject({ _tag: "StoreError" })
    })
  )
})

it("a file that is back in its place takes writes again", () => {
  const filename = freshFile()
  return withStore({ filename }, (store) =>
    Effect.gen(function* () {
      const append = store.append(streamOf("1"), [placed()], { expected: "any" })
      fs.renameSync(filename, `${filename}.moved`)
      yield* Effect.flip(Effect.forever(Effect.delay(append, "10 millis")))
      fs.renameSync(`${filename}.moved`, filename)
      const { version } = yield* append
      expect(yield* readAll(store, "1")).toHaveLength(version)
    })
  )
})
