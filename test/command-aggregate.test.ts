/**
 * Aggregates that are changed in the effect of a command: a second attempt of the command finds what the first has done.
 */
import * as path from "node:path"
import { assert, layer as itLayer } from "@effect/vitest"
import { type Context, Deferred, Duration, Effect, Fiber, Layer, Redacted, Schema, Stream } from "effect"
import { Aggregate, CommandStore, Errors, EventStore, EventStoreEncoded } from "effect-stores"
import { CommandStoreMemory, EventStoreMemory } from "effect-stores/memory"
import { CommandStorePg, EventStorePg, PgDatabase } from "effect-stores/pg"
import { CommandStoreSqlite, EventStoreSqlite, SqliteDatabase } from "effect-stores/sqlite"
import { describe, it } from "vitest"
import { added, type CounterEvent, counter, freshId, streamOf } from "./support/aggregates.js"
import { describePg, freshDatabase, temporaryDirectory } from "./support/backends.js"

type Stores = EventStore.EventStore | CommandStore.CommandStore

type Attempt = Context.Tag.Service<CommandStore.CurrentCommand>

const Counter = counter()

const newCommand = (): CommandStore.NewCommand => ({
  id: crypto.randomUUID(),
  tenantId: "tenant",
  domain: "commands",
  type: "Count",
  data: {}
})

const run = <A, E, R>(command: CommandStore.NewCommand, effect: Effect.Effect<A, E, R>) =>
  Effect.flatMap(CommandStore.CommandStore, (store) =>
    store.execute(command, Effect.asVoid(effect), { success: Schema.Void })
  )

/** Runs the command's effect up to where it crashes, and gives its lease back, as the end of the lease would. */
const crash = <A, E, R>(command: CommandStore.NewCommand, effect: Effect.Effect<A, E, R>) =>
  Effect.gen(function* () {
    const reached = yield* Deferred.make<void>()
    const fiber = yield* Effect.fork(
      run(command, Effect.zipRight(effect, Effect.zipRight(Deferred.succeed(reached, undefined), Effect.never)))
    )
    yield* Deferred.await(reached)
    yield* Fiber.interrupt(fiber)
  })

const eventsOf = (id: Aggregate.Id) =>
  Effect.flatMap(EventStore.EventStore, (store) =>
    Effect.map(Stream.runCollect(store.read(streamOf(Counter, id))), (events) => [...events])
  )

