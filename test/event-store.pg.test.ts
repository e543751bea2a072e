/**
 * The EventStore's contract on PostgreSQL.
 */
import { Redacted } from "effect"
import { EventStorePg } from "effect-stores/pg"
import { EventStoreSuite } from "effect-stores/testing"
import { describePg, freshDatabase } from "./support/backends.js"
import { badInput, model } from "./support/scale.js"

describePg("EventStore on PostgreSQL", async () => {
  const address = await freshDatabase()
  const { password } = new URL(address)
  const url = Redacted.make(address)
  const other = Redacted.make(await freshDatabase())

  EventStoreSuite.contract("EventStore on PostgreSQL", EventStorePg.layer({ url }), {
    readOnly: EventStorePg.layer({ url, readOnly: true }),
    secrets: password === "" ? [] : [decodeURIComponent(password)]
  })
  EventStoreSuite.badInput("EventStore on PostgreSQL", EventStorePg.layer({ url: other, prefix: "bad_" }), badInput)
  EventStoreSuite.model("EventStore on PostgreSQL", EventStorePg.layer({ url: other, prefix: "model_" }), model)
})
