/**
 * Aggregates: a state folded from the events of one stream. It is loaded from the newest snapshot and the events after
 * it, and changed by appending the events of a decision. Plain functions over a definition; they need an EventStore,
 * and use a SnapshotStore if there is one in the context.
 *
 * A snapshot is never trusted. It counts only if the event that it names as its last is in the stream at its version,
 * and if its state has the form that this definition knows. If anything is wrong with it, or with its store, all events
 * are read. The words `initial`, `evolve` and `decide` are those of the Decider pattern.
 *
 * @example
 * ```ts
 * import { Effect, Schema } from "effect"
 * import { Aggregate } from "effect-stores"
 *
 * const Account = Aggregate.make({
 *   domain: "account",
 *   state: Schema.Struct({ balance: Schema.Number }),
 *   event: Schema.Union(
 *     Schema.TaggedStruct("Deposited", { amount: Schema.Number }),
 *     Schema.TaggedStruct("Withdrawn", { amount: Schema.Number })
 *   ),
 *   initial: { balance: 0 },
 *   evolve: ({ balance }, event) => ({
 *     balance: event._tag === "Deposited" ? balance + event.amount : balance - event.amount
 *   })
 * })
 *
 * const withdraw = (aggregateId: string, amount: number) =>
 *   Aggregate.execute(Account, { tenantId: "acme", aggregateId }, ({ balance }) =>
 *     balance < amount ? Effect.fail("too little money" as const) : [{ _tag: "Withdrawn", amount }]
 *   )
 * ```
 *
 * @since 0.1.0
 */
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import { dual } from "effect/Function"
import type * as Option from "effect/Option"
import { type Pipeable, pipeArguments } from "effect/Pipeable"
import { hasProperty } from "effect/Predicate"
import * as Schema from "effect/Schema"
import type { Codecs } from "./aggregate/codecs.js"
import * as executing from "./aggregate/execute.js"
import { fingerprint } from "./aggregate/fingerprint.js"
import * as loading from "./aggregate/load.js"
import { timeoutDefaultMs } from "./aggregate/lookup.js"
import { TypeId } from "./aggregate/typeId.js"
import { type InvalidInput, NotFound, type ReadOnly, type StoreFailure } from "./Errors.js"
import * as EventStore from "./EventStore.js"
import { durationMs } from "./internal/durations.js"
import { exactly } from "./internal/encoding.js"
import { checked, identifier, integer, options as knownKeys, record } from "./internal/validate.js"
import * as SnapshotPolicy from "./SnapshotPolicy.js"
import { SnapshotStore, type SnapshotStoreShape } from "./SnapshotStore.js"
import { streamName } from "./StreamId.js"

export { TypeId } from "./aggregate/typeId.js"

/**
 * The identity of an aggregate within its domain: the rest of its stream's address.
 *
 * @since 0.1.0
 * @category models
 */
export interface Id {
  readonly tenantId: string
  readonly aggregateId: string
}

/**
 * A definition, made with `make`.
 *
 * @since 0.1.0
 * @category models
 */
export interface Aggregate<S, E extends { readonly _tag: string }> extends Pipeable {
  readonly [TypeId]: Codecs<S, E>
  readonly domain: string
  readonly initial: S
  readonly evolve: (state: S, event: E) => S
  /** When a load saves a snapshot. */
  readonly snapshots: SnapshotPolicy.SnapshotPolicy<S>
  /** How long a load waits for its snapshot, in milliseconds. */
  readonly snapshotTimeoutMs: number
  /** The `schemaVersion` of snapshots; those with another are ignored. */
  readonly schemaVersion: string
  /** The events of the domain as values of the Schema: typed feeds, single appends, `appendAll`. */
  readonly events: EventStore.TypedEvents<E, never>
}

/**
 * @since 0.1.0
 * @category models
 */
