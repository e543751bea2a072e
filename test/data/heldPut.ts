/**
 * A put that began hours ago and is held in the middle of its body: what a sweep must not take for the remains of a dead
 * process.
 */
import { Deferred, Effect, Fiber, type Layer, Option, Stream } from "effect"
import { DataStore } from "effect-stores"
import { expect } from "vitest"
import { type HeldClock, heldClock } from "./clock.js"

const id = { bucket: "bucket", name: "object" }

/** How long ago the put began. */
export const hoursMs = 3 * 3_600_000

/** Runs `meanwhile` while the put is held, lets it go on, and expects that the whole object is there. */
export const duringPut = (
  layer: Layer.Layer<DataStore.DataStore, unknown>,
  meanwhile: (store: DataStore.DataStoreShape, time: HeldClock) => Effect.Effect<void, unknown>
): Promise<void> =>
  Effect.gen(function* () {
    const store = yield* DataStore.DataStore
    yield* store.buckets.create(id.bucket)
    const time = heldClock(Date.now() - hoursMs)
    const [reached, go] = [yield* Deferred.make<void>(), yield* Deferred.make<void>()]
    const held = Stream.drain(
      Stream.fromEffect(Effect.zipRight(Deferred.succeed(reached, undefined), Deferred.await(go)))
    )
    const piece = new Uint8Array(256 * 1024).fill(7)
    const pieces = Stream.rechunk(Stream.fromIterable(Array.from({ length: 9 }, () => piece)), 1)
    const putting = yield* Effect.fork(
      Effect.withClock(store.put(id, Stream.concat(pieces, Stream.concat(held, Stream.make(piece)))), time.clock)
    )
    yield* Deferred.await(reached)
    yield* meanwhile(store, time)
    yield* Deferred.succeed(go, undefined)
    const { size } = yield* Fiber.join(putting)
    expect(size).toBe(10 * piece.byteLength)
    const found = Option.getOrThrow(yield* store.get(id))
    expect(yield* Stream.runFold(found.body, 0, (sum, bytes) => sum + bytes.byteLength)).toBe(size)
  }).pipe(Effect.provide(layer), Effect.runPromise)
