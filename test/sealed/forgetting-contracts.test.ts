/**
 * The contracts of the stores where every record is a subject's: users of a store cannot tell, as long as nobody is
 * forgotten.
 */
import { Duration, Effect, Layer, Redacted } from "effect"
import {
  CacheStore,
  CacheStoreEncoded,
  CommandStore,
  CommandStoreEncoded,
  CryptoService,
  DataStore,
  DataStoreEncoded,
  EventStore,
  EventStoreEncoded,
  SnapshotStore,
  SnapshotStoreEncoded,
  Subjects
} from "effect-stores"
import { SubjectKeysMemory } from "effect-stores/memory"
import { CommandStorePg, EventStorePg, SnapshotStorePg, SubjectKeysPg } from "effect-stores/pg"
import {
  CacheStoreSuite,
  CommandStoreSuite,
  DataStoreSuite,
  EventStoreSuite,
  SnapshotStoreSuite
} from "effect-stores/testing"
import { describePg, freshDatabase } from "../support/backends.js"
import { isFull } from "../support/scale.js"
import { type Keys, sharedKeys } from "./subjects.js"
import { crypto, model } from "./support.js"
import { memoryPorts } from "./worlds.js"

/** Few subjects with many records, and many with few. */
const rules: Subjects.Options = {
  events: ({ aggregateId }) => aggregateId,
  commands: ({ domain }) => domain,
  snapshots: ({ aggregateId }) => aggregateId,
  cache: ({ key }) => key,
  objects: ({ bucket }) => ({ tenantId: "all", id: bucket })
}

const owning = (keys: Keys) => {
  const cipher = crypto.pipe(Subjects.withRules(rules), Layer.provide(Layer.merge(keys, Subjects.layerLedgerMemory())))
  return <A, E, R>(layer: Layer.Layer<A, E, R>) => Layer.provide(CryptoService.seal(layer), cipher)
}

const owned = owning(sharedKeys(Effect.runSync(SubjectKeysMemory.makeEncoded)))
const { cache, commands, events, objects, snapshots } = Effect.runSync(memoryPorts)
const pollInterval = Duration.seconds(1)

EventStoreSuite.contract(
  "EventStore of subjects",
  owned(Layer.sync(EventStore.EventStore, () => EventStoreEncoded.make(events, { system: "memory", pollInterval })))
)
CommandStoreSuite.contract(
  "CommandStore of subjects",
  owned(Layer.sync(CommandStore.CommandStore, () => CommandStoreEncoded.make(commands, { system: "memory" })))
)
SnapshotStoreSuite.contract(
  "SnapshotStore of subjects",
  owned(Layer.scoped(SnapshotStore.SnapshotStore, SnapshotStoreEncoded.make(snapshots, { system: "memory" })))
)
const cached = owned(
  Layer.scoped(CacheStore.CacheStore, CacheStoreEncoded.make(cache, { system: "memory", leaseMs: 5_000 }))
)
CacheStoreSuite.contract("CacheStore of subjects", cached)
DataStoreSuite.contract(
  "DataStore of subjects",
  owned(Layer.sync(DataStore.DataStore, () => DataStoreEncoded.make(objects, { system: "memory" })))
)

/** Those of sealed stores run elsewhere; whose a record is makes a difference to few of their histories. */
if (isFull) {
  const models = Effect.runSync(memoryPorts)
  EventStoreSuite.model(
    "EventStore of subjects",
    owned(
      Layer.sync(EventStore.EventStore, () => EventStoreEncoded.make(models.events, { system: "memory", pollInterval }))
    ),
    model
  )
  CommandStoreSuite.model(
    "CommandStore of subjects",
    owned(Layer.sync(CommandStore.CommandStore, () => CommandStoreEncoded.make(models.commands, { system: "memory" }))),
    model
  )
  SnapshotStoreSuite.model(
    "SnapshotStore of subjects",
    owned(Layer.scoped(SnapshotStore.SnapshotStore, SnapshotStoreEncoded.make(models.snapshots, { system: "memory" }))),
    model
  )
  CacheStoreSuite.model(
    "CacheStore of subjects",
    owned(Layer.scoped(CacheStore.CacheStore, CacheStoreEncoded.make(models.cache, { system: "memory" }))),
    model
  )
  DataStoreSuite.model(
    "DataStore of subjects",
    owned(Layer.sync(DataStore.DataStore, () => DataStoreEncoded.make(models.objects, { system: "memory" }))),
    model
  )
}

/** What differs there are the keys, whose own contract and forgetting run on PostgreSQL each time. */
const describeInFull = isFull ? describePg : () => {}

describeInFull("stores of subjects on PostgreSQL", async () => {
  const url = Redacted.make(await freshDatabase())
  const owned = owning(SubjectKeysPg.layer({ url }))
  EventStoreSuite.contract("EventStore of subjects on PostgreSQL", owned(EventStorePg.layer({ url })))
  CommandStoreSuite.contract("CommandStore of subjects on PostgreSQL", owned(CommandStorePg.layer({ url })))
  SnapshotStoreSuite.contract("SnapshotStore of subjects on PostgreSQL", owned(SnapshotStorePg.layer({ url })))
})
