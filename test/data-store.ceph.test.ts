/**
 * The DataStore's contract on Ceph's gateway, which has conditional puts, policies and locks.
 */
import { Effect, Redacted } from "effect"
import { DataStoreMinio } from "effect-stores/minio"
import { DataStoreSuite } from "effect-stores/testing"
import { afterAll, expect, test } from "vitest"
import { damageOnS3, leftOnS3 } from "./data/s3.js"
import { describeWith } from "./support/backends.js"
import { pageKeys, startCeph } from "./support/s3.js"
import { isFull } from "./support/scale.js"

const name = "DataStore on Ceph's gateway"

describeWith("ceph", name, async () => {
  const server = await startCeph()
  afterAll(server.stop)
  const { accessKey, endpoint, secretKey } = server
  const common = { endpoint, accessKey, secretKey: Redacted.make(secretKey), partBytes: 5 * 2 ** 20 }
  const capabilities: DataStoreMinio.ServerCapabilities = {
    putIfAbsent: true,
    putIfMatch: "unquoted",
    public: true,
    objectLocking: true
  }
  const options = (bucketPrefix: string) => ({ ...common, capabilities, bucketPrefix })
  const layer = (bucketPrefix: string) => DataStoreMinio.layer(options(bucketPrefix))

  test("the probe finds what the server does, and leaves nothing", async () => {
    const found = await Effect.runPromise(DataStoreMinio.probe({ ...common, maxRetries: 1 }))
    expect(found.capabilities).toEqual(capabilities)
    expect(Object.keys(found.why).sort()).toEqual([])
  })

  DataStoreSuite.contract(name, layer("c-"), {
    readOnly: DataStoreMinio.layer({ ...options("c-"), readOnly: true }),
    secrets: [secretKey],
    largeBytes: 11 * 2 ** 20,
    manyObjects: isFull ? 1_205 : 2 * pageKeys + 5,
    bucketsExclude: false,
    leftBehind: leftOnS3(options("c-")),
    damage: damageOnS3(options("c-"))
  })
  DataStoreSuite.names(name, layer("n-"), { names: isFull ? 10_000 : 200, timeoutMs: 3_600_000 })
  DataStoreSuite.badInput(name, layer("b-"), { cases: isFull ? 10_000 : 600, timeoutMs: 3_600_000 })
  DataStoreSuite.model(name, layer("m-"), { runs: isFull ? 300 : 25, timeoutMs: 3_600_000 })
})
