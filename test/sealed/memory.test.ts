/**
 * The contracts of the stores in memory, sealed: users of a store cannot tell.
 */
import { Duration, Effect, Layer } from "effect"
import {
  CommandStore,
  CommandStoreEncoded,
  EventStore,
  EventStoreEncoded,
  SnapshotStore,
  SnapshotStoreEncoded
} from "effect-stores"
import { CommandStoreMemory, EventStoreMemory, SnapshotStoreMemory } from "effect-stores/memory"
import { CommandStoreSuite, EventStoreSuite, SnapshotStoreSuite } from "effect-stores/testing"
import { badInput, model, sealed } from "./support.js"

const events = Effect.runSync(EventStoreMemory.makeEncoded)
const eventStore = (readOnly: boolean) =>
  Layer.sync(EventStore.EventStore, () =>
    EventStoreEncoded.make(events, { system: "memory", readOnly, pollInterval: Duration.seconds(1) })
  ).pipe(sealed)

EventStoreSuite.contract("sealed EventStore in memory", eventStore(false), { readOnly: eventStore(true) })
EventStoreSuite.badInput("sealed EventStore in memory", sealed(EventStoreMemory.layer()), badInput)
EventStoreSuite.model("sealed EventStore in memory", sealed(EventStoreMemory.layer()), model)

const commands = Effect.runSync(CommandStoreMemory.makeEncoded)
const commandStore = (readOnly: boolean) =>
  Layer.sync(CommandStore.CommandStore, () => CommandStoreEncoded.make(commands, { system: "memory", readOnly })).pipe(
    sealed
  )

CommandStoreSuite.contract("sealed CommandStore in memory", commandStore(false), { readOnly: commandStore(true) })
CommandStoreSuite.badInput("sealed CommandStore in memory", sealed(CommandStoreMemory.layer()), badInput)
CommandStoreSuite.model("sealed CommandStore in memory", sealed(CommandStoreMemory.layer()), model)

const snapshots = Effect.runSync(SnapshotStoreMemory.makeEncoded)
const snapshotStore = (readOnly: boolean) =>
  Layer.scoped(SnapshotStore.SnapshotStore, SnapshotStoreEncoded.make(snapshots, { system: "memory", readOnly })).pipe(
    sealed
  )

SnapshotStoreSuite.contract("sealed SnapshotStore in memory", snapshotStore(false), { readOnly: snapshotStore(true) })
SnapshotStoreSuite.badInput("sealed SnapshotStore in memory", sealed(SnapshotStoreMemory.layer()), badInput)
SnapshotStoreSuite.model("sealed SnapshotStore in memory", sealed(SnapshotStoreMemory.layer()), model)
