/**
 * What readers and writers of stores with subjects see: replacements in the place of what was forgotten, objects that
 * are being read or were copied, rules that err, and options that do not fit.
 */
import assert from "node:assert/strict"
import { Cause, Chunk, Deferred, Effect, Exit, Layer, Option, Schema, Stream } from "effect"
import {
  Aggregate,
  CacheStore,
  CommandStore,
  CryptoService,
  DataStore,
  EventStore,
  SnapshotPolicy,
  SnapshotStore,
  Subjects
} from "effect-stores"
import { SubjectKeysMemory } from "effect-stores/memory"
import { describe, test } from "vitest"
import { inFiles, inMemory } from "./places.js"
import {
  customer,
  gone,
  movableClock,
  objectOf,
  ordersOf,
  type Place,
  processOf,
  rules,
  run,
  seen,
  shred,
  streamOf,
  whole,
  write
} from "./subjects.js"
import { allStores, bucket, idOf, ring, tenantId } from "./worlds.js"

interface Tagged {
  readonly _tag: string
  readonly message: string
}

const failureOf = async <A>(process: Layer.Layer<A, unknown>): Promise<Tagged> => {
  const exit = await Effect.runPromiseExit(Effect.scoped(Layer.build(process)))
  assert.ok(Exit.isFailure(exit), "must fail")
  const failure = Cause.failureOption(exit.cause)
  assert.ok(Option.isSome(failure), Cause.pretty(exit.cause))
  return failure.value as Tagged
}

const Registered = Schema.TaggedStruct("Registered", { name: Schema.NonEmptyString })
const Ordered = Schema.TaggedStruct("Ordered", { of: Schema.String, at: Schema.optional(Schema.DateTimeUtc) })
const CustomerEvent = Schema.Union(Registered, Ordered)
const Register = Schema.TaggedStruct("Register", { customer: Schema.String })
const Sum = Schema.Struct({ sum: Schema.String })

const replacing: Subjects.Options = {
  ...rules,
  replacements: {
    events: [
      Subjects.replacement(CustomerEvent, { _tag: "Registered", name: "forgotten" }),
      Subjects.replacement(CustomerEvent, { _tag: "Ordered", of: "forgotten" })
    ],
    commands: [
      Subjects.replacement(
        Register,
        { _tag: "Register", customer: "forgotten" },
        { outcome: { schema: Sum, value: { sum: "none" } } }
      )
    ]
  }
}

