/**
 * What a store keeps in a SQL database, version by version, and which of it a database lacks. Each backend reads its
 * record and applies missing migrations in its own way.
 */
import * as Either from "effect/Either"
import { StoreError } from "../Errors.js"

/** The names of what the stores have in a database. */
export interface Names {
  /** A table, an index or a function as statements name it. */
  readonly qualified: (name: string) => string
}

export interface Migration<N extends Names> {
  readonly id: number
  readonly name: string
  readonly sql: (names: N) => string
}

/** What a store keeps: its name, and all versions of its tables and functions. */
export interface StoreSchema<N extends Names> {
  readonly store: string
  /** The one that its operations are about, by name without the prefix. */
  readonly table: string
  readonly migrations: ReadonlyArray<Migration<N>>
  /** Indexes of the table that are by choice: by name without the table's, the columns in brackets. */
  readonly indexes?: { readonly [name: string]: string }
}

/** What a database lacks. */
export interface Missing {
  readonly migrations: ReadonlyArray<Migration<never>>
  /** Indexes, as the database calls them. */
  readonly indexes: ReadonlyArray<string>
}

/** What errors call the look at the record. */
export const checking = "checking migrations"

/** The migrations that are not in the record. Fails if the record has one that this version does not know. */
export const missing = <N extends Names>(
  { migrations }: StoreSchema<N>,
  applied: ReadonlyMap<number, string>
): Either.Either<ReadonlyArray<Migration<N>>, StoreError> => {
  for (const [id, name] of applied) {
    if (!migrations.some((migration) => migration.id === id && migration.name === name)) {
      const why = `the database has the migration ${id} (${name}), made by a newer version of effect-stores`
      return Either.left(new StoreError({ operation: checking, cause: new Error(why) }))
    }
  }
  return Either.right(migrations.filter(({ id }) => !applied.has(id)))
}
