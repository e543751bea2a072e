/**
 * The EventStore through a Schema of events (`EventStore.forSchema`): encoding and decoding at the edge of the store.
 */
import * as Chunk from "effect/Chunk"
import * as Effect from "effect/Effect"
import type * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import type {
  Event,
  EventDecodeError,
  EventStore,
  EventStoreShape,
  ReadError,
  StreamId,
  TypedEvent,
  TypedEvents
} from "../EventStore.js"
import { tagged } from "../internal/taggedPayload.js"
import { checked, streamId } from "../internal/validate.js"
import * as input from "./input.js"

/** The parts of the contract that are needed at run time: it imports this file, so this file cannot import it. */
export interface Contract {
  readonly tag: Effect.Effect<EventStoreShape, never, EventStore>
  readonly decodeError: (event: Event, cause: unknown) => EventDecodeError
}

export const typedEvents = <A extends { readonly _tag: string }, I extends { readonly _tag: string }, R>(
  schema: Schema.Schema<A, I, R>,
  { decodeError, tag }: Contract
): TypedEvents<A, R> => {
  const codec = tagged(schema)
  const decode: TypedEvents<A, R>["decode"] = (stored) => codec.decode(stored, decodeError)

  const typed = <E>(events: Stream.Stream<Event, E>): Stream.Stream<TypedEvent<A>, E | EventDecodeError, R> =>
    Stream.mapChunksEffect(events, (chunk) => Effect.map(Effect.forEach(chunk, decode), Chunk.unsafeFromArray))

  // Page by page: a step of the store's own fold is synchronous, and a Schema may decode with effects.
  const foldPages = <S>(
    store: EventStoreShape,
    request: { readonly stream: StreamId } & input.ReadRequest,
    initial: S,
    step: (state: S, event: TypedEvent<A>) => S
  ): Effect.Effect<S, ReadError | EventDecodeError, R> => {
    const { limit, stream, ...range } = request
    const size = Math.min(foldPageSize, limit)
    const page = store.fold(stream, Array.of<Event>(), collect, { ...range, limit: size })
    return Effect.flatMap(page, (events) => {
      const state = Effect.reduce(events, initial, (state, event) =>
        Effect.map(decode(event), (event) => step(state, event))
      )
      const last = events[events.length - 1]
      if (last === undefined || events.length < size || size === limit) return state
      const rest = range.direction === "forward" ? { fromVersion: last.version + 1 } : { toVersion: last.version - 1 }
      const next = { ...request, ...rest, limit: limit - size }
      return Effect.flatMap(state, (state) => foldPages(store, next, state, step))
    })
  }

  return {
    encode: (event, envelope) =>
      checked(
        () => input.envelope(envelope),
        (envelope) => codec.encode(event, "event", envelope)
      ),
    decode,
    append: (stream, events, options) =>
      Effect.flatMap(tag, (store) =>
        checked(
          () => input.typedAppend(events, options),
          ({ envelope, events, options }) =>
            Effect.flatMap(
              Effect.forEach(events, (event, i) => codec.encode(event as A, `events[${i}]`, envelope)),
              (encoded) => store.append(stream, encoded, options)
            )
        )
      ),
    read: (stream, options) => Stream.unwrap(Effect.map(tag, (store) => typed(store.read(stream, options)))),
    fold: (stream, initial, step, options) =>
      Effect.flatMap(tag, (store) =>
        checked(
          () => ({ stream: streamId(stream, "stream"), ...input.readOptions(options) }),
          (request) => foldPages(store, request, initial, step)
        )
      ),
    feed: (options) => Stream.unwrap(Effect.map(tag, (store) => typed(store.feed(options)))),
    subscribe: (options) => Stream.unwrap(Effect.map(tag, (store) => typed(store.subscribe(options))))
  }
}

/** Events that a typed fold holds at a time, at most. */
const foldPageSize = 1000

const collect = (events: Array<Event>, event: Event): Array<Event> => {
  events.push(event)
  return events
}
