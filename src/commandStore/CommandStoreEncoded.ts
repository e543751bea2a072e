/**
 * The port that a backend of the CommandStore implements, and `make`, the one step from the port to the public service.
 * A layer that seals payloads wraps the port of a service (`relift`), so it works with any backend.
 *
 * @since 0.1.0
 */
import type * as Effect from "effect/Effect"
import type { CommandStoreShape, DistinctField, Status } from "../CommandStore.js"
import type { InvalidInput, ReadFailure, StoreFailure } from "../Errors.js"
import type { Direction } from "../EventStore.js"
import type { Page, PageBounds } from "../internal/pages.js"
import type { Location } from "../Trace.js"
import { lift, relift as reliftService } from "./lift.js"

export type { Page, PageBounds } from "../internal/pages.js"

/**
 * A command between the lift and a backend. `data`, `metadata` and `outcome` are strings the backend keeps as they are:
 * JSON text when the key id beside them is null, else sealed with that key. Times are epoch milliseconds.
 *
 * @since 0.1.0
 * @category encoded
 */
export interface EncodedCommand {
  readonly id: string
  readonly tenantId: string
  readonly domain: string
  readonly type: string
  readonly data: string
  readonly metadata: string
  /** Of `data` and `metadata`. */
  readonly keyId: string | null
  readonly instanceId: string | null
  readonly createdAt: number
  /** Workers leave it alone before. */
  readonly dueAt: number | null
  readonly position: number
  readonly status: Status
  readonly outcome: string | null
  readonly outcomeKeyId: string | null
  readonly attempts: number
  readonly finishedAt: number | null
}

/**
 * What of a command is sealed, and with which keys.
 *
 * @since 0.1.0
 * @category encoded
 */
export type EncodedPayloads = Pick<EncodedCommand, "data" | "metadata" | "keyId" | "outcome" | "outcomeKeyId">

/**
 * @since 0.1.0
 * @category encoded
 */
export type EncodedNewCommand = Omit<
  EncodedCommand,
  "position" | "status" | "outcome" | "outcomeKeyId" | "attempts" | "finishedAt"
>

/**
 * What begins an attempt: its token, a UUID of its own, and how long its lease lasts. By the token, and by nothing
 * else, who sent the claim recognises it when the reply was lost.
 *
 * @since 0.1.0
 * @category encoded
 */
export interface EncodedLease {
  readonly token: string
  readonly leaseMs: number
}

/**
 * - `leaseLeftMs`: how long the lease of a running attempt still lasts, by the backend's clock; 0 without one.
 * - `token`: of the last attempt; null without one, and for one of an earlier version.
 * - `changed`: whether `update` has changed `data` since it was created.
 *
 * The lift decides whether it is the same command, since a backend may hold sealed payloads. A layer that seals must
 * open the command of either outcome.
 *
 * @since 0.1.0
 * @category encoded
 */
export type CreateOutcome =
  | { readonly _tag: "Created"; readonly command: EncodedCommand }
  | {
      readonly _tag: "Exists"
      readonly command: EncodedCommand
      readonly leaseLeftMs: number
      readonly token: string | null
      readonly changed: boolean
    }

/**
 * A `received` command without a running lease. Without payload, which is read when it is taken over.
 *
 * - `dueInMs`: until it is due, by the backend's clock; 0 or less: since when it is.
 * - `isLeftBehind`: its last attempt has not given the lease back.
 *
 * @since 0.1.0
 * @category encoded
 */
export interface EncodedOpenCommand {
  readonly id: string
  readonly type: string
  readonly position: number
  readonly attempts: number
  readonly dueInMs: number
  readonly isLeftBehind: boolean
}

/**
 * @since 0.1.0
 * @category encoded
 */
export interface EncodedFilter {
  readonly tenantId: string | null
  readonly domain: string | null
  readonly types: ReadonlyArray<string> | null
  readonly statuses: ReadonlyArray<Status> | null
  /** Epoch milliseconds, inclusive. */
  readonly createdFrom: number | null
  /** Epoch milliseconds, exclusive. */
  readonly createdUntil: number | null
}

/**
 * The filter that all match.
 *
 * @since 0.1.0
 * @category encoded
 */
export const anyCommand: EncodedFilter = {
  tenantId: null,
  domain: null,
  types: null,
  statuses: null,
  createdFrom: null,
  createdUntil: null
}

/**
 * What a backend implements. Input has been checked, so a backend need not check it again. Each member but
 * `transaction` is one atomic step. It may be used concurrently and be interrupted at any time; an interrupt leaves no
 * lock, transaction or connection open. Leases run on one clock for all processes: the server's, or the machine's for a
 * file.
 *
 * @since 0.1.0
 * @category encoded
 */
export interface Encoded {
  /**
   * Stores the command as `received`; with a lease, begins attempt 1. Changes nothing if the id exists. The position is
   * never used again, so a command that is deleted and created again has another one.
   */
  readonly create: (
    command: EncodedNewCommand,
    lease: EncodedLease | null
  ) => Effect.Effect<CreateOutcome, StoreFailure>

