/**
 * Transactions in memory: what others see, who waits, how savepoints nest, and what is left when one is cut off. What
 * commands promise in transactions is tested as on the SQL databases.
 */
import { Chunk, Context, Deferred, Effect, Exit, Fiber, Layer, Option, Scope, Stream, TestContext } from "effect"
import { CheckpointStore, CommandStore, CommandStoreEncoded, EventStore, SnapshotStore } from "effect-stores"
import {
  CheckpointStoreMemory,
  CommandStoreMemory,
  EventStoreMemory,
  MemoryDatabase,
  SnapshotStoreMemory
} from "effect-stores/memory"
import { describe, expect, it } from "vitest"
import { commandsInTransactions, newCommand } from "./support/commandsOnSql.js"

const stores = Layer.provideMerge(
  Layer.mergeAll(
    EventStoreMemory.layerFromDatabase(),
    CommandStoreMemory.layerFromDatabase(),
    SnapshotStoreMemory.layerFromDatabase(),
    CheckpointStoreMemory.layerFromDatabase()
  ),
  MemoryDatabase.layer
)

const all = Effect.all({
  events: EventStore.EventStore,
  commands: CommandStore.CommandStore,
  snapshots: SnapshotStore.SnapshotStore,
  checkpoints: CheckpointStore.CheckpointStore,
  database: MemoryDatabase.MemoryDatabase
})

type Stores = Effect.Effect.Success<typeof all>

const run = <A, E>(body: (stores: Stores) => Effect.Effect<A, E, Scope.Scope>) =>
  Effect.runPromise(Effect.flatMap(all, body).pipe(Effect.scoped, Effect.provide(stores)))

const streamOf = (aggregateId: string): EventStore.StreamId => ({ tenantId: "t", domain: "d", aggregateId })
const event = { type: "Happened", data: 1 }
const snapshot = {
  version: 1,
  lastEventMark: "00000000-0000-0000-0000-000000000001",
  schemaVersion: "1",
  state: 1
}
const follower = { name: "follower", generation: 1 }
const deadLetter = (position: number) => ({
  ...streamOf("a"),
  eventId: "00000000-0000-0000-0000-000000000001",
  position,
  type: "Happened",
  reason: "EventDecodeError",
  scope: "event" as const
})

/** Everything that can be read, in a form that is compared by value. */
const everything = ({ checkpoints, commands, events, snapshots }: Stores) =>
  Effect.gen(function* () {
    const log = Chunk.toArray(yield* Stream.runCollect(events.feed()))
    return {
      head: yield* events.head,
      log: log.map(({ aggregateId, data, id, position, version }) => ({ aggregateId, data, id, position, version })),
      read: yield* Effect.forEach(["a", "b"], (id) => events.fold(streamOf(id), 0, (count) => count + 1)),
      versions: yield* Effect.forEach(["a", "b"], (id) => events.version(streamOf(id))),
      byId: yield* Effect.forEach(log, ({ id }) => Effect.map(events.get(id), Option.isSome)),
      streams: (yield* events.info).streams,
      commands: Chunk.toArray(yield* Stream.runCollect(commands.list())).map(({ id, status }) => ({ id, status })),
      snapshots: Option.map(yield* snapshots.latest(streamOf("a")), ({ version }) => version),
      checkpoints: Chunk.toArray(yield* Stream.runCollect(checkpoints.list())).map(
        ({ owner, partition, position, token }) => ({ owner, partition, position, token })
      ),
      deadLetters: Chunk.toArray(yield* Stream.runCollect(checkpoints.deadLetters(follower))).map(
        ({ position }) => position
      )
    }
  })

/** What is there before, so that there is something to change: two streams, two commands, a snapshot, a follower. */
const prepare = ({ checkpoints, commands, events, snapshots }: Stores) =>
  Effect.gen(function* () {
    yield* events.append(streamOf("a"), [event, event], { expected: "noStream" })
    yield* events.append(streamOf("b"), [event], { expected: "noStream" })
    const [first, second] = [newCommand(), newCommand()]
    yield* commands.create(first)
    yield* commands.create(second)
    yield* snapshots.save(streamOf("a"), snapshot)
    yield* checkpoints.open(follower, { partitions: 3 })
    const lease = yield* checkpoints.claim(follower, { owner: "one", partition: 1, lease: "1 hour" })
    yield* checkpoints.commit(Option.getOrThrow(lease), 7, { deadLetters: [deadLetter(5), deadLetter(6)] })
    return first
  })

