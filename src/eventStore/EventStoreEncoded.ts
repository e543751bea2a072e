/**
 * The port that a backend of the EventStore implements, and `make`, the one step from the port to the public service:
 * input is checked there, ids and times are filled in, payloads become JSON text, pages become streams. A layer that
 * seals payloads wraps the port of a service (`relift`), so it works with any backend.
 *
 * @since 0.1.0
 */
import type * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { InvalidInput, ReadFailure, StoreFailure } from "../Errors.js"
import type {
  Appended,
  AppendOptions,
  Direction,
  DistinctField,
  EventStoreShape,
  Guard,
  StreamId
} from "../EventStore.js"
import type { Page, PageBounds } from "../internal/pages.js"
import type { Location } from "../Trace.js"
import { lift, relift as reliftService } from "./lift.js"

export type { Page, PageBounds } from "../internal/pages.js"
export { anyEvent, matches } from "./matches.js"

/**
 * An event between the lift and a backend. `data` and `metadata` are strings the backend keeps as they are: JSON text
 * when `keyId` is null, else sealed with that key.
 *
 * @since 0.1.0
 * @category encoded
 */
export interface EncodedEvent extends StreamId {
  readonly id: string
  readonly version: number
  readonly position: number
  readonly type: string
  readonly data: string
  readonly metadata: string
  readonly keyId: string | null
  readonly commandId: string | null
  readonly instanceId: string | null
  /** Epoch milliseconds. */
  readonly createdAt: number
}

/**
 * @since 0.1.0
 * @category encoded
 */
export type EncodedNewEvent = Omit<EncodedEvent, "version" | "position" | keyof StreamId>

/**
 * @since 0.1.0
 * @category encoded
 */
export interface EncodedAppend extends AppendOptions {
  readonly stream: StreamId
  readonly events: ReadonlyArray<EncodedNewEvent>
}

/**
 * `Conflict.index` counts appends, then guards. `Exists` carries the stored events whose ids the append uses, and the
 * ids of those whose `data` an `update` has changed since: only the lift can tell whether it is a repeat, since a
 * backend may hold sealed payloads. A layer that seals must open these events like those of any read: sealed twice, the
 * same payload is two texts.
 *
 * @since 0.1.0
 * @category encoded
 */
export type AppendOutcome =
  | { readonly _tag: "Appended"; readonly results: ReadonlyArray<Appended> }
  | { readonly _tag: "Conflict"; readonly index: number; readonly actual: number }
  | { readonly _tag: "Exists"; readonly events: ReadonlyArray<EncodedEvent>; readonly changed: ReadonlySet<string> }

/**
 * @since 0.1.0
 * @category encoded
 */
export interface EncodedFilter {
  readonly tenantId: string | null
  readonly domain: string | null
  readonly aggregateId: string | null
  readonly types: ReadonlyArray<string> | null
  readonly commandId: string | null
  /** Epoch milliseconds, inclusive. */
  readonly createdFrom: number | null
  /** Epoch milliseconds, exclusive. */
  readonly createdUntil: number | null
}

/**
 * A page of one stream, and which history of the stream it is of: null if no event of it was ever changed, else the
 * `revision` that the last change came with. Both were read at the same moment.
 *
 * @since 0.1.0
 * @category encoded
 */
export interface EncodedStreamPage extends Page<EncodedEvent> {
  readonly revision: string | null
}

/**
 * What a backend implements. Input has been checked, so a backend need not check it again. Every member may be
 * used concurrently and be interrupted at any time; an interrupt leaves no lock, transaction or connection open.
 *
 * @since 0.1.0
 * @category encoded
 */
export interface Encoded {
  /**
   * One atomic step. If any id exists already: `Exists`, before expectations are checked. Otherwise, if an append or a
   * guard is not as expected: `Conflict` for the first in order. Otherwise all events are stored. `Exists` and
   * `Conflict` change nothing, use up nothing, and leave an open transaction of the caller usable.
   */
  readonly append: (
    appends: ReadonlyArray<EncodedAppend>,
    guards: ReadonlyArray<Guard>
  ) => Effect.Effect<AppendOutcome, StoreFailure>

  /** Events of one stream with `fromVersion <= version <= toVersion`. */
  readonly readStream: (
    request: PageBounds & {
      readonly stream: StreamId
      readonly direction: Direction
      readonly fromVersion: number
      readonly toVersion: number
    }
  ) => Effect.Effect<EncodedStreamPage, ReadFailure>

  /** The version of the stream's last event, 0 without events. */
  readonly version: (stream: StreamId) => Effect.Effect<number, ReadFailure>

