/**
 * Projections on every backend: what they count, in which order, and what becomes of a batch that fails, of a lease that
 * is lost and of a store that is away. The read model is a SnapshotStore on the database of the checkpoints: its state is
 * the list of versions that were handled of a stream, so what is missing, doubled or out of order shows.
 */
import { randomUUID } from "node:crypto"
import * as path from "node:path"
import { assert, it as effectIt } from "@effect/vitest"
import {
  Clock,
  Deferred,
  Duration,
  Effect,
  Exit,
  Fiber,
  Layer,
  Logger,
  Metric,
  MetricState,
  Option,
  Redacted,
  Ref,
  Schedule,
  Schema,
  Stream,
  TestClock
} from "effect"
import { CheckpointStore, Errors, EventStore, Projection, SnapshotStore } from "effect-stores"
import { CheckpointStoreMemory, EventStoreMemory, MemoryDatabase, SnapshotStoreMemory } from "effect-stores/memory"
import { CheckpointStorePg, EventStorePg, PgDatabase, SnapshotStorePg } from "effect-stores/pg"
import { CheckpointStoreSqlite, EventStoreSqlite, SnapshotStoreSqlite, SqliteDatabase } from "effect-stores/sqlite"
import { describe, expect, it } from "vitest"
import { wanted } from "../src/projection/run.js"
import { describePg, freshDatabase, temporaryDirectory } from "./support/backends.js"
import { eventually } from "./support/eventually.js"

type Stores = EventStore.EventStore | CheckpointStore.CheckpointStore | SnapshotStore.SnapshotStore

const Counted = Schema.TaggedStruct("Counted", { n: Schema.Number })
const Forgotten = Schema.TaggedStruct("Forgotten", {})
const Known = Schema.Union(Counted, Forgotten)

const streamOf = (tenantId: string, aggregateId: string): EventStore.StreamId => ({
  tenantId,
  domain: "counter",
  aggregateId
})

const append = (tenantId: string, aggregateId: string, count = 1, event: EventStore.NewEvent | undefined = undefined) =>
  Effect.flatMap(EventStore.EventStore, (store) =>
    store.append(
      streamOf(tenantId, aggregateId),
      Array.from({ length: count }, (_, n) => event ?? { type: "Counted", data: { n } }),
      { expected: "any" }
    )
  )

const handledOf = (stream: EventStore.StreamId) =>
  Effect.flatMap(SnapshotStore.SnapshotStore, (snapshots) =>
    Effect.map(snapshots.latest(stream), (found) =>
      Option.match(found, { onNone: () => [], onSome: ({ state }) => state as ReadonlyArray<number> })
    )
  )

/** Notes the version of the event in the read model of its stream. */
const note = (event: EventStore.TypedEvent<typeof Known.Type>) =>
  Effect.gen(function* () {
    const snapshots = yield* SnapshotStore.SnapshotStore
    const versions = yield* handledOf(event)
    yield* snapshots.save(event, {
      version: versions.length + 1,
      lastEventMark: event.id,
      schemaVersion: "1",
      state: [...versions, event.version]
    })
  })

const noteAll = (events: ReadonlyArray<EventStore.TypedEvent<typeof Known.Type>>) =>
  Effect.forEach(events, note, { discard: true })

const range = (to: number) => Array.from({ length: to }, (_, i) => i + 1)

type Handler<E, R> = (
  events: ReadonlyArray<EventStore.TypedEvent<typeof Known.Type>>,
  batch: Projection.Batch
) => Effect.Effect<unknown, E, R>

/** A projection of one tenant, so that tests have nothing to do with each other. */
const projection = <E = never, R = SnapshotStore.SnapshotStore, D extends Projection.Delivery = "exactlyOnce">(
  tenantId: string,
  options: Partial<
    Omit<Projection.Options<typeof Known.Type, typeof Known.Encoded, never, E, R, D>, "handle" | "events" | "name">
  > & { readonly handle?: Handler<E, R>; readonly name?: string } = {}
) =>
  Projection.make({
    name: tenantId,
    delivery: "exactlyOnce" as D,
    retry: Schedule.recurs(0),
    ...options,
    handle: options.handle ?? (noteAll as unknown as Handler<E, R>),
    events: Known,
    filter: { tenantId, ...options.filter }
  })

/** The token of whoever works on the first partition. */
const tokenOf = (name: string) =>
  Effect.gen(function* () {
    const store = yield* CheckpointStore.CheckpointStore
    const [checkpoint] = yield* Stream.runCollect(store.list({ name }))
    return checkpoint?.token
  })

