/**
 * The contracts of the stores on an application's own `SqliteClient`.
 */
import * as path from "node:path"
import { SqliteClient } from "@effect/sql-sqlite-node"
import { Layer } from "effect"
import {
  CacheStoreSqlite,
  CheckpointStoreSqlite,
  CommandStoreSqlite,
  DataStoreSqlite,
  EventStoreSqlite,
  SnapshotStoreSqlite,
  SqliteDatabase
} from "effect-stores/sqlite"
import {
  CacheStoreSuite,
  CheckpointStoreSuite,
  CommandStoreSuite,
  DataStoreSuite,
  EventStoreSuite,
  SnapshotStoreSuite
} from "effect-stores/testing"
import { describe } from "vitest"
import { temporaryDirectory } from "../support/backends.js"
import { model as histories } from "../support/scale.js"

describe("the stores on SQLite", () => {
  const on = (name: string) =>
    Layer.provideMerge(
      SqliteDatabase.layerFromClient,
      Layer.orDie(SqliteClient.layer({ filename: path.join(temporaryDirectory(), name) }))
    )
  const name = (store: string) => `${store} on an application's SqliteClient`
  const [events, checkpoints, commands, snapshots, cache, objects, model] = [
    on("events.db"),
    on("checkpoints.db"),
    on("commands.db"),
    on("snapshots.db"),
    on("cache.db"),
    on("objects.db"),
    on("model.db")
  ]

  EventStoreSuite.contract(name("EventStore"), Layer.provide(EventStoreSqlite.layerFromDatabase(), events), {
    readOnly: Layer.provide(EventStoreSqlite.layerFromDatabase({ readOnly: true }), events)
  })
  EventStoreSuite.model(name("EventStore"), Layer.provide(EventStoreSqlite.layerFromDatabase(), model), histories)
  CheckpointStoreSuite.contract(
    name("CheckpointStore"),
    Layer.provide(CheckpointStoreSqlite.layerFromDatabase(), checkpoints),
    { readOnly: Layer.provide(CheckpointStoreSqlite.layerFromDatabase({ readOnly: true }), checkpoints) }
  )
  CommandStoreSuite.contract(name("CommandStore"), Layer.provide(CommandStoreSqlite.layerFromDatabase(), commands), {
    readOnly: Layer.provide(CommandStoreSqlite.layerFromDatabase({ readOnly: true }), commands)
  })
  SnapshotStoreSuite.contract(
    name("SnapshotStore"),
    Layer.provide(SnapshotStoreSqlite.layerFromDatabase(), snapshots),
    { readOnly: Layer.provide(SnapshotStoreSqlite.layerFromDatabase({ readOnly: true }), snapshots) }
  )
  CacheStoreSuite.contract(name("CacheStore"), Layer.provide(CacheStoreSqlite.layerFromDatabase(), cache), {
    readOnly: Layer.provide(CacheStoreSqlite.layerFromDatabase({ readOnly: true }), cache)
  })
  DataStoreSuite.contract(name("DataStore"), Layer.provide(DataStoreSqlite.layerFromDatabase(), objects), {
    readOnly: Layer.provide(DataStoreSqlite.layerFromDatabase({ readOnly: true }), objects)
  })
})
