/**
 * When a load of an aggregate should save a snapshot: policies are plain predicates that compose.
 *
 * @example
 * ```ts
 * import { pipe } from "effect"
 * import { SnapshotPolicy } from "effect-stores"
 *
 * interface Account {
 *   readonly closed: boolean
 * }
 *
 * const policy = pipe(
 *   SnapshotPolicy.every(100),
 *   SnapshotPolicy.or(SnapshotPolicy.sourcingOver("20 millis")),
 *   SnapshotPolicy.or(SnapshotPolicy.when((account: Account) => account.closed))
 * )
 * ```
 *
 * @since 0.1.0
 */
import * as Duration from "effect/Duration"
import { dual } from "effect/Function"
import * as Option from "effect/Option"
import { describe, integer, refuse } from "./internal/validate.js"

/**
 * What a policy decides on: a load that read at least one event beyond its snapshot.
 *
 * @since 0.1.0
 * @category models
 */
export interface Sourcing<S> {
  readonly state: S
  /** The version of the state. */
  readonly version: number
  /** Events read on top of the snapshot, or from the beginning. */
  readonly events: number
  /** How long reading and folding them took. */
  readonly duration: Duration.Duration
}

/**
 * True: save a snapshot of this state. The terms are Axon Framework's and Occurrent's.
 *
 * @since 0.1.0
 * @category models
 */
export type SnapshotPolicy<S> = (sourcing: Sourcing<S>) => boolean

/**
 * When at least `events` events had to be read on top of the last snapshot. Throws `InvalidInput` unless it is a whole
 * number of at least 1.
 *
 * @since 0.1.0
 * @category constructors
 */
export const every = (events: number): SnapshotPolicy<unknown> => {
  const least = integer(events, "events", 1)
  return (sourcing) => sourcing.events >= least
}

/**
 * When reading and folding took longer than this. Throws `InvalidInput` for anything but a duration.
 *
 * @since 0.1.0
 * @category constructors
 */
export const sourcingOver = (duration: Duration.DurationInput): SnapshotPolicy<unknown> => {
  const most = Option.getOrElse(Duration.decodeUnknown(duration), () =>
    refuse("duration", `must be a duration, not ${describe(duration)}`)
  )
  return (sourcing) => Duration.greaterThan(sourcing.duration, most)
}

/**
 * When the state says so, for example because it will not change any more.
 *
 * @since 0.1.0
 * @category constructors
 */
export const when =
  <S>(predicate: (state: S) => boolean): SnapshotPolicy<S> =>
  ({ state }) =>
    predicate(state)

/**
 * No load saves a snapshot. An aggregate with this policy does not look for snapshots either.
 *
 * @since 0.1.0
 * @category constructors
 */
export const never: SnapshotPolicy<unknown> = () => false

/**
 * When at least one of the two says so.
 *
 * @since 0.1.0
 * @category combinators
 */
export const or: {
  <S>(that: SnapshotPolicy<S>): <S1>(self: SnapshotPolicy<S1>) => SnapshotPolicy<S & S1>
  <S1, S>(self: SnapshotPolicy<S1>, that: SnapshotPolicy<S>): SnapshotPolicy<S & S1>
} = dual(
  2,
  <S1, S>(self: SnapshotPolicy<S1>, that: SnapshotPolicy<S>): SnapshotPolicy<S & S1> =>
    (sourcing) =>
      self(sourcing) || that(sourcing)
)

/**
 * When both say so.
 *
 * @since 0.1.0
 * @category combinators
 */
export const and: {
  <S>(that: SnapshotPolicy<S>): <S1>(self: SnapshotPolicy<S1>) => SnapshotPolicy<S & S1>
  <S1, S>(self: SnapshotPolicy<S1>, that: SnapshotPolicy<S>): SnapshotPolicy<S & S1>
} = dual(
  2,
  <S1, S>(self: SnapshotPolicy<S1>, that: SnapshotPolicy<S>): SnapshotPolicy<S & S1> =>
    (sourcing) =>
      self(sourcing) && that(sourcing)
)
