/**
 * The tables of docs/configuration.md, made of what the layer of all stores reads: the names are recorded while the plan
 * of each store on each backend is read from Config.
 */
import { type Config, ConfigError, ConfigProvider, ConfigProviderPathPatch, Effect, HashSet } from "effect"
import { Pool } from "effect-stores"
import { nameOf } from "../../src/internal/config.js"
import { plans } from "../../src/stores/backends.js"
import { backends, type Choices, choices, type Store, stores } from "../../src/stores/choices.js"

/** Reads the config as if no variable were set; returns the names that it asked for. */
const namesOf = async (config: Config.Config<unknown>): Promise<ReadonlyArray<string>> => {
  const names = new Set<string>()
  const provider = ConfigProvider.fromFlat(
    ConfigProvider.makeFlat({
      load: (path) => {
        names.add(path.join("_"))
        return Effect.fail(ConfigError.MissingData([...path], "is not set"))
      },
      enumerateChildren: () => Effect.succeed(HashSet.empty()),
      patch: ConfigProviderPathPatch.empty
    })
  )
  await Effect.runPromiseExit(Effect.withConfigProvider(config, provider))
  return [...names]
}

const tlsMeanings = (name: string): Readonly<Record<string, readonly [meaning: string, otherwise?: string]>> => ({
  [`${name}_CA_FILE`]: ["a file in PEM: the authorities to trust", "those known to Node"],
  [`${name}_CERT_FILE`]: ["a file in PEM: the client's own certificate"],
  [`${name}_KEY_FILE`]: ["a file in PEM: its key"],
  [`${name}_PASSPHRASE`]: ["of a key that is encrypted; secret"],
  [`${name}_SERVERNAME`]: ["the name that the certificate must have", "the host"]
})

