/**
 * How a command is executed once: claiming it, keeping its lease while the effect runs, storing what came of it, and
 * waiting for whoever was faster. The guarantees are stated at `CommandStore.execute`.
 */
import * as Cause from "effect/Cause"
import type * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as FiberId from "effect/FiberId"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import {
  CommandDecodeError,
  CurrentCommand,
  DuplicateCommand,
  type ExecuteError,
  type ExecuteOptions,
  type Status
} from "../CommandStore.js"
import {
  CommitOutcomeUnknown,
  InvalidInput,
  isRepeatable,
  StoreError,
  type StoreFailure,
  StoreUnavailable
} from "../Errors.js"
import { exactly } from "../internal/exactEncoding.js"
import { checked } from "../internal/validate.js"
import { streamKey } from "../StreamId.js"
import * as Uuid from "../Uuid.js"
import type { Encoded, EncodedCommand, EncodedNewCommand } from "./CommandStoreEncoded.js"
import { type Execution, outcome as outcomeText } from "./input.js"

/** Another attempt has the command, or it is done, so nothing of this one counts. */
class LeaseLost {
  readonly _tag = "LeaseLost"
}

interface Attempt {
  readonly _tag: "Attempt"
  readonly attempt: number
  /** By the clock of this process, which has begun to count before the backend has. */
  readonly leaseEndMs: number
}

type Claim =
  | Attempt
  | { readonly _tag: "Done"; readonly command: EncodedCommand }
  | { readonly _tag: "Leased"; readonly leftMs: number }

interface Outcome {
  readonly status: Exclude<Status, "received">
  readonly outcome: string | null
}

/** How long to look away from a command that another process executes. */
const pollMinMs = 10
const pollMaxMs = 500

/** The outcome is known and only has to be written: worth trying for as long as the lease is held. */
const finishing = Schedule.jittered(Schedule.union(Schedule.exponential("50 millis"), Schedule.spaced("1 second")))

/** In a transaction nobody says that the lease is lost. */
const triesMax = 5

type Execute = <A, IA, E, R, F, IF>(
  command: EncodedNewCommand,
  execution: Execution<A, IA, E, R, F, IF>
) => Effect.Effect<A, E | F | ExecuteError, Exclude<R, CurrentCommand>>

