/**
 * Loading, changing and deleting aggregates, on every pair of backends, with a SnapshotStore and without one.
 */
import { assert, layer as vitestLayer } from "@effect/vitest"
import { Context, Data, DateTime, Effect, Exit, Layer, Option, Schema } from "effect"
import { Aggregate, type Errors, EventStore, SnapshotPolicy, SnapshotStore } from "effect-stores"
import { EventStoreMemory } from "effect-stores/memory"
import { describe, expectTypeOf, it as plainIt } from "vitest"
import {
  added,
  type CounterEvent,
  CounterState,
  counter,
  eventsOf,
  evolveCounter,
  freshId,
  initialCounter,
  pairs,
  type Stores,
  streamOf
} from "./support/aggregates.js"

// Often enough that every test meets snapshots.
const Counter = counter(SnapshotPolicy.every(3))

const stateAfter = (events: ReadonlyArray<CounterEvent>): CounterState => events.reduce(evolveCounter, initialCounter)

const numbers = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, i) => from + i)

const some: ReadonlyArray<CounterEvent> = [
  added(1),
  { _tag: "Renamed", name: "Grace" },
  added(2),
  added(-7),
  { _tag: "Renamed", name: "" },
  added(0.5),
  added(1e15)
]

/** The stored events of an aggregate. */
const stored = (id: Aggregate.Id) => eventsOf(streamOf(Counter, id))

class TooMuch extends Data.TaggedError("TooMuch")<{ readonly most: number }> {}

class Limit extends Context.Tag("test/Limit")<Limit, { readonly most: number }>() {}

const omitSnapshots = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.mapInputContext(effect, (context: Context.Context<R>) =>
    Context.unsafeMake<R>(new Map([...context.unsafeMap].filter(([key]) => key !== SnapshotStore.SnapshotStore.key)))
  )

const invalid = <A, E extends { readonly _tag: string }, R>(effect: Effect.Effect<A, E, R>, what: string) =>
  Effect.map(Effect.flip(effect), (error) => {
    assert.strictEqual(error._tag, "InvalidInput", String(error))
    assert.strictEqual((error as unknown as Errors.InvalidInput).what, what)
  })

const appendSome = (id: Aggregate.Id, events: ReadonlyArray<CounterEvent> = some) =>
  Aggregate.append(Counter, id, events, { expected: "any" })

