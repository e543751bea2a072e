/**
 * How a store becomes layers on a SQL database, the same for every store and both databases. Options are checked once,
 * at the entry and before anything is opened. Then the tables are checked or updated, and the store's port is lifted. A
 * backend says how a database is opened and migrated (`Backend`); a store says what is its own (`Store`).
 */
import type * as Config from "effect/Config"
import type { ConfigError } from "effect/ConfigError"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import { type InvalidInput, StoreError, type StoreFailure } from "../Errors.js"
import * as variables from "../internal/config.js"
import { lacksKeys } from "../internal/lifted.js"
import { type Keys, onlyKnown, part } from "../internal/storeOptions.js"
import { checked, fields } from "../internal/validate.js"
import type * as Pool from "../Pool.js"
import type { Location } from "../Trace.js"
import { checking, type Missing, type Names, type StoreSchema } from "./migrations.js"

export interface MigrateOptions {
  /**
   * Create or update the tables at start. Default true. With false the start only checks that they are up to date, and
   * fails with `StoreError` otherwise.
   */
  readonly migrate?: boolean | undefined
}

/** What stores use of an open database. */
export interface Opened {
  /** Where it is, without secrets. */
  readonly connection: string
}

/**
 * A kind of database: `Tag` with its `Service`, opened with `Options`. `Naming` names what is in it, and `S` is what a
 * store has to say of its tables.
 */
export interface Backend<Tag, Service, Access extends Opened, Options, Naming, N extends Names, S> {
  /** How the names of its Layer modules end. */
  readonly suffix: string
  readonly tag: Context.Tag<Tag, Service>
  readonly access: (service: Service) => Access
  readonly databaseKeys: Keys<Options>
  /** Must check the values of the options, not their keys. */
  readonly open: (
    options: Options,
    defaults: Pool.Defaults,
    store: string
  ) => Effect.Effect<Service, InvalidInput | StoreFailure, Scope.Scope>
  readonly namingKeys: Keys<Naming>
  /** Throws `InvalidInput`. */
  readonly names: (options: Naming) => N
  /** What the database lacks. Fails if what is there cannot be used as the store is to be opened. */
  readonly missing: (access: Access, names: N, schema: S, readOnly: boolean) => Effect.Effect<Missing, StoreFailure>
  /**
   * Applies missing migrations, creates missing indexes, and returns the names of both. Several processes may do it at
   * once.
   */
  readonly apply: (access: Access, names: N, schema: S) => Effect.Effect<ReadonlyArray<string>, StoreFailure>
  /** All migrations as a script for an empty database. */
  readonly script: (names: N, schema: S) => string
}

/** A store on a backend: `Tag` with its `Service`, made of the `Port` that is lifted with `Lifting`. */
export interface Store<Tag, Service, Access extends Opened, Preparation, N, S, Options, Lifting, Port, R> {
  readonly tag: Context.Tag<Tag, Service>
  readonly schema: S
  /** For a store that has indexes by choice: which of its schema's are wanted. Throws `InvalidInput`. */
  readonly indexes?: (options: object) => ReadonlyArray<string>
  /** The keys of the store's own options, beside those of every store on this backend. */
  readonly keys: Keys<Omit<Options, keyof Preparation>>
  /** Checks the values of the store's own options. */
  readonly options: (options: Options) => Effect.Effect<Lifting, InvalidInput>
  readonly port: (access: Access, names: N) => Effect.Effect<Port, StoreFailure, R>
  readonly lift: (port: Port, options: Lifting & Location, access: Access) => Effect.Effect<Service, never, Scope.Scope>
  /** Limits of the pool where the options give none. */
  readonly pool: Pool.Defaults
}

export const on = <
  DatabaseTag,
  Database,
  Access extends Opened,
  DatabaseOptions extends object,
  Naming extends object,
  N extends Names,
  S extends StoreSchema<N>