  /**
   * Begins the next attempt, if the command is the one at this position, is `received`, has this many `attempts`, and
   * has no running lease. Returns whether it did.
   */
  readonly takeOver: (
    request: EncodedLease & { readonly id: string; readonly position: number; readonly attempts: number }
  ) => Effect.Effect<boolean, StoreFailure>

  /**
   * Extends the lease of the attempt with this token to `leaseMs` from now; 0 ends it. False if the command is no
   * longer `received`, or belongs to another attempt.
   */
  readonly renew: (request: EncodedLease & { readonly id: string }) => Effect.Effect<boolean, StoreFailure>

  /**
   * Ends the command at this position with an outcome: of several attempts at it, the first to finish. False, and
   * nothing is changed, if it is no longer `received`, or there is another command at this id. In a transaction of the
   * caller, what it has checked holds until the end.
   */
  readonly finish: (request: {
    readonly id: string
    readonly position: number
    readonly status: Exclude<Status, "received">
    readonly outcome: string | null
    readonly outcomeKeyId: string | null
    readonly finishedAt: number
  }) => Effect.Effect<boolean, StoreFailure>

  /**
   * The same for a command that no lease protects, and with a `position` of null for whichever is at this id; the
   * outcome says why nobody is to execute it.
   */
  readonly close: (
    request: Omit<Parameters<Encoded["finish"]>[0], "position"> & { readonly position: number | null }
  ) => Effect.Effect<boolean, StoreFailure>

  /**
   * The commands of the filter that are `received` and have no running lease, those due first before others, then in
   * order of position; by an index that has no finished ones. Without a time of its own a command is due at once, and
   * has its place by when it was created.
   */
  readonly open: (request: {
    readonly filter: EncodedFilter
    readonly limit: number
  }) => Effect.Effect<ReadonlyArray<EncodedOpenCommand>, ReadFailure>

  /** Makes a `received` command due in so many milliseconds by the backend's clock. False if it is not received. */
  readonly postpone: (request: {
    readonly id: string
    readonly position: number
    readonly dueInMs: number
  }) => Effect.Effect<boolean, StoreFailure>

  readonly get: (id: string) => Effect.Effect<EncodedCommand | null, ReadFailure>

  /** Commands with `after < position <= through` in the order of `direction`. */
  readonly list: (
    request: PageBounds & {
      readonly after: number
      readonly through: number
      readonly direction: Direction
      readonly filter: EncodedFilter
    }
  ) => Effect.Effect<Page<EncodedCommand>, ReadFailure>

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
      readonly commands: number
      readonly lastCommand: EncodedCommand | null
    },
    ReadFailure
  >

  /**
   * Null: keep. `data` marks the command as `changed`. A `status` replaces outcome and `finishedAt` as well, and ends a
   * lease. False if there is no command.
   */
  readonly update: (request: {
    readonly id: string
    readonly data: string | null
    readonly metadata: string | null
    readonly keyId: string | null
    readonly status: {
      readonly status: Status
      readonly outcome: string | null
      readonly outcomeKeyId: string | null
      readonly finishedAt: number | null
    } | null
  }) => Effect.Effect<boolean, StoreFailure>

  /**
   * Replaces the payloads of one command and their keys, if they are still as `was` says. False when they are not, or
   * when there is no such command. `changes`: `data` is another value, as after `update`, and marks the command as
   * `changed`; otherwise nothing else of it changes.
   */
  readonly replace: (request: {
    readonly id: string
    readonly was: EncodedPayloads
    readonly payloads: EncodedPayloads
    readonly changes: boolean
  }) => Effect.Effect<boolean, StoreFailure>

  readonly delete: (id: string) => Effect.Effect<boolean, StoreFailure>

  /** Deletes at most `limit` commands of the filter, the oldest first, and returns how many. */
  readonly prune: (filter: EncodedFilter, limit: number) => Effect.Effect<number, StoreFailure>

  readonly reset: Effect.Effect<void, StoreFailure>

  /**
   * What a layer that seals keeps beside the rows: returns the value under this name; if there is none, and one is
   * given, keeps that first. One atomic step. `reset` leaves it alone.
   */
  readonly note: (name: string, value: string | null) => Effect.Effect<string | null, StoreFailure>

  /**
   * Runs the effect in a transaction of the database that this store is on: what it does there, `finish` included, is
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
  /** The `instanceId` of commands that are given without one. */
  readonly instanceId?: string | undefined
}

/**
 * Lifts the port to the public service.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make: (encoded: Encoded, options: Options) => CommandStoreShape = lift

/**
 * Lifts a service again over its wrapped port, with the options that it was lifted with: how a layer that seals
 * payloads wraps a store of any backend. The given service is unchanged. `InvalidInput` when it was not made by `make`:
 * a service made by hand, or a copy of one with other members, has no port.
 *
 * @since 0.1.0
 * @category constructors
 */
export const relift: <E, R>(
  service: CommandStoreShape,
  wrap: (encoded: Encoded) => Effect.Effect<Encoded, E, R>
) => Effect.Effect<CommandStoreShape, E | InvalidInput, R> = reliftService