/** One of every kind of write, on what is there and on what is new. */
const change = ({ checkpoints, commands, events, snapshots }: Stores, command: CommandStore.NewCommand) =>
  Effect.gen(function* () {
    const [first] = Chunk.toArray(yield* Stream.runCollect(events.feed({ limit: 1 }))) as [EventStore.Event]
    yield* events.append(streamOf("a"), [event], { expected: 2 })
    yield* events.maintenance.update(first.id, { data: "changed" })
    yield* events.append(streamOf("c"), [event], { expected: "noStream" })
    yield* events.maintenance.deleteStream(streamOf("b"))
    yield* events.append(streamOf("b"), [event, event, event], { expected: "noStream" })
    yield* commands.delete(command.id)
    yield* commands.create(newCommand())
    yield* snapshots.save(streamOf("a"), { ...snapshot, version: 3 })
    yield* checkpoints.delete(follower)
    yield* checkpoints.open(follower, { partitions: 2 })
  })

const resetAll = ({ checkpoints, commands, events, snapshots }: Stores) =>
  Effect.all([events.maintenance.reset, commands.reset, snapshots.reset, checkpoints.reset])

/** Turns inside of each other would overflow the stack long before. */
const waiting = 4_000

describe("a transaction in memory", () => {
  const ends: Readonly<Record<string, Effect.Effect<never, string>>> = {
    "a failure": Effect.fail("down"),
    "a defect": Effect.die(new Error("a bug")),
    "an interruption": Effect.interrupt
  }
  for (const [name, end] of Object.entries(ends)) {
    it(`${name} undoes every kind of write, in all stores on the database`, () =>
      run((stores) =>
        Effect.gen(function* () {
          const command = yield* prepare(stores)
          const before = yield* everything(stores)
          const work = change(stores, command)
          for (const body of [work, Effect.zipRight(work, resetAll(stores)), Effect.zipRight(resetAll(stores), work)]) {
            const exit = yield* Effect.exit(stores.database.transaction(Effect.zipRight(Effect.exit(body), end)))
            expect(Exit.isFailure(exit)).toBe(true)
            expect(yield* everything(stores)).toEqual(before)
            const opened = yield* stores.checkpoints.open(follower, { partitions: 3 })
            expect(opened.map(({ partition, position }) => [partition, position])).toEqual([
              [0, 0],
              [1, 7],
              [2, 0]
            ])
          }
          // What comes next goes on from there.
          yield* work
          expect((yield* everything(stores)).versions).toEqual([3, 3])
        })
      ))
  }

  it("others see none of it until it is committed, and then all; they don't wait to read", () =>
    run((stores) =>
      Effect.gen(function* () {
        const command = yield* prepare(stores)
        const before = yield* everything(stores)
        const [changed, goOn] = [yield* Deferred.make<void>(), yield* Deferred.make<void>()]
        const fiber = yield* Effect.fork(
          stores.database.transaction(
            Effect.gen(function* () {
              yield* change(stores, command)
              const own = yield* everything(stores)
              yield* Deferred.succeed(changed, undefined)
              yield* Deferred.await(goOn)
              yield* stores.events.append(streamOf("a"), [event], { expected: 3 })
              return own
            })
          )
        )
        yield* Deferred.await(changed)
        expect(yield* everything(stores)).toEqual(before)
        // A page that was read in between starts from the same state.
        expect(yield* everything(stores)).toEqual(before)
        yield* Deferred.succeed(goOn, undefined)
        const own = yield* Fiber.join(fiber)
        expect(own.versions).toEqual([3, 3])
        const after = yield* everything(stores)
        expect(after.versions).toEqual([4, 3])
        expect(after.log.length).toBe(own.log.length + 1)
      })
    ))

  it("writes and transactions of others wait for its end, in order of arrival", () =>
    run(({ database, events }) =>
      Effect.gen(function* () {
        const [begun, goOn] = [yield* Deferred.make<void>(), yield* Deferred.make<void>()]
        const append = (type: string) => events.append(streamOf("a"), [{ type, data: 1 }], { expected: "any" })
        const first = yield* Effect.fork(
          database.transaction(
            Effect.all([append("1"), Deferred.succeed(begun, undefined), Deferred.await(goOn), append("2")])
          )
        )
        yield* Deferred.await(begun)
        const waiting = [
          yield* Effect.fork(append("3")),
          yield* Effect.fork(database.transaction(Effect.all([append("4"), Effect.yieldNow(), append("5")]))),
          yield* Effect.fork(append("6"))
        ]
        const given = yield* Effect.fork(append("interrupted"))
        yield* Effect.yieldNow()
        expect(waiting.map((fiber) => fiber.unsafePoll())).toEqual([null, null, null])
        yield* Fiber.interrupt(given)
        yield* Deferred.succeed(goOn, undefined)
        yield* Effect.forEach([first, ...waiting], (fiber: Fiber.Fiber<unknown, unknown>) => Fiber.join(fiber))
        const types = yield* events.fold(streamOf("a"), "", (types, { type }) => types + type)
        expect(types).toBe("123456")
      })
    ))

  it("any number of writes that wait get their turn, and no turn is inside of another", () =>
    run(({ database, events }) =>
      Effect.gen(function* () {
        const [begun, goOn] = [yield* Deferred.make<void>(), yield* Deferred.make<void>()]
        yield* Effect.fork(
          database.transaction(Effect.zipRight(Deferred.succeed(begun, undefined), Deferred.await(goOn)))
        )
        yield* Deferred.await(begun)
        const append = events.append(streamOf("a"), [event], { expected: "any" })
        const writes = Effect.replicateEffect(append, waiting, { concurrency: "unbounded", discard: true })
        const fiber = yield* Effect.fork(writes)
        yield* Effect.yieldNow()
        yield* Deferred.succeed(goOn, undefined)
        yield* Fiber.join(fiber)
        expect(yield* events.version(streamOf("a"))).toBe(waiting)
      })
    ))

  it("a conflict and a repeat leave it usable", () =>
    run(({ database, events }) =>
      Effect.gen(function* () {
        const given = { ...event, id: crypto.randomUUID() }
        yield* database.transaction(
          Effect.gen(function* () {
            yield* events.append(streamOf("a"), [given], { expected: "noStream" })
            expect((yield* Effect.flip(events.append(streamOf("a"), [event], { expected: 7 })))._tag).toBe(
              "VersionConflict"
            )
            expect((yield* events.append(streamOf("a"), [given], { expected: "noStream" })).version).toBe(1)
            yield* events.append(streamOf("a"), [event], { expected: 1 })
          })
        )
        expect(yield* events.version(streamOf("a"))).toBe(2)
      })
    ))

  it("wakes subscribers when it is committed, and not before", () =>
    run(({ database, events }) =>
      Effect.gen(function* () {
        const seen: Array<number> = []
        const subscriber = yield* Effect.fork(
          Stream.runForEach(events.subscribe({ limit: 2 }), ({ version }) =>
            Effect.sync(() => seen.push(version))
          ).pipe(
            // Nobody moves its clock, so it never polls.
            Effect.provide(TestContext.TestContext)
          )
        )
        yield* Effect.yieldNow()
        yield* database.transaction(
          Effect.gen(function* () {
            yield* events.append(streamOf("a"), [event, event], { expected: "any" })
            for (let i = 0; i < 100; i++) yield* Effect.yieldNow()
            expect(seen).toEqual([])
          })
        )
        yield* Fiber.join(subscriber)
        expect(seen).toEqual([1, 2])
      })
    ))
})

