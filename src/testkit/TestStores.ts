/**
 * The stores of a test: everything that events, commands and followers need, in memory.
 *
 * @since 0.1.0
 */
import * as Layer from "effect/Layer"
import type { CheckpointStore } from "../CheckpointStore.js"
import type { CommandStore } from "../CommandStore.js"
import type { InvalidInput } from "../Errors.js"
import type { EventStore } from "../EventStore.js"
import * as CheckpointStoreMemory from "../memory/CheckpointStoreMemory.js"
import * as CommandStoreMemory from "../memory/CommandStoreMemory.js"
import * as EventStoreMemory from "../memory/EventStoreMemory.js"
import * as MemoryDatabase from "../memory/MemoryDatabase.js"
import * as SnapshotStoreMemory from "../memory/SnapshotStoreMemory.js"
import type { SnapshotStore } from "../SnapshotStore.js"

/**
 * Stores of their own, empty, each time the layer is built, on one `MemoryDatabase`: what is in one transaction is
 * committed together. Their time is that of the Clock, so a test clock moves it.
 *
 * @since 0.1.0
 * @category layers
 */
export const layer: Layer.Layer<
  EventStore | CommandStore | SnapshotStore | CheckpointStore | MemoryDatabase.MemoryDatabase,
  InvalidInput
> = Layer.provideMerge(
  Layer.mergeAll(
    EventStoreMemory.layerFromDatabase(),
    CommandStoreMemory.layerFromDatabase(),
    SnapshotStoreMemory.layerFromDatabase(),
    CheckpointStoreMemory.layerFromDatabase()
  ),
  MemoryDatabase.layer
)
