/**
 * The backends on SQLite, through better-sqlite3.
 *
 * @since 0.1.0
 */
export * as CacheStoreSqlite from "./CacheStoreSqlite.js"
export * as CheckpointStoreSqlite from "./CheckpointStoreSqlite.js"
export * as CommandStoreSqlite from "./CommandStoreSqlite.js"
export * as DataStoreSqlite from "./DataStoreSqlite.js"
export * as EventStoreSqlite from "./EventStoreSqlite.js"
export * as SnapshotStoreSqlite from "./SnapshotStoreSqlite.js"
export * as SqliteDatabase from "./SqliteDatabase.js"
export * as SubjectKeysSqlite from "./SubjectKeysSqlite.js"
