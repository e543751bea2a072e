/**
 * The CommandStore in PostgreSQL. Every step of an execution is one statement. Leases run on the clock of the server, so
 * the clocks of the processes need not agree.
 *
 * @since 0.1.0
 */
import * as Config from "effect/Config"
import type { ConfigError } from "effect/ConfigError"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { CommandStore } from "../CommandStore.js"
import * as Encoded from "../commandStore/CommandStoreEncoded.js"
import type { InvalidInput, StoreFailure } from "../Errors.js"
import { type Keys, liftOptions, onlyKnown, part } from "../internal/storeOptions.js"
import * as Pool from "../Pool.js"
import * as statements from "./commandStore/statements.js"
import type { Statement } from "./database/access.js"
import type { NameOptions } from "./database/names.js"
import * as preparation from "./database/preparation.js"
import { type PreparationOptions, preparationKeys } from "./database/preparation.js"
import * as PgDatabase from "./PgDatabase.js"

/**
 * @since 0.1.0
 * @category models
 */
export interface StoreOptions extends PreparationOptions {
  /**
   * Refuse all writes of commands with `ReadOnly`. Default false. The table is made all the same, unless `migrate` is
   * false, and the user's own SQL still writes.
   */
  readonly readOnly?: boolean | undefined
  /** What commands without one get as their `instanceId`. */
  readonly instanceId?: string | undefined
}

/**
 * @since 0.1.0
 * @category models
 */
export interface Options extends PgDatabase.Options, StoreOptions {}

const storeKeys: Keys<StoreOptions> = { ...preparationKeys, readOnly: true, instanceId: true }

/**
 * The port on an open database, with its table checked or brought up to date: for layers that wrap it.
 *
 * @since 0.1.0
 * @category constructors
 */
export const makeEncoded = (
  options: PreparationOptions = {}
): Effect.Effect<Encoded.Encoded, InvalidInput | StoreFailure, PgDatabase.PgDatabase> =>
  Effect.gen(function* () {
    const database = yield* PgDatabase.PgDatabase
    const sql = statements.make(yield* preparation.prepare(database, statements.storeSchema, options))
    const changedOne = (statement: Statement<number>) => Effect.map(database.run(statement), (rows) => rows > 0)

    /** The existing command in a statement of its own, since it may have been committed while the first one waited. */
    const create: Encoded.Encoded["create"] = (command, leaseMs) =>
      Effect.flatMap(database.run(sql.insert(command, leaseMs)), (created) =>
        created !== null
          ? Effect.succeed<Encoded.CreateOutcome>({ _tag: "Created", command: created })
          : Effect.flatMap(database.run(sql.existing(command.id)), (existing) =>
              // Deleted in between, so the id is free again.
              existing === null
                ? create(command, leaseMs)
                : Effect.succeed<Encoded.CreateOutcome>({ _tag: "Exists", ...existing })
            )
      )

    return {
      create,
      takeOver: (request) => changedOne(sql.takeOver(request)),
      renew: (request) => changedOne(sql.renew(request)),
      finish: (request) => changedOne(sql.finish(request)),
      get: (id) => database.run(sql.get(id)),
      list: (request) => database.run(sql.list(request)),
      distinct: (request) => database.run(sql.distinct(request)),
      count: (filter) => database.run(sql.count(filter)),
      info: Effect.map(database.run(sql.info), (found) => ({
        backend: "Pg",
        connection: database.connection,
        ...found
      })),
      update: (request) => changedOne(sql.update(request)),
      delete: (id) => changedOne(sql.delete(id)),
      prune: (filter, limit) => database.run(sql.prune(filter, limit)),
      reset: database.run(sql.reset),
      transaction: (self) => database.transaction(self)
    }
  })

/**
 * The CommandStore on a database that is open already: beside an EventStore, say, with which it then shares pool and
 * transactions, so that `execute` with `transaction` commits outcome and events together. Such an execution needs a
 * second connection now and then, to renew its lease beside its transaction. Only stores that are made so, on one
 * `PgDatabase.layer`, share a transaction.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerFromDatabase = (
  options: StoreOptions = {}
): Layer.Layer<CommandStore, InvalidInput | StoreFailure, PgDatabase.PgDatabase> =>
  Layer.effect(
    CommandStore,
    Effect.gen(function* () {
      const known = yield* onlyKnown(options, storeKeys)
      const lifting = yield* liftOptions("postgresql", known)
      return Encoded.make(yield* makeEncoded(part(known, preparationKeys)), lifting)
    })
  )

/**
 * Opens the database and gives the CommandStore on it, with the database for transactions and the user's own SQL. The
 * pool's limits are those of `Pool.defaults.commandStore.pg` where the options give none. The `layer` of another store
 * opens another database, also with the same `url`, and `execute` with `transaction` does not extend to it: see
 * `layerFromDatabase`.
 *
 * @since 0.1.0
 * @category layers
 */
export const layer: (
  options: Options
) => Layer.Layer<CommandStore | PgDatabase.PgDatabase, InvalidInput | StoreFailure> = preparation.withDatabase(
  layerFromDatabase,
  storeKeys,
  Pool.defaults.commandStore.pg
)

/**
 * The same from Config; pool options are read with `Pool.config`.
 *
 * @example
 * ```ts
 * import { Config } from "effect"
 * import { Pool } from "effect-stores"
 * import { CommandStorePg } from "effect-stores/pg"
 *
 * const layer = CommandStorePg.layerConfig({
 *   url: Config.redacted("DATABASE_URL"),
 *   pool: Config.nested(Pool.config, "COMMANDS_POOL")
 * })
 * ```
 *
 * @since 0.1.0
 * @category layers
 */
export const layerConfig = (
  config: Config.Config.Wrap<Options>
): Layer.Layer<CommandStore | PgDatabase.PgDatabase, InvalidInput | StoreFailure | ConfigError> =>
  Layer.unwrapEffect(Effect.map(Config.unwrap(config), layer))

/**
 * Creates or updates the table, apart from any start; answers the names of the migrations it has applied. May run any
 * number of times and at once.
 *
 * @since 0.1.0
 * @category migrations
 */
export const migrate = (
  options: PgDatabase.Options & NameOptions
): Effect.Effect<ReadonlyArray<string>, InvalidInput | StoreFailure> =>
  preparation.migrate(statements.storeSchema, options)

/**
 * The SQL that creates the table in a database without it, for who runs migrations by other means. Throws `InvalidInput`
 * for a bad schema or prefix, or another option.
 *
 * @since 0.1.0
 * @category migrations
 */
export const migrationSql = (options: NameOptions = {}): string =>
  preparation.migrationSql(statements.storeSchema, options)
