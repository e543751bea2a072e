/**
 * Brings a schema of PostgreSQL up to date: all missing migrations in one transaction, behind an advisory lock that is
 * taken before anything is read. Of several processes that start at once, one applies them and the others find them
 * applied. Stores with the same schema and prefix share one table of records, and are otherwise independent.
 */
import * as Effect from "effect/Effect"
import type { StoreFailure } from "../../Errors.js"
import * as migrations from "../../sql/migrations.js"
import type { Statement, StoreAccess } from "./access.js"
import type { Names } from "./names.js"
import { notesTable } from "./notes.js"

export type StoreSchema = migrations.StoreSchema<Names>
type Migration = migrations.Migration<Names>

// One lock for all schemas of a database: migrations are rare, and creating a schema is part of them.
const lock = "select pg_advisory_xact_lock(hashtext('effect-stores migrations'), 0)"

const objects = (names: Names): string => `create schema if not exists "${names.schema}";

create table if not exists ${names.qualified("migrations")} (
  store      text not null,
  id         int not null,
  name       text not null,
  applied_at timestamptz not null default now(),
  primary key (store, id)
);

${notesTable(names)}`

const insert = (names: Names, store: string, { id, name }: Migration): string =>
  `insert into ${names.qualified("migrations")} (store, id, name) values ('${store}', ${id}, '${name}');`

/** Everything that a store needs, for an empty database. */
export const script = (names: Names, { migrations, store }: StoreSchema): string =>
  [
    "begin;",
    `${lock};`,
    objects(names),
    ...migrations.flatMap((migration) => [migration.sql(names), insert(names, store, migration)]),
    "commit;\n"
  ].join("\n\n")

const text = (sql: string): Statement<void> => ({
  text: sql,
  operation: "migrate",
  kind: "write",
  onResult: () => undefined
})

const isTable = (names: Names): Statement<boolean> => ({
  text: "select to_regclass($1) is not null as found",
  values: [names.qualified("migrations")],
  operation: migrations.checking,
  kind: "read",
  onResult: (result) => result.rows[0].found === "t"
})

const applied = (names: Names, store: string): Statement<ReadonlyMap<number, string>> => ({
  text: `select id, name from ${names.qualified("migrations")} where store = $1`,
  values: [store],
  operation: migrations.checking,
  kind: "read",
  onResult: (result) => new Map(result.rows.map(({ id, name }) => [Number(id), String(name)]))
})

/** The migrations that the database lacks. Fails if it has one that this version does not know. */
export const missing = (
  database: StoreAccess,
  names: Names,
  schema: StoreSchema
): Effect.Effect<ReadonlyArray<Migration>, StoreFailure> =>
  Effect.flatMap(database.run(isTable(names)), (exists) =>
    exists
      ? Effect.flatMap(database.run(applied(names, schema.store)), (applied) => migrations.missing(schema, applied))
      : Effect.succeed(schema.migrations)
  )

/** Applies missing migrations and returns their names. */
export const apply = (
  database: StoreAccess,
  names: Names,
  schema: StoreSchema
): Effect.Effect<ReadonlyArray<string>, StoreFailure> =>
  database.transaction(
    Effect.gen(function* () {
      yield* database.run(text(lock))
      yield* database.run(text(objects(names)))
      const todo = yield* missing(database, names, schema)
      for (const migration of todo) {
        yield* database.run(text(migration.sql(names)))
        yield* database.run(text(insert(names, schema.store, migration)))
      }
      return todo.map(({ name }) => name)
    })
  )
