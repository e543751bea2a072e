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

const indexName = (names: Names, { table }: StoreSchema, index: string): string => names.qualified(`${table}_${index}`)

const createIndex = (names: Names, schema: StoreSchema, index: string): string =>
  `CREATE INDEX ${indexName(names, schema, index)} ON ${names.qualified(schema.table)} ${schema.indexes?.[index]};`

/** Everything that a store needs, for an empty database. */
export const script = (names: Names, schema: StoreSchema): string =>
  [
    "BEGIN IMMEDIATE;\n",
    record(names),
    notesTable(names),
    ...schema.migrations.flatMap((migration) => [migration.sql(names), insert(names, schema.store, migration)]),
    ...Object.keys(schema.indexes ?? {}).map((index) => createIndex(names, schema, index)),
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

/** The indexes of a table that there are, by name without the table's. */
export const indexesOn = (connection: StepConnection, names: Names, table: string): ReadonlySet<string> => {
  const found = connection
    .prepare("SELECT name FROM sqlite_schema WHERE type = 'index' AND tbl_name = ?")
    .all(names.qualified(table)) as Array<[string]>
  return new Set(found.map(([name]) => name.slice(names.qualified(`${table}_`).length)))
}

const missingIndexes = (connection: StepConnection, names: Names, schema: StoreSchema): ReadonlyArray<string> => {
  const existing = indexesOn(connection, names, schema.table)
  return Object.keys(schema.indexes ?? {}).filter((index) => !existing.has(index))
}

/** What the database lacks. Fails if it has a migration that this version does not know. */
export const missing = (
  database: StoreAccess,
  names: Names,
  schema: StoreSchema
): Effect.Effect<migrations.Missing, StoreFailure> =>
  database.write(migrations.checking, (connection) => ({
    migrations: missingOn(connection, names, schema),
    indexes: missingIndexes(connection, names, schema).map((index) => indexName(names, schema, index))
  }))

/** Applies missing migrations, creates missing indexes, and returns the names of both. */
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
      const indexes = missingIndexes(connection, names, schema)
      for (const index of indexes) connection.execute(createIndex(names, schema, index))
      return [...todo.map(({ name }) => name), ...indexes.map((index) => indexName(names, schema, index))]
    })
  )
