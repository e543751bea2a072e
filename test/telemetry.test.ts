/**
 * What operations report: a counter for each, a span where somebody can see it, and never a payload.
 */
import { assert, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Layer, Metric, Option, Redacted, Schema, Stream } from "effect"
import { Aggregate, CommandStore, EventStore } from "effect-stores"
import { CommandStoreMemory, EventStoreMemory, MemoryDatabase } from "effect-stores/memory"
import { EventStorePg, PgDatabase } from "effect-stores/pg"
import { EventStoreSqlite } from "effect-stores/sqlite"
import { describePg, freshDatabase, temporaryDirectory } from "./support/backends.js"
import { attributesOf, traced } from "./support/tracing.js"

const stream = { tenantId: "t", domain: "d", aggregateId: "a" }
const append = Effect.flatMap(EventStore.EventStore, (store) =>
  store.append(stream, [{ type: "Happened", data: { secret: "swordfish" } }], { expected: "any" })
)

it.effect("an operation is a span of the application's tracer, without payload", () =>
  Effect.gen(function* () {
    const spans = yield* traced(append)
    assert.deepStrictEqual(
      spans.map(({ name }) => name),
      ["EventStore.append"]
    )
    const attributes = JSON.stringify([...(spans[0]?.attributes ?? [])])
    assert.include(attributes, "db.system.name")
    assert.notInclude(attributes, "swordfish")
  }).pipe(Effect.provide(EventStoreMemory.layer()))
)

it.effect("an append says what it appends where, and to which version it has led", () =>
  Effect.gen(function* () {
    const store = yield* EventStore.EventStore
    const events = [
      { type: "Placed", data: 1 },
      { type: "Paid", data: 2 },
      { type: "Placed", data: 3 }
    ]
    const [one] = yield* traced(store.append(stream, events, { expected: "noStream" }))
    assert.deepStrictEqual(attributesOf(one), {
      "db.system.name": "memory",
      "db.operation.name": "append",
      "effect_stores.domain": "d",
      "effect_stores.type": "Placed, Paid",
      "effect_stores.events": 3,
      "effect_stores.expected": "noStream",
      "effect_stores.version": 3
    })
    const many = Array.from({ length: 9 }, (_, i) => ({ type: `T${i}`, data: i }))
    const [several] = yield* traced(
      store.appendAll([
        { stream, events: many, expected: "any" },
        { stream: { ...stream, domain: "e" }, events: many, expected: "any" }
      ])
    )
    const { "effect_stores.domain": domain, "effect_stores.streams": streams, ...rest } = attributesOf(several)
    assert.deepStrictEqual([domain, streams, rest["effect_stores.events"]], ["d, e", 2, 18])
    assert.strictEqual(rest["effect_stores.type"], "T0, T1, T2, T3, T4, T5, T6, T7, …")
    const [twice] = yield* traced(store.append(stream, [...many.slice(1), ...many.slice(1)], { expected: "any" }))
    assert.strictEqual(attributesOf(twice)["effect_stores.type"], "T1, T2, T3, T4, T5, T6, T7, T8")
  }).pipe(Effect.provide(EventStoreMemory.layer()))
)

it.effect("a refused operation says with which error, and which version was there", () =>
  Effect.gen(function* () {
    const store = yield* EventStore.EventStore
    yield* append
    const [conflict] = yield* traced(
      Effect.ignore(store.append(stream, [{ type: "Happened", data: 1 }], { expected: 7 }))
    )
    const seen = attributesOf(conflict)
    assert.deepStrictEqual([seen["error.type"], seen["effect_stores.version"]], ["VersionConflict", 1])
    const [unfit] = yield* traced(Effect.ignore(store.version({ ...stream, domain: "" })))
    assert.strictEqual(attributesOf(unfit)["error.type"], "InvalidInput")
    const [feed] = yield* traced(Effect.ignore(Stream.runDrain(store.feed({ after: -1 }))))
    assert.strictEqual(attributesOf(feed)["error.type"], "InvalidInput")
    const [interrupted] = yield* traced(
      Effect.flatMap(Effect.fork(Stream.runDrain(store.subscribe())), (fiber) =>
        Effect.zipRight(Effect.yieldNow(), Fiber.interrupt(fiber))
      )
    )
    assert.notProperty(attributesOf(interrupted), "error.type")
  }).pipe(Effect.provide(EventStoreMemory.layer()))
)

