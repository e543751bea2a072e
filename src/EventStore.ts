/**
 * The contract of the EventStore: model, errors, the service tag whose members carry the semantics, and `forSchema`,
 * which binds the events of an application's Schema to it. `EventStoreEncoded` has what a backend implements.
 *
 * Words: a **stream** holds the events of one aggregate. A **version** is the 1-based, gapless place of an event in its
 * stream. A **position** is its place in the store-wide order: unique and increasing, not dense; never rely on a
 * particular value.
 *
 * docs/limits.md lists all limits; what exceeds one is refused with `InvalidInput`.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import type * as DateTime from "effect/DateTime"
import type * as Effect from "effect/Effect"
import type * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import type * as Stream from "effect/Stream"
import type { InvalidInput, NotFound, ReadFailure, ReadOnly, StoreFailure } from "./Errors.js"
import { typedEvents } from "./eventStore/typed.js"
import type { Direction } from "./internal/pages.js"
import type { Json, JsonObject } from "./Json.js"
import { StreamId, streamName } from "./StreamId.js"

export type { Direction } from "./internal/pages.js"
export { StreamId } from "./StreamId.js"

/**
 * An event as it was stored. `data` and `metadata` are exactly the JSON that was appended.
 *
 * @since 0.1.0
 * @category models
 */
export interface Event extends StreamId {
  readonly id: string
  readonly version: number
  readonly position: number
  readonly type: string
  readonly data: Json
  /** Request context, correlation, causation, trace. */
  readonly metadata: JsonObject
  /** The command that caused the event. */
  readonly commandId: string | undefined
  /** The process that wrote the event. */
  readonly instanceId: string | undefined
  readonly createdAt: DateTime.Utc
}

/**
 * An event to append. Fields left out are filled in: `id` with a new UUIDv7, `metadata` with `{}`, `instanceId` with
 * the layer's, `createdAt` from the Clock. `data` may be any JSON value (see `Json.encode` for what is refused); `id`
 * is a UUID in canonical lower-case form. Give your own `id` to make a repeat of the append recognisable.
 *
 * Other keys are refused, so that a misspelt one does not vanish. A whole stored `Event` is accepted as well, to copy
 * it; its old place is ignored.
 *
 * @since 0.1.0
 * @category models
 */
export interface NewEvent {
  readonly id?: string | undefined
  readonly type: string
  readonly data: unknown
  readonly metadata?: { readonly [key: string]: unknown } | undefined
  readonly commandId?: string | undefined
  readonly instanceId?: string | undefined
  /** Years 0 to 9999, whole milliseconds. */
  readonly createdAt?: DateTime.Utc | undefined
}

/**
 * The state that a stream must have for an append to happen: `"any"`, `"noStream"` (no event yet; the same as `0`),
 * `"streamExists"` (at least one event), or exactly this version.
 *
 * @since 0.1.0
 * @category models
 */
export type ExpectedVersion = "any" | "noStream" | "streamExists" | number

/**
 * The options of an append to one stream.
 *
 * @since 0.1.0
 * @category models
 */
export interface AppendOptions {
  readonly expected: ExpectedVersion
}

/**
 * The options of an append to several streams.
 *
 * @since 0.1.0
 * @category models
 */
export interface AppendAllOptions {
  /** Streams that are not written, and the versions that they must have. */
  readonly guards?: ReadonlyArray<Guard> | undefined
}

/**
 * `version` and `position` are those of the last event of the append.
 *
 * @since 0.1.0
 * @category models
 */
export interface Appended {
  readonly version: number
  readonly position: number
}

/**
 * One stream's share of an atomic append to several streams.
 *
 * @since 0.1.0
 * @category models
 */
export interface StreamAppend extends AppendOptions {
  readonly stream: StreamId
  readonly events: ReadonlyArray<NewEvent>
}

/**
 * A read guard: a stream that is not written, and the version that it must have.
 *
 * @since 0.1.0
 * @category models
 */
export interface Guard {
  readonly stream: StreamId
  readonly expected: ExpectedVersion
}

/**
 * Which events to read: all given conditions must hold. Without any, all events.
 *
 * @since 0.1.0
 * @category models
 */
