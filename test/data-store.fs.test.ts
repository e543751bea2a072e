/**
 * The DataStore's contract on the file system.
 */
import * as fs from "node:fs"
import * as path from "node:path"
import { Effect } from "effect"
import { DataStoreFileSystem } from "effect-stores/fs"
import { DataStoreSuite } from "effect-stores/testing"
import { temporaryDirectory } from "./support/backends.js"
import { isFull } from "./support/scale.js"

const root = temporaryDirectory()
// Syncing is traced in test/data/fs.test.ts, and here only takes time.
const options = { root, sync: false }
const other = () => DataStoreFileSystem.layer({ root: temporaryDirectory(), sync: false })

DataStoreSuite.contract("DataStore on the file system", DataStoreFileSystem.layer(options), {
  readOnly: DataStoreFileSystem.layer({ ...options, readOnly: true }),
  leftBehind: Effect.sync(() => fs.readdirSync(path.join(root, "incoming")).length),
  // Names as the tests of damage use them are their files'.
  damage: ({ bucket, name }, offset) =>
    Effect.sync(() => {
      const file = fs.openSync(path.join(root, "objects", bucket, name), "r+")
      const byte = Buffer.alloc(1)
      fs.readSync(file, byte, 0, 1, offset)
      byte[0] = (byte[0] ?? 0) ^ 1
      fs.writeSync(file, byte, 0, 1, offset)
      fs.closeSync(file)
    })
})
DataStoreSuite.names("DataStore on the file system", other(), { names: isFull ? 10_000 : 1_000 })
DataStoreSuite.badInput("DataStore on the file system", other(), { cases: isFull ? 10_000 : 1_000 })
DataStoreSuite.model("DataStore on the file system", other(), { runs: isFull ? 300 : 30 })
