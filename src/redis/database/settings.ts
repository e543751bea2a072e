/**
 * From the options of a `RedisDatabase` to the driver's: what is checked, what is fixed, and how a connection opens.
 */
import { Cluster, Redis, type RedisOptions } from "ioredis"
import { agreed, host, parseUrl, port, secret, text } from "../../internal/connectionOptions.js"
import { tlsOptions } from "../../internal/tls.js"
import {
  array,
  defined,
  describe,
  fields,
  givenKeys,
  integer,
  oneOf,
  Parts,
  record,
  refuse
} from "../../internal/validate.js"
import type { RedisLimits } from "../../Pool.js"
import { bySentinels, direct, type OnError } from "./connectors.js"
import type { Driver } from "./driver.js"
import type { Cluster as InCluster, Node, Options, Sentinel, Standalone } from "./options.js"

export interface Settings {
  /** Where the server is, without secrets. */
  readonly connection: string
  /** `onError` hears of every error of a socket. */
  readonly connect: (limits: RedisLimits, onError: OnError) => Driver
}

const common = ["mode", "username", "password", "tls", "connectionName", "pool"]
export const keysOf = {
  Standalone: [...common, "url", "host", "port", "db"],
  Sentinel: [...common, "sentinels", "name", "db", "sentinelUsername", "sentinelPassword", "sentinelTls", "natMap"],
  Cluster: [...common, "nodes", "natMap"]
} as const

/** Sockets that do not close by then are destroyed. */
const disconnectTimeoutMs = 500

/** How often a server that is loading its data is asked whether it is ready. */
const loadingRetryMs = 250

/**
 * How long the driver waits before it retries a command on a cluster: three retries outlast a restart, as those of the
 * pool do.
 */
const clusterRetryMs = 350

const modes = ["Standalone", "Sentinel", "Cluster"] as const

/** The options of all modes, each of which may be absent. */
type AllOptions = Optional<Omit<Standalone, "mode"> & Omit<Sentinel, "mode"> & Omit<InCluster, "mode">> & {
  readonly mode?: Options["mode"]
}

type Optional<O> = { readonly [K in keyof O]?: O[K] | undefined }

/** Throws `InvalidInput` for bad options. */
export const settings = (options: Options): Settings => {
  fields(options, "options", keysOf[modeOf(options)])
  return settingsOf(options)
}

/** The same for variables: those of another mode are refused each by its name. */
export const checkVariables = (options: AllOptions): void => {
  const { all, part } = new Parts()
  for (const option of givenKeys(options)) {
    part(() => {
      const mode = modeOf(options)
      const known: ReadonlyArray<string> = keysOf[mode]
      if (!known.includes(option)) refuse(option, `has no effect in the mode ${mode}`)
    })
  }
  part(() => settingsOf(options))
  all(() => undefined)
}

const modeOf = (options: { readonly mode?: unknown }) =>
  oneOf(record(options, "options").mode ?? "Standalone", "mode", modes)

