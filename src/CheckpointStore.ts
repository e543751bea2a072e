/**
 * The contract of the CheckpointStore: model, errors, and the service tag whose members carry the semantics. What a
 * backend implements is in `CheckpointStoreEncoded`; `Projection` is what uses it.
 *
 * Words: a **follower** reads the feed of an EventStore and keeps its place there. A **checkpoint** is that place: the
 * position up to which all events are done. A follower has one checkpoint, or one for each of its **partitions**. A
 * **generation** is one pass from the beginning: a rebuild has the next one, with checkpoints of its own. Whoever
 * advances a checkpoint holds its **lease**, for a time. Each claim has a greater **token**, and only the last one can
 * commit: a process that was paused for longer than its lease cannot advance what another has taken over.
 *
 * An event that could not be done and was passed by is a **dead letter**: kept beside the checkpoint, to be looked at
 * and tried again.
 *
 * Nothing here is a payload, so a layer that seals has nothing to seal: names, owners, positions, and of dead letters
 * the ids and types of events and the tags of errors, are in clear.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import type * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import type * as Stream from "effect/Stream"
import type { InvalidInput, NotFound, ReadFailure, ReadOnly, StoreFailure } from "./Errors.js"
import type { StreamId } from "./EventStore.js"

/**
 * Whose checkpoints.
 *
 * @since 0.1.0
 * @category models
 */
export interface Follower {
  /** 1 to 255 bytes. */
  readonly name: string
  /** From 1. Default 1. */
  readonly generation?: number | undefined
}

/**
 * How far a follower has come in one of its partitions, and who is at work there.
 *
 * @since 0.1.0
 * @category models
 */
export interface Checkpoint {
  readonly name: string
  readonly generation: number
  /** From 0, less than `partitions`. */
  readonly partition: number
  readonly partitions: number
  /** All events up to it are done; 0 at the beginning. */
  readonly position: number
  /** Who has claimed it last and not released it. Its lease may have ended since. */
  readonly owner: Option.Option<string>
  /** Of the last claim; 0 before the first. */
  readonly token: number
  /** How long the lease still lasts, by the clock of the backend; zero when anybody may claim. */
  readonly leaseLeft: Duration.Duration
}

/**
 * The right to advance a checkpoint, as of a claim or of a commit. It is a value: a commit returns the next one, and
 * the one before it is of no use any more.
 *
 * @since 0.1.0
 * @category models
 */
export interface Lease {
  readonly name: string
  readonly generation: number
  readonly partition: number
  readonly partitions: number
  readonly owner: string
  readonly token: number
  /** Of the checkpoint: what follows is to be done. */
  readonly position: number
  /** For how long each claim, renewal and commit keeps the checkpoint from others. */
  readonly duration: Duration.Duration
}

/**
 * @since 0.1.0
 * @category models
 */
export interface ClaimOptions {
  /** Who claims: a name of this process or fiber that no other has, 1 to 255 bytes. */
  readonly owner: string
  /** Default 0. */
  readonly partition?: number | undefined
  /** How long a dead owner keeps the checkpoint from others, 100 ms to 24 hours. Default 30 seconds. */
  readonly lease?: Duration.DurationInput | undefined
  /**
   * The token of a holder from whom to take the checkpoint although its lease lasts, if it is still the last one: to
   * spread partitions over processes. What that holder has not committed by then, it cannot commit. On PostgreSQL it
   * gets none while a transaction that has renewed or advanced the checkpoint is open, and does not wait for it: try
   * again, with the token of then.
   */
  readonly takeFrom?: number | undefined
}

/**
 * An event that a follower has passed by.
 *
 * @since 0.1.0
 * @category models
 */
export interface NewDeadLetter extends StreamId {
  /** Of the event: a UUID. */
  readonly eventId: string
  /** Of the event. A follower has one dead letter for each position, at most. */
  readonly position: number
  /** Of the event. */
  readonly type: string
  /** What has failed, 1 to 255 bytes: the tag of an error, as its message might show what is sealed elsewhere. */
  readonly reason: string
  /** `event`: it alone was passed by. `stream`: so are all later events of its stream, until it is settled. */
  readonly scope: "event" | "stream"
}

/**
 * @since 0.1.0
 * @category models
 */
export interface DeadLetter extends NewDeadLetter {
  readonly name: string
  readonly generation: number
  readonly partition: number
}

/**
 * What a commit changes of the dead letters, in the same step.
 *
 * @since 0.1.0
 * @category models
 */
export interface CommitOptions {
  /** At most 1,000. One that is there at its position is replaced. */
  readonly deadLetters?: ReadonlyArray<NewDeadLetter> | undefined
  /** Positions of dead letters that are done and deleted; at most 1,000. */
  readonly settled?: ReadonlyArray<number> | undefined
}

/**
 * Which checkpoints to list. Without any condition, all.
 *
 * @since 0.1.0
 * @category models
 */
export interface Filter {
  readonly name?: string | undefined
  /** Only with a `name`. */
  readonly generation?: number | undefined
}

/**
 * @since 0.1.0
 * @category models
 */