describe("a declared replacement", () => {
  test("stands in streams, feeds, pages and alone, is marked, and reads as its Schema says", async () => {
    const where = await inFiles()
    await run(
      processOf(where, replacing),
      Effect.gen(function* () {
        yield* write("c-1")
        yield* write("c-2")
        const [events, commands] = yield* allStores
        const before = Chunk.toReadonlyArray(yield* Stream.runCollect(events.feed()))
        yield* shred("c-1")
        const after = Chunk.toReadonlyArray(yield* Stream.runCollect(events.feed()))
        assert.deepEqual(after.map(Subjects.isReplaced), [true, true, true, false, false, false])
        for (const [i, event] of after.entries()) {
          const { data, metadata, ...rest } = event
          const { data: _, metadata: __, ...was } = before[i] as EventStore.Event
          assert.deepEqual(rest, was)
          if (!Subjects.isReplaced(event)) assert.deepEqual(event, before[i])
        }
        assert.deepEqual(
          after.slice(0, 3).map(({ data }) => data),
          [{ name: "forgotten" }, { name: "forgotten" }, { of: "forgotten" }]
        )
        const page = yield* events.page({ limit: 2 })
        assert.deepEqual(page.events.map(Subjects.isReplaced), [true, true])
        const alone = yield* events.get((before[0] as EventStore.Event).id)
        assert.ok(Option.isSome(alone) && Subjects.isReplaced(alone.value))
        const typed = EventStore.forSchema(CustomerEvent)
        const decoded = Chunk.toReadonlyArray(yield* Stream.runCollect(typed.read(streamOf("c-1"))))
        assert.deepEqual(
          decoded.map(({ data }) => data),
          [
            { _tag: "Registered", name: "forgotten" },
            { _tag: "Registered", name: "forgotten" }
          ]
        )
        const log = Chunk.toReadonlyArray(yield* Stream.runCollect(commands.list()))
        assert.deepEqual(
          log.map((command) => [Subjects.isReplaced(command), command.data, command.outcome]),
          [
            [true, { customer: "forgotten" }, Option.some({ sum: "none" })],
            [false, { customer: "c-2" }, Option.some({ sum: "c-2" })]
          ].map(([replaced, data, outcome]) => [replaced, data, outcome])
        )
      })
    )
  })

  test("lets a subscription go on, and an aggregate load, also where its snapshot was sealed for the subject", async () => {
    const where = await inMemory()
    const Customer = Aggregate.make({
      domain: "Customer",
      state: Schema.Struct({ names: Schema.Array(Schema.String) }),
      event: CustomerEvent,
      initial: { names: [] },
      evolve: (state, event) => (event._tag === "Registered" ? { names: [...state.names, event.name] } : state),
      snapshots: SnapshotPolicy.every(1)
    })
    const id = { tenantId, aggregateId: "c-1" }
    await run(
      processOf(where, replacing),
      Effect.gen(function* () {
        const snapshots = yield* SnapshotStore.SnapshotStore
        yield* Aggregate.append(Customer, id, [{ _tag: "Registered", name: "somebody" }], { expected: "noStream" })
        assert.deepEqual((yield* Aggregate.load(Customer, id)).state, { names: ["somebody"] })
        yield* snapshots.flush(streamOf("c-1"))
        assert.deepEqual((yield* Aggregate.load(Customer, id)).snapshotVersion, 1)
        yield* shred("c-1")
        const loaded = yield* Aggregate.load(Customer, id)
        assert.deepEqual([loaded.state, loaded.snapshotVersion], [{ names: ["forgotten"] }, 0])
        yield* snapshots.flush(streamOf("c-1"))
        assert.equal((yield* Effect.flip(snapshots.latest(streamOf("c-1"))))._tag, "Shredded")
        const events = yield* EventStore.EventStore
        const lived = yield* Stream.runCollect(Stream.take(events.subscribe(), 1))
        assert.ok(Subjects.isReplaced(Chunk.unsafeHead(lived)))
        const refused = yield* Effect.flip(
          Aggregate.append(Customer, id, [{ _tag: "Registered", name: "again" }], { expected: "any" })
        )
        assert.equal(refused._tag, "SubjectShredded")
      })
    )
    // Without one the load fails, and says why.
    await run(
      processOf(where),
      Effect.gen(function* () {
        assert.equal((yield* Effect.flip(Aggregate.load(Customer, id)))._tag, "Shredded")
      })
    )
  })

  test("may be another one in a domain", async () => {
    const where = await inMemory()
    const options: Subjects.Options = {
      ...rules,
      replacements: {
        events: [
          Subjects.replacement(Registered, { _tag: "Registered", name: "anywhere" }),
          Subjects.replacement(Registered, { _tag: "Registered", name: "of customers" }, { domain: "Customer" })
        ]
      }
    }
    await run(
      processOf(where, options),
      Effect.gen(function* () {
        const events = yield* EventStore.EventStore
        const event = { type: "Registered", data: { name: "n" }, metadata: { customer: "c-1" } }
        for (const stream of [streamOf("c-1"), ordersOf("c-1")])
          yield* events.append(stream, [event], { expected: "noStream" })
        yield* shred("c-1")
        const found = Chunk.toReadonlyArray(yield* Stream.runCollect(events.feed()))
        assert.deepEqual(
          found.map(({ data }) => data),
          [{ name: "of customers" }, { name: "anywhere" }]
        )
      })
    )
  })

  const refused: ReadonlyArray<readonly [what: string, replacements: unknown, expected: RegExp]> = [
    [
      "does not fit its Schema",
      { events: [Subjects.replacement(Registered, { _tag: "Registered", name: "" })] },
      /replacements\.events\[0\]: does not fit the schema/
    ],
    [
      "is declared twice",
      {
        commands: [
          Subjects.replacement(Register, { _tag: "Register", customer: "a" }),
          Subjects.replacement(Register, { _tag: "Register", customer: "b" })
        ]
      },
      /replacements\.commands\[1\]: declares Register again/
    ],
    ["was not made by `replacement`", { events: [{ type: "Registered" }] }, /replacements\.events\[0\]: must be made/],
    [
      "has an outcome that does not fit",
      {
        commands: [
          Subjects.replacement(
            Register,
            { _tag: "Register", customer: "a" },
            { outcome: { schema: Schema.NonEmptyString, value: "" } }
          )
        ]
      },
      /replacements\.commands\[0\]/
    ],
    ["is for another store", { snapshots: [] }, /replacements/]
  ]
  for (const [what, replacements, expected] of refused) {
    test(`that ${what} is refused when the layer is built`, async () => {
      const where = await inMemory()
      const error = await failureOf(processOf(where, { ...rules, replacements: replacements as never }))
      assert.equal(error._tag, "InvalidInput")
      assert.match(error.message, expected)
    })
  }
})

