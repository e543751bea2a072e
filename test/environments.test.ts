/**
 * Environments as operators write them, with quotes, line ends, units, URLs and names that other programs take: each is
 * done, or refused by the name of the variable and with what helps, before anything is opened. None shows a secret.
 */
import * as fs from "node:fs"
import * as os from "node:os"
import * as path from "node:path"
import { inspect } from "node:util"
import { Config, ConfigError, ConfigProvider, Duration, Effect, Exit, Layer, Logger, Redacted } from "effect"
import { CryptoService } from "effect-stores"
import { DataStoreFileSystem } from "effect-stores/fs"
import { DataStoreMinio } from "effect-stores/minio"
import { PgDatabase } from "effect-stores/pg"
import { CacheStoreRedis, RedisDatabase } from "effect-stores/redis"
import { SqliteDatabase } from "effect-stores/sqlite"
import { Stores } from "effect-stores/stores"
import { describe, expect, it } from "vitest"
import { settingsOf as pgSettings } from "../src/pg/database/settings.js"
import { settings as redisSettings } from "../src/redis/database/settings.js"
import { temporaryDirectory } from "./support/backends.js"
import { certificates } from "./support/certificates.js"

type Variables = Readonly<Record<string, string>>

const secret = "hunter2"
const providerOf = (variables: Variables) =>
  ConfigProvider.fromMap(new Map(Object.entries(variables)), { pathDelim: "_" })

/** What all stores say of the variables, and what is logged meanwhile. */
const build = async (variables: Variables, provider = providerOf(variables)) => {
  const lines: Array<string> = []
  const logger = Logger.make(({ logLevel, message }) => {
    lines.push(`${logLevel.label} ${[message].flat().join(" ")}`)
  })
  const exit = await Effect.scoped(Layer.build(Stores.layer())).pipe(
    Effect.withConfigProvider(provider),
    Effect.provide(Logger.replace(Logger.defaultLogger, logger)),
    Effect.runPromiseExit
  )
  const shown = [String(exit), JSON.stringify(exit), inspect(exit, { depth: 20, showHidden: true }), ...lines]
  for (const text of shown) expect(text).not.toContain(secret)
  return { failure: Exit.isFailure(exit) ? String(exit.cause) : "", lines }
}

const read = <A>(config: Config.Config<A>, prefix: string, variables: Variables): A =>
  Effect.runSync(Effect.withConfigProvider(Config.nested(config, prefix), providerOf(variables)))

const pg = (variables: Variables) => {
  const { client, ...others } = pgSettings(read(PgDatabase.config, "PG", variables))
  return { ...Redacted.value(client), ...others }
}
const redis = (variables: Variables) => redisSettings(read(RedisDatabase.config, "REDIS", variables)).connection

