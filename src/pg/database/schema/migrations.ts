/**
 * Brings a schema of PostgreSQL up to date: all missing migrations in one transaction, behind an advisory lock that is
 * taken before anything is read. Of several processes that start at once, one applies them and the others find them
 * applied. Stores with the same schema and prefix share one table of records, and are otherwise independent.
 *
 * What exists already is not created "if not exists": PostgreSQL would ask for the privilege to create it all the same.
 */
import * as Effect from "effect/Effect"
import { StoreError, type StoreFailure } from "../../../Errors.js"
import * as migrations from "../../../sql/migrations.js"
import type { Statement, StoreAccess } from "../access.js"
import { sqlStateOf } from "../failures.js"
import type { Names } from "../names.js"
import { notesTable } from "../notes.js"
import * as indexes from "./indexes.js"
import { jsonFunction } from "./json.js"
import * as positions from "./positions.js"
import * as privileges from "./privileges.js"

/** What a store on PostgreSQL keeps, what it must be allowed to use it, and whether it gives out positions. */
export interface StoreSchema extends migrations.StoreSchema<Names> {
  readonly needs: privileges.Needs
  readonly positions?: positions.Positions
}
type Migration = migrations.Migration<Names>

// One lock for all schemas of a database: migrations are rare, and creating a schema is part of them.
const lock = "select pg_advisory_xact_lock(hashtext('effect-stores migrations'), 0)"

const unless = (exists: string, create: string): string => `do $do$ begin
if not ${exists} then
${create}
end if;
end $do$;`

/** By catalogs, which everybody may read. */
const relation = (names: Names, name: string): string => `exists (
  select from pg_class c join pg_namespace n on n.oid = c.relnamespace
  where n.nspname = '${names.schema}' and c.relname = '${names.plain(name)}'
)`

/** What all stores with the same schema and prefix share. */
const objects = (names: Names): string =>
  [
    unless(`exists (select from pg_namespace where nspname = '${names.schema}')`, `create schema "${names.schema}";`),
    unless(
      relation(names, "migrations"),
      `create table ${names.qualified("migrations")} (
  store      text not null,
  id         int not null,
  name       text not null,
  applied_at timestamptz not null default now(),
  primary key (store, id)
);`
    ),
    unless(relation(names, "notes"), notesTable(names)),
    unless(
      `exists (
  select from pg_proc p join pg_namespace n on n.oid = p.pronamespace
  where n.nspname = '${names.schema}' and p.proname = '${names.plain("json")}'
)`,
      jsonFunction(names)
    )
  ].join("\n\n")

const insert = (names: Names, store: string, { id, name }: Migration): string =>
  `insert into ${names.qualified("migrations")} (store, id, name) values ('${store}', ${id}, '${name}');`

/** Everything that a store needs, for an empty database. */
export const script = (names: Names, schema: StoreSchema): string =>
  [
    "begin;",
    `${lock};`,
    objects(names),
    ...schema.migrations.flatMap((migration) => [migration.sql(names), insert(names, schema.store, migration)]),
    ...[indexes.script(names, schema)].filter((text) => text !== ""),
    "commit;\n"
  ].join("\n\n")

const text = (sql: string): Statement<void> => ({
  text: sql,
  operation: "migrate",
  kind: "write",
  onResult: () => undefined
})

const isTable = (names: Names): Statement<boolean> => ({
  text: `select ${relation(names, "migrations")} as found`,
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

const lacking = (
  database: StoreAccess,
  names: Names,
  schema: StoreSchema
): Effect.Effect<ReadonlyArray<Migration>, StoreFailure> =>
  Effect.flatMap(database.run(isTable(names)), (exists) =>
    exists
      ? Effect.flatMap(database.run(applied(names, schema.store)), (applied) => migrations.missing(schema, applied))
      : Effect.succeed(schema.migrations)
  )

/**
 * 1. Fails if the role lacks a privilege on what exists, and lists what to grant.
 * 2. What the database lacks. Fails if it has a migration that this version does not know.
 * 3. If it lacks no migration: fails if the store would give out positions that events or commands have already.
 */
export const missing = (
  database: StoreAccess,
  names: Names,
  schema: StoreSchema,
  readOnly: boolean
): Effect.Effect<migrations.Missing, StoreFailure> =>
  privileges.check(database, names, schema.needs, readOnly).pipe(
    Effect.zipRight(lacking(database, names, schema)),
    Effect.tap((missing) =>
      missing.length > 0 || schema.positions === undefined
        ? Effect.void
        : positions.check(database, names, schema.positions)
    ),
    Effect.flatMap((migrations) =>
      Effect.map(indexes.missing(database, names, schema), (indexes) => ({ migrations, indexes }))
    )
  )

/**
 * Applies missing migrations, creates missing indexes, and returns the names of both. Needs no privilege but to read if
 * there are none.
 */
export const apply = (
  database: StoreAccess,
  names: Names,
  schema: StoreSchema
): Effect.Effect<ReadonlyArray<string>, StoreFailure> =>
  Effect.gen(function* () {
    const before = yield* indexes.missing(database, names, schema)
    const applied = yield* database.transaction(
      Effect.gen(function* () {
        yield* database.run(text(lock))
        const todo = yield* lacking(database, names, schema)
        if (todo.length > 0) yield* database.run(text(objects(names)))
        for (const migration of todo) {
          yield* database.run(text(migration.sql(names)))
          yield* database.run(text(insert(names, schema.store, migration)))
        }
        const isNew = todo.length === schema.migrations.length
        if (isNew && before.length > 0) yield* database.run(text(indexes.script(names, schema)))
        return [...todo.map(({ name }) => name), ...(isNew ? before : [])]
      })
    )
    const after = yield* indexes.missing(database, names, schema)
    return after.length === 0 ? applied : [...applied, ...(yield* indexes.build(database, names, schema))]
  }).pipe(Effect.mapError((error) => (sqlStateOf(error) === "42501" ? mayNot(names, error) : error)))

const mayNot = ({ schema }: Names, error: StoreFailure): StoreError => {
  const why =
    `whoever creates or updates the tables owns the schema "${schema}", or has usage and create on it, ` +
    "and owns the tables that exist"
  return new StoreError({ operation: "migrate", cause: new Error(`${error.message}: ${why}`, { cause: error }) })
}
