/**
 * How a SQLite file is brought up to the schema of a store: all missing versions in one immediate transaction, so that
 * of several processes starting at once one does it and the others find it done. Stores with the same prefix keep their
 * records in one table and know nothing else of each other.
 */
import { StoreError } from "../../Errors.js"
import type { SqliteConnection } from "./connection.js"

export interface Migration {
  readonly id: number
  readonly name: string
  readonly sql: (prefix: string) => string
}

/** What a store keeps: its name, and all versions of its tables. */
export interface StoreSchema {
  readonly store: string
  readonly migrations: ReadonlyArray<Migration>
}

const record = (prefix: string): string => `CREATE TABLE IF NOT EXISTS ${prefix}migrations (
  store      TEXT NOT NULL,
  id         INTEGER NOT NULL,
  name       TEXT NOT NULL,
  applied_at TEXT NOT NULL,
  PRIMARY KEY (store, id)
) STRICT;
`

const insert = (prefix: string, store: string, { id, name }: Migration): string =>
  `INSERT INTO ${prefix}migrations (store, id, name, applied_at) VALUES ('${store}', ${id}, '${name}', strftime('%Y-%m-%dT%H:%M:%fZ'));`

/** Everything that a store needs, for a database that has nothing of it. */
export const sql = ({ migrations, store }: StoreSchema, prefix: string): string =>
  [
    "BEGIN IMMEDIATE;\n",
    record(prefix),
    ...migrations.flatMap((migration) => [migration.sql(prefix), insert(prefix, store, migration)]),
    "\nCOMMIT;\n"
  ].join("\n")

/** What the database lacks. Throws when it has a version of the store that this one does not know. */
export const missing = (
  connection: SqliteConnection,
  { migrations, store }: StoreSchema,
  prefix: string
): ReadonlyArray<Migration> => {
  const table = connection
    .prepare("SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = ?")
    .get(`${prefix}migrations`) as [number]
  if (table[0] === 0) return migrations
  const applied = new Map(
    connection.prepare(`SELECT id, name FROM ${prefix}migrations WHERE store = ?`).all(store) as Array<[number, string]>
  )
  for (const [id, name] of applied) {
    if (!migrations.some((migration) => migration.id === id && migration.name === name)) {
      throw new StoreError({
        operation: "checking migrations",
        cause: new Error(`the database has the migration ${id} (${name}), made by a newer version of effect-stores`)
      })
    }
  }
  return migrations.filter(({ id }) => !applied.has(id))
}

/** Applies what is missing and answers the names. */
export const apply = (connection: SqliteConnection, schema: StoreSchema, prefix: string): ReadonlyArray<string> =>
  connection.atomically("migrate", () => {
    const todo = missing(connection, schema, prefix)
    if (todo.length > 0) connection.db.exec(record(prefix))
    for (const migration of todo) {
      connection.db.exec(migration.sql(prefix))
      connection.db.exec(insert(prefix, schema.store, migration))
    }
    return todo.map(({ name }) => name)
  })