const projections = (name: string, layer: Layer.Layer<Stores, unknown>) =>
  describe(name, () => {
    const test = (title: string, body: (tenantId: string) => Effect.Effect<void, unknown, Stores>) =>
      it(title, () => Effect.runPromise(Effect.provide(body(`tenant ${randomUUID()}`), layer)))

    test("all events are handled once and in order, and not again the next time", (tenantId) =>
      Effect.gen(function* () {
        const counters = projection(tenantId, { batchSize: 7 })
        for (const aggregateId of ["a", "b", "a"]) yield* append(tenantId, aggregateId, 25)
        yield* Projection.catchUp(counters)
        assert.deepStrictEqual(yield* handledOf(streamOf(tenantId, "a")), range(50))
        assert.deepStrictEqual(yield* handledOf(streamOf(tenantId, "b")), range(25))
        yield* Projection.catchUp(counters)
        yield* append(tenantId, "b")
        const head = yield* Projection.catchUp(counters)
        assert.deepStrictEqual(yield* handledOf(streamOf(tenantId, "a")), range(50))
        assert.deepStrictEqual(yield* handledOf(streamOf(tenantId, "b")), range(26))
        const { partitions } = yield* Projection.status(counters)
        assert.isAtLeast(partitions[0]?.position ?? 0, head)
        assert.deepStrictEqual(partitions[0]?.owner, Option.none())
      }))

    test("batches have at most as many events as is said, and follow each other", (tenantId) =>
      Effect.gen(function* () {
        const sizes = yield* Ref.make<ReadonlyArray<number>>([])
        const counters = projection(tenantId, {
          batchSize: 10,
          handle: (events) => Ref.update(sizes, (all) => [...all, events.length])
        })
        yield* append(tenantId, "a", 25)
        yield* Projection.catchUp(counters)
        assert.deepStrictEqual(yield* Ref.get(sizes), [10, 10, 5])
      }))

    test("types that the Schema does not know, and other tenants, are passed by", (tenantId) =>
      Effect.gen(function* () {
        const counters = projection(tenantId)
        yield* append(tenantId, "a")
        yield* append(tenantId, "a", 1, { type: "Unknown", data: {} })
        yield* append(`${tenantId} other`, "a")
        yield* append(tenantId, "a", 1, { type: "Forgotten", data: {} })
        const last = yield* append(tenantId, "a", 1, { type: "Unknown", data: {} })
        yield* Projection.catchUp(counters)
        assert.deepStrictEqual(yield* handledOf(streamOf(tenantId, "a")), [1, 3])
        assert.deepStrictEqual(yield* handledOf(streamOf(`${tenantId} other`, "a")), [])
        yield* Projection.awaitPosition(counters, last.position)
      }))

    test("a handler that fails stops the projection, and nothing of its batch is kept", (tenantId) =>
      Effect.gen(function* () {
        yield* append(tenantId, "a", 4)
        const failing = projection(tenantId, {
          batchSize: 2,
          handle: (events) =>
            Effect.zipRight(
              noteAll(events),
              events.some(({ version }) => version === 4) ? Effect.fail("no room" as const) : Effect.void
            )
        })
        const error = yield* Effect.flip(Projection.catchUp(failing))
        assert.instanceOf(error, Projection.ProjectionStopped)
        assert.strictEqual(error.cause, "no room")
        assert.match(error.message, /: no room$/)
        assert.deepStrictEqual(yield* handledOf(streamOf(tenantId, "a")), [1, 2])
        const { partitions } = yield* Projection.status(failing)
        assert.strictEqual(partitions[0]?.position, error.position)
        // It is given back, so the next one need not wait for the lease to end.
        assert.deepStrictEqual(partitions[0]?.owner, Option.none())
        yield* Projection.catchUp(projection(tenantId))
        assert.deepStrictEqual(yield* handledOf(streamOf(tenantId, "a")), range(4))
      }))

    test("with atLeastOnce what a handler wrote before it failed stays", (tenantId) =>
      Effect.gen(function* () {
        yield* append(tenantId, "a", 2)
        const failing = projection(tenantId, {
          delivery: "atLeastOnce",
          handle: (events) => Effect.zipRight(noteAll(events), Effect.fail("no room" as const))
        })
        const error = yield* Effect.flip(Projection.catchUp(failing))
        assert.instanceOf(error, Projection.ProjectionStopped)
        assert.strictEqual(error.position, 0)
        assert.deepStrictEqual(yield* handledOf(streamOf(tenantId, "a")), [1, 2])
      }))

    test("a handler that dies, throws or interrupts itself has failed, too", (tenantId) =>
      Effect.gen(function* () {
        yield* append(tenantId, "a")
        const bad: ReadonlyArray<Handler<never, never>> = [
          () => Effect.die(new Error("a bug")),
          () => {
            throw new Error("a bug")
          },
          () => Effect.interrupt
        ]
        for (const handle of bad) {
          const error = yield* Effect.flip(Projection.catchUp(projection(tenantId, { handle })))
          assert.strictEqual(error._tag, "ProjectionStopped")
        }
      }))

    test("it is tried again as the Schedule says", (tenantId) =>
      Effect.gen(function* () {
        yield* append(tenantId, "a", 2)
        const attempts = yield* Ref.make(0)
        const flaky = projection(tenantId, {
          retry: Schedule.recurs(2),
          handle: (events) =>
            Effect.flatMap(
              Ref.updateAndGet(attempts, (n) => n + 1),
              (n) => (n < 3 ? Effect.zipRight(noteAll(events), Effect.fail("not yet")) : noteAll(events))
            )
        })
        yield* Projection.catchUp(flaky)
        assert.strictEqual(yield* Ref.get(attempts), 3)
        assert.deepStrictEqual(yield* handledOf(streamOf(tenantId, "a")), [1, 2])
      }))

    test("an event that does not fit the Schema stops it, and the error names the event", (tenantId) =>
      Effect.gen(function* () {
        yield* append(tenantId, "a", 2)
        yield* append(tenantId, "a", 1, { type: "Counted", data: { n: "many" } })
        const error = yield* Effect.flip(Projection.catchUp(projection(tenantId, { batchSize: 1 })))
        assert.instanceOf(error, Projection.ProjectionStopped)
        assert.instanceOf(error.cause, EventStore.EventDecodeError)
        assert.strictEqual((error.cause as EventStore.EventDecodeError).version, 3)
        assert.deepStrictEqual(yield* handledOf(streamOf(tenantId, "a")), [1, 2])
      }))

    const lettersOf = (name: string) =>
      Effect.flatMap(CheckpointStore.CheckpointStore, (store) =>
        Effect.map(Stream.runCollect(store.deadLetters({ name })), (letters) =>
          [...letters].map(({ aggregateId, reason, scope, type }) => ({ aggregateId, reason, scope, type }))
        )
      )

    /** Fails for the third event of stream `a`, after it has written. */
    const failingAtThird: Handler<unknown, SnapshotStore.SnapshotStore> = (events) =>
      Effect.zipRight(
        noteAll(events),
        events.some(({ aggregateId, version }) => aggregateId === "a" && version === 3)
          ? Effect.fail({ _tag: "NoRoom" } as const)
          : Effect.void
      )

    test("skip passes by the event that fails, and by nothing else; it can be tried again", (tenantId) =>
      Effect.gen(function* () {
        for (const aggregateId of ["a", "b"]) yield* append(tenantId, aggregateId, 5)
        yield* append(tenantId, "b", 1, { type: "Counted", data: { n: "many" } })
        yield* append(tenantId, "b", 1)
        const skipping = projection(tenantId, { onFailure: "skip", handle: failingAtThird })
        yield* Projection.catchUp(skipping)
        assert.deepStrictEqual(yield* handledOf(streamOf(tenantId, "a")), [1, 2, 4, 5])
        assert.deepStrictEqual(yield* handledOf(streamOf(tenantId, "b")), [1, 2, 3, 4, 5, 7])
        const letters = [
          { aggregateId: "a", reason: "NoRoom", scope: "event", type: "Counted" },
          { aggregateId: "b", reason: "EventDecodeError", scope: "event", type: "Counted" }
        ]
        assert.deepStrictEqual(yield* lettersOf(tenantId), letters)
        assert.strictEqual(yield* Projection.retryDeadLetters(skipping), 2)
        assert.deepStrictEqual(yield* lettersOf(tenantId), letters)
        assert.deepStrictEqual(yield* handledOf(streamOf(tenantId, "a")), [1, 2, 4, 5])
        assert.strictEqual(yield* Projection.retryDeadLetters(projection(tenantId)), 1)
        assert.deepStrictEqual(yield* handledOf(streamOf(tenantId, "a")), [1, 2, 4, 5, 3])
        assert.deepStrictEqual(yield* lettersOf(tenantId), letters.slice(1))
      }))

    test("no log shows the data of an event that does not fit", (tenantId) =>
      Effect.gen(function* () {
        yield* append(tenantId, "a", 1, { type: "Counted", data: { n: "a secret" } })
        const lines: Array<string> = []
        const recording = Logger.replace(
          Logger.defaultLogger,
          Logger.map(Logger.stringLogger, (line) => void lines.push(line))
        )
        const skipping = projection(tenantId, { onFailure: "skip" })
        yield* Projection.catchUp(skipping).pipe(
          Effect.zipRight(Projection.retryDeadLetters(skipping)),
          Effect.provide(recording)
        )
        assert.include(lines.join("\n"), "does not fit the schema")
        assert.notInclude(lines.join("\n"), "a secret")
      }))

    test("park passes by all that follows in the stream, also the next time, and keeps its order when tried again", (tenantId) =>
      Effect.gen(function* () {
        const parking = projection(tenantId, { onFailure: "park", batchSize: 3, handle: failingAtThird })
        for (const aggregateId of ["a", "b"]) yield* append(tenantId, aggregateId, 5)
        yield* Projection.catchUp(parking)
        yield* append(tenantId, "a", 2)
        yield* append(tenantId, "b", 1)
        // Whatever its policy, it finds the stream parked.
        yield* Projection.catchUp(projection(tenantId))
        assert.deepStrictEqual(yield* handledOf(streamOf(tenantId, "a")), [1, 2])
        assert.deepStrictEqual(yield* handledOf(streamOf(tenantId, "b")), range(6))
        assert.deepStrictEqual(yield* lettersOf(tenantId), [
          { aggregateId: "a", reason: "NoRoom", scope: "stream", type: "Counted" }
        ])
        assert.strictEqual(yield* Projection.retryDeadLetters(parking), 1)
        assert.deepStrictEqual(yield* handledOf(streamOf(tenantId, "a")), [1, 2])
        const worker = yield* Effect.fork(Projection.run(projection(tenantId, { lease: 300 })))
        assert.strictEqual(yield* Projection.retryDeadLetters(projection(tenantId)), 0)
        assert.deepStrictEqual(yield* lettersOf(tenantId), [])
        const { position } = yield* append(tenantId, "a", 1)
        yield* Projection.awaitPosition(projection(tenantId), position, { timeout: "1 minute" })
        assert.deepStrictEqual(yield* handledOf(streamOf(tenantId, "a")), range(8))
        yield* Fiber.interrupt(worker)
      }))

    test("of an event that was deleted the dead letter is settled", (tenantId) =>
      Effect.gen(function* () {
        yield* append(tenantId, "a", 3)
        for (const [onFailure, name] of [
          ["skip", `${tenantId} 1`],
          ["park", `${tenantId} 2`]
        ] as const) {
          yield* Projection.catchUp(projection(tenantId, { name, onFailure, handle: failingAtThird }))
        }
        const store = yield* EventStore.EventStore
        yield* store.maintenance.deleteStream(streamOf(tenantId, "a"))
        for (const name of [`${tenantId} 1`, `${tenantId} 2`]) {
          assert.strictEqual((yield* lettersOf(name)).length, 1)
          assert.strictEqual(yield* Projection.retryDeadLetters(projection(tenantId, { name })), 0)
          assert.deepStrictEqual(yield* lettersOf(name), [])
        }
      }))

    test("a store that is unavailable is waited for, whatever the Schedule says", (tenantId) =>
      Effect.gen(function* () {
        yield* append(tenantId, "a", 3)
        const attempts = yield* Ref.make(0)
        const away = new Errors.StoreUnavailable({ operation: "x", retryable: true, cause: new Error("away") })
        const counters = projection(tenantId, {
          handle: (events) =>
            Effect.zipRight(
              noteAll(events),
              Effect.flatMap(
                Ref.updateAndGet(attempts, (n) => n + 1),
                // As a driver of the application has it: in an error of its own.
                (n) => (n < 3 ? Effect.fail({ _tag: "SqlError", cause: away }) : Effect.void)
              )
            )
        })
        yield* Projection.catchUp(counters)
        assert.strictEqual(yield* Ref.get(attempts), 3)
        assert.deepStrictEqual(yield* handledOf(streamOf(tenantId, "a")), range(3))
      }))

    test("what an error of the application calls retryable is its own business: the handler has failed", (tenantId) =>
      Effect.gen(function* () {
        yield* append(tenantId, "a", 1)
        const cause = { _tag: "MailServerBusy", retryable: true }
        const error = yield* Effect.flip(Projection.catchUp(projection(tenantId, { handle: () => Effect.fail(cause) })))
        assert.instanceOf(error, Projection.ProjectionStopped)
        assert.strictEqual(error.cause, cause)
        assert.deepInclude(
          { name: error.name, projection: error.projection },
          {
            name: "ProjectionStopped",
            projection: tenantId
          }
        )
      }))

    test("while it runs it follows what is appended, and a request can wait for its own write", (tenantId) =>
      Effect.gen(function* () {
        const counters = projection(tenantId)
        const worker = yield* Effect.fork(Projection.run(counters, { owner: "me" }))
        for (let n = 1; n <= 5; n++) {
          const { position } = yield* append(tenantId, "a")
          yield* Projection.awaitPosition(counters, position, { timeout: "1 minute" })
          assert.deepStrictEqual(yield* handledOf(streamOf(tenantId, "a")), range(n))
        }
        const { partitions } = yield* Projection.status(counters)
        assert.deepStrictEqual(partitions[0]?.owner, Option.some("me"))
        yield* Fiber.interrupt(worker)
        const after = yield* Projection.status(counters)
        assert.deepStrictEqual(after.partitions[0]?.owner, Option.none())
      }))

    test("it passes by what is not its own, also while it runs", (tenantId) =>
      Effect.gen(function* () {
        const counters = projection(tenantId)
        const worker = yield* Effect.fork(Projection.run(counters))
        for (let n = 0; n < 3; n++) {
          const { position } = yield* append(`${tenantId} other`, "a")
          yield* Projection.awaitPosition(counters, position, { timeout: "1 minute" })
        }
        yield* Fiber.interrupt(worker)
      }))

    test("of several that run it one works on each partition, they share them, and streams keep their order", (tenantId) =>
      Effect.gen(function* () {
        const counters = projection(tenantId, { partitions: 4, batchSize: 3, lease: 600 })
        const aggregates = Array.from({ length: 12 }, (_, i) => `${i}`)
        for (const aggregateId of aggregates) yield* append(tenantId, aggregateId, 10)
        const first = yield* Effect.fork(Projection.run(counters, { owner: "first" }))
        const owners = Effect.map(Projection.status(counters), ({ partitions }) =>
          partitions.map(({ owner }) => Option.getOrElse(owner, () => "")).sort()
        )
        const become = (expected: ReadonlyArray<string>) =>
          eventually(owners, (found) => found.join() === expected.join(), `never were the owners ${expected}`)
        yield* become(["first", "first", "first", "first"])
        const second = yield* Effect.fork(Projection.run(counters, { owner: "second" }))
        yield* become(["first", "first", "second", "second"])
        for (const aggregateId of aggregates) yield* append(tenantId, aggregateId, 10)
        yield* Fiber.interrupt(first)
        const last = yield* append(tenantId, "0", 1)
        yield* Projection.awaitPosition(counters, last.position, { timeout: "1 minute" })
        yield* become(["second", "second", "second", "second"])
        yield* Fiber.interrupt(second)
        for (const aggregateId of aggregates) {
          assert.deepStrictEqual(
            yield* handledOf(streamOf(tenantId, aggregateId)),
            range(aggregateId === "0" ? 21 : 20)
          )
        }
      }))

    test("what one has not committed when its partition is taken over does not count", (tenantId) =>
      Effect.gen(function* () {
        yield* append(tenantId, "a", 3)
        const [begun, go] = [yield* Deferred.make<void>(), yield* Deferred.make<void>()]
        const attempts = yield* Ref.make(0)
        const slow = projection(tenantId, {
          handle: (events) =>
            Effect.flatMap(
              Ref.updateAndGet(attempts, (n) => n + 1),
              (n) =>
                n > 1
                  ? noteAll(events)
                  : Effect.zipRight(
                      Effect.zipRight(Deferred.succeed(begun, undefined), Deferred.await(go)),
                      noteAll(events)
                    )
            )
        })
        const worker = yield* Effect.fork(Projection.catchUp(slow))
        yield* Deferred.await(begun)
        const token = yield* tokenOf(tenantId)
        const store = yield* CheckpointStore.CheckpointStore
        // Where one writes at a time, the claim waits for the transaction: then it comes before the commit, or after it.
        const thief = yield* Effect.fork(
          store.claim({ name: tenantId }, { owner: "thief", takeFrom: token, lease: "1 hour" })
        )
        yield* Effect.sleep("50 millis")
        yield* Deferred.succeed(go, undefined)
        const lease = Option.getOrThrow(yield* Fiber.join(thief))
        const handled = yield* handledOf(streamOf(tenantId, "a"))
        assert.deepStrictEqual(handled, lease.position === 0 ? [] : range(3))
        yield* store.release(lease)
        yield* Fiber.join(worker)
        assert.deepStrictEqual(yield* handledOf(streamOf(tenantId, "a")), range(3))
      }))

    test("with atLeastOnce a handler is interrupted when its partition is lost, and the next one begins anew", (tenantId) =>
      Effect.gen(function* () {
        yield* append(tenantId, "a", 3)
        const [begun, interrupted] = [yield* Deferred.make<void>(), yield* Deferred.make<void>()]
        const stuck = projection(tenantId, {
          delivery: "atLeastOnce",
          lease: 300,
          handle: () =>
            Effect.onInterrupt(Effect.zipRight(Deferred.succeed(begun, undefined), Effect.never), () =>
              Deferred.succeed(interrupted, undefined)
            )
        })
        const worker = yield* Effect.fork(Projection.run(stuck))
        yield* Deferred.await(begun)
        const store = yield* CheckpointStore.CheckpointStore
        const steal = Effect.flatMap(tokenOf(tenantId), (takeFrom) =>
          store.claim({ name: tenantId }, { owner: "thief", takeFrom, lease: "1 hour" })
        )
        // On a busy machine the worker may claim it anew between the two.
        const lease = yield* eventually(steal, Option.isSome)
        yield* Deferred.await(interrupted)
        yield* Fiber.interrupt(worker)
        yield* store.release(Option.getOrThrow(lease))
        yield* Projection.catchUp(projection(tenantId, { delivery: "atLeastOnce" }))
        assert.deepStrictEqual(yield* handledOf(streamOf(tenantId, "a")), range(3))
      }))

    test("a lease is kept while a handler takes longer than it", (tenantId) =>
      Effect.gen(function* () {
        yield* append(tenantId, "a", 1)
        const runs = yield* Ref.make(0)
        for (const delivery of ["exactlyOnce", "atLeastOnce"] as const) {
          const long = projection(tenantId, {
            name: `${tenantId} ${delivery}`,
            delivery,
            // Long enough for a renewal to come in time on a busy machine.
            lease: "3 seconds",
            handle: () =>
              Effect.zipRight(
                Ref.update(runs, (n) => n + 1),
                Effect.sleep("5 seconds")
              )
          })
          yield* Effect.all([Projection.catchUp(long), Projection.catchUp(long)], { concurrency: 2 })
        }
        assert.strictEqual(yield* Ref.get(runs), 2)
      }))

    test("how far a partition is behind shows while its handler is at work, and nothing when it is given back", (tenantId) =>
      Effect.gen(function* () {
        const lag = () =>
          Metric.unsafeSnapshot(undefined).flatMap(({ metricKey, metricState }) =>
            metricKey.name === "effect_stores_projection_lag" &&
            metricKey.tags.some(({ value }) => value === tenantId) &&
            metricKey.tags.some(({ key, value }) => key === "partition" && value === "0") &&
            MetricState.isGaugeState(metricState)
              ? [metricState.value]
              : []
          )
        yield* append(tenantId, "a", 3)
        const begun = yield* Deferred.make<void>()
        const stuck = projection(tenantId, {
          handle: () => Effect.zipRight(Deferred.succeed(begun, undefined), Effect.never)
        })
        const worker = yield* Effect.fork(Projection.run(stuck))
        yield* Deferred.await(begun)
        assert.isAtLeast(Number(lag()[0]), 3)
        yield* Fiber.interrupt(worker)
        assert.deepStrictEqual(lag(), [0])
      }))

    test("a rebuild goes on beside the one in service, from the beginning", (tenantId) =>
      Effect.gen(function* () {
        yield* append(tenantId, "a", 3)
        yield* Projection.catchUp(projection(tenantId))
        const rebuilt = yield* Ref.make<ReadonlyArray<number>>([])
        const next = projection(tenantId, {
          generation: 2,
          handle: (events, { generation }) =>
            Ref.update(rebuilt, (all) => [...all, ...events.map(({ version }) => version * generation)])
        })
        yield* Projection.catchUp(next)
        assert.deepStrictEqual(yield* Ref.get(rebuilt), [2, 4, 6])
        yield* append(tenantId, "a", 1)
        yield* Projection.catchUp(projection(tenantId))
        assert.deepStrictEqual(yield* handledOf(streamOf(tenantId, "a")), range(4))
        const [before, after] = [yield* Projection.status(projection(tenantId)), yield* Projection.status(next)]
        assert.isAbove(before.partitions[0]?.position ?? 0, after.partitions[0]?.position ?? 0)
      }))

    test("an event whose decoding dies is one that does not fit", (tenantId) =>
      Effect.gen(function* () {
        yield* append(tenantId, "a", 1)
        const Broken = Schema.transform(Counted, Schema.typeSchema(Counted), {
          decode: (): typeof Counted.Type => {
            throw new Error("a bug")
          },
          encode: (counted) => counted
        })
        const broken = Projection.make({
          name: tenantId,
          delivery: "exactlyOnce",
          retry: Schedule.recurs(0),
          onFailure: "skip",
          events: Broken,
          filter: { tenantId },
          handle: () => Effect.void
        })
        yield* Projection.catchUp(broken)
        assert.deepStrictEqual(
          (yield* lettersOf(tenantId)).map(({ reason }) => reason),
          ["Error"]
        )
      }))

    test("a checkpoint that the store has never come to is refused, and not taken for caught up", (tenantId) =>
      Effect.gen(function* () {
        const { position } = yield* append(tenantId, "a", 1)
        const store = yield* CheckpointStore.CheckpointStore
        yield* store.open({ name: tenantId })
        const lease = Option.getOrThrow(yield* store.claim({ name: tenantId }, { owner: "one" }))
        yield* store.release(yield* store.commit(lease, position + 1_000_000))
        for (const running of [Projection.catchUp(projection(tenantId)), Projection.run(projection(tenantId))]) {
          assert.instanceOf(yield* Effect.flip(running), Errors.InvalidInput)
        }
      }))

    test("of two that try dead letters again at once one stops when it has lost the partition", (tenantId) =>
      Effect.gen(function* () {
        yield* append(tenantId, "a", 1)
        const failing = projection(tenantId, { onFailure: "skip", handle: () => Effect.fail("no") })
        yield* Projection.catchUp(failing)
        for (const _ of range(2)) yield* append(tenantId, "a", 1)
        yield* Projection.catchUp(failing)
        const [begun, go] = [yield* Deferred.make<void>(), yield* Deferred.make<void>()]
        const handled = yield* Ref.make(0)
        const slow = projection(tenantId, {
          delivery: "atLeastOnce",
          handle: () =>
            Ref.update(handled, (n) => n + 1).pipe(
              Effect.zipRight(Deferred.succeed(begun, undefined)),
              Effect.zipRight(Deferred.await(go))
            )
        })
        const first = yield* Effect.fork(Projection.retryDeadLetters(slow))
        yield* Deferred.await(begun)
        assert.strictEqual(yield* Projection.retryDeadLetters(projection(tenantId)), 0)
        yield* Deferred.succeed(go, undefined)
        assert.strictEqual(yield* Fiber.join(first), 0)
        assert.strictEqual(yield* Ref.get(handled), 1)
      }))

    test("checkpoints that are deleted while it runs begin anew", (tenantId) =>
      Effect.gen(function* () {
        const seen = yield* Ref.make<ReadonlyArray<number>>([])
        const counters = projection(tenantId, {
          lease: 300,
          handle: (events) => Ref.update(seen, (all) => [...all, ...events.map(({ version }) => version)])
        })
        const { position } = yield* append(tenantId, "a", 2)
        const worker = yield* Effect.fork(Projection.run(counters))
        yield* Projection.awaitPosition(counters, position, { timeout: "1 minute" })
        const store = yield* CheckpointStore.CheckpointStore
        yield* store.delete({ name: tenantId, generation: 1 })
        yield* Projection.awaitPosition(counters, position, { timeout: "1 minute" })
        yield* Fiber.interrupt(worker)
        assert.deepStrictEqual(yield* Ref.get(seen), [1, 2, 1, 2])
      }))
  })