describe("a transaction inside another", () => {
  const append = ({ events }: Stores, id: string) => events.append(streamOf(id), [event], { expected: "any" })

  it("its failure, when caught, undoes only its own writes", () =>
    run((stores) =>
      Effect.gen(function* () {
        const { database } = stores
        yield* database.transaction(
          Effect.gen(function* () {
            yield* append(stores, "a")
            yield* Effect.ignore(database.transaction(Effect.zipRight(append(stores, "b"), Effect.fail("no"))))
            yield* database.transaction(append(stores, "a"))
          })
        )
        expect((yield* everything(stores)).versions).toEqual([2, 0])
      })
    ))

  it("what it has committed is undone with the outer one", () =>
    run((stores) =>
      Effect.gen(function* () {
        const { database } = stores
        const before = yield* everything(stores)
        const inner = database.transaction(
          Effect.zipRight(append(stores, "b"), database.transaction(append(stores, "a")))
        )
        yield* Effect.flip(database.transaction(Effect.zipRight(inner, Effect.fail("no"))))
        expect(yield* everything(stores)).toEqual(before)
      })
    ))

  it("siblings wait for it", () =>
    run((stores) =>
      Effect.gen(function* () {
        const { database, events } = stores
        const order: Array<string> = []
        const step = (name: string) => Effect.tap(append(stores, "a"), () => Effect.sync(() => order.push(name)))
        const [begun, goOn] = [yield* Deferred.make<void>(), yield* Deferred.make<void>()]
        yield* database.transaction(
          Effect.gen(function* () {
            const inner = yield* Effect.fork(
              database.transaction(
                Effect.all([step("in"), Deferred.succeed(begun, undefined), Deferred.await(goOn), step("in")])
              )
            )
            yield* Deferred.await(begun)
            const write = yield* Effect.fork(step("beside"))
            const read = yield* Effect.fork(events.version(streamOf("a")))
            yield* Effect.yieldNow()
            expect([write.unsafePoll(), read.unsafePoll()]).toEqual([null, null])
            yield* Deferred.succeed(goOn, undefined)
            yield* Fiber.join(inner)
            yield* Fiber.join(write)
            expect(yield* Fiber.join(read)).toBe(3)
          })
        )
        expect(order).toEqual(["in", "in", "beside"])
      })
    ))

  it("one that outlives the outer one makes it fail, and both are undone", () =>
    run((stores) =>
      Effect.gen(function* () {
        const { database } = stores
        const [begun, goOn] = [yield* Deferred.make<void>(), yield* Deferred.make<void>()]
        let left: Fiber.Fiber<unknown, unknown> | undefined
        const outer = Effect.gen(function* () {
          yield* append(stores, "a")
          const steps = [
            append(stores, "a"),
            Deferred.succeed(begun, undefined),
            Deferred.await(goOn),
            append(stores, "a")
          ]
          left = yield* Effect.forkDaemon(
            database.transaction(Effect.all(steps as Array<Effect.Effect<unknown, unknown>>))
          )
          yield* Deferred.await(begun)
        })
        const error = yield* Effect.flip(database.transaction(outer))
        expect(error).toMatchObject({ _tag: "StoreError", operation: "COMMIT" })
        // The next transaction is not touched by what was left behind.
        yield* database.transaction(append(stores, "b"))
        yield* Deferred.succeed(goOn, undefined)
        expect(Exit.isFailure(yield* Fiber.await(left as Fiber.Fiber<unknown, unknown>))).toBe(true)
        expect((yield* everything(stores)).versions).toEqual([0, 1])
      })
    ))

  for (const [how, end] of [
    ["has ended", Effect.void],
    ["was undone", Effect.fail("no")]
  ] as const) {
    it(`what a fiber does after its transaction ${how} is outside of it`, () =>
      run((stores) =>
        Effect.gen(function* () {
          const goOn = yield* Deferred.make<void>()
          const forked = yield* Deferred.make<Fiber.Fiber<unknown, unknown>>()
          const late = Effect.zipRight(Deferred.await(goOn), append(stores, "a"))
          const first = Effect.flatMap(Effect.forkDaemon(late), (fiber) => Deferred.succeed(forked, fiber))
          yield* Effect.ignore(stores.database.transaction(Effect.zipRight(first, end)))
          yield* Effect.flip(
            stores.database.transaction(
              Effect.gen(function* () {
                yield* append(stores, "b")
                yield* Deferred.succeed(goOn, undefined)
                yield* Effect.yieldNow()
                yield* Effect.fail("no")
              })
            )
          )
          yield* Fiber.join(yield* Deferred.await(forked))
          expect((yield* everything(stores)).versions).toEqual([1, 0])
        })
      ))
  }
})

