/**
 * The errors that every store shares. They are few, tagged and serialisable. Whatever the outside world can cause ends
 * in one of them and never in a defect. Errors of one store (such as `VersionConflict`) are in its contract module.
 *
 * @since 0.1.0
 */
import * as Schema from "effect/Schema"
import type { CryptoError } from "./CryptoError.js"

/**
 * The caller passed something that the store refuses. `what` names the field (a path such as `events[2].data.total`),
 * `why` the reason. Nothing was sent to the backend, so nothing was changed.
 *
 * @since 0.1.0
 * @category errors
 */
export class InvalidInput extends Schema.TaggedError<InvalidInput>("effect-stores/InvalidInput")("InvalidInput", {
  what: Schema.String,
  why: Schema.String
}) {
  override get message(): string {
    return `${this.what}: ${this.why}`
  }
}

/**
 * The store was opened read-only, and `operation` writes.
 *
 * @since 0.1.0
 * @category errors
 */
export class ReadOnly extends Schema.TaggedError<ReadOnly>("effect-stores/ReadOnly")("ReadOnly", {
  operation: Schema.String
}) {
  override get message(): string {
    return `${this.operation} was refused: the store is read-only`
  }
}

/**
 * What an operation was asked to change does not exist. Only where absence is an error: reads return `Option.none` or
 * an empty stream.
 *
 * @since 0.1.0
 * @category errors
 */
export class NotFound extends Schema.TaggedError<NotFound>("effect-stores/NotFound")("NotFound", {
  what: Schema.String
}) {
  override get message(): string {
    return `${this.what} does not exist`
  }
}

/**
 * No connection became free within the pool's `acquireTimeout`, or `maxWaiting` operations were waiting already
 * (`waitedMs` is 0 then). The operation was not started, so trying again is safe.
 *
 * @since 0.1.0
 * @category errors
 */
export class PoolTimeout extends Schema.TaggedError<PoolTimeout>("effect-stores/PoolTimeout")("PoolTimeout", {
  waitedMs: Schema.Number,
  open: Schema.Number,
  waiting: Schema.Number
}) {
  readonly retryable = true
  override get message(): string {
    return `no connection became free within ${this.waitedMs} ms (${this.open} open, ${this.waiting} waiting)`
  }
}

/**
 * The backend could not do it now and did not do it: no connection, server shutting down, deadlock, serialization
 * failure, lock or statement timeout. If `retryable`, the same call may succeed later.
 *
 * @since 0.1.0
 * @category errors
 */
export class StoreUnavailable extends Schema.TaggedError<StoreUnavailable>("effect-stores/StoreUnavailable")(
  "StoreUnavailable",
  { operation: Schema.String, retryable: Schema.Boolean, cause: Schema.Defect }
) {
  override get message(): string {
    return `${this.operation} failed, the backend is unavailable: ${causeMessage(this.cause)}`
  }
}

/**
 * The connection was lost after a write (or its COMMIT) was sent and before its result arrived: it may or may not have
 * happened. Not `retryable`, since a transaction of the application that was committed would run twice. What is
 * idempotent may be repeated, see `isRepeatable`.
 *
 * @since 0.1.0
 * @category errors
 */
export class CommitOutcomeUnknown extends Schema.TaggedError<CommitOutcomeUnknown>(
  "effect-stores/CommitOutcomeUnknown"
)("CommitOutcomeUnknown", { operation: Schema.String, cause: Schema.Defect }) {
  readonly retryable = false
  override get message(): string {
    return `${this.operation} was sent, and the connection was lost before its result: ${causeMessage(this.cause)}`
  }
}

/**
 * Any other failure of the backend; `cause` is the driver's error. Trying the same call again will fail again.
 *
 * @since 0.1.0
 * @category errors
 */
export class StoreError extends Schema.TaggedError<StoreError>("effect-stores/StoreError")("StoreError", {
  operation: Schema.String,
  cause: Schema.Defect
}) {
  readonly retryable = false
  override get message(): string {
    return `${this.operation} failed: ${causeMessage(this.cause)}`
  }
}

/**
 * How the backend itself can fail at a read, which has nothing to commit, and what a store that is sealed can find
 * wrong with what is stored, or with its keys (`CryptoService`).
 *
 * @since 0.1.0
 * @category errors
 */
export type ReadFailure = PoolTimeout | StoreUnavailable | StoreError | CryptoError

/**
 * How the backend itself can fail, whatever the operation.
 *
 * @since 0.1.0
 * @category errors
 */
export type StoreFailure = ReadFailure | CommitOutcomeUnknown

// By tag, so that a member that is missing does not compile.
const storeFailures: { readonly [Tag in StoreFailure["_tag"]]: true } = {
  PoolTimeout: true,
  StoreUnavailable: true,
  CommitOutcomeUnknown: true,
  StoreError: true,
  UnknownKeyId: true,
  KeyDisabled: true,
  WrongKey: true,
  Tampered: true,
  Truncated: true,
  UnsupportedFormat: true,
  NotEncrypted: true,
  Shredded: true,
  SubjectShredded: true,
  KeyProviderError: true
}

/**
 * Whether it is one of the errors of `StoreFailure`.
 *
 * @since 0.1.0
 * @category guards
 */
export const isStoreFailure = (error: unknown): error is StoreFailure =>
  error instanceof Error && "_tag" in error && Object.hasOwn(storeFailures, String(error._tag))

/**
 * Whether nothing was done and the same call may succeed later. For `Effect.retry({ while })` around anything, a
 * transaction included.
 *
 * @since 0.1.0
 * @category guards
 */
export const isRetryable = (error: unknown): boolean =>
  typeof error === "object" && error !== null && "retryable" in error && error.retryable === true

/**
 * The same, or it is unknown whether it was done: then the call may be repeated if it is idempotent. These are: an
 * append whose events have ids of the caller's, `CommandStore.create` and `execute`, a save of a snapshot, an update, a
 * deletion.
 *
 * @since 0.1.0
 * @category guards
 */
export const isRepeatable = (error: unknown): boolean => isRetryable(error) || error instanceof CommitOutcomeUnknown

/** How many errors may stand around one of a store, such as an `SqlError`. */
const causesMax = 8

/**
 * Whether it is a failure of a store that is repeatable, or an error around one, such as an `SqlError`: the fault lies
 * in a store, and not in what was asked of it. What an error of the application's own calls `retryable` does not count.
 *
 * @since 0.1.0
 * @category guards
 */
export const isTransient = (error: unknown): boolean => {
  let current = error
  for (let i = 0; i <= causesMax && typeof current === "object" && current !== null; i++) {
    if (isStoreFailure(current) && isRepeatable(current)) return true
    current = "cause" in current ? current.cause : undefined
  }
  return false
}

const causeMessage = (cause: unknown): string => (cause instanceof Error ? cause.message : String(cause))
