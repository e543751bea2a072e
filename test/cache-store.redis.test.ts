/**
 * The CacheStore's contract on Redis: one server, and a Cluster of three.
 */
import { Redacted } from "effect"
import { CacheStoreRedis } from "effect-stores/redis"
import { CacheStoreSuite } from "effect-stores/testing"
import { afterAll } from "vitest"
import { describeOwnRedis, describeRedis, freshKeyPrefix, patientRedis, redisUrl } from "./support/backends.js"
import { startRedisCluster } from "./support/redis.js"
import { badInput, model } from "./support/scale.js"

describeRedis("CacheStore on Redis", () => {
  const name = "CacheStore on Redis"
  const url = Redacted.make(redisUrl() ?? "")
  const prefix = freshKeyPrefix()

  CacheStoreSuite.contract(name, CacheStoreRedis.layer({ url, prefix, pool: patientRedis }), {
    readOnly: CacheStoreRedis.layer({ url, prefix, readOnly: true })
  })
  CacheStoreSuite.badInput(name, CacheStoreRedis.layer({ url, prefix: freshKeyPrefix() }), badInput)
  CacheStoreSuite.model(name, CacheStoreRedis.layer({ url, prefix: freshKeyPrefix() }), model)
  CacheStoreSuite.removalWins(name, CacheStoreRedis.layer({ url, prefix: freshKeyPrefix() }))
})

describeOwnRedis("CacheStore on a Redis Cluster", async () => {
  const cluster = await startRedisCluster({ password: "secret-of-the-cluster" })
  afterAll(cluster.stop)
  const options: CacheStoreRedis.Options = {
    mode: "Cluster",
    nodes: cluster.nodes.map(({ port }) => ({ host: "127.0.0.1", port })),
    password: Redacted.make("secret-of-the-cluster"),
    pool: patientRedis
  }

  CacheStoreSuite.contract("CacheStore on a Redis Cluster", CacheStoreRedis.layer(options), {
    readOnly: CacheStoreRedis.layer({ ...options, readOnly: true }),
    secrets: ["secret-of-the-cluster"]
  })
  CacheStoreSuite.removalWins("CacheStore on a Redis Cluster", CacheStoreRedis.layer(options), { runs: 30 })
})
