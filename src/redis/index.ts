/**
 * The backends on Redis.
 *
 * @since 0.1.0
 */
export * as RedisDatabase from "./RedisDatabase.js"
export * as SnapshotStoreRedis from "./SnapshotStoreRedis.js"
