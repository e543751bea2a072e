/**
 * The CheckpointStore's contract on the backend in memory.
 */
import { Effect, Layer } from "effect"
import { CheckpointStore, CheckpointStoreEncoded } from "effect-stores"
import { CheckpointStoreMemory } from "effect-stores/memory"
import { CheckpointStoreSuite } from "effect-stores/testing"
import { badInput, model } from "./support/scale.js"

const encoded = Effect.runSync(CheckpointStoreMemory.makeEncoded)
const view = (readOnly: boolean) =>
  Layer.sync(CheckpointStore.CheckpointStore, () =>
    CheckpointStoreEncoded.make(encoded, { system: "memory", readOnly })
  )

CheckpointStoreSuite.contract("CheckpointStore in memory", view(false), { readOnly: view(true) })
CheckpointStoreSuite.badInput("CheckpointStore in memory", CheckpointStoreMemory.layer(), badInput)
CheckpointStoreSuite.model("CheckpointStore in memory", CheckpointStoreMemory.layer(), model)
