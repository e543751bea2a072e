/**
 * The CacheStore's contract on SQLite, in a file.
 */
import * as path from "node:path"
import { CacheStoreSqlite } from "effect-stores/sqlite"
import { CacheStoreSuite } from "effect-stores/testing"
import { temporaryDirectory } from "./support/backends.js"
import { badInput, model } from "./support/scale.js"

const options = { filename: path.join(temporaryDirectory(), "contract.db") }

CacheStoreSuite.contract("CacheStore on SQLite", CacheStoreSqlite.layer(options), {
  readOnly: CacheStoreSqlite.layer({ ...options, readOnly: true })
})
CacheStoreSuite.badInput(
  "CacheStore on SQLite",
  CacheStoreSqlite.layer({ filename: path.join(temporaryDirectory(), "bad-input.db") }),
  badInput
)
CacheStoreSuite.model(
  "CacheStore on SQLite",
  CacheStoreSqlite.layer({ filename: path.join(temporaryDirectory(), "model.db") }),
  model
)
CacheStoreSuite.removalWins(
  "CacheStore on SQLite",
  CacheStoreSqlite.layer({ filename: path.join(temporaryDirectory(), "interleaved.db") })
)
