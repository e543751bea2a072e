/**
 * The CheckpointStore's contract on SQLite, in a file.
 */
import * as path from "node:path"
import { CheckpointStoreSqlite } from "effect-stores/sqlite"
import { CheckpointStoreSuite } from "effect-stores/testing"
import { temporaryDirectory } from "./support/backends.js"
import { badInput, model } from "./support/scale.js"

const options = { filename: path.join(temporaryDirectory(), "contract.db") }

CheckpointStoreSuite.contract("CheckpointStore on SQLite", CheckpointStoreSqlite.layer(options), {
  readOnly: CheckpointStoreSqlite.layer({ ...options, readOnly: true })
})
CheckpointStoreSuite.badInput(
  "CheckpointStore on SQLite",
  CheckpointStoreSqlite.layer({ filename: path.join(temporaryDirectory(), "bad-input.db") }),
  badInput
)
CheckpointStoreSuite.model(
  "CheckpointStore on SQLite",
  CheckpointStoreSqlite.layer({ filename: path.join(temporaryDirectory(), "model.db") }),
  model
)
