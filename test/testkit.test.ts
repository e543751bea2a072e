/**
 * The kit for tests of applications, used as an application does: a decision, a projection, a whole process from an
 * event to a time-out, all in memory and under the TestClock, which nothing but the test moves.
 */
import { assert, describe, it } from "@effect/vitest"
import { Context, DateTime, Effect, Exit, Option, Ref, Schema, TestClock } from "effect"
import { Aggregate, CommandStore, CommandWorker, EventStore, Projection, Reaction, SnapshotPolicy } from "effect-stores"
import { AggregateTest, Followers, ProjectionTest, TestStores } from "effect-stores/testkit"

const Deposited = Schema.TaggedStruct("Deposited", { amount: Schema.Number, at: Schema.optional(Schema.Date) })
const Withdrawn = Schema.TaggedStruct("Withdrawn", { amount: Schema.Number })

const definition = {
  domain: "account",
  state: Schema.Struct({ balance: Schema.Number }),
  event: Schema.Union(Deposited, Withdrawn),
  initial: { balance: 0 },
  evolve: ({ balance }: { readonly balance: number }, event: typeof Deposited.Type | typeof Withdrawn.Type) => ({
    balance: event._tag === "Deposited" ? balance + event.amount : balance - event.amount
  })
}
const Account = Aggregate.make(definition)

const withdraw = (amount: number) => (account: { readonly balance: number }) =>
  account.balance < amount ? Effect.fail("too little money" as const) : Effect.succeed([Withdrawn.make({ amount })])

describe("a decision without a store", () => {
  const given = AggregateTest.given(
    Account,
    Deposited.make({ amount: 7, at: new Date(5) }),
    Withdrawn.make({ amount: 3 })
  )

  it.effect("is asked with the state after the events, and returns its events and the state after them", () =>
    Effect.gen(function* () {
      assert.deepStrictEqual(yield* given.state, { balance: 4 })
      assert.deepStrictEqual(yield* given.when(withdraw(4)), {
        events: [Withdrawn.make({ amount: 4 })],
        state: { balance: 0 },
        version: 3
      })
      assert.strictEqual(yield* Effect.flip(given.when(withdraw(5))), "too little money")
      assert.deepStrictEqual(yield* AggregateTest.given(Account).when((_, version) => (version === 0 ? [] : [])), {
        events: [],
        state: { balance: 0 },
        version: 0
      })
    })
  )

  it.effect("may need services, and knows the version", () =>
    Effect.gen(function* () {
      class Fee extends Context.Tag("Fee")<Fee, number>() {}
      const decided = given.when((_, version) => Effect.map(Fee, (fee) => [Withdrawn.make({ amount: fee * version })]))
      assert.deepStrictEqual((yield* Effect.provideService(decided, Fee, 1)).state, { balance: 2 })
    })
  )

  it.effect("finds events that are not what they were when they are read, given and decided ones", () =>
    Effect.gen(function* () {
      const odd = AggregateTest.given(Account, Deposited.make({ amount: Number.NaN }))
      assert.include(yield* Effect.flip(odd.state), { _tag: "InvalidInput", what: "given[0]" })
      const misspelt = [{ _tag: "Withdrawn" as const, amount: 1, amonut: 1 }]
      const decided = yield* Effect.flip(given.when(() => misspelt))
      assert.include(decided, { _tag: "InvalidInput", what: "decided[0]" })
    })
  )

  it.effect("finds a state that no snapshot keeps, unless there are none", () =>
    Effect.gen(function* () {
      const state = Schema.Struct({ balance: Schema.Number.pipe(Schema.positive()) })
      const initial = { balance: 1 }
      const overdrawn = Aggregate.make({ ...definition, state, initial })
      const lost = yield* Effect.flip(AggregateTest.given(overdrawn, Withdrawn.make({ amount: 3 })).state)
      assert.include(lost, { _tag: "InvalidInput", what: "state" })
      const without = Aggregate.make({ ...definition, state, initial, snapshots: SnapshotPolicy.never })
      assert.deepStrictEqual(yield* AggregateTest.given(without, Withdrawn.make({ amount: 3 })).state, { balance: -2 })
    })
  )
})

const Placed = Schema.TaggedStruct("Placed", { item: Schema.String })
const Shipped = Schema.TaggedStruct("Shipped", { at: Schema.Date })
const Expired = Schema.TaggedStruct("Expired", {})
const Expire = Schema.TaggedStruct("Expire", { order: Schema.String })
const orders = EventStore.forSchema(Schema.Union(Placed, Shipped, Expired))

const order = (aggregateId: string): EventStore.StreamId => ({ tenantId: "acme", domain: "order", aggregateId })

/** Items by order, in the form of a Ref that a test looks at. */
const itemsOf = Effect.map(Ref.make<ReadonlyArray<string>>([]), (seen) => ({
  seen,
  projection: Projection.make({
    name: "items",
    delivery: "atLeastOnce",
    events: Schema.Union(Placed, Shipped),
    handle: (events) =>
      Ref.update(seen, (all) => [
        ...all,
        ...events.map(({ data }) => (data._tag === "Placed" ? data.item : data.at.toISOString().slice(0, 4)))
      ])
  })
}))

