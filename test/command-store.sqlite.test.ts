/**
 * The CommandStore's contract on SQLite, in a file.
 */
import * as path from "node:path"
import { CommandStoreSqlite } from "effect-stores/sqlite"
import { CommandStoreSuite } from "effect-stores/testing"
import { temporaryDirectory } from "./support/backends.js"
import { badInput, model } from "./support/scale.js"

const options = { filename: path.join(temporaryDirectory(), "contract.db") }

CommandStoreSuite.contract("CommandStore on SQLite", CommandStoreSqlite.layer(options), {
  readOnly: CommandStoreSqlite.layer({ ...options, readOnly: true })
})
CommandStoreSuite.badInput(
  "CommandStore on SQLite",
  CommandStoreSqlite.layer({ filename: path.join(temporaryDirectory(), "bad-input.db") }),
  badInput
)
CommandStoreSuite.model(
  "CommandStore on SQLite",
  CommandStoreSqlite.layer({ filename: path.join(temporaryDirectory(), "model.db") }),
  model
)
