/**
 * How an aggregate is changed: deciding and appending with retries, and, in the effect of a command, appending so that
 * a second run of the command finds what the first has done.
 */
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { Aggregate, Executed, LoadError } from "../Aggregate.js"
import { CurrentCommand } from "../CommandStore.js"
import {
  type AppendError,
  type Appended,
  type Envelope,
  type Event,
  EventStore,
  type ExpectedVersion,
  type ReadError,
  type StreamId,
  type TypedEvents
} from "../EventStore.js"
import * as Telemetry from "../internal/telemetry.js"
import * as loading from "./load.js"

/** Ids for the events of one step of a command, by their index. */
type EventIds = (index: number) => string

type Failure = LoadError | AppendError

interface Change<S, E extends { readonly _tag: string }, D> {
  readonly self: Aggregate<S, E>
  readonly stream: StreamId
  readonly decide: (state: S, version: number) => D
  readonly envelope: Envelope
  readonly ids: EventIds | undefined
  readonly span: Telemetry.Span
}

export const execute = <S, E extends { readonly _tag: string }, Err, R>(
  self: Aggregate<S, E>,
  stream: StreamId,
  decide: (state: S, version: number) => ReadonlyArray<E> | Effect.Effect<ReadonlyArray<E>, Err, R>,
  envelope: Envelope,
  retries: number
): Effect.Effect<Executed<S, E>, Err | Failure, R | EventStore> =>
  Telemetry.composed("Aggregate.execute", (span) => {
    Telemetry.describe(span, { domain: stream.domain })
    const executed = Effect.flatMap(Effect.serviceOption(CurrentCommand), (current) => {
      if (current._tag === "None") return attempt({ self, stream, decide, envelope, ids: undefined, span }, retries)
      return inStep(current.value, stream, envelope, (ids, envelope) => {
        const decided = attempt({ self, stream, decide, envelope, ids, span }, retries)
        if (current.value.attempt === 1) return decided
        return Effect.flatMap(earlier(self, stream, ids), (found) =>
          found === undefined ? decided : Effect.succeed(found)
        )
      })
    })
    return Effect.map(executed, (done) => {
      Telemetry.describe(span, { events: done.events.length, version: done.version })
      return done
    })
  })

export const append = <E extends { readonly _tag: string }>(
  self: { readonly events: Pick<TypedEvents<E, never>, "append" | "encode"> },
  stream: StreamId,
  events: ReadonlyArray<E>,
  options: { readonly expected: ExpectedVersion } & Envelope
): Effect.Effect<Appended, AppendError, EventStore> =>
  Effect.flatMap(Effect.serviceOption(CurrentCommand), (current) =>
    current._tag === "None"
      ? self.events.append(stream, events, options)
      : inStep(current.value, stream, options, (ids, options) =>
          Effect.catchTag(appendAs(self, stream, events, options, ids), "DuplicateEvent", (duplicate) =>
            Effect.flatMap(appendedBefore(ids), (found) =>
              found === undefined ? Effect.fail(duplicate) : Effect.succeed(found)
            )
          )
        )
  )

/** The ids are the command's alone, so what has them was appended by an earlier attempt, with another trace perhaps. */
const appendedBefore = (ids: EventIds): Effect.Effect<Appended | undefined, ReadError, EventStore> =>
  Effect.map(eventsBefore(ids), (events) => {
    const last = events[events.length - 1]
    return last === undefined ? undefined : { version: last.version, position: last.position }
  })

const eventsBefore = (ids: EventIds): Effect.Effect<ReadonlyArray<Event>, ReadError, EventStore> =>
  Effect.flatMap(EventStore, (store) => {
    const from = (events: ReadonlyArray<Event>): Effect.Effect<ReadonlyArray<Event>, ReadError> =>
      Effect.flatMap(store.get(ids(events.length)), (found) =>
        found._tag === "None" ? Effect.succeed(events) : from([...events, found.value])
      )
    return from([])
  })

/**
 * A change of a stream in a command. If it fails, the next attempt gets the same ids, since it may be the same change
 * again.
 */
