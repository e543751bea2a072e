/**
 * What a subscription does while its store cannot be reached: its port is that of the memory, which is away at chosen
 * moments. Time is the TestClock's.
 */
import { assert, it } from "@effect/vitest"
import { Duration, Effect, Fiber, Stream, TestClock } from "effect"
import { Errors, type EventStore, EventStoreEncoded } from "effect-stores"
import { EventStoreMemory } from "effect-stores/memory"

const stream = { tenantId: "t", domain: "d", aggregateId: "a" }
const event = { type: "Happened", data: {} }
const pollInterval = Duration.seconds(10)

const turns = Effect.repeatN(Effect.yieldNow(), 20)

/** A store whose reads fail with an error as long as there is one, and how often it was asked. */
const setUp = Effect.map(EventStoreMemory.makeEncoded, (encoded) => {
  const state = { asked: 0, error: undefined as Errors.ReadFailure | undefined }
  const asked = <A>(self: Effect.Effect<A, Errors.ReadFailure>) =>
    Effect.suspend(() => {
      state.asked++
      return state.error === undefined ? self : Effect.fail(state.error)
    })
  const port = {
    ...encoded,
    head: asked(encoded.head),
    readFeed: (request: Parameters<typeof encoded.readFeed>[0]) => asked(encoded.readFeed(request))
  }
  return { state, store: EventStoreEncoded.make(port, { system: "memory", pollInterval }) }
})

const unavailable = (retryable: boolean) =>
  new Errors.StoreUnavailable({ operation: "test", retryable, cause: new Error("no network") })

const subscribed = (store: EventStore.EventStoreShape) =>
  Effect.fork(Effect.either(Stream.runCollect(Stream.map(store.subscribe({ limit: 1 }), ({ version }) => version))))

it.effect("a store that cannot be reached is asked again after the poll interval, and not before", () =>
  Effect.gen(function* () {
    const { state, store } = yield* setUp
    yield* store.append(stream, [event], { expected: "any" })
    state.error = unavailable(true)
    const subscriber = yield* subscribed(store)
    for (let tries = 1; tries <= 3; tries++) {
      yield* turns
      assert.strictEqual(state.asked, tries)
      yield* TestClock.adjust(Duration.subtract(pollInterval, 1))
      yield* turns
      assert.strictEqual(state.asked, tries)
      yield* TestClock.adjust(1)
    }
    state.error = undefined
    yield* TestClock.adjust(pollInterval)
    const seen = yield* Fiber.join(subscriber)
    assert.deepStrictEqual(seen._tag === "Right" ? [...seen.right] : seen.left, [1])
  })
)

it.effect("a failure that would repeat ends a subscription", () =>
  Effect.gen(function* () {
    const { state, store } = yield* setUp
    const error = unavailable(false)
    state.error = error
    const subscriber = yield* subscribed(store)
    yield* turns
    const ended = yield* Fiber.join(subscriber)
    assert.strictEqual(ended._tag === "Left" ? ended.left : undefined, error)
    assert.strictEqual(state.asked, 1)
  })
)
