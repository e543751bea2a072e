/**
 * The migrations of a store that stands beside the EventStore: run apart from any start, printed, and asked for.
 */
import { assert, it } from "@effect/vitest"
import { Effect, Layer, Redacted } from "effect"
import { EventStorePg, type PgDatabase } from "effect-stores/pg"
import { freshDatabase } from "../../support/backends.js"
import { query } from "./query.js"

interface NameOptions {
  readonly schema?: string | undefined
  readonly prefix?: string | undefined
}

interface StoreModule<Store, E extends { readonly message: string }> {
  readonly layer: (
    options: PgDatabase.Options & NameOptions & { readonly migrate?: boolean | undefined }
  ) => Layer.Layer<Store | PgDatabase.PgDatabase, E>
  readonly migrate: (options: PgDatabase.Options & NameOptions) => Effect.Effect<ReadonlyArray<string>, E>
  readonly migrationSql: (options?: NameOptions) => string
}

/** `use` fails unless the store works. */
export const storeMigrations = <Store, E extends { readonly message: string }, E2>(
  name: string,
  module: StoreModule<Store, E>,
  migrations: ReadonlyArray<string>,
  use: Effect.Effect<void, E2, Store>
): void =>
  it.live("has migrations that can be run apart and printed, and asks for them with migrate false", () =>
    Effect.gen(function* () {
      const [made, printed] = yield* Effect.promise(() => Promise.all([freshDatabase(), freshDatabase()]))
      const names = { schema: "apart", prefix: "p_" }
      const optionsOf = (url: string) => ({ url: Redacted.make(url), ...names })
      const opening = (options: Parameters<typeof module.layer>[0]) =>
        Effect.flip(Effect.scoped(Layer.build(module.layer(options))))
      assert.include((yield* opening({ ...optionsOf(made), migrate: false })).message, `${name}.migrate`)
      assert.deepStrictEqual(yield* module.migrate(optionsOf(made)), migrations)
      assert.deepStrictEqual(yield* module.migrate(optionsOf(made)), [])
      // Beside the other's, in either order.
      yield* query(printed, EventStorePg.migrationSql(names))
      yield* query(printed, module.migrationSql(names))
      for (const url of [made, printed]) {
        yield* Effect.provide(use, module.layer({ ...optionsOf(url), migrate: false }))
      }
      assert.throws(() => module.migrationSql({ prefix: "x; --" }), /prefix/)
      assert.match((yield* opening({ ...optionsOf(made), prefix: "x; --" })).message, /^prefix: must match/)
    })
  )