const inStep = <O extends Envelope, A, E, R>(
  command: Context.Tag.Service<typeof CurrentCommand>,
  stream: StreamId,
  envelope: O,
  change: (ids: EventIds, envelope: O) => Effect.Effect<A, E, R>
): Effect.Effect<A, E, R> =>
  Effect.suspend(() => {
    const ids = command.nextEventIds(stream)
    return Effect.tapErrorCause(change(ids, { ...envelope, commandId: envelope.commandId ?? command.id }), () =>
      Effect.sync(() => command.returnEventIds(stream, ids))
    )
  })

const attempt = <S, E extends { readonly _tag: string }, Err, R>(
  change: Change<S, E, ReadonlyArray<E> | Effect.Effect<ReadonlyArray<E>, Err, R>>,
  retries: number,
  tries = 1
): Effect.Effect<Executed<S, E>, Err | Failure, R | EventStore> => {
  const { decide, envelope, ids, self, span, stream } = change
  Telemetry.describe(span, { attempt: tries })
  return Effect.flatMap(loading.load(self, stream), ({ state, version }) => {
    const decided = decide(state, version)
    return Effect.flatMap(Effect.isEffect(decided) ? decided : Effect.succeed(decided), (events) => {
      if (isEmpty(events)) return Effect.succeed({ state, version, position: Option.none(), events })
      const expected = { ...envelope, expected: version }
      const done = (appended: Appended): Effect.Effect<Executed<S, E>, Failure, EventStore> => {
        const position = Option.some(appended.position)
        return ids !== undefined && appended.version !== version + events.length
          ? // The store knows these events: another attempt was faster.
            Effect.map(earlier(self, stream, ids), (found) => found ?? { state, version, position, events })
          : Effect.succeed({
              state: events.reduce((state, event) => self.evolve(state, event), state),
              version: appended.version,
              position,
              events
            })
      }
      return appendAs(self, stream, events, expected, ids).pipe(
        Effect.flatMap(done),
        Effect.catchTags({
          VersionConflict: (conflict) =>
            retries > 0 ? attempt(change, retries - 1, tries + 1) : Effect.fail(conflict),
          DuplicateEvent: (duplicate) =>
            ids === undefined
              ? Effect.fail(duplicate)
              : Effect.flatMap(earlier(self, stream, ids), (found) =>
                  found === undefined ? Effect.fail(duplicate) : Effect.succeed(found)
                )
        })
      )
    })
  })
}

/** What is no array is left to the append to refuse. */
const isEmpty = (events: unknown): boolean => Array.isArray(events) && events.length === 0

const appendAs = <E extends { readonly _tag: string }>(
  self: { readonly events: Pick<TypedEvents<E, never>, "append" | "encode"> },
  stream: StreamId,
  events: ReadonlyArray<E>,
  options: { readonly expected: ExpectedVersion } & Envelope,
  ids: EventIds | undefined
): Effect.Effect<Appended, AppendError, EventStore> => {
  if (ids === undefined || !Array.isArray(events)) return self.events.append(stream, events, options)
  const { expected, ...envelope } = options
  return Effect.flatMap(EventStore, (store) =>
    Effect.flatMap(
      Effect.forEach(events, (event, i) => self.events.encode(event, { ...envelope, id: ids(i) })),
      (encoded) => store.append(stream, encoded, { expected })
    )
  )
}

/** What an earlier attempt of the command has appended with these ids, and the state it led to. */
const earlier = <S, E extends { readonly _tag: string }>(
  self: Aggregate<S, E>,
  stream: StreamId,
  ids: EventIds
): Effect.Effect<Executed<S, E> | undefined, LoadError, EventStore> =>
  Effect.gen(function* () {
    const stored = yield* eventsBefore(ids)
    const last = stored[stored.length - 1]
    if (last === undefined) return undefined
    const events = yield* Effect.forEach(stored, (event) => Effect.map(self.events.decode(event), ({ data }) => data))
    const { state } = yield* loading.loadAt(self, stream, last.version)
    return { state, version: last.version, position: Option.some(last.position), events }
  })