export interface Filter {
  readonly tenantId?: string | undefined
  readonly domain?: string | undefined
  readonly aggregateId?: string | undefined
  /** One of these types; at least one. */
  readonly types?: ReadonlyArray<string> | undefined
  readonly commandId?: string | undefined
  /** Created at or after. */
  readonly createdFrom?: DateTime.Utc | undefined
  /** Created before. */
  readonly createdUntil?: DateTime.Utc | undefined
}

/**
 * The bounds are versions, both inclusive, whatever the direction; `limit` counts events.
 *
 * @since 0.1.0
 * @category models
 */
export interface ReadOptions {
  readonly direction?: Direction | undefined
  readonly fromVersion?: number | undefined
  readonly toVersion?: number | undefined
  readonly limit?: number | undefined
}

/**
 * @since 0.1.0
 * @category models
 */
export interface FeedOptions {
  /** Only events with a greater position. Default 0: from the beginning. */
  readonly after?: number | undefined
  readonly filter?: Filter | undefined
  readonly limit?: number | undefined
}

/**
 * What a follower has come upon: the events between its last position and this one, or none.
 *
 * @since 0.1.0
 * @category models
 */
export interface Step {
  readonly events: ReadonlyArray<Event>
  /** Up to here there are no other events of the filter, and there will be none. */
  readonly position: number
}

/**
 * @since 0.1.0
 * @category models
 */
export interface PageOptions {
  readonly filter?: Filter | undefined
  readonly direction?: Direction | undefined
  /** The `next` of the page before; absent for the first page. Use it with the same filter and direction. */
  readonly cursor?: string | undefined
  /**
   * 1 to 1,000; default 100. A page of large events ends earlier, at about 1 MiB: when it has fewer than `limit`, only
   * the absence of `next` says that no more follow.
   */
  readonly limit?: number | undefined
}

/**
 * @since 0.1.0
 * @category models
 */
export interface Page {
  readonly events: ReadonlyArray<Event>
  /** Where the next page starts; absent when there is none. */
  readonly next: Option.Option<string>
}

/**
 * The fields whose distinct values can be listed.
 *
 * @since 0.1.0
 * @category models
 */
export type DistinctField = "tenantId" | "domain" | "aggregateId" | "type" | "commandId" | "instanceId"

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
  readonly events: number
  readonly streams: number
  readonly lastEvent: Option.Option<Event>
}

/**
 * The stream was not at the version that the append expected: nothing was written, and no position was used up.
 * `actual` is the stream's version at that moment, 0 for a stream without events.
 *
 * @since 0.1.0
 * @category errors
 */
export class VersionConflict extends Schema.TaggedError<VersionConflict>("effect-stores/VersionConflict")(
  "VersionConflict",
  {
    stream: StreamId,
    expected: Schema.Union(Schema.Literal("any", "noStream", "streamExists"), Schema.Number),
    actual: Schema.Number
  }
) {
  override get message(): string {
    return `stream ${streamName(this.stream)} is at version ${this.actual}, expected ${this.expected}`
  }
}

/**
 * An event id of the append belongs to a stored event that differs, is elsewhere, or lacks the other events of the
 * append. So this is no repeat of an earlier append, and nothing was written.
 *
 * @since 0.1.0
 * @category errors
 */
export class DuplicateEvent extends Schema.TaggedError<DuplicateEvent>("effect-stores/DuplicateEvent")(
  "DuplicateEvent",
  { id: Schema.String, why: Schema.String }
) {
  override get message(): string {
    return `event ${this.id} exists already: ${this.why}`
  }
}

/**
 * @since 0.1.0
 * @category errors
 */
export type ReadError = InvalidInput | ReadFailure

/**
 * @since 0.1.0
 * @category errors
 */
export type AppendError = VersionConflict | DuplicateEvent | ReadOnly | InvalidInput | StoreFailure

/**
 * The log of events, the same on every backend.
 *
 * @since 0.1.0
 * @category tags
 */
export class EventStore extends Context.Tag("effect-stores/EventStore")<EventStore, EventStoreShape>() {}