export interface Options<S, SI, E extends { readonly _tag: string }, EI extends { readonly _tag: string }> {
  /** The domain of the streams. One definition per domain: two would replace each other's snapshots. */
  readonly domain: string
  /**
   * How snapshots store the state: decoding what was encoded must return an equal state. Both are synchronous and need
   * no services. The state's type is inferred from here alone: `initial` and `evolve` are checked against it. (A
   * `Schema.transform` with functions inside has to be a constant of its own, or TypeScript infers `unknown`.)
   */
  readonly state: Schema.Schema<S, SI>
  /** The events: a tagged struct or a union of them; see `EventStore.forSchema`. Synchronous as well. */
  readonly event: Schema.Schema<E, EI>
  /** All loads share this value, so it must not be changed. */
  readonly initial: NoInfer<S>
  /** The state after an event. Must not change its argument, nor depend on anything else. */
  readonly evolve: NoInfer<(state: S, event: E) => S>
  /** When a load saves a snapshot. Default `SnapshotPolicy.every(100)`. */
  readonly snapshots?: SnapshotPolicy.SnapshotPolicy<NoInfer<S>> | undefined
  /**
   * Change it when `evolve`, or the code of a transformation (a default, for example), gives old events another
   * meaning. The Schemas do not show that; a change of the Schemas themselves makes older snapshots outdated without
   * it. Default `""`.
   */
  readonly snapshotVersion?: string | undefined
  /**
   * How long a load waits for its snapshot before it reads all events. A store that takes longer is not waited for
   * again until it answers in time, except by loads of streams of 1,000 events and more, for up to ten times as long.
   * Raise it if your store is far away. From 1 ms, or infinite; zero means the default. Default 100 ms.
   */
  readonly snapshotTimeout?: Duration.DurationInput | undefined
}

/**
 * An aggregate as it was loaded.
 *
 * @since 0.1.0
 * @category models
 */
export interface Loaded<S> {
  readonly state: S
  /** The version of the last event in the state; 0 without any. */
  readonly version: number
  /** The version of the snapshot it was loaded from; 0: from the first event. */
  readonly snapshotVersion: number
  /** How many events were read after it. */
  readonly replayed: number
}

/**
 * The result of a decision: the events that were appended, if any, and the state after them.
 *
 * @since 0.1.0
 * @category models
 */
export interface Executed<S, E> {
  readonly state: S
  readonly version: number
  /** Of the last event, for `Projection.awaitPosition`; none if nothing was appended. */
  readonly position: Option.Option<number>
  readonly events: ReadonlyArray<E>
}

/**
 * What a decision returns: the events, or none if there is nothing to do. An Effect may refuse with an error of its
 * own.
 *
 * @since 0.1.0
 * @category models
 */
export type Decided<E, Err = unknown, R = unknown> = ReadonlyArray<E> | Effect.Effect<ReadonlyArray<E>, Err, R>

type ErrorOf<D> = D extends Effect.Effect<unknown, infer Err, unknown> ? Err : never

type ContextOf<D> = D extends Effect.Effect<unknown, unknown, infer R> ? R : never

/**
 * @since 0.1.0
 * @category models
 */
export interface ExecuteOptions extends EventStore.Envelope {
  /** How often to load and decide again after a `VersionConflict`. Default 10. */
  readonly retries?: number | undefined
}

/**
 * @since 0.1.0
 * @category errors
 */
export type LoadError = EventStore.ReadError | EventStore.EventDecodeError

/**
 * @since 0.1.0
 * @category errors
 */
export type ExecuteError = LoadError | EventStore.AppendError

/**
 * Defines an aggregate. Throws `InvalidInput` for a bad domain, `snapshotVersion` or `snapshotTimeout`.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = <const S, SI, E extends { readonly _tag: string }, EI extends { readonly _tag: string }>({
  domain,
  event,
  evolve,
  initial,
  snapshotTimeout = 0,
  snapshotVersion = "",
  snapshots = SnapshotPolicy.every(100),
  state
}: Options<S, SI, E, EI>): Aggregate<S, E> => {
  // It must be text, and leave room for the fingerprint.
  if (snapshotVersion !== "")
    identifier(`${identifier(snapshotVersion, "snapshotVersion")}/${"0".repeat(16)}`, "snapshotVersion")
  const encodeState = Schema.encodeEither(state)
  return {
    [TypeId]: {
      decodeEvent: Schema.decodeUnknownEither(event),
      // As strict as the encoding, or another member of a union might accept it.
      decodeState: Schema.decodeUnknownEither(state, { onExcessProperty: "error" }),
      encodeState: exactly(encodeState)
    },
    domain: identifier(domain, "domain"),
    initial,
    evolve,
    snapshots,
    snapshotTimeoutMs: durationMs(snapshotTimeout, "snapshotTimeout") || timeoutDefaultMs,
    schemaVersion: `${snapshotVersion}/${fingerprint(
      Schema.Tuple(state, event),
      textOf(() => encodeState(initial))
    )}`,
    events: EventStore.forSchema(event),
    pipe() {
      // biome-ignore lint/complexity/noArguments: the form in which Effect's values are pipeable
      return pipeArguments(this, arguments)
    }
  }
}

/** The text of the initial state. A state that cannot be encoded cannot be saved either, and the save reports it. */
const textOf = (encode: () => Either.Either<unknown, unknown>): string => {
  try {
    return JSON.stringify(Either.getOrUndefined(encode())) ?? ""
  } catch {
    return ""
  }
}