export const make = (encoded: Encoded): Execute => {
  // What this process executes, so that its own fibers need not poll.
  const running = new Map<string, Deferred.Deferred<void>>()

  const claim = (command: EncodedNewCommand, leaseMs: number): Effect.Effect<Claim, DuplicateCommand | StoreFailure> =>
    Effect.clockWith((clock) => {
      const leaseEndMs = clock.unsafeCurrentTimeMillis() + leaseMs
      return Effect.flatMap(encoded.create(command, leaseMs), (created) => {
        if (created._tag === "Created") return Effect.succeed<Claim>({ _tag: "Attempt", attempt: 1, leaseEndMs })
        const stored = created.command
        const clash = clashOf(command, stored)
        if (clash !== undefined) return Effect.fail(clash)
        if (stored.status !== "received") return Effect.succeed<Claim>({ _tag: "Done", command: stored })
        if (created.leaseLeftMs > 0) return Effect.succeed<Claim>({ _tag: "Leased", leftMs: created.leaseLeftMs })
        const { attempts, id } = stored
        return Effect.flatMap(encoded.takeOver({ id, attempts, leaseMs }), (taken) =>
          taken
            ? Effect.succeed<Claim>({ _tag: "Attempt", attempt: attempts + 1, leaseEndMs })
            : claim(command, leaseMs)
        )
      })
    })

  /** Until the command is done, or its lease may have ended. */
  const wait = (id: string, leftMs: number, delayMs = pollMinMs): Effect.Effect<void, StoreFailure> =>
    Effect.suspend(() => {
      const local = running.get(id)
      const pauseMs = Math.min(local === undefined ? delayMs : pollMaxMs, leftMs)
      const pause = Effect.sleep(Duration.millis(pauseMs))
      const waited = local === undefined ? pause : Effect.raceFirst(Deferred.await(local), pause)
      return Effect.zipRight(
        waited,
        Effect.flatMap(
          Effect.suspend(() => encoded.get(id)),
          (command) =>
            command === null || command.status !== "received" || leftMs <= pauseMs || local !== running.get(id)
              ? Effect.void
              : wait(id, leftMs - pauseMs, Math.min(delayMs * 2, pollMaxMs))
        )
      )
    })

  /**
   * Ends when another attempt has the command, or the command is done. With a deadline also when the lease could not be
   * renewed by its end; without one the transaction in which the outcome is stored will find out.
   */
  const heartbeat = (
    id: string,
    attempt: number,
    { leaseMs, transaction }: { readonly leaseMs: number; readonly transaction: boolean },
    leaseEndMs: number
  ): Effect.Effect<void> =>
    Effect.clockWith((clock) => {
      const now = () => clock.unsafeCurrentTimeMillis()
      const periodMs = leaseMs / 3
      const beat = (endMs: number, lastMs: number): Effect.Effect<void> => {
        const renew = Effect.suspend(() => {
          const sentMs = now()
          return encoded.renew({ id, attempt, leaseMs }).pipe(
            // One that hangs leaves time for another, and its end is not waited for: the lease may end before.
            Effect.interruptible,
            Effect.disconnect,
            Effect.timeout(Duration.millis(periodMs)),
            Effect.matchEffect({
              onFailure: () => (transaction || now() < endMs ? beat(endMs, sentMs) : Effect.void),
              onSuccess: (renewed) => (renewed ? beat(sentMs + leaseMs, sentMs) : Effect.void)
            })
          )
        })
        const atMs = transaction ? lastMs + periodMs : Math.min(lastMs + periodMs, endMs)
        return Effect.delay(renew, Duration.millis(Math.min(periodMs, Math.max(0, atMs - now()))))
      }
      return beat(leaseEndMs, leaseEndMs - leaseMs)
    })

  const finish = (id: string, attempt: number, outcome: Outcome): Effect.Effect<void, LeaseLost | StoreFailure> =>
    Effect.flatMap(
      Effect.clockWith((clock) =>
        encoded.finish({ id, attempt, ...outcome, outcomeKeyId: null, finishedAt: clock.unsafeCurrentTimeMillis() })
      ),
      (finished) => (finished ? Effect.void : Effect.fail(new LeaseLost()))
    )

  /**
   * Runs in the uninterruptible region of the claim, so that nothing comes between a claim and its end; `restore` is for
   * the effect.
   *
   * 1. Runs the effect in a fiber of its own, beside the heartbeat, which interrupts it when the lease is lost. Goes on
   *    only when it has ended, whatever ended it.
   * 2. Stores the outcome, while the lease is still renewed.
   * 3. Stops the renewal. If no outcome was stored, gives the lease back.
   */
  const attemptOnce = <A, IA, E, R, F, IF>(
    command: EncodedNewCommand,
    { attempt, leaseEndMs }: Attempt,
    { effect, failure, leaseMs, success, transaction }: Execution<A, IA, E, R, F, IF>,
    restore: <B, E2, R2>(self: Effect.Effect<B, E2, R2>) => Effect.Effect<B, E2, R2>
  ): Effect.Effect<A, E | F | LeaseLost | InvalidInput | StoreFailure, Exclude<R, CurrentCommand>> => {
    const { id } = command
    const landed = Deferred.unsafeMake<void>(FiberId.none)
    let isLost = false
    let isSettled = false
    // What a transaction itself fails with is no failure of the effect, and no outcome.
    let hasFailed = false

    const body = Effect.tapErrorCause(Effect.provideService(effect, CurrentCommand, currentCommand(id, attempt)), () =>
      Effect.sync(() => {
        hasFailed = true
      })
    )
    const succeed = (value: A) =>
      Effect.flatMap(encodeOutcome(success, value), (outcome) => finish(id, attempt, { status: "succeeded", outcome }))
    const fail = (schema: Schema.Schema<F, IF>, error: F) =>
      Effect.flatMap(encodeOutcome(schema, error), (outcome) => finish(id, attempt, { status: "failed", outcome }))
    // The heartbeat stays outside of the transaction, which others must not wait for to see the lease.
    const whole = transaction ? encoded.transaction(Effect.tap(body, succeed)) : body

    // What was done stays done, so its outcome is worth some tries.
    const persistently = <B, E2, R2>(self: Effect.Effect<B, E2, R2>) =>
      Effect.retry(self, {
        schedule: transaction ? Schedule.intersect(finishing, Schedule.recurs(triesMax)) : finishing,
        // Each write names the attempt, so its repeat is recognised.
        while: (error) => isRepeatable(error) && !isLost
      })
    const settled = <B, E2, R2>(self: Effect.Effect<B, E2, R2>) =>
      Effect.tap(self, () => {
        isSettled = true
      })
    /** False when there is no lease to give back, because the command is done or another's. */
    const release = Effect.suspend(() => encoded.renew({ id, attempt, leaseMs: 0 }))

    const settle = (
      exit: Exit.Exit<A, E | F | LeaseLost | InvalidInput | StoreFailure>,
      stop: Effect.Effect<unknown>
    ): Effect.Effect<A, E | F | LeaseLost | InvalidInput | StoreFailure> => {
      if (Exit.isSuccess(exit)) {
        return settled(Effect.as(transaction ? Effect.void : persistently(succeed(exit.value)), exit.value))
      }
      const { cause } = exit
      if (isLost && Cause.isInterruptedOnly(cause)) return Effect.fail(new LeaseLost())
      const error = Cause.failureOption(cause)
      if (Option.isNone(error)) return Effect.failCause(cause)
      // With a defect beside it, which nobody would hear of, a failure is no outcome.
      if (failure !== undefined && hasFailed && !Cause.isDie(cause) && Schema.is(failure)(error.value)) {
        return Effect.zipRight(settled(persistently(fail(failure, error.value))), Effect.fail(error.value))
      }
      if (transaction && !hasFailed && error.value instanceof CommitOutcomeUnknown) {
        // To give the lease back waits for a COMMIT under way, and tells what has become of it.
        return Effect.matchEffect(Effect.zipRight(stop, persistently(release)), {
          onFailure: () => Effect.failCause(cause),
          onSuccess: (released) => Effect.fail(released ? undone(command, cause) : new LeaseLost())
        })
      }
      return Effect.failCause(cause)
    }

    return Effect.gen(function* () {
      running.set(id, landed)
      // As an exit: what fails in a fiber is logged as unhandled.
      const fiber = yield* Effect.fork(Effect.exit(restore(whole)))
      const beats = yield* heartbeat(id, attempt, { leaseMs, transaction }, leaseEndMs).pipe(
        Effect.zipRight(
          Effect.suspend(() => {
            isLost = true
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
        settle(exit, stop),
        Effect.zipRight(
          stop,
          Effect.suspend(() => (isSettled ? Effect.void : Effect.ignore(release)))
        )
      )
    }).pipe(
      Effect.ensuring(
        Effect.suspend(() => {
          if (running.get(id) === landed) running.delete(id)
          return Deferred.succeed(landed, undefined)
        })
      )
    )
  }

  const execute: Execute = <A, IA, E, R, F, IF>(
    command: EncodedNewCommand,
    execution: Execution<A, IA, E, R, F, IF>
  ) => {
    type Next = Effect.Effect<A, E | F | ExecuteError, Exclude<R, CurrentCommand>>
    const again: Next = Effect.suspend(() => execute(command, execution))
    // Whether a claim was made cannot be told from outside, so it must not be interrupted: a lease would be left.
    return Effect.flatten(
      Effect.uninterruptibleMask((restore) =>
        Effect.flatMap(claim(command, execution.leaseMs), (claimed) => {
          switch (claimed._tag) {
            case "Done":
              return Effect.succeed<Next>(answer(claimed.command, execution))
            case "Leased":
              return Effect.succeed<Next>(Effect.zipRight(wait(command.id, claimed.leftMs), again))
            case "Attempt":
              return Effect.catchIf(
                Effect.map(attemptOnce(command, claimed, execution, restore), (value): Next => Effect.succeed(value)),
                (error) => error instanceof LeaseLost,
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

/** The transaction was rolled back for certain. */
const undone = ({ id }: EncodedNewCommand, cause: Cause.Cause<unknown>): StoreUnavailable =>
  new StoreUnavailable({ operation: `executing command ${id}`, retryable: true, cause: Cause.squash(cause) })

type EventIds = (index: number) => string

const currentCommand = (id: string, attempt: number): Context.Tag.Service<typeof CurrentCommand> => {
  const steps = new Map<string, ReadonlyArray<EventIds>>()
  return {
    id,
    attempt,
    nextEventIds: (stream) => {
      const { aggregateId, domain, tenantId } = stream
      const given = steps.get(streamKey(stream)) ?? []
      const ids: EventIds = (index) => Uuid.derived(id, [tenantId, domain, aggregateId, given.length, index])
      steps.set(streamKey(stream), [...given, ids])
      return ids
    },
    returnEventIds: (stream, ids) => {
      const given = steps.get(streamKey(stream)) ?? []
      if (given[given.length - 1] === ids) steps.set(streamKey(stream), given.slice(0, -1))
    }
  }
}

const encodeOutcome = <A, I>(schema: Schema.Schema<A, I>, value: A): Effect.Effect<string | null, InvalidInput> =>
  Effect.flatMap(
    Effect.mapError(
      Effect.suspend(() => exactly(Schema.encodeEither(schema))(value)),
      (cause) => new InvalidInput({ what: "outcome", why: `does not fit the schema: ${cause.message}` })
    ),
    (encoded) => checked(() => outcomeText(encoded, "outcome"), Effect.succeed)
  )

/** What a repeat gets: the stored outcome, as if the effect had just ended with it. */
const answer = <A, IA, F, IF>(
  command: EncodedCommand,
  { failure, success }: Pick<ExecuteOptions<A, IA, F, IF>, "failure" | "success">
): Effect.Effect<A, F | CommandDecodeError | StoreError> => {
  const { id, outcome, outcomeKeyId, status, type } = command
  const unfit = (cause: unknown) => new CommandDecodeError({ id, type, part: "outcome", cause })
  if (outcomeKeyId !== null) {
    const cause = new Error(`it is sealed with key ${outcomeKeyId}, and the store was opened without keys`)
    return Effect.fail(new StoreError({ operation: `decoding command ${id}`, cause }))
  }
  const decode = <B, I>(schema: Schema.Schema<B, I>): Effect.Effect<B, CommandDecodeError> =>
    Effect.mapError(
      Effect.try({
        try: () => (outcome === null ? undefined : JSON.parse(outcome)) as unknown,
        catch: (cause) => cause
      }).pipe(
        Effect.flatMap((value) =>
          // As strict as the encoding first, or another member of a union might take it.
          Effect.orElse(Schema.decodeUnknownEither(schema, { onExcessProperty: "error" })(value), () =>
            Schema.decodeUnknownEither(schema)(value)
          )
        )
      ),
      unfit
    )
  if (status === "succeeded") return decode(success)
  return failure === undefined
    ? Effect.fail(unfit(new Error("it is a failure, and no Schema of failures was given")))
    : Effect.flatMap(decode(failure), Effect.fail)
}

/** In what a repeat differs from the command that has its id. */
export const clashOf = (command: EncodedNewCommand, stored: EncodedCommand): DuplicateCommand | undefined => {
  const field = (["tenantId", "domain", "type", "data", "metadata"] as const).find(
    (field) => stored[field] !== command[field]
  )
  return field === undefined ? undefined : new DuplicateCommand({ id: command.id, why: `with other ${field}` })
}
