/**
 * The connections to an S3 server, as the system sees them: how many are open, whether one has bytes that nobody reads,
 * and how long it takes to find out that there is none to be had.
 */
import { spawn } from "node:child_process"
import { once } from "node:events"
import * as fs from "node:fs"
import * as net from "node:net"
import { Cause, Effect, Exit, Fiber, Option, Redacted, Stream } from "effect"
import { DataStore } from "effect-stores"
import { DataStoreMinio } from "effect-stores/minio"
import { afterAll, expect, it } from "vitest"
import { reported } from "../pools/support.js"
import { describeWith } from "../support/backends.js"
import { eventually } from "../support/eventually.js"
import { freePort } from "../support/ports.js"
import { startProxy } from "../support/proxy.js"
import { startCeph } from "../support/s3.js"
import { startProxy as startS3Proxy } from "./proxy.js"

const id = { bucket: "sockets", name: "object" }

/** Connections of this machine's processes to a port of it, and the bytes that lie in them unread. */
const connectionsTo = (port: number) => {
  const established = "01"
  const remote = `0100007F:${port.toString(16).toUpperCase().padStart(4, "0")}`
  const unread = fs
    .readFileSync("/proc/net/tcp", "utf8")
    .split("\n")
    .map((line) => line.trim().split(/\s+/))
    .filter(([, , to, state]) => to === remote && state === established)
    .map(([, , , , queues = ""]) => Number.parseInt(queues.split(":")[1] ?? "0", 16))
  return { open: unread.length, unread: unread.reduce((sum, bytes) => sum + bytes, 0) }
}

const isLinux = fs.existsSync("/proc/net/tcp")

describeWith("ceph", "the connections of a DataStore on S3", async () => {
  const server = await startCeph()
  afterAll(server.stop)
  const port = Number(new URL(server.endpoint).port)
  const connections = Effect.sync(() => connectionsTo(port))
  const open = Effect.map(connections, ({ open }) => open)
  const large = new Uint8Array(4 * 2 ** 20).fill(7)

  const health = DataStoreMinio.health({
    endpoint: server.endpoint,
    accessKey: server.accessKey,
    secretKey: Redacted.make(server.secretKey)
  })

  const withStore = <A, E>(
    pool: DataStoreMinio.ServerOptions["pool"],
    body: (store: DataStore.DataStoreShape) => Effect.Effect<A, E>,
    endpoint = server.endpoint
  ): Promise<void> =>
    Effect.gen(function* () {
      // Those with which the start of the server was watched.
      yield* eventually(open, (count) => count === 0)
      const layer = DataStoreMinio.layer({
        endpoint,
        accessKey: server.accessKey,
        secretKey: Redacted.make(server.secretKey),
        bucketPrefix: "x-",
        pool
      })
      yield* Effect.gen(function* () {
        const store = yield* DataStore.DataStore
        yield* store.buckets.create(id.bucket)
        yield* store.put(id, large)
        yield* body(store)
      }).pipe(Effect.provide(layer))
      if (endpoint === server.endpoint) expect(yield* open).toBe(0)
      else yield* eventually(open, (count) => count === 0)
    }).pipe(Effect.runPromise)

  const atOnce = <A, E>(count: number, effect: Effect.Effect<A, E>) =>
    Effect.all(
      Array.from({ length: count }, () => effect),
      { concurrency: 20, discard: true }
    )

  const bodyOf = (store: DataStore.DataStoreShape) =>
    Effect.map(store.get(id), (found) => Option.getOrThrow(found).body)

  it.skipIf(!isLinux)("200 gets of which only the metadata is used leave no connection with a body in it", () =>
    withStore({ maxIdleConns: 10, maxIdleConnsPerHost: 10 }, (store) =>
      Effect.gen(function* () {
        yield* atOnce(200, store.get(id))
        expect(yield* eventually(connections, ({ open }) => open <= 10)).toMatchObject({ unread: 0 })
      })
    )
  )

  it.skipIf(!isLinux)("200 bodies that are left after their first piece, or interrupted, leave none either", () =>
    withStore({ maxIdleConns: 10, maxIdleConnsPerHost: 10 }, (store) =>
      Effect.gen(function* () {
        const body = yield* bodyOf(store)
        yield* atOnce(150, Stream.runDrain(Stream.take(body, 1)))
        expect(yield* eventually(connections, ({ open }) => open <= 10)).toMatchObject({ unread: 0 })
        for (let i = 0; i < 50; i++) {
          const reading = yield* Effect.fork(Stream.runForEach(body, () => Effect.never))
          for (let turns = i; turns > 0; turns--) yield* Effect.yieldNow()
          yield* Fiber.interrupt(reading)
        }
        expect(yield* eventually(connections, ({ open }) => open <= 10)).toMatchObject({ unread: 0 })
        expect(yield* Stream.runFold(body, 0, (sum, bytes) => sum + bytes.byteLength)).toBe(large.byteLength)
      })
    )
  )

  it.skipIf(!isLinux)(
    "an answer that is given up, because it stops, has no end or nobody waits, leaves none open",
    async () => {
      const proxy = await startS3Proxy(server.endpoint)
      const toProxy = Effect.sync(() => connectionsTo(Number(new URL(proxy.endpoint).port)).open)
      const layer = DataStoreMinio.layer({
        endpoint: proxy.endpoint,
        accessKey: server.accessKey,
        secretKey: Redacted.make(server.secretKey),
        bucketPrefix: "x-",
        timeout: "5 seconds",
        maxRetries: 0,
        // One, which the next request takes.
        pool: { maxIdleConns: 1, maxIdleConnsPerHost: 1 }
      })
      await Effect.gen(function* () {
        const store = yield* DataStore.DataStore
        yield* store.buckets.create(id.bucket)
        yield* store.put(id, new Uint8Array(10))
        yield* eventually(toProxy, (count) => count === 1)
        const list = Stream.runDrain(store.list(id.bucket))
        for (const fate of [{ do: "stall", bytes: 100 }, { do: "flood" }] as const) {
          proxy.decide = () => fate
          expect(yield* Effect.flip(list)).toMatchObject({ _tag: "StoreUnavailable", retryable: true })
          yield* eventually(toProxy, (count) => count === 0)
          const before = proxy.seen.length
          const listing = yield* Effect.fork(list)
          yield* eventually(Effect.sync(() => proxy.seen.length > before))
          yield* Fiber.interrupt(listing)
          yield* eventually(toProxy, (count) => count === 0)
        }
        proxy.decide = () => ({ do: "pass" })
        yield* list
      }).pipe(Effect.provide(layer), Effect.ensuring(Effect.promise(proxy.stop)), Effect.runPromise)
    }
  )

  for (const pool of [{ maxIdleConns: 3 }, { maxIdleConnsPerHost: 3 }]) {
    const title = `of those that were in use at once as many are kept as the pool says: ${JSON.stringify(pool)}`
    it.skipIf(!isLinux)(title, () =>
      withStore(pool, (store) =>
        Effect.gen(function* () {
          yield* atOnce(60, store.head(id))
          yield* eventually(open, (count) => count === 3)
          // They are used again, and no others are opened for what fits into them.
          yield* Effect.all([store.head(id), store.head(id), store.head(id)], { concurrency: 3 })
          expect(yield* open).toBe(3)
        })
      )
    )
  }

  it.skipIf(!isLinux)("200 fibers run out of no time, show in the metrics, and leave what may be idle", () =>
    withStore(undefined, (store) =>
      Effect.gen(function* () {
        const small = new Uint8Array(1_000).fill(1)
        yield* Effect.forEach(
          Array.from({ length: 200 }, (_, n) => ({ bucket: id.bucket, name: `load-${n}` })),
          (own) =>
            Effect.gen(function* () {
              yield* store.put(own, small)
              const { body } = Option.getOrThrow(yield* store.get(own))
              expect(yield* Stream.runFold(body, 0, (sum, bytes) => sum + bytes.byteLength)).toBe(1_000)
            }),
          { concurrency: "unbounded", discard: true }
        )
        yield* eventually(open, (count) => count === 10)
        yield* eventually(reported("minio.DataStore"), ({ idle, open }) => open === 10 && idle === 10)
        expect(yield* health).toEqual({ status: "up" })
      })
    )
  )

  it("connections that a proxy has closed or reset while they were idle never reach a caller", async () => {
    const proxy = await startProxy(port)
    try {
      await withStore(
        undefined,
        (store) =>
          Effect.gen(function* () {
            for (const close of [() => proxy.leadTo(port), proxy.reset, () => proxy.leadTo(port), proxy.reset]) {
              yield* atOnce(20, store.head(id))
              close()
              yield* atOnce(50, store.head(id))
              yield* atOnce(20, store.head(id))
              close()
              yield* atOnce(10, store.put({ ...id, name: crypto.randomUUID() }, new Uint8Array(10)))
            }
          }),
        `http://127.0.0.1:${proxy.port}`
      )
    } finally {
      proxy.stop()
    }
  })

  it.skipIf(!isLinux)("one that is unused for as long as the pool says is closed, and a request opens another", () =>
    withStore({ idleConnTimeout: "200 millis" }, (store) =>
      Effect.gen(function* () {
        yield* atOnce(40, store.head(id))
        yield* eventually(open, (count) => count === 0)
        expect(Option.isSome(yield* store.head(id))).toBe(true)
      })
    )
  )
})