const isAggregate = (value: unknown): value is Aggregate<never, never> => hasProperty(value, TypeId)

// The definition comes first, or the function is partially applied.
const isDataFirst = (args: IArguments): boolean => isAggregate(args[0])

const withStream = <A, Err, R>(
  { domain }: { readonly domain: string },
  id: Id,
  use: (stream: EventStore.StreamId) => Effect.Effect<A, Err, R>
): Effect.Effect<A, Err | InvalidInput, R> => checked(() => streamOf(domain, id), use)

const streamOf = (domain: string, id: unknown): EventStore.StreamId => {
  const { aggregateId, tenantId } = record(id, "id")
  return {
    tenantId: identifier(tenantId, "id.tenantId"),
    domain,
    aggregateId: identifier(aggregateId, "id.aggregateId")
  }
}

/**
 * The address of an aggregate's stream: for the EventStore, and for the SnapshotStore.
 *
 * @since 0.1.0
 * @category getters
 */
export const streamId = (self: { readonly domain: string }, { aggregateId, tenantId }: Id): EventStore.StreamId => ({
  tenantId,
  domain: self.domain,
  aggregateId
})

/**
 * Loads the state as it is now.
 *
 * 1. The stream's snapshot, if there is a SnapshotStore and the policy is not `never`. It is waited for no longer than
 *    `snapshotTimeout`. From a store that was found unavailable no load waits for it: one lookup at a time, in the
 *    background, at most once a second, finds out whether it is back.
 * 2. The events from the snapshot's last one on. If that event is not the one that the snapshot names, or the snapshot
 *    is of another `schemaVersion`, does not fit the Schema, is corrupt or cannot be read: one warning, and all events
 *    from the first. Memory does not grow with their number. A missing snapshot is only worth a warning from 1,000
 *    events on, and an outage one in all.
 * 3. If the policy says so, or the stored snapshot is of no use, a snapshot is saved in the background
 *    (`SnapshotStore.saveInBackground`). It is saved only if its events are then visible to everybody, not if they
 *    belong to a transaction that is open or was rolled back.
 *
 * Inside a transaction on PostgreSQL, a snapshot on the same database is read like any statement: without
 * `snapshotTimeout`, and if it cannot be read (a lock timeout), the transaction fails.
 *
 * A stream without events has the state `initial` and the version 0. Counted in `effect_stores_snapshots_used` by
 * outcome, and in `effect_stores_events_replayed`.
 *
 * @since 0.1.0
 * @category loading
 */
export const load: {
  (
    id: Id
  ): <S, E extends { readonly _tag: string }>(
    self: Aggregate<S, E>
  ) => Effect.Effect<Loaded<S>, LoadError, EventStore.EventStore>
  <S, E extends { readonly _tag: string }>(
    self: Aggregate<S, E>,
    id: Id
  ): Effect.Effect<Loaded<S>, LoadError, EventStore.EventStore>
} = dual(isDataFirst, <S, E extends { readonly _tag: string }>(self: Aggregate<S, E>, id: Id) =>
  withStream(self, id, (stream) => loading.load(self, stream))
)

/**
 * Loads the state as it was at a version: 0 is `initial`, and a version that the stream does not have fails with
 * `NotFound`. A snapshot is used if it is not newer; none is saved.
 *
 * @since 0.1.0
 * @category loading
 */
export const loadAt: {
  (
    id: Id,
    version: number
  ): <S, E extends { readonly _tag: string }>(
    self: Aggregate<S, E>
  ) => Effect.Effect<Loaded<S>, LoadError | NotFound, EventStore.EventStore>
  <S, E extends { readonly _tag: string }>(
    self: Aggregate<S, E>,
    id: Id,
    version: number
  ): Effect.Effect<Loaded<S>, LoadError | NotFound, EventStore.EventStore>
} = dual(isDataFirst, <S, E extends { readonly _tag: string }>(self: Aggregate<S, E>, id: Id, version: number) =>
  checked(
    () => ({ stream: streamOf(self.domain, id), version: integer(version, "version", 0) }),
    ({ stream, version }) =>
      Effect.filterOrFail(
        loading.loadAt(self, stream, version),
        (loaded) => loaded.version === version,
        () => new NotFound({ what: `version ${version} of ${streamName(stream)}` })
      )
  )
)

/**
 * Appends events, as `EventStore.append` does. In the effect of `CommandStore.execute` they get ids derived from the
 * command, so that the append is recognised when the command runs again.
 *
 * @since 0.1.0
 * @category changing
 */