describe("is done as it is written:", () => {
  const onPg: ReadonlyArray<readonly [variables: Variables, expected: object]> = [
    [{ PG_URL: `postgres://u:p%25${secret}@h/d` }, { password: `p%${secret}` }],
    [{ PG_URL: "postgresql://u@[2001:db8::1]:6432/d" }, { host: "2001:db8::1", port: 6432 }],
    [
      { PG_HOST: "::1", PG_USERNAME: "u" },
      { host: "::1", user: "u", database: "u" }
    ],
    [
      { PG_HOST: " db.example \n", PG_PORT: " 5433 ", PG_DATABASE: "d\r\n" },
      { host: "db.example", port: 5433 }
    ],
    [
      { PG_HOST: "/var/run/postgresql", PG_DATABASE: "d" },
      { host: "/var/run/postgresql", database: "d", ssl: false }
    ],
    [{ PG_URL: "postgres:///d?host=/var/run/postgresql&user=u" }, { host: "/var/run/postgresql", database: "d" }],
    [{ PG_HOST: "h", PG_USERNAME: "u", PG_PASSWORD: ` #$%@/:?"'${secret} ` }, { password: ` #$%@/:?"'${secret} ` }],
    [{ PG_HOST: "h", PG_USERNAME: "u", PG_PASSWORD: "a,b" }, { password: "a,b" }],
    [{ PG_URL: "postgres://u@h/d", PG_PASSWORD: secret }, { password: secret }],
    [
      { PG_URL: "", PG_HOST: "h", PG_PORT: "", PG_SSL_MODE: " ", PG_PASSWORD: "" },
      { host: "h", port: 5432, ssl: false }
    ],
    [{ PG_HOST: "h", PG_CONNECT_TIMEOUT: "30s" }, { connectionTimeoutMillis: 30_000 }],
    [{ PG_HOST: "h", PG_CONNECT_TIMEOUT: "30 s" }, { connectionTimeoutMillis: 30_000 }],
    [{ PG_HOST: "h", PG_CONNECT_TIMEOUT: "1 minute" }, { connectionTimeoutMillis: 60_000 }],
    [{ PG_HOST: "h", PG_STATEMENT_TIMEOUT: "infinity" }, { statementTimeoutMs: 0 }],
    [{ PG_HOST: "h", PG_SSL: "true" }, { ssl: { rejectUnauthorized: true } }],
    [{ PG_HOST: "h", PG_SSL: "true", PG_SSL_MODE: "verify-full" }, { ssl: { rejectUnauthorized: true } }],
    [{ PG_HOST: "h", PG_SSL: "false", PG_SSL_MODE: "disable" }, { ssl: false }],
    [{ PG_HOST: "h", PG_SSL_MODE: "require" }, { ssl: { rejectUnauthorized: false } }],
    [{ PG_URL: "postgres://u@h/d?sslmode=require", PG_SSL_MODE: "require" }, { ssl: { rejectUnauthorized: false } }]
  ]
  it.each(onPg)("%o", (variables, expected) => {
    expect(pg(variables)).toMatchObject(expected)
  })

  it.each([
    [{ REDIS_URL: `rediss://:${secret}@h:7/3` }, "rediss://h:7/3"],
    [{ REDIS_URL: "redis://[::1]" }, "redis://[::1]:6379/0"],
    [{ REDIS_HOST: "h", REDIS_TLS: "true" }, "rediss://h:6379/0"],
    [{ REDIS_HOST: "h", REDIS_DB: "0", REDIS_TLS: "false" }, "redis://h:6379/0"],
    [
      { REDIS_MODE: "Sentinel", REDIS_SENTINELS: "10.0.0.1, 10.0.0.2:5000 ,[::1]:6", REDIS_NAME: "main" },
      "redis+sentinel://10.0.0.1:26379,10.0.0.2:5000,[::1]:6/main/0"
    ],
    [{ REDIS_MODE: "Cluster", REDIS_NODES: "h:1,\ni:2" }, "redis+cluster://h:1,i:2"]
  ])("%o", (variables, expected) => {
    expect(redis(variables)).toBe(expected)
  })

  it("pools, where zero and an empty variable are the default", () => {
    const pool = (variables: Variables) => read(PgDatabase.config, "PG", { PG_HOST: "h", ...variables }).pool
    expect(pool({ PG_POOL_MAX_OPEN_CONNS: "0", PG_POOL_MAX_IDLE_CONNS: "" })).toEqual({ maxOpenConns: 0 })
    expect(pool({ PG_POOL_CONN_MAX_LIFETIME: "0" })).toEqual({ connMaxLifetime: Duration.zero })
    expect(pool({ PG_POOL_CONN_MAX_LIFETIME: "1 hour" })).toEqual({ connMaxLifetime: Duration.hours(1) })
  })

  it("keys of encryption, one a line, as a file has them", async () => {
    const key = "0123456789abcdef".repeat(4)
    const keys = `a=${key}\nb=${key.replaceAll("0", "1")}:decryptOnly\n`
    const { failure, lines } = await build({ ENCRYPTION_KEYS: keys, ENCRYPTION_PRIMARY: "a\n" })
    expect(failure).toBe("")
    expect(lines.join()).toContain("EVENT_STORE memory (sealed)")
  })

  it("files, folders and endpoints", () => {
    expect(read(SqliteDatabase.config, "SQLITE", { SQLITE_FILENAME: "test/a b.db" })).toMatchObject({
      filename: "test/a b.db"
    })
    expect(read(DataStoreFileSystem.config, "FS", { FS_ROOT: "/objects", FS_SYNC: "false" })).toMatchObject({
      root: "/objects",
      sync: false
    })
    const keys = { MINIO_ACCESS_KEY: "key\n", MINIO_SECRET_KEY: secret }
    expect(read(DataStoreMinio.config, "MINIO", { MINIO_ENDPOINT: "https://[::1]:9000/", ...keys })).toMatchObject({
      endpoint: "https://[::1]:9000/",
      accessKey: "key"
    })
  })
})

