/**
 * The port that a backend of the SnapshotStore implements, and `make`, the one step from the port to the public
 * service. A layer that seals states wraps the port of a service (`relift`), so it works with any backend.
 *
 * @since 0.1.0
 */
import type * as Effect from "effect/Effect"
import type * as Runtime from "effect/Runtime"
import type * as Scope from "effect/Scope"
import type { InvalidInput, ReadFailure, StoreFailure } from "../Errors.js"
import type { StreamId } from "../EventStore.js"
import type { Pages } from "../internal/pages.js"
import type { SnapshotStoreShape } from "../SnapshotStore.js"
import type { Location } from "../Trace.js"
import { snapshotChecksum } from "./checksum.js"
import { lift, relift as reliftService } from "./lift.js"

export type { Pages } from "../internal/pages.js"

/**
 * A snapshot between the lift and a backend. `state` is a string the backend keeps as it is: JSON text when `keyId` is
 * null, else sealed with that key.
 *
 * @since 0.1.0
 * @category encoded
 */
export interface EncodedSnapshot extends StreamId {
  readonly version: number
  readonly lastEventMark: string
  readonly schemaVersion: string
  readonly state: string
  readonly keyId: string | null
  /** Epoch milliseconds. */
  readonly createdAt: number
  /**
   * The `checksum` of all other fields. A layer that seals the state computes it again over the sealed state; and,
   * after checking that, over the opened state.
   */
  readonly checksum: string
}

/**
 * Whose snapshot is there, and with which key its state is sealed.
 *
 * @since 0.1.0
 * @category encoded
 */
export interface EncodedAddress extends StreamId {
  readonly keyId: string | null
}

/**
 * What a backend implements. Input has been checked, so a backend need not check it again. A stored row may be damaged:
 * the backend returns what can be read, and the lift checks the checksum. Every member may be used concurrently and be
 * interrupted at any time; an interrupt leaves no lock, transaction or connection open.
 *
 * @since 0.1.0
 * @category encoded
 */
export interface Encoded {
  /**
   * One atomic step, one round trip: stores the snapshot unless the stream has one of a greater version, and returns
   * whether it did. An unreadable snapshot is replaced.
   */
  readonly save: (snapshot: EncodedSnapshot) => Effect.Effect<boolean, StoreFailure>

  /**
   * The stream's snapshot if its version is at most `atMost`, else null. If the row is damaged, returns whatever can be
   * read.
   */
  readonly latest: (stream: StreamId, atMost: number) => Effect.Effect<EncodedSnapshot | null, ReadFailure>

  /**
   * Replaces the state of a snapshot, its key and its checksum, if the stored one is still as `was` says. False when it
   * is not, or when there is none.
   */
  readonly replace: (request: {
    readonly was: EncodedSnapshot
    readonly state: string
    readonly keyId: string | null
    readonly checksum: string
  }) => Effect.Effect<boolean, StoreFailure>

  /** All snapshots, in any order. One that is there all the while comes at least once. */
  readonly addresses: Pages<EncodedAddress, ReadFailure>

  /** False when there was none. */
  readonly delete: (stream: StreamId) => Effect.Effect<boolean, StoreFailure>

  readonly info: Effect.Effect<
    { readonly backend: string; readonly connection: string; readonly snapshots: number },
    ReadFailure
  >

  /**
   * What a layer that seals keeps beside the rows: returns the value under this name; if there is none, and one is
   * given, keeps that first. One atomic step. `reset` leaves it alone.
   */
  readonly note: (name: string, value: string | null) => Effect.Effect<string | null, StoreFailure>

  readonly reset: Effect.Effect<void, StoreFailure>
}

/**
 * @since 0.1.0
 * @category models
 */
export interface Options extends Location {
  /** What the backend is in OpenTelemetry's words: `postgresql`, `sqlite`, `redis`, `memory`. */
  readonly system: string
  /** Refuse all writes with `ReadOnly`. Default false. */
  readonly readOnly?: boolean | undefined
  /** Background saves at the same time, at most: few, because loads come first. Default 8. */
  readonly savesMax?: number | undefined
  /**
   * Whether an effect of this runtime runs in a transaction of the store's database that an interrupted read would
   * fail, as on PostgreSQL. There a load waits for its snapshot as for any statement. Default: never.
   */
  readonly inTransaction?: ((runtime: Runtime.Runtime<never>) => boolean) | undefined
}

/**
 * 128 bits of SHA-256 over every other field, each with its length before it: detects what was truncated, changed or
 * swapped. It does not protect against those who can write to the store; sealing does.
 *
 * @since 0.1.0
 * @category encoded
 */
export const checksum: (snapshot: Omit<EncodedSnapshot, "checksum">) => string = snapshotChecksum

/**
 * Lifts the port to the public service. Closing the scope finishes its background saves, so the scope must close before
 * the backend does.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make: (encoded: Encoded, options: Options) => Effect.Effect<SnapshotStoreShape, never, Scope.Scope> = lift

/**
 * Lifts a service again over its wrapped port, with the options that it was lifted with: how a layer that seals
 * payloads wraps a store of any backend. The given service is unchanged. `InvalidInput` when it was not made by `make`:
 * a service made by hand, or a copy of one with other members, has no port. The new service has background saves of its
 * own, until the scope closes; those of the given service remain its own.
 *
 * @since 0.1.0
 * @category constructors
 */
export const relift: <E, R>(
  service: SnapshotStoreShape,
  wrap: (encoded: Encoded) => Effect.Effect<Encoded, E, R>
) => Effect.Effect<SnapshotStoreShape, E | InvalidInput, R | Scope.Scope> = reliftService
