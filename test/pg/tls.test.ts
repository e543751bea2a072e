/**
 * Encrypted connections to PostgreSQL: what was asked for is what the server sees, or an error that says why not.
 */
import { createPrivateKey, X509Certificate } from "node:crypto"
import * as fs from "node:fs"
import * as path from "node:path"
import type { TLSSocket } from "node:tls"
import { Cause, Config, ConfigProvider, Effect, Exit, Option, Redacted, Stream } from "effect"
import { EventStore } from "effect-stores"
import { EventStorePg, PgDatabase } from "effect-stores/pg"
import { Client } from "pg"
import { afterAll, beforeAll, expect, it, onTestFinished } from "vitest"
import { describeOwnPg, describeWith, temporaryDirectory } from "../support/backends.js"
import { type Certificate, type Certificates, certificates } from "../support/certificates.js"
import { withClient } from "../support/databases.js"
import { type PostgresServer, startPostgres } from "../support/postgres.js"

describeOwnPg("PostgreSQL that takes only encrypted connections", () =>
  describeWith("openssl", "with an authority of its own", () => {
    let server: PostgresServer
    let files: Certificates

    /** The server presents another certificate from the next connection on. */
    const present = ({ cert, key }: Certificate) =>
      withClient(server.url, async (client) => {
        const { rows } = await client.query("show data_directory")
        const data = rows[0].data_directory
        const { gid, uid } = fs.statSync(data)
        for (const [from, to] of [
          [cert, "server.crt"],
          [key, "server.key"],
          [files.authority, "root.crt"]
        ] as const) {
          const file = path.join(data, to)
          fs.copyFileSync(from, file)
          fs.chownSync(file, uid, gid)
          fs.chmodSync(file, 0o600)
        }
        // The superuser's own database stays open: it is how the tests talk to the server beside the store.
        fs.writeFileSync(
          path.join(data, "pg_hba.conf"),
          "host postgres postgres all trust\nhostssl certified all all cert\nhostssl all all all trust\nlocal all all trust\n"
        )
        await client.query("alter system set ssl_ca_file = 'root.crt'")
        await client.query("alter system set ssl = on")
        await client.query("select pg_reload_conf()")
        const { fingerprint256 } = new X509Certificate(fs.readFileSync(cert))
        const presented = async () => {
          const client = new Client({ connectionString: server.url, ssl: { rejectUnauthorized: false } })
          client.on("error", () => {})
          try {
            await client.connect()
            const { connection } = client as unknown as { readonly connection: { readonly stream: TLSSocket } }
            return connection.stream.getPeerCertificate().fingerprint256 === fingerprint256
          } catch {
            return false
          } finally {
            await client.end().catch(() => {})
          }
        }
        const deadline = Date.now() + 90_000
        while (!(await presented())) if (Date.now() > deadline) throw new Error(server.log())
      })

    beforeAll(async () => {
      files = certificates(temporaryDirectory())
      server = await startPostgres()
      await server.createDatabase("app")
      await server.createDatabase("certified")
      await withClient(server.url, (client) => client.query("create role app login superuser"))
      await present(files.server)
    })
    afterAll(() => server.stop())

    const urlOf = (parameters: string, host = "localhost", database = "app") =>
      Redacted.make(`postgres://app@${host}:${server.port}/${database}${parameters === "" ? "" : `?${parameters}`}`)
    const attempt = (options: EventStorePg.Options) =>
      Effect.gen(function* () {
        const { sql } = yield* PgDatabase.PgDatabase
        const [row] = yield* sql<{ ssl: boolean; client_dn: string | null }>`
          select ssl, client_dn from pg_stat_ssl where pid = pg_backend_pid()`
        return row
      }).pipe(Effect.provide(EventStorePg.layer({ pool: { maxOpenConns: 1 }, ...options })), Effect.runPromiseExit)
    const connect = async (options: EventStorePg.Options) => {
      const exit = await attempt(options)
      return Exit.isSuccess(exit) ? exit.value : Promise.reject(new Error(Cause.pretty(exit.cause)))
    }

    const failed = (exit: Exit.Exit<unknown, unknown>) =>
      Exit.isFailure(exit) ? Option.getOrThrow(Cause.failureOption(exit.cause)) : exit.value

    const failure = async (options: EventStorePg.Options) => failed(await attempt(options))

    it("lets in who encrypts as asked, and the server sees it", async () => {
      const ca = fs.readFileSync(files.authority, "utf8")
      for (const options of [
        { url: urlOf("sslmode=require") },
        { url: urlOf(`sslmode=require&sslrootcert=${files.authority}`) },
        { url: urlOf(`sslmode=verify-ca&sslrootcert=${files.authority}`) },
        { url: urlOf(`sslmode=verify-full&sslrootcert=${files.authority}`) },
        { url: urlOf(`sslmode=verify-full&sslrootcert=${files.authority}`, "127.0.0.1") },
        { url: urlOf(""), ssl: { ca } },
        { url: urlOf(""), ssl: { rejectUnauthorized: false } },
        { url: urlOf("", "127.0.0.1"), ssl: { ca, servername: "localhost" } }
      ]) {
        expect(await connect(options)).toEqual({ ssl: true, client_dn: null })
      }
    })

    it("sends who does not encrypt away, whatever the environment says", async () => {
      process.env.PGSSLMODE = "require"
      onTestFinished(() => void delete process.env.PGSSLMODE)
      for (const options of [{ url: urlOf("") }, { url: urlOf("sslmode=disable") }, { url: urlOf(""), ssl: false }]) {
        const error = await failure(options)
        expect(error).toMatchObject({ _tag: "StoreError", cause: { code: "28000" } })
      }
    })

    it("is refused for good when its authority is not trusted, and not asked again and again", async () => {
      for (const options of [
        { url: urlOf("sslmode=verify-ca") },
        { url: urlOf("sslmode=verify-full") },
        { url: urlOf(`sslmode=require&sslrootcert=${files.stranger}`) },
        { url: urlOf(`sslmode=verify-ca&sslrootcert=${files.stranger}`) },
        { url: urlOf(`sslmode=verify-full&sslrootcert=${files.stranger}`) },
        { url: urlOf(""), ssl: true },
        { url: urlOf(""), ssl: {} }
      ]) {
        const error = await failure(options)
        expect(error).toMatchObject({ _tag: "StoreError", retryable: false, operation: "connecting" })
        expect(error).toHaveProperty("message", expect.stringContaining("PG_SSL_CA_FILE"))
      }
    })

    it("is verified though the environment would turn it off", async () => {
      process.env.NODE_TLS_REJECT_UNAUTHORIZED = "0"
      onTestFinished(() => void delete process.env.NODE_TLS_REJECT_UNAUTHORIZED)
      expect(await failure({ url: urlOf("sslmode=verify-full") })).toMatchObject({ _tag: "StoreError" })
      expect(await failure({ url: urlOf(""), ssl: true })).toMatchObject({ _tag: "StoreError" })
    })

    it("is asked for its name by verify-full only", async () => {
      await present(files.misnamed)
      onTestFinished(() => present(files.server))
      const trusted = `sslrootcert=${files.authority}`
      expect(await failure({ url: urlOf(`sslmode=verify-full&${trusted}`) })).toMatchObject({
        _tag: "StoreError",
        cause: { code: "ERR_TLS_CERT_ALTNAME_INVALID" }
      })
      expect(await failure({ url: urlOf(""), ssl: { ca: fs.readFileSync(files.authority) } })).toMatchObject({
        _tag: "StoreError"
      })
      expect(await connect({ url: urlOf(`sslmode=verify-ca&${trusted}`) })).toMatchObject({ ssl: true })
      expect(await connect({ url: urlOf("sslmode=require") })).toMatchObject({ ssl: true })
    })

    it("is refused for good when its certificate has expired, also by a store that is open", async () => {
      const trusted = { url: urlOf(`sslmode=verify-full&sslrootcert=${files.authority}`) }
      await Effect.gen(function* () {
        const { sql } = yield* PgDatabase.PgDatabase
        const store = yield* EventStore.EventStore
        yield* Effect.promise(() => present(files.expired))
        yield* Effect.flip(sql`select pg_terminate_backend(pg_backend_pid())`)
        const error = yield* Effect.flip(Effect.retry(store.count(), { while: ({ _tag }) => _tag !== "StoreError" }))
        expect(error).toMatchObject({ retryable: false, cause: { code: "CERT_HAS_EXPIRED" } })
        // It does not wait for what does not pass.
        expect(yield* Effect.flip(Stream.runDrain(store.subscribe()))).toMatchObject({ _tag: "StoreError" })
      }).pipe(Effect.provide(EventStorePg.layer({ ...trusted, pool: { maxOpenConns: 1 } })), Effect.runPromise)
      onTestFinished(() => present(files.server))
      expect(await failure(trusted)).toMatchObject({ _tag: "StoreError", cause: { code: "CERT_HAS_EXPIRED" } })
    })

    it("knows who one is by a certificate", async () => {
      const { cert, key } = files.client
      const mine = `sslcert=${cert}&sslkey=${key}`
      const trusted = `sslmode=verify-full&sslrootcert=${files.authority}`
      expect(await connect({ url: urlOf(`${trusted}&${mine}`, "localhost", "certified") })).toEqual({
        ssl: true,
        client_dn: "/CN=app"
      })
      expect(await failure({ url: urlOf(trusted, "localhost", "certified") })).toMatchObject({ _tag: "StoreError" })
    })

    /** The variables of a user who asks for what they say. */
    const variables = (more: Readonly<Record<string, string>>, database = "app") => ({
      PG_HOST: "localhost",
      PG_PORT: String(server.port),
      PG_DATABASE: database,
      PG_USERNAME: "app",
      ...more
    })
    const byConfig = (map: Readonly<Record<string, string>>) =>
      Effect.gen(function* () {
        const { sql } = yield* PgDatabase.PgDatabase
        const [row] = yield* sql<{ ssl: boolean; client_dn: string | null }>`
          select ssl, client_dn from pg_stat_ssl where pid = pg_backend_pid()`
        return row
      }).pipe(
        Effect.provide(PgDatabase.layerConfig(Config.nested(PgDatabase.config, "PG"))),
        Effect.withConfigProvider(ConfigProvider.fromMap(new Map(Object.entries(map)), { pathDelim: "_" })),
        Effect.runPromiseExit
      )

    it("lets in who says so in variables, or by the names of files", async () => {
      const PG_SSL_CA_FILE = files.authority
      const url = (parameters: string) => ({ PG_URL: Redacted.value(urlOf(parameters)) })
      for (const map of [
        variables({ PG_SSL_MODE: "require" }),
        variables({ PG_SSL_MODE: "require", PG_SSL_CA_FILE }),
        variables({ PG_SSL_MODE: "verify-ca", PG_SSL_CA_FILE }),
        variables({ PG_SSL_MODE: "verify-full", PG_SSL_CA_FILE }),
        variables({ PG_SSL: "true", PG_SSL_CA_FILE }),
        variables({ PG_SSL_CA_FILE }),
        variables({ PG_SSL_CA_FILE, PG_HOST: "127.0.0.1", PG_SSL_SERVERNAME: "localhost" }),
        { ...url("sslmode=verify-full"), PG_SSL_CA_FILE },
        { ...url("sslmode=verify-full"), PG_SSL_CA_FILE, PG_SSL_MODE: "verify-full" },
        { ...url(`sslmode=verify-full&sslrootcert=${files.authority}`), PG_SSL_CA_FILE },
        { ...url(""), PG_SSL_CA_FILE, PG_SSL_MODE: "verify-full" }
      ]) {
        expect(await byConfig(map), JSON.stringify(map)).toEqual(Exit.succeed({ ssl: true, client_dn: null }))
      }
      for (const mode of ["require", "verify-ca", "verify-full"] as const) {
        const ssl = { mode, caFile: files.authority }
        expect(await connect({ url: urlOf(""), ssl })).toEqual({ ssl: true, client_dn: null })
      }
    })

    it("knows by variables who one is, with a key that is encrypted", async () => {
      const key = createPrivateKey(fs.readFileSync(files.client.key))
      const locked = path.join(temporaryDirectory(), "locked.key")
      fs.writeFileSync(
        locked,
        key.export({ type: "pkcs8", format: "pem", cipher: "aes-256-cbc", passphrase: "hunter2-key" })
      )
      const mine = { PG_SSL_CA_FILE: files.authority, PG_SSL_CERT_FILE: files.client.cert, PG_SSL_KEY_FILE: locked }
      const known = Exit.succeed({ ssl: true, client_dn: "/CN=app" })
      expect(await byConfig(variables({ ...mine, PG_SSL_PASSPHRASE: "hunter2-key" }, "certified"))).toEqual(known)
      const wrong = await byConfig(variables({ ...mine, PG_SSL_PASSPHRASE: "hunter2-wrong" }, "certified"))
      expect(String(wrong)).toContain("SSL_KEY_FILE")
      expect(String(wrong)).not.toContain("hunter2")
      const without = failed(await byConfig(variables({ PG_SSL_CA_FILE: files.authority }, "certified")))
      expect(without).toMatchObject({ _tag: "StoreError", retryable: false, cause: { code: "28000" } })
    })

    it("is refused for good when it is not what the variables ask for", async () => {
      const trusted = { PG_SSL_CA_FILE: files.authority }
      const final = { _tag: "StoreError", retryable: false, operation: "connecting" }
      const error = async (map: Readonly<Record<string, string>>) => failed(await byConfig(variables(map)))
      expect(await error({ PG_SSL_MODE: "disable" })).toMatchObject({ ...final, cause: { code: "28000" } })
      expect(await error({ PG_SSL: "false" })).toMatchObject({ ...final, cause: { code: "28000" } })
      for (const map of [
        { PG_SSL: "true" },
        { PG_SSL_MODE: "verify-ca" },
        { PG_SSL_MODE: "require", PG_SSL_CA_FILE: files.stranger },
        { PG_SSL_MODE: "verify-ca", PG_SSL_CA_FILE: files.stranger },
        { PG_SSL_MODE: "verify-full", PG_SSL_CA_FILE: files.stranger }
      ]) {
        expect(await error(map), JSON.stringify(map)).toMatchObject(final)
      }
      await present(files.misnamed)
      onTestFinished(() => present(files.server))
      const misnamed = { ...final, cause: { code: "ERR_TLS_CERT_ALTNAME_INVALID" } }
      expect(await error(trusted)).toMatchObject(misnamed)
      expect(await error({ ...trusted, PG_SSL_MODE: "verify-full" })).toMatchObject(misnamed)
      expect(await byConfig(variables({ ...trusted, PG_SSL_MODE: "verify-ca" }))).toMatchObject({ _tag: "Success" })
      const elsewhere = { PG_HOST: "127.0.0.1", PG_SSL_SERVERNAME: "elsewhere.example" }
      expect(await byConfig(variables({ ...trusted, ...elsewhere }))).toMatchObject({ _tag: "Success" })
      await present(files.expired)
      for (const mode of ["verify-ca", "verify-full"]) {
        const expired = { ...final, cause: { code: "CERT_HAS_EXPIRED" } }
        expect(await error({ ...trusted, PG_SSL_MODE: mode })).toMatchObject(expired)
      }
    })

    it("and one without TLS is not talked to when it was asked for", async () => {
      const plain = await startPostgres()
      onTestFinished(() => plain.stop())
      for (const mode of ["require", "verify-ca", "verify-full"]) {
        const error = await failure({ url: Redacted.make(`${plain.url}?sslmode=${mode}`) })
        expect(error).toMatchObject({ _tag: "StoreError", operation: "connecting" })
        expect(String(error)).toContain("SSL")
      }
    })

    it("for the connection that listens and the one that cancels as well", async () => {
      const options = { url: urlOf(`sslmode=verify-full&sslrootcert=${files.authority}`) }
      const sessions = Effect.promise(() =>
        withClient(server.url, (client) =>
          client.query(
            `select a.application_name as name, s.ssl from pg_stat_ssl s join pg_stat_activity a using (pid)
             where a.datname = 'app' order by 1`
          )
        )
      )
      await Effect.gen(function* () {
        const store = yield* EventStore.EventStore
        yield* Effect.forkScoped(Stream.runDrain(store.subscribe()))
        let rows: ReadonlyArray<{ name: string; ssl: boolean }> = []
        while (!rows.some(({ name }) => name === "effect-stores listener")) rows = (yield* sessions).rows
        expect(rows.every(({ ssl }) => ssl)).toBe(true)
        const { sql } = yield* PgDatabase.PgDatabase
        yield* Effect.timeoutOption(sql`select pg_sleep(60)`, 10)
        const busy = Effect.promise(() =>
          withClient(server.url, (client) =>
            client.query(
              "select 1 from pg_stat_activity where datname = 'app' and query like '%pg_sleep(60)%' and state = 'active'"
            )
          )
        )
        while ((yield* busy).rows.length > 0) {}
      }).pipe(Effect.scoped, Effect.provide(EventStorePg.layer(options)), Effect.runPromise)
    })
  })
)
