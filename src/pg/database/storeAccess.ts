/**
 * What the stores use of an open PostgreSQL database.
 */
import type { PgDatabaseShape } from "../PgDatabase.js"

export type StoreAccess = Pick<
  PgDatabaseShape,
  "connection" | "transaction" | "run" | "write" | "submit" | "inTransaction" | "limits" | "settings"
>
