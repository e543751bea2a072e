/**
 * How a command is executed once: claiming it, waiting for another attempt that was faster, and returning the stored
 * outcome to repeats. One attempt is in `attempt`. The guarantees are stated at `CommandStore.execute`.
 */
import { randomUUID } from "node:crypto"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as FiberId from "effect/FiberId"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import { CommandDecodeError, type CurrentCommand, DuplicateCommand, type ExecuteError } from "../CommandStore.js"
import { InvalidInput, isRepeatable, type ReadFailure, StoreError, type StoreFailure } from "../Errors.js"
import { leaseMaxMs } from "../internal/durations.js"
import { isSameJson } from "../internal/encoding.js"
import * as attempts from "./attempt.js"
import type {
  CreateOutcome,
  Encoded,
  EncodedCommand,
  EncodedLease,
  EncodedNewCommand,
  EncodedOpenCommand
} from "./CommandStoreEncoded.js"
import { reentered } from "./currentCommand.js"
import type { Execution } from "./input.js"
import { type OutcomeCodec, whyClosed } from "./outcome.js"

type Claim =
  | { readonly _tag: "Attempt"; readonly attempt: attempts.Attempt }
  | { readonly _tag: "Done"; readonly command: EncodedCommand }
  | { readonly _tag: "Leased"; readonly leftMs: number }

/** How often to poll a command that another process executes. */
const pollMinMs = 10
const pollMaxMs = 500

/** How often to look whether its lease was given back. */
const claimAgainMs = 2_000

/** `attempting` is told the number of each attempt of this caller. */
type Execute = <A, E, R>(
  command: EncodedNewCommand,
  execution: Execution<A, E, R>,
  attempting: (attempt: number) => void
) => Effect.Effect<A, E | ExecuteError, Exclude<R, CurrentCommand>>

/**
 * One attempt at a command that was found open. Returns the outcome that it stored, and fails without one. None: it is
 * being executed, done, or gone meanwhile, or this attempt was overtaken. `executionOf` is given the command as it is
 * stored.
 */
export type Resume = <A, E, R>(
  open: EncodedOpenCommand,
  leaseMs: number,
  executionOf: (command: EncodedCommand) => Execution<A, E, R>
) => Effect.Effect<Option.Option<Exit.Exit<A, E>>, E | StoreFailure, Exclude<R, CurrentCommand>>

export const make = (encoded: Encoded): { readonly execute: Execute; readonly resume: Resume } => {
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

  /** `lost`: the attempt of this caller that was overtaken just before. */
  const execute = <A, E, R>(
    command: EncodedNewCommand,
    execution: Execution<A, E, R>,
    attempting: (attempt: number) => void,
    leaseMs: number,
    lost: attempts.Attempt | undefined
  ): Effect.Effect<A, E | ExecuteError, Exclude<R, CurrentCommand>> => {
    type Next = Effect.Effect<A, E | ExecuteError, Exclude<R, CurrentCommand>>
    const again = (leaseMs: number, lost?: attempts.Attempt): Next =>
      Effect.suspend(() => execute(command, execution, attempting, leaseMs, lost))
    // From the claim to the end of its attempt only the effect can be interrupted, or a lease would be left behind.
    return Effect.flatten(
      Effect.uninterruptibleMask((restore) =>
        Effect.flatMap(claimed(surely(encoded, command, leaseMs), leftBy(encoded, command.id), restore), (claim) => {
          if (claim._tag === "Done") return Effect.succeed<Next>(answer(claim.command, execution))
          const warned = lost === undefined ? Effect.void : warnOvertaken(command, lost, leaseMs)
          if (claim._tag === "Leased") {
            // A lease that was given back elsewhere is seen by the next claim only.
            const leftMs = running.has(command.id) ? claim.leftMs : Math.min(claim.leftMs, claimAgainMs)
            return Effect.as(warned, Effect.zipRight(wait(command.id, leftMs), again(leaseMs)))
          }
          const { attempt } = claim
          attempting(attempt.attempt)
          const run = announced(command.id, attempts.run(encoded, command, attempt, execution, restore))
          return Effect.catchIf(
            Effect.map(Effect.zipRight(warned, run), (outcome): Next => outcome),
            (error) => error instanceof attempts.LeaseLost,
            // Whoever is busy for longer than the lease would be overtaken for ever.
            () => Effect.succeed(again(Math.min(2 * leaseMs, leaseMaxMs), attempt))
          )
        })
      )
    )
  }

  const resume = <A, E, R>(
    open: EncodedOpenCommand,
    leaseMs: number,
    executionOf: (command: EncodedCommand) => Execution<A, E, R>
  ): Effect.Effect<Option.Option<Exit.Exit<A, E>>, E | StoreFailure, Exclude<R, CurrentCommand>> =>
    Effect.uninterruptibleMask((restore) =>
      Effect.flatMap(claimed(takenOver(encoded, open, leaseMs), leftBy(encoded, open.id), restore), (claim) => {
        if (claim === undefined) return Effect.succeed(Option.none<Exit.Exit<A, E>>())
        const { attempt, command } = claim
        const run = attempts.run(encoded, command, attempt, executionOf(command), restore)
        return Effect.catchIf(
          Effect.map(announced(open.id, run), Option.some),
          (error) => error instanceof attempts.LeaseLost,
          () => Effect.succeed(Option.none<Exit.Exit<A, E>>())
        )
      })
    )

  return {
    execute: (command, execution, attempting) =>
      Effect.flatMap(reentered(encoded, command.id), (ids) =>
        ids.length === 0
          ? execute(command, execution, attempting, execution.leaseMs, undefined)
          : Effect.fail(new InvalidInput({ what: "command.id", why: whyReentered([...ids, command.id]) }))
      ),
    resume
  }
}

