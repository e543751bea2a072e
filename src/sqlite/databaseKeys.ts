/**
 * The keys of a database's options; others are refused.
 */
import type { Keys } from "../internal/storeOptions.js"
import type { Options } from "./SqliteDatabase.js"

export const databaseKeys: Keys<Options> = { filename: true, synchronous: true, pool: true }
