/**
 * The contract of the SnapshotStore on Redis, sealed: users of the store cannot tell.
 */
import { Redacted } from "effect"
import { SnapshotStoreRedis } from "effect-stores/redis"
import { SnapshotStoreSuite } from "effect-stores/testing"
import { describeRedis, freshKeyPrefix, patientRedis, redisUrl } from "../support/backends.js"
import { badInput, model, sealed } from "./support.js"

describeRedis("SnapshotStore on Redis, sealed", () => {
  const name = "sealed SnapshotStore on Redis"
  const url = Redacted.make(redisUrl() ?? "")
  const prefix = freshKeyPrefix()
  const fresh = () => sealed(SnapshotStoreRedis.layer({ url, prefix: freshKeyPrefix() }))

  SnapshotStoreSuite.contract(name, sealed(SnapshotStoreRedis.layer({ url, prefix, pool: patientRedis })), {
    readOnly: sealed(SnapshotStoreRedis.layer({ url, prefix, readOnly: true }))
  })
  SnapshotStoreSuite.badInput(name, fresh(), badInput)
  SnapshotStoreSuite.model(name, fresh(), model)
})