describe("databases in memory", () => {
  it("stores of one kind on the same database are the same store; each `layer` has a database of its own", async () => {
    const program = Effect.gen(function* () {
      const one = yield* EventStore.EventStore
      const same = yield* Effect.provide(EventStore.EventStore, EventStoreMemory.layerFromDatabase({ readOnly: true }))
      const other = yield* Effect.provide(EventStore.EventStore, EventStoreMemory.layer())
      yield* one.append(streamOf("a"), [event], { expected: "noStream" })
      expect(yield* same.version(streamOf("a"))).toBe(1)
      expect((yield* Effect.flip(same.maintenance.reset))._tag).toBe("ReadOnly")
      return other
    })
    const other = await Effect.runPromise(Effect.provide(program, stores))
    // Its layer has closed.
    expect(await Effect.runPromise(Effect.flip(other.head))).toMatchObject({ _tag: "StoreUnavailable" })
  })

  it("a transaction of another database does not hold what is written here", () =>
    run((stores) =>
      Effect.gen(function* () {
        const other = yield* MemoryDatabase.make
        yield* Effect.flip(
          other.transaction(
            Effect.zipRight(stores.events.append(streamOf("a"), [event], { expected: "any" }), Effect.fail("no"))
          )
        )
        expect(yield* stores.events.version(streamOf("a"))).toBe(1)
      })
    ))

  it("every store can be read-only, and nothing is changed by it", async () => {
    const readOnly = Layer.mergeAll(
      EventStoreMemory.layerFromDatabase({ readOnly: true }),
      CommandStoreMemory.layerFromDatabase({ readOnly: true }),
      SnapshotStoreMemory.layerFromDatabase({ readOnly: true }),
      CheckpointStoreMemory.layerFromDatabase({ readOnly: true })
    )
    const program = Effect.gen(function* () {
      const writing = yield* all
      const command = yield* prepare(writing)
      const before = yield* everything(writing)
      const refusing = yield* Effect.provide(all, readOnly)
      const writes: ReadonlyArray<Effect.Effect<unknown, unknown>> = [
        refusing.events.append(streamOf("a"), [event], { expected: "any" }),
        refusing.commands.delete(command.id),
        refusing.snapshots.delete(streamOf("a")),
        refusing.checkpoints.delete(follower)
      ]
      for (const write of writes) expect(yield* Effect.flip(write)).toMatchObject({ _tag: "ReadOnly" })
      expect(yield* everything(refusing)).toEqual(before)
    })
    await Effect.runPromise(Effect.provide(program, stores))
  })

  it("a MemoryDatabase that is made by hand is refused by name", async () => {
    const database = Layer.succeed(MemoryDatabase.MemoryDatabase, { transaction: (self) => self })
    const error = await Effect.runPromise(
      Effect.flip(Effect.provide(EventStore.EventStore, Layer.provide(EventStoreMemory.layerFromDatabase(), database)))
    )
    expect(error).toMatchObject({ _tag: "InvalidInput", what: "MemoryDatabase" })
  })

  it("after the layer has closed every store refuses reads and writes, and a transaction under way is undone", async () => {
    const scope = Effect.runSync(Scope.make())
    const context = await Effect.runPromise(Layer.buildWithScope(stores, scope))
    const { commands, database, events, snapshots } = await Effect.runPromise(Effect.provide(all, context))
    const append = events.append(streamOf("a"), [event], { expected: "any" })
    const open = database.transaction(Effect.zipRight(append, Effect.zipRight(Scope.close(scope, Exit.void), append)))
    const failed = await Effect.runPromise(
      Effect.all([
        Effect.flip(open),
        Effect.flip(append),
        Effect.flip(events.head),
        Effect.flip(Stream.runDrain(events.subscribe())),
        Effect.flip(commands.create(newCommand())),
        Effect.flip(commands.count()),
        Effect.flip(snapshots.save(streamOf("a"), snapshot)),
        Effect.flip(snapshots.latest(streamOf("a"))),
        Effect.flip(database.transaction(Effect.void))
      ])
    )
    for (const error of failed) expect(error).toMatchObject({ _tag: "StoreUnavailable", retryable: false })
  })
})

describe("commands in memory", () =>
  commandsInTransactions({
    place: async () => ({ database: MemoryDatabase.layer, env: {} }),
    tag: MemoryDatabase.MemoryDatabase,
    commands: () => CommandStoreMemory.layerFromDatabase(),
    events: () => EventStoreMemory.layerFromDatabase(),
    port: () =>
      Effect.flatMap(Layer.build(CommandStoreMemory.layerFromDatabase()), (context) =>
        Effect.gen(function* () {
          const found = yield* Deferred.make<CommandStoreEncoded.Encoded>()
          yield* CommandStoreEncoded.relift(Context.get(context, CommandStore.CommandStore), (port) =>
            Effect.as(Deferred.succeed(found, port), port)
          )
          return yield* Deferred.await(found)
        })
      ).pipe(Effect.scoped)
  }))
