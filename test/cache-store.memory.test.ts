/**
 * The CacheStore's contract on the backend in memory.
 */
import { Effect, Layer } from "effect"
import { CacheStore, CacheStoreEncoded } from "effect-stores"
import { CacheStoreMemory } from "effect-stores/memory"
import { CacheStoreSuite } from "effect-stores/testing"
import { badInput, model } from "./support/scale.js"

/** Views of the same entries, as two processes have them on other backends. */
const shared = (): ((readOnly: boolean) => Layer.Layer<CacheStore.CacheStore>) => {
  const { encoded } = Effect.runSync(CacheStoreMemory.makeEncoded())
  return (readOnly) =>
    Layer.scoped(CacheStore.CacheStore, CacheStoreEncoded.make(encoded, { system: "memory", readOnly, leaseMs: 5_000 }))
}

const view = shared()
CacheStoreSuite.contract("CacheStore in memory", view(false), { readOnly: view(true) })
CacheStoreSuite.badInput("CacheStore in memory", CacheStoreMemory.layer(), badInput)
CacheStoreSuite.model("CacheStore in memory", CacheStoreMemory.layer(), model)
CacheStoreSuite.removalWins("CacheStore in memory", shared()(false))
