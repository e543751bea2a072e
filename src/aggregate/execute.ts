/**
 * How an aggregate is changed: deciding and appending with retries. In the effect of a command, appends get ids by
 * which a second run of the command finds what the first one did.
 */
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type { Aggregate, Executed, LoadError } from "../Aggregate.js"
import { CurrentCommand } from "../CommandStore.js"
import {
  type AppendError,
  type Appended,
  type Envelope,
  EventStore,
  type ExpectedVersion,
  type StreamId,
  type TypedEvents
} from "../EventStore.js"
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
}

export const execute = <S, E extends { readonly _tag: string }, Err, R>(
  self: Aggregate<S, E>,
  stream: StreamId,
  decide: (state: S, version: number) => ReadonlyArray<E> | Effect.Effect<ReadonlyArray<E>, Err, R>,
  envelope: Envelope,
  retries: number
): Effect.Effect<Executed<S, E>, Err | Failure, R | EventStore> =>
  Effect.flatMap(Effect.serviceOption(CurrentCommand), (current) => {
    if (current._tag === "None") return attempt({ self, stream, decide, envelope, ids: undefined }, retries)
    return inStep(current.value, stream, envelope, (ids, envelope) => {
      const decided = attempt({ self, stream, decide, envelope, ids }, retries)
      if (current.value.attempt === 1) return decided
      return Effect.flatMap(earlier(self, stream, ids), (found) =>
        found === undefined ? decided : Effect.succeed(found)
      )
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
      : inStep(current.value, stream, options, (ids, options) => appendAs(self, stream, events, options, ids))
  )

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
  retries: number
): Effect.Effect<Executed<S, E>, Err | Failure, R | EventStore> => {
  const { decide, envelope, ids, self, stream } = change
  return Effect.flatMap(loading.load(self, stream), ({ state, version }) => {
    const decided = decide(state, version)
    return Effect.flatMap(Effect.isEffect(decided) ? decided : Effect.succeed(decided), (events) => {
      if (isEmpty(events)) return Effect.succeed({ state, version, events })
      const expected = { ...envelope, expected: version }
      const done = (appended: Appended): Effect.Effect<Executed<S, E>, Failure, EventStore> =>
        ids !== undefined && appended.version !== version + events.length
          ? // The store knows these events: another attempt was faster.
            Effect.flatMap(earlier(self, stream, ids), (found) => Effect.succeed(found ?? { state, version, events }))
          : Effect.succeed({
              state: events.reduce((state, event) => self.evolve(state, event), state),
              version: appended.version,
              events
            })
      return appendAs(self, stream, events, expected, ids).pipe(
        Effect.flatMap(done),
        Effect.catchTags({
          VersionConflict: (conflict) => (retries > 0 ? attempt(change, retries - 1) : Effect.fail(conflict)),
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

/** Anything but an array is left for the append to refuse. */
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

/** The events that an earlier attempt of the command appended with these ids, and the state they led to. */
const earlier = <S, E extends { readonly _tag: string }>(
  self: Aggregate<S, E>,
  stream: StreamId,
  ids: EventIds
): Effect.Effect<Executed<S, E> | undefined, LoadError, EventStore> =>
  Effect.gen(function* () {
    const store = yield* EventStore
    const events: Array<E> = []
    let version = 0
    for (;;) {
      const found = yield* store.get(ids(events.length))
      if (found._tag === "None") break
      version = found.value.version
      events.push((yield* self.events.decode(found.value)).data)
    }
    if (events.length === 0) return undefined
    const { state } = yield* loading.loadAt(self, stream, version)
    return { state, version, events }
  })
