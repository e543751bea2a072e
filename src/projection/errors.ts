/**
 * The errors of projections; `Projection` exports them.
 */
import * as Cause from "effect/Cause"
import * as Schema from "effect/Schema"
import { EventDecodeError } from "../EventStore.js"

/** What a log may show: why an event does not fit quotes its data, which may be sealed where it is stored. */
const loggable = (cause: unknown): unknown =>
  cause instanceof EventDecodeError ? `event ${cause.id} of type ${cause.type} does not fit the schema` : cause

/** As a cause, which loggers print with its message and what is behind it. */
export const logged = (error: unknown): Cause.Cause<unknown> => Cause.fail(loggable(error))

const describe = (cause: unknown): string => (cause instanceof Error ? cause.message : String(cause))

/**
 * An event does not fit the Schema, or the handler failed, and `retry` is used up. Nothing of that batch was committed.
 * `position` is where the partition stands: the next event that it asks for is the first of the batch that failed.
 * `cause` is the last error of it: an `EventDecodeError`, which names the event, or the handler's.
 *
 * @since 0.1.0
 * @category errors
 */
export class ProjectionStopped extends Schema.TaggedError<ProjectionStopped>("effect-stores/ProjectionStopped")(
  "ProjectionStopped",
  {
    projection: Schema.String,
    generation: Schema.Number,
    partition: Schema.Number,
    position: Schema.Number,
    cause: Schema.Defect
  }
) {
  override get message(): string {
    const place = `partition ${this.partition} of projection ${this.projection} (generation ${this.generation})`
    return `${place} stopped after position ${this.position}: ${describe(loggable(this.cause))}`
  }
}

/**
 * The projection has not come as far as the position in time. `reached` is how far its slowest partition had come; 0
 * for one that was never run.
 *
 * @since 0.1.0
 * @category errors
 */
export class ProjectionBehind extends Schema.TaggedError<ProjectionBehind>("effect-stores/ProjectionBehind")(
  "ProjectionBehind",
  { projection: Schema.String, generation: Schema.Number, position: Schema.Number, reached: Schema.Number }
) {
  override get message(): string {
    const what = `projection ${this.projection} (generation ${this.generation})`
    return `${what} is at position ${this.reached}, and was to come to ${this.position}`
  }
}