const suite = <E>(layer: Layer.Layer<Stores, E>) => {
  itLayer(layer, { excludeTestServices: true })((it) => {
    it.effect("their events carry the command's id, and are other ones for each change and each aggregate", () =>
      Effect.gen(function* () {
        const command = newCommand()
        const [a, b] = [freshId(), freshId()]
        yield* run(
          command,
          Effect.gen(function* () {
            yield* Aggregate.execute(Counter, a, () => [added(1), added(2)])
            yield* Aggregate.execute(Counter, a, () => [added(1), added(2)])
            yield* Aggregate.execute(Counter, b, () => [added(1)])
            yield* Aggregate.append(Counter, b, [added(1)], { expected: 1 })
          })
        )
        const events = [...(yield* eventsOf(a)), ...(yield* eventsOf(b))]
        assert.strictEqual(events.length, 6)
        assert.deepStrictEqual([...new Set(events.map(({ commandId }) => commandId))], [command.id])
        assert.strictEqual((yield* Aggregate.load(Counter, a)).state.sum, 6)
      })
    )

    it.effect("a second attempt decides nothing again, appends nothing twice, and gets the first one's answer", () =>
      Effect.gen(function* () {
        const command = newCommand()
        const id = freshId()
        yield* Aggregate.append(Counter, id, [added(10)], { expected: "noStream" })
        let decisions = 0
        // On the state that it led to itself, it would refuse.
        const withdraw = Aggregate.execute(Counter, id, ({ sum }) => {
          decisions++
          return sum < 10 ? Effect.fail("too little" as const) : [added(-6), added(-4)]
        })
        yield* crash(command, withdraw)
        yield* Aggregate.append(Counter, id, [added(100)], { expected: "any" })
        let second: Aggregate.Executed<{ readonly sum: number }, CounterEvent> | undefined
        yield* run(
          command,
          Effect.tap(withdraw, (executed) =>
            Effect.sync(() => {
              second = executed
            })
          )
        )
        assert.strictEqual(decisions, 1)
        assert.deepStrictEqual(second?.events, [added(-6), added(-4)])
        assert.deepStrictEqual([second?.version, second?.state.sum], [3, 0])
        assert.strictEqual((yield* eventsOf(id)).length, 4)
      })
    )

    it.effect("a change that another attempt has made meanwhile, behind other events, has that attempt's answer", () =>
      Effect.gen(function* () {
        const id = freshId()
        const stream = streamOf(Counter, id)
        let executed: Aggregate.Executed<{ readonly sum: number }, CounterEvent> | undefined
        const change = Effect.gen(function* () {
          const current = yield* CommandStore.CurrentCommand
          const ids = current.nextEventIds(stream)
          current.returnEventIds(stream, ids)
          const ofAnother = { ...current, nextEventIds: () => ids }
          const meanwhile = Effect.zipRight(
            Counter.events.append(stream, [added(1)], { expected: "any" }),
            Aggregate.append(Counter, id, [added(10)], { expected: "any" }).pipe(
              Effect.provideService(CommandStore.CurrentCommand, ofAnother)
            )
          )
          executed = yield* Aggregate.execute(Counter, id, ({ sum }) =>
            Effect.as(sum === 0 ? meanwhile : Effect.void, [added(10)])
          )
        })
        yield* run(newCommand(), change)
        assert.deepStrictEqual(executed?.events, [added(10)])
        assert.deepStrictEqual([executed?.version, executed?.state.sum], [2, 11])
        assert.strictEqual((yield* eventsOf(id)).length, 2)
      })
    )

    it.effect("a change that met a conflict keeps its ids when it is tried again: a second attempt finds it", () =>
      Effect.gen(function* () {
        const command = newCommand()
        const id = freshId()
        let decisions = 0
        const other = Counter.events.append(streamOf(Counter, id), [added(1)], { expected: "any" })
        const change = Aggregate.execute(Counter, id, () =>
          Effect.as(decisions++ === 0 ? other : Effect.void, [added(10), added(20)])
        )
        yield* crash(command, change)
        assert.strictEqual(decisions, 2)
        yield* run(command, change)
        assert.strictEqual((yield* Aggregate.load(Counter, id)).state.sum, 31)
        assert.strictEqual((yield* eventsOf(id)).length, 3)
      })
    )

    it.effect("a second attempt gets to its end also when an operator has redacted what the first has appended", () =>
      Effect.gen(function* () {
        const command = newCommand()
        const [executed, appended, own] = [freshId(), freshId(), freshId()]
        const change = Effect.gen(function* () {
          yield* Aggregate.execute(Counter, executed, () => [added(1), added(2)])
          yield* Aggregate.append(Counter, appended, [added(3)], { expected: "noStream" })
          const store = yield* EventStore.EventStore
          const { id: commandId, nextEventIds } = yield* CommandStore.CurrentCommand
          const stream = streamOf(Counter, own)
          const idOf = nextEventIds(stream)
          const event = yield* Counter.events.encode(added(4), { id: idOf(0), commandId })
          yield* store.append(stream, [event], { expected: "noStream" })
        })
        yield* crash(command, change)
        const { maintenance } = yield* EventStore.EventStore
        for (const id of [executed, appended, own]) {
          const [first] = yield* eventsOf(id)
          yield* maintenance.update(first?.id ?? "", { data: { amount: 0 } })
        }
        yield* run(command, change)
        for (const [id, sum, length] of [
          [executed, 2, 2],
          [appended, 0, 1],
          [own, 0, 1]
        ] as const) {
          assert.deepStrictEqual(
            [(yield* Aggregate.load(Counter, id)).state.sum, (yield* eventsOf(id)).length],
            [sum, length]
          )
        }
      })
    )

    it.effect("a second attempt does what the first had not come to", () =>
      Effect.gen(function* () {
        const command = newCommand()
        const [from, to] = [freshId(), freshId()]
        const first = Effect.zipRight(
          Aggregate.execute(Counter, from, () => [added(-5)]),
          Aggregate.append(Counter, from, [added(-1)], { expected: 1 })
        )
        yield* crash(command, first)
        yield* run(
          command,
          Effect.zipRight(
            first,
            Aggregate.execute(Counter, to, () => [added(6)])
          )
        )
        assert.strictEqual((yield* Aggregate.load(Counter, from)).state.sum, -6)
        assert.strictEqual((yield* Aggregate.load(Counter, to)).state.sum, 6)
      })
    )

    for (const expected of ["any", "noStream", 0] as const) {
      it.effect(`an append to a stream that is ${expected} is found by later attempts, whose traces are others`, () =>
        Effect.gen(function* () {
          const command = newCommand()
          const id = freshId()
          const appended: Array<EventStore.Appended> = []
          const attempt = (trace: number, events = [added(1), added(2)]) =>
            Effect.tap(Aggregate.append(Counter, id, events, { expected, metadata: { trace } }), (one) =>
              Effect.sync(() => appended.push(one))
            )
          yield* crash(command, attempt(1))
          yield* crash(command, attempt(2))
          // Another release of the program may append something else by now.
          yield* crash(command, attempt(3, [added(1), added(2), added(3)]))
          yield* run(command, attempt(4, [added(5), added(6)]))
          assert.strictEqual(appended.length, 4)
          for (const one of appended) assert.deepStrictEqual(one, appended[0])
          assert.deepStrictEqual(
            (yield* eventsOf(id)).map(({ data, metadata }) => [data, metadata]),
            [1, 2].map((amount) => [{ amount }, { trace: 1 }])
          )
        })
      )
    }

    const cases = ["the same", "another"].flatMap((decision) =>
      ["before loading", "between deciding and appending"].map((moment) => ({ decision, moment }))
    )
    for (const { decision, moment } of cases) {
      it.effect(`an attempt that was overtaken ${moment} gets the other's events: ${decision} decision`, () =>
        Effect.gen(function* () {
          const command = newCommand()
          const id = freshId()
          const attempts: Array<Attempt> = []
          for (const _ of [1, 2]) {
            yield* Effect.ignore(
              run(
                command,
                Effect.flatMap(CommandStore.CurrentCommand, (current) => {
                  attempts.push(current)
                  return Effect.fail("crashed")
                })
              )
            )
          }
          const [slow, fast] = attempts as [Attempt, Attempt]
          assert.deepStrictEqual([slow.attempt, fast.attempt], [1, 2])
          const decided = yield* Deferred.make<void>()
          const go = yield* Deferred.make<void>()
          const late = yield* Effect.makeLatch(moment !== "before loading")
          const overtaken = yield* Effect.fork(
            Effect.provideService(
              Effect.zipRight(
                late.await,
                Aggregate.execute(Counter, id, () =>
                  Effect.as(Effect.zipRight(Deferred.succeed(decided, undefined), Deferred.await(go)), [
                    added(1),
                    added(2)
                  ])
                )
              ),
              CommandStore.CurrentCommand,
              slow
            )
          )
          if (moment !== "before loading") yield* Deferred.await(decided)
          const other = decision === "another" ? [added(30)] : [added(1), added(2)]
          const done = yield* Effect.provideService(
            Aggregate.execute(Counter, id, () => other),
            CommandStore.CurrentCommand,
            fast
          )
          yield* Deferred.succeed(go, undefined)
          yield* late.open
          assert.deepStrictEqual(yield* Fiber.join(overtaken), done)
          assert.strictEqual((yield* eventsOf(id)).length, other.length)
        })
      )
    }
  })
}

