/**
 * From the options of a `PgDatabase` to the driver's: what is checked, what is fixed, and what a URL means.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import type Pg from "pg"
import { InvalidInput } from "../../Errors.js"
import { describe } from "../../internal/validate.js"
import type { Options } from "./options.js"

/** Checked options of a connection. Times are milliseconds, 0 means no limit. */
export interface ConnectionSettings {
  /** With the password in it, and so kept out of whatever prints the service. */
  readonly client: Redacted.Redacted<Pg.ClientConfig>
  readonly statementTimeoutMs: number
  readonly lockTimeoutMs: number
  readonly idleInTransactionTimeoutMs: number
}

const durationMs = (
  value: Duration.DurationInput | undefined,
  what: string,
  otherwiseMs: number
): Effect.Effect<number, InvalidInput> => {
  if (value === undefined) return Effect.succeed(otherwiseMs)
  const decoded = Duration.decodeUnknown(value)
  const ms = decoded._tag === "Some" ? Duration.toMillis(decoded.value) : Number.NaN
  if (ms === Number.POSITIVE_INFINITY) return Effect.succeed(0)
  return ms >= 1 && ms < 2 ** 31
    ? Effect.succeed(Math.round(ms))
    : Effect.fail(new InvalidInput({ what, why: `must be from 1 ms to 24 days, or infinity, not ${describe(value)}` }))
}

export const checkedSettings = (options: Options): Effect.Effect<ConnectionSettings, InvalidInput> =>
  Effect.gen(function* () {
    const { applicationName = "effect-stores", database, host, password, port, ssl, url, username } = options
    const refuse = (what: string, why: string) => Effect.fail(new InvalidInput({ what, why }))
    if (url !== undefined && !/^postgres(ql)?:\/\//.test(Redacted.value(url))) {
      return yield* refuse("url", "must begin with postgres:// or postgresql://")
    }
    if (url !== undefined && !URL.canParse(Redacted.value(url))) return yield* refuse("url", "is not a URL")
    if (port !== undefined && !(Number.isInteger(port) && port > 0 && port < 65_536)) {
      return yield* refuse("port", `must be a port, not ${describe(port)}`)
    }
    const parsed = yield* Effect.try({
      try: () => (url === undefined ? {} : parseUrl(Redacted.value(url))),
      catch: () => new InvalidInput({ what: "url", why: "has a % that encodes nothing; write %25 for it" })
    })
    for (const [what, value] of Object.entries({ host, database, username, applicationName })) {
      if (value !== undefined && (typeof value !== "string" || value === "" || value.includes("\0"))) {
        return yield* refuse(what, `must be text, not ${describe(value)}`)
      }
    }
    const defined = {
      host,
      port,
      database,
      user: username,
      password: password === undefined ? undefined : Redacted.value(password),
      ssl
    }
    return {
      client: Redacted.make<Pg.ClientConfig>({
        ...parsed,
        ...Object.fromEntries(Object.entries(defined).filter(([, value]) => value !== undefined)),
        application_name: applicationName,
        keepAlive: true,
        connectionTimeoutMillis: yield* durationMs(options.connectTimeout, "connectTimeout", 10_000)
      }),
      statementTimeoutMs: yield* durationMs(options.statementTimeout, "statementTimeout", 60_000),
      lockTimeoutMs: yield* durationMs(options.lockTimeout, "lockTimeout", 10_000),
      idleInTransactionTimeoutMs: yield* durationMs(
        options.idleInTransactionTimeout,
        "idleInTransactionTimeout",
        60_000
      )
    }
  })

/** The parts are taken out here, because the driver lets a connection string win over everything beside it. */
const parseUrl = (text: string): Pg.ClientConfig => {
  const url = new URL(text)
  const part = (value: string) => (value === "" ? undefined : decodeURIComponent(value))
  const sslmode = url.searchParams.get("sslmode")
  const parts = {
    host: part(url.searchParams.get("host") ?? url.hostname.replace(/^\[(.*)\]$/, "$1")),
    port: url.port === "" ? undefined : Number(url.port),
    user: part(url.username),
    password: part(url.password),
    database: part(url.pathname.slice(1)),
    // As libpq means it: `require` encrypts without asking who answers, `verify-…` asks.
    ssl:
      sslmode === null || sslmode === "disable" || sslmode === "prefer" || sslmode === "allow"
        ? undefined
        : { rejectUnauthorized: sslmode.startsWith("verify") }
  }
  return Object.fromEntries(Object.entries(parts).filter(([, value]) => value !== undefined))
}

export const describeConnection = ({ database, host, port, user }: Pg.ClientConfig): string =>
  `postgres://${host ?? "localhost"}:${port ?? 5432}/${database ?? user ?? ""}`
