/**
 * Projections: read models that follow the feed of an EventStore. A projection is a name, a Schema of events and a
 * handler for batches of them; its place is kept by a `CheckpointStore`. Plain functions over a definition.
 *
 * Where the CheckpointStore is on the database of the read model, the handler's writes and the checkpoint are committed
 * in one transaction: each event counts exactly once, whatever dies, and however many processes run the projection. One
 * of them works at a time on each partition, and the others stand by.
 *
 * @example
 * ```ts
 * import { SqlClient } from "@effect/sql"
 * import { Effect, Schema } from "effect"
 * import { Projection } from "effect-stores"
 *
 * const OrdersByItem = Projection.make({
 *   name: "orders_by_item",
 *   delivery: "exactlyOnce",
 *   events: Schema.TaggedStruct("Placed", { item: Schema.String }),
 *   filter: { domain: "order" },
 *   handle: (events) =>
 *     Effect.flatMap(SqlClient.SqlClient, (sql) =>
 *       Effect.forEach(events, ({ data }) => sql`insert into orders_by_item values (${data.item}, 1)
 *         on conflict (item) do update set orders = orders_by_item.orders + 1`)
 *     )
 * })
 *
 * const worker = Projection.run(OrdersByItem)
 * ```
 *
 * @since 0.1.0
 */
import type * as Arr from "effect/Array"
import type * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import type * as Option from "effect/Option"
import type * as Schedule from "effect/Schedule"
import type * as Schema from "effect/Schema"
import type * as Stream from "effect/Stream"
import type { CheckpointStore } from "./CheckpointStore.js"
import type { InvalidInput, ReadFailure, ReadOnly, StoreFailure } from "./Errors.js"
import type * as EventStore from "./EventStore.js"
import { type Definition, define, TypeId } from "./projection/definition.js"
import type { ProjectionBehind, ProjectionStopped } from "./projection/errors.js"
import * as looking from "./projection/looking.js"
import * as running from "./projection/run.js"

export { TypeId } from "./projection/definition.js"
export { ProjectionBehind, ProjectionStopped } from "./projection/errors.js"

/**
 * How often the handler's effect of an event counts.
 *
 * - `exactlyOnce`: the handler runs in a transaction of the CheckpointStore's database, which also advances the
 *   checkpoint. What it writes there, through stores or that database's own SQL, counts once. What it does elsewhere (a
 *   mail, another database) may happen again.
 * - `atLeastOnce`: the handler runs, then the checkpoint advances. After a crash, a lost lease or a failed commit the
 *   batch is handled again, so the handler must be idempotent.
 *
 * @since 0.1.0
 * @category models
 */
export type Delivery = "exactlyOnce" | "atLeastOnce"

/**
 * What becomes of an event that could not be handled, when `retry` is used up.
 *
 * - `stop`: the projection stops with `ProjectionStopped`. Nothing is missed, and nothing goes on.
 * - `skip`: it is passed by, and later events of its stream are handled.
 * - `park`: it is passed by, and so are all later events of its stream, so the order of the stream is kept.
 *
 * What is passed by is recorded as a dead letter, in the commit that passes it by: see `CheckpointStore.deadLetters`
 * and `retryDeadLetters`. A batch that failed is handled event by event then, each as often as `retry` says, to find
 * those that fail.
 *
 * @since 0.1.0
 * @category models
 */
export type OnFailure = "stop" | "skip" | "park"

/**
 * What a handler is told beside its events.
 *
 * @since 0.1.0
 * @category models
 */
export interface Batch {
  readonly name: string
  /** A rebuild has the next one: write to tables of its own. */
  readonly generation: number
  readonly partition: number
}

/**
 * A projection, with how it delivers in its type. `R` is what its handler and its Schema need.
 *
 * @since 0.1.0
 * @category models
 */
export interface Projection<D extends Delivery, R> {
  /** @internal */
  readonly [TypeId]: Definition<R>
  readonly name: string
  readonly generation: number
  readonly partitions: number
  readonly delivery: D
}

/**
 * @since 0.1.0
 * @category models
 */
export interface Options<
  A extends { readonly _tag: string },
  I extends { readonly _tag: string },
  RS,
  E,
  RH,
  D extends Delivery
