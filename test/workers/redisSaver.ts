/**
 * One of several processes that save snapshots of the same streams in any order of versions. Reports how many of its
 * saves were taken, and the greatest version of those that were.
 */
import { Effect, Redacted } from "effect"
import { SnapshotStore } from "effect-stores"
import { SnapshotStoreRedis } from "effect-stores/redis"

const versions: ReadonlyArray<number> = JSON.parse(process.env.WORKER_VERSIONS ?? "[]")

const program = Effect.gen(function* () {
  const store = yield* SnapshotStore.SnapshotStore
  const saved = yield* Effect.forEach(
    versions,
    (version) =>
      store.save(
        { tenantId: "tenant", domain: "domain", aggregateId: "raced" },
        { version, lastEventMark: "018f0000-0000-7000-8000-000000000001", schemaVersion: "1", state: { version } }
      ),
    { concurrency: 32 }
  )
  return versions.filter((_, n) => saved[n])
})

Effect.runPromise(
  Effect.provide(program, SnapshotStoreRedis.layer({ url: Redacted.make(process.env.WORKER_REDIS_URL ?? "") }))
).then((taken) => process.stdout.write(`${JSON.stringify(taken)}\n`))