it.effect("a read says how much it has returned", () =>
  Effect.gen(function* () {
    const store = yield* EventStore.EventStore
    const events = Array.from({ length: 2_500 }, (_, data) => ({ type: "Happened", data }))
    yield* store.append(stream, events, { expected: "any" })
    const reads = {
      read: Stream.runDrain(store.read(stream)),
      fold: store.fold(stream, 0, (sum) => sum + 1),
      page: store.page({ limit: 7 }),
      get: store.get("01890a5d-ac96-774b-bcce-b302099a8057"),
      feed: Stream.runDrain(store.feed({ filter: { types: ["Other"] } }))
    }
    const returned = yield* Effect.forEach(Object.values(reads), (read) =>
      Effect.map(traced<unknown, unknown, never>(read), ([span]) => attributesOf(span)["db.response.returned_rows"])
    )
    assert.deepStrictEqual(returned, [2_500, 2_500, 7, 0, 0])
  }).pipe(Effect.provide(EventStoreMemory.layer()))
)

const Counter = Aggregate.make({
  domain: "counter",
  state: Schema.Struct({ n: Schema.Number }),
  event: Schema.TaggedStruct("Added", { n: Schema.Number }),
  initial: { n: 0 },
  evolve: (state, added) => ({ n: state.n + added.n })
})

it.effect("an execution on an aggregate says at which attempt it succeeded, and has all of them below it", () =>
  Effect.gen(function* () {
    const counter = { tenantId: "t", aggregateId: "a" }
    const added = [{ _tag: "Added", n: 1 } as const]
    let others = 2
    const spans = yield* traced(
      Aggregate.execute(Counter, counter, () =>
        others-- > 0
          ? Effect.as(Aggregate.append(Counter, counter, added, { expected: "any" }), added)
          : Effect.succeed(added)
      )
    )
    const [executed] = spans
    assert.deepStrictEqual([executed?.name, executed?.kind], ["Aggregate.execute", "internal"])
    assert.deepStrictEqual(attributesOf(executed), {
      "effect_stores.domain": "counter",
      "effect_stores.attempt": 3,
      "effect_stores.events": 1,
      "effect_stores.version": 3
    })
    const loads = spans.filter(({ name }) => name === "Aggregate.load")
    assert.deepStrictEqual(
      loads.map((span) => [attributesOf(span)["effect_stores.version"], attributesOf(span)["effect_stores.events"]]),
      [
        [0, 0],
        [1, 1],
        [2, 2]
      ]
    )
    for (const { parent } of loads)
      assert.strictEqual(parent._tag === "Some" ? parent.value.spanId : undefined, executed?.spanId)
  }).pipe(Effect.provide(EventStoreMemory.layer()))
)

it.effect("an execution that fails says with what, and nothing of where in this library that was", () =>
  Effect.gen(function* () {
    const counter = { tenantId: "t", aggregateId: "a" }
    const spans = yield* traced(Effect.ignore(Aggregate.execute(Counter, counter, () => Effect.fail(new TypeError()))))
    const [executed] = spans
    assert.strictEqual(executed?.name, "Aggregate.execute")
    assert.deepStrictEqual(attributesOf(executed), {
      "error.type": "TypeError",
      "effect_stores.domain": "counter",
      "effect_stores.attempt": 1
    })
  }).pipe(Effect.provide(EventStoreMemory.layer()))
)

it.effect("a command says which attempt it is", () =>
  Effect.gen(function* () {
    const store = yield* CommandStore.CommandStore
    const command = { id: "01890a5d-ac96-774b-bcce-b302099a8057", tenantId: "t", domain: "d", type: "Do", data: 1 }
    const run = (effect: Effect.Effect<void, string>) =>
      traced(Effect.ignore(store.execute(command, effect, { success: Schema.Void })))
    const attempts = yield* Effect.forEach([run(Effect.fail("no")), run(Effect.void), run(Effect.void)], (spans) =>
      Effect.map(spans, (all) => attributesOf(all[0])["effect_stores.attempt"])
    )
    // The third is answered with the stored outcome.
    assert.deepStrictEqual(attempts, [1, 2, undefined])
  }).pipe(Effect.provide(CommandStoreMemory.layer()))
)

it.effect("a transaction is a span around what is in it, and so is one inside another", () =>
  Effect.gen(function* () {
    const { transaction } = yield* MemoryDatabase.MemoryDatabase
    const spans = yield* traced(Effect.ignore(transaction(Effect.zipRight(append, transaction(Effect.fail("no"))))))
    assert.deepStrictEqual(
      spans.map((span) => [
        span.name,
        span.parent._tag === "Some" && span.parent.value._tag === "Span" ? span.parent.value.name : undefined,
        attributesOf(span)["effect_stores.nested"],
        span.status._tag === "Ended" && Exit.isSuccess(span.status.exit)
      ]),
      [
        ["MemoryDatabase.transaction", undefined, false, false],
        ["EventStore.append", "MemoryDatabase.transaction", undefined, true],
        ["MemoryDatabase.transaction", "MemoryDatabase.transaction", true, false]
      ]
    )
  }).pipe(Effect.provide(Layer.provideMerge(EventStoreMemory.layerFromDatabase(), MemoryDatabase.layer)))
)

