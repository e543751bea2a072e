/**
 * Which backend each store has, and what concerns all of them: the variables that are read before anything is opened.
 */
import * as Config from "effect/Config"
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

/** The databases that several stores may share. */
export type Shared = "sqlite" | "pg" | "redis"

const choice = <S extends Store>(store: S) =>
  Config.map(
    variables.oneOf<(typeof backends)[S][number]>(backends[store])(variables.nameOf(store)),
    (backend): (typeof backends)[S][number] => backend ?? "memory"
  )

const switchedOn = (name: string): Config.Config<boolean> => Config.map(variables.flag(name), (value) => value === true)

export const choices = Config.all({
  eventStore: choice("eventStore"),
  commandStore: choice("commandStore"),
  snapshotStore: choice("snapshotStore"),
  cacheStore: choice("cacheStore"),
  dataStore: choice("dataStore"),
  pgShared: switchedOn("PG_SHARED"),
  redisShared: switchedOn("REDIS_SHARED"),
  durable: switchedOn("DURABLE"),
  expectedProcesses: Config.map(variables.integer("EXPECTED_PROCESSES"), (count) => count || 1),
  encryption: Config.nested(
    Config.all({
      keys: variables.secret("KEYS"),
      primary: variables.text("PRIMARY"),
      keyFile: variables.text("KEY_FILE"),
      policy: variables.oneOf(["RequireEncrypt", "EncryptAllowPlaintext", "ForbidEncryptAllowDecrypt"])("POLICY")
    }),
    "ENCRYPTION"
  )
})

export type Choices = Config.Config.Success<typeof choices>
