/**
 * The keys of subjects in a SQLite file of their own, so that neither a backup of the data nor a transaction of its
 * stores has them. Every commit is synced (`synchronous = FULL`): a key that was lost would take with it whatever it
 * has sealed.
 *
 * @since 0.1.0
 */
import type * as Config from "effect/Config"
import type { ConfigError } from "effect/ConfigError"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Encoded from "../crypto/SubjectKeysEncoded.js"
import { InvalidInput, type StoreFailure } from "../Errors.js"
import * as variables from "../internal/config.js"
import * as Pool from "../Pool.js"
import type { NameOptions } from "./database/names.js"
import type { PreparationOptions } from "./database/storeLayers.js"
import * as storeLayers from "./database/storeLayers.js"
import type * as SqliteDatabase from "./SqliteDatabase.js"
import * as port from "./subjectKeys/port.js"
import { storeSchema } from "./subjectKeys/schema.js"

/**
 * @since 0.1.0
 * @category models
 */
export interface Options extends Omit<SqliteDatabase.Options, "synchronous">, PreparationOptions {}

const layers = storeLayers.make({
  tag: Encoded.SubjectKeys,
  schema: storeSchema,
  keys: {},
  options: (_: PreparationOptions) => Effect.void,
  port: port.make,
  lift: (encoded) => Effect.succeed(encoded),
  pool: Pool.defaults.snapshotStore.sqlite
})

const refusingSynchronous = (options: Options): Effect.Effect<void, InvalidInput> =>
  "synchronous" in options
    ? Effect.fail(new InvalidInput({ what: "synchronous", why: "is always FULL for the keys of subjects" }))
    : Effect.void

/**
 * Opens the file and keeps the keys of subjects in it. Other processes may use it too. Inside a transaction of a store
 * that is on the same file a key is refused with `StoreError`: its rollback would take the key with it.
 *
 * @since 0.1.0
 * @category layers
 */
export const layer = (options: Options): Layer.Layer<Encoded.SubjectKeys, InvalidInput | StoreFailure> =>
  Layer.unwrapEffect(
    Effect.map(refusingSynchronous(options), () =>
      Layer.map(layers.layer({ ...options, synchronous: "FULL" }), Context.pick(Encoded.SubjectKeys))
    )
  )

/**
 * The same from Config; pool options are read with `Pool.sqliteConfig`.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerConfig = (
  config: Config.Config.Wrap<Options>
): Layer.Layer<Encoded.SubjectKeys, InvalidInput | StoreFailure | ConfigError> =>
  Layer.unwrapEffect(Effect.map(variables.read<Options>(config), layer))

/**
 * Creates or updates the table, apart from any start, and returns the names of the migrations it applied. May run
 * repeatedly and concurrently.
 *
 * @since 0.1.0
 * @category migrations
 */
export const migrate: (
  options: SqliteDatabase.Options & NameOptions
) => Effect.Effect<ReadonlyArray<string>, InvalidInput | StoreFailure> = layers.migrate

/**
 * The SQL that creates the table in a database without it, for those who run migrations with another tool. Throws
 * `InvalidInput` for a bad prefix or another option.
 *
 * @since 0.1.0
 * @category migrations
 */
export const migrationSql: (options?: NameOptions) => string = layers.migrationSql
