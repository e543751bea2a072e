/**
 * examples/orders from end to end: the process itself, driven over HTTP, stopped and killed in the middle, on SQLite and
 * files as it comes, and on PostgreSQL, Redis and an S3 server by its environment alone; plain and sealed.
 */
import { execFile } from "node:child_process"
import { randomBytes, randomUUID } from "node:crypto"
import * as fs from "node:fs"
import * as http from "node:http"
import * as path from "node:path"
import { promisify } from "node:util"
import { Effect, Layer, Logger, LogLevel } from "effect"
import { Aggregate, EventStore } from "effect-stores"
import { Stores } from "effect-stores/stores"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { idOf, Order } from "../../examples/orders/order.js"
import { view } from "../../examples/orders/readModel.js"
import { settings } from "../../examples/orders/settings.js"
import {
  describeOwnPg,
  describeRedis,
  describeWith,
  freshKeyPrefix,
  redisUrl,
  temporaryDirectory
} from "../support/backends.js"
import { withClient } from "../support/databases.js"
import { blocksOf, project } from "../support/documents.js"
import { freePort } from "../support/ports.js"
import { type PostgresServer, startPostgres } from "../support/postgres.js"
import { type S3Server, startCeph } from "../support/s3.js"
import { type Client, clientOf, type Service, startService } from "./service.js"

type Environment = Readonly<Record<string, string>>

/** In names of customers and in invoices: no disk may show it when the stores are sealed. */
const marker = "Aurelie Montgolfier"

const sealed = (): Environment => ({
  ENCRYPTION_KEYS: `test=${randomBytes(32).toString("hex")}`,
  ENCRYPTION_PRIMARY: "test",
  ENCRYPTION_POLICY: "RequireEncrypt"
})

const pollMs = { timeout: 600_000, interval: 20 }

/** Another program on the same stores. */
const elsewhere = <A, E>(environment: Environment, effect: Effect.Effect<A, E, Stores.All>): Promise<A> =>
  effect.pipe(
    Effect.provide(Stores.layer()),
    Logger.withMinimumLogLevel(LogLevel.None),
    Effect.provide(Layer.setConfigProvider(settings(environment).config)),
    Effect.runPromise
  )

/** Which reads the order first, so the cache has it as it was, and then changes it without a word to anybody. */
const appendElsewhere = (environment: Environment, orderId: string) =>
  elsewhere(
    environment,
    Effect.flatMap(view(orderId), ({ version: expected }) =>
      Aggregate.append(Order, idOf(orderId), [{ _tag: "LineAdded", item: "by phone", quantity: 1, price: 100 }], {
        expected
      })
    )
  )

/** A service that is stopped and started again with one environment, and its client. */
const world = async (environment: Environment) => {
  const port = await freePort()
  let service: Service | undefined
  return {
    client: clientOf(port),
    start: async () => {
      service = await startService(port, environment)
    },
    service: () => service ?? expect.fail("it was not started"),
    end: () => service?.kill()
  }
}

const lamp = { item: "lamp", quantity: 2, price: 1250 }

const placed = async (client: Client): Promise<string> => {
  const { body, status } = await client.post("/api/orders", { customer: marker })
  expect(status).toBe(201)
  return (body as { readonly orderId: string }).orderId
}

/**
 * A life of an order with a stop and a kill in it:
 *
 * 1. Stopped while an invoice is on its way: it is finished, and the process ends by itself.
 * 2. While it is down another program changes the order, of which the cache has what was before; and again when it is
 *    back.
 * 3. Killed while another invoice is on its way: it is sent again, with the same key.
 */
