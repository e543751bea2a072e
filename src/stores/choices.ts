/**
 * Which backend each store has, and what concerns all of them: the variables that are read before anything is opened.
 */
import * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as variables from "../internal/config.js"

export const backends = {
  eventStore: ["memory", "sqlite", "pg"],
  commandStore: ["memory", "sqlite", "pg"],
  snapshotStore: ["memory", "sqlite", "pg", "redis"],
  cacheStore: ["memory", "sqlite", "pg", "redis"],
  dataStore: ["memory", "sqlite", "pg", "minio", "fs"]
} as const

export type Store = keyof typeof backends

export const stores = Object.keys(backends) as ReadonlyArray<Store>

const choice = <S extends Store>(store: S) =>
  Config.map(
    variables.oneOf<(typeof backends)[S][number]>(backends[store])(variables.nameOf(store)),
    (backend): (typeof backends)[S][number] => backend ?? "memory"
  )

/** `undefined` where it is not known, because the variable is wrong. */
const switchedOn = (name: string): Config.Config<boolean | undefined> =>
  Config.map(variables.flag(name), (value) => value === true)

/** Whether there are keys: what they are is read by the module that uses them. */
const isGiven = (name: string): Config.Config<boolean> =>
  Config.map(Config.withDefault(Config.redacted(name), Redacted.make("")), (keys) => Redacted.value(keys).trim() !== "")

const encryption = {
  keys: Config.nested(isGiven("KEYS"), "ENCRYPTION"),
  primary: Config.nested(variables.text("PRIMARY"), "ENCRYPTION"),
  keyFile: Config.nested(variables.text("KEY_FILE"), "ENCRYPTION"),
  policy: Config.nested(
    variables.oneOf(["RequireEncrypt", "EncryptAllowPlaintext", "ForbidEncryptAllowDecrypt"])("POLICY"),
    "ENCRYPTION"
  )
} as const

const parts = {
  eventStore: choice("eventStore"),
  commandStore: choice("commandStore"),
  snapshotStore: choice("snapshotStore"),
  cacheStore: choice("cacheStore"),
  dataStore: choice("dataStore"),
  pgShared: switchedOn("PG_SHARED"),
  redisShared: switchedOn("REDIS_SHARED"),
  durable: switchedOn("DURABLE"),
  expectedProcesses: Config.map(variables.integer("EXPECTED_PROCESSES"), (count) => count || 1),
  encryption: Config.all(encryption)
} as const

export const choices = Config.all(parts)

export type Choices = Config.Config.Success<typeof choices>

/** The same part by part: one that cannot be read does not hide what is wrong elsewhere. */
export const partsOf = (
  read: <A>(config: Config.Config<A>, otherwise: A) => Effect.Effect<A>
): Effect.Effect<Choices> =>
  Effect.all({
    eventStore: read(parts.eventStore, "memory"),
    commandStore: read(parts.commandStore, "memory"),
    snapshotStore: read(parts.snapshotStore, "memory"),
    cacheStore: read(parts.cacheStore, "memory"),
    dataStore: read(parts.dataStore, "memory"),
    pgShared: read(parts.pgShared, undefined),
    redisShared: read(parts.redisShared, undefined),
    durable: read(parts.durable, false),
    expectedProcesses: read(parts.expectedProcesses, 1),
    encryption: Effect.all({
      keys: read(encryption.keys, false),
      // What is wrong was given all the same.
      primary: read(encryption.primary, ""),
      keyFile: read(encryption.keyFile, ""),
      policy: read(encryption.policy, undefined)
    })
  })
