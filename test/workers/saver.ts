/**
 * One of several processes that open EventStore and SnapshotStore on the same empty database at once, and then save
 * snapshots of the same stream. Fails when a snapshot that was acknowledged is gone, or gives way to an older one.
 */
import { Cause, Effect, Exit, Layer, Option, Random, Redacted } from "effect"
import { SnapshotStore } from "effect-stores"
import { persist, report, streamOf } from "./store.js"

const { WORKER_PG_URL, WORKER_SQLITE_FILE } = process.env
const processes = Number(process.env.WORKER_PROCESSES)
const index = Number(process.env.WORKER_INDEX)
const fibers = Number(process.env.WORKER_FIBERS)
const savesPerFiber = Number(process.env.WORKER_SAVES)

const layer = async (): Promise<Layer.Layer<SnapshotStore.SnapshotStore, unknown>> => {
  if (WORKER_SQLITE_FILE !== undefined) {
    const { EventStoreSqlite, SnapshotStoreSqlite, SqliteDatabase } = await import("effect-stores/sqlite")
    return Layer.provide(
      Layer.merge(SnapshotStoreSqlite.layerFromDatabase(), EventStoreSqlite.layerFromDatabase()),
      SqliteDatabase.layer({ filename: WORKER_SQLITE_FILE })
    )
  }
  const { EventStorePg, PgDatabase, SnapshotStorePg } = await import("effect-stores/pg")
  return Layer.provide(
    Layer.merge(SnapshotStorePg.layerFromDatabase(), EventStorePg.layerFromDatabase()),
    PgDatabase.layer({ url: Redacted.make(WORKER_PG_URL ?? ""), pool: { maxOpenConns: 4 } })
  )
}

const snapshot = (version: number) => ({
  version,
  lastEventMark: crypto.randomUUID(),
  schemaVersion: "1",
  state: { version }
})

const saver = (fiber: number) =>
  Effect.gen(function* () {
    const store = yield* SnapshotStore.SnapshotStore
    const mine = Array.from({ length: savesPerFiber }, (_, n) => (n * processes + index) * fibers + fiber + 1)
    let seen = 0
    for (const version of yield* Random.shuffle(mine)) {
      yield* persist(store.save(streamOf("contended"), snapshot(version)))
      const found = Option.getOrThrow(yield* persist(store.latest(streamOf("contended"))))
      if (found.version < Math.max(seen, version)) {
        return yield* Effect.fail(`after ${seen}, and ${version} acknowledged, found ${found.version}`)
      }
      seen = found.version
    }
  })

const program = Effect.gen(function* () {
  const store = yield* SnapshotStore.SnapshotStore
  // Starting takes longer than saving, so all wait for the last.
  yield* persist(store.save(streamOf(`ready ${index}`), snapshot(1)))
  yield* Effect.repeat(Effect.delay(persist(store.info), "5 millis"), {
    until: ({ snapshots }) => snapshots >= processes
  })
  yield* Effect.all(
    Array.from({ length: fibers }, (_, fiber) => saver(fiber)),
    { concurrency: "unbounded" }
  )
})

const exit = await Effect.runPromiseExit(Effect.provide(program, await layer()))
if (Exit.isFailure(exit)) {
  report({ failure: Cause.pretty(exit.cause) })
  process.exitCode = 1
}
