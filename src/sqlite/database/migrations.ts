/**
 * How a SQLite file is brought up to the schema of a store: all missing versions in one immediate transaction, so that
 * of several processes that start at once, one applies them and the others find them applied. Stores with the same
 * prefix share one table of records, and are otherwise independent.
 */

import type * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import { identity } from "effect/Function"
import type { StoreFailure } from "../../Errors.js"
import * as migrations from "../../sql/migrations.js"
import type { StoreAccess } from "./access.js"
import type { StepConnection } from "./connection.js"
import type { Names } from "./names.js"
import { notesTable } from "./notes.js"

export type StoreSchema = migrations.StoreSchema<Names>
type Migration = migrations.Migration<Names>

const record = (names: Names): string => `CREATE TABLE IF NOT EXISTS ${names.qualified("migrations")} (
  store      TEXT NOT NULL,
  id         INTEGER NOT NULL,
  name       TEXT NOT NULL,
  applied_at TEXT NOT NULL,
  PRIMARY KEY (store, id)
) STRICT;
`

const insert = (names: Names, store: string, { id, name }: Migration): string =>
  `INSERT INTO ${names.qualified("migrations")} (store, id, name, applied_at)
VALUES ('${store}', ${id}, '${name}', strftime('%Y-%m-%dT%H:%M:%fZ'));`

/** Everything that a store needs, for an empty database. */
export const script = (names: Names, { migrations, store }: StoreSchema): string =>
  [
    "BEGIN IMMEDIATE;\n",
    record(names),
    notesTable(names),
    ...migrations.flatMap((migration) => [migration.sql(names), insert(names, store, migration)]),
    "\nCOMMIT;\n"
  ].join("\n")

const applied = (connection: StepConnection, names: Names, store: string): ReadonlyMap<number, string> => {
  const table = names.qualified("migrations")
  const [found] = connection
    .prepare("SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = ?")
    .get(table) as [number]
  if (found === 0) return new Map()
  return new Map(
    connection.prepare(`SELECT id, name FROM ${table} WHERE store = ?`).all(store) as Array<[number, string]>
  )
}

const missingOn = (connection: StepConnection, names: Names, schema: StoreSchema): ReadonlyArray<Migration> =>
  Either.getOrThrowWith(migrations.missing(schema, applied(connection, names, schema.store)), identity)

/** The migrations that the database lacks. Fails if it has one that this version does not know. */
export const missing = (
  database: StoreAccess,
  names: Names,
  schema: StoreSchema
): Effect.Effect<ReadonlyArray<Migration>, StoreFailure> =>
  database.write(migrations.checking, (connection) => missingOn(connection, names, schema))

/** Applies missing migrations and returns their names. */
export const apply = (
  database: StoreAccess,
  names: Names,
  schema: StoreSchema
): Effect.Effect<ReadonlyArray<string>, StoreFailure> =>
  database.write("migrate", (connection) =>
    connection.atomically("migrate", () => {
      const todo = missingOn(connection, names, schema)
      if (todo.length > 0) connection.execute(`${record(names)}${notesTable(names)}`)
      for (const migration of todo) {
        connection.execute(migration.sql(names))
        connection.execute(insert(names, schema.store, migration))
      }
      return todo.map(({ name }) => name)
    })
  )