describe("a projection fed by hand", () => {
  it.effect("has handled what it was fed, once, as it was stored; again, all of it anew", () =>
    Effect.gen(function* () {
      const { projection, seen } = yield* itemsOf
      yield* ProjectionTest.feed(projection, order("1"), [Placed.make({ item: "lamp" })])
      const { version } = yield* ProjectionTest.feed(projection, order("1"), [
        Shipped.make({ at: new Date("2024-01-01") }),
        Placed.make({ item: "chair" })
      ])
      assert.deepStrictEqual([version, yield* Ref.get(seen)], [3, ["lamp", "2024", "chair"]])
      yield* ProjectionTest.again(projection)
      assert.deepStrictEqual((yield* Ref.get(seen)).slice(3), ["lamp", "2024", "chair"])
    }).pipe(Effect.provide(TestStores.layer))
  )

  it.effect("refuses what does not fit its Schema, and handles nothing", () =>
    Effect.gen(function* () {
      const { projection, seen } = yield* itemsOf
      const wrong = { _tag: "Placed", item: 1 }
      const refused = yield* Effect.flip(ProjectionTest.feed(projection, order("1"), [wrong]))
      assert.strictEqual(refused._tag, "InvalidInput")
      assert.deepStrictEqual(yield* Ref.get(seen), [])
    }).pipe(Effect.provide(TestStores.layer))
  )
})

describe("followers", () => {
  const expiry = Reaction.make({
    name: "expiry",
    events: Placed,
    commands: Expire,
    react: ({ aggregateId, createdAt }) => [
      { domain: "order", command: Expire.make({ order: aggregateId }), dueAt: DateTime.add(createdAt, { hours: 1 }) }
    ]
  })
  const worker = CommandWorker.make({
    name: "orders",
    handlers: [
      CommandWorker.handler(
        Expire,
        ({ data }) => Effect.asVoid(orders.append(order(data.order), [Expired.make({})], { expected: 1 })),
        { transaction: true }
      )
    ]
  })

  it.effect("come to rest by themselves, and what is due later comes when the test says so", () =>
    Effect.gen(function* () {
      const { projection, seen } = yield* itemsOf
      const settle = Followers.settle({ projections: [projection, expiry], workers: [worker] })
      yield* settle
      yield* orders.append(order("1"), [Placed.make({ item: "lamp" })], { expected: "noStream" })
      yield* settle
      assert.deepStrictEqual(yield* Ref.get(seen), ["lamp"])
      const version = Effect.flatMap(EventStore.EventStore, (store) => store.version(order("1")))
      yield* TestClock.adjust("59 minutes")
      yield* settle
      assert.strictEqual(yield* version, 1)
      yield* TestClock.adjust("1 minute")
      yield* settle
      assert.strictEqual(yield* version, 2)
      const store = yield* CommandStore.CommandStore
      assert.strictEqual(yield* store.count({ statuses: ["succeeded"] }), 1)
      assert.deepStrictEqual(
        Option.map((yield* store.info).lastCommand, ({ dueAt }) => dueAt?.epochMillis),
        Option.some(3_600_000)
      )
    }).pipe(Effect.provide(TestStores.layer))
  )

  it.effect("come to rest when what a command has sent before it failed is done, too", () =>
    Effect.gen(function* () {
      const store = yield* CommandStore.CommandStore
      const sent = { id: "0191d8a0-0000-7000-8000-000000000001", tenantId: "t", domain: "order" }
      const first = { ...sent, id: "0191d8a0-0000-7000-8000-000000000002" }
      const sending = CommandWorker.handler(Placed, () =>
        Effect.zipRight(store.create({ ...sent, type: "Expired", data: { _tag: "Expired" } }), Effect.fail("no"))
      )
      const before = CommandWorker.make({
        name: "before",
        handlers: [CommandWorker.handler(Expired, () => Effect.void)]
      })
      const after = CommandWorker.make({ name: "after", handlers: [sending] })
      yield* store.create({ ...first, type: "Placed", data: { _tag: "Placed", item: "lamp" } })
      yield* Followers.settle({ workers: [before, after] })
      const status = (id: string) =>
        Effect.map(
          store.get(id),
          Option.map(({ status }) => status)
        )
      assert.deepStrictEqual(yield* status(sent.id), Option.some("succeeded"))
      assert.deepStrictEqual(yield* status(first.id), Option.some("received"))
    }).pipe(Effect.provide(TestStores.layer))
  )

  it.effect("that never come to rest are told so", () =>
    Effect.gen(function* () {
      const endless = Reaction.make({
        name: "endless",
        events: Schema.Union(Placed, Expired),
        commands: Expire,
        react: ({ aggregateId }) => [{ domain: "order", command: Expire.make({ order: aggregateId }) }]
      })
      const handler = CommandWorker.handler(Expire, ({ data }) =>
        Effect.asVoid(orders.append(order(data.order), [Expired.make({})], { expected: "any" }))
      )
      yield* orders.append(order("1"), [Placed.make({ item: "lamp" })], { expected: "noStream" })
      const settle = Followers.settle({
        projections: [endless],
        workers: [CommandWorker.make({ name: "endless", handlers: [handler] })]
      })
      const exit = yield* Effect.exit(settle)
      assert.isTrue(Exit.isFailure(exit))
      assert.include(yield* Effect.flip(settle), { _tag: "InvalidInput", what: "followers" })
    }).pipe(Effect.provide(TestStores.layer))
  )
})
