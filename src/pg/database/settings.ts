/**
 * From the options of a `PgDatabase` to the driver's: what is checked, what is fixed, and what a URL means. Everything
 * that the driver would otherwise look for in the environment (`PGHOST`, `PGSSLMODE`, `~/.pgpass` and the like) is
 * passed to it.
 */
import * as net from "node:net"
import * as os from "node:os"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import Pg from "pg"
import { InvalidInput } from "../../Errors.js"
import { agreed, host, parseUrl, port, secret, text } from "../../internal/connectionOptions.js"
import { timeoutMs } from "../../internal/durations.js"
import { checked, oneOf, Parts, refuse, retold } from "../../internal/validate.js"
import { encryption, type InUrl, inUrl } from "./encryption.js"
import type { Options } from "./options.js"
import type { Timeouts } from "./session.js"

/** Checked options of a connection. */
interface DirectSettings extends Timeouts {
  /** It contains the password, so it is redacted for anything that prints the service. */
  readonly client: Redacted.Redacted<Pg.ClientConfig>
}

/** The same, and what may lie between here and the server. */
export interface ConnectionSettings extends DirectSettings {
  /** Each transaction may run in another session of the server. */
  readonly pooled: boolean
  readonly groupCommit: boolean
  /** Where LISTEN connects, if it can. */
  readonly listener: Redacted.Redacted<Pg.ClientConfig> | undefined
}

/** The server truncates longer names. */
const nameBytesMax = 63

/** The listening connection appends to this name. */
const listenerSuffix = " listener"

export const checkedSettings = (options: Options): Effect.Effect<ConnectionSettings, InvalidInput> =>
  checked(() => settingsOf(options), Effect.succeed)

/** The driver's own connection, which speaks the protocol. */
export interface Wire {
  on(event: "readyForQuery", listener: (message: { readonly status: string }) => void): void
  on(event: "connect" | "sslconnect" | "error" | "end", listener: () => void): void
  connect(port: number | string, host?: string): void
  requestSsl(): void
  cancel(processID: number, secretKey: number): void
  readonly stream: { destroy(): void }
}

/** What a client of the driver has and its types do not tell. */
interface Inside {
  readonly connection: Wire
  readonly connectionParameters: { options: unknown; replication: unknown }
  /** Of the session, as the server has told them: what a request to cancel names. */
  readonly processID: number
  readonly secretKey: number
}

export const insideOf = (client: Pg.Client): Inside => client as unknown as Inside

/** A client of the driver that reads nothing from the environment. */
export const makeClient = (config: Pg.ClientConfig): Pg.Client => {
  const client = new Pg.Client(config)
  const { connectionParameters } = insideOf(client)
  // No value for PGOPTIONS and PGREPLICATION is ignored by every server and pooler, so both are unset.
  connectionParameters.options = undefined
  connectionParameters.replication = undefined
  return client
}

/** The same for the listening connection. */
export const makeListener = (config: Pg.ClientConfig): Pg.Client =>
  makeClient({ ...config, application_name: `${config.application_name}${listenerSuffix}` })

export const describeConnection = ({ database = "", host = "", port }: Pg.ClientConfig): string =>
  `postgres://${net.isIPv6(host) ? `[${host}]` : host}:${port}/${database}`

/** Throws `InvalidInput`. */
export const settingsOf = (options: Options): ConnectionSettings => {
  const { all, part } = new Parts()
  const direct = part(() => directSettings(options))
  const pooled = part(
    () => options.pooler !== undefined && oneOf(options.pooler, "pooler", ["transaction"]) === "transaction"
  )
  const own = part(() =>
    options.listenUrl === undefined ? undefined : listenerAt(secret(options.listenUrl, "listenUrl"), options)
  )
  return all(() => ({
    ...direct(),
    pooled: pooled(),
    groupCommit: options.groupCommit ?? true,
    listener: own() ?? (pooled() ? undefined : direct().client)
  }))
}

/** The options that apply to it are looked at only where they are needed: what is wrong with one hides nothing else. */
const listenerAt = (url = "", options: Options) =>
  retold(
    () =>
      directSettings({
        url: Redacted.make(url),
        get applicationName() {
          return options.applicationName
        },
        get connectTimeout() {
          return options.connectTimeout
        },
        get ssl() {
          return options.ssl
        }
      }).client,
    ({ what, why }) =>
      new InvalidInput({ what: what === "url" ? "listenUrl" : what, why: why.replace("the url", "the listenUrl") })
  )

