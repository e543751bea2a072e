/**
 * Where the read model keeps its place: in the database of the events, so that a backup has both.
 */
import { Config, type ConfigError, Effect, Layer } from "effect"
import type { CheckpointStore, Errors } from "effect-stores"

type Checkpoints = Layer.Layer<
  CheckpointStore.CheckpointStore,
  ConfigError.ConfigError | Errors.InvalidInput | Errors.StoreFailure
>

const onPg = async (): Promise<Checkpoints> => {
  const { CheckpointStorePg, PgDatabase } = await import("effect-stores/pg")
  return CheckpointStorePg.layerConfig(Config.nested(PgDatabase.config, "PG"))
}

const onSqlite = async (): Promise<Checkpoints> => {
  const { CheckpointStoreSqlite, SqliteDatabase } = await import("effect-stores/sqlite")
  return CheckpointStoreSqlite.layerConfig(Config.nested(SqliteDatabase.config, "SQLITE"))
}

export const checkpoints = Layer.unwrapEffect(
  Effect.flatMap(Config.string("EVENT_STORE"), (backend) => Effect.promise(backend === "pg" ? onPg : onSqlite))
)