describe("an object of a subject", () => {
  test("that is being read ends when the time that was stated is over, and one that was opened is not read later", async () => {
    const where = await inFiles()
    const { clock, forward } = movableClock()
    await Effect.runPromise(
      Effect.gen(function* () {
        const one = Effect.provide(yield* Layer.build(processOf(where)))
        const other = Effect.provide(yield* Layer.build(processOf(where)))
        const stores = yield* other(allStores)
        yield* one(
          Effect.gen(function* () {
            const objects = yield* DataStore.DataStore
            yield* objects.buckets.create(bucket)
            yield* objects.put(objectOf("c-1"), Buffer.alloc(8 * 2 ** 20, "a"), { metadata: { customer: "c-1" } })
          })
        )
        const found = Option.getOrThrow(yield* stores[4].get(objectOf("c-1")))
        const begun = yield* Deferred.make<void>()
        const goes = yield* Deferred.make<void>()
        let bytes = 0
        const reading = yield* Effect.fork(
          Effect.flip(
            Stream.runForEach(found.body, (piece) =>
              Effect.suspend(() => {
                bytes += piece.length
                return Effect.zipRight(Deferred.succeed(begun, undefined), Deferred.await(goes))
              })
            )
          )
        )
        yield* Deferred.await(begun)
        yield* one(shred("c-1"))
        yield* forward(5_000)
        yield* Deferred.succeed(goes, undefined)
        assert.equal((yield* reading.await.pipe(Effect.flatten))._tag, "Shredded")
        assert.ok(bytes < 8 * 2 ** 20, `${bytes} bytes were read`)
        assert.equal((yield* Effect.flip(Stream.runDrain(found.body)))._tag, "Shredded")
      }).pipe(Effect.scoped, Effect.withClock(clock))
    )
  })

  test("that was copied or moved to a place that is nobody's by the rules stays the subject's", async () => {
    const where = await inMemory()
    await run(
      processOf(where, { objects: ({ name }) => (name.startsWith("of/") ? customer(name.slice(3)) : undefined) }),
      Effect.gen(function* () {
        const objects = yield* DataStore.DataStore
        yield* objects.buckets.create(bucket)
        for (const id of ["c-1", "c-2"]) yield* objects.put({ bucket, name: `of/${id}` }, Buffer.from(id))
        yield* objects.copy({ bucket, name: "of/c-1" }, { bucket, name: "copy" })
        yield* objects.copy({ bucket, name: "of/c-1" }, { bucket, name: "of/c-2/copy" })
        yield* objects.move({ bucket, name: "of/c-2" }, { bucket, name: "moved" })
        yield* shred("c-1")
        for (const name of ["of/c-1", "copy", "of/c-2/copy"])
          assert.equal((yield* Effect.flip(objects.get({ bucket, name })))._tag, "Shredded")
        assert.ok(Option.isSome(yield* objects.get({ bucket, name: "moved" })))
        // It is listed all the same.
        const names = Chunk.toReadonlyArray(yield* Stream.runCollect(objects.list(bucket)))
        assert.equal(names.length, 4)
        yield* shred("c-2")
        assert.equal((yield* Effect.flip(objects.get({ bucket, name: "moved" })))._tag, "Shredded")
      })
    )
  })
})

