/**
 * The DataStore in processes of their own: killed amid their puts, and measured over objects larger than memory should
 * ever be.
 */
import * as fs from "node:fs"
import * as path from "node:path"
import { type Clock, Effect, type Layer, Option, Redacted, Stream } from "effect"
import { DataStore } from "effect-stores"
import { DataStoreFileSystem } from "effect-stores/fs"
import { DataStoreMinio } from "effect-stores/minio"
import { DataStorePg } from "effect-stores/pg"
import { DataStoreSqlite } from "effect-stores/sqlite"
import { afterAll, expect, it } from "vitest"
import { describePg, describeWith, freshDatabase, temporaryDirectory } from "../support/backends.js"
import { spawnWorker } from "../support/child.js"
import { startCeph } from "../support/s3.js"
import { isFull } from "../support/scale.js"

const kills = isFull ? 30 : 3
const MiB = 2 ** 20
const writer = new URL("./writer.ts", import.meta.url)
const id = { bucket: "worker", name: "object" }

type Env = Readonly<Record<string, string>>

const later = Effect.map(
  Effect.clock,
  (clock): Clock.Clock =>
    Object.assign(Object.create(clock), { currentTimeMillis: Effect.sync(() => Date.now() + 2 * 3_600_000) })
)

/** What a killed writer leaves is the old object or the new one, whole, and nothing that a sweep does not find. */
const killed = async (
  backend: string,
  env: Env,
  size: number,
  layer: Layer.Layer<DataStore.DataStore, unknown>,
  age: () => void = () => {}
) => {
  let swept = 0
  for (let kill = 1; kill <= kills; kill++) {
    const worker = spawnWorker(writer, { args: [backend, "put", `${size}`], env })
    let acknowledged = 0
    const reading = (async () => {
      for await (const line of worker.lines) {
        try {
          acknowledged = (JSON.parse(line) as { n: number }).n
        } catch {
          // The kill came amid this line.
        }
      }
    })()
    while (acknowledged < 2) {
      await new Promise((resolve) => setTimeout(resolve, 10))
      if (worker.process.exitCode !== null) throw new Error((await worker.exited).stderr)
    }
    await new Promise((resolve) => setTimeout(resolve, Math.random() * 200))
    worker.kill()
    await worker.exited
    await reading
    age()
    await Effect.gen(function* () {
      const store = yield* DataStore.DataStore
      const check = Effect.gen(function* () {
        const found = Option.getOrThrow(yield* store.get(id))
        const n = Number(found.info.metadata.n)
        // What was acknowledged is there, or what came after it.
        expect(n).toBeGreaterThanOrEqual(acknowledged)
        expect(found.info.size).toBe(n % 2 === 0 ? 1_000 : size)
        const block = Buffer.alloc(256 * 1024, `${n}.`)
        yield* Stream.runForEach(found.body, (piece) =>
          Effect.sync(() => expect(block.subarray(0, piece.byteLength).equals(piece)).toBe(true))
        )
      })
      yield* check
      swept += yield* Effect.withClock(store.sweep(), yield* later)
      yield* check
      expect(yield* Effect.withClock(store.sweep(), yield* later)).toBe(0)
      expect(yield* store.count(id.bucket)).toBe(1)
    }).pipe(Effect.provide(layer), Effect.runPromise)
  }
  console.log(`${backend}: ${kills} kills, ${swept} things swept`)
}

/** Memory and stalls over one large object. */
const measured = async (backend: string, env: Env, bytes: number, atOnce = 1) => {
  const worker = spawnWorker(writer, {
    args: [backend, "large", `${bytes}`],
    env: { ...env, WORKER_AT_ONCE: `${atOnce}`, NODE_OPTIONS: "--expose-gc" }
  })
  const lines: Array<string> = []
  for await (const line of worker.lines) lines.push(line)
  expect(await worker.exited).toMatchObject({ code: 0, stderr: "" })
  const figures = JSON.parse(lines[0] ?? "{}")
  console.log(`${backend}, ${atOnce} x ${bytes / MiB} MiB: ${lines[0]}`)
  expect(figures).toMatchObject({ got: bytes, part: 10 * MiB })
  expect(figures.grownMiB).toBeLessThan(atOnce === 1 ? 150 : 300)
}

/** All that passes through at once is far more than may stay in memory. */
const eight = [(isFull ? 256 : 48) * MiB, 8] as const
const gigabytes = (isFull ? 2_048 : 204) * MiB
const megabytes = (isFull ? 256 : 64) * MiB
const timeout = { timeout: 1_800_000 }

it(`a writer on the file system, killed ${kills} times`, timeout, async () => {
  const root = temporaryDirectory()
  await killed("fs", { WORKER_PLACE: root }, 5 * MiB, DataStoreFileSystem.layer({ root }), () => {
    for (const name of fs.readdirSync(path.join(root, "incoming"))) {
      const old = Date.now() / 1_000 - 7_200
      fs.utimesSync(path.join(root, "incoming", name), old, old)
    }
  })
})

it(`a writer on SQLite, killed ${kills} times`, timeout, async () => {
  const filename = path.join(temporaryDirectory(), "killed.db")
  await killed("sqlite", { WORKER_PLACE: filename }, 5 * MiB, DataStoreSqlite.layer({ filename }))
})

it(`${gigabytes / MiB} MiB in constant memory on the file system`, timeout, () =>
  measured("fs", { WORKER_PLACE: temporaryDirectory() }, gigabytes)
)

it(`${megabytes / MiB} MiB in constant memory on SQLite`, timeout, () =>
  measured("sqlite", { WORKER_PLACE: path.join(temporaryDirectory(), "large.db") }, megabytes)
)

it(`eight times ${eight[0] / MiB} MiB at once on the file system`, timeout, () =>
  measured("fs", { WORKER_PLACE: temporaryDirectory() }, ...eight)
)

it(`eight times ${eight[0] / MiB} MiB at once on SQLite`, timeout, () =>
  measured("sqlite", { WORKER_PLACE: path.join(temporaryDirectory(), "eight.db") }, ...eight)
)

describePg("PostgreSQL", async () => {
  const url = await freshDatabase()
  const other = await freshDatabase()
  const third = await freshDatabase()

  it(`a writer, killed ${kills} times`, timeout, () =>
    killed("pg", { WORKER_PLACE: url }, 5 * MiB, DataStorePg.layer({ url: Redacted.make(url) }))
  )

  it(`${megabytes / MiB} MiB in constant memory`, timeout, () => measured("pg", { WORKER_PLACE: other }, megabytes))

  it(`eight times ${eight[0] / MiB} MiB at once`, timeout, () => measured("pg", { WORKER_PLACE: third }, ...eight))
})

describeWith("ceph", "S3", async () => {
  const server = await startCeph((isFull ? 10 : 2) * 2 ** 30)
  afterAll(server.stop)
  const env = {
    WORKER_PLACE: server.endpoint,
    WORKER_ACCESS_KEY: server.accessKey,
    WORKER_SECRET_KEY: server.secretKey
  }
  const layer = DataStoreMinio.layer({
    endpoint: server.endpoint,
    accessKey: server.accessKey,
    secretKey: Redacted.make(server.secretKey),
    bucketPrefix: "w-"
  })

  it(`a writer, killed ${kills} times`, timeout, () => killed("minio", env, 11 * MiB, layer))

  it(`${gigabytes / MiB} MiB in constant memory`, timeout, () => measured("minio", env, gigabytes))

  it(`eight times ${eight[0] / MiB} MiB at once`, timeout, () =>
    measured("minio", { ...env, WORKER_BUCKETS: "e-" }, ...eight)
  )
})