/**
 * The members of the `EventStore` service.
 *
 * @since 0.1.0
 * @category models
 */
export interface EventStoreShape {
  /**
   * Appends events to one stream, all or nothing, if the stream is as `expected`.
   *
   * 1. A repeat of an earlier append (the same event ids, next to each other in the same order and stream, with the
   *    same type, command and data, as values) changes nothing and returns the result of the first one, whatever
   *    `expected` says. Metadata may differ, since a retry has another trace; those of the first one stay. Data that
   *    `maintenance` has changed since is not compared: an honest retry does not know of it.
   * 2. Otherwise, if an id is taken, `DuplicateEvent`.
   * 3. Otherwise, if the stream is not as expected, `VersionConflict`.
   * 4. Otherwise the events get the next versions of the stream, and positions greater than those of all its events.
   *
   * Of several appends that expect the same version exactly one succeeds. Takes 1 to 10,000 events. The backend's layer
   * documents what an acknowledged append survives.
   *
   * Inside a transaction of the same database, the append joins it; see the backend's `Database`. There `read`, `fold`,
   * `version`, `get`, `count` and `distinct` see what it has appended; for `feed` and its relatives this is not
   * specified, see there.
   */
  readonly append: (
    stream: StreamId,
    events: ReadonlyArray<NewEvent>,
    options: AppendOptions
  ) => Effect.Effect<Appended, AppendError>

  /**
   * Appends to several streams in one atomic step, if all of them, and all `guards`, are as expected. Returns results
   * in the order of `appends`. Repeats are recognised as in `append`, over the append as a whole. A stream may be named
   * once.
   */
  readonly appendAll: (
    appends: ReadonlyArray<StreamAppend>,
    options?: AppendAllOptions
  ) => Effect.Effect<ReadonlyArray<Appended>, AppendError>

  /**
   * The events of one stream in order of version, or from the newest back. A stream without events is empty, not an
   * error. Holds one page in memory and no connection between pages.
   */
  readonly read: (stream: StreamId, options?: ReadOptions) => Stream.Stream<Event, ReadError>

  /**
   * Folds the events that `read` would return into a state, event by event, in constant memory. This is the way to load
   * an aggregate: for short streams it is several times as fast as a `Stream`, whose set-up costs more than reading ten
   * events. `step` is the caller's code: as in `Effect.map`, what it throws is a defect.
   */
  readonly fold: <S>(
    stream: StreamId,
    initial: S,
    step: (state: S, event: Event) => S,
    options?: ReadOptions
  ) => Effect.Effect<S, ReadError>

  /**
   * The version of the stream's last event; 0 when it has none.
   */
  readonly version: (stream: StreamId) => Effect.Effect<number, ReadError>

  /**
   * The store-wide feed: events with a position greater than `after`, in order of position, up to the present; then it
   * ends.
   *
   * A reader that resumes after the position of the last event it saw gets each event committed since then exactly
   * once, and the events of each stream in order of version, whatever writers do meanwhile, slow and rolled-back
   * transactions included. An event may become visible later than one that was appended after it to another stream; the
   * feed waits for it.
   *
   * A position that this store never gave to an event is `InvalidInput`, which names it and the last position: whoever
   * kept it has read another store, or this one before it was restored from a backup, and would miss events.
   *
   * Inside a transaction it is not specified whether `feed`, `subscribe`, `page` and `head` show what that transaction
   * has appended and not yet committed. SQLite shows it; PostgreSQL cannot yet rule out an event at a lower position.
   * They always show what others have committed, and after the commit they show these events to everybody.
   */
  readonly feed: (options?: FeedOptions) => Stream.Stream<Event, ReadError>

  /**
   * The feed that does not end: catch-up, then live, without gap or duplicate between the two. Wake-ups are only hints;
   * it also reads at the layer's `pollInterval`. If the backend becomes unavailable for a while, it waits and goes on.
   * If the store it then finds was restored to an earlier state, it fails as `feed` does with such a position.
   * `limit` ends it.
   *
   * Those who wait share one look at the head of the feed, and one read of what is new, whatever their filters; so
   * thousands of them cost little more than one. Each goes at its own pace: one that is slow holds nobody back, and
   * reads what it has missed by itself.
   */
  readonly subscribe: (options?: FeedOptions) => Stream.Stream<Event, ReadError>

