/**
 * The backends on Redis.
 *
 * @since 0.1.0
 */
export * as CacheStoreRedis from "./CacheStoreRedis.js"
export * as RedisDatabase from "./RedisDatabase.js"
export * as SnapshotStoreRedis from "./SnapshotStoreRedis.js"
