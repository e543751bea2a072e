/**
 * Brings a schema of PostgreSQL up to date: all missing migrations in one transaction, behind an advisory lock that is
 * taken before anything is looked at, so that of several processes starting at once one does it and the others find it
 * done. Stores with the same schema and prefix keep their records in one table and know nothing else of each other.
 */
import * as Effect from "effect/Effect"
import { StoreError, type StoreFailure } from "../../Errors.js"
import type { PgDatabaseShape } from "../PgDatabase.js"
import type { Statement } from "./access.js"
import type { Names } from "./names.js"

export interface Migration {
  readonly id: number
  readonly name: string
  readonly sql: string
}

/** What a store keeps: its name, and all versions of its tables and functions. */
export interface StoreSchema {
  readonly store: string
  readonly migrations: (names: Names) => ReadonlyArray<Migration>
}

// One lock for all schemas of a database: migrations are rare, and creating a schema is part of them.
const lock = "select pg_advisory_xact_lock(hashtext('effect-stores migrations'), 0)"

const preparation = (names: Names): string => `create schema if not exists "${names.schema}";

create table if not exists ${names.migrations} (
  store      text not null,
  id         int not null,
  name       text not null,
  applied_at timestamptz not null default now(),
  primary key (store, id)
);`

const entry = (names: Names, store: string, { id, name }: Migration): string =>
  `insert into ${names.migrations} (store, id, name) values ('${store}', ${id}, '${name}');`

/** Everything that a store needs, for a database that has nothing of it. */
export const sql = (names: Names, { migrations, store }: StoreSchema): string =>
  [
    "begin;",
    `${lock};`,
    preparation(names),
    ...migrations(names).flatMap((migration) => [migration.sql, entry(names, store, migration)]),
    "commit;\n"
  ].join("\n\n")

const text = (sql: string): Statement<void> => ({
  text: sql,
  operation: "migrate",
  kind: "write",
  onResult: () => undefined
})

/** What the database lacks. Fails when it has a version of the store that this one does not know. */
export const missing = (
  database: PgDatabaseShape,
  names: Names,
  { migrations, store }: StoreSchema
): Effect.Effect<ReadonlyArray<Migration>, StoreFailure> =>
  Effect.gen(function* () {
    const all = migrations(names)
    const operation = "checking migrations"
    const exists = yield* database.run({
      text: "select to_regclass($1) is not null as found",
      values: [names.migrations],
      operation,
      kind: "read",
      onResult: (result) => result.rows[0].found === "t"
    })
    if (!exists) return all
    const applied = yield* database.run({
      text: `select id, name from ${names.migrations} where store = $1`,
      values: [store],
      operation,
      kind: "read",
      onResult: (result) => new Map(result.rows.map(({ id, name }) => [Number(id), String(name)]))
    })
    for (const [id, name] of applied) {
      if (!all.some((migration) => migration.id === id && migration.name === name)) {
        const cause = new Error(
          `the database has the migration ${id} (${name}), made by a newer version of effect-stores`
        )
        return yield* new StoreError({ operation, cause })
      }
    }
    return all.filter(({ id }) => !applied.has(id))
  })

/** Applies what is missing and answers the names. */
export const apply = (
  database: PgDatabaseShape,
  names: Names,
  schema: StoreSchema
): Effect.Effect<ReadonlyArray<string>, StoreFailure> =>
  database.transaction(
    Effect.gen(function* () {
      yield* database.run(text(lock))
      yield* database.run(text(preparation(names)))
      const todo = yield* missing(database, names, schema)
      for (const migration of todo) {
        yield* database.run(text(migration.sql))
        yield* database.run(text(entry(names, schema.store, migration)))
      }
      return todo.map(({ name }) => name)
    })
  )