export const append = <S, E extends { readonly _tag: string }>(
  self: Aggregate<S, E>,
  id: Id,
  events: ReadonlyArray<NoInfer<E>>,
  options: { readonly expected: EventStore.ExpectedVersion } & EventStore.Envelope
): Effect.Effect<EventStore.Appended, EventStore.AppendError, EventStore.EventStore> =>
  withStream(self, id, (stream) => executing.append(self, stream, events, options))

/**
 * Decides on the present state and appends the decided events.
 *
 * 1. Loads the aggregate.
 * 2. Asks `decide`. If it fails, so does the execution, and nothing is appended. If it returns no events, the execution
 *    succeeds, and nothing is appended.
 * 3. Appends the events if the aggregate has not changed meanwhile. If it has (`VersionConflict`), begins again, at
 *    most `retries` times; after that it fails with the conflict.
 *
 * The other options are stored with every event: `commandId` and `metadata` (correlation, causation) tell which command
 * caused it.
 *
 * In the effect of `CommandStore.execute` the events get ids derived from the command, and its id as `commandId`. So
 * when the command runs again after a crash, the events that it appended before are found and returned; nothing is
 * decided or appended twice. Executions on one aggregate are told apart by their order within the command; a failed one
 * may be tried again in its place. A decision of no events leaves nothing to find, and is made again.
 *
 * @since 0.1.0
 * @category changing
 */
export const execute = <S, E extends { readonly _tag: string }, const D extends Decided<E>>(
  self: Aggregate<S, E>,
  id: Id,
  decide: (state: S, version: number) => D,
  options: ExecuteOptions = {}
): Effect.Effect<Executed<S, E>, ErrorOf<D> | ExecuteError, ContextOf<D> | EventStore.EventStore> =>
  checked(
    () => {
      const { retries, ...envelope } = knownKeys(options, "options", executeKeys) as ExecuteOptions
      return {
        stream: streamOf(self.domain, id),
        retries: retries === undefined ? defaultRetries : integer(retries, "options.retries", 0),
        envelope
      }
    },
    ({ envelope, retries, stream }) =>
      executing.execute(
        self,
        stream,
        decide as (state: S, version: number) => Decided<E, ErrorOf<D>, ContextOf<D>>,
        envelope,
        retries
      )
  )

const executeKeys: ReadonlyArray<keyof ExecuteOptions> = ["retries", "metadata", "commandId", "instanceId", "createdAt"]

/** In each round one of several contenders succeeds, so this serves about as many callers at once. */
const defaultRetries = 10

/**
 * Deletes the events of an aggregate and then its snapshot, and returns how many events there were. Waits up to a
 * second for a running save of this process; a snapshot saved after that is deleted in the background, since inside a
 * transaction the save may wait for its end. A snapshot that another process saves meanwhile remains, and is never
 * used. If deleting fails halfway, the snapshot remains: delete again.
 *
 * @since 0.1.0
 * @category changing
 */
const delete_: {
  (
    id: Id
  ): <S, E extends { readonly _tag: string }>(
    self: Aggregate<S, E>
  ) => Effect.Effect<number, InvalidInput | ReadOnly | StoreFailure, EventStore.EventStore>
  <S, E extends { readonly _tag: string }>(
    self: Aggregate<S, E>,
    id: Id
  ): Effect.Effect<number, InvalidInput | ReadOnly | StoreFailure, EventStore.EventStore>
} = dual(isDataFirst, <S, E extends { readonly _tag: string }>(self: Aggregate<S, E>, id: Id) =>
  withStream(self, id, (stream) =>
    Effect.flatMap(Effect.all([EventStore.EventStore, Effect.serviceOption(SnapshotStore)]), ([events, snapshots]) =>
      Effect.zipLeft(
        events.maintenance.deleteStream(stream),
        snapshots._tag === "None" ? Effect.void : deleteSnapshot(snapshots.value, stream)
      )
    )
  )
)

const deleteSnapshot = (store: SnapshotStoreShape, stream: EventStore.StreamId) =>
  Effect.flatMap(Effect.timeoutOption(store.flush(stream), flushMax), (flushed) =>
    Effect.zipRight(
      store.delete(stream),
      flushed._tag === "Some"
        ? Effect.void
        : store.saveInBackground(stream, Effect.succeed(undefined), { replace: true })
    )
  )

/** Many times longer than a save takes, and short enough to keep open a transaction that the save waits for. */
const flushMax = "1 second"

export { delete_ as delete }
