/**
 * The options and URLs of databases behind a network: what they ask for is done or refused by name, whatever the
 * environment says, and nothing that may be a secret is shown. No server is needed: what is taken is looked at in the
 * settings, and what is refused is refused before anything is opened.
 */
import { createPrivateKey, X509Certificate } from "node:crypto"
import * as fs from "node:fs"
import * as https from "node:https"
import type { AddressInfo } from "node:net"
import * as path from "node:path"
import { inspect } from "node:util"
import { Cause, Duration, Effect, Either, Exit, Layer, Option, Redacted } from "effect"
import { DataStore, Pool } from "effect-stores"
import { DataStoreFileSystem } from "effect-stores/fs"
import { DataStoreMinio } from "effect-stores/minio"
import { EventStorePg, PgDatabase } from "effect-stores/pg"
import { CacheStoreRedis, RedisDatabase } from "effect-stores/redis"
import { describe, expect, it, onTestFinished } from "vitest"
import { checkedSettings, describeConnection, makeClient } from "../src/pg/database/settings.js"
import { settings as redisSettings } from "../src/redis/database/settings.js"
import { temporaryDirectory } from "./support/backends.js"
import { certificates } from "./support/certificates.js"

const untyped = (value: object): never => value as never

/** Which option was refused and what was said, and that nobody shows the secret. */
const refused = async (build: Effect.Effect<unknown, unknown>, secret?: string) => {
  const exit = await Effect.runPromiseExit(build)
  const error = Exit.isFailure(exit) ? Option.getOrUndefined(Cause.failureOption(exit.cause)) : undefined
  if (secret !== undefined) {
    const shown = [String(exit), JSON.stringify(exit), inspect(exit, { depth: 20, showHidden: true })].join("\n")
    expect(shown).not.toContain(secret)
  }
  expect(error, Exit.isFailure(exit) ? Cause.pretty(exit.cause) : "it was taken").toMatchObject({
    _tag: "InvalidInput"
  })
  return error as { readonly what: string; readonly why: string }
}

const buildPg = (options: object) => Effect.scoped(Layer.build(PgDatabase.layer(untyped(options))))
const buildRedis = (options: object) => Effect.scoped(Layer.build(RedisDatabase.layer(untyped(options))))
const urlOf = (url: string) => ({ url: Redacted.make(url) })

const client = (options: PgDatabase.Options) =>
  Redacted.value(Effect.runSync(Effect.map(checkedSettings(options), (settings) => settings.client)))

