/**
 * What operations report: a counter for each, a span where somebody can see it, and never a payload.
 */
import { assert, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Metric, Stream, Tracer } from "effect"
import { EventStore } from "effect-stores"
import { EventStoreMemory } from "effect-stores/memory"

const stream = { tenantId: "t", domain: "d", aggregateId: "a" }
const append = Effect.flatMap(EventStore.EventStore, (store) =>
  store.append(stream, [{ type: "Happened", data: { secret: "swordfish" } }], { expected: "any" })
)

/** Runs with a tracer that keeps its spans. */
const traced = <A, E, R>(self: Effect.Effect<A, E, R>) =>
  Effect.gen(function* () {
    const spans: Array<Tracer.Span> = []
    const native = yield* Effect.tracer
    const tracer = Tracer.make({
      span: (...args) => {
        const span = native.span(...args)
        spans.push(span)
        return span
      },
      context: (f) => f()
    })
    yield* Effect.withTracer(self, tracer)
    return spans
  })

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
