/**
 * The contract of the SnapshotStore: model, errors, and the service tag whose members carry the semantics. What a
 * backend implements is in `SnapshotStoreEncoded`; `Aggregate` is what uses it.
 *
 * A **snapshot** is the state of an aggregate at a version of its stream, kept so that loading need not read what came
 * before. It is a baseline and never the truth: whatever becomes of it, the events say what the state is. So a store
 * keeps one per stream, the newest, and may lose it.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import type * as DateTime from "effect/DateTime"
import type * as Effect from "effect/Effect"
import type * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import type { InvalidInput, ReadOnly, StoreFailure } from "./Errors.js"
import type { StreamId } from "./EventStore.js"
import type { Json } from "./Json.js"
import { streamName } from "./StreamId.js"

/**
 * A snapshot to save.
 *
 * @since 0.1.0
 * @category models
 */
export interface NewSnapshot {
  /** The version of the last event that the state contains; at least 1. */
  readonly version: number
  /**
   * A mark of that event, as a UUID. A stream that was deleted and started again has the same versions: a reader
   * compares the mark, and so does not take the state of another life for this one. The event's id serves where ids are
   * never used again; `Aggregate` derives the mark from the event's id, position, time and content, because callers may
   * give ids.
   */
  readonly lastEventMark: string
  /** Which form the state has: 1 to 255 bytes. A reader that knows another form leaves the snapshot alone. */
  readonly schemaVersion: string
  /** Any JSON value of up to 16 MiB (see `Json.encode` for what is refused). */
  readonly state: unknown
  /** Years 0 to 9999, whole milliseconds. Default: now. */
  readonly createdAt?: DateTime.Utc | undefined
}

/**
 * A snapshot as it was saved. `state` is exactly the JSON that was given.
 *
 * @since 0.1.0
 * @category models
 */
export interface Snapshot extends StreamId {
  readonly version: number
  readonly lastEventMark: string
  readonly schemaVersion: string
  readonly state: Json
  readonly createdAt: DateTime.Utc
}

/**
 * @since 0.1.0
 * @category models
 */
export interface Info {
  /** `InMemory`, `Sqlite`, `Pg`, `Redis`. */
  readonly backend: string
  /** Where it is, without secrets. */
  readonly connection: string
  readonly readOnly: boolean
  /** Streams that have a snapshot. */
  readonly snapshots: number
}

/**
 * What is stored for a stream is no snapshot of it any more: truncated, changed, moved from elsewhere, or sealed with a
 * key that this store does not have. Deleting it, or saving a newer one, mends it.
 *
 * @since 0.1.0
 * @category errors
 */
export class SnapshotCorrupt extends Schema.TaggedError<SnapshotCorrupt>("effect-stores/SnapshotCorrupt")(
  "SnapshotCorrupt",
  { tenantId: Schema.String, domain: Schema.String, aggregateId: Schema.String, why: Schema.String }
) {
  override get message(): string {
    return `the snapshot of ${streamName(this)} ${this.why}`
  }
}

/**
 * @since 0.1.0
 * @category errors
 */
export type SaveError = ReadOnly | InvalidInput | StoreFailure

/**
 * @since 0.1.0
 * @category errors
 */
export type ReadError = InvalidInput | SnapshotCorrupt | StoreFailure

/**
 * @since 0.1.0
 * @category models
 */
export interface SnapshotStoreShape {
  /**
   * Keeps the snapshot if the stream has none, or none of a greater version, and answers whether it did. One atomic
   * step, so of any number that save at once the greatest version stays; of equal versions the last, because a state of
   * another `schemaVersion` must be able to take the place of the old one.
   *
   * Inside a transaction of the caller's on the same database it is part of that.
   */
  readonly save: (stream: StreamId, snapshot: NewSnapshot) => Effect.Effect<boolean, SaveError>

  /**
   * Saves in the background: returns at once, and neither delays nor fails the caller.
   *
   * 1. `snapshot` runs in a fiber of its own, outside of any transaction that the caller has open; then what it gives
   *    is saved (`undefined`: nothing). With `replace` what is stored is deleted before, whatever its version: for what
   *    was found to be no snapshot of this stream.
   * 2. One flight per stream: of what is offered while one is under way only the last follows. At most 1,000 streams
   *    wait; what is offered beyond that is dropped.
   * 3. A failure is logged as a warning and counted in `effect_stores_snapshots_saved`. A read-only store does nothing.
   * 4. Closing the scope of the layer waits for what is under way and for what follows, for 30 seconds at most.
   */
  readonly saveInBackground: <E>(
    stream: StreamId,
    snapshot: Effect.Effect<NewSnapshot | undefined, E>,
    options?: { readonly replace?: boolean | undefined }
  ) => Effect.Effect<void>

  /** Waits until nothing that was offered to `saveInBackground` for this stream is under way. */
  readonly flush: (stream: StreamId) => Effect.Effect<void>

  /**
   * The snapshot of the stream, if its version is at most `atMost` (default: any). It was checked against its checksum,
   * so what is given was saved exactly so, by whomever; else `SnapshotCorrupt`.
   */
  readonly latest: (
    stream: StreamId,
    options?: { readonly atMost?: number | undefined }
  ) => Effect.Effect<Option.Option<Snapshot>, ReadError>

  /** Deletes the snapshot of a stream, whatever is left of it, and answers whether there was one. */
  readonly delete: (stream: StreamId) => Effect.Effect<boolean, SaveError>

  /** What this store is, and how much it holds. Counts, so not for hot paths. */
  readonly info: Effect.Effect<Info, StoreFailure>

  /** Deletes all snapshots of this store, and nothing else that its backend holds. */
  readonly reset: Effect.Effect<void, ReadOnly | StoreFailure>
}

/**
 * @since 0.1.0
 * @category tags
 */
export class SnapshotStore extends Context.Tag("effect-stores/SnapshotStore")<SnapshotStore, SnapshotStoreShape>() {}
