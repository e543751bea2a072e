/**
 * What the modules of the stores on PostgreSQL have in common: the options of the database and of their names, the
 * start, and migrations apart from it.
 */
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Layer from "effect/Layer"
import { type InvalidInput, StoreError, type StoreFailure } from "../../Errors.js"
import { type Keys, onlyKnown, part } from "../../internal/storeOptions.js"
import { fields } from "../../internal/validate.js"
import type * as Pool from "../../Pool.js"
import * as PgDatabase from "../PgDatabase.js"
import * as migration from "./migrations.js"
import { checkedNames, type NameOptions, type Names } from "./names.js"
import { databaseKeys } from "./options.js"

export interface PreparationOptions extends NameOptions {
  /**
   * Create or update tables and functions at start. Default true. With false the start only checks that they are up to
   * date, and fails with `StoreError` otherwise.
   */
  readonly migrate?: boolean | undefined
}

const nameKeys: Keys<NameOptions> = { schema: true, prefix: true }

export const preparationKeys: Keys<PreparationOptions> = { ...nameKeys, migrate: true }

/**
 * The names of what the store has in the database, which has been checked or brought up to date. Looks first: a database
 * that is up to date need not be locked.
 */
export const prepare = (
  database: PgDatabase.PgDatabaseShape,
  store: migration.StoreSchema,
  options: PreparationOptions
): Effect.Effect<Names, InvalidInput | StoreFailure> =>
  Effect.gen(function* () {
    const known = yield* onlyKnown(options, preparationKeys)
    const names = yield* checkedNames(known)
    const missing = yield* migration.missing(database, names, store)
    if (missing.length === 0) return names
    if (known.migrate ?? true) {
      yield* migration.apply(database, names, store)
      return names
    }
    const lacking = missing.map(({ id, name }) => `${id} (${name})`).join(", ")
    return yield* new StoreError({
      operation: "checking migrations",
      cause: new Error(`${database.connection} lacks the migrations ${lacking}: run ${store.store}Pg.migrate`)
    })
  })

export const migrate = (
  store: migration.StoreSchema,
  options: PgDatabase.Options & NameOptions
): Effect.Effect<ReadonlyArray<string>, InvalidInput | StoreFailure> =>
  Effect.scoped(
    Effect.gen(function* () {
      const known = yield* onlyKnown(options, { ...databaseKeys, ...nameKeys })
      const names = yield* checkedNames(known)
      const database = yield* PgDatabase.make(part(known, databaseKeys))
      return yield* migration.apply(database, names, store)
    })
  )

export const migrationSql = (store: migration.StoreSchema, options: NameOptions): string => {
  fields(options, "options", Object.keys(nameKeys))
  const names = checkedNames(options)
  if (Either.isLeft(names)) throw names.left
  return migration.sql(names.right, store)
}

/** The `layer` of a store from its `layerFromDatabase`: on a database of its own, which it gives too. */
export const withDatabase =
  <Store, O extends PreparationOptions>(
    layerFromDatabase: (options: O) => Layer.Layer<Store, InvalidInput | StoreFailure, PgDatabase.PgDatabase>,
    storeKeys: Keys<O>,
    defaults: Pool.Defaults
  ) =>
  (options: PgDatabase.Options & O): Layer.Layer<Store | PgDatabase.PgDatabase, InvalidInput | StoreFailure> =>
    Layer.unwrapEffect(
      Effect.map(onlyKnown<PgDatabase.Options & O>(options, { ...databaseKeys, ...storeKeys }), (options) =>
        Layer.provideMerge(
          layerFromDatabase(part<O>(options, storeKeys)),
          Layer.scoped(PgDatabase.PgDatabase, PgDatabase.make(part(options, databaseKeys), defaults))
        )
      )
    )
