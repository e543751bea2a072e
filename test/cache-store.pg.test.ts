/**
 * The CacheStore's contract on PostgreSQL.
 */
import { Redacted } from "effect"
import { CacheStorePg } from "effect-stores/pg"
import { CacheStoreSuite } from "effect-stores/testing"
import { describePg, freshDatabase } from "./support/backends.js"
import { badInput, model } from "./support/scale.js"

describePg("CacheStore on PostgreSQL", async () => {
  const address = await freshDatabase()
  const { password } = new URL(address)
  const url = Redacted.make(address)
  const other = Redacted.make(await freshDatabase())

  CacheStoreSuite.contract("CacheStore on PostgreSQL", CacheStorePg.layer({ url }), {
    readOnly: CacheStorePg.layer({ url, readOnly: true }),
    secrets: password === "" ? [] : [decodeURIComponent(password)]
  })
  CacheStoreSuite.badInput("CacheStore on PostgreSQL", CacheStorePg.layer({ url: other, prefix: "bad_" }), badInput)
  CacheStoreSuite.model("CacheStore on PostgreSQL", CacheStorePg.layer({ url: other, prefix: "model_" }), model)
  CacheStoreSuite.removalWins("CacheStore on PostgreSQL", CacheStorePg.layer({ url: other, prefix: "wins_" }))
})