it("a server that takes no connection is StoreUnavailable within the time that is set, also for a put", async () => {
  const port = await freePort()
  // Stopped, it takes none out of its line, and when that is full the system lets nobody in.
  const listener = spawn(process.execPath, [
    "-e",
    `require("net").createServer().listen({ port: ${port}, host: "127.0.0.1", backlog: 1 }, () => console.log("on"))`
  ])
  const waiting: Array<net.Socket> = []
  try {
    await once(listener.stdout, "data")
    listener.kill("SIGSTOP")
    for (let i = 0; i < 4; i++) waiting.push(net.connect(port, "127.0.0.1").on("error", () => {}))
    const layer = DataStoreMinio.layer({
      endpoint: `http://127.0.0.1:${port}`,
      accessKey: "a",
      secretKey: Redacted.make("b"),
      timeout: "300 millis",
      maxRetries: 0,
      pool: { idleConnTimeout: "1 hour" }
    })
    await Effect.gen(function* () {
      const store = yield* DataStore.DataStore
      yield* eventually(
        Effect.sync(() => waiting.filter(({ connecting }) => !connecting).length),
        (inLine) => inLine === 2
      )
      for (const operation of [store.get(id), store.put(id, new Uint8Array(10))] as ReadonlyArray<
        Effect.Effect<unknown, DataStore.PutError | DataStore.ReadError>
      >) {
        const exit = yield* Effect.exit(Effect.timeout(operation, "60 seconds"))
        expect(Exit.isFailure(exit) && Option.getOrUndefined(Cause.failureOption(exit.cause))).toMatchObject({
          _tag: "StoreUnavailable",
          retryable: true
        })
      }
    }).pipe(Effect.provide(layer), Effect.runPromise)
  } finally {
    for (const socket of waiting) socket.destroy()
    listener.kill("SIGKILL")
  }
})
