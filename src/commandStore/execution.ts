/**
 * How a command is executed once: claiming it, waiting for another attempt that was faster, and returning the stored
 * outcome to repeats. One attempt is in `attempt`. The guarantees are stated at `CommandStore.execute`.
 */
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as FiberId from "effect/FiberId"
import * as Option from "effect/Option"
import { CommandDecodeError, CurrentCommand, DuplicateCommand, type ExecuteError } from "../CommandStore.js"
import { InvalidInput, type ReadFailure, StoreError, type StoreFailure } from "../Errors.js"
import { isSameJson } from "../internal/encoding.js"
import * as attempts from "./attempt.js"
import type { Encoded, EncodedCommand, EncodedNewCommand } from "./CommandStoreEncoded.js"
import type { Execution } from "./input.js"
import type { OutcomeCodec } from "./outcome.js"

type Claim =
  | { readonly _tag: "Attempt"; readonly attempt: attempts.Attempt }
  | { readonly _tag: "Done"; readonly command: EncodedCommand }
  | { readonly _tag: "Leased"; readonly leftMs: number }

/** How often to poll a command that another process executes. */
const pollMinMs = 10
const pollMaxMs = 500

type Execute = <A, E, R>(
  command: EncodedNewCommand,
  execution: Execution<A, E, R>
) => Effect.Effect<A, E | ExecuteError, Exclude<R, CurrentCommand>>

