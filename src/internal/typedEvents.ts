/**
 * The EventStore through a Schema of events (`EventStore.forSchema`): encoding and decoding at the edge of the store.
 */
import * as Chunk from "effect/Chunk"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import { InvalidInput } from "../Errors.js"
import {
  type Event,
  EventDecodeError,
  EventStore,
  type EventStoreShape,
  type NewEvent,
  type ReadError,
  type StreamId,
  type TypedEvent,
  type TypedEvents
} from "../EventStore.js"
import * as input from "./eventStoreInput.js"
import { exactly } from "./exactEncoding.js"
import { taggedPayload } from "./taggedPayload.js"
import { checked } from "./validate.js"
import { streamId } from "./values.js"

export const decodeError = (event: Event, cause: unknown): EventDecodeError => {
  const { aggregateId, domain, id, position, tenantId, type, version } = event
  return new EventDecodeError({ id, type, stream: { tenantId, domain, aggregateId }, version, position, cause })
}

export const typedEvents = <A extends { readonly _tag: string }, I extends { readonly _tag: string }, R>(
  schema: Schema.Schema<A, I, R>
): TypedEvents<A, R> => {
  const encodeEvent = exactly(Schema.encode(schema))
  const decodeEvent = Schema.decodeUnknown(schema)

  const encodeAt = (event: A, what: string, envelope: object): Effect.Effect<NewEvent, InvalidInput, R> =>
    Effect.mapBoth(encodeEvent(event), {
      onFailure: (cause) => new InvalidInput({ what, why: `does not fit the schema: ${cause.message}` }),
      onSuccess: ({ _tag, ...data }) => ({ ...envelope, type: _tag, data })
    })

  const decode: TypedEvents<A, R>["decode"] = (event) =>
    Effect.mapBoth(decodeEvent(taggedPayload(event)), {
      onFailure: (cause) => decodeError(event, cause),
      onSuccess: (data) => ({ ...event, data })
    })

  const typed = <E>(events: Stream.Stream<Event, E>): Stream.Stream<TypedEvent<A>, E | EventDecodeError, R> =>
    Stream.mapChunksEffect(events, (chunk) => Effect.map(Effect.forEach(chunk, decode), Chunk.unsafeFromArray))

  // Page by page: the store's own fold cannot wait for a Schema that decodes with effects.
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
        (envelope) => encodeAt(event, "event", envelope)
      ),
    decode,
    append: (stream, events, options) =>
      Effect.flatMap(EventStore, (store) =>
        checked(
          () => input.typedAppend(events, options),
          ({ envelope, events, expected }) =>
            Effect.flatMap(
              Effect.forEach(events, (event, i) => encodeAt(event as A, `events[${i}]`, envelope)),
              (encoded) => store.append(stream, encoded, { expected })
            )
        )
      ),
    read: (stream, options) => Stream.unwrap(Effect.map(EventStore, (store) => typed(store.read(stream, options)))),
    fold: (stream, initial, step, options) =>
      Effect.flatMap(EventStore, (store) =>
        checked(
          () => ({ stream: streamId(stream, "stream"), ...input.readOptions(options) }),
          (request) => foldPages(store, request, initial, step)
        )
      ),
    feed: (options) => Stream.unwrap(Effect.map(EventStore, (store) => typed(store.feed(options)))),
    subscribe: (options) => Stream.unwrap(Effect.map(EventStore, (store) => typed(store.subscribe(options))))
  }
}

/** Events that a typed fold holds at a time. */
const foldPageSize = 1000

const collect = (events: Array<Event>, event: Event): Array<Event> => {
  events.push(event)
  return events
}
