/**
 * The EventStore's contract on SQLite, in a file.
 */
import * as path from "node:path"
import { EventStoreSqlite } from "effect-stores/sqlite"
import { EventStoreSuite } from "effect-stores/testing"
import { temporaryDirectory } from "./support/backends.js"
import { badInput, model } from "./support/scale.js"

const options = { filename: path.join(temporaryDirectory(), "contract.db") }

EventStoreSuite.contract("EventStore on SQLite", EventStoreSqlite.layer(options), {
  readOnly: EventStoreSqlite.layer({ ...options, readOnly: true })
})
EventStoreSuite.badInput(
  "EventStore on SQLite",
  EventStoreSqlite.layer({ filename: path.join(temporaryDirectory(), "bad-input.db") }),
  badInput
)
EventStoreSuite.model(
  "EventStore on SQLite",
  EventStoreSqlite.layer({ filename: path.join(temporaryDirectory(), "model.db") }),
  model
)