  /**
   * The same as `subscribe`, in steps, for those who store how far they have come. A step has the events that were
   * found, and how far it has searched; whoever resumes after its position misses nothing. With a filter that finds
   * little, this saves reading again what was passed over: where nothing is found, a step without events says how far
   * it is, at most once per `pollInterval` of the layer. `limit` counts events.
   */
  readonly follow: (options?: FeedOptions) => Stream.Stream<Step, ReadError>

  /**
   * A position such that every event up to it can be read and none will appear there later; 0 in an empty store.
   * Subscribe after it to see new events only. Inside a transaction that has appended, take it after the commit: see
   * `feed`.
   */
  readonly head: Effect.Effect<number, ReadFailure>

  /**
   * The event with this id.
   */
  readonly get: (id: string) => Effect.Effect<Option.Option<Event>, ReadError>

  /**
   * One page of the store-wide feed, from the oldest or from the newest event, by keyset: a page costs the same however
   * far it is, and events appended meanwhile neither shift nor repeat any. It goes up to `head`, so inside a
   * transaction the same holds as for `feed`.
   */
  readonly page: (options?: PageOptions) => Effect.Effect<Page, ReadError>

  /**
   * The distinct values of a field among the events of the filter, in order of their UTF-8 bytes.
   */
  readonly distinct: (field: DistinctField, filter?: Filter) => Stream.Stream<string, ReadError>

  /**
   * How many events match the filter.
   */
  readonly count: (filter?: Filter) => Effect.Effect<number, ReadError>

  /**
   * What this store is, and how much it holds. It counts rows, so do not use it on hot paths.
   */
  readonly info: Effect.Effect<Info, ReadFailure>

  /**
   * For operators, apart from the append-only surface.
   */
  readonly maintenance: Maintenance
}

/**
 * @since 0.1.0
 * @category models
 */
export interface Maintenance {
  /**
   * Replaces the data, the metadata or both of one event (redaction). Its place, type and time stay. Subscribers that
   * have passed the event do not see it again. Of new data the store remembers that it is new, and nothing of the old:
   * a repeat of the append is one still, whatever its data.
   *
   * From its commit on, loads of aggregates are as a replay gives them, in every process and with any SnapshotStore:
   * the stream has another revision, and snapshots of an earlier one do not count, even if they are saved later. They
   * contain what was redacted until the next load replaces them. To erase it from the SnapshotStore too, load the
   * aggregate or delete its snapshot.
   */
  readonly update: (
    id: string,
    changes: { readonly data?: unknown; readonly metadata?: { readonly [key: string]: unknown } | undefined }
  ) => Effect.Effect<void, NotFound | ReadOnly | InvalidInput | StoreFailure>

  /**
   * Deletes all events of a stream and returns how many. Its snapshots do not count any more. The stream may be started
   * again from version 1. Positions are never reused; the ids of the deleted events may be.
   */
  readonly deleteStream: (stream: StreamId) => Effect.Effect<number, ReadOnly | InvalidInput | StoreFailure>

  /**
   * Deletes all events of this store, for tests. Positions go on increasing.
   */
  readonly reset: Effect.Effect<void, ReadOnly | StoreFailure>
}

/**
 * An event that was read as a value of an application's Schema.
 *
 * @since 0.1.0
 * @category schema
 */
export interface TypedEvent<A> extends Omit<Event, "data"> {
  readonly data: A
}

/**
 * A stored event does not fit the Schema; `cause` is the `ParseError`.
 *
 * @since 0.1.0
 * @category errors
 */
