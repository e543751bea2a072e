/**
 * Encrypted connections to Redis, alone, under a sentinel and in a cluster: as asked, or an error that stays.
 */
import * as fs from "node:fs"
import { Config, ConfigProvider, Effect, Redacted } from "effect"
import { RedisDatabase } from "effect-stores/redis"
import { afterAll, beforeAll, expect, it, onTestFinished } from "vitest"
import { describeOwnRedis, describeWith, temporaryDirectory } from "../support/backends.js"
import { type Certificate, type Certificates, certificates } from "../support/certificates.js"
import { freePort } from "../support/ports.js"
import { type RedisServer, startRedis } from "../support/redis.js"
import { failure } from "./fixtures.js"

describeOwnRedis("Redis that takes only encrypted connections", () =>
  describeWith("openssl", "with an authority of its own", () => {
    let server: RedisServer
    let port: number
    let files: Certificates
    let ca: string

    /** The server presents another certificate from the next connection on. */
    const present = ({ cert, key }: Certificate) =>
      server.command("config", "set", "tls-cert-file", cert, "tls-key-file", key)

    beforeAll(async () => {
      files = certificates(temporaryDirectory())
      ca = fs.readFileSync(files.authority, "utf8")
      port = await freePort()
      // The other port is for the tests themselves.
      server = await startRedis({
        settings: {
          "tls-port": String(port),
          "tls-cert-file": files.server.cert,
          "tls-key-file": files.server.key,
          "tls-ca-cert-file": files.authority,
          "tls-auth-clients": "no"
        }
      })
    })
    afterAll(() => server.stop())

    const attempt = (options: RedisDatabase.Options) =>
      Effect.map(RedisDatabase.RedisDatabase, ({ connection }) => connection).pipe(
        Effect.provide(RedisDatabase.layer(options)),
        Effect.runPromiseExit
      )
    const url = (scheme: string, host = "localhost") => Redacted.make(`${scheme}://${host}:${port}`)
    const final = { _tag: "StoreError", retryable: false, operation: "connecting" }

    it("lets in who encrypts as asked", async () => {
      for (const options of [
        { url: url("rediss"), tls: { ca } },
        { url: url("rediss", "127.0.0.1"), tls: { ca } },
        { url: url("rediss"), tls: { rejectUnauthorized: false } },
        { host: "localhost", port, tls: { ca } }
      ]) {
        expect(await attempt(options)).toMatchObject({
          _tag: "Success",
          value: expect.stringMatching(`^rediss://(localhost|127.0.0.1):${port}/0$`)
        })
      }
    })

    it("is refused for good when its authority is not trusted, also when the environment would not ask", async () => {
      process.env.NODE_TLS_REJECT_UNAUTHORIZED = "0"
      onTestFinished(() => void delete process.env.NODE_TLS_REJECT_UNAUTHORIZED)
      const stranger = fs.readFileSync(files.stranger, "utf8")
      for (const options of [
        { url: url("rediss") },
        { url: url("rediss"), tls: true },
        { url: url("rediss"), tls: { ca: stranger } },
        { host: "localhost", port, tls: true }
      ]) {
        const error = failure(await attempt(options))
        expect(error).toMatchObject(final)
        expect(error).toHaveProperty("message", expect.stringContaining("REDIS_TLS_CA_FILE"))
      }
    })

    it("is asked for the name of its host", async () => {
      await present(files.misnamed)
      onTestFinished(async () => {
        await present(files.server)
      })
      const error = failure(await attempt({ url: url("rediss"), tls: { ca } }))
      expect(error).toMatchObject({ ...final, cause: { code: "ERR_TLS_CERT_ALTNAME_INVALID" } })
      const named = await attempt({ url: url("rediss"), tls: { ca, servername: "elsewhere.example" } })
      expect(named).toMatchObject({ _tag: "Success" })
    })

    it("is refused for good when its certificate has expired", async () => {
      await present(files.expired)
      onTestFinished(async () => {
        await present(files.server)
      })
      const error = failure(await attempt({ url: url("rediss"), tls: { ca } }))
      expect(error).toMatchObject({ ...final, cause: { code: "CERT_HAS_EXPIRED" } })
    })

    const byConfig = (map: Readonly<Record<string, string>>) =>
      Effect.map(RedisDatabase.RedisDatabase, ({ connection }) => connection).pipe(
        Effect.provide(RedisDatabase.layerConfig(Config.nested(RedisDatabase.config, "REDIS"))),
        Effect.withConfigProvider(ConfigProvider.fromMap(new Map(Object.entries(map)), { pathDelim: "_" })),
        Effect.runPromiseExit
      )

    it("does what variables say, and the names of files", async () => {
      const at = { REDIS_HOST: "localhost", REDIS_PORT: String(port) }
      const REDIS_TLS_CA_FILE = files.authority
      for (const map of [
        { ...at, REDIS_TLS: "true", REDIS_TLS_CA_FILE },
        { ...at, REDIS_TLS_CA_FILE },
        { REDIS_URL: `rediss://localhost:${port}`, REDIS_TLS_CA_FILE },
        { REDIS_URL: `rediss://127.0.0.1:${port}`, REDIS_TLS: "true", REDIS_TLS_CA_FILE }
      ]) {
        expect(await byConfig(map), JSON.stringify(map)).toMatchObject({ value: expect.stringMatching("^rediss:") })
      }
      expect(await attempt({ url: url("rediss"), tls: { caFile: files.authority } })).toMatchObject({ _tag: "Success" })
      for (const map of [
        { ...at, REDIS_TLS: "true" },
        { REDIS_URL: `rediss://localhost:${port}` },
        { ...at, REDIS_TLS_CA_FILE: files.stranger }
      ]) {
        expect(failure(await byConfig(map)), JSON.stringify(map)).toMatchObject(final)
      }
      await present(files.misnamed)
      onTestFinished(async () => {
        await present(files.server)
      })
      expect(failure(await byConfig({ ...at, REDIS_TLS_CA_FILE }))).toMatchObject({
        ...final,
        cause: { code: "ERR_TLS_CERT_ALTNAME_INVALID" }
      })
      const named = { ...at, REDIS_TLS_CA_FILE, REDIS_TLS_SERVERNAME: "elsewhere.example" }
      expect(await byConfig(named)).toMatchObject({ _tag: "Success" })
      await present(files.expired)
      expect(failure(await byConfig({ ...at, REDIS_TLS_CA_FILE }))).toMatchObject({
        ...final,
        cause: { code: "CERT_HAS_EXPIRED" }
      })
    })

    it("knows by a certificate who one is", async () => {
      await server.command("config", "set", "tls-auth-clients", "yes")
      onTestFinished(async () => {
        await server.command("config", "set", "tls-auth-clients", "no")
      })
      const { cert, key } = files.client
      const at = { REDIS_URL: `rediss://localhost:${port}`, REDIS_TLS_CA_FILE: files.authority }
      const mine = { REDIS_TLS_CERT_FILE: cert, REDIS_TLS_KEY_FILE: key }
      expect(await byConfig({ ...at, ...mine })).toMatchObject({ _tag: "Success" })
      // With TLS 1.3 the server may close before its reason has arrived, which looks like a server that went away.
      expect(failure(await byConfig(at))).toMatchObject({ _tag: expect.stringMatching("^Store") })
    })

    it("is not done without by who asked for it", async () => {
      const plain = { host: "127.0.0.1", port: server.port, tls: { ca } }
      // It waits for the rest of what it takes for a command.
      expect(failure(await attempt(plain))).toMatchObject({ _tag: "StoreUnavailable" })
    })

    it("and so it is in the other modes", async () => {
      const nodes = [{ host: "localhost", port }]
      for (const options of [
        { mode: "Cluster", nodes, tls: true },
        { mode: "Sentinel", sentinels: nodes, name: "n", sentinelTls: true }
      ] as const) {
        expect(failure(await attempt(options)), options.mode).toMatchObject(final)
      }
    })
  })
)