const behaviours = (
  test: (title: string, body: () => Effect.Effect<void, unknown, Stores>) => void,
  mayUseSnapshots: boolean
): void => {
  test("an aggregate without events has the initial state, at version 0", () =>
    Effect.gen(function* () {
      const none = { state: initialCounter, version: 0, snapshotVersion: 0, replayed: 0 }
      const id = freshId()
      assert.deepStrictEqual(yield* Aggregate.load(Counter, id), none)
      assert.deepStrictEqual(yield* Counter.pipe(Aggregate.load(id)), none)
      assert.deepStrictEqual(yield* Aggregate.loadAt(Counter, id, 0), none)
      assert.deepStrictEqual(yield* Counter.pipe(Aggregate.loadAt(id, 0)), none)
    }))

  test("load gives the state after all events, whichever argument comes first", () =>
    Effect.gen(function* () {
      const id = freshId()
      assert.strictEqual((yield* Aggregate.append(Counter, id, some.slice(0, 4), { expected: 0 })).version, 4)
      assert.strictEqual((yield* Aggregate.append(Counter, id, some.slice(4), { expected: 4 })).version, 7)
      for (const loaded of [yield* Aggregate.load(Counter, id), yield* Counter.pipe(Aggregate.load(id))]) {
        assert.deepStrictEqual(loaded.state, stateAfter(some))
        assert.strictEqual(loaded.version, some.length)
        assert.strictEqual(loaded.snapshotVersion + loaded.replayed, some.length)
        if (!mayUseSnapshots) assert.strictEqual(loaded.replayed, some.length)
      }
    }))

  test("loadAt gives every state that there was, before and after a snapshot, and NotFound beyond", () =>
    Effect.gen(function* () {
      const id = freshId()
      yield* appendSome(id)
      for (const round of ["before", "after"]) {
        for (const version of numbers(0, some.length)) {
          const state = stateAfter(some.slice(0, version))
          for (const loaded of [
            yield* Aggregate.loadAt(Counter, id, version),
            yield* Counter.pipe(Aggregate.loadAt(id, version))
          ]) {
            assert.deepStrictEqual([loaded.state, loaded.version], [state, version], `${round} ${version}`)
          }
        }
        for (const version of [some.length + 1, Number.MAX_SAFE_INTEGER]) {
          const error = yield* Effect.flip(Aggregate.loadAt(Counter, id, version))
          assert.strictEqual(error._tag, "NotFound")
        }
        yield* Aggregate.load(Counter, id)
        if (mayUseSnapshots) {
          yield* Effect.flatMap(SnapshotStore.SnapshotStore, (store) => store.flush(streamOf(Counter, id)))
        }
      }
    }))

  test("append fails with VersionConflict when the aggregate has another version", () =>
    Effect.gen(function* () {
      const id = freshId()
      yield* appendSome(id)
      const error = yield* Effect.flip(Aggregate.append(Counter, id, [added(1)], { expected: 6 }))
      assert.ok(error._tag === "VersionConflict")
      assert.deepStrictEqual([error.expected, error.actual], [6, 7])
      assert.deepStrictEqual(error.stream, streamOf(Counter, id))
    }))

  test("execute decides on state and version, appends, and answers the state that a load gives", () =>
    Effect.gen(function* () {
      const id = freshId()
      let given: unknown
      const decided = [added(5), added(6)]
      const first = yield* Aggregate.execute(Counter, id, (state, version) => {
        given = [state, version]
        return decided
      })
      assert.deepStrictEqual(given, [initialCounter, 0])
      const position = Option.some(yield* Effect.flatMap(EventStore.EventStore, (store) => store.head))
      assert.deepStrictEqual(first, { state: stateAfter(decided), version: 2, position, events: decided })
      const second = yield* Aggregate.execute(Counter, id, (state, version) => {
        given = [state, version]
        return [added(state.sum)]
      })
      assert.deepStrictEqual(given, [stateAfter(decided), 2])
      const { state, version } = yield* Aggregate.load(Counter, id)
      assert.deepStrictEqual([second.state, second.version], [state, version])
      assert.strictEqual(state.sum, 22)
    }))

  test("a command's identity and metadata are on each of its events", () =>
    Effect.gen(function* () {
      const id = freshId()
      const envelope = {
        commandId: "command-7",
        metadata: { correlationId: "c", causationId: "e" },
        instanceId: "here",
        createdAt: DateTime.unsafeMake(1_700_000_000_000)
      }
      yield* Aggregate.execute(Counter, id, () => some, { ...envelope, retries: 2 })
      yield* Aggregate.append(Counter, id, some, { ...envelope, expected: some.length })
      const events = yield* stored(id)
      assert.strictEqual(events.length, 2 * some.length)
      for (const { commandId, createdAt, instanceId, metadata } of events) {
        assert.deepStrictEqual(
          { commandId, metadata, instanceId, createdAt: createdAt.epochMillis },
          { ...envelope, createdAt: envelope.createdAt.epochMillis }
        )
      }
    }))

  test("a decision for nothing appends nothing, and succeeds with the present state", () =>
    Effect.gen(function* () {
      const id = freshId()
      yield* appendSome(id)
      for (const nothing of [[], Effect.succeed([])]) {
        const executed = yield* Aggregate.execute(Counter, id, () => nothing)
        assert.deepStrictEqual(executed, { state: stateAfter(some), version: 7, position: Option.none(), events: [] })
      }
      assert.strictEqual((yield* stored(id)).length, 7)
    }))

  test("a decision may need services and refuse with its own error, and then nothing is appended", () =>
    Effect.gen(function* () {
      const id = freshId()
      const add = (amount: number) =>
        Aggregate.execute(Counter, id, ({ sum }) =>
          Effect.gen(function* () {
            const { most } = yield* Limit
            return sum + amount > most ? yield* new TooMuch({ most }) : [added(amount)]
          })
        ).pipe(Effect.provideService(Limit, { most: 10 }))
      yield* add(7)
      const error = yield* Effect.flip(add(4))
      assert.ok(error._tag === "TooMuch" && error.most === 10)
      assert.strictEqual((yield* add(3)).state.sum, 10)
      assert.strictEqual((yield* stored(id)).length, 2)
    }))

  test("a decision that throws or dies is a defect, and nothing is appended", () =>
    Effect.gen(function* () {
      const id = freshId()
      const bug = new Error("a bug")
      const throws = (): ReadonlyArray<CounterEvent> => {
        throw bug
      }
      const decisions: ReadonlyArray<() => ReadonlyArray<CounterEvent> | Effect.Effect<never>> = [
        throws,
        () => Effect.die(bug)
      ]
      for (const decide of decisions) {
        assert.deepStrictEqual(yield* Effect.exit(Aggregate.execute(Counter, id, decide)), Exit.die(bug))
      }
      assert.strictEqual((yield* stored(id)).length, 0)
    }))

  test("execute decides again on the changed state after each conflict", () =>
    Effect.gen(function* () {
      const id = freshId()
      const seen: Array<number> = []
      const executed = yield* Aggregate.execute(Counter, id, ({ sum }, version) => {
        seen.push(sum)
        assert.strictEqual(version, sum)
        // Another comes between, three times.
        return seen.length <= 3 ? Effect.as(appendSome(id, [added(1)]), [added(100)]) : [added(100)]
      })
      assert.deepStrictEqual(seen, [0, 1, 2, 3])
      assert.deepStrictEqual([executed.version, executed.state.sum], [4, 103])
      assert.deepStrictEqual(yield* Effect.map(Aggregate.load(Counter, id), ({ state }) => state), executed.state)
    }))

  test("execute retries at most as often as it is told, by default ten times, and fails with the conflict", () =>
    Effect.gen(function* () {
      for (const [options, attempts] of [
        [{ retries: 0 }, 1],
        [{ retries: 2 }, 3],
        [{}, 11],
        [undefined, 11]
      ] as const) {
        const id = freshId()
        let decided = 0
        const decide = () => {
          decided++
          return Effect.as(appendSome(id, [added(1)]), [added(100)])
        }
        const error = yield* Effect.flip(Aggregate.execute(Counter, id, decide, options))
        assert.ok(error._tag === "VersionConflict", String(error))
        assert.strictEqual(decided, attempts)
        assert.deepStrictEqual([error.expected, error.actual], [attempts - 1, attempts])
        assert.strictEqual((yield* Aggregate.load(Counter, id)).state.sum, attempts)
      }
    }))

  test("a conflict that the decision itself fails with is its error, and no reason to decide again", () =>
    Effect.gen(function* () {
      const id = freshId()
      const own = new EventStore.VersionConflict({ stream: streamOf(Counter, freshId()), expected: 1, actual: 2 })
      let decided = 0
      const error = yield* Effect.flip(
        Aggregate.execute(Counter, id, () => {
          decided++
          return Effect.fail(own)
        })
      )
      assert.strictEqual(error, own)
      assert.strictEqual(decided, 1)
    }))

  test("of 32 that execute on one aggregate at once each is counted exactly once", () =>
    Effect.gen(function* () {
      const id = freshId()
      // Each conflict is another's success, of which there are 31.
      const executed = yield* Effect.forEach(
        numbers(0, 31),
        (n) =>
          Aggregate.execute(Counter, id, ({ sum }) => [added(2 ** n), { _tag: "Renamed" as const, name: `${sum}` }], {
            retries: 31,
            commandId: `${n}`
          }),
        { concurrency: "unbounded" }
      )
      const { state, version } = yield* Aggregate.load(Counter, id)
      assert.deepStrictEqual([state.sum, version], [2 ** 32 - 1, 64])
      assert.deepStrictEqual(
        executed.map(({ version }) => version).sort((a, b) => a - b),
        numbers(1, 32).map((n) => 2 * n)
      )
      const events = yield* stored(id)
      assert.strictEqual(new Set(events.map(({ commandId }) => commandId)).size, 32)
      // Each decided on what was there when its events were appended.
      let sum = 0
      for (const [i, event] of events.entries()) {
        if (event.type === "Added") sum += (event.data as { amount: number }).amount
        else assert.deepStrictEqual(event.data, { name: `${sum - 2 ** Number(events[i - 1]?.commandId)}` })
      }
    }))

  test("what is no id is InvalidInput that names the field, in every operation", () =>
    Effect.gen(function* () {
      const bad: ReadonlyArray<readonly [unknown, string]> = [
        [null, "id"],
        [undefined, "id"],
        ["id", "id"],
        [[], "id"],
        [{}, "id.tenantId"],
        [{ aggregateId: "a" }, "id.tenantId"],
        [{ tenantId: "", aggregateId: "a" }, "id.tenantId"],
        [{ tenantId: 5, aggregateId: "a" }, "id.tenantId"],
        [{ tenantId: "t" }, "id.aggregateId"],
        [{ tenantId: "t", aggregateId: null }, "id.aggregateId"],
        [{ tenantId: "t", aggregateId: "a\0b" }, "id.aggregateId"],
        [{ tenantId: "t", aggregateId: "\ud800" }, "id.aggregateId"],
        [{ tenantId: "t", aggregateId: "a".repeat(256) }, "id.aggregateId"]
      ]
      for (const [value, what] of bad) {
        const id = value as Aggregate.Id
        yield* invalid(Aggregate.load(Counter, id), what)
        yield* invalid(Aggregate.loadAt(Counter, id, 1), what)
        yield* invalid(Aggregate.append(Counter, id, some, { expected: "any" }), what)
        yield* invalid(
          Aggregate.execute(Counter, id, () => some),
          what
        )
        yield* invalid(Aggregate.delete(Counter, id), what)
        yield* invalid(Counter.pipe(Aggregate.load(id)), what)
        yield* invalid(Counter.pipe(Aggregate.loadAt(id, 1)), what)
        yield* invalid(Counter.pipe(Aggregate.delete(id)), what)
      }
    }))

  test("what is no version, no option and no event is InvalidInput that names the field", () =>
    Effect.gen(function* () {
      const id = freshId()
      for (const version of [-1, -0, 0.5, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 53, "1", null, undefined, {}]) {
        yield* invalid(Aggregate.loadAt(Counter, id, version as number), "version")
      }
      let decided = 0
      const decide = () => {
        decided++
        return [added(1)]
      }
      const options: ReadonlyArray<readonly [unknown, string]> = [
        [null, "options"],
        [3, "options"],
        [[], "options"],
        [new Map(), "options"],
        [{ retries: -1 }, "options.retries"],
        [{ retries: 0.5 }, "options.retries"],
        [{ retries: Number.POSITIVE_INFINITY }, "options.retries"],
        [{ retries: "3" }, "options.retries"],
        [{ retries: null }, "options.retries"],
        [{ retrys: 3 }, "a key of options"],
        [{ expected: 3 }, "a key of options"]
      ]
      for (const [value, what] of options) {
        yield* invalid(Aggregate.execute(Counter, id, decide, value as Aggregate.ExecuteOptions), what)
      }
      assert.strictEqual(decided, 0, "decided before the options were looked at")
      const envelopes: ReadonlyArray<readonly [unknown, string]> = [
        [{ commandId: "" }, "events[0].commandId"],
        [{ commandId: null }, "events[0].commandId"],
        [{ metadata: null }, "events[0].metadata"],
        [{ metadata: [] }, "events[0].metadata"],
        [{ instanceId: 3 }, "events[0].instanceId"],
        [{ createdAt: new Date() }, "events[0].createdAt"]
      ]
      for (const [value, what] of envelopes) {
        const envelope = value as EventStore.Envelope
        yield* invalid(Aggregate.execute(Counter, id, decide, envelope), what)
        yield* invalid(Aggregate.append(Counter, id, [added(1)], { ...envelope, expected: "any" }), what)
      }
      for (const events of [null, undefined, "events", {}, new Set([added(1)])]) {
        const given = events as unknown as ReadonlyArray<CounterEvent>
        yield* invalid(
          Aggregate.execute(Counter, id, () => given),
          "events"
        )
        yield* invalid(Aggregate.append(Counter, id, given, { expected: "any" }), "events")
      }
      for (const event of [null, {}, { _tag: "Unknown" }, { _tag: "Added" }, { _tag: "Added", amount: "1" }]) {
        const events = [added(1), event as CounterEvent]
        yield* invalid(
          Aggregate.execute(Counter, id, () => events),
          "events[1]"
        )
        yield* invalid(Aggregate.append(Counter, id, events, { expected: "any" }), "events[1]")
      }
      // JSON has no such number.
      yield* invalid(
        Aggregate.execute(Counter, id, () => [added(Number.NaN)]),
        "events[0].data.amount"
      )
      yield* invalid(Aggregate.append(Counter, id, some, {} as { expected: number }), "options.expected")
      assert.strictEqual((yield* Aggregate.load(Counter, id)).version, 0)
    }))

  test("an event that does not fit the Schema fails loads, loads at its version and executions with EventDecodeError", () =>
    Effect.gen(function* () {
      const store = yield* EventStore.EventStore
      for (const strange of [
        { type: "Added", data: { amount: "many" } },
        { type: "Unknown", data: {} },
        { type: "Added", data: [1] },
        { type: "Added", data: null }
      ]) {
        const id = freshId()
        const stream = streamOf(Counter, id)
        yield* appendSome(id, some.slice(0, 4))
        yield* Aggregate.load(Counter, id)
        const strangeId = crypto.randomUUID()
        yield* store.append(stream, [{ ...strange, id: strangeId }], { expected: 4 })
        yield* appendSome(id)
        const loads: ReadonlyArray<Effect.Effect<unknown, { readonly _tag: string }, EventStore.EventStore>> = [
          Aggregate.load(Counter, id),
          Aggregate.loadAt(Counter, id, 5),
          Aggregate.loadAt(Counter, id, 9),
          Aggregate.execute(Counter, id, () => [added(1)])
        ]
        for (const load of loads) {
          const error = yield* Effect.flip(load)
          assert.ok(error instanceof EventStore.EventDecodeError, String(error))
          assert.deepStrictEqual(
            [error.id, error.type, error.version, error.stream],
            [strangeId, strange.type, 5, stream]
          )
        }
        assert.deepStrictEqual((yield* Aggregate.loadAt(Counter, id, 4)).state, stateAfter(some.slice(0, 4)))
        assert.strictEqual(yield* store.version(stream), 12)
      }
    }))

  test("delete leaves nothing, answers how many events there were, and the aggregate may begin again", () =>
    Effect.gen(function* () {
      const id = freshId()
      assert.strictEqual(yield* Aggregate.delete(Counter, id), 0)
      yield* appendSome(id)
      yield* Aggregate.load(Counter, id)
      assert.strictEqual(yield* Aggregate.delete(Counter, id), some.length)
      assert.strictEqual((yield* Aggregate.load(Counter, id)).version, 0)
      const others = [added(3), added(4), added(5), added(6), added(7), added(8), added(9), added(10)]
      yield* Aggregate.append(Counter, id, others, { expected: "noStream" })
      const { state, version } = yield* Aggregate.load(Counter, id)
      assert.deepStrictEqual([state, version], [stateAfter(others), others.length])
      assert.strictEqual(yield* Counter.pipe(Aggregate.delete(id)), others.length)
    }))
}

