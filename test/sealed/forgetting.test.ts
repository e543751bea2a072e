/**
 * A subject that is forgotten: in every store, in every process within the stated time, against whoever writes
 * meanwhile, and after a restore of what was there before.
 */
import assert from "node:assert/strict"
import { randomUUID } from "node:crypto"
import { Chunk, Deferred, Duration, Effect, Fiber, Layer, Logger, Schema, Stream } from "effect"
import { CommandStore, CommandWorker, CryptoService, EventStore, Subjects } from "effect-stores"
import { afterAll, describe, test } from "vitest"
import { describePg, describeRedis, describeWith } from "../support/backends.js"
import { startCeph } from "../support/s3.js"
import { inFiles, inMemory, inRedisAndFiles, onS3, onServer } from "./places.js"
import {
  everyWrite,
  gone,
  movableClock,
  ordersOf,
  type Place,
  processOf,
  rules,
  run,
  seen,
  shred,
  streamOf,
  tagOf,
  whole,
  withKeys,
  write,
  written
} from "./subjects.js"
import { allStores, tenantId } from "./worlds.js"

const lifetimeMs = 5_000

const forgets = (name: string, place: () => Promise<Place>): void => {
  test(`${name}: nothing of the subject is read any more, in any store, and everything of others is`, async () => {
    const where = await place()
    await run(
      processOf(where),
      Effect.gen(function* () {
        yield* write("c-1")
        yield* write("c-2")
        yield* EventStore.EventStore.pipe(
          Effect.flatMap((events) =>
            events.append({ tenantId, domain: "Order", aggregateId: "o" }, [{ type: "Opened", data: {} }], {
              expected: "noStream"
            })
          )
        )
        assert.deepEqual([yield* seen("c-1"), yield* seen("c-2")], [whole, whole])
        const shredding = yield* shred("c-1", { stores: yield* allStores })
        assert.deepEqual(shredding.unreached, [])
        assert.match(shredding.keyId ?? "", /^[0-9a-f]{16}$/)
        assert.equal(Duration.toMillis(shredding.within), lifetimeMs)
        assert.deepEqual([yield* seen("c-1"), yield* seen("c-2")], [gone, whole])
        // Also what was read before in this process.
        assert.deepEqual(yield* written("c-1"), everyWrite("SubjectShredded"))
        assert.deepEqual([yield* seen("c-1"), yield* seen("c-2")], [gone, whole])
        // Again is the same.
        const again = yield* shred("c-1")
        assert.deepEqual([again.keyId, again.shreddedAt], [shredding.keyId, shredding.shreddedAt])
      })
    )
    await run(
      processOf(where),
      Effect.gen(function* () {
        assert.deepEqual([yield* seen("c-1"), yield* seen("c-2")], [gone, whole])
        assert.deepEqual(yield* written("c-1"), everyWrite("SubjectShredded"))
        assert.deepEqual(yield* written("c-2"), everyWrite("done"))
        const { count, page } = yield* Effect.flatMap(EventStore.EventStore, (events) =>
          Effect.all({ count: events.count(), page: Effect.flip(events.page({ limit: 100 })) })
        )
        // Rows are counted, and a page with one of them fails as a whole.
        assert.deepEqual([count, page._tag], [9, "Shredded"])
      })
    )
  })

  test(`${name}: a command is cancelled, or given up by a worker, which says so`, async () => {
    const where = await place()
    await run(
      processOf(where),
      Effect.gen(function* () {
        const store = yield* CommandStore.CommandStore
        const command = { tenantId, domain: "Order", type: "Forgotten", data: { customer: "c-9" } }
        const ids = [randomUUID(), randomUUID()] as const
        for (const id of ids) yield* store.create({ ...command, id })
        yield* shred("c-9")
        assert.deepEqual([yield* store.cancel(ids[0]), yield* store.cancel(ids[0])], [true, false])
        const handler = CommandWorker.handler(Schema.TaggedStruct("Forgotten", {}), () => Effect.void)
        const logged: Array<string> = []
        const logger = Logger.replace(
          Logger.defaultLogger,
          Logger.make(({ message }) => logged.push(String(message)))
        )
        const worker = CommandWorker.make({ name: "w", attempts: 1, handlers: [handler] })
        assert.equal(yield* Effect.provide(CommandWorker.catchUp(worker), logger), 0)
        assert.equal(yield* store.count({ types: ["Forgotten"], statuses: ["failed"] }), 2)
        assert.match(logged.at(-1) ?? "", /was given up after 1 attempt: Shredded/)
      })
    )
  })

  test(`${name}: a process that has the key goes on until it has to ask again, and what it wrote is gone too`, async () => {
    const where = await place()
    const { clock, forward } = movableClock()
    await Effect.runPromise(
      Effect.gen(function* () {
        const one = Effect.provide(yield* Layer.build(processOf(where)))
        const other = Effect.provide(yield* Layer.build(processOf(where)))
        yield* one(write("c-1"))
        assert.deepEqual(yield* other(seen("c-1")), whole)
        assert.deepEqual((yield* other(written("c-1"))).stream, "done")
        yield* one(shred("c-1"))
        assert.deepEqual(yield* one(seen("c-1")), gone)
        // It cannot know, and the time that was stated is not over.
        assert.equal((yield* other(written("c-1"))).stream, "done")
        assert.equal((yield* one(seen("c-1"))).stream, "Shredded")
        yield* forward(lifetimeMs)
        assert.deepEqual(yield* other(seen("c-1")), gone)
        assert.deepEqual(yield* other(written("c-1")), everyWrite("SubjectShredded"))
      }).pipe(Effect.scoped, Effect.withClock(clock))
    )
  })

  test(`${name}: two processes that first write for a subject at the same time get one key`, async () => {
    const where = await place()
    await Effect.runPromise(
      Effect.gen(function* () {
        const one = Effect.provide(yield* Layer.build(processOf(where)))
        const other = Effect.provide(yield* Layer.build(processOf(where)))
        const append = (n: number) =>
          Effect.flatMap(EventStore.EventStore, (events) =>
            events.append(ordersOf(`n-${n}`), [{ type: "Ordered", data: {}, metadata: { customer: "c-1" } }], {
              expected: "any"
            })
          )
        yield* Effect.forEach(
          Array.from({ length: 40 }, (_, n) => n),
          (n) => (n % 2 === 0 ? one : other)(append(n)),
          { concurrency: "unbounded" }
        )
        const events = yield* one(Effect.flatMap(EventStore.EventStore, (events) => Stream.runCount(events.feed())))
        const keys = yield* one(Effect.flatMap(Subjects.SubjectKeys, (keys) => keys.count))
        assert.deepEqual([events, keys], [40, 1])
      }).pipe(Effect.scoped)
    )
  })

  test(`${name}: of 100 appends while the subject is forgotten nothing is readable`, async () => {
    const where = await place()
    const { clock, forward } = movableClock()
    await Effect.runPromise(
      Effect.gen(function* () {
        const [asked, goes] = yield* Effect.all([Deferred.make<void>(), Deferred.make<void>()])
        const held = withKeys(where, (port) => ({
          ...port,
          shred: (request) =>
            Deferred.succeed(asked, undefined).pipe(
              Effect.zipRight(Deferred.await(goes)),
              Effect.zipRight(port.shred(request))
            )
        }))
        const one = Effect.provide(yield* Layer.build(processOf(held)))
        const other = Effect.provide(yield* Layer.build(processOf(where)))
        const append = (n: number) =>
          Effect.flatMap(EventStore.EventStore, (events) =>
            events.append(ordersOf(`n-${n % 7}`), [{ type: "Ordered", data: { n }, metadata: { customer: "c-1" } }], {
              expected: "any"
            })
          )
        yield* one(append(0))
        yield* other(append(1))
        const appended = (from: number, to: number) =>
          Effect.forEach(
            Array.from({ length: to - from }, (_, i) => from + i),
            (n) => Effect.exit((n % 2 === 0 ? one : other)(append(n))),
            { concurrency: "unbounded" }
          )
        // 40 that begin before the tombstone is set and end whenever they like, then 60 after it.
        const before = yield* Effect.fork(Effect.zipRight(Deferred.await(asked), appended(0, 40)))
        const shredding = yield* Effect.fork(one(shred("c-1")))
        yield* Deferred.await(asked)
        yield* Deferred.succeed(goes, undefined)
        yield* Fiber.join(shredding)
        const after = yield* appended(40, 100)
        const outcomes = [...(yield* Fiber.join(before)), ...after].map(tagOf)
        assert.deepEqual(
          outcomes.filter((tag) => tag !== "done" && tag !== "SubjectShredded"),
          []
        )
        // The process that forgot knows it, the other does not yet.
        assert.deepEqual(
          after.map(tagOf),
          after.map((_, i) => (i % 2 === 0 ? "SubjectShredded" : "done"))
        )
        yield* forward(lifetimeMs)
        const third = Effect.provide(yield* Layer.build(processOf(where)))
        for (const use of [one, other, third]) {
          const stores = yield* use(allStores)
          const unopened = Chunk.toReadonlyArray(yield* Stream.runCollect(CryptoService.findUnopened(stores)))
          const written = yield* use(Effect.flatMap(EventStore.EventStore, (events) => events.count()))
          assert.equal(written, 2 + outcomes.filter((tag) => tag === "done").length)
          assert.deepEqual(
            [unopened.length, new Set(unopened.map(({ error }) => error._tag))],
            [written, new Set(["Shredded"])]
          )
          assert.equal(tagOf(yield* Effect.exit(use(append(200)))), "SubjectShredded")
        }
      }).pipe(Effect.scoped, Effect.withClock(clock))
    )
  })

  test(`${name}: who never had a key is a tombstone too`, async () => {
    const where = await place()
    await run(
      processOf(where),
      Effect.gen(function* () {
        assert.equal((yield* shred("c-9")).keyId, undefined)
        assert.deepEqual(yield* written("c-9"), everyWrite("SubjectShredded"))
      })
    )
    await run(
      processOf(where),
      Effect.gen(function* () {
        assert.deepEqual(yield* written("c-9"), everyWrite("SubjectShredded"))
      })
    )
  })

  test(`${name}: a rotation wraps the keys anew and leaves what they have sealed as it is`, async () => {
    const where = await place()
    await run(
      processOf(where),
      Effect.gen(function* () {
        yield* write("c-1")
        yield* write("c-2")
        yield* shred("c-1")
      })
    )
    const before = await run(processOf(where, rules, ["k2", "k1"]), counts)
    assert.deepEqual(before, {
      "EventStore *": 6,
      "CommandStore *": 2,
      "SnapshotStore *": 2,
      "CacheStore *": 2,
      "DataStore *": 2,
      "SubjectKeys k1": 1
    })
    await run(
      processOf(where, rules, ["k2", "k1"]),
      Effect.gen(function* () {
        const reports = Chunk.toReadonlyArray(
          yield* Stream.runCollect(CryptoService.reencrypt(yield* allStores, { exclusive: true }))
        )
        const last = reports[reports.length - 1]
        assert.ok(last?._tag === "Progress")
        assert.deepEqual([last.resealed, last.left], [1, 0])
      })
    )
    await run(
      processOf(where, rules, ["k2"]),
      Effect.gen(function* () {
        const { "SubjectKeys k1": wrapped, ...others } = before
        assert.deepEqual(yield* counts, { ...others, "SubjectKeys k2": wrapped })
        assert.deepEqual([yield* seen("c-1"), yield* seen("c-2")], [gone, whole])
      })
    )
  })

  test(`${name}: what was written before there were rules is said to be unreached, until it is sealed anew`, async () => {
    const where = await place()
    const none: Subjects.Options = {}
    await run(
      processOf(where, none),
      Effect.gen(function* () {
        yield* write("c-1")
        yield* write("c-2")
      })
    )
    await run(
      processOf(where),
      Effect.gen(function* () {
        const stores = yield* allStores
        const { unreached } = yield* shred("c-3", { stores })
        assert.deepEqual(unreached, [])
        const reports = Chunk.toReadonlyArray(
          yield* Stream.runCollect(CryptoService.reencrypt(stores, { exclusive: true }))
        )
        assert.deepEqual(
          reports.filter(({ _tag }) => _tag === "Unopened"),
          []
        )
        assert.deepEqual(yield* seen("c-1"), whole)
        assert.deepEqual((yield* shred("c-1", { stores })).unreached, [])
        assert.deepEqual([yield* seen("c-1"), yield* seen("c-2")], [gone, whole])
      })
    )
    // Without rules again: what it writes is the ring's.
    await run(
      processOf(where, none),
      Effect.gen(function* () {
        const events = yield* EventStore.EventStore
        yield* events.append(streamOf("c-2"), [{ type: "Registered", data: {} }], { expected: "any" })
      })
    )
    await run(
      processOf(where),
      Effect.gen(function* () {
        const stores = yield* allStores
        const { unreached } = yield* shred("c-2", { stores })
        assert.deepEqual(
          unreached.map(({ error, keyIds, store }) => ({ error, keyIds, store })),
          [{ error: undefined, keyIds: ["k1"], store: "EventStore" }]
        )
        assert.match(unreached[0]?.place ?? "", /acme\/Customer\/c-2, version 3/)
        // It cannot be sealed with a key that is gone, and is said to be left.
        const reports = Chunk.toReadonlyArray(yield* Stream.runCollect(CryptoService.reencrypt(stores)))
        const [missed] = reports.filter((report) => report._tag === "Unopened")
        assert.equal(missed?._tag === "Unopened" && missed.error._tag, "SubjectShredded")
      })
    )
  })
}

const counts = Effect.map(
  Effect.flatMap(allStores, (stores) => CryptoService.countKeys(stores)),
  (all) => Object.fromEntries(all.map(({ keyId, records, store }) => [`${store} ${keyId}`, records]))
)

describe("forgetting", () => {
  forgets("in memory", inMemory)
  forgets("in files", inFiles)
  describePg("on a server", () => forgets("PostgreSQL", onServer))
  describeRedis("in Redis and in files", () => forgets("Redis and files", inRedisAndFiles))
  describeWith("ceph", "objects on S3", async () => {
    const server = await startCeph()
    afterAll(server.stop)
    forgets("S3", onS3(server))
  })
})