const directSettings = (options: Options): DirectSettings => {
  const { all, part } = new Parts()
  const url = part(() => (options.url === undefined ? undefined : fromUrl(secret(options.url, "url") ?? "")))
  /** What the URL says, or the option beside it. */
  const told = <O extends keyof Options, A>(
    option: O,
    inUrl: (url: Url) => A | undefined,
    check: (value: Options[O], what: string) => A | undefined
  ) => {
    const beside = part(() => check(options[option], option))
    return part(() => {
      const found = url()
      return agreed(option, found === undefined ? undefined : inUrl(found), beside())
    })
  }
  const place = told("host", (url) => url.host, hostOrSocket)
  const at = part(() => place() ?? (url() === undefined ? "localhost" : refuse("url", "has no host")))
  const user = told("username", (url) => url.username, name)
  const password = told("password", (url) => url.password, secret)
  const number = told("port", (url) => url.port, port)
  const database = told("database", (url) => url.database, name)
  const application = told("applicationName", (url) => url.applicationName, applicationName)
  const connectTimeoutMs = told("connectTimeout", (url) => url.connectTimeoutMs, timeLimit)
  const ssl = part(() => encryption(() => url()?.ssl, options.ssl, at))
  const timeouts = {
    statement: part(() => timeLimit(options.statementTimeout, "statementTimeout") ?? 60_000),
    lock: part(() => timeLimit(options.lockTimeout, "lockTimeout") ?? 10_000),
    idle: part(() => timeLimit(options.idleInTransactionTimeout, "idleInTransactionTimeout") ?? 60_000)
  }
  return all(() => {
    const username = user() ?? whoRuns()
    return {
      client: Redacted.make<Pg.ClientConfig>({
        host: at(),
        port: number() ?? 5432,
        database: database() ?? username,
        user: username,
        // Without a password the driver looks for one in the environment and in files.
        password: password() ?? noPassword,
        ssl: ssl(),
        sslnegotiation: "postgres",
        client_encoding: "utf8",
        application_name: application() ?? "effect-stores",
        keepAlive: true,
        keepAliveInitialDelayMillis: 30_000,
        connectionTimeoutMillis: limitMs(connectTimeoutMs() ?? 10_000)
      } as Pg.ClientConfig),
      statementTimeoutMs: limitMs(timeouts.statement()),
      lockTimeoutMs: limitMs(timeouts.lock()),
      idleInTransactionTimeoutMs: limitMs(timeouts.idle())
    }
  })
}

/** As libpq does it. */
const whoRuns = (): string => {
  try {
    return os.userInfo().username
  } catch {
    return refuse("username", "must be given: the user of this process has no name")
  }
}

/** Servers that require a password refuse an empty one. */
const noPassword = () => ""

const timeLimit = (value: Duration.DurationInput | undefined, what: string): number | undefined =>
  value === undefined ? undefined : Math.round(timeoutMs(value, what))

/** To the server and the driver 0 is no limit. */
const limitMs = (ms: number): number => (ms === Number.POSITIVE_INFINITY ? 0 : ms)

const name = (value: unknown, what: string): string | undefined => {
  const given = text(value, what)
  return given !== undefined && Buffer.byteLength(given) > nameBytesMax
    ? refuse(what, `must not exceed ${nameBytesMax} bytes, which the server would cut off`)
    : given
}

const applicationName = (value: unknown, what: string): string | undefined => {
  const given = text(value, what)
  const lengthMax = nameBytesMax - listenerSuffix.length
  return given === undefined || (given.length <= lengthMax && /^[ -~]+$/.test(given))
    ? given
    : refuse(what, `must be at most ${lengthMax} printable characters of ASCII: the server would change it`)
}

const hostOrSocket = (value: unknown, what: string): string | undefined =>
  typeof value === "string" && value.startsWith("/") ? text(value, what) : host(value, what)

interface Url {
  readonly host: string | undefined
  readonly port: number | undefined
  readonly database: string | undefined
  readonly username: string | undefined
  readonly password: string | undefined
  readonly applicationName: string | undefined
  readonly connectTimeoutMs: number | undefined
  readonly ssl: InUrl
}

/** Those of libpq's parameters that are supported. */
const parameters = [
  "host",
  "port",
  "dbname",
  "user",
  "application_name",
  "connect_timeout",
  "sslmode",
  "sslrootcert",
  "sslcert",
  "sslkey"
] as const

const fromUrl = (url: string): Url => {
  const { parameters: given, password, path, ...parts } = parseUrl(url, ["postgres", "postgresql"])
  if (given.has("password")) return refuse("url", "must have its password before the host, not as a parameter")
  for (const key of given.keys()) {
    if (parameters.some((known) => known === key)) continue
    return refuse("url", `must have no parameters but ${parameters.join(", ")}`)
  }
  const parameter = (key: (typeof parameters)[number]) => given.get(key)
  const number = (key: (typeof parameters)[number], min: number, max: number) => {
    const digits = parameter(key)
    if (digits === undefined) return undefined
    return /^\d{1,9}$/.test(digits) && Number(digits) >= min && Number(digits) <= max
      ? Number(digits)
      : refuse("url", `must have a number from ${min} to ${max} as its ${key}`)
  }
  const seconds = number("connect_timeout", 0, 2_000_000)
  const username = agreed("url", name(parts.username, "url"), name(parameter("user"), "url"))
  if (password !== undefined && username === undefined) return refuse("url", "has a password and no user")
  return {
    host: agreed("url", hostOrSocket(parts.host, "url"), hostOrSocket(parameter("host"), "url")),
    port: agreed("url", parts.port, number("port", 1, 65_535)),
    database: agreed("url", name(path, "url"), name(parameter("dbname"), "url")),
    username,
    password,
    applicationName: applicationName(parameter("application_name"), "url"),
    connectTimeoutMs: seconds === 0 ? Number.POSITIVE_INFINITY : seconds === undefined ? undefined : seconds * 1_000,
    ssl: inUrl(parameter)
  }
}