it.live("an operation on SQLite names its file and table", () =>
  Effect.gen(function* () {
    const filename = `${temporaryDirectory()}/events.db`
    const [span] = yield* traced(append).pipe(
      Effect.provide(EventStoreSqlite.layer({ filename })),
      Effect.map((spans) => spans.filter(({ name }) => name === "EventStore.append"))
    )
    const { "db.collection.name": table, "db.namespace": file, "db.system.name": system } = attributesOf(span)
    assert.deepStrictEqual([system, file, table], ["sqlite", filename, "es_events"])
  })
)

describePg("telemetry on PostgreSQL", () => {
  it.live("an operation names its server, database and table, and the code with which it was refused", () =>
    Effect.gen(function* () {
      const url = yield* Effect.promise(freshDatabase)
      const { hostname, pathname, port } = new URL(url)
      yield* Effect.gen(function* () {
        const { sql } = yield* PgDatabase.PgDatabase
        const store = yield* EventStore.EventStore
        const [one] = yield* traced(store.version(stream))
        assert.deepInclude(attributesOf(one), {
          "server.address": hostname,
          "server.port": Number(port),
          "db.namespace": pathname.slice(1),
          "db.collection.name": "public.es_events"
        })
        yield* sql`drop table es_events cascade`
        const [refused] = yield* traced(Effect.ignore(store.version(stream)))
        const seen = attributesOf(refused)
        assert.deepStrictEqual([seen["error.type"], seen["db.response.status_code"]], ["StoreError", "42P01"])
      }).pipe(Effect.provide(EventStorePg.layer({ url: Redacted.make(url) })))
    })
  )

  it.effect("what an effect of the application fails with may be anything, null as well", () =>
    Effect.gen(function* () {
      const { transaction } = yield* MemoryDatabase.MemoryDatabase
      for (const error of [null, undefined, "text", { cause: null }]) {
        const spans = yield* traced(
          Effect.gen(function* () {
            assert.deepStrictEqual(yield* Effect.exit(transaction(Effect.fail(error))), Exit.fail(error))
          })
        )
        assert.strictEqual(spans.length, 1)
      }
    }).pipe(Effect.provide(MemoryDatabase.layer))
  )

  it.live("a transaction is one span from its wait for a connection to its end, also by sql.withTransaction", () =>
    Effect.gen(function* () {
      const url = yield* Effect.promise(freshDatabase)
      yield* Effect.gen(function* () {
        const { sql, transaction } = yield* PgDatabase.PgDatabase
        for (const within of [transaction(append), sql.withTransaction(append)]) {
          const spans = yield* traced<unknown, unknown, EventStore.EventStore>(within)
          assert.deepStrictEqual(
            spans.map(({ name }) => name),
            ["PgDatabase.transaction", "EventStore.append"]
          )
        }
      }).pipe(Effect.provide(EventStorePg.layer({ url: Redacted.make(url) })))
    })
  )
})

it.effect("an operation inside a span is its child", () =>
  Effect.gen(function* () {
    const spans = yield* traced(Effect.withSpan(append, "parent"))
    const child = spans.find(({ name }) => name === "EventStore.append")
    assert.strictEqual(child?.parent._tag === "Some" ? child.parent.value.spanId : undefined, spans[0]?.spanId)
  }).pipe(Effect.provide(EventStoreMemory.layer()))
)

it.effect("operations are counted by name, streams once", () =>
  Effect.gen(function* () {
    const count = (operation: string) =>
      Metric.value(
        Metric.counter("effect_stores_operations", {
          description: "Operations started, by store and operation",
          incremental: true
        }).pipe(Metric.tagged("store", "EventStore"), Metric.tagged("operation", operation))
      ).pipe(Effect.map((state) => state.count))
    const store = yield* EventStore.EventStore
    const before = { append: yield* count("append"), read: yield* count("read") }
    yield* append
    yield* append
    yield* Stream.runDrain(store.read(stream))
    assert.strictEqual((yield* count("append")) - before.append, 2)
    assert.strictEqual((yield* count("read")) - before.read, 1)
  }).pipe(Effect.provide(EventStoreMemory.layer()))
)

