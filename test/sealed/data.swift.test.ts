/**
 * The DataStore's contract on Swift, sealed: users of the store cannot tell.
 */
import { Redacted } from "effect"
import { DataStoreMinio } from "effect-stores/minio"
import { DataStoreSuite } from "effect-stores/testing"
import { afterAll } from "vitest"
import { damageOnS3, leftOnS3 } from "../data/s3.js"
import { describeWith } from "../support/backends.js"
import { pageKeys, startSwift } from "../support/s3.js"
import { isFull } from "../support/scale.js"
import { damaged, names, sealed, sealedAt } from "./support.js"

describeWith("swift", "DataStore on Swift, sealed", async () => {
  const name = "sealed DataStore on Swift"
  const { accessKey, endpoint, secretKey, stop } = await startSwift()
  afterAll(stop)
  const options = (bucketPrefix: string): DataStoreMinio.Options => ({
    endpoint,
    accessKey,
    secretKey: Redacted.make(secretKey),
    partBytes: 5 * 2 ** 20,
    bucketPrefix
  })
  const layer = (bucketPrefix: string) => sealed(DataStoreMinio.layer(options(bucketPrefix)))
  const damage = damageOnS3(options("c-"))

  DataStoreSuite.contract(name, layer("c-"), {
    readOnly: sealed(DataStoreMinio.layer({ ...options("c-"), readOnly: true })),
    secrets: [secretKey],
    largeBytes: 11 * 2 ** 20,
    manyObjects: isFull ? 1_205 : 2 * pageKeys + 5,
    bucketsExclude: false,
    bucketTimes: false,
    leftBehind: leftOnS3(options("c-")),
    damage: (object, offset) => damage(object, sealedAt(offset)),
    damaged
  })
  DataStoreSuite.names(name, layer("n-"), { ...names, names: isFull ? 10_000 : 20 })
  DataStoreSuite.badInput(name, layer("b-"), { cases: isFull ? 10_000 : 100, timeoutMs: 3_600_000 })
  DataStoreSuite.model(name, layer("m-"), { runs: isFull ? 300 : 3, timeoutMs: 3_600_000 })
})