describe("a record that is written anew", () => {
  test("stays the subject's, whatever it says now", async () => {
    const where = await inMemory()
    const id = idOf(1)
    await run(
      processOf(where),
      Effect.gen(function* () {
        const [events, commands] = yield* allStores
        const event = { id, type: "Ordered", data: { of: "c-1" }, metadata: { customer: "c-1" } }
        yield* events.append(ordersOf("c-1"), [event], { expected: "noStream" })
        yield* events.maintenance.update(id, { data: { of: "?" }, metadata: {} })
        const command = { id, tenantId, domain: "Customer", type: "Register", data: { customer: "c-1" } }
        yield* commands.create(command)
        yield* commands.update(id, { data: {}, status: "failed", outcome: { no: 1 } })
        assert.equal((yield* Stream.runHead(events.feed())).pipe(Option.isSome), true)
        yield* shred("c-1")
        assert.equal((yield* Effect.flip(Stream.runDrain(events.feed())))._tag, "Shredded")
        assert.equal((yield* Effect.flip(commands.get(id)))._tag, "Shredded")
        for (const update of [
          events.maintenance.update(id, { data: {}, metadata: {} }),
          commands.update(id, { data: {}, metadata: {} }),
          commands.update(id, { status: "succeeded", outcome: { of: "c-1" } })
        ])
          assert.equal((yield* Effect.flip(update))._tag, "SubjectShredded")
        // Without anything of the subject's to write it is changed.
        yield* commands.update(id, { status: "failed" })
      })
    )
  })

  test("by a command that is executed: its outcome is the subject's too", async () => {
    const where = await inMemory()
    const execution = { id: idOf(2), tenantId, domain: "Customer", type: "Register", data: { customer: "c-1" } }
    await run(
      processOf(where),
      Effect.gen(function* () {
        const commands = yield* CommandStore.CommandStore
        const options = { success: Sum }
        yield* commands.execute(execution, Effect.succeed({ sum: "c-1" }), options)
        yield* shred("c-1")
        const again = yield* Effect.flip(commands.execute(execution, Effect.succeed({ sum: "again" }), options))
        assert.equal((again as Tagged)._tag, "SubjectShredded")
        const counts = yield* CryptoService.countKeys([commands])
        assert.deepEqual(
          counts.filter(({ store }) => store === "CommandStore"),
          [{ store: "CommandStore", keyId: "*", records: 1 }]
        )
        // One that is at work when its subject is forgotten cannot leave its outcome.
        const next = { ...execution, id: idOf(3), data: { customer: "c-2" } }
        const late = yield* Effect.flip(commands.execute(next, Effect.as(shred("c-2"), { sum: "late" }), options))
        assert.equal((late as Tagged)._tag, "SubjectShredded")
      })
    )
  })

  test("and whose subject is forgotten meanwhile does not run again, in any process", async () => {
    const where = await inMemory()
    const execution = { id: idOf(4), tenantId, domain: "Customer", type: "Register", data: { customer: "c-1" } }
    await Effect.runPromise(
      Effect.gen(function* () {
        const one = Effect.provide(yield* Layer.build(processOf(where)))
        const other = Effect.provide(yield* Layer.build(processOf(where)))
        // It has the key for as long as was stated.
        yield* other(write("c-1"))
        let runs = 0
        const execute = (effect: Effect.Effect<unknown, unknown, never>) =>
          Effect.flatMap(CommandStore.CommandStore, (commands) =>
            commands.execute(
              execution,
              Effect.suspend(() => {
                runs++
                return Effect.as(effect, { sum: "done" })
              }),
              { success: Sum }
            )
          )
        const services = yield* one(Effect.context<CryptoService.CryptoService | Subjects.ShredLedger>())
        const forgets = Effect.provide(shred("c-1"), services)
        assert.equal(((yield* one(Effect.flip(execute(forgets)))) as Tagged)._tag, "SubjectShredded")
        yield* other(Effect.flip(execute(Effect.void)))
        assert.equal(runs, 1)
      }).pipe(Effect.scoped)
    )
  })
})

describe("a cached value of a subject", () => {
  test("is loaded anew for whoever asks, and kept by nobody", async () => {
    const where = await inMemory()
    await run(
      processOf(where),
      Effect.gen(function* () {
        const cache = yield* CacheStore.CacheStore
        yield* write("c-1")
        yield* shred("c-1")
        const load = cache.getOrSet(tenantId, "customer:c-1", Effect.succeed({ name: "loaded" }), { ttl: "1 hour" })
        assert.deepEqual(yield* load, { name: "loaded" })
        assert.deepEqual(yield* cache.get(tenantId, "customer:c-1"), Option.none())
      })
    )
  })
})