projections(
  "projections in memory",
  Layer.mergeAll(
    EventStoreMemory.layerFromDatabase(),
    CheckpointStoreMemory.layerFromDatabase(),
    SnapshotStoreMemory.layerFromDatabase()
  ).pipe(Layer.provide(MemoryDatabase.layer))
)

projections(
  "projections on SQLite",
  Layer.mergeAll(
    EventStoreSqlite.layerFromDatabase(),
    CheckpointStoreSqlite.layerFromDatabase(),
    SnapshotStoreSqlite.layerFromDatabase()
  ).pipe(Layer.provide(SqliteDatabase.layer({ filename: path.join(temporaryDirectory(), "projections.db") })))
)

describePg("on PostgreSQL", async () => {
  const url = Redacted.make(await freshDatabase())
  projections(
    "projections on PostgreSQL",
    Layer.mergeAll(
      EventStorePg.layerFromDatabase(),
      CheckpointStorePg.layerFromDatabase(),
      SnapshotStorePg.layerFromDatabase()
    ).pipe(Layer.provide(PgDatabase.layer({ url })))
  )
})

describe("a wait for a position", () => {
  const stores = Layer.merge(EventStoreMemory.layer(), CheckpointStoreMemory.layer())

  effectIt.effect("ends with how far it has come, and with nothing if it was never run", () =>
    Effect.gen(function* () {
      const counters = projection("acme", { partitions: 2 })
      // Where nothing was appended there is nothing to wait for.
      yield* Projection.awaitPosition(counters, 0)
      const never = yield* Effect.fork(Effect.flip(Projection.awaitPosition(counters, 1)))
      yield* TestClock.adjust("10 seconds")
      const error = yield* Fiber.join(never)
      assert.instanceOf(error, Projection.ProjectionBehind)
      assert.deepInclude({ ...error }, { projection: "acme", position: 1, reached: 0 })
      assert.strictEqual(error.name, "ProjectionBehind")

      const store = yield* CheckpointStore.CheckpointStore
      yield* store.open({ name: "acme" }, { partitions: 2 })
      const positions = [7, 5]
      for (const [partition, position] of positions.entries()) {
        const lease = yield* store.claim({ name: "acme" }, { owner: "me", partition })
        yield* store.commit(Option.getOrThrow(lease), position)
      }
      yield* Projection.awaitPosition(counters, 5)
      const behind = yield* Effect.fork(Effect.flip(Projection.awaitPosition(counters, 6, { timeout: "1 minute" })))
      yield* TestClock.adjust(Duration.minutes(1))
      assert.deepInclude({ ...(yield* Fiber.join(behind)) }, { position: 6, reached: 5 })
    }).pipe(Effect.provide(stores))
  )

  effectIt.effect("of what is no position, or with what is no time, is InvalidInput", () =>
    Effect.gen(function* () {
      const counters = projection("acme")
      for (const position of [-1, 0.5, Number.NaN]) {
        const error = yield* Effect.flip(Projection.awaitPosition(counters, position))
        assert.deepInclude(error, { _tag: "InvalidInput", what: "position" })
      }
      const error = yield* Effect.flip(Projection.awaitPosition(counters, 1, { timeout: -1 }))
      assert.deepInclude(error, { _tag: "InvalidInput", what: "options.timeout" })
    }).pipe(Effect.provide(stores))
  )
})

