/**
 * The SnapshotStore's contract on PostgreSQL.
 */
import { Redacted } from "effect"
import { SnapshotStorePg } from "effect-stores/pg"
import { SnapshotStoreSuite } from "effect-stores/testing"
import { describePg, freshDatabase } from "./support/backends.js"
import { badInput, model } from "./support/scale.js"

describePg("SnapshotStore on PostgreSQL", async () => {
  const address = await freshDatabase()
  const { password } = new URL(address)
  const url = Redacted.make(address)
  const other = Redacted.make(await freshDatabase())

  SnapshotStoreSuite.contract("SnapshotStore on PostgreSQL", SnapshotStorePg.layer({ url }), {
    readOnly: SnapshotStorePg.layer({ url, readOnly: true }),
    secrets: password === "" ? [] : [decodeURIComponent(password)]
  })
  SnapshotStoreSuite.badInput(
    "SnapshotStore on PostgreSQL",
    SnapshotStorePg.layer({ url: other, prefix: "bad_" }),
    badInput
  )
  SnapshotStoreSuite.model(
    "SnapshotStore on PostgreSQL",
    SnapshotStorePg.layer({ url: other, prefix: "model_" }),
    model
  )
})
