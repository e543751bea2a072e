/**
 * The contract of the SnapshotStore: model, errors, and the service tag whose members carry the semantics. What a
 * backend implements is in `SnapshotStoreEncoded`; `Aggregate` is what uses it.
 *
 * A **snapshot** is the state of an aggregate at a version of its stream, kept so that a load need not read the events
 * before it. It is a baseline and never the truth: whatever happens to it, the events determine the state. So a store
 * keeps only the newest snapshot of a stream, and may lose it.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import type * as DateTime from "effect/DateTime"
import type * as Effect from "effect/Effect"
import type * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import type { InvalidInput, ReadFailure, ReadOnly, StoreFailure } from "./Errors.js"
import type { Json } from "./Json.js"
import { StreamId, streamName } from "./StreamId.js"

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
   * A mark of that event, as a UUID. A stream that was deleted and started again has the same versions, so a reader
   * compares the mark to detect the state of the earlier stream. If ids are never reused, the event's id will do.
   * `Aggregate` derives the mark from the event's id, position, time and content, because callers may give ids.
   */
  readonly lastEventMark: string
  /** The form of the state, 1 to 255 bytes. A reader that expects another form ignores the snapshot. */
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
  /** `InMemory`, `Sqlite`, `Pg`, `Redis`, or what a backend of your own calls itself. */
  readonly backend: string
  /** Where the data is, with secrets masked. */
  readonly connection: string
  readonly readOnly: boolean
  /** Streams that have a snapshot. */
  readonly snapshots: number
}

/**
 * The stored snapshot of a stream is damaged: truncated, changed, moved from another stream, or sealed with a key that
 * this store does not have. Delete it, or save a newer one.
 *
 * @since 0.1.0
 * @category errors
 */
export class SnapshotCorrupt extends Schema.TaggedError<SnapshotCorrupt>("effect-stores/SnapshotCorrupt")(
  "SnapshotCorrupt",
  { stream: StreamId, why: Schema.String }
) {
  override get message(): string {
    return `the snapshot of ${streamName(this.stream)} ${this.why}`
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
export type ReadError = InvalidInput | SnapshotCorrupt | ReadFailure

/**
 * @since 0.1.0
 * @category models
 */
export interface SnapshotStoreShape {
  /**
   * Keeps the snapshot unless the stream has one of a greater version, and returns whether it did. This is one atomic
   * step: when several callers save at once, the greatest version stays. Of equal versions the last one stays, because
   * a state of another `schemaVersion` must be able to replace the old one.
   *
   * Inside a transaction of the caller on the same database, the save is part of it.
   */
  readonly save: (stream: StreamId, snapshot: NewSnapshot) => Effect.Effect<boolean, SaveError>

  /**
   * Saves in the background: returns at once, and neither delays nor fails the caller.
   *
   * 1. `snapshot` runs in a fiber of its own, outside any transaction of the caller. Its result is saved; `undefined`
   *    saves nothing. With `replace`, the stored snapshot is deleted first, whatever its version: use it for one that
   *    was found not to belong to this stream.
   * 2. Only one save per stream runs at a time. Of the snapshots offered meanwhile, only the last is saved next. At
   *    most 1,000 streams wait; snapshots offered beyond that are dropped.
   * 3. A failure is logged as a warning and counted in `effect_stores_snapshots_saved`. A read-only store does nothing.
   * 4. Closing the scope of the layer waits for running and waiting saves, for at most 30 seconds.
   */
  readonly saveInBackground: <E>(
    stream: StreamId,
    snapshot: Effect.Effect<NewSnapshot | undefined, E>,
    options?: { readonly replace?: boolean | undefined }
  ) => Effect.Effect<void>

  /** Waits until no save that was offered to `saveInBackground` for this stream is running or waiting. */
  readonly flush: (stream: StreamId) => Effect.Effect<void>

  /**
   * The snapshot of the stream, if its version is at most `atMost` (default: any). It is checked against its checksum,
   * so it is exactly what was saved; otherwise `SnapshotCorrupt`.
   */
  readonly latest: (
    stream: StreamId,
    options?: { readonly atMost?: number | undefined }
  ) => Effect.Effect<Option.Option<Snapshot>, ReadError>

  /** Deletes the snapshot of a stream, even if it is damaged, and returns whether there was one. */
  readonly delete: (stream: StreamId) => Effect.Effect<boolean, SaveError>

  /** What this store is, and how much it holds. It counts rows, so do not use it on hot paths. */
  readonly info: Effect.Effect<Info, ReadFailure>

  /** Deletes all snapshots of this store, and nothing else that its backend holds. */
  readonly reset: Effect.Effect<void, ReadOnly | StoreFailure>
}

/**
 * @since 0.1.0
 * @category tags
 */
export class SnapshotStore extends Context.Tag("effect-stores/SnapshotStore")<SnapshotStore, SnapshotStoreShape>() {}
