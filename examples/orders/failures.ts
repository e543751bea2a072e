/**
 * What the stores can fail with, as what a client can do about it.
 */
import { Effect } from "effect"
import { CommandStore, Errors, EventStore } from "effect-stores"
import { Failed, NotPdf, TooLarge, Unavailable } from "./api.js"
import { Conflict, NotFound, Refused } from "./order.js"

type Answer = NotFound | Refused | Conflict | Unavailable | TooLarge | NotPdf | Failed

const answers = [NotFound, Refused, Conflict, Unavailable, TooLarge, NotPdf, Failed]

const isAnswer = (error: unknown): error is Answer => answers.some((answer) => error instanceof answer)

type Answered<E> =
  | Extract<E, Answer>
  | ([Extract<E, EventStore.VersionConflict>] extends [never] ? never : Conflict)
  | Refused
  | Unavailable
  | Failed

/**
 * An error of the application's own is the answer. Of the stores' errors,
 * - input that a store refuses, and a key that was used for another command, are the client's to change: 422,
 * - a conflict that was not resolved by deciding again is 409,
 * - what may be repeated is 503, since every command has a key: also when it is unknown whether it was done,
 * - all else is logged, and 500.
 */
export const answered = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, Answered<E>, R> =>
  Effect.catchAll(effect, (error) => Effect.flatMap(answerTo(error), (answer) => Effect.fail(answer as Answered<E>)))

const answerTo = (error: unknown): Effect.Effect<Answer> => {
  if (isAnswer(error)) return Effect.succeed(error)
  if (error instanceof EventStore.VersionConflict) {
    return Effect.succeed(new Conflict({ expected: Number(error.expected), actual: error.actual }))
  }
  if (error instanceof CommandStore.DuplicateCommand) {
    return Effect.succeed(new Refused({ why: "the idempotency key was used for another command" }))
  }
  if (error instanceof Errors.InvalidInput) return Effect.succeed(new Refused({ why: error.message }))
  return Errors.isRepeatable(error)
    ? Effect.as(Effect.logWarning("not available", error), new Unavailable())
    : Effect.as(Effect.logError("a request failed", error), new Failed())
}