const whyReentered = (ids: ReadonlyArray<string>): string =>
  ids.length === 2
    ? "is the command that is being executed"
    : `is a command that is being executed, and waits for this: ${ids.join(" executes ")}`

const warnOvertaken = ({ id }: EncodedNewCommand, lost: attempts.Attempt, leaseMs: number): Effect.Effect<void> =>
  Effect.logWarning(
    `attempt ${lost.attempt} at command ${id} lost its lease of ${lost.leaseMs} ms because it was not renewed ` +
      `in time; the next one of this caller has a lease of ${leaseMs} ms`
  )

/**
 * The claim, which may wait for a connection or a lock. It runs in a fiber of its own that nothing interrupts, because
 * whether a claim was made cannot be told from outside. An interrupted caller need not wait for it: a lease that it
 * gets later is released.
 */
const claimed = <C, E>(
  claiming: Effect.Effect<C, E>,
  left: (claim: C) => Effect.Effect<unknown, unknown>,
  restore: <A, E>(self: Effect.Effect<A, E>) => Effect.Effect<A, E>
): Effect.Effect<C, E> =>
  // As an exit: what fails in a fiber is logged as unhandled.
  Effect.flatMap(Effect.forkDaemon(Effect.exit(claiming)), (fiber) =>
    Effect.flatten(
      Effect.onInterrupt(restore(Fiber.join(fiber)), () =>
        Effect.forkDaemon(Effect.ignore(Effect.flatMap(Effect.flatten(Fiber.join(fiber)), left)))
      )
    )
  )

/** Gives back the lease of a claim whose caller has left. */
const leftBy =
  (encoded: Encoded, id: string) =>
  (claim: Claim | Taken | undefined): Effect.Effect<unknown, StoreFailure> =>
    claim !== undefined && "attempt" in claim
      ? encoded.renew({ id, token: claim.attempt.token, leaseMs: 0 })
      : Effect.void

/** A command that was found open, in an attempt of its own. */
interface Taken {
  readonly attempt: attempts.Attempt
  readonly command: EncodedCommand
}

