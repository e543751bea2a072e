/**
 * The keys of a database's options; others are refused.
 */
import type { Keys } from "../internal/storeOptions.js"
import type { Options } from "./PgDatabase.js"

export const databaseKeys: Keys<Options> = {
  url: true,
  host: true,
  port: true,
  database: true,
  username: true,
  password: true,
  ssl: true,
  applicationName: true,
  connectTimeout: true,
  statementTimeout: true,
  lockTimeout: true,
  idleInTransactionTimeout: true,
  pool: true
}
