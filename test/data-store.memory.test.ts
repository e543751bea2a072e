/**
 * The DataStore's contract on the backend in memory.
 */
import assert from "node:assert/strict"
import { createHash } from "node:crypto"
import { Effect, Layer, Option, Stream } from "effect"
import { DataStore, DataStoreEncoded } from "effect-stores"
import { DataStoreMemory } from "effect-stores/memory"
import { DataStoreSuite } from "effect-stores/testing"
import { test } from "vitest"
import { badInput, model } from "./support/scale.js"

const encoded = Effect.runSync(DataStoreMemory.makeEncoded)
const view = (readOnly: boolean) =>
  Layer.succeed(DataStore.DataStore, DataStoreEncoded.make(encoded, { system: "memory", readOnly }))

DataStoreSuite.contract("DataStore in memory", view(false), { readOnly: view(true) })
DataStoreSuite.names("DataStore in memory", DataStoreMemory.layer())
DataStoreSuite.badInput("DataStore in memory", DataStoreMemory.layer(), badInput)
DataStoreSuite.model("DataStore in memory", DataStoreMemory.layer(), model)

test("checksums without those of the pieces do not turn verification off", () =>
  Effect.gen(function* () {
    const port = yield* DataStoreMemory.makeEncoded
    const store = DataStoreEncoded.make(port, { system: "memory" })
    const id = { bucket: "documents", name: "a" }
    yield* store.buckets.create("documents")
    const checksums = createHash("sha256").update("right").digest("hex")
    yield* port.put(
      {
        ...id,
        contentType: "text/plain",
        metadata: "{}",
        keyId: null,
        writeId: "0198c0de-0000-7000-8000-000000000001",
        modifiedAt: 0,
        size: null,
        finish: () => ({ checksums })
      },
      Stream.make(Buffer.from("wrong")),
      { _tag: "Always" }
    )
    assert.equal((yield* Effect.flip(store.get(id)))._tag, "ObjectCorrupt")
    // A port that says that it verifies what it reads is taken at its word.
    const verifying = DataStoreEncoded.make(
      {
        ...port,
        open: (id) =>
          Effect.map(port.open(id), (found) =>
            found === null || found === "NoBucket" ? found : { ...found, isVerified: true }
          )
      },
      { system: "memory" }
    )
    assert.equal(Option.getOrThrow(yield* verifying.get(id)).info.sha256, checksums)
  }).pipe(Effect.runPromise))