/** Undefined if somebody else was faster. The command is read when nobody else executes it. */
const takenOver = (
  encoded: Encoded,
  { attempts, id, position }: EncodedOpenCommand,
  leaseMs: number
): Effect.Effect<Taken | undefined, StoreFailure> =>
  Effect.clockWith((clock) => {
    const token = randomUUID()
    const attempt = { token, leaseMs, attempt: attempts + 1, position }
    const leaseEndMs = clock.unsafeCurrentTimeMillis() + leaseMs
    const taken = Effect.flatMap(encoded.takeOver({ token, leaseMs, id, position, attempts }), (isTaken) =>
      isTaken
        ? Effect.map(encoded.get(id), (command) =>
            command?.position === position ? { attempt: { ...attempt, leaseEndMs }, command } : undefined
          )
        : Effect.succeed(undefined)
    )
    // Whether it was taken over may be unknown.
    return Effect.onError(taken, () => Effect.ignore(encoded.renew({ id, token, leaseMs: 0 })))
  })

/** Repeats a claim whose reply was lost: if it was made, it is recognised by its token. */
const surely = (
  encoded: Encoded,
  command: EncodedNewCommand,
  leaseMs: number
): Effect.Effect<Claim, DuplicateCommand | StoreFailure> =>
  Effect.suspend(() => {
    const once = claim(encoded, command, { token: randomUUID(), leaseMs })
    return Effect.catchTag(once, "CommitOutcomeUnknown", (unknown) =>
      Effect.catchIf(Effect.retry(once, { schedule: reconnecting, while: isRepeatable }), isRepeatable, () =>
        // Whatever the repeats failed with, it stays unknown whether the claim was made.
        Effect.fail(unknown)
      )
    )
  })

/** A server that restarts is back in about a second. */
const reconnecting = Schedule.intersect(Schedule.exponential("50 millis"), Schedule.recurs(6))

const claim = (
  encoded: Encoded,
  command: EncodedNewCommand,
  lease: EncodedLease
): Effect.Effect<Claim, DuplicateCommand | StoreFailure> =>
  Effect.clockWith((clock) => {
    const now = () => clock.unsafeCurrentTimeMillis()
    const sentMs = now()
    const attemptOf = (attempt: number, { position }: EncodedCommand, leaseEndMs: number): Claim => ({
      _tag: "Attempt",
      attempt: { ...lease, attempt, position, leaseEndMs }
    })
    return Effect.flatMap(
      encoded.create(command, lease),
      (created): Effect.Effect<Claim, DuplicateCommand | StoreFailure> => {
        const stored = created.command
        if (created._tag === "Created") return Effect.succeed(attemptOf(1, stored, sentMs + lease.leaseMs))
        const clash = clashOf(command, created)
        if (clash !== undefined) return Effect.fail(clash)
        if (stored.status !== "received") return Effect.succeed({ _tag: "Done", command: stored })
        const { attempts, id, position } = stored
        const leftMs = created.leaseLeftMs
        if (leftMs > 0) {
          const isOurs = created.token === lease.token
          return Effect.succeed(isOurs ? attemptOf(attempts, stored, sentMs + leftMs) : { _tag: "Leased", leftMs })
        }
        const leaseEndMs = now() + lease.leaseMs
        return Effect.flatMap(encoded.takeOver({ ...lease, id, position, attempts }), (taken) =>
          taken ? Effect.succeed(attemptOf(attempts + 1, stored, leaseEndMs)) : claim(encoded, command, lease)
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
  const why = whyClosed(outcome)
  if (why !== undefined) return Effect.fail(unfit(new Error(why)))
  const decoded = <B>(codec: OutcomeCodec<B>) => Effect.mapError(codec.decode(outcome), unfit)
  if (status === "succeeded") return decoded(success)
  return failure === undefined
    ? Effect.fail(unfit(new Error("it is a failure, and no Schema of failures was given")))
    : Effect.flatMap(decoded(failure), Effect.fail)
}

/** How a repeat differs from the command with its id. Data that was changed since says nothing of what it was. */
export const clashOf = (
  command: EncodedNewCommand,
  { changed, command: stored }: Extract<CreateOutcome, { _tag: "Exists" }>
): DuplicateCommand | undefined => {
  const field =
    (["tenantId", "domain", "type"] as const).find((field) => stored[field] !== command[field]) ??
    (changed || isSameJson(stored.data, command.data) ? undefined : "data")
  return field === undefined ? undefined : new DuplicateCommand({ id: command.id, why: `with other ${field}` })
}
