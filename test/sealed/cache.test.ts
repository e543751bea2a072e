/**
 * The CacheStore's contract, sealed, on each backend: users of the store cannot tell. And what becomes of values that
 * somebody has changed: none is served.
 */
import * as path from "node:path"
import { Effect, Layer, Redacted } from "effect"
import { CacheStore, CacheStoreEncoded, CacheStoreTwoLevels } from "effect-stores"
import { CacheStoreMemory } from "effect-stores/memory"
import { CacheStorePg } from "effect-stores/pg"
import { CacheStoreRedis } from "effect-stores/redis"
import { CacheStoreSqlite } from "effect-stores/sqlite"
import { CacheStoreSuite } from "effect-stores/testing"
import {
  describePg,
  describeRedis,
  freshDatabase,
  freshKeyPrefix,
  patientRedis,
  redisUrl,
  temporaryDirectory
} from "../support/backends.js"
import { isFull } from "../support/scale.js"
import { badInput, model, sealed } from "./support.js"

const wins = { runs: isFull ? 100 : 20 }

const shared = (): ((readOnly: boolean) => Layer.Layer<CacheStore.CacheStore, unknown>) => {
  const { encoded } = Effect.runSync(CacheStoreMemory.makeEncoded())
  return (readOnly) =>
    sealed(
      Layer.scoped(
        CacheStore.CacheStore,
        CacheStoreEncoded.make(encoded, { system: "memory", readOnly, leaseMs: 5_000 })
      )
    )
}

const view = shared()
CacheStoreSuite.contract("sealed CacheStore in memory", view(false), { readOnly: view(true) })
CacheStoreSuite.badInput("sealed CacheStore in memory", sealed(CacheStoreMemory.layer()), badInput)
CacheStoreSuite.model("sealed CacheStore in memory", sealed(CacheStoreMemory.layer()), model)
CacheStoreSuite.removalWins("sealed CacheStore in memory", shared()(false), wins)

const both = (second: Layer.Layer<CacheStore.CacheStore, unknown>) =>
  CacheStoreTwoLevels.layer({ first: CacheStoreMemory.layer(), second })
const far = () => {
  const { encoded } = Effect.runSync(CacheStoreMemory.makeEncoded())
  return Layer.scoped(CacheStore.CacheStore, CacheStoreEncoded.make(encoded, { system: "memory" }))
}
CacheStoreSuite.contract("CacheStore on two levels, both sealed", sealed(both(far())))
CacheStoreSuite.contract("CacheStore on two levels, the second sealed", both(sealed(far())))

const file = () => ({ filename: path.join(temporaryDirectory(), "cache.db") })
const entries = file()
CacheStoreSuite.contract("sealed CacheStore on SQLite", sealed(CacheStoreSqlite.layer(entries)), {
  readOnly: sealed(CacheStoreSqlite.layer({ ...entries, readOnly: true }))
})
CacheStoreSuite.badInput("sealed CacheStore on SQLite", sealed(CacheStoreSqlite.layer(file())), badInput)
CacheStoreSuite.model("sealed CacheStore on SQLite", sealed(CacheStoreSqlite.layer(file())), model)
CacheStoreSuite.removalWins("sealed CacheStore on SQLite", sealed(CacheStoreSqlite.layer(file())), wins)

describePg("CacheStore on PostgreSQL, sealed", async () => {
  const name = "sealed CacheStore on PostgreSQL"
  const url = Redacted.make(await freshDatabase())

  CacheStoreSuite.contract(name, sealed(CacheStorePg.layer({ url })), {
    readOnly: sealed(CacheStorePg.layer({ url, readOnly: true }))
  })
  CacheStoreSuite.badInput(name, sealed(CacheStorePg.layer({ url, prefix: "bad_" })), badInput)
  CacheStoreSuite.model(name, sealed(CacheStorePg.layer({ url, prefix: "model_" })), model)
  CacheStoreSuite.removalWins(name, sealed(CacheStorePg.layer({ url, prefix: "wins_" })), wins)
})

describeRedis("CacheStore on Redis, sealed", () => {
  const name = "sealed CacheStore on Redis"
  const url = Redacted.make(redisUrl() ?? "")
  const prefix = freshKeyPrefix()
  const fresh = () => sealed(CacheStoreRedis.layer({ url, prefix: freshKeyPrefix() }))

  CacheStoreSuite.contract(name, sealed(CacheStoreRedis.layer({ url, prefix, pool: patientRedis })), {
    readOnly: sealed(CacheStoreRedis.layer({ url, prefix, readOnly: true }))
  })
  CacheStoreSuite.badInput(name, fresh(), badInput)
  CacheStoreSuite.model(name, fresh(), model)
  CacheStoreSuite.removalWins(name, fresh(), wins)
})
