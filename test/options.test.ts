/**
 * The options of layers and pools: what is misspelt, and what a backend does not have, is refused by name instead of
 * leaving a default in place. Nothing is opened for it, so no server is needed.
 */
import { Cause, Config, ConfigProvider, Effect, Exit, Layer, Option, Redacted } from "effect"
import { Pool } from "effect-stores"
import { CheckpointStoreMemory, CommandStoreMemory, EventStoreMemory, SnapshotStoreMemory } from "effect-stores/memory"
import {
  CacheStorePg,
  CheckpointStorePg,
  CommandStorePg,
  EventStorePg,
  PgDatabase,
  SnapshotStorePg
} from "effect-stores/pg"
import { SnapshotStoreRedis } from "effect-stores/redis"
import {
  CheckpointStoreSqlite,
  CommandStoreSqlite,
  EventStoreSqlite,
  SnapshotStoreSqlite,
  SqliteDatabase
} from "effect-stores/sqlite"
import { Stores } from "effect-stores/stores"
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

describe('a switch that is no boolean is refused, because "false" would count as true:', () => {
  type Built = (switched: object) => Promise<string>
  const fromFile = <A, E>(layer: Layer.Layer<A, E, SqliteDatabase.SqliteDatabase>) =>
    built(Layer.provide(layer, SqliteDatabase.layer({ ...file })))
  const withoutTables: ReadonlyArray<readonly [name: string, Built]> = [
    ["EventStoreMemory.layer", (switched) => built(EventStoreMemory.layer(untyped(switched)))],
    ["CheckpointStoreMemory.layer", (switched) => built(CheckpointStoreMemory.layer(untyped(switched)))],
    ["CommandStoreMemory.layer", (switched) => built(CommandStoreMemory.layer(untyped(switched)))],
    ["SnapshotStoreMemory.layer", (switched) => built(SnapshotStoreMemory.layer(untyped(switched)))],
    [
      "SnapshotStoreRedis.layer",
      (switched) =>
        built(SnapshotStoreRedis.layer(untyped({ url: Redacted.make("redis://localhost:1"), ...(switched as object) })))
    ]
  ]
  const withTables: ReadonlyArray<readonly [name: string, Built]> = [
    ["EventStoreSqlite.layer", (switched) => built(EventStoreSqlite.layer(untyped({ ...file, ...switched })))],
    [
      "CheckpointStoreSqlite.layer",
      (switched) => built(CheckpointStoreSqlite.layer(untyped({ ...file, ...switched })))
    ],
    ["CommandStoreSqlite.layer", (switched) => built(CommandStoreSqlite.layer(untyped({ ...file, ...switched })))],
    ["SnapshotStoreSqlite.layer", (switched) => built(SnapshotStoreSqlite.layer(untyped({ ...file, ...switched })))],
    [
      "EventStoreSqlite.layerFromDatabase",
      (switched) => fromFile(EventStoreSqlite.layerFromDatabase(untyped(switched)))
    ],
    [
      "CommandStoreSqlite.layerFromDatabase",
      (switched) => fromFile(CommandStoreSqlite.layerFromDatabase(untyped(switched)))
    ],
    [
      "SnapshotStoreSqlite.layerFromDatabase",
      (switched) => fromFile(SnapshotStoreSqlite.layerFromDatabase(untyped(switched)))
    ],
    ["EventStorePg.layer", (switched) => built(EventStorePg.layer(untyped({ ...server, ...switched })))],
    ["CheckpointStorePg.layer", (switched) => built(CheckpointStorePg.layer(untyped({ ...server, ...switched })))],
    ["CommandStorePg.layer", (switched) => built(CommandStorePg.layer(untyped({ ...server, ...switched })))],
    ["SnapshotStorePg.layer", (switched) => built(SnapshotStorePg.layer(untyped({ ...server, ...switched })))]
  ]
  for (const [name, build] of [...withoutTables, ...withTables]) {
    it(`readOnly by ${name}`, async () => {
      for (const readOnly of ["false", 0, null]) {
        expect(await build(untyped({ readOnly }))).toMatch(/^readOnly: must be true or false, not /)
      }
    })
  }
  for (const [name, build] of withTables) {
    it(`migrate by ${name}`, async () => {
      for (const migrate of ["false", 0, null]) {
        expect(await build(untyped({ migrate }))).toMatch(/^migrate: must be true or false, not /)
      }
    })
  }
  const others: ReadonlyArray<readonly [key: string, name: string, Built]> = [
    ["traceparent", "EventStoreMemory.layer", (switched) => built(EventStoreMemory.layer(untyped(switched)))],
    ["breaker", "CacheStorePg.layer", (switched) => built(CacheStorePg.layer(untyped({ ...server, ...switched })))],
    ["groupCommit", "PgDatabase.layer", (switched) => built(PgDatabase.layer(untyped({ ...server, ...switched })))],
    ["durable", "Stores.layer", (switched) => built(Stores.layer(untyped(switched)))]
  ]
  for (const [key, name, build] of others) {
    it(`${key} by ${name}`, async () => {
      for (const value of ["false", 0, null]) {
        expect(await build({ [key]: value })).toBe(`${key}: must be true or false, not ${JSON.stringify(value)}`)
      }
    })
  }
})

it("a prefix that SQLite keeps for its own tables is refused, wherever one is given", async () => {
  const refused = /^prefix: must match .* and not begin with sqlite_/
  for (const prefix of ["sqlite_", "sqlite_events_"]) {
    expect(await built(EventStoreSqlite.layer({ ...file, prefix }))).toMatch(refused)
    expect(await built(CommandStoreSqlite.layer({ ...file, prefix }))).toMatch(refused)
    expect(await built(SnapshotStoreSqlite.layer({ ...file, prefix }))).toMatch(refused)
    expect(await outcome(EventStoreSqlite.migrate({ ...file, prefix }))).toMatch(refused)
    expect(await outcome(thrown(() => EventStoreSqlite.migrationSql({ prefix })))).toMatch(refused)
  }
  expect(await built(EventStoreSqlite.layer({ ...file, prefix: "sqlite" }))).toBe("done")
})

it("a poll interval is from 1 ms to what a timer can wait, or infinite", async () => {
  const polling = (pollInterval: number) => built(EventStoreSqlite.layer({ ...file, pollInterval }))
  for (const ms of [1, 2 ** 31 - 1, Number.POSITIVE_INFINITY]) expect(await polling(ms)).toBe("done")
  for (const ms of [-1, 0, 0.5, 2 ** 31, Number.NaN]) expect(await polling(ms)).toMatch(/^pollInterval: must be from/)
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
    expect(await fromEnvironment([["POOL_MAX_OPEN_CONNS", "3"]])).toBe("done")
    expect(await fromEnvironment([["POOL_MAX_IDLE_CONNS", "3"]])).toMatch(/^a key of pool: .*, not "maxIdleConns"$/)
  })
})

function thrown(run: () => unknown) {
  return Effect.try({ try: run, catch: (error) => error })
}
