/**
 * Reactions on every backend: which commands follow from events, that each is stored once however often its event is
 * handled, and time-outs. What processes that are killed leave is tested in reaction-processes.
 */
import { randomUUID } from "node:crypto"
import * as path from "node:path"
import { assert, it as effectIt } from "@effect/vitest"
import {
  Chunk,
  DateTime,
  Duration,
  Effect,
  Fiber,
  Layer,
  Logger,
  Option,
  Redacted,
  Ref,
  Schedule,
  Schema,
  Stream,
  TestClock
} from "effect"
import {
  CheckpointStore,
  CommandStore,
  CommandStoreEncoded,
  CommandWorker,
  Errors,
  EventStore,
  Projection,
  Reaction
} from "effect-stores"
import { CheckpointStoreMemory, CommandStoreMemory, EventStoreMemory } from "effect-stores/memory"
import { CheckpointStorePg, CommandStorePg, EventStorePg, PgDatabase } from "effect-stores/pg"
import { CheckpointStoreSqlite, CommandStoreSqlite, EventStoreSqlite, SqliteDatabase } from "effect-stores/sqlite"
import { describe, expect, it } from "vitest"
import { describePg, freshDatabase, temporaryDirectory } from "./support/backends.js"

type Stores = EventStore.EventStore | CheckpointStore.CheckpointStore | CommandStore.CommandStore

const Placed = Schema.TaggedStruct("Placed", { item: Schema.String })
const Paid = Schema.TaggedStruct("Paid", { placed: Schema.String })
const Known = Schema.Union(Placed, Paid)
const Reserve = Schema.TaggedStruct("Reserve", { item: Schema.String })
const Expire = Schema.TaggedStruct("Expire", { order: Schema.String })

type Event = EventStore.TypedEvent<typeof Known.Type>

const orders = EventStore.forSchema(Known)

const append = (tenantId: string, ...events: ReadonlyArray<typeof Known.Type>) =>
  orders.append({ tenantId, domain: "order", aggregateId: "1" }, events, { expected: "any" })

const placed = (item: string) => Placed.make({ item })

const commandsOf = (tenantId: string) =>
  Effect.flatMap(CommandStore.CommandStore, (store) =>
    Effect.map(Stream.runCollect(store.list({ filter: { tenantId } })), Chunk.toReadonlyArray)
  )

const eventsOf = (tenantId: string) =>
  Effect.flatMap(EventStore.EventStore, (store) =>
    Effect.map(Stream.runCollect(store.feed({ filter: { tenantId } })), Chunk.toReadonlyArray)
  )

type Requests = ReadonlyArray<Reaction.Request<typeof Reserve.Type | typeof Expire.Type>>

/** A reaction of one tenant, so that tests have nothing to do with each other. */
const reactionOf = <E = never, R = never>(
  tenantId: string,
  react: (event: Event) => Requests | Effect.Effect<Requests, E, R>,
  options: { readonly onFailure?: Projection.OnFailure; readonly name?: string } = {}
) =>
  Reaction.make({
    name: tenantId,
    events: Known,
    commands: Schema.Union(Reserve, Expire),
    filter: { tenantId },
    retry: Schedule.recurs(0),
    react,
    ...options
  })

/** Two commands for each order: one at once, and one an hour later. */
const both = ({ aggregateId, createdAt, data }: Event): Requests =>
  data._tag === "Paid"
    ? []
    : [
        { domain: "stock", command: Reserve.make({ item: data.item }) },
        {
          domain: "order",
          command: Expire.make({ order: aggregateId }),
          dueAt: DateTime.add(createdAt, { hours: 1 }),
          metadata: { by: "time" }
        }
      ]

/** As if it had never been run. */
const forgotten = (name: string) =>
  Effect.flatMap(CheckpointStore.CheckpointStore, (store) => store.delete({ name, generation: 1 }))

