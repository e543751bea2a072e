/**
 * The SnapshotStore's contract on the backend in memory, and what the lift makes of a backend's port that gives back
 * something else than it was given.
 */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer, Option } from "effect"
import { SnapshotStore, SnapshotStoreEncoded } from "effect-stores"
import { SnapshotStoreMemory } from "effect-stores/memory"
import { SnapshotStoreSuite } from "effect-stores/testing"
import { badInput, model } from "./support/scale.js"

const encoded = Effect.runSync(SnapshotStoreMemory.makeEncoded)
const view = (readOnly: boolean) =>
  Layer.scoped(SnapshotStore.SnapshotStore, SnapshotStoreEncoded.make(encoded, { system: "memory", readOnly }))

SnapshotStoreSuite.contract("SnapshotStore in memory", view(false), { readOnly: view(true) })
SnapshotStoreSuite.badInput("SnapshotStore in memory", SnapshotStoreMemory.layer(), badInput)
SnapshotStoreSuite.model("SnapshotStore in memory", SnapshotStoreMemory.layer(), model)

describe("what is stored and is no snapshot of the stream", () => {
  const stream = { tenantId: "acme", domain: "order", aggregateId: "1" }
  const snapshot = {
    version: 7,
    lastEventMark: "00000000-0000-0000-0000-000000000001",
    schemaVersion: "1",
    state: { total: 12 }
  }

  /** A store whose port gives back what `change` makes of that snapshot. */
  const tampered = (change: (row: SnapshotStoreEncoded.EncodedSnapshot) => object) =>
    Effect.gen(function* () {
      const encoded = yield* SnapshotStoreMemory.makeEncoded
      const store = yield* SnapshotStoreEncoded.make(
        {
          ...encoded,
          latest: (stream, atMost) =>
            Effect.map(encoded.latest(stream, atMost), (row) =>
              row?.version === snapshot.version ? { ...row, ...change(row) } : row
            )
        },
        { system: "memory" }
      )
      yield* store.save(stream, snapshot)
      return store
    })

  const changes: Readonly<Record<string, (row: SnapshotStoreEncoded.EncodedSnapshot) => object>> = {
    "a state that was cut off": ({ state }) => ({ state: state.slice(0, -1) }),
    "a state with a flipped bit": ({ state }) => ({ state: state.replace("12", "13") }),
    "an empty state": () => ({ state: "" }),
    "no state": () => ({ state: null }),
    "another version": () => ({ version: 6 }),
    "no version": () => ({ version: undefined }),
    "another last event": () => ({ lastEventMark: "00000000-0000-0000-0000-000000000002" }),
    "another schema version": () => ({ schemaVersion: "2" }),
    "another time": ({ createdAt }) => ({ createdAt: createdAt + 1 }),
    "no time": () => ({ createdAt: Number.NaN }),
    "another key": () => ({ keyId: "k" }),
    "another checksum": () => ({ checksum: "0".repeat(32) }),
    "no checksum": () => ({ checksum: null }),
    "a snapshot of another tenant, whole": (row) => {
      const other = { ...row, tenantId: "other" }
      return { ...other, checksum: SnapshotStoreEncoded.checksum(other) }
    },
    "a snapshot of another aggregate, whole": (row) => {
      const other = { ...row, aggregateId: "2" }
      return { ...other, checksum: SnapshotStoreEncoded.checksum(other) }
    },
    "a state that is no JSON, rightly summed": (row) => {
      const other = { ...row, state: "{" }
      return { ...other, checksum: SnapshotStoreEncoded.checksum(other) }
    },
    "a sealed state, rightly summed": (row) => {
      const other = { ...row, state: "c2VhbGVk", keyId: "k" }
      return { ...other, checksum: SnapshotStoreEncoded.checksum(other) }
    },
    "nothing at all": (row) => Object.fromEntries(Object.keys(row).map((key) => [key, undefined]))
  }
  for (const [name, change] of Object.entries(changes)) {
    it.scoped(`${name} is SnapshotCorrupt and names the stream, until a newer one is saved`, () =>
      Effect.gen(function* () {
        const store = yield* tampered(change)
        const error = yield* Effect.flip(store.latest(stream))
        assert.instanceOf(error, SnapshotStore.SnapshotCorrupt)
        assert.deepStrictEqual((error as SnapshotStore.SnapshotCorrupt).stream, stream)
        assert.isTrue(yield* store.save(stream, { ...snapshot, version: 8 }))
        assert.strictEqual(Option.getOrThrow(yield* store.latest(stream)).version, 8)
      })
    )
  }

  it.scoped("it can be deleted", () =>
    Effect.gen(function* () {
      const store = yield* tampered(() => ({ state: "" }))
      assert.isTrue(yield* store.delete(stream))
      assert.isTrue(Option.isNone(yield* store.latest(stream)))
    })
  )
})
