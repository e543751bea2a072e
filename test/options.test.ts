/**
 * The options of layers and pools: what is misspelt, and what a backend does not have, is refused by name instead of
 * leaving a default in place. Nothing is opened for it, so no server is needed.
 */
import { Cause, Config, ConfigProvider, Effect, Exit, Layer, Option, Redacted } from "effect"
import { Pool } from "effect-stores"
import { EventStoreMemory } from "effect-stores/memory"
import { EventStorePg } from "effect-stores/pg"
import { EventStoreSqlite, SqliteDatabase } from "effect-stores/sqlite"
import { describe, expect, it } from "vitest"

const file = { filename: ":memory:" }
const server = { url: Redacted.make("postgres://localhost:1/none") }
/** As JavaScript passes it, or a value that was typed elsewhere. */
const untyped = (value: object): never => value as never

const outcome = async <A, E>(effect: Effect.Effect<A, E>): Promise<string> => {
  const exit = await Effect.runPromiseExit(effect)
  if (Exit.isSuccess(exit)) return "done"
  const failure = Option.getOrThrowWith(Cause.failureOption(exit.cause), () => new Error(`died: ${exit.cause}`))
  return String((failure as { readonly message?: unknown }).message)
}
const built = <A, E>(layer: Layer.Layer<A, E>) => outcome(Effect.scoped(Layer.build(layer)))

describe("a misspelt option is refused by name", () => {
  const misspelt = { migrat: false }
  const calls: ReadonlyArray<readonly [name: string, run: () => Promise<string>]> = [
    ["EventStoreMemory.layer", () => built(EventStoreMemory.layer(untyped(misspelt)))],
    ["EventStoreSqlite.layer", () => built(EventStoreSqlite.layer(untyped({ ...file, ...misspelt })))],
    [
      "EventStoreSqlite.layerFromDatabase",
      () =>
        built(Layer.provide(EventStoreSqlite.layerFromDatabase(untyped(misspelt)), SqliteDatabase.layer({ ...file })))
    ],
    [
      "EventStoreSqlite.makeEncoded",
      () => outcome(Effect.provide(EventStoreSqlite.makeEncoded(untyped(misspelt)), SqliteDatabase.layer({ ...file })))
    ],
    [
      "EventStoreSqlite.layerConfig",
      () => built(EventStoreSqlite.layerConfig(Config.succeed(untyped({ ...file, ...misspelt }))))
    ],
    ["EventStoreSqlite.migrate", () => outcome(EventStoreSqlite.migrate(untyped({ ...file, ...misspelt })))],
    ["EventStoreSqlite.migrationSql", () => outcome(thrown(() => EventStoreSqlite.migrationSql(untyped(misspelt))))],
    ["EventStorePg.layer", () => built(EventStorePg.layer(untyped({ ...server, ...misspelt })))],
    [
      "EventStorePg.layerConfig",
      () => built(EventStorePg.layerConfig(Config.succeed(untyped({ ...server, ...misspelt }))))
    ],
    ["EventStorePg.migrate", () => outcome(EventStorePg.migrate(untyped({ ...server, ...misspelt })))],
    ["EventStorePg.migrationSql", () => outcome(thrown(() => EventStorePg.migrationSql(untyped(misspelt))))]
  ]
  for (const [name, run] of calls) {
    it(`by ${name}`, async () => {
      expect(await run()).toMatch(/^a key of options: must be one of .*, not "migrat"$/)
    })
  }

  it("and those that exist are taken", async () => {
    expect(await built(EventStoreMemory.layer({ readOnly: false, instanceId: "one" }))).toBe("done")
    const options = { ...file, synchronous: "OFF", prefix: "app_", migrate: true, readOnly: true, pool: {} } as const
    expect(await built(EventStoreSqlite.layer({ ...options, pollInterval: "1 second", instanceId: "one" }))).toBe(
      "done"
    )
  })
})

describe("pool options", () => {
  const sqlite = (pool: object) => built(EventStoreSqlite.layer({ ...file, pool: untyped(pool) }))

  for (const key of ["maxIdleConns", "connMaxLifetime"]) {
    it(`${key} is refused where there is no such thing`, async () => {
      expect(await sqlite({ [key]: 5 })).toMatch(new RegExp(`^a key of pool: must be one of .*, not "${key}"$`))
    })
  }

  it("a misspelt one is refused, on every backend", async () => {
    const message = /^a key of pool: must be one of .*, not "maxOpenCons"$/
    expect(await sqlite({ maxOpenCons: 5 })).toMatch(message)
    expect(await built(EventStorePg.layer({ ...server, pool: untyped({ maxOpenCons: 5 }) }))).toMatch(message)
  })

  it("what is no record of options is refused", async () => {
    expect(await sqlite([])).toBe("pool: must be an object, not an array")
  })

  const fromEnvironment = (entries: ReadonlyArray<readonly [string, string]>) =>
    built(
      EventStoreSqlite.layerConfig({
        filename: Config.succeed(":memory:"),
        pool: Config.nested(Pool.config, "POOL")
      }).pipe(Layer.provide(Layer.setConfigProvider(ConfigProvider.fromMap(new Map(entries), { pathDelim: "_" }))))
    )

  it("from Config one that the backend does not have is refused, and one that is absent is not", async () => {
    expect(await fromEnvironment([["POOL_maxOpenConns", "3"]])).toBe("done")
    expect(await fromEnvironment([["POOL_maxIdleConns", "3"]])).toMatch(/^a key of pool: .*, not "maxIdleConns"$/)
  })
})

function thrown(run: () => unknown) {
  return Effect.try({ try: run, catch: (error) => error })
}
