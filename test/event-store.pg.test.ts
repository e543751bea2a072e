/**
 * The EventStore's contract on PostgreSQL.
 */

import { Redacted } from "effect"
import { EventStorePg } from "effect-stores/pg"
import { EventStoreSuite } from "effect-stores/testing"
import { describePg, freshDatabase } from "./support/backends.js"

describePg("EventStore on PostgreSQL", async () => {
  const url = Redacted.make(await freshDatabase())
  const other = Redacted.make(await freshDatabase())

  EventStoreSuite.contract("EventStore on PostgreSQL", EventStorePg.layer({ url }), {
    readOnly: EventStorePg.layer({ url, readOnly: true })
  })
  EventStoreSuite.badInput("EventStore on PostgreSQL", EventStorePg.layer({ url: other, prefix: "bad_" }))
  EventStoreSuite.model("EventStore on PostgreSQL", EventStorePg.layer({ url: other, prefix: "model_" }))
})
