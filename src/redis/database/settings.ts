/**
 * From the options of a `RedisDatabase` to the driver's: what is checked, what is fixed, and how a connection is opened.
 */
import type { ConnectionOptions } from "node:tls"
import * as Redacted from "effect/Redacted"
import { Cluster, Redis, type RedisOptions } from "ioredis"
import { array, describe, fields, integer, oneOf, record, refuse } from "../../internal/validate.js"
import type { RedisLimits } from "../../Pool.js"
import type { Driver } from "./commands.js"
import type { Node, Options } from "./options.js"

export interface Settings {
  /** Where the server is, without secrets. */
  readonly connection: string
  readonly connect: (limits: RedisLimits) => Driver
}

const common = ["mode", "username", "password", "tls", "connectionName", "pool"]
const keysOf = {
  Standalone: [...common, "url", "host", "port", "db"],
  Sentinel: [...common, "sentinels", "name", "db", "sentinelUsername", "sentinelPassword", "sentinelTls", "natMap"],
  Cluster: [...common, "nodes", "natMap"]
} as const

/** Sockets that do not close by themselves are destroyed. */
const disconnectTimeoutMs = 500

/** A server that loads its data is asked this often whether it is done. */
const loadingRetryMs = 250

/** A cluster waits this long before it repeats a command: three of them outlast a restart, as those of the pool do. */
const clusterRetryMs = 350

/** Throws `InvalidInput` for options that make no sense. */
export const settings = (options: Options): Settings => {
  const mode = oneOf(record(options, "options").mode ?? "Standalone", "mode", ["Standalone", "Sentinel", "Cluster"])
  fields(options, "options", keysOf[mode])
  const client: RedisOptions = {
    ...defined({
      username: text(options.username, "username"),
      password: secret(options.password, "password"),
      tls: tls(options.tls, "tls")
    }),
    connectionName: text(options.connectionName, "connectionName") ?? "effect-stores",
    disconnectTimeout: disconnectTimeoutMs,
    maxLoadingRetryTime: loadingRetryMs,
    keepAlive: 30_000,
    // A connection that ends has ended: the pool opens another and repeats what was under way.
    retryStrategy: () => null,
    maxRetriesPerRequest: null,
    autoResendUnfulfilledCommands: false
  }
  switch (options.mode) {
    case "Sentinel": {
      const sentinels = nodes(options.sentinels, "sentinels", 26_379)
      const name = text(options.name, "name") ?? refuse("name", "must be given: what the sentinels call the master")
      const all: RedisOptions = {
        ...client,
        ...defined({
          sentinelUsername: text(options.sentinelUsername, "sentinelUsername"),
          sentinelPassword: secret(options.sentinelPassword, "sentinelPassword"),
          sentinelTLS: tls(options.sentinelTls, "sentinelTls"),
          natMap: natMap(options.natMap)
        }),
        db: db(options.db),
        name,
        sentinels,
        enableTLSForSentinelMode: client.tls !== undefined,
        sentinelRetryStrategy: () => null
      }
      return {
        connection: `redis+sentinel://${addresses(sentinels)}/${name}/${all.db}`,
        // One that does not answer must leave time for the others.
        connect: ({ writeTimeoutMs }) => {
          const shareMs = Math.ceil(writeTimeoutMs / (sentinels.length + 1))
          return new Redis({ ...all, connectTimeout: shareMs, sentinelCommandTimeout: shareMs })
        }
      }
    }
    case "Cluster": {
      const startup = nodes(options.nodes, "nodes", 6379)
      const map = natMap(options.natMap)
      return {
        connection: `redis+cluster://${addresses(startup)}`,
        connect: ({ maxRetries, writeTimeoutMs }) =>
          new Cluster(startup, {
            ...defined({ natMap: map }),
            redisOptions: { ...client, connectTimeout: Math.ceil(writeTimeoutMs / 2) },
            slotsRefreshTimeout: Math.ceil(writeTimeoutMs / (startup.length + 1)),
            clusterRetryStrategy: () => null,
            maxRedirections: maxRetries,
            retryDelayOnFailover: clusterRetryMs,
            retryDelayOnClusterDown: clusterRetryMs,
            retryDelayOnTryAgain: clusterRetryMs,
            // Certificates are for names.
            dnsLookup: (host, done) => done(null, host)
          })
      }
    }
    default: {
      const url = options.url === undefined ? {} : parseUrl(secret(options.url, "url") ?? "")
      const all: RedisOptions = {
        ...url,
        ...client,
        ...defined({ host: text(options.host, "host"), port: port(options.port, "port") }),
        db: db(options.db ?? url.db)
      }
      const { db: number, host = "localhost", port: at = 6379 } = all
      return {
        connection: `${all.tls === undefined ? "redis" : "rediss"}://${address({ host, port: at })}/${number}`,
        connect: ({ writeTimeoutMs }) => new Redis({ ...all, host, port: at, connectTimeout: writeTimeoutMs })
      }
    }
  }
}

const defined = <A extends object>(options: A): { [K in keyof A]: Exclude<A[K], undefined> } =>
  Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined)) as never

const text = (value: unknown, what: string): string | undefined =>
  value === undefined || (typeof value === "string" && value !== "" && value.isWellFormed())
    ? value
    : refuse(what, `must be text, not ${describe(value)}`)

// Never with the value in the error: it is one.
const secret = (value: unknown, what: string): string | undefined => {
  if (value === undefined) return undefined
  const found = Redacted.isRedacted(value) ? Redacted.value(value) : undefined
  return typeof found === "string" && found !== "" ? found : refuse(what, "must be redacted text that is not empty")
}

const tls = (value: boolean | ConnectionOptions | undefined, what: string): ConnectionOptions | undefined =>
  value === undefined || value === false ? undefined : value === true ? {} : (record(value, what) as ConnectionOptions)

const port = (value: unknown, what: string): number | undefined =>
  value === undefined ? undefined : integer(value, what, 1, 65_535)

const db = (value: unknown): number => (value === undefined ? 0 : integer(value, "db", 0, 1_000_000))

const node = (value: unknown, what: string, defaultPort: number): { host: string; port: number } => {
  const given = fields(value, what, ["host", "port"])
  return {
    host: text(given.host, `${what}.host`) ?? refuse(`${what}.host`, "must be given"),
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

/** The parts, so that what is given beside the URL can win over it. */
const parseUrl = (url: string): RedisOptions => {
  if (!/^rediss?:\/\//.test(url)) return refuse("url", "must begin with redis:// or rediss://")
  if (!URL.canParse(url)) return refuse("url", "is not a URL")
  const { hostname, password, pathname, port, protocol, search, username } = new URL(url)
  if (search !== "") return refuse("url", "must have no parameters: they are options of their own")
  const number = pathname.slice(1)
  if (!/^\d*$/.test(number)) return refuse("url", "must have the number of a database as its path")
  try {
    return Object.fromEntries(
      Object.entries({
        host: decodeURIComponent(hostname.replace(/^\[(.*)\]$/, "$1")),
        port: port === "" ? "" : Number(port),
        username: decodeURIComponent(username),
        password: decodeURIComponent(password),
        db: number === "" ? "" : Number(number),
        tls: protocol === "rediss:" ? {} : ""
      }).filter(([, value]) => value !== "")
    )
  } catch {
    return refuse("url", "has a % that encodes nothing; write %25 for it")
  }
}
