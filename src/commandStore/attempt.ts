/**
 * One attempt at a command: running its effect while the lease is renewed, and storing the outcome. There are two ways
 * of storing: after the effect, or in one transaction with it.
 */
import * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import { CurrentCommand, type Status } from "../CommandStore.js"
import { CommitOutcomeUnknown, isRepeatable, type StoreFailure, StoreUnavailable } from "../Errors.js"
import type { Encoded, EncodedNewCommand } from "./CommandStoreEncoded.js"
import { currentCommand, inEffectOf } from "./currentCommand.js"
import type { Execution } from "./input.js"
import type { OutcomeText } from "./outcome.js"

/** Another attempt has the command, or it is done, so this attempt has nothing to report. */
export class LeaseLost {
  readonly _tag = "LeaseLost"
}

export interface Attempt {
  readonly attempt: number
  /** Of the command: of one that is deleted and created again it is another. */
  readonly position: number
  /** Only this attempt has it. */
  readonly token: string
  readonly leaseMs: number
  /** By the clock of this process, which began before the backend's. */
  readonly leaseEndMs: number
}

/** The state of an attempt. */
interface Running<A, E, R> {
  readonly encoded: Encoded
  readonly command: EncodedNewCommand
  readonly attempt: Attempt
  readonly execution: Execution<A, E, R>
  lease: "held" | "lost"
  outcome: "open" | "stored"
  /** A transaction may fail although its effect did not; that is no outcome. */
  effect: "running" | "failed"
  /** The last renewal, which may be running. */
  renewal: Fiber.RuntimeFiber<unknown> | undefined
}

