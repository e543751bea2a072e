/**
 * Backends of a user's own, plain and sealed: the contracts hold, and nothing of what was stored is readable.
 */
import assert from "node:assert/strict"
import { Effect, Layer } from "effect"
import { CacheStore, CacheStoreEncoded, CryptoService, DataStore, DataStoreEncoded } from "effect-stores"
import { CacheStoreSuite, DataStoreSuite } from "effect-stores/testing"
import { test } from "vitest"
import { OwnCache, OwnObjects } from "./ownBackends.js"
import { badInput, crypto, model, sealed } from "./support.js"

const objects = () => new OwnObjects()
const dataStore = (port: OwnObjects) =>
  Layer.sync(DataStore.DataStore, () => DataStoreEncoded.make(port, { system: "own" }))
const cacheStore = (port: OwnCache) =>
  Layer.scoped(CacheStore.CacheStore, CacheStoreEncoded.make(port, { system: "own", leaseMs: 5_000 }))

DataStoreSuite.contract("a user's own DataStore", dataStore(objects()))
DataStoreSuite.contract("a user's own DataStore, sealed", sealed(dataStore(objects())))
DataStoreSuite.model("a user's own DataStore, sealed", sealed(dataStore(objects())), model)
CacheStoreSuite.contract("a user's own CacheStore", cacheStore(new OwnCache()))
CacheStoreSuite.contract("a user's own CacheStore, sealed", sealed(cacheStore(new OwnCache())))
CacheStoreSuite.badInput("a user's own CacheStore, sealed", sealed(cacheStore(new OwnCache())), badInput)
CacheStoreSuite.model("a user's own CacheStore, sealed", sealed(cacheStore(new OwnCache())), model)

test("what they keep of a sealed store tells nothing, and what they keep of a plain one is found", async () => {
  const marker = "a marker of the test"
  const use = Effect.gen(function* () {
    const [cache, store] = [yield* CacheStore.CacheStore, yield* DataStore.DataStore]
    yield* cache.set("acme", "k", { marker })
    yield* cache.getOrSet("acme", "loaded", Effect.succeed(marker))
    yield* store.buckets.create("bucket")
    yield* store.put({ bucket: "bucket", name: "o" }, Buffer.from(marker), { metadata: { marker } })
    yield* store.copy({ bucket: "bucket", name: "o" }, { bucket: "bucket", name: "copy" })
  })
  for (const [isSealed, seal] of [
    [false, <A, E>(layer: Layer.Layer<A, E>) => layer],
    [true, <A, E>(layer: Layer.Layer<A, E>) => Layer.provide(CryptoService.seal(layer), crypto)]
  ] as const) {
    const [cache, store] = [new OwnCache(), new OwnObjects()]
    const layer: Layer.Layer<CacheStore.CacheStore | DataStore.DataStore, unknown> = seal(
      Layer.merge(cacheStore(cache), dataStore(store))
    )
    await Effect.runPromise(Effect.provide(use, layer))
    for (const { stored } of [cache, store]) {
      assert.equal(stored.includes(marker), !isSealed)
      assert.ok(stored.length > marker.length)
    }
  }
})
