/**
 * The contracts of the stores on PostgreSQL, sealed: users of a store cannot tell.
 */
import { Redacted } from "effect"
import { CommandStorePg, EventStorePg, SnapshotStorePg } from "effect-stores/pg"
import { CommandStoreSuite, EventStoreSuite, SnapshotStoreSuite } from "effect-stores/testing"
import { describePg, freshDatabase } from "../support/backends.js"
import { badInput, model, sealed } from "./support.js"

describePg("the stores on PostgreSQL, sealed", async () => {
  const url = Redacted.make(await freshDatabase())
  const bad = { url, prefix: "bad_" }
  const models = { url, prefix: "model_" }

  EventStoreSuite.contract("sealed EventStore on PostgreSQL", sealed(EventStorePg.layer({ url })), {
    readOnly: sealed(EventStorePg.layer({ url, readOnly: true }))
  })
  EventStoreSuite.badInput("sealed EventStore on PostgreSQL", sealed(EventStorePg.layer(bad)), badInput)
  EventStoreSuite.model("sealed EventStore on PostgreSQL", sealed(EventStorePg.layer(models)), model)

  CommandStoreSuite.contract("sealed CommandStore on PostgreSQL", sealed(CommandStorePg.layer({ url })), {
    readOnly: sealed(CommandStorePg.layer({ url, readOnly: true }))
  })
  CommandStoreSuite.badInput("sealed CommandStore on PostgreSQL", sealed(CommandStorePg.layer(bad)), badInput)
  CommandStoreSuite.model("sealed CommandStore on PostgreSQL", sealed(CommandStorePg.layer(models)), model)

  SnapshotStoreSuite.contract("sealed SnapshotStore on PostgreSQL", sealed(SnapshotStorePg.layer({ url })), {
    readOnly: sealed(SnapshotStorePg.layer({ url, readOnly: true }))
  })
  SnapshotStoreSuite.badInput("sealed SnapshotStore on PostgreSQL", sealed(SnapshotStorePg.layer(bad)), badInput)
  SnapshotStoreSuite.model("sealed SnapshotStore on PostgreSQL", sealed(SnapshotStorePg.layer(models)), model)
})
