/**
 * From the options of a `RedisDatabase` to the driver's: what is checked, what is fixed, and how a connection opens.
 */
import { Cluster, Redis, type RedisOptions } from "ioredis"
import { agreed, host, parseUrl, port, secret, text } from "../../internal/connectionOptions.js"
import { tlsOptions } from "../../internal/tls.js"
import { array, describe, fields, integer, oneOf, record, refuse } from "../../internal/validate.js"
import type { RedisLimits } from "../../Pool.js"
import { bySentinels, direct, type OnError } from "./connectors.js"
import type { Driver } from "./driver.js"
import type { Node, Options } from "./options.js"

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

/** Throws `InvalidInput` for bad options. */
export const settings = (options: Options): Settings => {
  const mode = oneOf(record(options, "options").mode ?? "Standalone", "mode", ["Standalone", "Sentinel", "Cluster"])
  fields(options, "options", keysOf[mode])
  const client: RedisOptions = {
    ...defined({
      username: text(options.username, "username"),
      password: secret(options.password, "password"),
      tls: tlsOptions(options.tls, "tls")
    }),
    connectionName: connectionName(options.connectionName) ?? "effect-stores",
    disconnectTimeout: disconnectTimeoutMs,
    maxLoadingRetryTime: loadingRetryMs,
    keepAlive: 30_000,
    // The driver must not reconnect: the pool opens another connection and retries running commands.
    retryStrategy: () => null,
    maxRetriesPerRequest: null,
    autoResendUnfulfilledCommands: false
  }
  switch (options.mode) {
    case "Sentinel": {
      const sentinels = nodes(options.sentinels, "sentinels", 26_379)
      const name = text(options.name, "name") ?? refuse("name", "must be given: what the sentinels call the master")
      const sentinel = credentials(
        text(options.sentinelUsername, "sentinelUsername"),
        secret(options.sentinelPassword, "sentinelPassword"),
        "sentinel"
      )
      const all: RedisOptions = {
        ...client,
        ...credentials(client.username, client.password),
        ...defined({
          sentinelUsername: sentinel.username,
          sentinelPassword: sentinel.password,
          sentinelTLS: tlsOptions(options.sentinelTls, "sentinelTls"),
          natMap: natMap(options.natMap)
        }),
        db: db(options.db) ?? 0,
        name,
        sentinels,
        enableTLSForSentinelMode: client.tls !== undefined,
        sentinelRetryStrategy: () => null
      }
      return {
        connection: `redis+sentinel://${addresses(sentinels)}/${name}/${all.db}`,
        // A node that does not respond must leave time for the others.
        connect: ({ writeTimeoutMs }, onError) => {
          const shareMs = Math.ceil(writeTimeoutMs / (sentinels.length + 1))
          const Connector = bySentinels(onError)
          return new Redis({ ...all, Connector, connectTimeout: shareMs, sentinelCommandTimeout: shareMs })
        }
      }
    }
    case "Cluster": {
      const startup = nodes(options.nodes, "nodes", 6379)
      const map = natMap(options.natMap)
      const redisOptions = { ...client, ...credentials(client.username, client.password) }
      return {
        connection: `redis+cluster://${addresses(startup)}`,
        connect: ({ maxRetries, writeTimeoutMs }, onError) =>
          new Cluster(startup, {
            ...defined({ natMap: map }),
            redisOptions: {
              ...redisOptions,
              Connector: direct(onError),
              connectTimeout: Math.ceil(writeTimeoutMs / 2)
            },
            slotsRefreshTimeout: Math.ceil(writeTimeoutMs / (startup.length + 1)),
            clusterRetryStrategy: () => null,
            maxRedirections: maxRetries,
            retryDelayOnFailover: clusterRetryMs,
            retryDelayOnClusterDown: clusterRetryMs,
            retryDelayOnTryAgain: clusterRetryMs,
            // Certificates are issued for names.
            dnsLookup: (host, done) => done(null, host)
          })
      }
    }
    default: {
      const url: UrlOptions = options.url === undefined ? {} : fromUrl(secret(options.url, "url") ?? "")
      // The scheme says whether to encrypt, the option how.
      agreed("tls", url.encrypted, options.tls === undefined ? undefined : client.tls !== undefined)
      const at = agreed("host", url.host, host(options.host, "host")) ?? "localhost"
      const number = agreed("port", url.port, port(options.port, "port")) ?? 6379
      const user = credentials(
        agreed("username", url.username, client.username),
        agreed("password", url.password, client.password)
      )
      const all = {
        ...client,
        ...user,
        ...defined({ tls: client.tls ?? (url.encrypted === true ? tlsOptions(true, "tls") : undefined) }),
        host: at,
        port: number,
        db: agreed("db", url.db, db(options.db)) ?? 0
      }
      return {
        connection: `${all.tls === undefined ? "redis" : "rediss"}://${address({ host: at, port: number })}/${all.db}`,
        connect: ({ writeTimeoutMs }, onError) =>
          new Redis({ ...all, Connector: direct(onError), connectTimeout: writeTimeoutMs })
      }
    }
  }
}

const defined = <A extends object>(options: A): { [K in keyof A]: Exclude<A[K], undefined> } =>
  Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined)) as never

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

const node = (value: unknown, what: string, defaultPort: number): { host: string; port: number } => {
  const given = fields(value, what, ["host", "port"])
  return {
    host: host(given.host, `${what}.host`) ?? refuse(`${what}.host`, "must be given"),
    port: port(given.port, `${what}.port`) ?? defaultPort
  }
}

const nodes = (value: unknown, what: string, defaultPort: number): Array<{ host: string; port: number }> =>
  array(value, what, 1, 1_000).map((each, index) => node(each, `${what}[${index}]`, defaultPort))

const natMap = (value: unknown): Record<string, { host: string; port: number }> | undefined =>
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