const lives = async (environment: Environment) => {
  const { client, end, service, start } = await world(environment)
  const first = Buffer.concat([Buffer.from(`%PDF ${marker}`), randomBytes(3 * 2 ** 20)])
  const second = Buffer.concat([Buffer.from(`%PDF ${marker}`), randomBytes(6 * 2 ** 20)])
  await start()
  const orderId = await placed(client)
  const order = `/api/orders/${orderId}`
  const reader = client.follow(`${order}/changes`)
  const all = client.follow("/api/changes")
  try {
    const [addKey, invoiceKey, killedKey] = [randomUUID(), randomUUID(), randomUUID()]
    expect(await client.post(`${order}/lines`, lamp, addKey)).toMatchObject({ status: 200, body: { version: 2 } })
    expect((await client.get(order)).body).toMatchObject({ version: 2, customer: marker, total: 2500 })

    // 1.
    const upload = await client.upload(`${order}/invoice`, first, invoiceKey)
    await expect.poll(() => reader.seen.length, pollMs).toBe(2)
    const stopped = service().stop()
    // The feeds have ended, so it is on its way down.
    await expect.poll(() => reader.ends, pollMs).toBe(1)
    expect(await upload.finish()).toBe(200)
    expect(await stopped).toMatchObject({ code: 0 })

    // 2.
    await appendElsewhere(environment, orderId)
    await start()
    expect((await client.get(order)).body).toMatchObject({ version: 4, total: 2600 })
    const repeated = await Promise.all([
      client.post(`${order}/lines`, lamp, addKey),
      client.put(`${order}/invoice`, first, invoiceKey)
    ])
    expect(repeated.map(({ body }) => body)).toEqual([2, 3].map((version) => ({ orderId, version })))
    await appendElsewhere(environment, orderId)
    await expect.poll(async () => (await client.get(order)).body, pollMs).toMatchObject({ version: 5, total: 2700 })

    // 3.
    const killed = await client.upload(`${order}/invoice`, second, killedKey)
    await service().kill()
    expect(await killed.answered).toBeUndefined()
    await start()
    expect(Buffer.compare(await client.download(`${order}/invoice`), first)).toBe(0)
    expect(await client.put(`${order}/invoice`, second, killedKey)).toMatchObject({ status: 200, body: { version: 6 } })
    expect(await client.put(`${order}/invoice`, second, killedKey)).toMatchObject({ status: 200, body: { version: 6 } })
    expect(Buffer.compare(await client.download(`${order}/invoice`), second)).toBe(0)
    await client.post(`${order}/payment`, { amount: 2700 })
    expect(await client.post(`${order}/shipment`, { carrier: "bike" })).toMatchObject({ body: { version: 8 } })
    expect((await client.get(order)).body).toMatchObject({ version: 8, status: "shipped" })

    await expect.poll(() => Math.min(reader.seen.length, all.seen.length), pollMs).toBe(8)
    expect(reader.seen.map(({ data }) => [data.version, data.type])).toEqual([
      [1, "Placed"],
      [2, "LineAdded"],
      [3, "InvoiceAttached"],
      [4, "LineAdded"],
      [5, "LineAdded"],
      [6, "InvoiceAttached"],
      [7, "Paid"],
      [8, "Shipped"]
    ])
    expect(all.seen).toEqual(reader.seen)
    const page = await client.get(`/orders/${orderId}`)
    expect(String(page.body).match(/<li value="\d+"/g)).toHaveLength(8)
  } finally {
    await Promise.all([reader.close(), all.close()])
    await end()
  }
}

