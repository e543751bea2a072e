/**
 * The DataStore's contract, sealed, on each backend: users of the store cannot tell, but that it presigns nothing and
 * makes no public buckets.
 */
import * as fs from "node:fs"
import * as path from "node:path"
import Sqlite from "better-sqlite3"
import { Effect, Layer, Redacted } from "effect"
import { DataStore, DataStoreEncoded } from "effect-stores"
import { DataStoreFileSystem } from "effect-stores/fs"
import { DataStoreMemory } from "effect-stores/memory"
import { DataStorePg } from "effect-stores/pg"
import { DataStoreSqlite } from "effect-stores/sqlite"
import { DataStoreSuite } from "effect-stores/testing"
import { describePg, freshDatabase, patient, temporaryDirectory } from "../support/backends.js"
import { withClient } from "../support/databases.js"
import { badInput, damaged, model, names, sealed, sealedAt } from "./support.js"

const encoded = Effect.runSync(DataStoreMemory.makeEncoded)
const view = (readOnly: boolean) =>
  sealed(Layer.succeed(DataStore.DataStore, DataStoreEncoded.make(encoded, { system: "memory", readOnly })))

DataStoreSuite.contract("sealed DataStore in memory", view(false), { readOnly: view(true) })
DataStoreSuite.names("sealed DataStore in memory", sealed(DataStoreMemory.layer()), names)
DataStoreSuite.badInput("sealed DataStore in memory", sealed(DataStoreMemory.layer()), badInput)
DataStoreSuite.model("sealed DataStore in memory", sealed(DataStoreMemory.layer()), model)

const folder = () => sealed(DataStoreFileSystem.layer({ root: temporaryDirectory(), sync: false }))
const root = temporaryDirectory()

DataStoreSuite.contract(
  "sealed DataStore on the file system",
  sealed(DataStoreFileSystem.layer({ root, sync: false })),
  {
    readOnly: sealed(DataStoreFileSystem.layer({ root, sync: false, readOnly: true })),
    leftBehind: Effect.sync(() => fs.readdirSync(path.join(root, "incoming")).length),
    damage: ({ bucket, name }, offset) =>
      Effect.sync(() => {
        const file = path.join(root, "objects", bucket, name)
        const bytes = fs.readFileSync(file)
        bytes[sealedAt(offset)] = (bytes[sealedAt(offset)] ?? 0) ^ 1
        fs.writeFileSync(file, bytes)
      }),
    damaged
  }
)
DataStoreSuite.names("sealed DataStore on the file system", folder(), names)
DataStoreSuite.badInput("sealed DataStore on the file system", folder(), badInput)
DataStoreSuite.model("sealed DataStore on the file system", folder(), model)

const file = () => ({
  filename: path.join(temporaryDirectory(), "objects.db"),
  synchronous: "OFF" as const,
  pool: patient
})
const objects = file()
const raw = <A>(use: (file: Sqlite.Database) => A): Effect.Effect<A> =>
  Effect.acquireUseRelease(
    Effect.sync(() => new Sqlite(objects.filename, { timeout: 120_000 })),
    (file) => Effect.sync(() => use(file)),
    (file) => Effect.sync(() => file.close())
  )

DataStoreSuite.contract("sealed DataStore on SQLite", sealed(DataStoreSqlite.layer(objects)), {
  readOnly: sealed(DataStoreSqlite.layer({ ...objects, readOnly: true })),
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
      const at = sealedAt(offset)
      const row = [bucket, name, Math.floor(at / 262_144)] as const
      const bytes = file
        .prepare(`SELECT bytes FROM es_object_rows WHERE ${where}`)
        .pluck()
        .get(...row) as Buffer
      bytes[at % 262_144] = (bytes[at % 262_144] ?? 0) ^ 1
      file.prepare(`UPDATE es_object_rows SET bytes = ? WHERE ${where}`).run(bytes, ...row)
    }),
  damaged
})
DataStoreSuite.names("sealed DataStore on SQLite", sealed(DataStoreSqlite.layer(file())), names)
DataStoreSuite.badInput("sealed DataStore on SQLite", sealed(DataStoreSqlite.layer(file())), badInput)
DataStoreSuite.model("sealed DataStore on SQLite", sealed(DataStoreSqlite.layer(file())), model)

describePg("DataStore on PostgreSQL, sealed", async () => {
  const name = "sealed DataStore on PostgreSQL"
  const address = await freshDatabase()
  const url = Redacted.make(address)
  const rows = (text: string, values: Array<unknown> = []) =>
    Effect.promise(() => withClient(address, async (client) => (await client.query(text, values)).rows))

  DataStoreSuite.contract(name, sealed(DataStorePg.layer({ url, pool: patient })), {
    readOnly: sealed(DataStorePg.layer({ url, readOnly: true })),
    leftBehind: Effect.map(
      rows(`select (select count(*) from es_object_uploads) +
        (select count(*) from es_object_rows where write_id not in (select write_id from es_objects)) as left`),
      ([row]) => Number(row?.left)
    ),
    damage: ({ bucket, name }, offset) =>
      rows(
        `update es_object_rows set bytes = set_byte(bytes, $4, get_byte(bytes, $4) # 1)
         where write_id = (select write_id from es_objects where bucket = $1 and name = $2) and n = $3`,
        [bucket, name, Math.floor(sealedAt(offset) / 262_144), sealedAt(offset) % 262_144]
      ),
    damaged
  })
  DataStoreSuite.names(name, sealed(DataStorePg.layer({ url, prefix: "names_" })), names)
  DataStoreSuite.badInput(name, sealed(DataStorePg.layer({ url, prefix: "bad_" })), badInput)
  DataStoreSuite.model(name, sealed(DataStorePg.layer({ url, prefix: "model_" })), model)
})
