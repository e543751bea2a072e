/**
 * The DataStore's contract on SQLite, in a file.
 */
import * as path from "node:path"
import Sqlite from "better-sqlite3"
import { Effect } from "effect"
import { DataStoreSqlite } from "effect-stores/sqlite"
import { DataStoreSuite } from "effect-stores/testing"
import { patient, temporaryDirectory } from "./support/backends.js"
import { isFull } from "./support/scale.js"

const filename = path.join(temporaryDirectory(), "contract.db")
const options = { filename, synchronous: "OFF", pool: patient } as const
const other = () => DataStoreSqlite.layer({ ...options, filename: path.join(temporaryDirectory(), "other.db") })

const raw = <A>(use: (file: Sqlite.Database) => A): Effect.Effect<A> =>
  Effect.sync(() => {
    const file = new Sqlite(filename, { timeout: 120_000 })
    try {
      return use(file)
    } finally {
      file.close()
    }
  })

DataStoreSuite.contract("DataStore on SQLite", DataStoreSqlite.layer(options), {
  readOnly: DataStoreSqlite.layer({ ...options, readOnly: true }),
  leftBehind: raw(
    (file) =>
      file
        .prepare<[], number>(
          `SELECT (SELECT count(*) FROM es_object_uploads) +
            (SELECT count(*) FROM es_object_rows WHERE write_id NOT IN (SELECT write_id FROM es_objects))`
        )
        .pluck()
        .get() ?? 0
  ),
  damage: ({ bucket, name }, offset) =>
    raw((file) => {
      const where = "write_id = (SELECT write_id FROM es_objects WHERE bucket = ? AND name = ?) AND n = ?"
      const row = [bucket, name, Math.floor(offset / 262_144)] as const
      const bytes = file
        .prepare(`SELECT bytes FROM es_object_rows WHERE ${where}`)
        .pluck()
        .get(...row) as Buffer
      bytes[offset % 262_144] = (bytes[offset % 262_144] ?? 0) ^ 1
      file.prepare(`UPDATE es_object_rows SET bytes = ? WHERE ${where}`).run(bytes, ...row)
    })
})
DataStoreSuite.names("DataStore on SQLite", other(), { names: isFull ? 10_000 : 1_000 })
DataStoreSuite.badInput("DataStore on SQLite", other(), { cases: isFull ? 10_000 : 1_000 })
DataStoreSuite.model("DataStore on SQLite", other(), { runs: isFull ? 300 : 30 })