>(
  backend: Backend<DatabaseTag, Database, Access, DatabaseOptions, Naming, N, S>
) => {
  type Preparation = Naming & MigrateOptions
  type Failure = InvalidInput | StoreFailure
  const { databaseKeys, namingKeys } = backend
  const preparationKeys = { ...namingKeys, migrate: true } as Keys<Preparation>

  const names = (options: Naming) => checked(() => backend.names(options), Effect.succeed)

  /** Checks first: a database that is up to date need not be locked. */
  const prepare = (access: Access, names: N, schema: S, readOnly: boolean, migrate = true) =>
    Effect.flatMap(backend.missing(access, names, schema, readOnly), (missing) => {
      const { indexes, migrations } = missing
      if (migrations.length + indexes.length === 0) return Effect.void
      if (migrate) return backend.apply(access, names, schema)
      const lacking = [
        ...(migrations.length === 0
          ? []
          : [`the migrations ${migrations.map(({ id, name }) => `${id} (${name})`).join(", ")}`]),
        ...(indexes.length === 0 ? [] : [`the indexes ${indexes.join(", ")}`])
      ].join(" and ")
      const why = `${access.connection} lacks ${lacking}: run ${schema.store}${backend.suffix}.migrate`
      return Effect.fail(new StoreError({ operation: checking, cause: new Error(why) }))
    })

  return <Tag, Service extends object, Options extends Preparation, Lifting, Port, R extends Scope.Scope>(
    store: Store<Tag, Service, Access, Preparation, N, S, Options, Lifting, Port, R>
  ) => {
    const storeKeys = { ...preparationKeys, ...store.keys } as Keys<Options>
    const schemaKeys: object = store.indexes === undefined ? {} : { indexes: true }

    /** The schema with the indexes that are wanted. Throws `InvalidInput`. */
    const chosen = (options: object): S => {
      const { schema } = store
      if (store.indexes === undefined) return schema
      const { indexes = {} } = schema
      return { ...schema, indexes: Object.fromEntries(store.indexes(options).map((name) => [name, indexes[name]])) }
    }
    const chosenSchema = (options: object) => checked(() => chosen(options), Effect.succeed)

    const checkedOptions = (options: Options) =>
      Effect.all({ names: names(options), schema: chosenSchema(options), lifting: store.options(options) }).pipe(
        Effect.map((checked) => ({
          ...checked,
          migrate: options.migrate,
          readOnly: "readOnly" in options && options.readOnly === true
        }))
      )

    type Checked = Effect.Effect.Success<ReturnType<typeof checkedOptions>>

    const build = (
      access: Access,
      { lifting, migrate, names, readOnly, schema }: Checked
    ): Effect.Effect<Service, StoreFailure, Scope.Scope> => {
      const port: Effect.Effect<Port, StoreFailure, Scope.Scope> = store.port(access, names)
      const location: Location = {
        connection: access.connection,
        collection: names.qualified(schema.table).replaceAll('"', "")
      }
      return prepare(access, names, schema, readOnly, migrate).pipe(
        Effect.zipRight(port),
        Effect.flatMap((port) => store.lift(port, { ...lifting, ...location }, access)),
        Effect.tap((service) => lacksKeys(service))
      )
    }

    const makeEncoded = (options: Preparation = {} as Preparation): Effect.Effect<Port, Failure, DatabaseTag | R> =>
      Effect.gen(function* () {
        const known = yield* onlyKnown(options, { ...preparationKeys, ...schemaKeys })
        const given = yield* names(known)
        const schema = yield* chosenSchema(known)
        const access = backend.access(yield* backend.tag)
        yield* prepare(access, given, schema, false, known.migrate)
        return yield* store.port(access, given)
      })

    const layerFromDatabase = (options: Options = {} as Options): Layer.Layer<Tag, Failure, DatabaseTag> =>
      Layer.unwrapEffect(
        Effect.gen(function* () {
          const accepted = yield* checkedOptions(yield* onlyKnown(options, storeKeys))
          return Layer.scoped(store.tag, build(backend.access(yield* backend.tag), accepted))
        })
      )

    const layer = (options: DatabaseOptions & Options): Layer.Layer<Tag | DatabaseTag, Failure> =>
      Layer.scopedContext(
        Effect.gen(function* () {
          const known = yield* onlyKnown(options, { ...databaseKeys, ...storeKeys } as Keys<DatabaseOptions & Options>)
          const accepted = yield* checkedOptions(part<Options>(known, storeKeys))
          const database = yield* backend.open(
            part<DatabaseOptions>(known, databaseKeys),
            store.pool,
            store.schema.store
          )
          const service = yield* build(backend.access(database), accepted)
          return Context.add(Context.make(backend.tag, database), store.tag, service)
        })
      )

    const layerConfig = (
      config: Config.Config.Wrap<DatabaseOptions & Options>
    ): Layer.Layer<Tag | DatabaseTag, Failure | ConfigError> =>
      Layer.unwrapEffect(Effect.map(variables.read<DatabaseOptions & Options>(config), layer))

    const migrate = (options: DatabaseOptions & Naming): Effect.Effect<ReadonlyArray<string>, Failure> =>
      Effect.scoped(
        Effect.gen(function* () {
          const known = yield* onlyKnown(options, { ...databaseKeys, ...namingKeys, ...schemaKeys } as Keys<
            DatabaseOptions & Naming
          >)
          const given = yield* names(known)
          const schema = yield* chosenSchema(known)
          const database = yield* backend.open(
            part<DatabaseOptions>(known, databaseKeys),
            store.pool,
            store.schema.store
          )
          return yield* backend.apply(backend.access(database), given, schema)
        })
      )

    const migrationSql = (options: Naming = {} as Naming): string => {
      fields(options, "options", Object.keys({ ...namingKeys, ...schemaKeys }))
      return backend.script(backend.names(options), chosen(options))
    }

    return { makeEncoded, layerFromDatabase, layer, layerConfig, migrate, migrationSql }
  }
}
