/**
 * The CheckpointStore's contract on PostgreSQL.
 */
import { Redacted } from "effect"
import { CheckpointStorePg } from "effect-stores/pg"
import { CheckpointStoreSuite } from "effect-stores/testing"
import { describePg, freshDatabase } from "./support/backends.js"
import { badInput, model } from "./support/scale.js"

describePg("CheckpointStore on PostgreSQL", async () => {
  const address = await freshDatabase()
  const { password } = new URL(address)
  const url = Redacted.make(address)
  const other = Redacted.make(await freshDatabase())

  CheckpointStoreSuite.contract("CheckpointStore on PostgreSQL", CheckpointStorePg.layer({ url }), {
    readOnly: CheckpointStorePg.layer({ url, readOnly: true }),
    secrets: password === "" ? [] : [decodeURIComponent(password)]
  })
  CheckpointStoreSuite.badInput(
    "CheckpointStore on PostgreSQL",
    CheckpointStorePg.layer({ url: other, prefix: "bad_" }),
    badInput
  )
  CheckpointStoreSuite.model(
    "CheckpointStore on PostgreSQL",
    CheckpointStorePg.layer({ url: other, prefix: "model_" }),
    model
  )
})
