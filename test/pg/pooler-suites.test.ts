/**
 * The contracts of the stores on PostgreSQL, through a pooler in transaction mode: with fewer sessions of the server
 * than the stores have connections, so that each statement may run in another one.
 */
import { Redacted } from "effect"
import {
  CacheStorePg,
  CheckpointStorePg,
  CommandStorePg,
  DataStorePg,
  EventStorePg,
  SnapshotStorePg
} from "effect-stores/pg"
import {
  CacheStoreSuite,
  CheckpointStoreSuite,
  CommandStoreSuite,
  DataStoreSuite,
  EventStoreSuite,
  SnapshotStoreSuite
} from "effect-stores/testing"
import { afterAll } from "vitest"
import { describePg, describeWith, freshDatabase, patient } from "../support/backends.js"
import { startPgBouncer } from "../support/pgbouncer.js"
import { model } from "../support/scale.js"

describePg("the stores on PostgreSQL", () =>
  describeWith("pgbouncer", "through a pooler", async () => {
    const address = await freshDatabase()
    const other = await freshDatabase()
    const pooler = await startPgBouncer(address, { default_pool_size: 3 })
    afterAll(() => pooler.stop())
    const at = (url: string) =>
      ({ url: Redacted.make(pooler.through(url)), pooler: "transaction", pool: patient }) as const
    const given = at(address)
    const name = (store: string) => `${store} on PostgreSQL through a pooler`

    EventStoreSuite.contract(name("EventStore"), EventStorePg.layer(given), {
      readOnly: EventStorePg.layer({ ...given, readOnly: true })
    })
    EventStoreSuite.model(name("EventStore"), EventStorePg.layer({ ...at(other), prefix: "model_" }), model)
    CheckpointStoreSuite.contract(name("CheckpointStore"), CheckpointStorePg.layer(given), {
      readOnly: CheckpointStorePg.layer({ ...given, readOnly: true })
    })
    CommandStoreSuite.contract(name("CommandStore"), CommandStorePg.layer(given), {
      readOnly: CommandStorePg.layer({ ...given, readOnly: true })
    })
    SnapshotStoreSuite.contract(name("SnapshotStore"), SnapshotStorePg.layer(given), {
      readOnly: SnapshotStorePg.layer({ ...given, readOnly: true })
    })
    CacheStoreSuite.contract(name("CacheStore"), CacheStorePg.layer(given), {
      readOnly: CacheStorePg.layer({ ...given, readOnly: true })
    })
    DataStoreSuite.contract(name("DataStore"), DataStorePg.layer(given), {
      readOnly: DataStorePg.layer({ ...given, readOnly: true })
    })
  })
)