describe("aggregates in a command, in memory", () => {
  suite(Layer.mergeAll(EventStoreMemory.layer(), CommandStoreMemory.layer()))
})

describe("aggregates in a command, on SQLite", () => {
  suite(
    Layer.mergeAll(EventStoreSqlite.layerFromDatabase(), CommandStoreSqlite.layerFromDatabase()).pipe(
      Layer.provide(SqliteDatabase.layer({ filename: path.join(temporaryDirectory(), "command-aggregate.db") }))
    )
  )
})

describePg("aggregates in a command, on PostgreSQL", () => {
  suite(
    Layer.mergeAll(EventStorePg.layerFromDatabase(), CommandStorePg.layerFromDatabase()).pipe(
      Layer.provide(
        Layer.unwrapEffect(
          Effect.map(
            Effect.promise(() => freshDatabase()),
            (url) => PgDatabase.layer({ url: Redacted.make(url) })
          )
        )
      )
    )
  )
})

describe("events of another attempt that are deleted while they are looked for", () => {
  const changes = {
    append: (id: Aggregate.Id) => Aggregate.append(Counter, id, [added(20)], { expected: "any" }),
    execute: (id: Aggregate.Id) => Aggregate.execute(Counter, id, () => [added(20)])
  }
  for (const [name, change] of Object.entries(changes)) {
    it(`fail the ${name} with DuplicateEvent, and the next one is done`, () => {
      const id = freshId()
      const stream = streamOf(Counter, id)
      const layer = Layer.merge(
        Layer.effect(
          EventStore.EventStore,
          Effect.map(EventStoreMemory.makeEncoded, (encoded) =>
            EventStoreEncoded.make(
              { ...encoded, get: (id) => Effect.zipRight(Effect.orDie(encoded.deleteStream(stream)), encoded.get(id)) },
              { system: "memory", pollInterval: Duration.seconds(1) }
            )
          )
        ),
        CommandStoreMemory.layer()
      )
      const twice = Effect.gen(function* () {
        const current = yield* CommandStore.CurrentCommand
        const ids = current.nextEventIds(stream)
        current.returnEventIds(stream, ids)
        yield* Aggregate.append(Counter, id, [added(10)], { expected: "any" }).pipe(
          Effect.provideService(CommandStore.CurrentCommand, { ...current, nextEventIds: () => ids })
        )
        const failing: Effect.Effect<unknown, { readonly _tag: string }, Stores> = change(id)
        assert.strictEqual((yield* Effect.flip(failing))._tag, "DuplicateEvent")
        yield* change(id)
        assert.deepStrictEqual(
          (yield* eventsOf(id)).map(({ data }) => data),
          [{ amount: 20 }]
        )
      })
      return Effect.runPromise(Effect.provide(run(newCommand(), twice), layer))
    })
  }
})

