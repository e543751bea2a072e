/**
 * The DataStore's contract on the backend in memory.
 */
import { Effect, Layer } from "effect"
import { DataStore, DataStoreEncoded } from "effect-stores"
import { DataStoreMemory } from "effect-stores/memory"
import { DataStoreSuite } from "effect-stores/testing"

const encoded = Effect.runSync(DataStoreMemory.makeEncoded)
const view = (readOnly: boolean) =>
  Layer.succeed(DataStore.DataStore, DataStoreEncoded.make(encoded, { system: "memory", readOnly }))

DataStoreSuite.contract("DataStore in memory", view(false), { readOnly: view(true) })
DataStoreSuite.names("DataStore in memory", DataStoreMemory.layer())
DataStoreSuite.badInput("DataStore in memory", DataStoreMemory.layer())
DataStoreSuite.model("DataStore in memory", DataStoreMemory.layer())