describe("the progress of a projection", () => {
  effectIt.effect("tells how far it has come, how fast and how long it still takes, until it has caught up", () =>
    Effect.gen(function* () {
      const counters = projection("acme", { partitions: 2 })
      yield* append("acme", "a", 100)
      const head = yield* Effect.flatMap(EventStore.EventStore, (store) => store.head)
      const store = yield* CheckpointStore.CheckpointStore
      yield* store.open({ name: "acme" }, { partitions: 2 })
      const seen = yield* Ref.make<ReadonlyArray<Projection.Progress>>([])
      const looks = yield* Effect.fork(
        Stream.runForEach(Projection.progress(counters), (progress) => Ref.update(seen, (all) => [...all, progress]))
      )
      const come = (share: number) =>
        Effect.forEach([0, 1], (partition) =>
          Effect.gen(function* () {
            const lease = Option.getOrThrow(yield* store.claim({ name: "acme" }, { owner: "me", partition }))
            yield* store.release(yield* store.commit(lease, Math.floor(head * share)))
          })
        )
      yield* TestClock.adjust(0)
      yield* come(0.25)
      yield* TestClock.adjust("1 second")
      yield* come(0.5)
      yield* TestClock.adjust("1 second")
      yield* come(1)
      yield* TestClock.adjust("1 second")
      yield* Fiber.join(looks)
      const found = yield* Ref.get(seen)
      assert.deepStrictEqual(
        found.map(({ done }) => done),
        [0, Math.floor(head / 4), Math.floor(head / 2), head]
      )
      assert.deepStrictEqual(found[0]?.left, Option.none())
      assert.deepStrictEqual(found[2]?.rate, found[2] === undefined ? 0 : found[2].done / 2)
      const left = found[2] === undefined ? Number.NaN : ((head - found[2].done) / found[2].rate) * 1000
      assert.deepStrictEqual(Option.map(found[2]?.left ?? Option.none(), Duration.toMillis), Option.some(left))
    }).pipe(Effect.provide(Layer.merge(EventStoreMemory.layer(), CheckpointStoreMemory.layer())))
  )
})