it.effect("a stream is one span, from its first page to its end or to where its reader stops", () =>
  Effect.gen(function* () {
    const store = yield* EventStore.EventStore
    const events = Array.from({ length: 2_500 }, (_, data) => ({ type: "Happened", data }))
    yield* store.append(stream, events, { expected: "any" })
    const streams = {
      read: Stream.runDrain(store.read(stream)),
      feed: Stream.runDrain(Stream.take(store.feed(), 1_500)),
      distinct: Stream.runDrain(store.distinct("type")),
      subscribe: Stream.runDrain(Stream.take(store.subscribe(), 1_500))
    }
    for (const [name, self] of Object.entries(streams)) {
      const spans = yield* traced(self)
      assert.deepStrictEqual(
        spans.map((span) => [span.name, span.kind, span.status._tag]),
        [[`EventStore.${name}`, "client", "Ended"]]
      )
    }
  }).pipe(Effect.provide(EventStoreMemory.layer()))
)

it.effect("a stream that fails or is interrupted ends its span with that", () =>
  Effect.gen(function* () {
    const store = yield* EventStore.EventStore
    const [failed] = yield* traced(Effect.ignore(Stream.runDrain(store.feed({ after: -1 }))))
    assert.strictEqual(failed?.name, "EventStore.feed")
    assert.isTrue(failed?.status._tag === "Ended" && Exit.isFailure(failed.status.exit))
    const endless = Stream.runDrain(store.subscribe())
    const [interrupted] = yield* traced(
      Effect.flatMap(Effect.fork(endless), (fiber) => Effect.zipRight(Effect.yieldNow(), Fiber.interrupt(fiber)))
    )
    assert.strictEqual(interrupted?.name, "EventStore.subscribe")
    assert.isTrue(interrupted?.status._tag === "Ended" && Exit.isInterrupted(interrupted.status.exit))
  }).pipe(Effect.provide(EventStoreMemory.layer()))
)

it.effect("what is done with the events of a stream is no child of its span", () =>
  Effect.gen(function* () {
    const store = yield* EventStore.EventStore
    yield* append
    const use = Stream.runForEach(store.read(stream), () => Effect.withSpan(Effect.void, "use"))
    const spans = yield* traced(Effect.withSpan(use, "parent"))
    const parents = spans.map(({ name, parent }) => [
      name,
      parent._tag === "Some" && parent.value._tag === "Span" ? parent.value.name : undefined
    ])
    assert.deepStrictEqual(parents, [
      ["parent", undefined],
      ["EventStore.read", "parent"],
      ["use", "parent"]
    ])
  }).pipe(Effect.provide(EventStoreMemory.layer()))
)

it.effect("conflicts are counted, and nothing else is counted as one", () =>
  Effect.gen(function* () {
    const conflicts = Effect.map(
      Metric.value(
        Metric.counter("effect_stores_conflicts", {
          description: "Writes refused with VersionConflict, by store",
          incremental: true
        }).pipe(Metric.tagged("store", "EventStore"))
      ),
      (state) => state.count
    )
    const before = yield* conflicts
    const store = yield* EventStore.EventStore
    const event = { id: "01890a5d-ac96-774b-bcce-b302099a8057", type: "Happened", data: 1 }
    const conflict = (self: Effect.Effect<unknown, { readonly _tag: string }>) =>
      Effect.map(Effect.flip(self), ({ _tag }) => assert.strictEqual(_tag, "VersionConflict"))
    yield* store.append(stream, [event], { expected: "noStream" })
    yield* store.append(stream, [event], { expected: "noStream" })
    yield* Effect.flip(store.append(stream, [{ ...event, data: 2 }], { expected: "any" }))
    assert.strictEqual((yield* conflicts) - before, 0)
    yield* conflict(store.append(stream, [{ type: "Happened", data: 3 }], { expected: 7 }))
    yield* conflict(
      store.appendAll([
        { stream: { ...stream, aggregateId: "b" }, events: [{ type: "Happened", data: 3 }], expected: 1 }
      ])
    )
    assert.strictEqual((yield* conflicts) - before, 2)
  }).pipe(Effect.provide(EventStoreMemory.layer()))
)

it.effect("every metric has a description, which exporters show beside it", () =>
  Effect.gen(function* () {
    yield* Effect.scoped(Layer.build(EventStoreSqlite.layer({ filename: ":memory:" })))
    const metrics = Metric.unsafeSnapshot(undefined).map(({ metricKey }) => metricKey)
    const ours = metrics.filter(({ name }) => name.startsWith("effect_stores_"))
    assert.includeMembers(
      ours.map(({ name }) => name),
      ["effect_stores_operations", "effect_stores_pool_open", "effect_stores_pool_waiting"]
    )
    for (const { description, name } of ours) {
      assert.notStrictEqual(
        Option.getOrElse(description, () => ""),
        "",
        name
      )
    }
  })
)