describe("a PostgreSQL URL", () => {
  const taken = (url: string) => client(urlOf(url))

  it("gives what it says, decoded", () => {
    expect(taken("postgres://us%40er:p%2Fa%23s%3Fs%3Aw@db.example:6432/da%2Fta")).toMatchObject({
      host: "db.example",
      port: 6432,
      user: "us@er",
      password: "p/a#s?s:w",
      database: "da/ta",
      ssl: false,
      application_name: "effect-stores"
    })
    expect(taken("postgresql://u@[::1]")).toMatchObject({ host: "::1", port: 5432, user: "u", database: "u" })
    expect(taken("postgres://u@%2Fvar%2Frun/db")).toMatchObject({ host: "/var/run", database: "db" })
    expect(taken("postgres:///?host=/run&user=u&dbname=d&port=5")).toMatchObject({
      host: "/run",
      user: "u",
      database: "d",
      port: 5
    })
    expect(taken("postgres://u@h/d?application_name=a%20b&connect_timeout=3")).toMatchObject({
      application_name: "a b",
      connectionTimeoutMillis: 3_000
    })
    // A plus is a plus: only forms of browsers take it for a space.
    expect(taken("postgres://u:a+b@h/d?application_name=a+b")).toMatchObject({
      password: "a+b",
      application_name: "a+b"
    })
    expect(taken("postgres://u@h/d?connect_timeout=0")).toMatchObject({ connectionTimeoutMillis: 0 })
    expect(describeConnection(taken("postgres://u:secret@[::1]:6/d"))).toBe("postgres://[::1]:6/d")
  })

  it.each([
    ["disable", false],
    ["require", { rejectUnauthorized: false }],
    ["verify-ca", { rejectUnauthorized: true, checkServerIdentity: expect.any(Function) }],
    ["verify-full", { rejectUnauthorized: true }]
  ] as const)("encrypts as sslmode=%s says", (mode, ssl) => {
    expect(taken(`postgres://u@h/d?sslmode=${mode}`).ssl).toEqual(ssl)
  })

  const secret = "hunter2"
  const ambiguous = [
    `postgres://user:12#${secret}@db/app`,
    `postgres://user:12/${secret}@db/app`,
    `postgres://user:12?${secret}@db/app`,
    `postgres://user:12@${secret}@db/app`,
    `postgres://user:${secret}/34@db/app`,
    `postgres://us#er:${secret}@db/app`,
    `postgres://us/er:${secret}@db/app`,
    `postgres://127.0.0.1:5432#${secret}@db/app`,
    `postgres://127.0.0.1:5432#${secret}`,
    `postgres://127.0.0.1:5432/app#${secret}`,
    `postgres://user:${secret}`,
    `postgres://user:${secret}/app`,
    `postgres://user:${secret}%@db/app`,
    `postgres://user:${secret}%00@db/app`,
    `postgres://user:a b${secret}@db/app`,
    `postgres://user:a\n${secret}@db/app`,
    `postgres://user:pass@db/app/${secret}`,
    `postgres://user:pass@db/app?${secret}`,
    `postgres://user:pass@db/app?sslmode=require&${secret}=x`,
    `postgres://user@db/app?password=${secret}`,
    `postgres://user@db/app?password=x&${secret}=y`,
    `postgres://:${secret}@db/app`,
    `postgres://user:pass@${secret},other/app`,
    `Postgres://user:${secret}@db/app`,
    ` postgres://user:${secret}@db/app`,
    `mysql://user:${secret}@db/app`,
    secret
  ]
  it.each(ambiguous)("is refused, and shows no part of a secret: %s", async (url) => {
    const error = await refused(buildPg(urlOf(url)), secret)
    expect(error.what).toBe("url")
    if (/^postgres:\/\/.*[#/?@].*@/.test(url)) expect(error.why).toContain("percent-encode")
  })

  it.each([
    "ssl=true",
    "ssl=1",
    "SSLMODE=require",
    "sslmode=",
    "sslmode",
    "sslmode=allow",
    "sslmode=prefer",
    "sslmode=no-verify",
    "sslmode=verfy-full",
    "sslmode=VERIFY-FULL",
    "sslmode=require%20",
    "sslmode=disable&sslmode=verify-full",
    "sslmode=require&sslmode=require",
    "sslrootcert=/ca.pem",
    "sslmode=disable&sslrootcert=/ca.pem",
    "sslmode=verify-full&sslrootcert=/no/such/ca.pem",
    "sslmode=verify-full&sslrootcert=system",
    "schema=app",
    "hots=x",
    "options=-c%20statement_timeout%3D1",
    "channel_binding=require",
    "target_session_attrs=read-write",
    "gssencmode=require",
    "connect_timeout=-1",
    "connect_timeout=1.5",
    "connect_timeout=soon",
    "connect_timeout=99999999",
    "application_name=",
    `application_name=${"x".repeat(64)}`,
    "application_name=%C3%BC",
    "port=0",
    "port=65536",
    "port=5433",
    "host=other",
    "user=other",
    "dbname=other",
    "&sslmode=require",
    "=x",
    ""
  ])("with parameters that cannot be done is refused: %s", async (query) => {
    expect((await refused(buildPg(urlOf(`postgres://user@db:5432/app?${query}`)))).what).toBe("url")
  })

  it.each([
    "postgres://user@db:0/app",
    "postgres://user@db:/app",
    "postgres://user@db:99999/app",
    "postgres://user@[db]/app",
    "postgres://user@/app",
    "postgres:///app",
    "postgres://user:@db/app",
    "postgres://@db/app",
    "postgres://user@-db/app",
    "postgres://user@db/app/",
    `postgres://user@db/${"x".repeat(64)}`
  ])("that is incomplete or no address is refused: %s", async (url) => {
    expect((await refused(buildPg(urlOf(url)))).what).toBe("url")
  })

  it("and an option beside it must not differ, and may add what it does not say", async () => {
    const url = "postgres://user:pass@db:5432/app?application_name=a&connect_timeout=5&sslmode=disable"
    const differing = {
      host: "other",
      port: 5433,
      database: "other",
      username: "other",
      password: Redacted.make("other-secret"),
      applicationName: "b",
      connectTimeout: "6 seconds",
      ssl: true
    }
    for (const [what, value] of Object.entries(differing)) {
      expect((await refused(buildPg({ ...urlOf(url), [what]: value }), "other-secret")).what).toBe(what)
    }
    const same = {
      host: "db",
      port: 5432,
      database: "app",
      username: "user",
      password: Redacted.make("pass"),
      applicationName: "a",
      connectTimeout: 5_000,
      ssl: false
    }
    expect(client({ ...urlOf(url), ...same })).toMatchObject({ host: "db", password: "pass" })
    expect(client({ ...urlOf("postgres://db"), username: "u", database: "d", ssl: true })).toMatchObject({
      host: "db",
      user: "u",
      database: "d",
      ssl: { rejectUnauthorized: true }
    })
    for (const [sslmode, ssl, what] of [
      ["require", true, "ssl"],
      ["verify-full", false, "ssl"],
      ["disable", {}, "ssl"],
      ["disable", { caFile: "/ca.pem" }, "ssl.caFile"],
      ["require", { mode: "verify-full" }, "ssl.mode"],
      ["verify-full", { mode: "require" }, "ssl.mode"],
      ["verify-full", { mode: "disable" }, "ssl.mode"],
      ["verify-full", { rejectUnauthorized: false }, "ssl.rejectUnauthorized"],
      ["verify-ca", { checkServerIdentity: () => undefined }, "ssl.checkServerIdentity"],
      ["verify-full&sslrootcert=/a.pem", { caFile: "/b.pem" }, "ssl.caFile"],
      ["verify-full&sslcert=/a.pem&sslkey=/a.pem", { keyFile: "/b.pem" }, "ssl.keyFile"]
    ] as const) {
      expect((await refused(buildPg({ ...urlOf(`postgres://u@db?sslmode=${sslmode}`), ssl }))).what).toBe(what)
    }
    for (const [sslmode, ssl, expected] of [
      ["verify-full", true, { rejectUnauthorized: true }],
      ["disable", false, false],
      ["require", { mode: "require" }, { rejectUnauthorized: false }],
      ["require", { minVersion: "TLSv1.3" }, { rejectUnauthorized: false, minVersion: "TLSv1.3" }],
      ["disable", { mode: "disable" }, false]
    ] as const) {
      expect(client({ ...urlOf(`postgres://u@db?sslmode=${sslmode}`), ssl }).ssl).toEqual(expected)
    }
  })
})

describe("the environment", () => {
  const set = (variables: Record<string, string>) => {
    const before = { ...process.env }
    onTestFinished(() => {
      for (const name of Object.keys(variables)) delete process.env[name]
      Object.assign(process.env, before)
    })
    Object.assign(process.env, variables)
  }

  it("says nothing about a connection to PostgreSQL", () => {
    set({
      PGHOST: "elsewhere",
      PGPORT: "1",
      PGUSER: "nobody",
      PGPASSWORD: "wrong",
      PGDATABASE: "other",
      PGSSLMODE: "require",
      PGSSLNEGOTIATION: "direct",
      PGOPTIONS: "-c statement_timeout=1",
      PGREPLICATION: "database",
      PGCLIENT_ENCODING: "latin1",
      PGAPPNAME: "other",
      PGCONNECT_TIMEOUT: "1",
      USER: "nobody"
    })
    for (const options of [urlOf("postgres://u@h/d"), urlOf("postgres://u@h/d?sslmode=disable"), { username: "u" }]) {
      const { connectionParameters } = makeClient(client(options)) as unknown as {
        readonly connectionParameters: Record<string, unknown>
      }
      expect(connectionParameters).toMatchObject({
        host: "url" in options ? "h" : "localhost",
        port: 5432,
        user: "u",
        database: "url" in options ? "d" : "u",
        ssl: false,
        sslnegotiation: "postgres",
        options: undefined,
        replication: undefined,
        client_encoding: "utf8",
        application_name: "effect-stores"
      })
      expect(connectionParameters.password).toBeTypeOf("function")
    }
    expect(client({}).user).not.toBe("nobody")
  })

  it("does not turn the verification of certificates off", () => {
    set({ NODE_TLS_REJECT_UNAUTHORIZED: "0" })
    expect(client({ username: "u", ssl: true }).ssl).toEqual({ rejectUnauthorized: true })
    expect(client({ username: "u", ssl: { minVersion: "TLSv1.3", rejectUnauthorized: undefined } }).ssl).toEqual({
      rejectUnauthorized: true,
      minVersion: "TLSv1.3"
    })
  })
})

describe("options of TLS", () => {
  const passphrase = "hunter2"
  const encrypted = { type: "pkcs8", format: "pem", cipher: "aes-256-cbc", passphrase } as const
  const files = certificates(temporaryDirectory())
  const pem = (file: string) => fs.readFileSync(file, "utf8")

  it.each([
    [{ rejectUnauthorised: false }, "a key of ssl"],
    [{ CA: "x" }, "a key of ssl"],
    [{ host: "other" }, "a key of ssl"],
    [{ rejectUnauthorized: "false" }, "ssl.rejectUnauthorized"],
    [{ rejectUnauthorized: 0 }, "ssl.rejectUnauthorized"],
    [{ ca: "/etc/ssl/ca.pem" }, "ssl.ca"],
    [{ ca: [files.authority, "no certificate"] }, "ssl.ca"],
    [{ cert: pem(files.client.cert) }, "ssl.key"],
    [{ key: pem(files.client.key) }, "ssl.cert"],
    [{ cert: pem(files.client.cert), key: pem(files.server.key) }, "ssl.key"],
    [{ minVersion: "TLSv9" }, "ssl"],
    [{ passphrase: 1234567 }, "ssl.passphrase"],
    [{ servername: "" }, "ssl.servername"],
    [{ servername: "other" }, "ssl.servername"],
    ["require", "ssl"],
    ["no-verify", "ssl"],
    [1, "ssl"],
    [null, "ssl"]
  ] as const)("that Node would drop, weaken or find wrong later are refused: %o", async (ssl, what) => {
    expect((await refused(buildPg({ host: "db", ssl }))).what).toBe(what)
    // A host of Redis may be asked for another name than its own.
    if (JSON.stringify(ssl) === JSON.stringify({ servername: "other" })) return
    expect((await refused(buildRedis({ host: "db", tls: ssl }))).what).toBe(what.replace("ssl", "tls"))
  })

  it("take the files of a URL when the layer opens", async () => {
    const { authority, client: own } = files
    const url = `postgres://u@h/d?sslmode=require&sslrootcert=${authority}&sslcert=${own.cert}&sslkey=${own.key}`
    expect(client(urlOf(url)).ssl).toMatchObject({
      rejectUnauthorized: true,
      checkServerIdentity: expect.any(Function),
      ca: fs.readFileSync(authority),
      cert: fs.readFileSync(own.cert)
    })
    const text = path.join(temporaryDirectory(), "text.pem")
    fs.writeFileSync(text, "no certificate")
    for (const wrong of [
      `sslrootcert=${text}`,
      `sslcert=${own.cert}`,
      `sslkey=${own.key}`,
      `sslcert=${own.cert}&sslkey=${files.server.key}`
    ]) {
      expect((await refused(buildPg(urlOf(`postgres://u@h/d?sslmode=verify-full&${wrong}`)))).what).toMatch(/^url/)
    }
  })

  it("take files by their names, and name the one that is wrong", async () => {
    const { authority, client: own } = files
    const all = { caFile: authority, certFile: own.cert, keyFile: own.key }
    expect(client({ host: "h", ssl: { ...all, mode: "verify-ca" } }).ssl).toMatchObject({
      ca: fs.readFileSync(authority),
      cert: fs.readFileSync(own.cert),
      key: fs.readFileSync(own.key),
      checkServerIdentity: expect.any(Function)
    })
    const at = (name: string, content: string | Buffer) => {
      const file = path.join(temporaryDirectory(), name)
      fs.writeFileSync(file, content)
      return file
    }
    const broken = at("bundle.pem", `${pem(authority)}-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n`)
    const der = at("ca.der", new X509Certificate(pem(authority)).raw)
    const locked = at("locked.key", createPrivateKey(pem(own.key)).export(encrypted))
    const combined = at("client.pem", pem(own.key) + pem(own.cert))
    const cases: ReadonlyArray<readonly [tls: object, what: string]> = [
      [{ caFile: "/no/such/ca.pem" }, "caFile"],
      [{ caFile: temporaryDirectory() }, "caFile"],
      [{ caFile: pem(authority) }, "caFile"],
      [{ caFile: "" }, "caFile"],
      [{ caFile: 1 }, "caFile"],
      [{ caFile: own.key }, "caFile"],
      [{ caFile: broken }, "caFile"],
      [{ caFile: der }, "caFile"],
      [{ caFile: authority, ca: pem(authority) }, "caFile"],
      [{ certFile: own.cert }, "keyFile"],
      [{ keyFile: own.key }, "certFile"],
      [{ passphrase: Redacted.make(passphrase) }, "keyFile"],
      [{ ...all, keyFile: "/no/such/key.pem" }, "keyFile"],
      [{ ...all, keyFile: own.cert }, "keyFile"],
      [{ ...all, keyFile: files.server.key }, "keyFile"],
      [{ ...all, keyFile: locked }, "keyFile"],
      [{ ...all, keyFile: locked, passphrase: Redacted.make("wrong") }, "keyFile"],
      [{ ...all, passphrase: Redacted.make(2) }, "passphrase"]
    ]
    for (const [tls, what] of cases) {
      expect(await refused(buildPg({ host: "db", ssl: tls }), passphrase)).toMatchObject({ what: `ssl.${what}` })
      expect(await refused(buildRedis({ host: "db", tls }), passphrase)).toMatchObject({ what: `tls.${what}` })
    }
    for (const tls of [
      { ...all, keyFile: locked, passphrase },
      { ...all, keyFile: locked, passphrase: Redacted.make(passphrase) },
      { certFile: combined, keyFile: combined }
    ]) {
      expect(client({ host: "h", ssl: tls }).ssl).toMatchObject({ rejectUnauthorized: true })
    }
  })

  it("are refused where there can be no TLS", async () => {
    expect((await refused(buildPg({ host: "/run", ssl: true }))).what).toBe("ssl")
    expect((await refused(buildPg(urlOf("postgres:///d?host=/run&sslmode=require")))).what).toBe("url")
  })
})

describe("a secret that is plain text, empty or wiped is refused, and is not shown:", () => {
  const wiped = Redacted.make("hunter2")
  Redacted.unsafeWipe(wiped)
  for (const [title, value] of [
    ["plain", "postgres://u:hunter2@h/d"],
    ["empty", Redacted.make("")],
    ["wiped", wiped],
    ["a number", Redacted.make(2)],
    ["NUL", Redacted.make("a\0hunter2")]
  ] as const) {
    it(title, async () => {
      const sentinel = { mode: "Sentinel", sentinels: [{ host: "h" }], name: "n" }
      for (const [build, options, what] of [
        [buildPg, { url: value }, "url"],
        [buildPg, { password: value }, "password"],
        [(options: object) => EventStorePg.migrate(untyped(options)), { url: value }, "url"],
        [buildRedis, { url: value }, "url"],
        [buildRedis, { password: value }, "password"],
        [buildRedis, { ...sentinel, password: value }, "password"],
        [buildRedis, { ...sentinel, sentinelPassword: value }, "sentinelPassword"],
        [buildRedis, { mode: "Cluster", nodes: [{ host: "h" }], password: value }, "password"]
      ] as const) {
        expect((await refused(build(options), "hunter2")).what).toBe(what)
      }
    })
  }
})

describe("a Redis URL", () => {
  const connection = (url: string, beside: object = {}) => redisSettings({ ...urlOf(url), ...beside }).connection

  it("gives what it says", () => {
    expect(connection("redis://h")).toBe("redis://h:6379/0")
    expect(connection("rediss://:pass@h:7/3")).toBe("rediss://h:7/3")
    expect(connection("redis://u:p%40%2F%23@[::1]/")).toBe("redis://[::1]:6379/0")
    expect(connection("rediss://h", { tls: { minVersion: "TLSv1.3" }, db: 2 })).toBe("rediss://h:6379/2")
  })

  const secret = "hunter2"
  it.each([
    `redis://user:12#${secret}@h/0`,
    `redis://user:12/${secret}@h/0`,
    `redis://user:12?${secret}@h/0`,
    `redis://:${secret}/0`,
    `redis://user:${secret}`,
    `redis://user:${secret}%@h/0`,
    `redis://h/0#${secret}`,
    `redis://h/${secret}`,
    `redis://h/0/${secret}`,
    `redis://h/0?password=${secret}`,
    `redis://h/0?${secret}`,
    `REDIS://:${secret}@h`,
    `redis:${secret}@h`,
    `redis://:${secret}@`,
    `redis://:${secret}@h:0`,
    `redis://:${secret}@h/-1`,
    `redis://:${secret}@h/1.5`,
    `redis://:${secret}@h/99999999`
  ])("is refused, and shows no part of a secret: %s", async (url) => {
    expect((await refused(buildRedis(urlOf(url)), secret)).what).toMatch(/^(url|db)$/)
  })

  it("and an option beside it must not differ", async () => {
    for (const [what, value] of Object.entries({
      host: "other",
      port: 1,
      db: 4,
      username: "other",
      password: Redacted.make(secret),
      tls: true
    })) {
      expect((await refused(buildRedis({ ...urlOf("redis://u:p@h:6379/3"), [what]: value }), secret)).what).toBe(what)
    }
    expect((await refused(buildRedis({ ...urlOf("rediss://h"), tls: false }))).what).toBe("tls")
  })

  it("and a user without a password, and a name of a connection that the server would not take, are refused", async () => {
    expect((await refused(buildRedis(urlOf("redis://user@h")))).what).toBe("password")
    expect((await refused(buildRedis({ username: "user" }))).what).toBe("password")
    const cluster = { mode: "Cluster", nodes: [{ host: "h" }] }
    expect((await refused(buildRedis({ ...cluster, username: "user" }))).what).toBe("password")
    const sentinel = { mode: "Sentinel", sentinels: [{ host: "h" }], name: "n" }
    expect((await refused(buildRedis({ ...sentinel, sentinelUsername: "user" }))).what).toBe("sentinelPassword")
    for (const connectionName of ["a b", "a\nb", "ü", ""]) {
      expect((await refused(buildRedis({ connectionName }))).what).toBe("connectionName")
    }
  })
})

describe("absurd numbers are refused by name:", () => {
  it.each([
    ["port", -1],
    ["port", 1.5],
    ["port", 65_536],
    ["port", "5432"],
    ["connectTimeout", -1],
    ["connectTimeout", "-5 seconds"],
    ["connectTimeout", Number.NaN],
    ["connectTimeout", "25 days"],
    ["connectTimeout", "1 nanos"],
    ["statementTimeout", "-5 seconds"],
    ["lockTimeout", [-1, 0]],
    ["idleInTransactionTimeout", -5n],
    ["database", ""],
    ["username", "a\0b"],
    ["applicationName", "x".repeat(55)],
    ["host", "a b"],
    ["host", "user@db"],
    ["host", "postgres://db"],
    ["host", "a,b"]
  ])("%s of %o", async (what, value) => {
    expect((await refused(buildPg({ [what]: value }))).what).toBe(what)
  })

  it.each([-1, "-5 seconds", -5n, [-1, 0], [0, -1], Number.NaN, "1 nanos", "soon", {}])(
    "a time of a pool of %o",
    async (value) => {
      for (const key of ["connMaxLifetime", "connMaxIdleTime", "acquireTimeout"]) {
        const limits = Pool.limits(untyped({ [key]: value }), Pool.defaults.eventStore.pg)
        expect((await refused(limits)).what).toBe(`pool.${key}`)
      }
      const redis = Pool.redisLimits(untyped({ writeTimeout: value }), Pool.defaults.snapshotStore.redis)
      expect((await refused(redis)).what).toBe("pool.writeTimeout")
    }
  )

  it("and zero, an absent one and infinity keep their meaning", () => {
    const limits = (pool: Pool.PoolOptions) => Effect.runSync(Pool.limits(pool, Pool.defaults.eventStore.pg))
    const { acquireTimeoutMs } = Pool.defaults.eventStore.pg
    expect(limits({ acquireTimeout: 0 }).acquireTimeoutMs).toBe(acquireTimeoutMs)
    expect(limits({ acquireTimeout: undefined }).acquireTimeoutMs).toBe(acquireTimeoutMs)
    expect(limits({ acquireTimeout: Duration.infinity }).acquireTimeoutMs).toBe(Number.POSITIVE_INFINITY)
  })

  it("and zero is the default of every option of every pool, as an absent one is", () => {
    const { eventStore, snapshotStore } = Pool.defaults
    const pools: ReadonlyArray<readonly [(pool: object) => Either.Either<object, unknown>, ReadonlyArray<string>]> = [
      [
        (pool) => Pool.limits(pool, eventStore.pg),
        ["maxOpenConns", "maxIdleConns", "connMaxLifetime", "connMaxIdleTime", "acquireTimeout", "maxWaiting"]
      ],
      [
        (pool) => Pool.limits(pool, eventStore.sqlite),
        ["maxOpenConns", "connMaxIdleTime", "acquireTimeout", "maxWaiting"]
      ],
      [
        (pool) => Pool.redisLimits(pool, snapshotStore.redis),
        ["poolSize", "minIdleConns", "maxIdleConns", "maxRetries", "writeTimeout"]
      ],
      [
        (pool) => Pool.httpLimits(pool, Pool.defaults.dataStore.minio),
        ["maxIdleConns", "maxIdleConnsPerHost", "idleConnTimeout"]
      ]
    ]
    for (const [limits, options] of pools) {
      const defaults = Either.getOrThrow(limits({}))
      for (const option of options) {
        for (const value of [0, undefined]) {
          expect(Either.getOrThrow(limits({ [option]: value })), option).toEqual(defaults)
        }
      }
    }
    // Of a pool that is smaller than the default of what it bounds, the default is as large as the pool.
    const small = Pool.limits({ maxOpenConns: 2, maxIdleConns: 0 }, eventStore.pg)
    expect(Either.getOrThrow(small)).toMatchObject({ maxOpenConns: 2, maxIdleConns: 2 })
  })
})

describe("options of an S3 server", () => {
  const keys = { accessKey: "key", secretKey: Redacted.make("secret") }
  const build = (options: object) =>
    Effect.scoped(Layer.build(DataStoreMinio.layer(untyped({ endpoint: "https://s3.example", ...keys, ...options }))))
  const files = certificates(temporaryDirectory())
  const secret = "hunter2"

  it.each([
    { endpoint: `https://key:${secret}@s3.example` },
    { endpoint: `https://key:${secret}#@s3.example` },
    { endpoint: `https://s3.example:${secret}` },
    { endpoint: `https://s3 .example/${secret}` },
    { endpoint: `https://s3.example/?X-Amz-Signature=${secret}` },
    { endpoint: `s3://${secret}` },
    { endpoint: secret },
    { publicEndpoint: `https://key:${secret}@public.example` },
    { publicEndpoint: `https://public example/${secret}` },
    { accessKey: `${secret}\n` },
    { accessKey: Redacted.make(secret) },
    { secretKey: secret },
    { secretKey: Redacted.make("") },
    { sessionToken: secret }
  ])("that are no URL, or no redacted text, are refused and show no secret: %o", async (options) => {
    expect((await refused(build(options), secret)).what).toBe(Object.keys(options)[0])
  })

  it.each([
    [{ useSSL: true }, "a key of options"],
    [{ endPoint: "s3.example" }, "a key of options"],
    [{ secure: false }, "a key of options"],
    [{ region: "" }, "region"],
    [{ region: 1 }, "region"],
    [{ capabilities: { putIfNone: true } }, "a key of capabilities"],
    [{ capabilities: { public: "yes" } }, "capabilities.public"],
    [{ pool: { maxOpenConns: 3 } }, "a key of pool"],
    [{ timeout: -1 }, "timeout"],
    [{ tls: false }, "tls"],
    [{ tls: { ca: "/etc/ssl/ca.pem" } }, "tls.ca"],
    [{ tls: { rejectUnauthorised: false } }, "a key of tls"],
    [{ endpoint: "http://s3.example", tls: { ca: files.authority } }, "tls.ca"]
  ] as const)("that would have no effect are refused: %o", async (options, what) => {
    expect((await refused(build(options))).what).toBe(what)
  })
})

describe("a server of HTTPS that answers as S3", () => {
  const files = certificates(temporaryDirectory())
  const ca = fs.readFileSync(files.authority, "utf8")

  const exists = async (tls?: DataStoreMinio.ServerOptions["tls"]) => {
    let connections = 0
    const { cert, key } = files.server
    const server = https.createServer({ cert: fs.readFileSync(cert), key: fs.readFileSync(key) }, (_, response) => {
      response.writeHead(200).end()
    })
    server.on("connection", () => connections++)
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
    onTestFinished(() => void server.close())
    const endpoint = `https://localhost:${(server.address() as AddressInfo).port}`
    const layer = DataStoreMinio.layer({ endpoint, accessKey: "key", secretKey: Redacted.make("secret"), tls })
    const run = <A, E>(use: (store: DataStore.DataStoreShape) => Effect.Effect<A, E>) =>
      Effect.runPromiseExit(Effect.provide(Effect.flatMap(DataStore.DataStore, use), layer))
    const read = await run((store) => store.buckets.exists("assets"))
    const write = await run((store) => store.put({ bucket: "assets", name: "a" }, new Uint8Array(1)))
    return { read, write, connections }
  }
  const failed = (exit: Exit.Exit<unknown, unknown>) => Option.getOrUndefined(Exit.causeOption(exit))

  it("is trusted by the authority that is given", async () => {
    expect((await exists({ ca })).read).toEqual(Exit.succeed(true))
    expect((await exists({ rejectUnauthorized: false })).read).toEqual(Exit.succeed(true))
  })

  it("is not trusted else, whatever the environment says; that is final, in no doubt, and not tried again", async () => {
    const before = process.env.NODE_TLS_REJECT_UNAUTHORIZED
    process.env.NODE_TLS_REJECT_UNAUTHORIZED = "0"
    onTestFinished(() => {
      if (before === undefined) delete process.env.NODE_TLS_REJECT_UNAUTHORIZED
      else process.env.NODE_TLS_REJECT_UNAUTHORIZED = before
    })
    for (const tls of [undefined, { ca, servername: "elsewhere.example" }]) {
      const { connections, read, write } = await exists(tls)
      for (const exit of [read, write]) {
        expect(failed(exit)).toMatchObject({ error: { _tag: "StoreError", retryable: false } })
      }
      expect(connections).toBe(2)
    }
  })
})

describe("a folder of objects", () => {
  const build = (root: unknown) => Effect.scoped(Layer.build(DataStoreFileSystem.layer(untyped({ root }))))

  it.each(["", "a\0b", 1, "~/objects", "$HOME/objects", "%APPDATA%/o", "file:///objects", "s3://bucket", "a\uD800"])(
    "is a path, and nothing that only looks like one: %s",
    async (root) => {
      expect((await refused(build(root))).what).toBe("root")
    }
  )

  it("is resolved when the layer opens", async () => {
    const [home, elsewhere, before] = [temporaryDirectory(), temporaryDirectory(), process.cwd()]
    process.chdir(home)
    onTestFinished(() => process.chdir(before))
    const put = Effect.gen(function* () {
      const store = yield* DataStore.DataStore
      process.chdir(elsewhere)
      yield* store.buckets.create("assets")
      yield* store.put({ bucket: "assets", name: "a" }, new Uint8Array(1))
    })
    await Effect.runPromise(Effect.provide(put, DataStoreFileSystem.layer({ root: "objects" })))
    expect(fs.readdirSync(elsewhere)).toEqual([])
    expect(fs.readdirSync(home)).toEqual(["objects"])
  })
})

it.each([
  [{ url: Redacted.make("redis://h/0?db=1") }, "url"],
  [{ url: Redacted.make("redis://:hunter2#@h/0") }, "url"],
  [{ url: "redis://:hunter2@h/0" }, "url"],
  [{ host: "h", password: "hunter2" }, "password"],
  [{ host: "h", keyPrefix: "a:" }, "a key of options"],
  [{ host: "h", pool: { maxOpenConns: 2 } }, "a key of pool"],
  [{ host: "h", tls: "yes" }, "tls"]
] as const)("a cache on Redis refuses what it would not do: %o", async (options, what) => {
  const build = Effect.scoped(Layer.build(CacheStoreRedis.layer(untyped(options))))
  expect((await refused(build, "hunter2")).what).toBe(what)
})