describe("the rate of a projection", () => {
  effectIt.effect("is that since the first look, which has none, wherever it stood then", () =>
    Effect.gen(function* () {
      yield* append("acme", "a", 100)
      const store = yield* CheckpointStore.CheckpointStore
      yield* store.open({ name: "acme" })
      const lease = Option.getOrThrow(yield* store.claim({ name: "acme" }, { owner: "me", lease: "1 hour" }))
      const later = yield* store.commit(lease, 40)
      yield* TestClock.adjust("1 minute")
      const looks = yield* Effect.fork(Stream.runCollect(Stream.take(Projection.progress(projection("acme")), 2)))
      yield* TestClock.adjust(0)
      yield* store.commit(later, 60)
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(
        [...(yield* Fiber.join(looks))],
        [
          { done: 40, total: 100, rate: 0, left: Option.none() },
          { done: 60, total: 100, rate: 20, left: Option.some(Duration.seconds(2)) }
        ]
      )
    }).pipe(Effect.provide(Layer.merge(EventStoreMemory.layer(), CheckpointStoreMemory.layer())))
  )
})

describe("the looks of progress", () => {
  const stores = Layer.merge(EventStoreMemory.layer(), CheckpointStoreMemory.layer())

  effectIt.effect("are as often as is said", () =>
    Effect.gen(function* () {
      yield* append("acme", "a")
      const looks = yield* Ref.make(0)
      const count = () => Ref.update(looks, (n) => n + 1)
      yield* Effect.fork(Stream.runForEach(Projection.progress(projection("acme"), { every: "10 millis" }), count))
      yield* TestClock.adjust("25 millis")
      assert.strictEqual(yield* Ref.get(looks), 3)
    }).pipe(Effect.provide(stores))
  )

  effectIt.effect("with options that are none, or with what is no time, are InvalidInput", () =>
    Effect.gen(function* () {
      for (const [what, options] of [
        ["options.every", { every: 0 }],
        ["a key of options", { evry: 1 }]
      ] as const) {
        const looks = Projection.progress(projection("acme"), options as never)
        assert.deepInclude(yield* Effect.flip(Stream.runDrain(looks)), { _tag: "InvalidInput", what })
      }
    }).pipe(Effect.provide(stores))
  )
})