describe("on SQLite and files, as it comes", () => {
  const environment = (folder: string, more: Environment = {}): Environment => ({ ...more, ORDERS_FOLDER: folder })
  const bytesIn = (folder: string) =>
    Buffer.concat(
      fs
        .readdirSync(folder, { recursive: true, withFileTypes: true })
        .filter((entry) => entry.isFile())
        .map((entry) => fs.readFileSync(path.join(entry.parentPath, entry.name)))
    )

  it("nothing is lost, done twice or stale when it is stopped and killed in the middle", async () => {
    const folder = temporaryDirectory()
    await lives(environment(folder))
    expect(bytesIn(folder).includes(marker)).toBe(true)
  })

  it("and so when all is sealed, and no file shows a name", async () => {
    const folder = temporaryDirectory()
    await lives(environment(folder, sealed()))
    expect(bytesIn(folder).includes(marker)).toBe(false)
  })

  it("a client that sends no more does not keep it from its end, and leaves nothing", async () => {
    const { client, end, service, start } = await world(
      environment(temporaryDirectory(), { DRAIN_TIMEOUT: "1 second" })
    )
    try {
      await start()
      const order = `/api/orders/${await placed(client)}`
      const key = randomUUID()
      const stalled = await client.upload(`${order}/invoice`, randomBytes(2 ** 20), key)
      expect(await service().stop()).toMatchObject({ code: 0 })
      expect(await stalled.answered).toBeUndefined()
      await start()
      expect((await client.get(`${order}/invoice`)).status).toBe(404)
      const invoice = randomBytes(2 ** 20)
      expect((await client.put(`${order}/invoice`, invoice, key)).body).toMatchObject({ version: 2 })
    } finally {
      await end()
    }
  })

  it("an invoice whose file was damaged is never taken for a whole one", async () => {
    const folder = temporaryDirectory()
    const { client, end, start } = await world(environment(folder))
    try {
      await start()
      const order = `/api/orders/${await placed(client)}`
      const invoice = randomBytes(5 * 2 ** 20)
      await client.put(`${order}/invoice`, invoice)
      const [file = ""] = (fs.readdirSync(folder, { recursive: true }) as Array<string>)
        .map((name) => path.join(folder, name))
        .filter((name) => fs.statSync(name).isFile() && fs.readFileSync(name).includes(invoice))
      const bytes = fs.readFileSync(file)
      const at = bytes.indexOf(invoice) + 4 * 2 ** 20
      bytes[at] = (bytes[at] ?? 0) ^ 1
      fs.writeFileSync(file, bytes)
      await expect(client.download(`${order}/invoice`)).rejects.toThrow()
      expect((await client.get(order)).status).toBe(200)
    } finally {
      await end()
    }
  })
})