  /**
   * A position such that every event up to it is visible to a `readFeed` that starts after this returns, and none will
   * appear there later.
   */
  readonly head: Effect.Effect<number, ReadFailure>

  /**
   * The greatest position that was ever given to an event, even if that is not committed yet or was deleted since. No
   * reader can have come further, unless in another store, or in this one before it was restored.
   */
  readonly lastPosition: Effect.Effect<number, ReadFailure>

  /**
   * Events with `after < position <= through` in the order of `direction`. The lift only reads up to a `through` that
   * `head` has returned before.
   */
  readonly readFeed: (
    request: PageBounds & {
      readonly after: number
      readonly through: number
      readonly direction: Direction
      readonly filter: EncodedFilter
    }
  ) => Effect.Effect<Page<EncodedEvent>, ReadFailure>

  readonly get: (id: string) => Effect.Effect<EncodedEvent | null, ReadFailure>

  /** Distinct non-null values greater than `after` (null: from the first), ordered by their UTF-8 bytes. */
  readonly distinct: (request: {
    readonly field: DistinctField
    readonly filter: EncodedFilter
    readonly after: string | null
    readonly limit: number
  }) => Effect.Effect<ReadonlyArray<string>, ReadFailure>

  readonly count: (filter: EncodedFilter) => Effect.Effect<number, ReadFailure>

  readonly info: Effect.Effect<
    {
      readonly backend: string
      readonly connection: string
      readonly events: number
      readonly streams: number
      readonly lastEvent: EncodedEvent | null
    },
    ReadFailure
  >

  /**
   * Replaces the payloads (absent: keep) of one event, and keeps `revision` as that of its stream: one atomic step.
   * `data` marks the event as changed. False when there is no such event. Of two changes of one stream at once, the
   * revision that is left is that of the one that is visible later.
   */
  readonly update: (request: {
    readonly id: string
    readonly data: string | null
    readonly metadata: string | null
    readonly keyId: string | null
    /** Never used before. */
    readonly revision: string
  }) => Effect.Effect<boolean, StoreFailure>

  /**
   * Replaces the payloads of one event and their key, if they are still as `was` says. False when they are not, or when
   * there is no such event. `changes`: `data` is another value, as after `update`, and marks the event as changed. With
   * a `revision`, it is kept as by `update`; it is null where the same payloads are sealed anew.
   */
  readonly replace: (request: {
    readonly id: string
    readonly was: { readonly data: string; readonly metadata: string }
    readonly data: string
    readonly metadata: string
    readonly keyId: string | null
    readonly changes: boolean
    readonly revision: string | null
  }) => Effect.Effect<boolean, StoreFailure>

  /** Deletes the events of a stream and its revision, and returns how many events there were. */
  readonly deleteStream: (stream: StreamId) => Effect.Effect<number, StoreFailure>

  readonly reset: Effect.Effect<void, StoreFailure>

  /**
   * What a layer that seals keeps beside the rows: returns the value under this name; if there is none, and one is
   * given, keeps that first. One atomic step. `reset` leaves it alone.
   */
  readonly note: (name: string, value: string | null) => Effect.Effect<string | null, StoreFailure>

  /**
   * Registers for hints until the scope closes. The effect it returns waits until something may have been appended
   * since it last ran (or since registering). Hints may be missed or be false; an append of the same process is hinted
   * at once.
   */
  readonly hints: Effect.Effect<Effect.Effect<void>, never, Scope.Scope>

  /** Whether the fiber is in a transaction that this port's operations are part of. */
  readonly inTransaction: Effect.Effect<boolean>
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
  /** The `instanceId` of events that are given without one. */
  readonly instanceId?: string | undefined
  /**
   * Write the span that appends into the metadata of events that have no `traceparent`: see `Trace.metadataKey`.
   * Default false.
   */
  readonly traceparent?: boolean | undefined
  /** How often `subscribe` reads when no hint arrives. */
  readonly pollInterval: Duration.Duration
}

/**
 * Lifts the port to the public service.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make: (encoded: Encoded, options: Options) => EventStoreShape = lift

/**
 * Lifts a service again over its wrapped port, with the options that it was lifted with: how a layer that seals
 * payloads wraps a store of any backend. The given service is unchanged. `InvalidInput` when it was not made by `make`:
 * a service made by hand, or a copy of one with other members, has no port.
 *
 * @since 0.1.0
 * @category constructors
 */
export const relift: <E, R>(
  service: EventStoreShape,
  wrap: (encoded: Encoded) => Effect.Effect<Encoded, E, R>
) => Effect.Effect<EventStoreShape, E | InvalidInput, R> = reliftService
