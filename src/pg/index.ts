/**
 * The backends on PostgreSQL.
 *
 * @since 0.1.0
 */
export * as CacheStorePg from "./CacheStorePg.js"
export * as CheckpointStorePg from "./CheckpointStorePg.js"
export * as CommandStorePg from "./CommandStorePg.js"
export * as DataStorePg from "./DataStorePg.js"
export * as EventStorePg from "./EventStorePg.js"
export * as PgDatabase from "./PgDatabase.js"
export * as SnapshotStorePg from "./SnapshotStorePg.js"
export * as SubjectKeysPg from "./SubjectKeysPg.js"
