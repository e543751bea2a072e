/**
 * What operations report: a counter for each, a span where somebody can see it, and never a payload.
 */
import { assert, it } from "@effect/vitest"
import { Effect, Metric, Stream, Tracer } from "effect"
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