/** All options are checked, whatever the mode. */
const settingsOf = (options: AllOptions): Settings => {
  const parts = new Parts()
  const { all, part } = parts
  const mode = part(() => modeOf(options))
  const common = {
    username: part(() => text(options.username, "username")),
    password: part(() => secret(options.password, "password")),
    tls: part(() => tlsOptions(options.tls, "tls")),
    connectionName: part(() => connectionName(options.connectionName) ?? "effect-stores"),
    db: part(() => db(options.db))
  }
  const map = part(() => natMap(options.natMap))
  const startup = part(() => nodes(options.nodes, "nodes", 6379))
  const alone = partsOfStandalone(parts, options, common)
  const watched = partsOfSentinel(parts, options)
  const needed = <A>(of: (typeof modes)[number], option: string, value: () => A | undefined, why: string) =>
    part(() => value() ?? (mode() === of ? refuse(option, why) : undefined))
  const user = part(() =>
    mode() === "Standalone"
      ? credentials(alone.username(), alone.password())
      : credentials(common.username(), common.password())
  )
  const sentinels = needed("Sentinel", "sentinels", watched.sentinels, "must be given: host:port,host:port")
  const name = needed("Sentinel", "name", watched.name, "must be given: what the sentinels call the master")
  const startingAt = needed("Cluster", "nodes", startup, "must be given: host:port,host:port")
  return all(() => {
    const client: RedisOptions = {
      ...defined({ tls: common.tls() }),
      ...user(),
      connectionName: common.connectionName(),
      disconnectTimeout: disconnectTimeoutMs,
      maxLoadingRetryTime: loadingRetryMs,
      keepAlive: 30_000,
      // The driver must not reconnect: the pool opens another connection and retries running commands.
      retryStrategy: () => null,
      maxRetriesPerRequest: null,
      autoResendUnfulfilledCommands: false
    }
    switch (mode()) {
      case "Sentinel":
        return bySentinel({
          ...client,
          ...defined({
            sentinelUsername: watched.user().username,
            sentinelPassword: watched.user().password,
            sentinelTLS: watched.tls(),
            natMap: map()
          }),
          db: common.db() ?? 0,
          name: name() as string,
          sentinels: sentinels() as Array<Address>,
          enableTLSForSentinelMode: client.tls !== undefined,
          sentinelRetryStrategy: () => null
        })
      case "Cluster":
        return inCluster(startingAt() as Array<Address>, client, map())
      default:
        return standalone({ ...client, ...defined({ tls: alone.tls() }), ...alone.address(), db: alone.db() ?? 0 })
    }
  })
}

type Common = {
  readonly [K in "username" | "password" | "tls" | "db"]: () => RedisOptions[K] | undefined
}

/** What the URL says, or the options beside it. */
const partsOfStandalone = ({ part }: Parts, options: AllOptions, common: Common) => {
  const url = part((): UrlOptions => (options.url === undefined ? {} : fromUrl(secret(options.url, "url") ?? "")))
  const ownHost = part(() => host(options.host, "host"))
  const ownPort = part(() => port(options.port, "port"))
  const told = <K extends "host" | "port" | "username" | "password" | "db">(
    option: K,
    beside: () => UrlOptions[K] | undefined
  ) => part(() => agreed(option, url()[option], beside()))
  const at = { host: told("host", ownHost), port: told("port", ownPort) }
  // Before the files are looked at.
  part(() => {
    if (url().encrypted !== false || options.tls === undefined || options.tls === false) return
    const [asking] = typeof options.tls === "object" ? givenKeys(options.tls).map((key) => `tls.${key}`) : []
    refuse(asking ?? "tls", "asks for TLS, and the url does not: let it begin with rediss://")
  })
  return {
    username: told("username", common.username),
    password: told("password", common.password),
    db: told("db", common.db),
    address: part(() => ({ host: at.host() ?? "localhost", port: at.port() ?? 6379 })),
    tls: part(() => {
      const tls = common.tls()
      // The scheme says whether to encrypt, the option how.
      if (url().encrypted === true) agreed("tls", true, options.tls === undefined ? undefined : tls !== undefined)
      return tls ?? (url().encrypted === true ? tlsOptions(true, "tls") : undefined)
    })
  }
}

const partsOfSentinel = ({ part }: Parts, options: AllOptions) => {
  const username = part(() => text(options.sentinelUsername, "sentinelUsername"))
  const password = part(() => secret(options.sentinelPassword, "sentinelPassword"))
  return {
    sentinels: part(() => nodes(options.sentinels, "sentinels", 26_379)),
    name: part(() => text(options.name, "name")),
    user: part(() => credentials(username(), password(), "sentinel")),
    tls: part(() => tlsOptions(options.sentinelTls, "sentinelTls"))
  }
}

const standalone = (options: RedisOptions & Address): Settings => ({
  connection: `${options.tls === undefined ? "redis" : "rediss"}://${address(options)}/${options.db}`,
  connect: ({ writeTimeoutMs }, onError) =>
    new Redis({ ...options, Connector: direct(onError), connectTimeout: writeTimeoutMs })
})

