/**
 * The DataStore's contract on PostgreSQL.
 */
import { Effect, Redacted } from "effect"
import { DataStorePg } from "effect-stores/pg"
import { DataStoreSuite } from "effect-stores/testing"
import { describePg, freshDatabase, patient } from "./support/backends.js"
import { withClient } from "./support/databases.js"
import { isFull } from "./support/scale.js"

describePg("DataStore on PostgreSQL", async () => {
  const address = await freshDatabase()
  const { password } = new URL(address)
  const url = Redacted.make(address)
  const other = Redacted.make(await freshDatabase())
  const rows = (text: string, values: Array<unknown> = []) =>
    Effect.promise(() => withClient(address, async (client) => (await client.query(text, values)).rows))

  DataStoreSuite.contract("DataStore on PostgreSQL", DataStorePg.layer({ url, pool: patient }), {
    readOnly: DataStorePg.layer({ url, readOnly: true }),
    secrets: password === "" ? [] : [decodeURIComponent(password)],
    leftBehind: Effect.map(
      rows(`select (select count(*) from es_object_uploads) +
        (select count(*) from es_object_rows where write_id not in (select write_id from es_objects)) as left`),
      ([row]) => Number(row?.left)
    ),
    damage: ({ bucket, name }, offset) =>
      rows(
        `update es_object_rows set bytes = set_byte(bytes, $4, get_byte(bytes, $4) # 1)
         where write_id = (select write_id from es_objects where bucket = $1 and name = $2) and n = $3`,
        [bucket, name, Math.floor(offset / 262_144), offset % 262_144]
      )
  })
  DataStoreSuite.names("DataStore on PostgreSQL", DataStorePg.layer({ url: other, prefix: "names_" }), {
    names: isFull ? 10_000 : 1_000
  })
  DataStoreSuite.badInput("DataStore on PostgreSQL", DataStorePg.layer({ url: other, prefix: "bad_" }), {
    cases: isFull ? 10_000 : 1_000
  })
  DataStoreSuite.model("DataStore on PostgreSQL", DataStorePg.layer({ url: other, prefix: "model_" }), {
    runs: isFull ? 300 : 30
  })
})
