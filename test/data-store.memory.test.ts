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
    const verifying = (text: string) =>
      DataStoreEncoded.make(
        {
          ...port,
          open: (id) =>
            Effect.map(port.open(id), (found) =>
              found === null || found === "NoBucket"
                ? found
                : { ...found, object: { ...found.object, checksums: text }, isVerified: true }
            )
        },
        { system: "memory" }
      )
    // A port that says that it verifies what it reads is taken at its word, for what is a checksum.
    assert.equal(Option.getOrThrow(yield* verifying(checksums).get(id)).info.sha256, checksums)
    for (const other of [`0${checksums}`, checksums.slice(1), checksums.toUpperCase(), `${checksums}0`]) {
      assert.equal((yield* Effect.flip(verifying(other).get(id)))._tag, "ObjectCorrupt")
    }
  }).pipe(Effect.runPromise))

test("a body that is read after its object was replaced or deleted, or its bucket too, is ObjectChanged", () =>
  Effect.gen(function* () {
    const store = DataStoreEncoded.make(yield* DataStoreMemory.makeEncoded, { system: "memory" })
    const id = { bucket: "documents", name: "a" }
    const gone = store.delete(id)
    for (const change of [
      store.put(id, Buffer.from("new")),
      gone,
      Effect.zipRight(gone, store.buckets.delete(id.bucket))
    ]) {
      yield* store.buckets.create(id.bucket)
      yield* store.put(id, Buffer.from("old"))
      const { body } = Option.getOrThrow(yield* store.get(id))
      yield* change
      const error = yield* Effect.flip(Stream.runDrain(body))
      assert.ok(error._tag === "ObjectChanged")
      assert.deepEqual({ bucket: error.bucket, name: error.name }, id)
    }
  }).pipe(Effect.runPromise))
