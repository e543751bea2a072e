/**
 * The contracts of the stores on an application's own `PgClient`.
 */
import { PgClient } from "@effect/sql-pg"
import { Layer, Redacted } from "effect"
import {
  CacheStorePg,
  CheckpointStorePg,
  CommandStorePg,
  DataStorePg,
  EventStorePg,
  PgDatabase,
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
import { describePg, freshDatabase } from "../support/backends.js"
import { model } from "../support/scale.js"

describePg("the stores on PostgreSQL", async () => {
  const on = (url: string) =>
    Layer.provideMerge(PgDatabase.layerFromClient, PgClient.layer({ url: Redacted.make(url), maxConnections: 10 }))
  const address = await freshDatabase()
  const database = on(address)
  const other = on(await freshDatabase())
  const name = (store: string) => `${store} on an application's PgClient`

  EventStoreSuite.contract(name("EventStore"), Layer.provide(EventStorePg.layerFromDatabase(), database), {
    readOnly: Layer.provide(EventStorePg.layerFromDatabase({ readOnly: true }), database)
  })
  EventStoreSuite.model(
    name("EventStore"),
    Layer.provide(EventStorePg.layerFromDatabase({ prefix: "model_" }), other),
    model
  )
  CheckpointStoreSuite.contract(
    name("CheckpointStore"),
    Layer.provide(CheckpointStorePg.layerFromDatabase(), database),
    { readOnly: Layer.provide(CheckpointStorePg.layerFromDatabase({ readOnly: true }), database) }
  )
  CommandStoreSuite.contract(name("CommandStore"), Layer.provide(CommandStorePg.layerFromDatabase(), database), {
    readOnly: Layer.provide(CommandStorePg.layerFromDatabase({ readOnly: true }), database)
  })
  SnapshotStoreSuite.contract(name("SnapshotStore"), Layer.provide(SnapshotStorePg.layerFromDatabase(), database), {
    readOnly: Layer.provide(SnapshotStorePg.layerFromDatabase({ readOnly: true }), database)
  })
  CacheStoreSuite.contract(name("CacheStore"), Layer.provide(CacheStorePg.layerFromDatabase(), database), {
    readOnly: Layer.provide(CacheStorePg.layerFromDatabase({ readOnly: true }), database)
  })
  DataStoreSuite.contract(name("DataStore"), Layer.provide(DataStorePg.layerFromDatabase(), database), {
    readOnly: Layer.provide(DataStorePg.layerFromDatabase({ readOnly: true }), database)
  })
})
