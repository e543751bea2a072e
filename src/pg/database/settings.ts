/**
 * From the options of a `PgDatabase` to the driver's: what is checked, what is fixed, and what a URL means. Everything
 * that the driver would otherwise look for in the environment (`PGHOST`, `PGSSLMODE`, `~/.pgpass` and the like) is
 * passed to it.
 */
import * as fs from "node:fs"
import * as net from "node:net"
import * as os from "node:os"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import Pg from "pg"
import type { InvalidInput } from "../../Errors.js"
import { agreed, host, parseUrl, port, secret, text } from "../../internal/connectionOptions.js"
import { timeoutMs } from "../../internal/durations.js"
import { type TlsOptions, tlsOptions } from "../../internal/tls.js"
import { checked, invalid, oneOf, refuse } from "../../internal/validate.js"
import type { Options } from "./options.js"
import type { Timeouts } from "./pooler.js"

/** Checked options of a connection. */
interface DirectSettings extends Timeouts {
  /** It contains the password, so it is redacted for anything that prints the service. */
  readonly client: Redacted.Redacted<Pg.ClientConfig>
}

/** The same, and what may lie between here and the server. */
export interface ConnectionSettings extends DirectSettings {
  /** Each transaction may run in another session of the server. */
  readonly pooled: boolean
  /** Where LISTEN connects, if it can. */
  readonly listener: Redacted.Redacted<Pg.ClientConfig> | undefined
}

/** The server truncates longer names. */
const nameBytesMax = 63

/** The listening connection appends to this name. */
const listenerSuffix = " listener"

export const checkedSettings = (options: Options): Effect.Effect<ConnectionSettings, InvalidInput> =>
  checked(() => withListener(options), Effect.succeed)

/** A client of the driver that reads nothing from the environment. */
export const makeClient = (config: Pg.ClientConfig): Pg.Client => {
  const client = new Pg.Client(config)
  const { connectionParameters } = client as unknown as {
    readonly connectionParameters: { options: unknown; replication: unknown }
  }
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
const withListener = ({ listenUrl, pooler, ...options }: Options): ConnectionSettings => {
  const direct = settings(options)
  const pooled = pooler !== undefined && oneOf(pooler, "pooler", ["transaction"]) === "transaction"
  const listener =
    listenUrl === undefined ? (pooled ? undefined : direct.client) : listenerAt(secret(listenUrl, "listenUrl"), options)
  return { ...direct, pooled, listener }
}

const listenerAt = (url = "", { applicationName, connectTimeout, ssl }: Options) => {
  try {
    return settings({ url: Redacted.make(url), applicationName, connectTimeout, ssl }).client
  } catch (error) {
    const { what, why } = invalid(error)
    return refuse(what === "url" ? "listenUrl" : what, why)
  }
}

const settings = (options: Options): DirectSettings => {
  const url = options.url === undefined ? undefined : fromUrl(secret(options.url, "url") ?? "")
  const place = agreed("host", url?.host, hostOrSocket(options.host, "host"))
  if (place === undefined && url !== undefined) return refuse("url", "has no host")
  const user = agreed("username", url?.username, name(options.username, "username")) ?? whoRuns()
  const at = place ?? "localhost"
  const password = agreed("password", url?.password, secret(options.password, "password"))
  return {
    client: Redacted.make<Pg.ClientConfig>({
      host: at,
      port: agreed("port", url?.port, port(options.port, "port")) ?? 5432,
      database: agreed("database", url?.database, name(options.database, "database")) ?? user,
      user,
      // Without a password the driver looks for one in the environment and in files.
      password: password ?? noPassword,
      ssl: encryption(url?.ssl, options.ssl, at),
      sslnegotiation: "postgres",
      client_encoding: "utf8",
      application_name:
        agreed("applicationName", url?.applicationName, applicationName(options.applicationName, "applicationName")) ??
        "effect-stores",
      keepAlive: true,
      keepAliveInitialDelayMillis: 30_000,
      connectionTimeoutMillis: limitMs(
        agreed("connectTimeout", url?.connectTimeoutMs, timeLimit(options.connectTimeout, "connectTimeout")) ?? 10_000
      )
    } as Pg.ClientConfig),
    statementTimeoutMs: limitMs(timeLimit(options.statementTimeout, "statementTimeout") ?? 60_000),
    lockTimeoutMs: limitMs(timeLimit(options.lockTimeout, "lockTimeout") ?? 10_000),
    idleInTransactionTimeoutMs: limitMs(
      timeLimit(options.idleInTransactionTimeout, "idleInTransactionTimeout") ?? 60_000
    )
  }
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
  /** Undefined when the URL does not say. */
  readonly ssl: TlsOptions | false | undefined
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
    ssl: ofMode(parameter("sslmode"), {
      ca: file(parameter("sslrootcert"), "sslrootcert"),
      cert: file(parameter("sslcert"), "sslcert"),
      key: file(parameter("sslkey"), "sslkey")
    })
  }
}

const file = (path: string | undefined, what: string): Buffer | undefined => {
  if (path === undefined) return undefined
  try {
    return fs.readFileSync(path)
  } catch (error) {
    const code = error instanceof Error && "code" in error ? String(error.code) : "it failed"
    return refuse("url", `has a file as its ${what} that cannot be read (${code})`)
  }
}

/** As in libpq: `require` encrypts, and verifies the server only if a root certificate is given. */
const ofMode = (
  mode: string | undefined,
  { ca, cert, key }: { readonly [K in "ca" | "cert" | "key"]: Buffer | undefined }
): TlsOptions | false | undefined => {
  const files = { ca, cert, key }
  switch (mode) {
    case "require":
      return tlsOptions(ca === undefined ? { ...files, rejectUnauthorized: false } : { ...files, ...anyName }, "url")
    case "verify-ca":
      return tlsOptions({ ...files, ...anyName }, "url")
    case "verify-full":
      return tlsOptions(files, "url")
    case "disable":
    case undefined:
      if (Object.values(files).some((file) => file !== undefined)) {
        return refuse("url", "must have an sslmode that encrypts beside files for it")
      }
      return mode === undefined ? undefined : false
    default:
      // `prefer` and `allow` are not supported either: they do not say whether to encrypt.
      return refuse("url", "must have disable, require, verify-ca or verify-full as its sslmode")
  }
}

const anyName: TlsOptions = { checkServerIdentity: () => undefined }

const encryption = (
  inUrl: TlsOptions | false | undefined,
  option: Options["ssl"],
  host: string
): TlsOptions | false => {
  const beside = option === undefined ? undefined : (tlsOptions(option, "ssl") ?? false)
  if (inUrl !== undefined && beside !== undefined && (inUrl !== false || beside !== false)) {
    return refuse("ssl", "is given beside the sslmode of the url: give one of them")
  }
  const chosen = inUrl ?? beside ?? false
  if (chosen === false) return false
  const what = inUrl === undefined ? "ssl" : "url"
  if (host.startsWith("/")) return refuse(what, "asks for TLS, which there is not over a Unix socket")
  // The driver would use the name of the host all the same.
  if (chosen.servername !== undefined && net.isIP(host) === 0 && chosen.servername !== host) {
    return refuse("ssl.servername", "can only be given when host is an address")
  }
  return chosen
}
