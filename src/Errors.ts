/**
 * The errors that every store shares. Few, tagged and serialisable; anything the outside world can cause ends in one
 * of them and never in a defect. Errors that belong to one store (such as `VersionConflict`) live in that store's
 * contract module.
 *
 * @since 0.1.0
 */
import * as Schema from "effect/Schema"

/**
 * The caller passed something the store refuses: `what` names the field (a path such as `events[2].data.total`), `why`
 * the reason. Raised before anything is sent to the backend, so nothing was changed.
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
 * What an operation was asked to change does not exist. Only raised where absence is an error; reads answer absence
 * with `Option.none` or an empty stream.
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
 * No connection became free within the pool's `acquireTimeout`, or the pool's line was already `maxWaiting` long
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
 * failure, lock or statement timeout. When `retryable` is true the same call may succeed later.
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
 * The connection was lost after a write (or its COMMIT) had been sent and before the answer came: it may or may not
 * have happened. Repeating an append with the same event ids resolves it exactly, because appends are idempotent by
 * event id.
 *
 * @since 0.1.0
 * @category errors
 */
export class CommitOutcomeUnknown extends Schema.TaggedError<CommitOutcomeUnknown>(
  "effect-stores/CommitOutcomeUnknown"
)("CommitOutcomeUnknown", { operation: Schema.String, cause: Schema.Defect }) {
  readonly retryable = true
  override get message(): string {
    return `${this.operation} was sent, and the connection was lost before its answer: ${causeMessage(this.cause)}`
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
 * What the backend itself can answer to any operation.
 *
 * @since 0.1.0
 * @category errors
 */
export type StoreFailure = PoolTimeout | StoreUnavailable | CommitOutcomeUnknown | StoreError

const causeMessage = (cause: unknown): string => (cause instanceof Error ? cause.message : String(cause))
