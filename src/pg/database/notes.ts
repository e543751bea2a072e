/**
 * What a store on PostgreSQL keeps beside its rows: few values by name, such as its id.
 */
import type Pg from "pg"
import type { Statement } from "./access.js"
import type { Names } from "./names.js"

/** One table for all stores with the same schema and prefix. */
export const notesTable = ({ qualified }: Names): string => `create table ${qualified("notes")} (
  store text collate "C" not null,
  name  text collate "C" not null,
  value text not null,
  primary key (store, name)
);`

const value = ({ rows }: Pg.QueryResult): string | null => (rows[0] as readonly [string] | undefined)?.[0] ?? null

/** The update that changes nothing gives the row that is there already, also one that was just committed by another. */
export const note = (names: Names, store: string, name: string, given: string | null): Statement<string | null> => {
  const notes = names.qualified("notes")
  return given === null
    ? {
        text: `select value from ${notes} where store = $1 and name = $2`,
        values: [store, name],
        rowMode: "array",
        operation: "note",
        kind: "read",
        onResult: value
      }
    : {
        text: `insert into ${notes} as kept (store, name, value) values ($1, $2, $3)
               on conflict (store, name) do update set value = kept.value returning value`,
        values: [store, name, given],
        rowMode: "array",
        operation: "note",
        kind: "write",
        onResult: value
      }
}
