/**
 * The backends in memory.
 *
 * @since 0.1.0
 */
export * as CacheStoreMemory from "./CacheStoreMemory.js"
export * as CheckpointStoreMemory from "./CheckpointStoreMemory.js"
export * as CommandStoreMemory from "./CommandStoreMemory.js"
export * as DataStoreMemory from "./DataStoreMemory.js"
export * as EventStoreMemory from "./EventStoreMemory.js"
export * as MemoryDatabase from "./MemoryDatabase.js"
export * as SnapshotStoreMemory from "./SnapshotStoreMemory.js"
export * as SubjectKeysMemory from "./SubjectKeysMemory.js"
