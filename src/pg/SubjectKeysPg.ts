/**
 * The keys of subjects in PostgreSQL, on a pool of their own: no transaction of the application takes part in what is
 * done there. Put them in another database than the data, so that a backup of the data does not have them.
 *
 * @since 0.1.0
 */
import type * as Config from "effect/Config"
import type { ConfigError } from "effect/ConfigError"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Encoded from "../crypto/SubjectKeysEncoded.js"
import type { InvalidInput, StoreFailure } from "../Errors.js"
import * as variables from "../internal/config.js"
import * as Pool from "../Pool.js"
import type { NameOptions } from "./database/names.js"
import type { PreparationOptions } from "./database/storeLayers.js"
import * as storeLayers from "./database/storeLayers.js"
import type * as PgDatabase from "./PgDatabase.js"
import * as port from "./subjectKeys/port.js"
import { storeSchema } from "./subjectKeys/schema.js"

/**
 * @since 0.1.0
 * @category models
 */
export interface Options extends PgDatabase.Options, PreparationOptions {}

const layers = storeLayers.make({
  tag: Encoded.SubjectKeys,
  schema: storeSchema,
  keys: {},
  options: (_: PreparationOptions) => Effect.void,
  port: port.make,
  lift: (encoded) => Effect.succeed(encoded),
  pool: { ...Pool.defaults.snapshotStore.pg, maxOpenConns: 5 }
})

/**
 * Opens the database and keeps the keys of subjects in it, with at most 5 connections unless the options say otherwise.
 *
 * @since 0.1.0
 * @category layers
 */
export const layer = (options: Options): Layer.Layer<Encoded.SubjectKeys, InvalidInput | StoreFailure> =>
  Layer.map(layers.layer(options), Context.pick(Encoded.SubjectKeys))

/**
 * The same from Config; pool options are read with `Pool.config`.
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
  options: PgDatabase.Options & NameOptions
) => Effect.Effect<ReadonlyArray<string>, InvalidInput | StoreFailure> = layers.migrate

/**
 * The SQL that creates the table in a database without it, for those who run migrations with another tool. Throws
 * `InvalidInput` for a bad schema or prefix, or another option.
 *
 * @since 0.1.0
 * @category migrations
 */
export const migrationSql: (options?: NameOptions) => string = layers.migrationSql
