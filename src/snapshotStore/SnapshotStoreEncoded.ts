/**
 * The port that a backend of the SnapshotStore implements, and `make`, the one step from the port to the public service.
 * A layer that seals states wraps the port of a service (`relift`), so it works with any backend.
 *
 * @since 0.1.0
 */
import type * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { InvalidInput, StoreFailure } from "../Errors.js"
import type { StreamId } from "../EventStore.js"
import type { SnapshotStoreShape } from "../SnapshotStore.js"
import { snapshotChecksum } from "./checksum.js"
import { lift, relift as reliftService } from "./lift.js"

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
   * What `checksum` makes of all the rest. A layer that seals the state computes it anew over what it has sealed; and,
   * once that has been found to be whole, over what it has opened.
   */
  readonly checksum: string
}

/**
 * What a backend implements. Input has been checked, so a backend checks nothing again; what it finds stored need not
 * make sense, so it gives back what is there, and the lift looks at the checksum. Every member may be used concurrently
 * and be interrupted at any time without leaving anything behind.
 *
 * @since 0.1.0
 * @category encoded
 */
export interface Encoded {
  /**
   * One atomic step, one round trip: unless a snapshot of the stream with a greater version is stored, this one takes
   * its place. Answers whether it did. What is stored but unreadable is replaced.
   */
  readonly save: (snapshot: EncodedSnapshot) => Effect.Effect<boolean, StoreFailure>

  /** The stream's snapshot if its version is at most `atMost`, else null. Of a row without sense, what there is of it. */
  readonly latest: (stream: StreamId, atMost: number) => Effect.Effect<EncodedSnapshot | null, StoreFailure>

  /** False when there was none. */
  readonly delete: (stream: StreamId) => Effect.Effect<boolean, StoreFailure>

  readonly info: Effect.Effect<
    { readonly backend: string; readonly connection: string; readonly snapshots: number },
    StoreFailure
  >

  readonly reset: Effect.Effect<void, StoreFailure>
}

/**
 * @since 0.1.0
 * @category models
 */
export interface Options {
  /** What the backend is in OpenTelemetry's words: `postgresql`, `sqlite`, `redis`, `memory`. */
  readonly system: string
  /** Refuse all writes with `ReadOnly`. Default false. */
  readonly readOnly?: boolean | undefined
  /** Background saves under way at once: few, because loads have the first claim on connections. Default 8. */
  readonly savesMax?: number | undefined
}

/**
 * 128 bits of SHA-256 over every other field, each with its length before it: finds what was cut off, flipped, or put in
 * the place of another. It is no protection against who can write to the store; sealing is.
 *
 * @since 0.1.0
 * @category encoded
 */
export const checksum: (snapshot: Omit<EncodedSnapshot, "checksum">) => string = snapshotChecksum

/**
 * Lifts the port to the public service. Closing the scope finishes what it saves in the background, so it must come
 * before the backend's own end.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make: (encoded: Encoded, options: Options) => Effect.Effect<SnapshotStoreShape, never, Scope.Scope> = lift

/**
 * Lifts a service again over its wrapped port, with the options that it was lifted with: how a layer that seals payloads
 * wraps a store of any backend. The given service goes on as it was. `InvalidInput` when it was not made by `make`: a
 * service made by hand, or a copy of one with other members, has no port.
 * It saves in the background by itself, until the scope closes; what the given service saves stays that service's.
 *
 * @since 0.1.0
 * @category constructors
 */
export const relift: <E, R>(
  service: SnapshotStoreShape,
  wrap: (encoded: Encoded) => Effect.Effect<Encoded, E, R>
) => Effect.Effect<SnapshotStoreShape, E | InvalidInput, R | Scope.Scope> = reliftService
