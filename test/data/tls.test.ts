/**
 * An S3 server that takes only encrypted connections: Ceph's gateway behind a server of TLS that takes the encryption
 * away and passes all else on.
 */
import * as fs from "node:fs"
import * as net from "node:net"
import * as tls from "node:tls"
import { Config, ConfigProvider, Effect, Exit, Option, Redacted } from "effect"
import { DataStore } from "effect-stores"
import { DataStoreMinio } from "effect-stores/minio"
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from "vitest"
import { describeWith, temporaryDirectory } from "../support/backends.js"
import { type Certificate, type Certificates, certificates } from "../support/certificates.js"
import { type S3Server, startCeph } from "../support/s3.js"

describeWith("ceph", "an S3 server that takes only encrypted connections", () => {
  let ceph: S3Server
  let files: Certificates
  let server: tls.Server
  let connections = 0

  /** From the next connection on. */
  const present = ({ cert, key }: Certificate) => server.setSecureContext(contextOf({ cert, key }))
  const contextOf = ({ cert, key }: Certificate) => ({
    cert: fs.readFileSync(cert),
    key: fs.readFileSync(key),
    ca: fs.readFileSync(files.authority)
  })
  const startTls = async (options: tls.TlsOptions = {}) => {
    const started = tls.createServer({ ...contextOf(files.server), ...options }, (socket) => {
      const behind = net.connect(Number(new URL(ceph.endpoint).port), "127.0.0.1")
      socket.pipe(behind).pipe(socket)
      for (const [one, other] of [
        [socket, behind],
        [behind, socket]
      ] as const) {
        one.on("error", () => other.destroy())
      }
    })
    started.on("connection", () => connections++)
    await new Promise<void>((resolve) => started.listen(0, "127.0.0.1", resolve))
    return started
  }
  const endpointOf = (of: tls.Server, host = "localhost") => `https://${host}:${(of.address() as net.AddressInfo).port}`

  beforeAll(async () => {
    files = certificates(temporaryDirectory())
    ceph = await startCeph()
    server = await startTls()
  })
  afterAll(async () => {
    server.close()
    await ceph.stop()
  })

  const body = new TextEncoder().encode("an invoice")
  const use = Effect.gen(function* () {
    const store = yield* DataStore.DataStore
    const id = { bucket: "invoices", name: "1" }
    if (!(yield* store.buckets.exists(id.bucket))) yield* store.buckets.create(id.bucket)
    yield* store.put(id, body)
    return Option.map(yield* store.head(id), ({ size }) => size)
  })
  const byConfig = (map: Readonly<Record<string, string>>, at = endpointOf(server)) => {
    const { accessKey, secretKey } = ceph
    const all = { MINIO_ENDPOINT: at, MINIO_ACCESS_KEY: accessKey, MINIO_SECRET_KEY: secretKey, ...map }
    return use.pipe(
      Effect.provide(DataStoreMinio.layerConfig(Config.nested(DataStoreMinio.config, "MINIO"))),
      Effect.withConfigProvider(ConfigProvider.fromMap(new Map(Object.entries(all)), { pathDelim: "_" })),
      Effect.runPromiseExit
    )
  }
  const byOptions = (tls: DataStoreMinio.ServerOptions["tls"]) =>
    use.pipe(
      Effect.provide(
        DataStoreMinio.layer({
          endpoint: endpointOf(server),
          accessKey: ceph.accessKey,
          secretKey: Redacted.make(ceph.secretKey),
          tls
        })
      ),
      Effect.runPromiseExit
    )
  const failure = (exit: Exit.Exit<unknown, unknown>) => Option.getOrUndefined(Exit.causeOption(exit))
  const final = { error: { _tag: "StoreError", retryable: false } }
  const done = Exit.succeed(Option.some(body.length))

  it("keeps objects for who trusts its authority, by variables and by options", async () => {
    const MINIO_TLS_CA_FILE = files.authority
    expect(await byConfig({ MINIO_TLS_CA_FILE })).toEqual(done)
    expect(await byConfig({ MINIO_TLS_CA_FILE }, endpointOf(server, "127.0.0.1"))).toEqual(done)
    expect(await byOptions({ caFile: files.authority })).toEqual(done)
    expect(await byOptions({ ca: fs.readFileSync(files.authority) })).toEqual(done)
  })

  describe("is refused for good, and asked once,", () => {
    const refusedOnce = async (attempt: () => ReturnType<typeof byConfig>) => {
      const before = connections
      expect(failure(await attempt())).toMatchObject(final)
      expect(connections - before).toBe(1)
    }

    it("when its authority is not trusted", async () => {
      await refusedOnce(() => byConfig({}))
      expect(String(failure(await byConfig({})))).toContain("MINIO_TLS_CA_FILE")
      await refusedOnce(() => byConfig({ MINIO_TLS_CA_FILE: files.stranger }))
      await refusedOnce(() => byOptions({ caFile: files.stranger }))
    })

    it("when its certificate is for another host, or has expired", async () => {
      const MINIO_TLS_CA_FILE = files.authority
      onTestFinished(() => present(files.server))
      present(files.misnamed)
      await refusedOnce(() => byConfig({ MINIO_TLS_CA_FILE }))
      const named = { MINIO_TLS_CA_FILE, MINIO_TLS_SERVERNAME: "elsewhere.example" }
      expect(await byConfig(named)).toEqual(done)
      present(files.expired)
      await refusedOnce(() => byConfig({ MINIO_TLS_CA_FILE }))
    })
  })

  it("knows by a certificate who one is, and refuses others", async () => {
    const strict = await startTls({ requestCert: true, rejectUnauthorized: true })
    onTestFinished(() => void strict.close())
    const { cert, key } = files.client
    const trusted = { MINIO_TLS_CA_FILE: files.authority }
    const mine = { ...trusted, MINIO_TLS_CERT_FILE: cert, MINIO_TLS_KEY_FILE: key }
    expect(await byConfig(mine, endpointOf(strict))).toEqual(done)
    // With TLS 1.3 the server may close before its reason has arrived, which looks like a server that went away.
    const refused = failure(await byConfig(trusted, endpointOf(strict)))
    expect(refused).toMatchObject({ error: { _tag: expect.stringMatching("^Store") } })
    const older = await startTls({ requestCert: true, rejectUnauthorized: true, maxVersion: "TLSv1.2" })
    onTestFinished(() => void older.close())
    expect(failure(await byConfig(trusted, endpointOf(older)))).toMatchObject(final)
  })

  it("is not spoken to in plain text where TLS is asked for, and files of TLS are for https only", async () => {
    const trusted = { MINIO_TLS_CA_FILE: files.authority }
    const plain = ceph.endpoint.replace("http:", "https:")
    expect(failure(await byConfig(trusted, plain))).toMatchObject(final)
    expect(String(await byConfig(trusted, ceph.endpoint))).toContain("https://")
  })
})