export const make = (encoded: Encoded): Execute => {
  // The commands that this process executes, so that its own fibers need not poll.
  const running = new Map<string, Deferred.Deferred<void>>()

  /** Until the command is done, or its lease may have ended. */
  const wait = (id: string, leftMs: number, delayMs = pollMinMs): Effect.Effect<void, ReadFailure> =>
    Effect.suspend(() => {
      const local = running.get(id)
      const pauseMs = Math.min(local === undefined ? delayMs : pollMaxMs, leftMs)
      const pause = Effect.sleep(Duration.millis(pauseMs))
      const waited = local === undefined ? pause : Effect.raceFirst(Deferred.await(local), pause)
      return Effect.zipRight(
        waited,
        Effect.flatMap(
          Effect.suspend(() => encoded.get(id)),
          (command) => {
            const isDone = command === null || command.status !== "received"
            // The attempt in this process has ended, or one has begun.
            const hasChanged = local !== running.get(id)
            return isDone || hasChanged || leftMs <= pauseMs
              ? Effect.void
              : wait(id, leftMs - pauseMs, Math.min(delayMs * 2, pollMaxMs))
          }
        )
      )
    })

  /** Lets the other fibers of this process know when the attempt has ended. */
  const announced = <A, E, R>(id: string, attempt: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
    Effect.suspend(() => {
      const landed = Deferred.unsafeMake<void>(FiberId.none)
      running.set(id, landed)
      return Effect.ensuring(
        attempt,
        Effect.suspend(() => {
          if (running.get(id) === landed) running.delete(id)
          return Deferred.succeed(landed, undefined)
        })
      )
    })

  const execute: Execute = <A, E, R>(command: EncodedNewCommand, execution: Execution<A, E, R>) => {
    type Next = Effect.Effect<A, E | ExecuteError, Exclude<R, CurrentCommand>>
    const again: Next = Effect.suspend(() => execute(command, execution))
    // From the claim to the end of its attempt only the effect can be interrupted, or a lease would be left behind.
    return Effect.flatten(
      Effect.uninterruptibleMask((restore) =>
        Effect.flatMap(claimed(encoded, command, execution.leaseMs, restore), (claim) => {
          switch (claim._tag) {
            case "Done":
              return Effect.succeed<Next>(answer(claim.command, execution))
            case "Leased":
              return Effect.succeed<Next>(Effect.zipRight(wait(command.id, claim.leftMs), again))
            case "Attempt":
              return Effect.catchIf(
                Effect.map(
                  announced(command.id, attempts.run(encoded, command, claim.attempt, execution, restore)),
                  (value): Next => Effect.succeed(value)
                ),
                (error) => error instanceof attempts.LeaseLost,
                () => Effect.succeed(again)
              )
          }
        })
      )
    )
  }

  return (command, execution) =>
    Effect.flatMap(Effect.serviceOption(CurrentCommand), (current) =>
      Option.isSome(current) && current.value.id === command.id
        ? Effect.fail(new InvalidInput({ what: "command.id", why: "is the command that is being executed" }))
        : execute(command, execution)
    )
}

/**
 * The claim, which may wait for a connection or a lock. It runs in a fiber of its own that nothing interrupts, because
 * whether a claim was made cannot be told from outside. An interrupted caller need not wait for it: a lease that it
 * gets later is released.
 */
const claimed = (
  encoded: Encoded,
  command: EncodedNewCommand,
  leaseMs: number,
  restore: <A, E>(self: Effect.Effect<A, E>) => Effect.Effect<A, E>
): Effect.Effect<Claim, DuplicateCommand | StoreFailure> =>
  // As an exit: what fails in a fiber is logged as unhandled.
  Effect.flatMap(Effect.forkDaemon(Effect.exit(claim(encoded, command, leaseMs))), (fiber) =>
    Effect.flatten(
      Effect.onInterrupt(restore(Fiber.join(fiber)), () =>
        Effect.forkDaemon(
          Effect.ignore(
            Effect.flatMap(Effect.flatten(Fiber.join(fiber)), (claim) =>
              claim._tag === "Attempt"
                ? encoded.renew({ id: command.id, attempt: claim.attempt.attempt, leaseMs: 0 })
                : Effect.void
            )
          )
        )
      )
    )
  )

const claim = (
  encoded: Encoded,
  command: EncodedNewCommand,
  leaseMs: number
): Effect.Effect<Claim, DuplicateCommand | StoreFailure> =>
  Effect.clockWith((clock) => {
    const beganMs = clock.unsafeCurrentTimeMillis()
    const attemptOf = (attempt: number, leaseMs: number): Claim => ({
      _tag: "Attempt",
      attempt: { attempt, leaseMs, leaseEndMs: beganMs + leaseMs }
    })
    return Effect.flatMap(
      encoded.create(command, leaseMs),
      (created): Effect.Effect<Claim, DuplicateCommand | StoreFailure> => {
        if (created._tag === "Created") return Effect.succeed(attemptOf(1, leaseMs))
        const stored = created.command
        const clash = clashOf(command, stored)
        if (clash !== undefined) return Effect.fail(clash)
        if (stored.status !== "received") return Effect.succeed({ _tag: "Done", command: stored })
        if (created.leaseLeftMs > 0) return Effect.succeed({ _tag: "Leased", leftMs: created.leaseLeftMs })
        const { attempts, id } = stored
        return Effect.flatMap(encoded.takeOver({ id, attempts, leaseMs }), (taken) =>
          taken ? Effect.succeed(attemptOf(attempts + 1, leaseMs)) : claim(encoded, command, leaseMs)
        )
      }
    )
  })

/** The result of a repeat: the stored outcome, as if the effect had just ended with it. */
const answer = <A, E, R>(
  { id, outcome, outcomeKeyId, status, type }: EncodedCommand,
  { failure, success }: Execution<A, E, R>
): Effect.Effect<A, E | CommandDecodeError | StoreError> => {
  const unfit = (cause: unknown) => new CommandDecodeError({ id, type, part: "outcome", cause })
  if (outcomeKeyId !== null) {
    const cause = new Error(`it is sealed with key ${outcomeKeyId}, and the store was opened without keys`)
    return Effect.fail(new StoreError({ operation: `decoding command ${id}`, cause }))
  }
  const decoded = <B>(codec: OutcomeCodec<B>) => Effect.mapError(codec.decode(outcome), unfit)
  if (status === "succeeded") return decoded(success)
  return failure === undefined
    ? Effect.fail(unfit(new Error("it is a failure, and no Schema of failures was given")))
    : Effect.flatMap(decoded(failure), Effect.fail)
}

/** How a repeat differs from the command with its id. */
export const clashOf = (command: EncodedNewCommand, stored: EncodedCommand): DuplicateCommand | undefined => {
  const field =
    (["tenantId", "domain", "type"] as const).find((field) => stored[field] !== command[field]) ??
    (isSameJson(stored.data, command.data) ? undefined : "data")
  return field === undefined ? undefined : new DuplicateCommand({ id: command.id, why: `with other ${field}` })
}
