/**
 * What a store on SQLite keeps beside its rows: few values by name, such as its id.
 */
import type * as Effect from "effect/Effect"
import type { StoreFailure } from "../../Errors.js"
import type { StoreAccess } from "./access.js"
import type { Names } from "./names.js"

/** One table for all stores with the same prefix. */
export const notesTable = ({ qualified }: Names): string => `CREATE TABLE IF NOT EXISTS ${qualified("notes")} (
  store TEXT NOT NULL,
  name  TEXT NOT NULL,
  value TEXT NOT NULL,
  PRIMARY KEY (store, name)
) STRICT;
`

export const makeNote = (database: StoreAccess, names: Names, store: string) => {
  const notes = names.qualified("notes")
  const insert = `INSERT INTO ${notes} (store, name, value) VALUES (?, ?, ?) ON CONFLICT DO NOTHING`
  const select = `SELECT value FROM ${notes} WHERE store = ? AND name = ?`

  return (name: string, value: string | null): Effect.Effect<string | null, StoreFailure> => {
    // Reads, too, on the connection that is open already: stores read notes when they open.
    if (value === null)
      return database.write("note", (connection) => {
        const row = connection.prepare(select).get(store, name) as [string] | undefined
        return row?.[0] ?? null
      })
    return database.write("note", (connection) =>
      connection.atomically("note", () => {
        connection.prepare(insert).run(store, name, value)
        return (connection.prepare(select).get(store, name) as [string])[0]
      })
    )
  }
}