describe("a change that fails and is tried again in a command", () => {
  const unavailable = new Errors.StoreUnavailable({ operation: "append", retryable: true, cause: new Error("gone") })
  const unknown = new Errors.CommitOutcomeUnknown({ operation: "append", cause: new Error("gone") })

  for (const [how, landed, error] of [
    ["was refused", false, unavailable],
    ["was done, and its answer lost", true, unknown]
  ] as const) {
    it(`has the same ids, whether it ${how} at first: nothing is done twice, now or by a second attempt`, () => {
      let failures = 1
      const layer = Layer.merge(
        Layer.effect(
          EventStore.EventStore,
          Effect.map(EventStoreMemory.makeEncoded, (encoded) =>
            EventStoreEncoded.make(
              {
                ...encoded,
                append: (appends, guards) =>
                  Effect.suspend(() => {
                    if (failures-- <= 0) return encoded.append(appends, guards)
                    return Effect.zipRight(landed ? encoded.append(appends, guards) : Effect.void, Effect.fail(error))
                  })
              },
              { system: "memory", pollInterval: Duration.seconds(1) }
            )
          )
        ),
        CommandStoreMemory.layer()
      )
      const command = newCommand()
      const id = freshId()
      const change = Effect.retry(
        Aggregate.execute(Counter, id, () => [added(100)]),
        // Its event ids are derived from the command, so a repeat is recognised.
        { times: 3, while: Errors.isRepeatable }
      )
      return Effect.runPromise(
        Effect.gen(function* () {
          yield* crash(command, change)
          assert.strictEqual((yield* Aggregate.load(Counter, id)).state.sum, 100)
          yield* run(command, change)
          assert.strictEqual((yield* Aggregate.load(Counter, id)).state.sum, 100)
        }).pipe(Effect.provide(layer))
      )
    })
  }
})
