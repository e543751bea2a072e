/**
 * A process that puts objects again and again, to be killed, traced and measured: `writer.ts <backend> <mode>`. What it
 * has done it says line by line.
 *
 * `put`: replaces one object with bodies that say their number. `large <bytes>`: puts, gets, gets parts of and copies one
 * object of that size, and says how much its memory grew and how long the event loop stood still. With WORKER_AT_ONCE it
 * does so with as many objects at once. Sealed with WORKER_KEY.
 */
import * as fs from "node:fs"
import { monitorEventLoopDelay } from "node:perf_hooks"
import { Effect, Layer, Option, Redacted, Stream } from "effect"
import { CryptoService, DataStore } from "effect-stores"
import { DataStoreFileSystem } from "effect-stores/fs"
import { DataStoreMinio } from "effect-stores/minio"
import { DataStorePg } from "effect-stores/pg"
import { DataStoreSqlite } from "effect-stores/sqlite"

const [backend = "", mode = "", size = ""] = process.argv.slice(2)
const place = process.env.WORKER_PLACE ?? ""

const layers: Readonly<Record<string, () => Layer.Layer<DataStore.DataStore, unknown>>> = {
  fs: () => DataStoreFileSystem.layer({ root: place }),
  sqlite: () => DataStoreSqlite.layer({ filename: place }),
  pg: () => DataStorePg.layer({ url: Redacted.make(place) }),
  minio: () =>
    DataStoreMinio.layer({
      endpoint: place,
      accessKey: process.env.WORKER_ACCESS_KEY ?? "",
      secretKey: Redacted.make(process.env.WORKER_SECRET_KEY ?? ""),
      partBytes: 5 * 2 ** 20,
      bucketPrefix: process.env.WORKER_BUCKETS ?? "w-"
    })
}

const piece = 256 * 1024
const say = (line: unknown) => Effect.sync(() => process.stdout.write(`${JSON.stringify(line)}\n`))
const id = { bucket: "worker", name: "object" }

const bodyOf = (seed: number, bytes: number): Stream.Stream<Uint8Array> => {
  const block = Buffer.alloc(piece, `${seed}.`)
  return Stream.unfold(0, (at) =>
    at >= bytes ? Option.none() : Option.some([block.subarray(0, Math.min(piece, bytes - at)), at + piece] as const)
  ).pipe(Stream.rechunk(1))
}

const put = Effect.gen(function* () {
  const store = yield* DataStore.DataStore
  yield* store.buckets.create(id.bucket)
  const puts = Number(process.env.WORKER_PUTS ?? Number.POSITIVE_INFINITY)
  for (let n = 1; n <= puts; n++) {
    const bytes = n % 2 === 0 ? 1_000 : Number(size)
    yield* store.put(id, bodyOf(n, bytes), { metadata: { n: `${n}` } })
    yield* say({ n })
  }
})

/** How long this thread has been runnable without having a core, as Linux counts it. */
const withoutCoreMs = (): number => {
  try {
    return Number(fs.readFileSync(`/proc/self/task/${process.pid}/schedstat`, "utf8").split(" ")[1]) / 1e6
  } catch {
    return 0
  }
}

const large = Effect.gen(function* () {
  const store = yield* DataStore.DataStore
  yield* store.buckets.create(id.bucket)
  const total = Number(size)
  yield* store.put(id, bodyOf(1, 20 * 2 ** 20))
  globalThis.gc?.()
  const before = process.memoryUsage.rss()
  let most = before
  let ownStallMaxMs = 0
  let last = { at: performance.now(), withoutCore: withoutCoreMs() }
  const timer = setInterval(() => {
    most = Math.max(most, process.memoryUsage.rss())
    const now = { at: performance.now(), withoutCore: withoutCoreMs() }
    ownStallMaxMs = Math.max(ownStallMaxMs, now.at - last.at - 5 - (now.withoutCore - last.withoutCore))
    last = now
  }, 5)
  const delay = monitorEventLoopDelay({ resolution: 5 })
  delay.enable()
  const names = Array.from({ length: Number(process.env.WORKER_AT_ONCE ?? 1) }, (_, n) => ({
    ...id,
    name: `object-${n}`
  }))
  const figures: Record<string, number> = {}
  const timed = <A, E, R>(what: string, effect: Effect.Effect<A, E, R>) =>
    Effect.suspend(() => {
      const startedAt = performance.now()
      return Effect.tap(effect, () =>
        Effect.sync(() => {
          figures[what] = Math.round((total * names.length) / 2 ** 20 / ((performance.now() - startedAt) / 1_000))
        })
      )
    })
  const each = <A, E, R>(one: (object: typeof id) => Effect.Effect<A, E, R>) =>
    Effect.forEach(names, one, { concurrency: "unbounded" })
  const sum = (found: Option.Option<DataStore.StoredObject>) =>
    Stream.runFold(Option.getOrThrow(found).body, 0, (sum, bytes) => sum + bytes.byteLength)
  yield* timed(
    "putMiBps",
    each((object) => store.put(object, bodyOf(2, total), { size: total }))
  )
  const got = yield* timed(
    "getMiBps",
    each((object) => Effect.flatMap(store.get(object), sum))
  )
  const parts = yield* each((object) =>
    Effect.flatMap(store.getRange(object, { offset: total / 2 + 5, length: 10 * 2 ** 20 }), sum)
  )
  yield* timed(
    "copyMiBps",
    each((object) => store.copy(object, { ...object, name: `${object.name}-copy` }))
  )
  clearInterval(timer)
  delay.disable()
  yield* say({
    // The least, where there are several.
    got: Math.min(...got),
    part: Math.min(...parts),
    grownMiB: Math.round((most - before) / 2 ** 20),
    stallP99Ms: Math.round(delay.percentile(99) / 1e6),
    stallMaxMs: Math.round(delay.max / 1e6),
    // What is left when a busy machine takes no part in it.
    ownStallMaxMs: Math.round(ownStallMaxMs),
    ...figures
  })
})

const layer = layers[backend]
if (layer === undefined) throw new Error(`no backend ${backend}`)
const stored =
  process.env.WORKER_KEY === undefined
    ? layer()
    : layer().pipe(
        CryptoService.seal,
        Layer.provide(
          CryptoService.layer({ keys: [{ id: "k1", key: Redacted.make(process.env.WORKER_KEY) }], primary: "k1" })
        )
      )
Effect.runPromise(Effect.provide(mode === "large" ? large : put, stored)).catch((error) => {
  process.stderr.write(String(error))
  process.exitCode = 1
})