const reactions = (name: string, layer: Layer.Layer<Stores, unknown>) =>
  describe(name, () => {
    const test = (title: string, body: (tenantId: string) => Effect.Effect<void, unknown, Stores>) =>
      it(title, () => Effect.runPromise(Effect.provide(body(`tenant ${randomUUID()}`), layer)))

    test("commands that follow from an event are stored with its tenant and cause, and executed by a worker", (tenantId) =>
      Effect.gen(function* () {
        yield* append(tenantId, placed("lamp"), Paid.make({ placed: "" }), placed("chair"))
        yield* Projection.catchUp(reactionOf(tenantId, both))
        const [lamp, , chair] = yield* eventsOf(tenantId)
        assert.ok(lamp !== undefined && chair !== undefined)
        const found = yield* commandsOf(tenantId)
        assert.deepStrictEqual(
          found.map(({ data, domain, dueAt, id, metadata, type }) => ({
            data,
            domain,
            dueMs: dueAt?.epochMillis,
            id,
            metadata,
            type
          })),
          [lamp, chair].flatMap((event, i) => [
            {
              data: { item: i === 0 ? "lamp" : "chair" },
              domain: "stock",
              dueMs: undefined,
              id: Reaction.commandId(tenantId, event.id),
              metadata: { causationId: event.id },
              type: "Reserve"
            },
            {
              data: { order: "1" },
              domain: "order",
              dueMs: event.createdAt.epochMillis + 3_600_000,
              id: Reaction.commandId(tenantId, event.id, 1),
              metadata: { causationId: event.id, by: "time" },
              type: "Expire"
            }
          ])
        )
        const ran: Array<string> = []
        const worker = CommandWorker.make({
          name: tenantId,
          tenantId,
          handlers: [
            CommandWorker.handler(Reserve, ({ data }) => Effect.sync(() => void ran.push(data.item))),
            CommandWorker.handler(Expire, () => Effect.die("is not due"))
          ]
        })
        assert.strictEqual(yield* CommandWorker.catchUp(worker), 2)
        assert.sameMembers(ran, ["lamp", "chair"])
      }))

    test("events that are handled again lead to no other commands, and to no other outcome", (tenantId) =>
      Effect.gen(function* () {
        const reaction = reactionOf(tenantId, both)
        yield* append(tenantId, placed("lamp"), placed("chair"))
        yield* Projection.catchUp(reaction)
        const [first] = yield* commandsOf(tenantId)
        const store = yield* CommandStore.CommandStore
        yield* store.update(first?.id ?? "", { status: "succeeded", outcome: 1 })
        const before = yield* commandsOf(tenantId)
        yield* forgotten(tenantId)
        yield* Projection.catchUp(reaction)
        assert.deepStrictEqual(JSON.stringify(yield* commandsOf(tenantId)), JSON.stringify(before))
      }))

    test("a reaction that was changed meanwhile sends what is new, and what it has sent counts, with a warning", (tenantId) =>
      Effect.gen(function* () {
        yield* append(tenantId, placed("lamp"))
        yield* Projection.catchUp(reactionOf(tenantId, both))
        yield* forgotten(tenantId)
        const warnings: Array<string> = []
        const logger = Logger.make(({ message }) => void warnings.push(String(message)))
        const changed = reactionOf(tenantId, () => [
          { domain: "stock", command: Reserve.make({ item: "other" }) },
          { domain: "order", command: Expire.make({ order: "1" }) },
          { domain: "stock", command: Reserve.make({ item: "third" }) }
        ])
        yield* Effect.provide(Projection.catchUp(changed), Logger.replace(Logger.defaultLogger, logger))
        assert.deepStrictEqual(
          (yield* commandsOf(tenantId)).map(({ data }) => data),
          [{ item: "lamp" }, { order: "1" }, { item: "third" }]
        )
        assert.strictEqual(warnings.length, 1)
        assert.include(warnings[0], "before, with other data: that one counts")
      }))

    test("a reaction that fails stops, or passes the event by, as it is told; its earlier commands stay", (tenantId) =>
      Effect.gen(function* () {
        yield* append(tenantId, placed("lamp"), placed("bad"), placed("chair"))
        const react = (event: Event): Requests | Effect.Effect<Requests, string> =>
          event.data._tag === "Placed" && event.data.item === "bad" ? Effect.fail("no") : Effect.succeed(both(event))
        const stopped = yield* Effect.flip(Projection.catchUp(reactionOf(tenantId, react)))
        assert.strictEqual(stopped._tag, "ProjectionStopped")
        yield* Projection.catchUp(reactionOf(tenantId, react, { onFailure: "skip" }))
        assert.deepStrictEqual(
          (yield* commandsOf(tenantId)).flatMap(({ data, type }) => (type === "Reserve" ? [data] : [])),
          [{ item: "lamp" }, { item: "chair" }]
        )
        // Of an event nothing is sent if one of its commands is none.
        const unfit = [{ domain: "stock", command: Reserve.make({ item: "x" }) }, { domain: "stock" }]
        const bad = reactionOf(`${tenantId} `, () => unfit as never)
        yield* append(`${tenantId} `, placed("lamp"))
        const refused = yield* Effect.flip(Projection.catchUp(bad))
        assert.include(String(refused), "commands[1].command")
        for (const metadata of ["abc", [1, 2], null]) {
          const requests = [{ domain: "stock", command: Reserve.make({ item: "x" }), metadata }]
          const refused = yield* Effect.flip(Projection.catchUp(reactionOf(`${tenantId} `, () => requests as never)))
          assert.include(String(refused), "commands[0].metadata")
        }
        assert.deepStrictEqual(yield* commandsOf(`${tenantId} `), [])
      }))

    test("a time-out is cancelled by the id that follows from its event", (tenantId) =>
      Effect.gen(function* () {
        const timeOut = reactionOf(tenantId, both)
        const paid = reactionOf(
          tenantId,
          ({ data }) =>
            data._tag === "Paid"
              ? Effect.as(
                  Effect.flatMap(CommandStore.CommandStore, (store) =>
                    store.cancel(Reaction.commandId(tenantId, data.placed, 1))
                  ),
                  []
                )
              : Effect.succeed([]),
          { name: `${tenantId} paid` }
        )
        yield* append(tenantId, placed("lamp"), placed("chair"))
        yield* Projection.catchUp(timeOut)
        const [lamp] = yield* eventsOf(tenantId)
        yield* append(tenantId, Paid.make({ placed: lamp?.id ?? "" }))
        yield* Projection.catchUp(paid)
        yield* Projection.catchUp(timeOut)
        assert.deepStrictEqual(
          (yield* commandsOf(tenantId)).flatMap(({ status, type }) => (type === "Expire" ? [status] : [])),
          ["failed", "received"]
        )
      }))
  })

