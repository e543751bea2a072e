/**
 * The SnapshotStore's contract on SQLite, in a file.
 */
import * as path from "node:path"
import { SnapshotStoreSqlite } from "effect-stores/sqlite"
import { SnapshotStoreSuite } from "effect-stores/testing"
import { temporaryDirectory } from "./support/backends.js"
import { badInput, model } from "./support/scale.js"

const options = { filename: path.join(temporaryDirectory(), "contract.db") }

SnapshotStoreSuite.contract("SnapshotStore on SQLite", SnapshotStoreSqlite.layer(options), {
  readOnly: SnapshotStoreSqlite.layer({ ...options, readOnly: true })
})
SnapshotStoreSuite.badInput(
  "SnapshotStore on SQLite",
  SnapshotStoreSqlite.layer({ filename: path.join(temporaryDirectory(), "bad-input.db") }),
  badInput
)
SnapshotStoreSuite.model(
  "SnapshotStore on SQLite",
  SnapshotStoreSqlite.layer({ filename: path.join(temporaryDirectory(), "model.db") }),
  model
)