export class EventDecodeError extends Schema.TaggedError<EventDecodeError>("effect-stores/EventDecodeError")(
  "EventDecodeError",
  {
    id: Schema.String,
    type: Schema.String,
    stream: StreamId,
    version: Schema.Number,
    position: Schema.Number,
    cause: Schema.Defect
  }
) {
  /** Of this event; `cause` is the `ParseError`. */
  static of(this: void, event: Event, cause: unknown): EventDecodeError {
    const { aggregateId, domain, id, position, tenantId, type, version } = event
    return new EventDecodeError({ id, type, stream: { tenantId, domain, aggregateId }, version, position, cause })
  }

  override get message(): string {
    const place = `version ${this.version} of stream ${streamName(this.stream)}`
    const why = this.cause instanceof Error ? this.cause.message : String(this.cause)
    return `event ${this.id} of type ${this.type}, ${place}, does not fit the schema:\n${why}`
  }
}

/**
 * What events of one typed append share.
 *
 * @since 0.1.0
 * @category schema
 */
export type Envelope = Omit<NewEvent, "type" | "data" | "id">

/**
 * The options of a typed append: those of the store's, and what the events share.
 *
 * @since 0.1.0
 * @category schema
 */
export interface TypedAppendOptions extends AppendOptions, Envelope {}

/**
 * The EventStore seen through the Schema of an application's events, as functions that need the store.
 *
 * @since 0.1.0
 * @category schema
 */
export interface TypedEvents<A, R> {
  /** The event as the store accepts it: to give it an id, or to pass it to `appendAll`. */
  readonly encode: (event: A, envelope?: Omit<NewEvent, "type" | "data">) => Effect.Effect<NewEvent, InvalidInput, R>
  readonly decode: (event: Event) => Effect.Effect<TypedEvent<A>, EventDecodeError, R>
  /** The events of one call share the envelope. */
  readonly append: (
    stream: StreamId,
    events: ReadonlyArray<A>,
    options: TypedAppendOptions
  ) => Effect.Effect<Appended, AppendError, EventStore | R>
  readonly read: (
    stream: StreamId,
    options?: ReadOptions
  ) => Stream.Stream<TypedEvent<A>, ReadError | EventDecodeError, EventStore | R>
  /**
   * `fold` of the store, over decoded events. Fails with the first event that does not fit; what `step` throws is a
   * defect.
   */
  readonly fold: <S>(
    stream: StreamId,
    initial: S,
    step: (state: S, event: TypedEvent<A>) => S,
    options?: ReadOptions
  ) => Effect.Effect<S, ReadError | EventDecodeError, EventStore | R>
  readonly feed: (options?: FeedOptions) => Stream.Stream<TypedEvent<A>, ReadError | EventDecodeError, EventStore | R>
  readonly subscribe: (
    options?: FeedOptions
  ) => Stream.Stream<TypedEvent<A>, ReadError | EventDecodeError, EventStore | R>
}

/**
 * Binds a Schema of events (a tagged struct, or a union of them) to appends and reads. An event's `_tag` becomes its
 * `type`, its other fields, encoded, its `data`. Events whose type the Schema does not know fail with
 * `EventDecodeError`: filter by `types`, or by the domain, to read a feed that others write to as well. A field that is
 * `undefined` (`Schema.optional`, `Schema.UndefinedOr`) is left out, as everywhere in JSON.
 *
 * @example
 * ```ts
 * import { Effect, Schema, Stream } from "effect"
 * import { EventStore } from "effect-stores"
 *
 * const OrderEvent = Schema.Union(
 *   Schema.TaggedStruct("Placed", { total: Schema.Number }),
 *   Schema.TaggedStruct("Shipped", { at: Schema.Date })
 * )
 * const orders = EventStore.forSchema(OrderEvent)
 *
 * const program = Effect.gen(function* () {
 *   const stream = { tenantId: "acme", domain: "order", aggregateId: "42" }
 *   yield* orders.append(stream, [{ _tag: "Placed", total: 12 }], { expected: "noStream" })
 *   return yield* Stream.runCollect(orders.read(stream))
 * })
 * ```
 *
 * @since 0.1.0
 * @category schema
 */
export const forSchema = <A extends { readonly _tag: string }, I extends { readonly _tag: string }, R>(
  schema: Schema.Schema<A, I, R>
): TypedEvents<A, R> => typedEvents(schema, { tag: EventStore, decodeError: EventDecodeError.of })