describe("a failure", () => {
  const stores = Layer.merge(EventStoreMemory.layer(), CheckpointStoreMemory.layer())

  effectIt.effect("is kept as its tag, its name or its kind, and not with what its message says", () =>
    Effect.gen(function* () {
      const reasons: ReadonlyArray<readonly [failure: unknown, reason: string]> = [
        [{ _tag: "NoRoom", message: "a secret" }, "NoRoom"],
        [new RangeError("a secret"), "RangeError"],
        ["a secret", "string"],
        [{ why: "a secret" }, "object"],
        [null, "object"],
        [undefined, "undefined"],
        [{ _tag: 7 }, "unknown"],
        [{ _tag: "x".repeat(256) }, "unknown"]
      ]
      const failing = projection("acme", {
        delivery: "atLeastOnce",
        onFailure: "skip",
        handle: ([event]) => Effect.fail(reasons[(event?.version ?? 0) - 1]?.[0])
      })
      yield* append("acme", "a", reasons.length)
      yield* Projection.catchUp(failing)
      const store = yield* CheckpointStore.CheckpointStore
      const letters = yield* Stream.runCollect(store.deadLetters({ name: "acme" }))
      assert.deepStrictEqual(
        [...letters].map(({ reason }) => reason),
        reasons.map(([, reason]) => reason)
      )
    }).pipe(Effect.provide(stores))
  )

  effectIt.effect("of a store is counted, and waited for twice as long each time until something was done", () =>
    Effect.gen(function* () {
      const away = new Errors.StoreUnavailable({ operation: "x", retryable: true, cause: new Error("away") })
      const attempts: Array<number> = []
      const done = new Set([8, 11])
      const flaky = projection("away", {
        delivery: "atLeastOnce",
        batchSize: 1,
        handle: () =>
          Effect.flatMap(Clock.currentTimeMillis, (ms) =>
            done.has(attempts.push(ms)) ? Effect.void : Effect.fail(away)
          )
      })
      yield* append("away", "a", 2)
      const catchingUp = yield* Effect.fork(Projection.catchUp(flaky))
      yield* TestClock.adjust("20 seconds")
      assert.isTrue(Option.isSome(yield* Fiber.poll(catchingUp)))
      assert.deepStrictEqual(
        attempts.slice(1).map((ms, i) => ms - (attempts[i] ?? 0)),
        [200, 400, 800, 1_600, 3_200, 5_000, 5_000, 0, 100, 200]
      )
      const counted = Metric.unsafeSnapshot(undefined).flatMap(({ metricKey, metricState }) => {
        const labels = new Map(metricKey.tags.map(({ key, value }) => [key, value]))
        const isOurs = metricKey.name === "effect_stores_projection_failures" && labels.get("projection") === "away"
        return isOurs && MetricState.isCounterState(metricState) ? [[labels.get("outcome"), metricState.count]] : []
      })
      assert.deepStrictEqual(counted, [["unavailable", 9]])
    }).pipe(Effect.provide(stores))
  )
})