describe("is refused by its name, with what helps:", () => {
  const onPg = { EVENT_STORE: "pg" }
  const at = { ...onPg, PG_HOST: "127.0.0.1" }
  const onRedis = { CACHE_STORE: "redis" }
  const onMinio = { DATA_STORE: "minio", MINIO_ENDPOINT: "http://h", MINIO_ACCESS_KEY: "a", MINIO_SECRET_KEY: secret }
  const files = certificates(temporaryDirectory())
  const pem = fs.readFileSync(files.authority, "utf8")
  const noPem = path.join(temporaryDirectory(), "no.pem")
  fs.writeFileSync(noPem, secret)

  const cases: ReadonlyArray<readonly [variables: Variables, ...expected: ReadonlyArray<RegExp>]> = [
    // Quotes, spaces and line ends.
    [{ EVENT_STORE: '"pg"' }, /EVENT_STORE: "must be one of memory, sqlite, pg"/],
    [{ EVENT_STORE: "PG" }, /EVENT_STORE: "must be one of/],
    [{ EVENT_STORE: "postgres" }, /EVENT_STORE: "must be one of/],
    [{ ...onPg, PG_URL: `"postgres://u:${secret}@h/d"` }, /PG_URL: "must not be in quotes/],
    [{ ...onPg, PG_URL: `postgres://u:${secret}@h/d\n` }, /PG_URL: "must not end with the end of a line.*echo -n/],
    [{ ...onPg, PG_URL: `postgres://u:a ${secret}@h/d` }, /PG_URL: "must not contain a space/],
    [{ ...at, PG_USERNAME: "u", PG_PASSWORD: `${secret}\n` }, /PG_PASSWORD: "must not end with the end of a line/],
    [{ ...at, PG_PASSWORD: `${secret}\r\n` }, /PG_PASSWORD: "must not end with the end of a line/],
    [{ ...onPg, PG_HOST: '"db"' }, /PG_HOST: "must not be in quotes/],
    [{ EVENT_STORE: "sqlite", SQLITE_FILENAME: "'a.db'" }, /SQLITE_FILENAME: "must not be in quotes/],
    [{ ...onMinio, MINIO_SECRET_KEY: `${secret}\n` }, /MINIO_SECRET_KEY: "must not end with the end of a line/],
    [{ DURABLE: "True" }, /DURABLE: "must be true or false"/],
    [{ PG_SHARED: "1" }, /PG_SHARED: "must be true or false"/],
    [{ EVENT_STORE_READ_ONLY: "yes" }, /EVENT_STORE_READ_ONLY: "must be true or false"/],
    // Numbers and times.
    [{ ...at, EVENT_STORE_POOL_MAX_OPEN_CONNS: "٢٥" }, /MAX_OPEN_CONNS: "must be a whole number of decimal digits/],
    [{ ...at, EVENT_STORE_POOL_MAX_OPEN_CONNS: "1_000" }, /MAX_OPEN_CONNS: "must be a whole number/],
    [{ ...at, EVENT_STORE_POOL_MAX_OPEN_CONNS: "+5" }, /MAX_OPEN_CONNS: "must be a whole number/],
    [{ ...at, EVENT_STORE_POOL_MAX_OPEN_CONNS: "infinity" }, /MAX_OPEN_CONNS: "must be a whole number/],
    [{ ...at, EVENT_STORE_POOL_MAX_OPEN_CONNS: secret }, /MAX_OPEN_CONNS: "must be a whole number/],
    [{ ...at, EVENT_STORE_POOL_MAX_OPEN_CONNS: "99999999" }, /MAX_OPEN_CONNS: "must be a whole number from 0 to/],
    [{ ...at, PG_CONNECT_TIMEOUT: "30" }, /PG_CONNECT_TIMEOUT: "must be a whole number and a unit, as in 500ms/],
    [{ ...at, PG_CONNECT_TIMEOUT: "1.5s" }, /PG_CONNECT_TIMEOUT: "must be a whole number and a unit/],
    [{ ...at, PG_CONNECT_TIMEOUT: "30S" }, /PG_CONNECT_TIMEOUT: "must be a whole number and a unit/],
    [{ ...at, PG_CONNECT_TIMEOUT: "Infinity" }, /PG_CONNECT_TIMEOUT: "must be .* or infinity/],
    [{ ...at, PG_CONNECT_TIMEOUT: "60 days" }, /PG_CONNECT_TIMEOUT: "must be from 1 ms to 24 days, or infinity"/],
    [{ ...at, PG_PORT: "70000" }, /PG_PORT: "must be at most 65535"/],
    [{ ...at, PG_PORT: "0" }, /PG_PORT: "must be at least 1"/],
    [{ ...onRedis, REDIS_PORT: `tcp://10.0.0.1:6379/${secret}` }, /REDIS_PORT: ".*Kubernetes.*enableServiceLinks/],
    // URLs and hosts.
    [{ ...onPg, PG_URL: `postgres://u:${secret}%@h/d` }, /PG_URL: "has a % that encodes nothing: write %25/],
    [{ ...onPg, PG_URL: `postgres://u:a#${secret}@h/d` }, /PG_URL: ".*percent-encode/],
    [{ ...onPg, PG_URL: `postgres://u:${secret}@h/d?options=-c%20x%3D1` }, /PG_URL: "must have no parameters but/],
    [{ ...onPg, PG_URL: `jdbc:postgresql://h/d?password=${secret}` }, /PG_URL: "must begin with postgres:\/\//],
    [{ ...onPg, PG_URL: `postgres://u:${secret}@a:1,b:2/d` }, /PG_URL: "must have one host/],
    [{ ...onPg, PG_URL: `postgres://u:${secret}@::1/d` }, /PG_URL: ".*brackets/],
    [{ ...onPg, PG_HOST: "[::1]" }, /PG_HOST: "must be the name of one host, or its address/],
    [{ ...onPg, PG_HOST: "db:5432" }, /PG_HOST: "must be the name of one host, or its address/],
    [{ ...onPg, PG_HOST: `postgres://u:${secret}@h` }, /PG_HOST: "must be the name of one host/],
    [{ ...onPg, PG_URL: "postgres://u@h/d", PG_HOST: "i" }, /PG_HOST: "is not what PG_URL says: give it once"/],
    [{ ...onPg, PG_URL: `postgres://u:${secret}@h/d`, PG_PASSWORD: "b" }, /PG_PASSWORD: "is not what PG_URL says/],
    [{ ...onRedis, REDIS_URL: `redis://u:${secret}@h/0?tls=1` }, /REDIS_URL: "must have no parameters/],
    [{ ...onRedis, REDIS_URL: `https://:${secret}@h` }, /REDIS_URL: "must begin with redis:\/\/ or rediss:\/\//],
    [{ ...onRedis, REDIS_MODE: "Cluster", REDIS_NODES: "h:1,i:99999" }, /REDIS_NODES: "must be at most 65535"/],
    [
      { ...onRedis, REDIS_MODE: "Cluster", REDIS_URL: `redis://:${secret}@h` },
      /REDIS_URL: "has no effect in the mode Cluster"/
    ],
    [{ ...onMinio, MINIO_ENDPOINT: "localhost:9000" }, /MINIO_ENDPOINT: "must begin with http:\/\/ or https:\/\//],
    [{ ...onMinio, MINIO_ENDPOINT: `https://a:${secret}@h` }, /MINIO_ENDPOINT: "must have no user/],
    [{ ...onMinio, MINIO_BUCKET_PREFIX: secret.toUpperCase() }, /MINIO_BUCKET_PREFIX: "must match/],
    [{ EVENT_STORE: "sqlite", SQLITE_FILENAME: "~/a.db" }, /SQLITE_FILENAME: "must be a path: ~ is for shells/],
    [{ EVENT_STORE: "sqlite", SQLITE_FILENAME: "file:a.db" }, /SQLITE_FILENAME: "must be a path, not a URI/],
    [{ DATA_STORE: "fs", FS_ROOT: "$HOME/objects" }, /FS_ROOT: "must be a path: variables are for shells/],
    // TLS.
    [{ ...at, PG_SSL_MODE: "prefer" }, /PG_SSL_MODE: "must be one of disable, require, verify-ca, verify-full"/],
    [{ ...at, PG_SSL_MODE: "allow" }, /PG_SSL_MODE: "must be one of/],
    [{ ...at, PG_SSL_MODE: "VERIFY-FULL" }, /PG_SSL_MODE: "must be one of/],
    [{ ...at, PG_SSL: "true", PG_SSL_MODE: "require" }, /PG_SSL_MODE: "must be verify-full beside PG_SSL=true/],
    [
      { ...at, PG_SSL: "false", PG_SSL_CA_FILE: files.authority },
      /PG_SSL_CA_FILE: "must not be given beside a mode that does/
    ],
    [
      { ...onPg, PG_URL: "postgres://u@h/d?sslmode=verify-full", PG_SSL_MODE: "require" },
      /PG_SSL_MODE: "is not what PG_URL says: give it once"/
    ],
    [{ ...onPg, PG_URL: "postgres://u@h/d?sslmode=prefer" }, /PG_URL: "must have one of disable, require/],
    [{ ...onPg, PG_HOST: "/run", PG_SSL_MODE: "verify-full" }, /PG_SSL_MODE: "asks for TLS, .* Unix socket/],
    [{ ...at, PG_SSL_CA_FILE: "/no/such/ca.pem" }, /PG_SSL_CA_FILE: "cannot be read \(ENOENT\)"/],
    [{ ...at, PG_SSL_CA_FILE: pem }, /PG_SSL_CA_FILE: "must be the name of a file, not what is in it"/],
    [{ ...at, PG_SSL_CA_FILE: noPem }, /PG_SSL_CA_FILE: "must be a file with certificates in PEM"/],
    [{ ...at, PG_SSL_CERT_FILE: files.client.cert }, /PG_SSL_KEY_FILE: "must be given with a certificate"/],
    [{ ...at, PG_SSL_KEY_FILE: files.client.key }, /PG_SSL_CERT_FILE: "must be given with a key"/],
    [{ ...at, PG_SSL_PASSPHRASE: secret }, /PG_SSL_KEY_FILE: "must be given with a passphrase"/],
    [
      { ...onPg, PG_URL: "postgres://u@h/d?sslmode=verify-full&sslrootcert=/no/such/ca.pem" },
      /PG_URL: "its sslrootcert cannot be read \(ENOENT\)"/
    ],
    [
      { ...onPg, PG_URL: `postgres://u@h/d?sslmode=verify-full&sslcert=${files.client.cert}` },
      /PG_URL: "its sslkey must be given with a certificate"/
    ],
    [{ ...onRedis, REDIS_URL: "redis://h", REDIS_TLS: "true" }, /REDIS_TLS: "asks for TLS, and REDIS_URL does not/],
    [{ ...onRedis, REDIS_URL: "rediss://h", REDIS_TLS: "false" }, /REDIS_TLS: "is not what REDIS_URL says/],
    [
      { ...onRedis, REDIS_URL: "redis://h", REDIS_TLS_CA_FILE: files.authority },
      /REDIS_TLS_CA_FILE: "asks for TLS, and/
    ],
    [
      { ...onRedis, REDIS_TLS: "false", REDIS_TLS_CA_FILE: "/ca" },
      /REDIS_TLS: "must not be false beside REDIS_TLS_\*"/
    ],
    [{ ...onRedis, REDIS_HOST: "h", REDIS_TLS_CA_FILE: "/no/ca" }, /REDIS_TLS_CA_FILE: "cannot be read/],
    [
      { ...onMinio, MINIO_TLS_CA_FILE: files.authority },
      /MINIO_TLS_CA_FILE: "is for an endpoint that begins with https/
    ],
    [
      { ...onMinio, MINIO_ENDPOINT: "https://h", MINIO_TLS_CERT_FILE: files.client.cert },
      /MINIO_TLS_KEY_FILE: "must be given with a certificate"/
    ],
    // Names and keys.
    [{ ...at, EVENT_STORE_PREFIX: "Robert'); drop" }, /EVENT_STORE_PREFIX: /],
    [{ ...onRedis, REDIS_HOST: "h", CACHE_STORE_PREFIX: "a{b}" }, /CACHE_STORE_PREFIX: "must not contain braces"/],
    [{ DATA_STORE: "fs", FS_ROOT: "/o", DATA_STORE_PREFIX: "a" }, /DATA_STORE_PREFIX: ".*give another FS_ROOT"/],
    [{ ...onMinio, DATA_STORE_PREFIX: "a" }, /DATA_STORE_PREFIX: ".*give MINIO_BUCKET_PREFIX"/],
    [
      { ...onMinio, MINIO_POOL_MAX_IDLE_CONNS: "5", DATA_STORE_POOL_MAX_IDLE_CONNS: "6" },
      /DATA_STORE_POOL_MAX_IDLE_CONNS: "is not what MINIO_POOL_MAX_IDLE_CONNS says/
    ],
    [
      { ...onMinio, MINIO_READ_ONLY: "true", DATA_STORE_READ_ONLY: "false" },
      /DATA_STORE_READ_ONLY: "is not what MINIO_READ_ONLY says/
    ],
    [
      { ...at, SNAPSHOT_STORE: "pg", SNAPSHOT_STORE_PG_STATEMENT_TIMEOUT: "5s" },
      /SNAPSHOT_STORE_PG_URL: "must be given/
    ],
    [{ ENCRYPTION_KEY_FILE: `a=${secret}` }, /ENCRYPTION_KEY_FILE: "could not be read: ENOENT"/],
    [{ ENCRYPTION_KEYS: `a=${secret}`, ENCRYPTION_PRIMARY: "a" }, /ENCRYPTION_KEYS: "the key a/],
    [{ EVENT_STORE: "mysql", DURABLE: "true" }, /^Error: \(Invalid data at EVENT_STORE: "must be one of [a-z, ]+"\)$/],
    // All that is wrong, together.
    [
      {
        EVENT_STORE: "pg",
        PG_HOST: "a b",
        PG_PORT: "70000",
        PG_SSL_CA_FILE: "/no/such/ca.pem",
        EVENT_STORE_PREFIX: "'",
        EVENT_STORE_POOL_MAX_OPEN_CONNS: "many",
        COMMAND_STORE: "mysql",
        CACHE_STORE: "redis",
        REDIS_URL: `redis://:${secret}`,
        DATA_STORE: "minio",
        ENCRYPTION_PRIMARY: "a",
        DURABLE: "on"
      },
      /PG_HOST: /,
      /PG_PORT: /,
      /PG_SSL_CA_FILE: /,
      /EVENT_STORE_PREFIX: /,
      /EVENT_STORE_POOL_MAX_OPEN_CONNS: /,
      /COMMAND_STORE: /,
      /REDIS_URL: /,
      /MINIO_ENDPOINT: /,
      /MINIO_ACCESS_KEY: /,
      /ENCRYPTION_KEYS: "must be given"/,
      /DURABLE: /
    ]
  ]
  it.each(cases.map(([variables, ...expected]) => ({ variables, expected })))("$variables", async (given) => {
    const { failure } = await build(given.variables)
    for (const pattern of given.expected) expect(failure).toMatch(pattern)
    // Each once, however many stores would read it.
    const leaves = failure.match(/data at [A-Z_*]+: "[^"]*"/g) ?? []
    expect(new Set(leaves).size).toBe(leaves.length)
  })
})

/** The names of all variables that are reported. */
const namesIn = (report: string) => new Set([...report.matchAll(/data at ([A-Z_*]+): /g)].map(([, name]) => name))

describe("what is wrong alone, and what is wrong between variables, is one report:", () => {
  const files = certificates(temporaryDirectory())
  const { cert } = files.client
  const key = "0123456789abcdef".repeat(4)
  /** What is wrong, and the names that the report has: no more, and no fewer. */
  const cases: ReadonlyArray<readonly [title: string, variables: Variables, ...names: ReadonlyArray<string>]> = [
    [
      "a URL and its parts, files of certificates, a time-out, and pools on PostgreSQL",
      {
        EVENT_STORE: "pg",
        PG_URL: `postgres://u:${secret}@h/d`,
        PG_HOST: "i",
        PG_PORT: "5432x",
        PG_SSL_MODE: "verify-full",
        PG_SSL_CERT_FILE: cert,
        PG_SSL_CA_FILE: "/no/such/ca.pem",
        PG_STATEMENT_TIMEOUT: "0",
        PG_POOLER: "session",
        PG_POOL_MAX_OPEN_CONNS: "3",
        PG_LISTEN_URL: `http://${secret}`,
        EVENT_STORE_POOL_MAX_OPEN_CONNS: "2",
        EVENT_STORE_POOL_MAX_IDLE_CONNS: "3",
        EVENT_STORE_POOL_POOL_SIZE: "4",
        EVENT_STORE_PREFIX: "'"
      },
      "PG_HOST",
      "PG_PORT",
      "PG_SSL_KEY_FILE",
      "PG_SSL_CA_FILE",
      "PG_STATEMENT_TIMEOUT",
      "PG_POOLER",
      "PG_POOL_*",
      "PG_LISTEN_URL",
      "EVENT_STORE_POOL_MAX_IDLE_CONNS",
      "EVENT_STORE_POOL_POOL_SIZE",
      "EVENT_STORE_PREFIX"
    ],
    [
      "nothing that rests on a URL that is wrong is said",
      {
        EVENT_STORE: "pg",
        PG_URL: `postgres://u:${secret}@h:x/d?sslmode=verify-full&sslcert=${cert}`,
        PG_HOST: "a b",
        PG_SSL_KEY_FILE: "/no/such/key.pem",
        PG_SSL_SERVERNAME: "elsewhere"
      },
      "PG_URL",
      "PG_HOST",
      "PG_SSL_KEY_FILE"
    ],
    [
      "nor on files and pools that are",
      {
        EVENT_STORE: "pg",
        PG_HOST: "h",
        PG_SSL_CERT_FILE: "'c.pem'",
        PG_SSL_KEY_FILE: files.client.key,
        PG_SSL_PASSPHRASE: secret,
        EVENT_STORE_POOL_MAX_OPEN_CONNS: "5O",
        EVENT_STORE_POOL_MAX_IDLE_CONNS: "40",
        PG_SSL: "on",
        PG_SSL_MODE: "disable"
      },
      "PG_SSL_CERT_FILE",
      "EVENT_STORE_POOL_MAX_OPEN_CONNS",
      "PG_SSL"
    ],
    [
      "whether stores share a pool is not known",
      { EVENT_STORE: "pg", PG_SHARED: "1", PG_POOL_MAX_OPEN_CONNS: "3", EVENT_STORE_POOL_MAX_OPEN_CONNS: "3" },
      "PG_SHARED"
    ],
    [
      "a database of its own that is nowhere",
      { SNAPSHOT_STORE: "pg", PG_HOST: "h", SNAPSHOT_STORE_PG_STATEMENT_TIMEOUT: "5" },
      "SNAPSHOT_STORE_PG_STATEMENT_TIMEOUT",
      "SNAPSHOT_STORE_PG_URL"
    ],
    [
      "a file, its folder and its pool on SQLite",
      {
        EVENT_STORE: "sqlite",
        SQLITE_FILENAME: "/no/such/folder/a.db",
        SQLITE_SYNCHRONOUS: "full",
        SQLITE_POOL_MAX_IDLE_CONNS: "3",
        EVENT_STORE_POOL_MAX_OPEN_CONNS: "x"
      },
      "SQLITE_FILENAME",
      "SQLITE_SYNCHRONOUS",
      "SQLITE_POOL_MAX_IDLE_CONNS",
      "EVENT_STORE_POOL_MAX_OPEN_CONNS",
      "EVENT_STORE_POOL_*"
    ],
    [
      "no file on SQLite",
      { EVENT_STORE: "sqlite", EVENT_STORE_POOL_MAX_OPEN_CONNS: "2" },
      "SQLITE_FILENAME",
      "EVENT_STORE_POOL_*"
    ],
    [
      "no file on SQLite, and how it is written",
      { EVENT_STORE: "sqlite", SQLITE_SYNCHRONOUS: "full" },
      "SQLITE_FILENAME",
      "SQLITE_SYNCHRONOUS"
    ],
    [
      "a mode and the options of another on Redis",
      {
        CACHE_STORE: "redis",
        REDIS_MODE: "Cluster",
        REDIS_URL: `redis://:${secret}@h`,
        REDIS_HOST: "h",
        REDIS_USERNAME: "u",
        REDIS_TLS: "false",
        REDIS_TLS_CA_FILE: "'ca'",
        CACHE_STORE_POOL_MIN_IDLE_CONNS: "30",
        CACHE_STORE_POOL_WRITE_TIMEOUT: "infinity",
        CACHE_STORE_POOL_MAX_OPEN_CONNS: "4"
      },
      "REDIS_URL",
      "REDIS_HOST",
      "REDIS_NODES",
      "REDIS_PASSWORD",
      "REDIS_TLS",
      "REDIS_TLS_CA_FILE",
      "CACHE_STORE_POOL_MIN_IDLE_CONNS",
      "CACHE_STORE_POOL_WRITE_TIMEOUT",
      "CACHE_STORE_POOL_MAX_OPEN_CONNS"
    ],
    [
      "Sentinels that are not there",
      { CACHE_STORE: "redis", REDIS_MODE: "Sentinel", REDIS_PORT: "1", REDIS_SENTINEL_USERNAME: "u" },
      "REDIS_PORT",
      "REDIS_SENTINELS",
      "REDIS_NAME",
      "REDIS_SENTINEL_PASSWORD"
    ],
    [
      "a mode that there is not, and a password that has the end of a line",
      {
        CACHE_STORE: "redis",
        REDIS_MODE: "cluster",
        REDIS_NODES: "h:99999",
        REDIS_USERNAME: "u",
        REDIS_PASSWORD: `${secret}\n`
      },
      "REDIS_MODE",
      "REDIS_NODES",
      "REDIS_PASSWORD"
    ],
    [
      "an endpoint, its files, its keys and its two pools on S3",
      {
        DATA_STORE: "minio",
        MINIO_ENDPOINT: "http://h",
        MINIO_SECRET_KEY: `${secret}\n`,
        MINIO_TLS_CA_FILE: files.authority,
        MINIO_TIMEOUT: "infinity",
        MINIO_READ_ONLY: "false",
        DATA_STORE_READ_ONLY: "true",
        DATA_STORE_PREFIX: "a",
        DATA_STORE_POOL_MAX_OPEN_CONNS: "3",
        MINIO_POOL_MAX_IDLE_CONNS: "5",
        MINIO_POOL_MAX_IDLE_CONNS_PER_HOST: "6"
      },
      "MINIO_ACCESS_KEY",
      "MINIO_SECRET_KEY",
      "MINIO_TLS_CA_FILE",
      "MINIO_TIMEOUT",
      "DATA_STORE_READ_ONLY",
      "DATA_STORE_PREFIX",
      "DATA_STORE_POOL_MAX_OPEN_CONNS",
      "MINIO_POOL_MAX_IDLE_CONNS_PER_HOST"
    ],
    [
      "a folder that is not said, and what it may do",
      { DATA_STORE: "fs", FS_SYNC: "no", FS_READ_ONLY: "true", DATA_STORE_READ_ONLY: "false" },
      "FS_ROOT",
      "FS_SYNC",
      "DATA_STORE_READ_ONLY"
    ],
    [
      "keys, the one that seals, and the policy",
      { ENCRYPTION_KEYS: `a=${secret},b`, ENCRYPTION_PRIMARY: "'a'", ENCRYPTION_POLICY: "x" },
      "ENCRYPTION_KEYS",
      "ENCRYPTION_PRIMARY",
      "ENCRYPTION_POLICY"
    ],
    [
      "a key of another length beside one that seals and is none of them",
      { ENCRYPTION_KEYS: `a=${key},b=${key.slice(2)}`, ENCRYPTION_PRIMARY: "c" },
      "ENCRYPTION_KEYS",
      "ENCRYPTION_PRIMARY"
    ],
    [
      "keys and a file of keys",
      { ENCRYPTION_KEYS: `a=${key}`, ENCRYPTION_KEY_FILE: "k.json" },
      "ENCRYPTION_KEY_FILE",
      "ENCRYPTION_PRIMARY"
    ]
  ]
  it.each(cases.map(([title, variables, ...names]) => ({ title, variables, names })))("$title", async (given) => {
    const { failure, lines } = await build(given.variables)
    expect(namesIn(failure), failure).toEqual(new Set(given.names))
    expect(lines).toEqual([])
  })

  const layers: ReadonlyArray<
    readonly [layer: Layer.Layer<never, unknown>, variables: Variables, ...names: ReadonlyArray<string>]
  > = [
    [
      PgDatabase.layerConfig(Config.nested(PgDatabase.config, "PG")),
      { PG_URL: "postgres://u@h/d", PG_HOST: "i", PG_PORT: "x", PG_POOL_MAX_IDLE_CONNS: "99", PG_POOL_POOL_SIZE: "1" },
      "PG_HOST",
      "PG_PORT",
      "PG_POOL_MAX_IDLE_CONNS",
      "PG_POOL_POOL_SIZE"
    ],
    [
      SqliteDatabase.layerConfig(Config.nested(SqliteDatabase.config, "SQLITE")),
      { SQLITE_FILENAME: "a/", SQLITE_POOL_MAX_OPEN_CONNS: "-1" },
      "SQLITE_FILENAME",
      "SQLITE_POOL_MAX_OPEN_CONNS"
    ],
    [
      RedisDatabase.layerConfig(Config.nested(RedisDatabase.config, "REDIS")),
      { REDIS_MODE: "Cluster", REDIS_DB: "1", REDIS_TLS: "yes" },
      "REDIS_NODES",
      "REDIS_DB",
      "REDIS_TLS"
    ],
    [
      CacheStoreRedis.layerConfig(Config.nested(CacheStoreRedis.config, "CACHE")),
      { CACHE_URL: "redis://h", CACHE_HOST: "i", CACHE_PREFIX: "{", CACHE_LEASE: "2 hours" },
      "CACHE_HOST",
      "CACHE_PREFIX",
      "CACHE_LEASE"
    ],
    [
      DataStoreMinio.layerConfig(Config.nested(DataStoreMinio.config, "OBJECTS")),
      { OBJECTS_ENDPOINT: "ftp://h", OBJECTS_ACCESS_KEY: "a", OBJECTS_PART_BYTES: "1" },
      "OBJECTS_ENDPOINT",
      "OBJECTS_SECRET_KEY",
      "OBJECTS_PART_BYTES"
    ],
    [
      DataStoreFileSystem.layerConfig(Config.nested(DataStoreFileSystem.config, "FS")),
      { FS_ROOT: "~/objects", FS_SYNC: "no" },
      "FS_ROOT",
      "FS_SYNC"
    ],
    [
      CryptoService.layerConfig(Config.nested(CryptoService.config, "ENCRYPTION")),
      { ENCRYPTION_PRIMARY: "a", ENCRYPTION_POLICY: "x" },
      "ENCRYPTION_KEYS",
      "ENCRYPTION_POLICY"
    ]
  ]
  it.each(layers.map(([layer, variables, ...names]) => ({ layer, variables, names })))(
    "also of a layer that stands alone: $variables",
    async ({ layer, names, variables }) => {
      const exit = await Effect.scoped(Layer.build(layer)).pipe(
        Effect.withConfigProvider(providerOf(variables)),
        Effect.runPromiseExit
      )
      const report = Exit.isFailure(exit) ? String(exit.cause) : ""
      expect(namesIn(report), report).toEqual(new Set(names))
    }
  )

  it("names the URL that a mode is not that of", async () => {
    const { failure } = await build({
      EVENT_STORE: "pg",
      PG_HOST: "h",
      PG_LISTEN_URL: "postgres://h/d?sslmode=require",
      PG_SSL_MODE: "disable"
    })
    expect(failure).toBe('Error: (Invalid data at PG_SSL_MODE: "is not what PG_LISTEN_URL says: give it once")')
  })

  it("says what is possible where a word is unknown, and nothing that is refused", async () => {
    const pooler = await build({ EVENT_STORE: "pg", PG_HOST: "h", PG_POOLER: "session" })
    expect(pooler.failure).toMatch(/PG_POOLER: "must be transaction, .* or be left out/)
    const timeout = await build({ EVENT_STORE: "pg", PG_HOST: "h", PG_LOCK_TIMEOUT: "0" })
    expect(timeout.failure).toMatch(/PG_LOCK_TIMEOUT: "must be a whole number and a unit[^"]*, or infinity"/)
    expect(timeout.failure).not.toContain("or 0")
    const unknown = await build({
      EVENT_STORE: "postgres",
      PG_URL: `postgres://u:${secret}@h/d`,
      EVENT_STORE_PREFIX: "a"
    })
    expect(unknown.lines).toEqual([])
    const cluster = await build({ CACHE_STORE: "redis", REDIS_MODE: "Cluster" })
    expect(cluster.failure).toBe('Error: (Invalid data at REDIS_NODES: "must be given: host:port,host:port")')
  })

  it("names the folder of a SQLite file that does not exist, and does not make it", async () => {
    const folder = path.join(temporaryDirectory(), "missing")
    const open = Layer.build(SqliteDatabase.layer({ filename: path.join(folder, "a.db") }))
    const error = await Effect.runPromise(Effect.flip(Effect.scoped(open)))
    expect(error).toMatchObject({
      _tag: "InvalidInput",
      what: "filename",
      why: expect.stringContaining(`${folder}, which`)
    })
    expect(fs.existsSync(folder)).toBe(false)
  })
})

describe("defaults of the application", () => {
  const filename = path.join(temporaryDirectory(), "app.db")
  const defaults = { EVENT_STORE: "sqlite", SQLITE_FILENAME: filename, SQLITE_SYNCHRONOUS: "OFF" }
  const build = async (given: unknown, variables: Variables) => {
    const lines: Array<string> = []
    const logger = Logger.make(({ message }) => void lines.push([message].flat().join(" ")))
    const exit = await Effect.scoped(Layer.build(Stores.layer({ defaults: given as Variables }))).pipe(
      Effect.withConfigProvider(providerOf(variables)),
      Effect.provide(Logger.replace(Logger.defaultLogger, logger)),
      Effect.runPromiseExit
    )
    return Exit.isFailure(exit) ? String(exit.cause) : lines.join("\n")
  }

  it("stand for variables that are absent or empty, and for no others", async () => {
    expect(await build(defaults, {})).toMatch(/^EVENT_STORE sqlite \S+app\.db, COMMAND_STORE memory/)
    expect(await build(defaults, { EVENT_STORE: " ", SQLITE_FILENAME: "" })).toMatch(/^EVENT_STORE sqlite \S+app\.db/)
    expect(await build(defaults, { SQLITE_FILENAME: ":memory:" })).toMatch(/^EVENT_STORE sqlite :memory:/)
    expect(await build(defaults, { EVENT_STORE: "memory" })).toMatch(/^EVENT_STORE memory/)
  })

  it("are checked as variables are, and refused where they are the name of none", async () => {
    expect(await build({ ...defaults, SQLITE_SYNCHRONOUS: "on" }, {})).toMatch(/SQLITE_SYNCHRONOUS: "must be one of/)
    expect(await build({ EVNT_STORE: "sqlite" }, {})).toMatch(/defaults.EVNT_STORE: is the name of no variable/)
    expect(await build({ DURABLE: true }, {})).toMatch(/defaults.DURABLE: must be text/)
    expect(await build(5, {})).toMatch(/defaults: must be an object/)
  })
})

describe("variables that have no effect", () => {
  const warnings = async (variables: Variables, provider?: ConfigProvider.ConfigProvider) => {
    const { failure, lines } = await build(variables, provider)
    expect(failure).toBe("")
    return lines.filter((line) => line.startsWith("WARN")).join("\n")
  }

  it("are named in one warning: misspelt ones, and those of a backend that was not chosen", async () => {
    const found = await warnings({
      EVENT_STORE_POL_MAX_OPEN_CONNS: "5",
      EVENT_STORE_PREFIX: "a_",
      PG_URL: `postgres://u:${secret}@h/d`,
      REDIS_PASSWORD: secret,
      ENCRYPTION_KEYZ: secret
    })
    expect(found).toBe(
      "WARN these variables have no effect: ENCRYPTION_KEYZ, EVENT_STORE_POL_MAX_OPEN_CONNS, EVENT_STORE_PREFIX, " +
        "PG_URL, REDIS_PASSWORD; they are misspelt, or of a backend that no store is on"
    )
  })

  it("are not those that are read, empty, of other programs, or set by Kubernetes", async () => {
    const filename = path.join(temporaryDirectory(), "a.db")
    const quiet = {
      EVENT_STORE: "sqlite",
      SQLITE_FILENAME: filename,
      SQLITE_SYNCHRONOUS: "OFF",
      EVENT_STORE_PREFIX: "a_",
      EXPECTED_PROCESSES: "2",
      PG_URL: " ",
      PGHOST: "h",
      PATH: os.tmpdir(),
      EVENT_STORES: "x",
      REDIS_SERVICE_HOST: "10.0.0.1",
      REDIS_PORT: "tcp://10.0.0.1:6379",
      REDIS_PORT_6379_TCP: "tcp://10.0.0.1:6379"
    }
    expect(await warnings(quiet)).toBe("")
  })

  it("are found in the environment, under another prefix and in a file of JSON", async () => {
    const misspelt = { EVENT_STORE_POL: "5" }
    process.env.APP_EVENT_STORE_POL = "5"
    try {
      expect(await warnings({}, ConfigProvider.nested(ConfigProvider.fromEnv(), "APP"))).toContain("EVENT_STORE_POL;")
    } finally {
      delete process.env.APP_EVENT_STORE_POL
    }
    expect(await warnings({}, ConfigProvider.fromJson({ ...misspelt, PG: { URL: "x" } }))).toContain(
      "EVENT_STORE_POL, PG_URL;"
    )
  })

  it("are none where Config cannot list what there is", async () => {
    const { flattened } = providerOf({ EVENT_STORE_POL: "5" })
    const nothing = ConfigError.Unsupported([], "nothing is listed here")
    for (const enumerateChildren of [() => Effect.fail(nothing), () => Effect.die(nothing)]) {
      const silent = ConfigProvider.fromFlat(ConfigProvider.makeFlat({ ...flattened, enumerateChildren }))
      expect(await warnings({}, silent)).toBe("")
    }
  })
})
