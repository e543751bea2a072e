/**
 * The CommandStore's contract on PostgreSQL.
 */
import { Redacted } from "effect"
import { CommandStorePg } from "effect-stores/pg"
import { CommandStoreSuite } from "effect-stores/testing"
import { describePg, freshDatabase } from "./support/backends.js"
import { badInput, model } from "./support/scale.js"

describePg("CommandStore on PostgreSQL", async () => {
  const address = await freshDatabase()
  const { password } = new URL(address)
  const url = Redacted.make(address)
  const other = Redacted.make(await freshDatabase())

  CommandStoreSuite.contract("CommandStore on PostgreSQL", CommandStorePg.layer({ url }), {
    readOnly: CommandStorePg.layer({ url, readOnly: true }),
    secrets: password === "" ? [] : [decodeURIComponent(password)]
  })
  CommandStoreSuite.badInput(
    "CommandStore on PostgreSQL",
    CommandStorePg.layer({ url: other, prefix: "bad_" }),
    badInput
  )
  CommandStoreSuite.model("CommandStore on PostgreSQL", CommandStorePg.layer({ url: other, prefix: "model_" }), model)
})