> {
  /** By which its checkpoints are found; 1 to 255 bytes. */
  readonly name: string
  /** One pass from the beginning. Give the next number to rebuild beside the one in service. Default 1. */
  readonly generation?: number | undefined
  readonly delivery: D
  /** Of one tagged struct, or of a union of them, as for `EventStore.forSchema`. */
  readonly events: Schema.Schema<A, I, RS>
  /**
   * Which events to read. `types` are some of the tags of the Schema, by default all; where it does not tell them, all
   * types are read, and must fit.
   */
  readonly filter?: EventStore.Filter | undefined
  /**
   * How many parts the streams are divided into, by a hash of their address, 1 to 1,000. Each part is worked on by one
   * process at a time, in order of position, so each stream is handled in order of version; each part reads the feed
   * for itself. It cannot be changed within a generation. Default 1: everything in order of position.
   */
  readonly partitions?: number | undefined
  /** Events of a batch, at most: 1 to 1,000. Default 100. */
  readonly batchSize?: number | undefined
  /** How long a dead process keeps its partitions from others, 100 ms to 24 hours. Default 30 seconds. */
  readonly lease?: Duration.DurationInput | undefined
  /**
   * When a batch is tried again that failed: an event does not fit the Schema, the handler failed or died, or its
   * writes could not be committed. Default: five times within about three seconds. While a store is unavailable
   * (`Errors.isRepeatable` of a store's error, or of one behind it), a batch is tried again in any case, and without
   * end.
   */
  readonly retry?: Schedule.Schedule<unknown> | undefined
  /** After that. Default `stop`. */
  readonly onFailure?: OnFailure | undefined
  /**
   * Handles events that follow each other in their partition. Their number says nothing: the same events come in other
   * batches the next time.
   */
  readonly handle: (
    events: Arr.NonEmptyReadonlyArray<EventStore.TypedEvent<A>>,
    batch: Batch
  ) => Effect.Effect<unknown, E, RH>
}

/**
 * @since 0.1.0
 * @category models
 */
export interface RunOptions {
  /** What `status` shows as the owner of a partition: a name that no other process has. Default: a new UUID. */
  readonly owner?: string | undefined
}

/**
 * Where a partition stands.
 *
 * @since 0.1.0
 * @category models
 */
export interface PartitionStatus {
  readonly partition: number
  /** All events up to it are done. */
  readonly position: number
  /**
   * How far that is from the head of the store. Positions are not dense, so it is no number of events; 0: caught up.
   */
  readonly lag: number
  /** The process that works on it; none when nobody does. */
  readonly owner: Option.Option<string>
}

/**
 * @since 0.1.0
 * @category models
 */
export interface Status {
  readonly name: string
  readonly generation: number
  /** Of the EventStore. */
  readonly head: number
  /** In order; none if it was never run. */
  readonly partitions: ReadonlyArray<PartitionStatus>
}

/**
 * How far a rebuild has come. Positions are not dense, so these are no numbers of events.
 *
 * @since 0.1.0
 * @category models
 */
export interface Progress {
  /** The position that the partitions have come to, on average. */
  readonly done: number
  /** The head of the store. */
  readonly total: number
  /** Positions per second since the first look; 0 at that. */
  readonly rate: number
  /** The time that the rest takes at that rate; none while it is 0. */
  readonly left: Option.Option<Duration.Duration>
}

/**
 * @since 0.1.0
 * @category errors
 */
export type RunError = ProjectionStopped | ReadOnly | InvalidInput | StoreFailure

