/**
 * The SnapshotStore's contract on Redis: one server, and a Cluster of three.
 */
import { Redacted } from "effect"
import { SnapshotStoreRedis } from "effect-stores/redis"
import { SnapshotStoreSuite } from "effect-stores/testing"
import { afterAll } from "vitest"
import { describeOwnRedis, describeRedis, freshKeyPrefix, patientRedis, redisUrl } from "./support/backends.js"
import { startRedisCluster } from "./support/redis.js"
import { badInput, model } from "./support/scale.js"

describeRedis("SnapshotStore on Redis", () => {
  const name = "SnapshotStore on Redis"
  const url = Redacted.make(redisUrl() ?? "")
  const prefix = freshKeyPrefix()

  SnapshotStoreSuite.contract(name, SnapshotStoreRedis.layer({ url, prefix, pool: patientRedis }), {
    readOnly: SnapshotStoreRedis.layer({ url, prefix, readOnly: true })
  })
  SnapshotStoreSuite.badInput(name, SnapshotStoreRedis.layer({ url, prefix: freshKeyPrefix() }), badInput)
  SnapshotStoreSuite.model(name, SnapshotStoreRedis.layer({ url, prefix: freshKeyPrefix() }), model)
})

describeOwnRedis("SnapshotStore on a Redis Cluster", async () => {
  const cluster = await startRedisCluster({ password: "secret-of-the-cluster" })
  afterAll(cluster.stop)
  const options: SnapshotStoreRedis.Options = {
    mode: "Cluster",
    nodes: cluster.nodes.map(({ port }) => ({ host: "127.0.0.1", port })),
    password: Redacted.make("secret-of-the-cluster"),
    pool: patientRedis
  }

  SnapshotStoreSuite.contract("SnapshotStore on a Redis Cluster", SnapshotStoreRedis.layer(options), {
    readOnly: SnapshotStoreRedis.layer({ ...options, readOnly: true }),
    secrets: ["secret-of-the-cluster"]
  })
})
