/**
 * The EventStore's contract on the backend in memory.
 */

import { Duration, Effect, Layer } from "effect"
import { EventStore, EventStoreEncoded } from "effect-stores"
import { EventStoreMemory } from "effect-stores/memory"
import { EventStoreSuite } from "effect-stores/testing"
import { badInput, model } from "./support/scale.js"

const encoded = Effect.runSync(EventStoreMemory.makeEncoded)
const view = (readOnly: boolean) =>
  Layer.sync(EventStore.EventStore, () =>
    EventStoreEncoded.make(encoded, { system: "memory", readOnly, pollInterval: Duration.seconds(1) })
  )

EventStoreSuite.contract("EventStore in memory", view(false), { readOnly: view(true) })
EventStoreSuite.badInput("EventStore in memory", EventStoreMemory.layer(), badInput)
EventStoreSuite.model("EventStore in memory", EventStoreMemory.layer(), model)