type Restore = <A, E, R>(self: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>

type Failure = LeaseLost | StoreFailure

/** The two ways of storing an outcome. */
interface Strategy<A, E, R> {
  /** The effect, with whatever belongs in its transaction. */
  readonly whole: Effect.Effect<A, E | Failure, R>
  /** Stores a success, if that is still to be done. */
  readonly succeed: (value: A) => Effect.Effect<void, Failure>
  /** Repeats a write while the backend cannot be reached. */
  readonly persistently: <B, E2>(self: Effect.Effect<B, E2>) => Effect.Effect<B, E2>
  /** What to report of an attempt that ended without an outcome. `stop` ends the renewal. */
  readonly undecided: (
    cause: Cause.Cause<E | Failure>,
    stop: Effect.Effect<unknown>
  ) => Effect.Effect<never, E | Failure>
  /** Whether the attempt goes on when the lease may have ended: the write of its outcome decides. */
  readonly outlivesLease: boolean
}

/** The outcome is known and only has to be written: worth retrying for as long as the lease is held. */
const finishing = Schedule.jittered(Schedule.union(Schedule.exponential("50 millis"), Schedule.spaced("1 second")))

/** In a transaction the attempt does not learn that its lease is lost, so something else must end the retries. */
const finishingInTransaction = Schedule.intersect(finishing, Schedule.recurs(5))

/**
 * Runs in the uninterruptible region of the claim, so that nothing comes between a claim and its end. `restore` is for
 * the effect.
 *
 * 1. Runs the effect in a fiber of its own, beside the heartbeat, which interrupts it when the lease is lost. Goes on
 *    only when the effect has ended, whatever ended it.
 * 2. Stores the outcome, while the lease is still renewed.
 * 3. Stops the renewal. If no outcome was stored, gives the lease back.
 *
 * Returns the outcome that was stored, of either status, and fails without one: what a store fails with may fit the
 * Schema of failures as well.
 */
export const run = <A, E, R>(
  encoded: Encoded,
  command: EncodedNewCommand,
  attempt: Attempt,
  execution: Execution<A, E, R>,
  restore: Restore
): Effect.Effect<Exit.Exit<A, E>, E | Failure, Exclude<R, CurrentCommand>> =>
  Effect.gen(function* () {
    const running: Running<A, E, R> = {
      encoded,
      command,
      attempt,
      execution,
      lease: "held",
      outcome: "open",
      effect: "running",
      renewal: undefined
    }
    const strategy = execution.transaction ? transactional(running) : plain(running)
    // As an exit: what fails in a fiber is logged as unhandled.
    const fiber = yield* Effect.fork(Effect.exit(restore(strategy.whole)))
    const beats = yield* heartbeat(running, strategy.outlivesLease).pipe(
      Effect.zipRight(
        Effect.suspend(() => {
          running.lease = "lost"
          return Fiber.interruptFork(fiber)
        })
      ),
      Effect.interruptible,
      // An interrupt of this fiber reaches its children at once, but the lease is needed until the end.
      Effect.forkDaemon
    )
    const stop = Fiber.interrupt(beats)
    // An interrupt of this fiber alone would not wait for the effect to end.
    const exit = yield* Effect.catchAllCause(restore(Fiber.join(fiber)), () =>
      Effect.zipRight(Fiber.interrupt(fiber), Fiber.join(fiber))
    )
    return yield* Effect.ensuring(
      settle(running, strategy, exit, stop),
      Effect.zipRight(
        stop,
        Effect.suspend(() => (running.outcome === "stored" ? Effect.void : giveBack(running)))
      )
    )
  })

const settle = <A, E, R>(
  running: Running<A, E, R>,
  strategy: Strategy<A, E, R>,
  exit: Exit.Exit<A, E | Failure>,
  stop: Effect.Effect<unknown>
): Effect.Effect<Exit.Exit<A, E>, E | Failure> => {
  const stored = Effect.sync(() => {
    running.outcome = "stored"
  })
  if (Exit.isSuccess(exit))
    return Effect.as(Effect.zipRight(strategy.succeed(exit.value), stored), Exit.succeed(exit.value))
  const { cause } = exit
  if (running.lease === "lost" && Cause.isInterruptedOnly(cause)) return Effect.fail(new LeaseLost())
  const error = Cause.failureOption(cause)
  const { failure } = running.execution
  // A failure with a defect beside it is no outcome: nobody would hear of the defect.
  if (Option.isSome(error) && running.effect === "failed" && !Cause.isDie(cause) && failure?.is(error.value)) {
    const write = finish(running, "failed", failure.encode(error.value))
    return Effect.as(Effect.zipRight(strategy.persistently(write), stored), Exit.fail(error.value as E))
  }
  return strategy.undecided(cause, stop)
}

/** The outcome is written when the effect has ended, while the lease lasts. */
const plain = <A, E, R>(running: Running<A, E, R>): Strategy<A, E, Exclude<R, CurrentCommand>> => {
  const persistently = <B, E2>(self: Effect.Effect<B, E2>) =>
    Effect.retry(self, { schedule: finishing, while: (error) => isRepeatable(error) && running.lease === "held" })
  return {
    whole: body(running),
    succeed: (value) =>
      Effect.suspend(() => persistently(finish(running, "succeeded", running.execution.success.encode(value)))),
    persistently,
    undecided: (cause) => Effect.failCause(cause),
    outlivesLease: false
  }
}

/** The outcome is written in the transaction of the effect, which fails when another attempt has finished before. */
const transactional = <A, E, R>(running: Running<A, E, R>): Strategy<A, E, Exclude<R, CurrentCommand>> => {
  const { command, encoded, execution } = running
  const persistently = <B, E2>(self: Effect.Effect<B, E2>) =>
    Effect.retry(self, { schedule: finishingInTransaction, while: isRepeatable })
  return {
    // The heartbeat stays outside of the transaction, which others must not wait for to see the lease.
    whole: encoded.transaction(
      Effect.tap(body(running), (value) => finish(running, "succeeded", execution.success.encode(value)))
    ),
    succeed: () => Effect.void,
    persistently,
    undecided: (cause, stop) => {
      const error = Cause.failureOption(cause)
      const isUnknown = Option.isSome(error) && error.value instanceof CommitOutcomeUnknown
      if (!isUnknown || running.effect === "failed") return Effect.failCause(cause)
      // Releasing the lease waits for a running COMMIT, and shows whether it succeeded.
      return Effect.matchEffect(Effect.zipRight(stop, persistently(release(running))), {
        onFailure: () => Effect.failCause(cause),
        onSuccess: (released) => Effect.fail(released ? undone(command, cause) : new LeaseLost())
      })
    },
    outlivesLease: true
  }
}

const body = <A, E, R>(running: Running<A, E, R>): Effect.Effect<A, E, Exclude<R, CurrentCommand>> => {
  const { attempt, command, encoded, execution } = running
  const current = currentCommand(command.id, attempt.attempt)
  const effect = inEffectOf(encoded, command.id, Effect.provideService(execution.effect, CurrentCommand, current))
  return Effect.tapErrorCause(effect, () =>
    Effect.sync(() => {
      running.effect = "failed"
    })
  )
}

const finish = <A, E, R>(
  running: Running<A, E, R>,
  status: Exclude<Status, "received">,
  { text, unwritten }: OutcomeText
): Effect.Effect<void, Failure> => {
  const { attempt, command, encoded } = running
  const written = Effect.flatMap(
    Effect.clockWith((clock) =>
      encoded.finish({
        id: command.id,
        position: attempt.position,
        status,
        outcome: text,
        outcomeKeyId: null,
        finishedAt: clock.unsafeCurrentTimeMillis()
      })
    ),
    (finished) => (finished ? Effect.void : Effect.fail(new LeaseLost()))
  )
  return unwritten === undefined
    ? written
    : Effect.zipRight(written, Effect.logWarning(`the outcome of command ${command.id} was not written: ${unwritten}`))
}

/**
 * False if there is no lease to release, because the command is done or belongs to another attempt. A running renewal
 * would extend the lease again, so it is awaited, unless it hangs.
 */
const release = <A, E, R>(running: Running<A, E, R>): Effect.Effect<boolean, StoreFailure> =>
  Effect.suspend(() => {
    const { attempt, command, encoded, renewal } = running
    const released = Effect.suspend(() => encoded.renew({ id: command.id, token: attempt.token, leaseMs: 0 }))
    if (renewal === undefined || renewal.unsafePoll() !== null) return released
    const landed = Effect.timeoutOption(Effect.disconnect(Fiber.await(renewal)), periodOf(attempt))
    return Effect.zipRight(Effect.interruptible(landed), released)
  })

/**
 * Gives the lease back before the attempt ends, unless the store hangs: a caller whose time is over need not wait for
 * that. The lease is given back later then, or ends.
 */
const giveBack = <A, E, R>(running: Running<A, E, R>): Effect.Effect<void> =>
  // In fibers of their own, since that of the caller may be interrupted, and would wait for nothing.
  Effect.flatMap(Effect.forkDaemon(Effect.ignore(release(running))), (releasing) =>
    Effect.flatMap(
      Effect.forkDaemon(Effect.interruptible(Effect.timeoutOption(Fiber.await(releasing), givingBackMax))),
      (waiting) => Effect.asVoid(Fiber.await(waiting))
    )
  )

/** Longer than a store takes that works. */
const givingBackMax = Duration.seconds(1)

/** A lease is renewed three times in its time. */
const periodOf = ({ leaseMs }: Attempt): Duration.Duration => Duration.millis(leaseMs / 3)

/**
 * Renews the lease. Ends when another attempt has the command, or the command is done. Unless the attempt outlives its
 * lease, also when the lease could not be renewed by its end.
 */
const heartbeat = <A, E, R>(running: Running<A, E, R>, outlivesLease: boolean): Effect.Effect<void> =>
  Effect.clockWith((clock) => {
    const { leaseEndMs, leaseMs } = running.attempt
    const now = () => clock.unsafeCurrentTimeMillis()
    const period = periodOf(running.attempt)
    const periodMs = Duration.toMillis(period)
    const beat = (endMs: number, lastMs: number): Effect.Effect<void> => {
      const renew = Effect.suspend(() => {
        const sentMs = now()
        return Effect.matchEffect(renewed(running, period), {
          onFailure: () => (outlivesLease || now() < endMs ? beat(endMs, sentMs) : Effect.void),
          onSuccess: (renewed) => (renewed ? beat(sentMs + leaseMs, sentMs) : Effect.void)
        })
      })
      const atMs = outlivesLease ? lastMs + periodMs : Math.min(lastMs + periodMs, endMs)
      return Effect.delay(renew, Duration.millis(Math.min(periodMs, Math.max(0, atMs - now()))))
    }
    return beat(leaseEndMs, leaseEndMs - leaseMs)
  })

/** One renewal. One that hangs leaves time for another, and is not awaited: the lease may end before it does. */
const renewed = <A, E, R>(
  running: Running<A, E, R>,
  atMost: Duration.Duration
): Effect.Effect<boolean, StoreFailure | Cause.TimeoutException> => {
  const { attempt, command, encoded } = running
  const { leaseMs, token } = attempt
  const renewal = Effect.exit(Effect.interruptible(encoded.renew({ id: command.id, token, leaseMs })))
  return Effect.flatMap(Effect.forkDaemon(renewal), (fiber) => {
    running.renewal = fiber
    return Effect.flatten(Effect.onInterrupt(Fiber.join(fiber), () => Fiber.interruptFork(fiber))).pipe(
      Effect.timeout(atMost)
    )
  })
}

/** The transaction was certainly rolled back. */
const undone = ({ id }: EncodedNewCommand, cause: Cause.Cause<unknown>): StoreUnavailable =>
  new StoreUnavailable({ operation: `executing command ${id}`, retryable: true, cause: Cause.squash(cause) })
