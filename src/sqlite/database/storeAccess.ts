/**
 * What the stores use of an open SQLite database.
 */
import type { SqliteDatabaseShape } from "../SqliteDatabase.js"

export interface StoreAccess extends Pick<SqliteDatabaseShape, "transaction" | "read" | "write"> {
  /** The file. */
  readonly connection: string
}
