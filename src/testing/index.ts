/**
 * The contract suites, for tests of the package's backends and of a user's own. They need vitest and `@effect/vitest`.
 *
 * @since 0.1.0
 */
export * as CacheStoreSuite from "./CacheStoreSuite.js"
export * as CheckpointStoreSuite from "./CheckpointStoreSuite.js"
export * as CommandStoreSuite from "./CommandStoreSuite.js"
export * as DataStoreSuite from "./DataStoreSuite.js"
export * as EventStoreSuite from "./EventStoreSuite.js"
export * as SnapshotStoreSuite from "./SnapshotStoreSuite.js"
export * as SubjectKeysSuite from "./SubjectKeysSuite.js"