reactions(
  "reactions in memory",
  Layer.mergeAll(EventStoreMemory.layer(), CheckpointStoreMemory.layer(), CommandStoreMemory.layer())
)

reactions(
  "reactions on SQLite",
  Layer.mergeAll(
    EventStoreSqlite.layerFromDatabase(),
    CheckpointStoreSqlite.layerFromDatabase(),
    CommandStoreSqlite.layerFromDatabase()
  ).pipe(Layer.provide(SqliteDatabase.layer({ filename: path.join(temporaryDirectory(), "reactions.db") })))
)

describePg("reactions on PostgreSQL", () => {
  const database = Layer.unwrapEffect(
    Effect.map(Effect.promise(freshDatabase), (url) => PgDatabase.layer({ url: Redacted.make(url) }))
  )
  const onDatabase = Layer.mergeAll(
    EventStorePg.layerFromDatabase(),
    CheckpointStorePg.layerFromDatabase(),
    CommandStorePg.layerFromDatabase()
  )
  reactions("reactions", Layer.provide(onDatabase, database))
})

describe("the id of a command", () => {
  it("follows from the event, the name and the index alone, for ever", () => {
    const event = "0192f0c1-2f6b-7000-8000-000000000001"
    expect(Reaction.commandId("on_placed", event)).toBe("0192f0c1-2f6b-87ee-85b7-04b65a65ef59")
    expect(Reaction.commandId("on_placed", event, 1)).toBe("0192f0c1-2f6b-8fe8-bd60-d07dba35e087")
    expect(Reaction.commandId("on_paid", event)).toBe("0192f0c1-2f6b-87dc-9d6a-5ba4a3fbed2d")
  })

  it("is refused for a name, an event or an index that cannot be one", () => {
    for (const [name, event, index, what] of [
      ["", randomUUID(), 0, "name"],
      ["a", "A", 0, "id"],
      ["a", randomUUID(), -1, "index"]
    ] as const) {
      expect(() => Reaction.commandId(name, event, index)).toThrow(
        expect.objectContaining({ _tag: "InvalidInput", what })
      )
    }
  })
})

