/**
 * How a store becomes layers in memory, the same for every store: options are checked, the port on the database is
 * lifted.
 */
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import { InvalidInput } from "../../Errors.js"
import { type Keys, onlyKnown } from "../../internal/storeOptions.js"
import { layer as databaseLayer, MemoryDatabase } from "../MemoryDatabase.js"
import { Database } from "./Database.js"

/** `Tag` with its `Service`, made of the `Port` that is lifted with `Lifting`. */
export interface Store<Tag, Service, Options, Lifting, Port> {
  readonly tag: Context.Tag<Tag, Service>
  readonly keys: Keys<Options>
  /** Checks the values of the options, and makes of them what the lift needs. */
  readonly options: (options: Options) => Effect.Effect<Lifting, InvalidInput>
  readonly port: (database: Database) => Port
  readonly lift: (port: Port, options: Lifting) => Effect.Effect<Service, never, Scope.Scope>
}

export const storeLayers = <Tag, Service, Options extends object, Lifting, Port>(
  store: Store<Tag, Service, Options, Lifting, Port>
) => {
  // One for each database, so that stores of one kind on it are the same store.
  const ports = new WeakMap<Database, Port>()
  const portOn = (database: Database): Port => {
    const port = ports.get(database) ?? store.port(database)
    ports.set(database, port)
    return port
  }

  const layerFromDatabase = (options: Options = {} as Options): Layer.Layer<Tag, InvalidInput, MemoryDatabase> =>
    Layer.scoped(
      store.tag,
      Effect.gen(function* () {
        const lifting = yield* store.options(yield* onlyKnown(options, store.keys))
        return yield* store.lift(portOn(yield* databaseOf), lifting)
      })
    )

  // Fresh, or layers that are built together would share one database.
  const layer = (options: Options = {} as Options): Layer.Layer<Tag, InvalidInput> =>
    Layer.provide(layerFromDatabase(options), Layer.fresh(databaseLayer))

  return { makeEncoded: Effect.sync(() => store.port(new Database())), layerFromDatabase, layer }
}

const databaseOf: Effect.Effect<Database, InvalidInput, MemoryDatabase> = Effect.flatMap(MemoryDatabase, (database) =>
  database instanceof Database
    ? Effect.succeed(database)
    : Effect.fail(new InvalidInput({ what: "MemoryDatabase", why: "was not made by MemoryDatabase.make or layer" }))
)
