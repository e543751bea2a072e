/**
 * From an event to the span in which it was appended: what the metadata has, and what readers make of it.
 */
import { assert, it } from "@effect/vitest"
import { Duration, Effect, Layer, Option, Redacted, Schema, Stream } from "effect"
import { Aggregate, CryptoService, EventStore, EventStoreEncoded, Trace } from "effect-stores"
import { EventStoreMemory } from "effect-stores/memory"
import { EventStorePg } from "effect-stores/pg"
import { EventStoreSqlite } from "effect-stores/sqlite"
import { describe } from "vitest"
import { crypto } from "./sealed/support.js"
import { describePg, freshDatabase, temporaryDirectory } from "./support/backends.js"
import { traced } from "./support/tracing.js"

const stream = { tenantId: "t", domain: "d", aggregateId: "a" }
const event = { type: "Happened", data: 1 }
const traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

const readAll = Effect.flatMap(EventStore.EventStore, (store) =>
  Effect.map(Stream.runCollect(store.read(stream)), (events) => [...events])
)

const suite = (
  on: string,
  layer: (options: { readonly traceparent?: boolean }) => Effect.Effect<Layer.Layer<EventStore.EventStore, unknown>>
) => {
  const withLayer = <A, E>(
    options: { readonly traceparent?: boolean },
    self: Effect.Effect<A, E, EventStore.EventStore>
  ) => Effect.flatMap(layer(options), (built) => Effect.provide(self, built))

  describe(`traceparent ${on}`, () => {
    it.live("is the span of the append, beside what the metadata has, and a link leads to it", () =>
      withLayer(
        { traceparent: true },
        Effect.gen(function* () {
          const store = yield* EventStore.EventStore
          const metadata = { user: "ann" }
          const [span] = yield* traced(store.append(stream, [event, { ...event, metadata }], { expected: "any" }))
          const [plain, described] = yield* readAll
          const expected = { traceparent: `00-${span?.traceId}-${span?.spanId}-01` }
          assert.deepStrictEqual(plain?.metadata, expected)
          assert.deepStrictEqual(described?.metadata, { ...expected, ...metadata })
          for (const { metadata } of [plain, described].filter((found) => found !== undefined)) {
            const [link, ...others] = Trace.linksOf({ metadata })
            assert.deepStrictEqual(
              [link?.span.traceId, link?.span.spanId, link?.span.sampled, others.length],
              [span?.traceId, span?.spanId, true, 0]
            )
          }
        })
      )
    )

    it.live("that is given stays, and without a span, or without the option, there is none", () =>
      Effect.gen(function* () {
        yield* withLayer(
          { traceparent: true },
          Effect.gen(function* () {
            const store = yield* EventStore.EventStore
            yield* traced(store.append(stream, [{ ...event, metadata: { traceparent } }], { expected: "any" }))
            yield* store.append(stream, [event], { expected: "any" })
            const found = yield* readAll
            assert.deepStrictEqual(
              found.map(({ metadata }) => metadata),
              [{ traceparent }, {}]
            )
          })
        )
        yield* withLayer(
          {},
          Effect.gen(function* () {
            const store = yield* EventStore.EventStore
            yield* traced(store.append(stream, [event], { expected: "any" }))
            assert.deepStrictEqual((yield* readAll)[0]?.metadata, {})
          })
        )
      })
    )

    it.live("of a repeat is another one, and it is a repeat all the same; that of the first stays", () =>
      withLayer(
        { traceparent: true },
        Effect.gen(function* () {
          const store = yield* EventStore.EventStore
          const given = [{ ...event, id: "01890a5d-ac96-774b-bcce-b302099a8057" }]
          const append = store.append(stream, given, { expected: "noStream" })
          const [first] = yield* traced(append)
          yield* traced(append)
          yield* append
          const all = yield* readAll
          assert.deepStrictEqual(
            all.map(({ metadata }) => metadata),
            [{ traceparent: `00-${first?.traceId}-${first?.spanId}-01` }]
          )
        })
      )
    )

    it.live("is written for several streams at once, and by aggregates", () =>
      withLayer(
        { traceparent: true },
        Effect.gen(function* () {
          const store = yield* EventStore.EventStore
          const Counter = Aggregate.make({
            domain: stream.domain,
            state: Schema.Struct({ n: Schema.Number }),
            event: Schema.TaggedStruct("Added", { n: Schema.Number }),
            initial: { n: 0 },
            evolve: (state, added) => ({ n: state.n + added.n })
          })
          const appended = yield* traced(store.appendAll([{ stream, events: [event], expected: "any" }]))
          yield* store.maintenance.deleteStream(stream)
          const executed = yield* traced(Aggregate.execute(Counter, stream, () => [{ _tag: "Added", n: 1 } as const]))
          const [found] = yield* readAll
          const append = executed.find(({ name }) => name === "EventStore.append")
          assert.strictEqual(appended[0]?.name, "EventStore.appendAll")
          assert.strictEqual(Trace.linksOf({ metadata: found?.metadata ?? {} })[0]?.span.spanId, append?.spanId)
        })
      )
    )
  })
}