describe("rules", () => {
  const appending = async (events: NonNullable<Subjects.Options["events"]>) => {
    const where = await inMemory()
    return await run(
      processOf(where, { events }),
      Effect.flatMap(EventStore.EventStore, (store) =>
        Effect.zip(
          Effect.either(store.append(ordersOf("c-1"), [{ type: "Ordered", data: { n: 1 } }], { expected: "any" })),
          store.count()
        )
      )
    )
  }

  test("that throw, or return what names no subject, fail the write, and nothing is written", async () => {
    for (const rule of [
      () => {
        throw new Error("a mistake of the rule")
      },
      () => 7 as never,
      () => "",
      () => "x".repeat(256),
      () => ({ id: "c-1" }) as never
    ]) {
      const [outcome, count] = await appending(rule)
      assert.ok(outcome._tag === "Left" && outcome.left._tag === "StoreError", JSON.stringify(outcome))
      assert.match(outcome.left.message, /the rule whose the event .* is failed/)
      assert.equal(count, 0)
    }
  })

  test("see the record as it is given", async () => {
    const seen: Array<unknown> = []
    await appending((event) => {
      seen.push({ ...event })
      return undefined
    })
    assert.deepEqual(seen, [{ ...ordersOf("c-1"), type: "Ordered", data: { n: 1 }, metadata: {} }])
  })

  test("of which one is no function, or is misspelt, are refused when the layer is built", async () => {
    const where = await inMemory()
    for (const options of [
      { events: "Customer" },
      { domains: "Customer" },
      { domains: [""] },
      { evnets: () => undefined },
      { lifetime: "-1 second" },
      { lifetime: 0 },
      { lifetime: "2 hours" },
      null
    ]) {
      const error = await failureOf(processOf(where, options as never))
      assert.equal(error._tag, "InvalidInput", JSON.stringify(options))
    }
  })

  test("are given once", async () => {
    const where = await inMemory()
    const twice = ring(["k1"]).pipe(
      Subjects.withRules(rules),
      Subjects.withRules(rules),
      Layer.provide(Layer.merge(where.keys, where.ledger))
    )
    assert.equal((await failureOf(twice))._tag, "InvalidInput")
  })

  test("are needed to forget", async () => {
    const where: Place = await inMemory()
    const process = Layer.merge(ring(["k1"]), where.ledger)
    const refused = await run(process, Effect.all([Effect.flip(shred("c-1")), Effect.flip(Subjects.replay)]))
    assert.deepEqual(
      refused.map(({ _tag }) => _tag),
      ["InvalidInput", "InvalidInput"]
    )
  })

  test("take a lifetime that no process may exceed", async () => {
    const keys = SubjectKeysMemory.layer()
    const shared = await Effect.runPromise(Effect.scoped(Layer.build(keys)))
    const where = { ...(await inMemory()), keys: Layer.succeedContext(shared) }
    const within = (lifetime: Subjects.Options["lifetime"]) =>
      run(
        processOf(where, { ...rules, lifetime }),
        Effect.map(shred("c-1"), ({ within }) => String(within))
      )
    assert.equal(await within("2 seconds"), await within("1 second"))
    const error = await failureOf(processOf(where, { ...rules, lifetime: "3 seconds" }))
    assert.match(error.message, /lifetime: must be at most 2000 ms/)
  })

  test("leave a store with another policy as it is", async () => {
    const where = await inMemory()
    await run(
      processOf(where, rules, ["k1"], { policy: "ForbidEncryptAllowDecrypt" }),
      Effect.gen(function* () {
        yield* write("c-1")
        assert.deepEqual(yield* seen("c-1"), whole)
      })
    )
    await run(
      processOf(where, rules, ["k1"], { policy: "EncryptAllowPlaintext" }),
      Effect.gen(function* () {
        const stores = yield* allStores
        const { unreached } = yield* shred("c-2", { stores })
        assert.deepEqual(unreached, [])
        yield* Stream.runDrain(CryptoService.reencrypt(stores))
        assert.deepEqual((yield* shred("c-1", { stores })).unreached, [])
        assert.deepEqual(yield* seen("c-1"), gone)
      })
    )
  })

  test("ask for a subject with a tenant and an id", async () => {
    const where = await inMemory()
    const process = processOf(where)
    for (const subject of [{ tenantId }, { tenantId, id: "" }, { tenantId, id: "c-1", purpose: "x" }, "c-1", null]) {
      const error = await run(process, Effect.flip(Subjects.shred(subject as never)))
      assert.equal(error._tag, "InvalidInput", JSON.stringify(subject))
    }
    const error = await run(process, Effect.flip(Subjects.shred(customer("c-1"), { stores: [{}] as never })))
    assert.equal(error._tag, "InvalidInput")
    assert.throws(() => Subjects.reference({ tenantId, id: "\ud800" }), { _tag: "InvalidInput" })
    assert.equal(
      Subjects.reference(customer("c-1")),
      "7ade7e18467962171bf5810513bed37a2c4d21da20f5bf0d5e42368736fa896c"
    )
  })
})
