/**
 * What the modules of the stores on SQLite have in common: the options that name and prepare their tables, the start,
 * and migrations apart from it.
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { InvalidInput, StoreError, type StoreFailure } from "../../Errors.js"
import { type Keys, onlyKnown, part } from "../../internal/storeOptions.js"
import { checked, describe, fields } from "../../internal/validate.js"
import type * as Pool from "../../Pool.js"
import * as SqliteDatabase from "../SqliteDatabase.js"
import * as migrations from "./migrations.js"
import { databaseKeys } from "./options.js"

export interface NameOptions {
  /** What the names of the tables begin with: `[a-z_][a-z0-9_]{0,30}` or empty. Default `"es_"`. */
  readonly prefix?: string | undefined
}

export interface PreparationOptions extends NameOptions {
  /**
   * Create or update the tables at start. Default true. With false the start only checks that they are up to date, and
   * fails with `StoreError` otherwise.
   */
  readonly migrate?: boolean | undefined
}

const nameKeys: Keys<NameOptions> = { prefix: true }

export const preparationKeys: Keys<PreparationOptions> = { ...nameKeys, migrate: true }

const isPrefix = (prefix: unknown): prefix is string =>
  typeof prefix === "string" && /^(?!sqlite_)(?:[a-z_][a-z0-9_]{0,30})?$/.test(prefix)

/** Throws `InvalidInput`. */
const checkedPrefix = ({ prefix = "es_" }: NameOptions): string => {
  if (isPrefix(prefix)) return prefix
  throw new InvalidInput({
    what: "prefix",
    why: `must match [a-z_][a-z0-9_]{0,30} and not begin with sqlite_, or be empty, not ${describe(prefix)}`
  })
}

const prefixOf = (options: NameOptions): Effect.Effect<string, InvalidInput> =>
  checked(() => checkedPrefix(options), Effect.succeed)

/**
 * The prefix of the store's tables, which have been checked or brought up to date. Looks first: a database that is up to
 * date need not be locked.
 */
export const prepare = (
  database: SqliteDatabase.SqliteDatabaseShape,
  schema: migrations.StoreSchema,
  options: PreparationOptions
): Effect.Effect<string, InvalidInput | StoreFailure> =>
  Effect.gen(function* () {
    const known = yield* onlyKnown(options, preparationKeys)
    const prefix = yield* prefixOf(known)
    const missing = yield* database.write("checking migrations", (connection) =>
      migrations.missing(connection, schema, prefix)
    )
    if (missing.length === 0) return prefix
    if (known.migrate ?? true) {
      yield* database.write("migrate", (connection) => migrations.apply(connection, schema, prefix))
      return prefix
    }
    const names = missing.map(({ id, name }) => `${id} (${name})`).join(", ")
    return yield* new StoreError({
      operation: "checking migrations",
      cause: new Error(`${database.filename} lacks the migrations ${names}: run ${schema.store}Sqlite.migrate`)
    })
  })

export const migrate = (
  schema: migrations.StoreSchema,
  options: SqliteDatabase.Options & NameOptions
): Effect.Effect<ReadonlyArray<string>, InvalidInput | StoreFailure> =>
  Effect.scoped(
    Effect.gen(function* () {
      const known = yield* onlyKnown(options, { ...databaseKeys, ...nameKeys })
      const prefix = yield* prefixOf(known)
      const database = yield* SqliteDatabase.make(part(known, databaseKeys))
      return yield* database.write("migrate", (connection) => migrations.apply(connection, schema, prefix))
    })
  )

export const migrationSql = (schema: migrations.StoreSchema, options: NameOptions): string => {
  fields(options, "options", Object.keys(nameKeys))
  return migrations.sql(schema, checkedPrefix(options))
}

/** The `layer` of a store from its `layerFromDatabase`: on a database of its own, which it gives too. */
export const withDatabase =
  <Store, O extends PreparationOptions>(
    layerFromDatabase: (options: O) => Layer.Layer<Store, InvalidInput | StoreFailure, SqliteDatabase.SqliteDatabase>,
    storeKeys: Keys<O>,
    defaults: Pool.Defaults
  ) =>
  (
    options: SqliteDatabase.Options & O
  ): Layer.Layer<Store | SqliteDatabase.SqliteDatabase, InvalidInput | StoreFailure> =>
    Layer.unwrapEffect(
      Effect.map(onlyKnown<SqliteDatabase.Options & O>(options, { ...databaseKeys, ...storeKeys }), (options) =>
        Layer.provideMerge(
          layerFromDatabase(part<O>(options, storeKeys)),
          Layer.scoped(SqliteDatabase.SqliteDatabase, SqliteDatabase.make(part(options, databaseKeys), defaults))
        )
      )
    )