describeOwnPg("on PostgreSQL", () =>
  describeRedis("on Redis", () =>
    describeWith("ceph", "and on S3, by its environment alone", () => {
      let pg: PostgresServer
      let s3: S3Server
      beforeAll(async () => {
        ;[pg, s3] = await Promise.all([startPostgres(), startCeph(2 ** 30)])
      })
      afterAll(() => Promise.all([pg.stop(), s3.stop()]))

      const environment = async (more: Environment = {}): Promise<Environment> => ({
        ...more,
        EVENT_STORE: "pg",
        COMMAND_STORE: "pg",
        PG_URL: await pg.createDatabase(),
        SNAPSHOT_STORE: "redis",
        CACHE_STORE: "redis",
        REDIS_URL: redisUrl() ?? "",
        CACHE_STORE_PREFIX: freshKeyPrefix(),
        SNAPSHOT_STORE_PREFIX: freshKeyPrefix(),
        DATA_STORE: "minio",
        MINIO_ENDPOINT: s3.endpoint,
        MINIO_ACCESS_KEY: s3.accessKey,
        MINIO_SECRET_KEY: s3.secretKey,
        MINIO_BUCKET_PREFIX: `o-${randomUUID().slice(0, 8)}-`
      })

      /** Whether any row of the events shows the name. */
      const shows = (url: string) =>
        withClient(url, async (sql) => {
          const tables = await sql.query<{ name: string }>(
            `select format('%I.%I', schemaname, tablename) as name from pg_tables
             where schemaname not in ('pg_catalog', 'information_schema')`
          )
          for (const { name } of tables.rows) {
            const found = await sql.query(`select from ${name} t where t::text like $1 limit 1`, [`%${marker}%`])
            if (found.rowCount !== 0) return true
          }
          return false
        })

      it("nothing is lost, done twice or stale when it is stopped and killed in the middle", async () => {
        const variables = await environment()
        await lives(variables)
        expect(await shows(variables.PG_URL ?? "")).toBe(true)
      })

      it("and so when all is sealed on one shared pool, and no row shows a name", async () => {
        const variables = await environment({ ...sealed(), PG_SHARED: "true" })
        await lives(variables)
        expect(await shows(variables.PG_URL ?? "")).toBe(false)
      })

      it("a command whose process dies in its append is done once, and seen by all", async () => {
        const variables = await environment()
        const { client, end, service, start } = await world(variables)
        try {
          await start()
          const orderId = await placed(client)
          const order = `/api/orders/${orderId}`
          // So the cache has the order as it was.
          expect((await client.get(order)).body).toMatchObject({ version: 1 })
          const key = randomUUID()
          await withClient(variables.PG_URL ?? "", async (sql) => {
            const table = await sql.query<{ name: string }>(
              "select format('%I.%I', schemaname, tablename) as name from pg_tables where tablename like '%events'"
            )
            await sql.query("begin")
            await sql.query(`lock table ${table.rows[0]?.name} in share mode`)
            const asked = client.post(`${order}/lines`, lamp, key).catch(() => undefined)
            // The append itself, and not the try before it, which gives up soon.
            const waiting = async () => {
              await sql.query("select pg_stat_clear_snapshot()")
              return sql.query(
                `select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'
                   and query ~ '[^y]_append"'`
              )
            }
            await expect.poll(async () => (await waiting()).rowCount, pollMs).toBe(1)
            await service().kill()
            expect(await asked).toBeUndefined()
            await sql.query("commit")
          })
          // The server knows nothing of the death: it goes on with the append.
          const versionElsewhere = () =>
            elsewhere(
              variables,
              Effect.flatMap(EventStore.EventStore, (store) => store.version(Aggregate.streamId(Order, idOf(orderId))))
            )
          await expect.poll(versionElsewhere, pollMs).toBe(2)
          await start()
          expect((await client.get(order)).body).toMatchObject({ version: 2, total: 2500 })
          const answers = await Promise.all([1, 2, 3].map(() => client.post(`${order}/lines`, lamp, key)))
          expect(answers.map(({ body }) => body)).toEqual([1, 2, 3].map(() => ({ orderId, version: 2 })))
          expect(await versionElsewhere()).toBe(2)
        } finally {
          await end()
        }
      })

      it("while the database is down it says when to come again, and then goes on", async () => {
        const variables = await environment({
          EVENT_STORE_POOL_ACQUIRE_TIMEOUT: "1s",
          COMMAND_STORE_POOL_ACQUIRE_TIMEOUT: "1s"
        })
        const { client, end, start } = await world(variables)
        try {
          await start()
          const order = `/api/orders/${await placed(client)}`
          const reader = client.follow(`${order}/changes`)
          await expect.poll(() => reader.seen.length, pollMs).toBe(1)
          await pg.kill()
          const key = randomUUID()
          const refused = await client.post(`${order}/lines`, lamp, key)
          expect(refused).toMatchObject({ status: 503, body: { _tag: "Unavailable" } })
          expect(refused.headers.get("retry-after")).toBe("1")
          const down = { eventStore: "down", commandStore: "down", cacheStore: "up", dataStore: "up" }
          expect(await client.get("/health")).toMatchObject({ status: 503, body: down })
          await pg.start()
          await expect.poll(async () => (await client.post(`${order}/lines`, lamp, key)).status, pollMs).toBe(200)
          await expect.poll(() => reader.seen.map(({ data }) => data.version), pollMs).toEqual([1, 2])
          expect((await client.get("/health")).status).toBe(200)
          // The same connection: to a reader nothing has happened.
          expect(reader.ends).toBe(0)
          await reader.close()
        } finally {
          await pg.start()
          await end()
        }
      })
    })
  )
)

describeWith("curl", "examples/orders/README.md", () => {
  it("has commands that run as printed", async () => {
    const text = fs.readFileSync(path.join(project, "examples/orders/README.md"), "utf8")
    const printed = blocksOf({ file: "README.md", text }).find(({ code }) => code.startsWith("service="))
    const { client, end, start } = await world({ ORDERS_FOLDER: temporaryDirectory() })
    try {
      await start()
      const commands = (printed?.code ?? "").replace("http://localhost:3000", client.base)
      expect(commands).toContain(client.base)
      const { stderr, stdout } = await promisify(execFile)("bash", ["--norc", "-euo", "pipefail", "-c", commands], {
        cwd: temporaryDirectory()
      })
      expect(stderr).toBe("")
      const [placed = "", again = "", ...rest] = stdout.replaceAll("}{", "}\n{").split("\n")
      expect(again).toBe(placed)
      const { orderId } = JSON.parse(placed)
      expect(rest.slice(0, 4).map((line) => JSON.parse(line))).toEqual(
        [2, 3, 4, 5].map((version) => ({ orderId, version }))
      )
      expect(JSON.parse(rest[4]?.replace("retry: 1000", "") ?? "")).toMatchObject({ status: "shipped", total: 2500 })
      expect(rest.flatMap((line) => /"type":"(\w+)"/.exec(line)?.[1] ?? [])).toEqual([
        "Paid",
        "InvoiceAttached",
        "Shipped"
      ])
    } finally {
      await end()
    }
  })
})

