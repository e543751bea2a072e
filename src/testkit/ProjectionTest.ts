/**
 * A projection fed by hand. Needs an EventStore and a CheckpointStore, such as those of `TestStores`.
 *
 * @since 0.1.0
 */
import type * as Arr from "effect/Array"
import * as Effect from "effect/Effect"
import { CheckpointStore } from "../CheckpointStore.js"
import type { ReadOnly, StoreFailure } from "../Errors.js"
import { type AppendError, type Appended, EventStore, type StreamId } from "../EventStore.js"
import * as Projection from "../Projection.js"

/**
 * Appends events to a stream, and has the projection handle them, which then stands at the head: nothing is waited for.
 * Each is a value of the projection's Schema; one that does not fit is `InvalidInput`. For events of other Schemas,
 * append them and call `Projection.catchUp`.
 *
 * @since 0.1.0
 * @category running
 */
export const feed = <D extends Projection.Delivery, R>(
  self: Projection.Projection<D, R>,
  stream: StreamId,
  events: Arr.NonEmptyReadonlyArray<{ readonly _tag: string }>
): Effect.Effect<Appended, AppendError | Projection.RunError, R | EventStore | CheckpointStore> =>
  Effect.gen(function* () {
    const store = yield* EventStore
    const encoded = yield* Effect.forEach(events, (event) => self[Projection.TypeId].encode(event))
    const appended = yield* store.append(stream, encoded, { expected: "any" })
    yield* Projection.catchUp(self)
    return appended
  })

/**
 * Forgets how far the projection has come, and has it handle all events again: what it does then must change nothing,
 * if it is `atLeastOnce`. For one that is `exactlyOnce`, empty its tables before, as for a rebuild. Returns the head.
 *
 * @since 0.1.0
 * @category running
 */
export const again = <D extends Projection.Delivery, R>(
  self: Projection.Projection<D, R>
): Effect.Effect<number, Projection.RunError | ReadOnly | StoreFailure, R | EventStore | CheckpointStore> =>
  Effect.flatMap(CheckpointStore, (store) =>
    Effect.zipRight(store.delete({ name: self.name, generation: self.generation }), Projection.catchUp(self))
  )