suite("in memory", (options) => Effect.succeed(EventStoreMemory.layer(options)))

suite("on SQLite", (options) =>
  Effect.sync(() => EventStoreSqlite.layer({ filename: `${temporaryDirectory()}/events.db`, ...options })))

describePg("traceparent with a server", () => {
  const onPg = (options: { readonly traceparent?: boolean }) =>
    Effect.map(Effect.promise(freshDatabase), (url) => EventStorePg.layer({ url: Redacted.make(url), ...options }))
  suite("on PostgreSQL", onPg)
})

suite("in a sealed store", (options) =>
  Effect.succeed(Layer.provide(CryptoService.seal(EventStoreMemory.layer(options)), crypto)))

describe("a traceparent", () => {
  const parsed = (value: unknown) =>
    Option.getOrUndefined(Option.map(Trace.parse(value), ({ sampled, spanId, traceId }) => [traceId, spanId, sampled]))
  const [, trace = "", span = ""] = traceparent.split("-")

  it("is read as the standard has it, and what is none is no link", () => {
    assert.deepStrictEqual(parsed(traceparent), [trace, span, true])
    assert.deepStrictEqual(parsed(`00-${trace}-${span}-00`), [trace, span, false])
    // Of a later version, with fields that it has added.
    assert.deepStrictEqual(parsed(`cc-${trace}-${span}-03-more`), [trace, span, true])
    for (const none of [
      undefined,
      7,
      null,
      "",
      `00-${trace}-${span}`,
      `00-${trace}-${span}-01-more`,
      `cc-${trace}-${span}-01more`,
      `ff-${trace}-${span}-01`,
      `00-${"0".repeat(32)}-${span}-01`,
      `00-${trace}-${"0".repeat(16)}-01`,
      `00-${trace.toUpperCase()}-${span}-01`,
      ` ${traceparent}`,
      `${traceparent}\n`
    ]) {
      assert.isUndefined(parsed(none), JSON.stringify(none))
      assert.deepStrictEqual(Trace.linksOf({ metadata: { traceparent: none } }), [])
    }
  })

  it.effect("that is given stands once in what is stored", () =>
    Effect.gen(function* () {
      const texts: Array<string> = []
      const port = yield* EventStoreMemory.makeEncoded
      const append: typeof port.append = (appends, guards) => {
        texts.push(...appends.flatMap(({ events }) => events.map(({ metadata }) => metadata)))
        return port.append(appends, guards)
      }
      const options = { system: "memory", traceparent: true, pollInterval: Duration.seconds(1) }
      const store = EventStoreEncoded.make({ ...port, append }, options)
      yield* traced(store.append(stream, [{ ...event, metadata: { traceparent } }], { expected: "any" }))
      assert.deepStrictEqual(texts, [JSON.stringify({ traceparent })])
    })
  )

  it("is written of a span, and read again; of ids that are none of the standard's there is none", () => {
    assert.deepStrictEqual(
      Trace.traceparentOf({ traceId: trace, spanId: span, sampled: true }),
      Option.some(traceparent)
    )
    assert.deepStrictEqual(Trace.traceparentOf({ traceId: "noop", spanId: "noop", sampled: false }), Option.none())
  })
})