export interface Info {
  /** `InMemory`, `Sqlite`, `Pg`, or what a backend of your own calls itself. */
  readonly backend: string
  /** Where the data is, with secrets masked. */
  readonly connection: string
  readonly readOnly: boolean
  readonly checkpoints: number
  readonly deadLetters: number
}

/**
 * The lease is of no use any more: another has claimed the checkpoint since, it was released or deleted, or a commit
 * has advanced it. Nothing was changed. Whoever gets this stops, and claims again to go on.
 *
 * @since 0.1.0
 * @category errors
 */
export class CheckpointLost extends Schema.TaggedError<CheckpointLost>("effect-stores/CheckpointLost")(
  "CheckpointLost",
  { follower: Schema.String, generation: Schema.Number, partition: Schema.Number, owner: Schema.String }
) {
  override get message(): string {
    const place = `partition ${this.partition} of ${this.follower}, generation ${this.generation}`
    return `${this.owner} has lost the checkpoint of ${place}`
  }
}

/**
 * @since 0.1.0
 * @category errors
 */
export type WriteError = ReadOnly | InvalidInput | StoreFailure

/**
 * @since 0.1.0
 * @category errors
 */
export type ReadError = InvalidInput | ReadFailure

/**
 * @since 0.1.0
 * @category models
 */
export interface CheckpointStoreShape {
  /**
   * Makes sure that the follower has its checkpoints, and returns them in order of partition: new ones are at position
   * 0, those that are there stay as they are. The number of partitions (1 to 1,000; default 1) is part of what a
   * follower is, since it decides which events are whose: if it was opened with another, `InvalidInput` names both. Of
   * several that open it at once with different numbers, one succeeds.
   */
  readonly open: (
    follower: Follower,
    options?: { readonly partitions?: number | undefined }
  ) => Effect.Effect<ReadonlyArray<Checkpoint>, WriteError>

  /**
   * Takes the lease of a checkpoint, in one atomic step: if nobody holds it, if the holder's time is over, or with
   * `takeFrom`. Returns none while another holds it, and that is so for a claim of the same owner, too. Fails with
   * `NotFound` if the follower was not opened.
   *
   * A commit or renewal may be in a transaction that is still open. On PostgreSQL a claim returns none at once then,
   * also after the lease has ended and with `takeFrom`: whoever finds the checkpoint free and gets none tries again
   * later. SQLite has one writer, so the claim waits. On both, the position of the lease is the last one that anybody
   * will have committed before.
   *
   * If the result of a claim is lost, the checkpoint is held until its lease ends.
   */
  readonly claim: (
    follower: Follower,
    options: ClaimOptions
  ) => Effect.Effect<Option.Option<Lease>, NotFound | WriteError>

  /**
   * Keeps the checkpoint for another `duration` from now. Works after the lease has ended, if nobody has claimed it.
   */
  readonly renew: (lease: Lease) => Effect.Effect<void, CheckpointLost | WriteError>

  /**
   * Advances the checkpoint to a position that is not less than the lease's, and renews the lease. It fails with
   * `CheckpointLost`, and changes nothing, unless the lease is the last claim, and the checkpoint is still where the
   * lease says.
   *
   * Inside `transaction` it is part of it: what is written there counts exactly if the checkpoint advances. The dead
   * letters of the options are recorded and deleted in the same step.
   */
  readonly commit: (
    lease: Lease,
    position: number,
    options?: CommitOptions
  ) => Effect.Effect<Lease, CheckpointLost | WriteError>

  /** Gives the checkpoint back, so that another need not wait for the lease to end. False if it was lost before. */
  readonly release: (lease: Lease) => Effect.Effect<boolean, WriteError>

  /** Checkpoints in order of name, as UTF-8 bytes, then generation, then partition; page by page. */
  readonly list: (filter?: Filter) => Stream.Stream<Checkpoint, ReadError>

  /** The dead letters of a follower in order of position, page by page. */
  readonly deadLetters: (follower: Follower) => Stream.Stream<DeadLetter, ReadError>

  /**
   * Deletes the checkpoints of one generation and its dead letters, whoever holds them, and returns whether there were
   * any checkpoints. Opened again, it begins at 0, and so do its tokens: a lease of before is lost unless its very
   * owner has claimed anew.
   */
  readonly delete: (follower: {
    readonly name: string
    readonly generation: number
  }) => Effect.Effect<boolean, WriteError>

  /**
   * Runs the effect in a transaction of the database that this store is on: what it writes there, through stores or the
   * database's own SQL, is committed together with the checkpoint, or not at all. It is the `transaction` of
   * `MemoryDatabase`, `SqliteDatabase` or `PgDatabase`.
   */
  readonly transaction: <A, E, R>(self: Effect.Effect<A, E, R>) => Effect.Effect<A, E | StoreFailure, R>

  /** What this store is, and how much it holds. */
  readonly info: Effect.Effect<Info, ReadFailure>

  /** Deletes all checkpoints and dead letters of this store, for tests. */
  readonly reset: Effect.Effect<void, ReadOnly | StoreFailure>
}

/**
 * @since 0.1.0
 * @category tags
 */
export class CheckpointStore extends Context.Tag("effect-stores/CheckpointStore")<
  CheckpointStore,
  CheckpointStoreShape
>() {}
