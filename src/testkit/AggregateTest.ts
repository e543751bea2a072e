/**
 * Given, when, then: decisions of an aggregate without a store.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import { type Aggregate, type Decided, TypeId } from "../Aggregate.js"
import { InvalidInput } from "../Errors.js"
import * as Json from "../Json.js"
import * as SnapshotPolicy from "../SnapshotPolicy.js"

/**
 * What came of a decision: the events, as a reader would get them, and the state after them.
 *
 * @since 0.1.0
 * @category models
 */
export interface Then<S, E> {
  readonly events: ReadonlyArray<E>
  readonly state: S
  readonly version: number
}

/**
 * An aggregate with its history.
 *
 * @since 0.1.0
 * @category models
 */
export interface Given<S, E> {
  /** The state after the given events. */
  readonly state: Effect.Effect<S, InvalidInput>
  /** Asks for a decision, in the form that `Aggregate.execute` takes. Fails as the decision does. */
  readonly when: <Err = never, R = never>(
    decide: (state: S, version: number) => Decided<E, Err, R>
  ) => Effect.Effect<Then<S, E>, Err | InvalidInput, R>
}

/**
 * An aggregate to which these events have happened, in this order; without any, nothing has.
 *
 * All events go through their Schema as if they were stored and read, those that are decided, too; so does the state
 * that is decided on, as if it came from a snapshot, unless the aggregate has none (`SnapshotPolicy.never`). What does
 * not survive that is `InvalidInput`, which names it.
 *
 * @example
 * ```ts
 * import { Schema } from "effect"
 * import { Aggregate } from "effect-stores"
 * import { AggregateTest } from "effect-stores/testkit"
 *
 * const Deposited = Schema.TaggedStruct("Deposited", { amount: Schema.Number })
 * const Account = Aggregate.make({
 *   domain: "account",
 *   state: Schema.Struct({ balance: Schema.Number }),
 *   event: Deposited,
 *   initial: { balance: 0 },
 *   evolve: ({ balance }, { amount }) => ({ balance: balance + amount })
 * })
 *
 * const test = AggregateTest.given(Account, Deposited.make({ amount: 7 })).when(({ balance }) => [
 *   Deposited.make({ amount: balance })
 * ])
 * ```
 *
 * @since 0.1.0
 * @category constructors
 */
export const given = <S, E extends { readonly _tag: string }>(
  self: Aggregate<S, E>,
  ...events: ReadonlyArray<NoInfer<E>>
): Given<S, E> => {
  const state = Effect.flatMap(stored(self, "given", events), (events) =>
    kept(self, evolved(self, self.initial, events))
  )
  return {
    state,
    when: <Err, R>(decide: (state: S, version: number) => Decided<E, Err, R>) =>
      Effect.flatMap(state, (before) =>
        Effect.flatMap(
          Effect.suspend((): Effect.Effect<ReadonlyArray<E>, Err, R> => {
            const decided = decide(before, events.length)
            return Effect.isEffect(decided) ? decided : Effect.succeed(decided)
          }),
          (decided) =>
            Effect.map(stored(self, "decided", decided), (decided) => ({
              events: decided,
              state: evolved(self, before, decided),
              version: events.length + decided.length
            }))
        )
      )
  }
}

const evolved = <S, E extends { readonly _tag: string }>(
  self: Aggregate<S, E>,
  state: S,
  events: ReadonlyArray<E>
): S => events.reduce((state, event) => self.evolve(state, event), state)

/** As JSON, which refuses what a store would, and back. */
const throughJson = (value: unknown, what: string): Either.Either<unknown, InvalidInput> =>
  Either.map(Json.encode(value, what), (text): unknown => JSON.parse(text))

const unfit = (what: string, why: string) => (cause: unknown) =>
  new InvalidInput({ what, why: `${why}: ${cause instanceof Error ? cause.message : String(cause)}` })

/** The events as they are read back. */
const stored = <S, E extends { readonly _tag: string }>(
  self: Aggregate<S, E>,
  name: string,
  events: ReadonlyArray<E>
): Effect.Effect<ReadonlyArray<E>, InvalidInput> =>
  Effect.forEach(events, (event, i) =>
    self.events.encode(event, {}).pipe(
      Effect.flatMap(({ data, type }) =>
        Effect.map(throughJson(data, type), (data) => ({ ...Object(data), _tag: type }))
      ),
      Effect.flatMap((encoded): Either.Either<E, unknown> => self[TypeId].decodeEvent(encoded)),
      Effect.mapError(unfit(`${name}[${i}]`, `is not what it was after it was stored`))
    )
  )

/** The state as a snapshot keeps it. */
const kept = <S, E extends { readonly _tag: string }>(
  self: Aggregate<S, E>,
  state: S
): Effect.Effect<S, InvalidInput> =>
  (self.snapshots as unknown) === SnapshotPolicy.never
    ? Effect.succeed(state)
    : self[TypeId].encodeState(state).pipe(
        Effect.flatMap((encoded) => throughJson(encoded, "state")),
        Effect.flatMap((encoded): Either.Either<S, unknown> => self[TypeId].decodeState(encoded)),
        Effect.mapError(unfit("state", "cannot be kept in a snapshot"))
      )
