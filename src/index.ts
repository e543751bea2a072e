/**
 * The contracts of the stores. No backend and no driver is loaded from here: each backend is an entry point of its own
 * (`effect-stores/memory`, `/sqlite`, `/pg`, `/redis`, `/minio`, `/fs`).
 *
 * @since 0.1.0
 */
export * as Aggregate from "./Aggregate.js"
export * as CacheBus from "./CacheBus.js"
export * as CacheStore from "./CacheStore.js"
export * as CacheStoreTwoLevels from "./CacheStoreTwoLevels.js"
export * as CheckpointStore from "./CheckpointStore.js"
export * as CommandStore from "./CommandStore.js"
export * as CommandWorker from "./CommandWorker.js"
export * as CryptoService from "./CryptoService.js"
export * as CacheStoreEncoded from "./cacheStore/CacheStoreEncoded.js"
export * as CheckpointStoreEncoded from "./checkpointStore/CheckpointStoreEncoded.js"
export * as CommandStoreEncoded from "./commandStore/CommandStoreEncoded.js"
export * as SubjectKeysEncoded from "./crypto/SubjectKeysEncoded.js"
export * as DataStore from "./DataStore.js"
export * as DataStoreEncoded from "./dataStore/DataStoreEncoded.js"
export * as Errors from "./Errors.js"
export * as EventStore from "./EventStore.js"
export * as EventStoreEncoded from "./eventStore/EventStoreEncoded.js"
export * as Health from "./Health.js"
export * as Json from "./Json.js"
export * as Pool from "./Pool.js"
export * as Projection from "./Projection.js"
export * as Reaction from "./Reaction.js"
export * as SnapshotPolicy from "./SnapshotPolicy.js"
export * as SnapshotStore from "./SnapshotStore.js"
export * as Subjects from "./Subjects.js"
export * as SnapshotStoreEncoded from "./snapshotStore/SnapshotStoreEncoded.js"
export * as Trace from "./Trace.js"
export * as Uuid from "./Uuid.js"