/** What a collector has received. */
interface Span {
  readonly name: string
  readonly traceId: string
  readonly spanId: string
  readonly parentSpanId?: string
  readonly links?: ReadonlyArray<{ readonly traceId: string; readonly spanId: string }>
}

describe("telemetry", () => {
  it("reaches a collector: spans of requests with those of the stores below, and the stores' metrics", async () => {
    const received: Array<{ readonly at: string; readonly token: unknown; readonly body: unknown }> = []
    const collector = http.createServer((request, response) => {
      const pieces: Array<Buffer> = []
      request.on("data", (piece) => pieces.push(piece))
      request.on("end", () => {
        const body = JSON.parse(Buffer.concat(pieces).toString())
        received.push({ at: request.url ?? "", token: request.headers["x-token"], body })
        response.writeHead(200, { "content-type": "application/json" }).end("{}")
      })
    })
    await new Promise<void>((resolve) => collector.listen(0, "127.0.0.1", resolve))
    const { port } = collector.address() as { readonly port: number }
    const { client, end, service, start } = await world({
      ORDERS_FOLDER: temporaryDirectory(),
      OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${port}`,
      OTEL_EXPORTER_OTLP_HEADERS: "x-token=a%20secret"
    })
    try {
      await start()
      const order = `/api/orders/${await placed(client)}`
      await client.post(`${order}/lines`, lamp)
      await client.get(order)
      // What is left is sent at the end.
      expect(await service().stop()).toMatchObject({ code: 0 })
    } finally {
      await end()
      collector.close()
    }
    const at = (path: string) => received.filter((each) => each.at === path).map(({ body }) => body)
    const spans = at("/v1/traces")
      .flatMap(
        (body) => (body as { resourceSpans: Array<{ scopeSpans: Array<{ spans: Array<Span> }> }> }).resourceSpans
      )
      .flatMap(({ scopeSpans }) => scopeSpans.flatMap(({ spans }) => spans))
    const parentOf = ({ parentSpanId }: Span) => spans.find(({ spanId }) => spanId === parentSpanId)
    const rootOf = (span: Span): Span => {
      const parent = parentOf(span)
      return parent === undefined ? span : rootOf(parent)
    }
    const appends = spans.filter(({ name }) => name === "EventStore.append")
    expect(appends).toHaveLength(2)
    for (const append of appends) expect(rootOf(append).name).toBe("http.server POST")
    for (const name of ["CommandStore.execute", "CacheStore.getOrSet", "http.server GET"]) {
      expect(spans.map((span) => span.name)).toContain(name)
    }
    // What follows an event links to its append, and is no part of that trace. The last may be cut off by the stop.
    const follows = spans.filter(({ name }) => name === "orders.follow")
    expect(follows.length).toBeGreaterThan(0)
    for (const { links, traceId } of follows) {
      expect(appends.map(({ spanId, traceId }) => ({ spanId, traceId }))).toContainEqual({
        spanId: links?.[0]?.spanId,
        traceId: links?.[0]?.traceId
      })
      expect(appends.map((append) => append.traceId)).not.toContain(traceId)
    }
    const metrics = JSON.stringify(at("/v1/metrics"))
    expect(metrics).toContain("effect_stores_operations")
    expect(metrics).toContain("effect_stores_pool_open")
    expect(new Set(received.map(({ token }) => token))).toEqual(new Set(["a secret"]))
    expect(JSON.stringify(received)).not.toContain(marker)
    expect(JSON.stringify(received[0])).toContain(`{"key":"service.name","value":{"stringValue":"orders"}}`)
  })
})