for (const pair of pairs) {
  pair.describe(`Aggregate on ${pair.name}`, () => {
    vitestLayer(pair.layer, { excludeTestServices: true, timeout: 900_000 })((it) => {
      describe("with snapshots", () => {
        behaviours((title, body) => it.effect(title, body, 900_000), true)
      })
      describe("without a SnapshotStore", () => {
        behaviours((title, body) => it.effect(title, () => omitSnapshots(body()), 900_000), false)
      })
    })
  })
}

describe("Aggregate", () => {
  plainIt("evolve gets a state and an event and nothing else, and execute folds as load does", async () => {
    const lengths = new Set<number>()
    const Strict = Aggregate.make({
      domain: "strict",
      state: CounterState,
      event: Schema.TaggedStruct("Added", { amount: Schema.Number }),
      initial: initialCounter,
      evolve: (...args) => {
        lengths.add(args.length)
        return evolveCounter(...args)
      }
    })
    const id = freshId()
    const add = Aggregate.execute(Strict, id, () => [
      { _tag: "Added" as const, amount: 1 },
      { _tag: "Added" as const, amount: 2 }
    ])
    await Effect.runPromise(Effect.provide(Effect.zipRight(add, Aggregate.load(Strict, id)), EventStoreMemory.layer()))
    assert.deepStrictEqual([...lengths], [2])
  })

  plainIt("a definition with a bad domain or snapshotVersion is refused", () => {
    const definition = {
      state: CounterState,
      event: Schema.TaggedStruct("Added", { amount: Schema.Number }),
      initial: initialCounter,
      evolve: evolveCounter
    }
    for (const domain of ["", "a\0", "x".repeat(256), null, undefined, 3]) {
      assert.throws(() => Aggregate.make({ ...definition, domain: domain as string }), /domain/)
    }
    for (const snapshotVersion of ["a\0", "x".repeat(239), null, 3]) {
      const make = () => Aggregate.make({ ...definition, domain: "d", snapshotVersion: snapshotVersion as string })
      assert.throws(make, /snapshotVersion/)
    }
    Aggregate.make({ ...definition, domain: "d", snapshotVersion: "x".repeat(238) })
  })

  plainIt("errors and requirements are inferred exactly", () => {
    const id = freshId()
    type Store = EventStore.EventStore
    type Loaded = Aggregate.Loaded<CounterState>
    type Executed = Aggregate.Executed<CounterState, CounterEvent>
    type ChangeError = Aggregate.LoadError | EventStore.AppendError

    expectTypeOf<Aggregate.LoadError>().toEqualTypeOf<
      Errors.InvalidInput | Errors.ReadFailure | EventStore.EventDecodeError
    >()
    expectTypeOf(Counter).toEqualTypeOf<Aggregate.Aggregate<CounterState, CounterEvent>>()
    expectTypeOf(Aggregate.load(Counter, id)).toEqualTypeOf<Effect.Effect<Loaded, Aggregate.LoadError, Store>>()
    expectTypeOf(Counter.pipe(Aggregate.load(id))).toEqualTypeOf<Effect.Effect<Loaded, Aggregate.LoadError, Store>>()
    expectTypeOf(Aggregate.loadAt(Counter, id, 1)).toEqualTypeOf<
      Effect.Effect<Loaded, Aggregate.LoadError | Errors.NotFound, Store>
    >()
    expectTypeOf(Counter.pipe(Aggregate.loadAt(id, 1))).toEqualTypeOf<
      Effect.Effect<Loaded, Aggregate.LoadError | Errors.NotFound, Store>
    >()
    expectTypeOf(Aggregate.append(Counter, id, some, { expected: 0 })).toEqualTypeOf<
      Effect.Effect<EventStore.Appended, EventStore.AppendError, Store>
    >()
    expectTypeOf(Aggregate.delete(Counter, id)).toEqualTypeOf<
      Effect.Effect<number, Errors.InvalidInput | Errors.ReadOnly | Errors.StoreFailure, Store>
    >()

    // A decision without an Effect adds nothing.
    expectTypeOf(Aggregate.execute(Counter, id, () => [added(1)])).toEqualTypeOf<
      Effect.Effect<Executed, ChangeError, Store>
    >()
    // A failure beside plain events adds its error.
    expectTypeOf(
      Aggregate.execute(Counter, id, ({ sum }) => {
        expectTypeOf(sum).toEqualTypeOf<number>()
        return sum > 10 ? Effect.fail(new TooMuch({ most: 10 })) : [added(1)]
      })
    ).toEqualTypeOf<Effect.Effect<Executed, ChangeError | TooMuch, Store>>()
    // An Effect adds its error and its requirements.
    const decide = (_: CounterState, version: number) =>
      Effect.gen(function* () {
        const { most } = yield* Limit
        if (version > most) return yield* new TooMuch({ most })
        return [added(1)]
      })
    expectTypeOf(Aggregate.execute(Counter, id, decide)).toEqualTypeOf<
      Effect.Effect<Executed, ChangeError | TooMuch, Store | Limit>
    >()
    expectTypeOf(Aggregate.execute(Counter, id, ({ sum }, version) => (sum > version ? [] : [added(1)]))).toEqualTypeOf<
      Effect.Effect<Executed, ChangeError, Store>
    >()

    // @ts-expect-error: no event of the aggregate
    Aggregate.execute(Counter, id, () => [{ _tag: "Removed" }])
    // @ts-expect-error: no event of the aggregate
    Aggregate.append(Counter, id, [{ _tag: "Added", amount: "1" }], { expected: 0 })
    // @ts-expect-error: a repeat is the caller's affair, not one id for all events
    Aggregate.execute(Counter, id, () => [added(1)], { id: "x" })
    // @ts-expect-error: a policy for another state
    counter(SnapshotPolicy.when((state: { readonly closed: boolean }) => state.closed))
    counter(
      SnapshotPolicy.or(
        SnapshotPolicy.every(10),
        SnapshotPolicy.when(({ sum }: { sum: number }) => sum > 3)
      )
    )

    const layer: Layer.Layer<Store> = Layer.orDie(EventStoreMemory.layer())
    // Nothing but the EventStore is needed.
    expectTypeOf(Effect.provide(Aggregate.load(Counter, id), layer)).toEqualTypeOf<
      Effect.Effect<Loaded, Aggregate.LoadError>
    >()
  })
})
