/**
 * The operator's SQL on payloads in SQLite: what the stores accept breaks no query that the docs show.
 */
import * as path from "node:path"
import { assert, it } from "@effect/vitest"
import Sqlite from "better-sqlite3"
import { Effect } from "effect"
import { EventStore } from "effect-stores"
import { EventStoreSqlite } from "effect-stores/sqlite"
import { describe } from "vitest"
import { jsonByName } from "../../src/testing/jsonValues.js"
import { sealed } from "../sealed/support.js"
import { temporaryDirectory } from "../support/backends.js"

const stream = { tenantId: "t", domain: "d", aggregateId: "a" }

describe("SQL on payloads in SQLite", () => {
  it.live("finds what is in legal data, whatever else is in it, and nothing in what is sealed", () =>
    Effect.gen(function* () {
      const filename = path.join(temporaryDirectory(), "events.db")
      const append = (values: ReadonlyArray<unknown>) =>
        Effect.flatMap(EventStore.EventStore, (store) =>
          store.append(
            stream,
            values.map((data) => ({ type: "Happened", data })),
            { expected: "any" }
          )
        )
      const hostile = ["\0", "\ud800", "\\\0", "\\u0000"].map((text) => ({ total: 1, text, [text]: text }))
      yield* Effect.provide(append([...Object.values(jsonByName), ...hostile]), EventStoreSqlite.layer({ filename }))
      yield* Effect.provide(append([{ total: 2 }]), sealed(EventStoreSqlite.layer({ filename })))
      const db = new Sqlite(filename, { readonly: true })
      const rows = db
        .prepare<[], { total: number | null; text: string | null }>(
          `SELECT CASE WHEN key_id IS NULL THEN data ->> '$.total' END AS total,
             CASE WHEN key_id IS NULL THEN data ->> '$.text' END AS text
           FROM es_events ORDER BY position`
        )
        .all()
      db.close()
      assert.lengthOf(rows, Object.keys(jsonByName).length + hostile.length + 1)
      assert.deepStrictEqual(
        rows.slice(-5).map(({ total }) => total),
        [1, 1, 1, 1, null]
      )
    })
  )
})