/** What each variable means, by the end of its name, and its default where that is not a pool's. */
const meanings: Readonly<Record<string, readonly [meaning: string, otherwise?: string]>> = {
  EVENT_STORE: [`${backends.eventStore.join(", ")}`, "memory"],
  COMMAND_STORE: [`${backends.commandStore.join(", ")}`, "memory"],
  SNAPSHOT_STORE: [`${backends.snapshotStore.join(", ")}`, "memory"],
  CACHE_STORE: [`${backends.cacheStore.join(", ")}`, "memory"],
  DATA_STORE: [`${backends.dataStore.join(", ")}`, "memory"],
  PG_SHARED: ["the stores on PostgreSQL share one pool, and transactions extend to all of them", "false"],
  REDIS_SHARED: ["the stores on Redis share one pool", "false"],
  DURABLE: ["refuse events in memory", "false"],
  EXPECTED_PROCESSES: ["processes like this one, for the warning at start", "1"],
  ENCRYPTION_KEYS: ["`id=key` or `id=key:status`, separated by commas; secret"],
  ENCRYPTION_PRIMARY: ["the id of the key that seals"],
  ENCRYPTION_KEY_FILE: ["a JSON file with both, readable by its owner only"],
  ENCRYPTION_POLICY: ["RequireEncrypt, EncryptAllowPlaintext, ForbidEncryptAllowDecrypt", "RequireEncrypt"],
  PREFIX: ["begins the names of the store's tables or keys", "the backend's"],
  READ_ONLY: ["refuse writes", "false"],
  INDEXES: [
    "indexes of events by choice: [which, and what each costs](events.md#filters-and-indexes), or `none`",
    "type"
  ],
  TRACEPARENT: [
    "events tell the [trace](telemetry.md#from-an-event-to-its-writer) that they were appended in",
    "false"
  ],
  PG_URL: ["`postgres://user:password@host:port/database`; secret"],
  PG_HOST: ["instead of the URL", "localhost"],
  PG_PORT: ["", "5432"],
  PG_DATABASE: ["", "the user's name"],
  PG_USERNAME: ["", "the user of the process"],
  PG_PASSWORD: ["secret"],
  PG_SSL: ["true: the mode verify-full; false: disable"],
  PG_SSL_MODE: ["disable, require, verify-ca, verify-full", "the URL's sslmode, or disable without files"],
  ...tlsMeanings("PG_SSL"),
  PG_APPLICATION_NAME: ["what `pg_stat_activity` shows", "effect-stores"],
  PG_CONNECT_TIMEOUT: ["", "10s"],
  PG_STATEMENT_TIMEOUT: ["", "60s"],
  PG_LOCK_TIMEOUT: ["", "10s"],
  PG_IDLE_IN_TRANSACTION_TIMEOUT: ["", "60s"],
  PG_POOLER: ["transaction: the URL leads to a pooler that lends a session for one transaction; else leave it out"],
  PG_LISTEN_URL: ["where LISTEN connects; secret", "PG_URL; none with PG_POOLER"],
  PG_GROUP_COMMIT: [
    "appends, commands and snapshots written at the same time share round trips and commits; true or false",
    "true"
  ],
  SQLITE_FILENAME: ["a file in a folder that exists; must be given"],
  SQLITE_SYNCHRONOUS: ["FULL, EXTRA, NORMAL, OFF", "FULL"],
  SQLITE_GROUP_COMMIT: ["writes that wait for the connection at the same time share a commit; true or false", "true"],
  REDIS_MODE: ["Standalone, Sentinel, Cluster", "Standalone"],
  REDIS_URL: ["`redis://user:password@host:port/db`; secret"],
  REDIS_HOST: ["instead of the URL", "localhost"],
  REDIS_PORT: ["", "6379"],
  REDIS_DB: ["", "0"],
  REDIS_USERNAME: [""],
  REDIS_PASSWORD: ["secret"],
  REDIS_TLS: ["TLS with a verified certificate", "the URL's scheme"],
  ...tlsMeanings("REDIS_TLS"),
  REDIS_CONNECTION_NAME: ["what `CLIENT LIST` shows", "effect-stores"],
  REDIS_SENTINELS: ["`host:port,host:port`"],
  REDIS_NAME: ["the Sentinels' name of the master"],
  REDIS_SENTINEL_USERNAME: [""],
  REDIS_SENTINEL_PASSWORD: ["secret"],
  REDIS_SENTINEL_TLS: ["", "false"],
  ...tlsMeanings("REDIS_SENTINEL_TLS"),
  REDIS_NODES: ["of a Cluster: `host:port,host:port`"],
  MINIO_ENDPOINT: ["`https://host:port`; must be given"],
  MINIO_ACCESS_KEY: ["must be given"],
  MINIO_SECRET_KEY: ["must be given; secret"],
  MINIO_SESSION_TOKEN: ["secret"],
  MINIO_REGION: ["", "us-east-1"],
  MINIO_PATH_STYLE: ["the bucket in the path of a URL", "true"],
  MINIO_PUBLIC_ENDPOINT: ["what presigned URLs begin with", "the endpoint"],
  MINIO_BUCKET_PREFIX: ["begins the names of buckets"],
  MINIO_PART_BYTES: ["", "8388608"],
  MINIO_COPY_BYTES: ["", "5368709120"],
  MINIO_TIMEOUT: ["", "30s"],
  MINIO_MAX_RETRIES: ["", "4"],
  ...tlsMeanings("MINIO_TLS"),
  MINIO_READ_ONLY: ["refuse writes", "false"],
  MINIO_CAPABILITIES_PUT_IF_ABSENT: ["", "false"],
  MINIO_CAPABILITIES_PUT_IF_MATCH: ["quoted, unquoted"],
  MINIO_CAPABILITIES_REGION: ["", "false"],
  MINIO_CAPABILITIES_PUBLIC: ["", "false"],
  MINIO_CAPABILITIES_OBJECT_LOCKING: ["", "false"],
  FS_ROOT: ["a folder; must be given"],
  FS_SYNC: ["survive a power cut", "true"],
  FS_READ_ONLY: ["refuse writes", "false"]
}

const timeOf = (ms: number): string =>
  ms === Number.POSITIVE_INFINITY ? "infinity" : ms % 60_000 === 0 ? `${ms / 60_000}m` : `${ms / 1_000}s`

/** The defaults of a pool by the ends of their variables' names, of those options that it has. */
const poolDefaults = ({ options, ...limits }: Readonly<Record<string, unknown>>): ReadonlyMap<string, string> =>
  new Map(
    Object.entries(limits).flatMap(([name, value]) => {
      const option = name.replace(/Ms$/, "")
      if (Array.isArray(options) && !options.includes(option)) return []
      return [[nameOf(option), option === name ? String(value) : timeOf(value as number)] as const]
    })
  )