describe("the partitions that a process claims", () => {
  /** Of one projection, by who has them; those of nobody are "". */
  const claims = (owners: ReadonlyArray<string>) => {
    const checkpoints = owners.map((owner, partition) => ({
      name: "acme",
      generation: 1,
      partition,
      partitions: owners.length,
      position: 0,
      token: 1,
      owner: owner === "" ? Option.none() : Option.some(owner),
      leaseLeft: owner === "" ? Duration.zero : Duration.seconds(1)
    }))
    const own = new Set(owners.flatMap((owner, partition) => (owner === "me" ? [partition] : [])))
    const { free, richest, share } = wanted(checkpoints, "me", own)
    return [share, free, richest?.partition]
  }

  it("are free ones up to its share, and one of whoever has at least two more", () => {
    expect(claims(["", "", "", ""])).toEqual([4, [0, 1, 2, 3], undefined])
    expect(claims(["a", "", "me", ""])).toEqual([2, [1, 3], undefined])
    expect(claims(["a", "", "b", "", ""])).toEqual([2, [1, 3, 4], undefined])
    expect(claims(["a", "b", "a", "a", "me"])).toEqual([2, [], 3])
    expect(claims(["a", "a", "me"])).toEqual([2, [], undefined])
    expect(claims(["me", "me"])).toEqual([2, [], undefined])
  })
})

describe("a projection that is run", () => {
  effectIt.effect("waits for a CheckpointStore that is away, and warns by its name", () =>
    Effect.gen(function* () {
      const store = yield* CheckpointStore.CheckpointStore
      const warnings: Array<string> = []
      const logger = Logger.make(({ message }) => void warnings.push(String(message)))
      const away = new Errors.StoreUnavailable({ operation: "x", retryable: true, cause: new Error("away") })
      let calls = 0
      const open: CheckpointStore.CheckpointStoreShape["open"] = (follower, options) =>
        Effect.suspend(() => (++calls < 3 ? Effect.fail(away) : store.open(follower, options)))
      const handled = yield* Deferred.make<void>()
      const counters = projection("acme", { handle: () => Deferred.succeed(handled, undefined) })
      yield* append("acme", "a")
      const worker = yield* Projection.run(counters).pipe(
        Effect.provideService(CheckpointStore.CheckpointStore, { ...store, open }),
        Effect.provide(Logger.replace(Logger.defaultLogger, logger)),
        Effect.fork
      )
      yield* TestClock.adjust("2 seconds")
      yield* Deferred.await(handled)
      yield* Fiber.interrupt(worker)
      assert.deepStrictEqual(
        warnings.map((warning) => warning.includes("acme")),
        [true, true]
      )
    }).pipe(Effect.provide(Layer.merge(EventStoreMemory.layer(), CheckpointStoreMemory.layer())))
  )
})