const bySentinel = (options: RedisOptions & { readonly sentinels: Array<Address> }): Settings => ({
  connection: `redis+sentinel://${addresses(options.sentinels)}/${options.name}/${options.db}`,
  // A node that does not respond must leave time for the others.
  connect: ({ writeTimeoutMs }, onError) => {
    const shareMs = Math.ceil(writeTimeoutMs / (options.sentinels.length + 1))
    const Connector = bySentinels(onError)
    return new Redis({ ...options, Connector, connectTimeout: shareMs, sentinelCommandTimeout: shareMs })
  }
})

const inCluster = (startup: Array<Address>, client: RedisOptions, natMap: RedisOptions["natMap"]): Settings => ({
  connection: `redis+cluster://${addresses(startup)}`,
  connect: ({ maxRetries, writeTimeoutMs }, onError) =>
    new Cluster(startup, {
      ...defined({ natMap }),
      redisOptions: { ...client, Connector: direct(onError), connectTimeout: Math.ceil(writeTimeoutMs / 2) },
      slotsRefreshTimeout: Math.ceil(writeTimeoutMs / (startup.length + 1)),
      clusterRetryStrategy: () => null,
      maxRedirections: maxRetries,
      retryDelayOnFailover: clusterRetryMs,
      retryDelayOnClusterDown: clusterRetryMs,
      retryDelayOnTryAgain: clusterRetryMs,
      // Certificates are issued for names.
      dnsLookup: (host, done) => done(null, host)
    })
})

/** One without the other would not be sent. */
const credentials = (username: string | undefined, password: string | undefined, prefix = "") => {
  if (username !== undefined && password === undefined) {
    return refuse(prefix === "" ? "password" : `${prefix}Password`, "must be given with a user name")
  }
  return defined({ username, password })
}

/** The server refuses other names of a connection, and the driver would not report it. */
const connectionName = (value: unknown): string | undefined =>
  value === undefined || (typeof value === "string" && /^[!-~]+$/.test(value))
    ? value
    : refuse("connectionName", `must be printable characters of ASCII without a space, not ${describe(value)}`)

const db = (value: unknown): number | undefined =>
  value === undefined ? undefined : integer(value, "db", 0, 1_000_000)

interface Address {
  readonly host: string
  readonly port: number
}

const node = (value: unknown, what: string, defaultPort: number): Address => {
  const given = fields(value, what, ["host", "port"])
  return {
    host: host(given.host, `${what}.host`) ?? refuse(`${what}.host`, "must be given"),
    port: port(given.port, `${what}.port`) ?? defaultPort
  }
}

const nodes = (value: unknown, what: string, defaultPort: number): Array<Address> | undefined =>
  value === undefined
    ? undefined
    : array(value, what, 1, 1_000).map((each, index) => node(each, `${what}[${index}]`, defaultPort))

const natMap = (value: unknown): Record<string, Address> | undefined =>
  value === undefined
    ? undefined
    : Object.fromEntries(
        Object.entries(record(value, "natMap")).map(([from, to]) => [from, node(to, `natMap["${from}"]`, 6379)])
      )

const address = ({ host, port }: Node): string => `${host.includes(":") ? `[${host}]` : host}:${port}`

const addresses = (all: ReadonlyArray<Node>): string => all.map(address).join(",")

interface UrlOptions {
  readonly host?: string | undefined
  readonly port?: number | undefined
  readonly username?: string | undefined
  readonly password?: string | undefined
  readonly db?: number | undefined
  readonly encrypted?: boolean
}

const fromUrl = (url: string): UrlOptions => {
  const { parameters, path, scheme, ...parts } = parseUrl(url, ["redis", "rediss"])
  if (parameters.size > 0) return refuse("url", "must have no parameters: they are options of their own")
  if (parts.host === undefined) return refuse("url", "has no host")
  if (path !== undefined && !/^\d{1,7}$/.test(path)) {
    return refuse("url", "must have the number of a database as its path")
  }
  return {
    ...parts,
    host: host(parts.host, "url"),
    db: path === undefined ? undefined : db(Number(path)),
    encrypted: scheme === "rediss"
  }
}
