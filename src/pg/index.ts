/**
 * The backends on PostgreSQL.
 *
 * @since 0.1.0
 */
export * as EventStorePg from "./EventStorePg.js"
export * as PgDatabase from "./PgDatabase.js"