describe("a partition that is held", () => {
  const stores = Layer.merge(EventStoreMemory.layer(), CheckpointStoreMemory.layer())

  effectIt.effect("is let go when another has taken it over while a store was away", () =>
    Effect.gen(function* () {
      const begun = yield* Deferred.make<void>()
      const away = new Errors.StoreUnavailable({ operation: "x", retryable: true, cause: new Error("away") })
      const handle = () => Effect.zipRight(Deferred.succeed(begun, undefined), Effect.fail(away))
      const { position } = yield* append("acme", "a")
      const catchingUp = yield* Effect.fork(Projection.catchUp(projection("acme", { handle })))
      yield* Deferred.await(begun)
      const store = yield* CheckpointStore.CheckpointStore
      const takeFrom = yield* tokenOf("acme")
      const lease = yield* store.claim({ name: "acme" }, { owner: "thief", takeFrom, lease: "1 hour" })
      yield* store.commit(Option.getOrThrow(lease), position)
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(yield* Fiber.poll(catchingUp), Option.some(Exit.succeed(position)))
    }).pipe(Effect.provide(stores))
  )

  effectIt.effect("is claimed anew as often as it takes while a transaction that was lost still has it", () =>
    Effect.gen(function* () {
      const store = yield* CheckpointStore.CheckpointStore
      const away = new Errors.StoreUnavailable({ operation: "x", retryable: true, cause: new Error("away") })
      const attempts: Array<number> = []
      const handle = () =>
        Effect.flatMap(Clock.currentTimeMillis, (ms) => (attempts.push(ms) === 1 ? Effect.fail(away) : Effect.void))
      // Until a server ends that transaction, it gives the checkpoint to nobody.
      let refused = 0
      const claim: CheckpointStore.CheckpointStoreShape["claim"] = (follower, options) =>
        Effect.suspend(() =>
          options.takeFrom !== undefined && ++refused <= 3 ? Effect.succeedNone : store.claim(follower, options)
        )
      yield* append("acme", "a")
      const worker = yield* Projection.run(projection("acme", { handle })).pipe(
        Effect.provideService(CheckpointStore.CheckpointStore, { ...store, claim }),
        Effect.fork
      )
      yield* TestClock.adjust("1 second")
      yield* Fiber.interrupt(worker)
      assert.deepStrictEqual(attempts, [0, 500])
    }).pipe(Effect.provide(stores))
  )

  effectIt.effect("is renewed in the handler's transaction where that keeps every other renewal waiting", () =>
    Effect.gen(function* () {
      const [begun, go] = [yield* Deferred.make<void>(), yield* Deferred.make<void>()]
      const store = yield* CheckpointStore.CheckpointStore
      const leftMs = yield* Ref.make<ReadonlyArray<number>>([])
      const long = projection("acme", {
        lease: "3 seconds",
        handle: () =>
          Effect.gen(function* () {
            yield* Deferred.succeed(begun, undefined)
            yield* Deferred.await(go)
            const found = yield* Stream.runCollect(store.list({ name: "acme" }))
            yield* Ref.set(
              leftMs,
              [...found].map(({ leaseLeft }) => Duration.toMillis(leaseLeft))
            )
          })
      })
      yield* append("acme", "a")
      const catchingUp = yield* Effect.fork(Projection.catchUp(long))
      yield* Deferred.await(begun)
      yield* TestClock.adjust("4 seconds")
      yield* Deferred.succeed(go, undefined)
      yield* Fiber.join(catchingUp)
      // A third of the lease after its claim it was to be renewed, and a third later it was renewed here.
      assert.deepStrictEqual(yield* Ref.get(leftMs), [1_000])
    }).pipe(Effect.provide(stores))
  )
})

describe("a definition", () => {
  const right = { name: "p", delivery: "exactlyOnce", events: Known, handle: () => Effect.void } as const
  const wrong: ReadonlyArray<readonly [what: string, options: object]> = [
    ["name", { ...right, name: "" }],
    ["generation", { ...right, generation: 0 }],
    ["delivery", { ...right, delivery: "atMostOnce" }],
    ["delivery", { ...right, delivery: undefined }],
    ["events", { ...right, events: {} }],
    ["filter.types", { ...right, filter: { types: [] } }],
    ["filter.types[1]", { ...right, filter: { types: ["Counted", "Unknown"] } }],
    ["a key of filter", { ...right, filter: { domains: ["a"] } }],
    ["partitions", { ...right, partitions: 1_001 }],
    ["batchSize", { ...right, batchSize: 0 }],
    ["lease", { ...right, lease: 99 }],
    ["retry", { ...right, retry: 3 }],
    ["onFailure", { ...right, onFailure: "ignore" }],
    ["handle", { ...right, handle: Effect.void }],
    ["a key of options", { ...right, batchsize: 3 }]
  ]
  for (const [what, options] of wrong) {
    it(`is refused and names ${what}: ${Object.keys(options).length} keys`, () => {
      expect(() => Projection.make(options as never)).toThrow(expect.objectContaining({ _tag: "InvalidInput", what }))
    })
  }

  effectIt.effect("whose Schema does not tell its types reads all of them, or those that the filter names", () =>
    Effect.gen(function* () {
      for (const type of ["One", "Other"]) yield* append("acme", "a", 1, { type, data: { n: 1 } })
      const readBy = (name: string, filter: EventStore.Filter) =>
        Effect.gen(function* () {
          const seen = yield* Ref.make<ReadonlyArray<string>>([])
          const any = Projection.make({
            name,
            delivery: "atLeastOnce",
            events: Schema.Struct({ _tag: Schema.String, n: Schema.Number }),
            filter,
            handle: (events) => Ref.update(seen, (all) => [...all, ...events.map(({ data }) => data._tag)])
          })
          yield* Projection.catchUp(any)
          return yield* Ref.get(seen)
        })
      assert.deepStrictEqual(yield* readBy("all", {}), ["One", "Other"])
      assert.deepStrictEqual(yield* readBy("some", { types: ["Other"] }), ["Other"])
    }).pipe(Effect.provide(Layer.merge(EventStoreMemory.layer(), CheckpointStoreMemory.layer())))
  )

  effectIt.effect("whose Schema has its types behind transformations still reads only those", () =>
    Effect.gen(function* () {
      const seen = yield* Ref.make<ReadonlyArray<string>>([])
      const Old = Schema.TaggedStruct("Old", { n: Schema.NumberFromString })
      class Modern extends Schema.TaggedClass<Modern>()("Modern", { n: Schema.Number }) {}
      const upcast = Schema.transform(Old, Schema.typeSchema(Modern), {
        strict: true,
        decode: ({ n }) => new Modern({ n }),
        encode: ({ n }) => ({ _tag: "Old" as const, n })
      })
      const numbers = Projection.make({
        name: "numbers",
        delivery: "atLeastOnce",
        events: Schema.Union(upcast, Modern),
        handle: (events) => Ref.update(seen, (all) => [...all, ...events.map(({ data }) => `${data._tag} ${data.n}`)])
      })
      yield* append("acme", "a", 1, { type: "Old", data: { n: "1" } })
      yield* append("acme", "a", 1, { type: "Other", data: {} })
      yield* append("acme", "a", 1, { type: "Modern", data: { n: 2 } })
      yield* Projection.catchUp(numbers)
      assert.deepStrictEqual(yield* Ref.get(seen), ["Modern 1", "Modern 2"])
    }).pipe(Effect.provide(Layer.merge(EventStoreMemory.layer(), CheckpointStoreMemory.layer())))
  )
})