describe("a definition", () => {
  const right = { name: "r", events: Placed, commands: Reserve, react: () => [] }
  const wrong: ReadonlyArray<readonly [what: string, options: object]> = [
    ["name", { ...right, name: "" }],
    ["events", { ...right, events: undefined }],
    ["commands", { ...right, commands: {} }],
    ["react", { ...right, react: [] }],
    ["a key of options", { ...right, handle: () => [] }],
    ["partitions", { ...right, partitions: 0 }]
  ]
  for (const [what, options] of wrong) {
    it(`of a reaction is refused and names ${what}`, () => {
      expect(() => Reaction.make(options as never)).toThrow(expect.objectContaining({ _tag: "InvalidInput", what }))
    })
  }

  const reserve = CommandWorker.handler(Reserve, () => Effect.void)
  const worker = { name: "w", handlers: [reserve] }
  const wrongWorkers: ReadonlyArray<readonly [what: string, options: object]> = [
    ["name", { ...worker, name: "" }],
    ["handlers", { ...worker, handlers: [] }],
    ["handlers[0]", { ...worker, handlers: [{}] }],
    ["handlers[1]", { ...worker, handlers: [reserve, reserve] }],
    ["tenantId", { ...worker, tenantId: 1 }],
    ["domain", { ...worker, domain: "" }],
    ["concurrency", { ...worker, concurrency: 0 }],
    ["concurrency", { ...worker, concurrency: 1_001 }],
    ["pollInterval", { ...worker, pollInterval: 0 }],
    ["pollInterval", { ...worker, pollInterval: null }],
    ["pause", { ...worker, pause: null }],
    ["attempts", { ...worker, attempts: 0 }],
    ["pause", { ...worker, pause: -1 }],
    ["a key of options", { ...worker, handler: reserve }]
  ]
  for (const [what, options] of wrongWorkers) {
    it(`of a worker is refused and names ${what}`, () => {
      expect(() => CommandWorker.make(options as never)).toThrow(
        expect.objectContaining({ _tag: "InvalidInput", what })
      )
    })
  }

  it("of a handler is refused for a Schema without types, no function, and options of execute that are wrong", () => {
    const make = CommandWorker.handler as (...args: ReadonlyArray<unknown>) => unknown
    for (const [what, args] of [
      ["commands", [Schema.Unknown, () => Effect.void]],
      ["commands", [{}, () => Effect.void]],
      ["handle", [Reserve, Effect.void]],
      ["options.lease", [Reserve, () => Effect.void, { lease: 1 }]]
    ] as const) {
      expect(() => make(...args)).toThrow(expect.objectContaining({ _tag: "InvalidInput", what }))
    }
  })
})

const inMemory = Layer.mergeAll(EventStoreMemory.layer(), CheckpointStoreMemory.layer(), CommandStoreMemory.layer())

describe("time", () => {
  effectIt.effect("in memory is that of the Clock: a time-out comes when a test says so, and not before", () =>
    Effect.gen(function* () {
      const expired = yield* Ref.make(0)
      const worker = CommandWorker.make({
        name: "expiry",
        handlers: [
          CommandWorker.handler(Expire, () => Ref.update(expired, (n) => n + 1)),
          CommandWorker.handler(Reserve, () => Effect.void)
        ],
        pollInterval: "1 minute"
      })
      yield* append("acme", placed("lamp"))
      yield* Projection.catchUp(reactionOf("acme", both))
      const running = yield* Effect.fork(CommandWorker.run(worker))
      yield* TestClock.adjust(Duration.millis(3_599_999))
      assert.strictEqual(yield* Ref.get(expired), 0)
      yield* TestClock.adjust(1)
      yield* CommandWorker.catchUp(worker)
      assert.strictEqual(yield* Ref.get(expired), 1)
      yield* Fiber.interrupt(running)
    }).pipe(Effect.provide(inMemory))
  )

  effectIt.effect("a command that fails is tried after 1, 2, 4 seconds, and a store that is away is waited for", () =>
    Effect.gen(function* () {
      const port = yield* CommandStoreMemory.makeEncoded
      let isAway = false
      const away = new Errors.StoreUnavailable({ operation: "test", retryable: true, cause: new Error("away") })
      const store = CommandStoreEncoded.make(
        { ...port, open: (request) => (isAway ? Effect.fail(away) : port.open(request)) },
        { system: "memory" }
      )
      const times: Array<number> = []
      const handler = CommandWorker.handler(Reserve, () =>
        Effect.flatMap(DateTime.now, ({ epochMillis }) => {
          times.push(epochMillis)
          return times.length > 4
            ? Effect.void
            : Effect.fail(times.length > 2 ? new Error("wrapped", { cause: away }) : "no")
        })
      )
      const worker = CommandWorker.make({ name: "reserver", handlers: [handler], attempts: 3 })
      const id = randomUUID()
      yield* store.create({ id, tenantId: "acme", domain: "stock", type: "Reserve", data: { item: "lamp" } })
      const running = yield* Effect.fork(
        Effect.provideService(CommandWorker.run(worker), CommandStore.CommandStore, store)
      )
      yield* TestClock.adjust("3 seconds")
      assert.deepStrictEqual(times, [0, 1_000, 3_000])
      isAway = true
      yield* TestClock.adjust("1 minute")
      assert.deepStrictEqual(times, [0, 1_000, 3_000])
      isAway = false
      // The third attempt was the last, had not a store been the cause.
      yield* TestClock.adjust("1 minute")
      assert.strictEqual(times.length, 5)
      assert.deepStrictEqual(
        Option.map(yield* store.get(id), ({ attempts, status }) => [attempts, status]),
        Option.some([5, "succeeded"])
      )
      yield* Fiber.interrupt(running)
    })
  )
})