/**
 * Defines a projection. Throws `InvalidInput` for bad options, as a definition is part of the program.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = <
  A extends { readonly _tag: string },
  I extends { readonly _tag: string },
  RS,
  E,
  RH,
  const D extends Delivery
>(
  options: Options<A, I, RS, E, RH, D>
): Projection<D, RS | RH> => {
  const definition = define(options)
  const { generation, name, partitions } = definition
  return { [TypeId]: definition, name, generation, partitions, delivery: options.delivery }
}

/**
 * Runs the projection until it is interrupted: catches up, then follows what is appended. Run it in as many processes
 * as you like.
 *
 * 1. Opens the checkpoints of the projection. Each process claims partitions that nobody works on. If another has at
 *    least two more than it has, it takes one of them. A process that stops gives its partitions back; those of one
 *    that died are claimed when its lease has ended.
 * 2. Reads the feed after the checkpoint, batch by batch. With `exactlyOnce` the handler runs in a transaction, at the
 *    end of which the checkpoint advances. If another process has taken the partition over meanwhile, because this one
 *    was paused for longer than its lease, the transaction fails and is undone, and this process lets go.
 * 3. At the head it waits for what is appended. It also advances past events that are not its own, so that
 *    `awaitPosition` need not know the filter; those alone are committed ten times a second at most.
 *
 * While a store is unavailable it logs a warning, waits and goes on from the checkpoint, whatever became of the last
 * batch. With `onFailure` `stop`, it fails with `ProjectionStopped` when `retry` is used up, and this process works on
 * none of its partitions then.
 * Inside a transaction of the caller its writes would depend on that: run it outside.
 *
 * A handler may take longer than its lease, which is renewed meanwhile on another connection; with `exactlyOnce`, where
 * none is free, in the transaction of the handler: nobody takes that partition over before it ends, and on PostgreSQL
 * others work on the rest meanwhile.
 * With `atLeastOnce` a handler is interrupted when its lease could not be renewed in time: leave a connection of the
 * pool to the renewal. A handler that holds up the event loop for longer than the lease is overtaken by another
 * process.
 *
 * @since 0.1.0
 * @category running
 */
export const run: <D extends Delivery, R>(
  self: Projection<D, R>,
  options?: RunOptions
) => Effect.Effect<never, RunError, R | EventStore.EventStore | CheckpointStore> = (self, options) =>
  running.run(self[TypeId], options)

/**
 * Brings all partitions to the head of now, and returns it: for jobs, and for tests, which need not wait for a worker.
 * A partition that another process works on is waited for.
 *
 * @since 0.1.0
 * @category running
 */
export const catchUp: <D extends Delivery, R>(
  self: Projection<D, R>
) => Effect.Effect<number, RunError, R | EventStore.EventStore | CheckpointStore> = (self) =>
  running.catchUp(self[TypeId])

/**
 * Handles what was passed by, in order of position, and deletes the dead letters of what is done: of a parked stream,
 * all its events up to the checkpoint. Returns how many dead letters are left, because they failed again, or those of
 * their streams before them; each is logged. With `exactlyOnce` each is done in a transaction with its deletion.
 *
 * Takes the partitions over for that time, so that a stream is not handled elsewhere meanwhile; the processes that run
 * the projection claim them again afterwards. Run it after the handler, or the Schema, has been mended.
 *
 * @since 0.1.0
 * @category running
 */
export const retryDeadLetters: <D extends Delivery, R>(
  self: Projection<D, R>
) => Effect.Effect<number, RunError, R | EventStore.EventStore | CheckpointStore> = (self) =>
  running.retryDeadLetters(self[TypeId])

/**
 * Waits until all partitions have come to a position, such as that of an append, so that a request reads its own
 * writes. Looks at the checkpoints, which may be advanced by any process. Fails with `ProjectionBehind` after `timeout`
 * (default 10 seconds).
 *
 * @since 0.1.0
 * @category looking
 */
export const awaitPosition: <D extends Delivery, R>(
  self: Projection<D, R>,
  position: number,
  options?: { readonly timeout?: Duration.DurationInput | undefined }
) => Effect.Effect<void, ProjectionBehind | InvalidInput | ReadFailure, CheckpointStore> = (self, position, options) =>
  looking.awaitPosition(self[TypeId], position, options)

/**
 * Where the projection stands, and who works on it.
 *
 * @since 0.1.0
 * @category looking
 */
export const status: <D extends Delivery, R>(
  self: Projection<D, R>
) => Effect.Effect<Status, InvalidInput | ReadFailure, EventStore.EventStore | CheckpointStore> = (self) =>
  looking.status(self[TypeId])

/**
 * How far the projection has come, every second unless `every` says otherwise, until all partitions have caught up;
 * then it ends. For a rebuild that is run elsewhere, or beside this.
 *
 * @since 0.1.0
 * @category looking
 */
export const progress: <D extends Delivery, R>(
  self: Projection<D, R>,
  options?: { readonly every?: Duration.DurationInput | undefined }
) => Stream.Stream<Progress, InvalidInput | ReadFailure, EventStore.EventStore | CheckpointStore> = (self, options) =>
  looking.progress(self[TypeId], options)
