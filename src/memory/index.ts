/**
 * The backends in memory.
 *
 * @since 0.1.0
 */
export * as EventStoreMemory from "./EventStoreMemory.js"