/** Options of other kinds of pool are asked for only to be refused. */
const isRefused = (name: string, defaults: ReadonlyMap<string, string>): boolean => {
  const [, option] = /_POOL_(.+)$/.exec(name) ?? []
  return option !== undefined && !defaults.has(option)
}

const row = (name: string, defaults: ReadonlyMap<string, string>): string => {
  const [, group] = /^[A-Z]+_STORE_([A-Z]+_\*)$/.exec(name) ?? []
  if (group !== undefined) return `| \`${name}\` | | a database of its own: what stands instead of \`${group}\` |`
  const pooled = /^.*?POOL_(?=.)/.exec(name)
  const [meaning, otherwise] =
    pooled === null
      ? (meanings[name] ?? meanings[name.replace(/^[A-Z]+_STORE_/, "")] ?? [undefined])
      : ["", defaults.get(name.slice(pooled[0].length))]
  if (meaning === undefined || (pooled !== null && otherwise === undefined)) throw new Error(`${name} means nothing`)
  return `| \`${name}\` | ${otherwise === undefined ? "" : `\`${otherwise}\``} | ${meaning} |`
}

const table = (
  title: string,
  names: ReadonlyArray<string>,
  defaults: ReadonlyMap<string, string> = new Map()
): string =>
  [
    `### ${title}`,
    "",
    "| variable | default | |",
    "| --- | --- | --- |",
    ...names.map((name) => row(name, defaults))
  ].join("\n")

const titles: Readonly<Record<string, string>> = {
  memory: "in memory",
  sqlite: "on SQLite",
  pg: "on PostgreSQL",
  redis: "on Redis",
  minio: "on an S3 API",
  fs: "on the file system"
}

const defaultsOf = (store: Store, backend: string): ReadonlyMap<string, string> =>
  poolDefaults((Pool.defaults[store] as Readonly<Record<string, Readonly<Record<string, unknown>>>>)[backend] ?? {})

/** All tables, as they stand in docs/configuration.md. */
export const tables = async (): Promise<string> => {
  const found: Array<string> = [table("All stores", await namesOf(choices))]
  const none = { pgShared: false, redisShared: false } as Choices
  const databases = new Map<string, readonly [names: ReadonlyArray<string>, defaults: ReadonlyMap<string, string>]>()
  for (const store of stores) {
    for (const backend of backends[store]) {
      const plan: Effect.Effect<Config.Config<unknown>, unknown> = plans({ ...memory, ...none, [store]: backend })[
        store
      ]()
      const names = await namesOf(await Effect.runPromise(plan))
      const ofStore = names.filter((name) => name.startsWith(`${nameOf(store)}_`))
      const apart = `${nameOf(store)}_${backend.toUpperCase()}_`
      const own = [
        // Asked for only to be refused.
        ...ofStore.filter(
          (name) =>
            !name.startsWith(apart) &&
            !(/^(minio|fs)$/.test(backend) && /_PREFIX$/.test(name)) &&
            !isRefused(name, defaultsOf(store, backend))
        ),
        ...(ofStore.some((name) => name.startsWith(apart)) ? [`${apart}*`] : [])
      ]
      if (own.length > 0) {
        const limits = backend === "sqlite" ? "shared" : backend
        found.push(
          table(
            `${store} ${titles[backend]}`,
            limits === "shared" ? own.filter((name) => !name.includes("_POOL_")) : own,
            defaultsOf(store, backend)
          )
        )
      }
      const common = names.filter((name) => !ofStore.includes(name) && !/^MINIO_POOL/.test(name))
      if (common.length > 0 && !databases.has(backend)) {
        const defaults = defaultsOf(backend === "redis" ? "cacheStore" : "eventStore", backend)
        databases.set(backend, [common.filter((name) => !isRefused(name, defaults)), defaults])
      }
    }
  }
  for (const [backend, [names, defaults]] of databases) found.push(table(`${titles[backend]}`, names, defaults))
  return found.join("\n\n")
}

const memory = Object.fromEntries(stores.map((store) => [store, "memory"])) as unknown as Choices
