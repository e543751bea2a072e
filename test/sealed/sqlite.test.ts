/**
 * The contracts of the stores on SQLite, sealed: users of a store cannot tell.
 */
import * as path from "node:path"
import { CommandStoreSqlite, EventStoreSqlite, SnapshotStoreSqlite } from "effect-stores/sqlite"
import { CommandStoreSuite, EventStoreSuite, SnapshotStoreSuite } from "effect-stores/testing"
import { temporaryDirectory } from "../support/backends.js"
import { badInput, model, sealed } from "./support.js"

const fresh = () => ({ filename: path.join(temporaryDirectory(), "sealed.db") })

const events = fresh()
EventStoreSuite.contract("sealed EventStore on SQLite", sealed(EventStoreSqlite.layer(events)), {
  readOnly: sealed(EventStoreSqlite.layer({ ...events, readOnly: true }))
})
EventStoreSuite.badInput("sealed EventStore on SQLite", sealed(EventStoreSqlite.layer(fresh())), badInput)
EventStoreSuite.model("sealed EventStore on SQLite", sealed(EventStoreSqlite.layer(fresh())), model)

const commands = fresh()
CommandStoreSuite.contract("sealed CommandStore on SQLite", sealed(CommandStoreSqlite.layer(commands)), {
  readOnly: sealed(CommandStoreSqlite.layer({ ...commands, readOnly: true }))
})
CommandStoreSuite.badInput("sealed CommandStore on SQLite", sealed(CommandStoreSqlite.layer(fresh())), badInput)
CommandStoreSuite.model("sealed CommandStore on SQLite", sealed(CommandStoreSqlite.layer(fresh())), model)

const snapshots = fresh()
SnapshotStoreSuite.contract("sealed SnapshotStore on SQLite", sealed(SnapshotStoreSqlite.layer(snapshots)), {
  readOnly: sealed(SnapshotStoreSqlite.layer({ ...snapshots, readOnly: true }))
})
SnapshotStoreSuite.badInput("sealed SnapshotStore on SQLite", sealed(SnapshotStoreSqlite.layer(fresh())), badInput)
SnapshotStoreSuite.model("sealed SnapshotStore on SQLite", sealed(SnapshotStoreSqlite.layer(fresh())), model)
