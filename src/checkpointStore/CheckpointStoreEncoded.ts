/**
 * The port that a backend of the CheckpointStore implements, and `make`, the one step from the port to the public
 * service.
 *
 * @since 0.1.0
 */
import type * as Effect from "effect/Effect"
import type { CheckpointStoreShape } from "../CheckpointStore.js"
import type { ReadFailure, StoreFailure } from "../Errors.js"
import type { StreamId } from "../EventStore.js"
import type { Pages } from "../internal/pages.js"
import type { Location } from "../Trace.js"
import { lift } from "./lift.js"

/**
 * One generation of a follower.
 *
 * @since 0.1.0
 * @category encoded
 */
export interface EncodedFollower {
  readonly name: string
  readonly generation: number
}

/**
 * Which checkpoint.
 *
 * @since 0.1.0
 * @category encoded
 */
export interface EncodedPlace extends EncodedFollower {
  readonly partition: number
}

/**
 * A checkpoint between the lift and a backend.
 *
 * @since 0.1.0
 * @category encoded
 */
export interface EncodedCheckpoint extends EncodedPlace {
  readonly partitions: number
  readonly position: number
  /** Null before the first claim, and when it was released. */
  readonly owner: string | null
  /** Of the last claim; 0 before the first. */
  readonly token: number
  /** By the backend's clock; 0 when anybody may claim. */
  readonly leaseLeftMs: number
}

/**
 * A dead letter between the lift and a backend.
 *
 * @since 0.1.0
 * @category encoded
 */
export interface EncodedDeadLetter extends StreamId {
  readonly partition: number
  readonly position: number
  readonly eventId: string
  readonly type: string
  readonly reason: string
  readonly scope: "event" | "stream"
}

/**
 * What a backend implements. Input has been checked, so a backend need not check it again. Each member but `list` and
 * `transaction` is one atomic step. It may be used concurrently and be interrupted at any time; an interrupt leaves no
 * lock, transaction or connection open. Leases run on one clock for all processes: the server's, or the machine's for a
 * file. In a transaction of the caller, what a write has checked holds until the end.
 *
 * @since 0.1.0
 * @category encoded
 */
export interface Encoded {
  /**
   * Returns the checkpoints of the follower in order of partition. If it has none, creates as many as `partitions`
   * says first, at position 0. Of several calls at once all get the same.
   */
  readonly open: (
    follower: EncodedFollower & { readonly partitions: number }
  ) => Effect.Effect<ReadonlyArray<EncodedCheckpoint>, StoreFailure>

  /**
   * Gives the checkpoint to `owner` for `leaseMs` from now, with the next token, and returns it, if its lease has ended
   * or its token is `takeFrom`. Otherwise null, and so it may be while another changes the checkpoint: a backend where
   * transactions write side by side does not wait for one that is open. Of several claims at once one gets it.
   */
  readonly claim: (
    request: EncodedPlace & { readonly owner: string; readonly leaseMs: number; readonly takeFrom: number | null }
  ) => Effect.Effect<EncodedCheckpoint | null, StoreFailure>

  /**
   * If the checkpoint has this token and this owner, extends its lease to `leaseMs` from now; 0 takes the owner away.
   * Returns whether it did. The owner, too, since tokens begin again when a follower was deleted and opened anew.
   */
  readonly renew: (
    request: EncodedPlace & { readonly owner: string; readonly token: number; readonly leaseMs: number }
  ) => Effect.Effect<boolean, StoreFailure>

  /** The same if it is also at the position `from`; moves it to `position`, and records and deletes dead letters. */
  readonly commit: (
    request: EncodedPlace & {
      readonly owner: string
      readonly token: number
      readonly leaseMs: number
      readonly from: number
      readonly position: number
      /** Replace those at their positions. */
      readonly deadLetters: ReadonlyArray<EncodedDeadLetter>
      /** Positions, none of which is one of `deadLetters`. */
      readonly settled: ReadonlyArray<number>
    }
  ) => Effect.Effect<boolean, StoreFailure>

  /** In order of position. */
  readonly deadLetters: (follower: EncodedFollower) => Pages<EncodedDeadLetter, ReadFailure>

  readonly find: (place: EncodedPlace) => Effect.Effect<EncodedCheckpoint | null, ReadFailure>

  /** In order of name (as UTF-8 bytes), generation and partition. Null: of any name, of any generation. */
  readonly list: (filter: {
    readonly name: string | null
    readonly generation: number | null
  }) => Pages<EncodedCheckpoint, ReadFailure>

  /** Its dead letters, too. False when there was no checkpoint. */
  readonly delete: (follower: EncodedFollower) => Effect.Effect<boolean, StoreFailure>

  readonly info: Effect.Effect<
    {
      readonly backend: string
      readonly connection: string
      readonly checkpoints: number
      readonly deadLetters: number
    },
    ReadFailure
  >

  readonly reset: Effect.Effect<void, StoreFailure>

  /**
   * Runs the effect in a transaction of the database that this store is on: what it does there, `commit` included, is
   * committed together or not at all. Inside another transaction of that database it is nested.
   */
  readonly transaction: <A, E, R>(self: Effect.Effect<A, E, R>) => Effect.Effect<A, E | StoreFailure, R>
}

/**
 * @since 0.1.0
 * @category models
 */
export interface Options extends Location {
  /** What the backend is in OpenTelemetry's words: `postgresql`, `sqlite`, `memory`. */
  readonly system: string
  /** Refuse all writes with `ReadOnly`. Default false. */
  readonly readOnly?: boolean | undefined
}

/**
 * Lifts the port to the public service.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make: (encoded: Encoded, options: Options) => CheckpointStoreShape = lift
