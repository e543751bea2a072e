/**
 * How a worker works: looking for open commands, executing as many at a time as it may, and what becomes of those that
 * fail. One attempt is in `execution`.
 */
import * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as FiberSet from "effect/FiberSet"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import { CommandDecodeError, CommandStore } from "../CommandStore.js"
import type { RunError } from "../CommandWorker.js"
import { InvalidInput, isTransient, ReadOnly, type StoreFailure } from "../Errors.js"
import { timerMaxMs } from "../internal/durations.js"
import { Hints } from "../internal/Hints.js"
import * as Telemetry from "../internal/telemetry.js"
import type { EncodedOpenCommand } from "./CommandStoreEncoded.js"
import { close, type Workable, workableOf } from "./lift.js"
import type { Definition, HandlerDefinition } from "./worker.js"
import * as metrics from "./workerMetrics.js"

/** A worker at a store. */
interface Worker<R> {
  readonly definition: Definition<R>
  readonly store: Workable
  readonly metrics: metrics.Metrics
}

/** However often an attempt has failed: the fault may be mended meanwhile. */
const pauseMaxMs = 300_000

/** Between looks at a store that is unavailable. */
const unavailable = Schedule.union(Schedule.exponential("100 millis"), Schedule.spaced("5 seconds"))

export const run = <R>(definition: Definition<R>): Effect.Effect<never, RunError, R | CommandStore> =>
  Effect.zipRight(
    Effect.flatMap(at(definition), (worker) => Effect.scoped(working(worker, true))),
    Effect.never
  )

export const catchUp = <R>(definition: Definition<R>): Effect.Effect<number, RunError, R | CommandStore> =>
  Effect.flatMap(at(definition), (worker) => Effect.scoped(working(worker, false)))

const at = <R>(definition: Definition<R>): Effect.Effect<Worker<R>, ReadOnly | InvalidInput, CommandStore> =>
  Effect.flatMap(CommandStore, (service): Effect.Effect<Worker<R>, ReadOnly | InvalidInput> => {
    const store = workableOf(service)
    if (store === undefined) {
      const why = "was not made by CommandStoreEncoded.make, so a worker cannot look for its open commands"
      return Effect.fail(new InvalidInput({ what: "CommandStore", why }))
    }
    if (store.readOnly) return Effect.fail(new ReadOnly({ operation: `the worker ${definition.name}` }))
    return Effect.succeed({ definition, store, metrics: metrics.make(definition.name) })
  })

/**
 * 1. Looks for open commands, and begins with as many as it may. Some of those found may be ones that it is at and has
 *    not taken over yet: it may begin with so many fewer, so it need not ask for more.
 * 2. When it may begin with no more, waits until one has ended. Otherwise until the next is due, one is created
 *    here, or it is time to look for those of other processes.
 *
 * Unless it is to go on, it ends when none is due and none is at work. Returns how many have got an outcome.
 */
const working = <R>(worker: Worker<R>, goesOn: boolean): Effect.Effect<number, StoreFailure, R | Scope.Scope> =>
  Effect.gen(function* () {
    const { definition, metrics, store } = worker
    const { concurrency, filter, handlers, pollIntervalMs } = definition
    yield* Effect.addFinalizer(() => Effect.sync(() => metrics.overdue(0)))
    const hint = yield* store.hints.register
    const ends = new Hints()
    const ended = yield* ends.register
    // Closed first, so nothing is at work when the rest is.
    const fibers = yield* FiberSet.make<void>()
    const busy = new Set<string>()
    let done = 0

    const begin = (open: EncodedOpenCommand, handler: HandlerDefinition<R>) => {
      busy.add(open.id)
      metrics.running(1)
      const end = Effect.sync(() => {
        busy.delete(open.id)
        metrics.running(-1)
        ends.signal()
      })
      const attempt = Effect.map(workOn(worker, open, handler), (isDone) => {
        if (isDone) done++
      })
      // From its beginning on, or a fiber that is interrupted before would never end.
      return FiberSet.run(fibers, Effect.ensuring(Effect.interruptible(attempt), end))
    }

    const look = Effect.suspend(() => store.encoded.open({ filter, limit: concurrency })).pipe(
      Effect.tapError((error) => {
        if (!isTransient(error)) return Effect.void
        metrics.ended("unavailable")
        return Effect.logWarning(`worker ${definition.name} waits for the CommandStore`, Cause.fail(error))
      }),
      Effect.retry({ while: isTransient, schedule: unavailable })
    )

    for (;;) {
      const found = (yield* look).filter(({ id }) => !busy.has(id))
      const due = found.filter(({ dueInMs }) => dueInMs <= 0)
      metrics.overdue(Math.max(0, -(due[0]?.dueInMs ?? 0)))
      for (const open of due.slice(0, concurrency - busy.size)) {
        const handler = handlers.get(open.type)
        if (handler !== undefined) yield* Effect.uninterruptible(begin(open, handler))
      }
      if (busy.size >= concurrency) yield* ended
      else if (goesOn) {
        const waitMs = found.reduce(
          (least, { dueInMs }) => (dueInMs > 0 ? Math.min(least, dueInMs) : least),
          Math.min(pollIntervalMs, timerMaxMs)
        )
        yield* Effect.timeoutOption(hint, Duration.millis(waitMs))
      } else if (busy.size > 0) yield* ended
      else return done
    }
  })

/** Whether the command has got an outcome. Whatever happens to it is the command's, and ends nothing else. */
const workOn = <R>(
  worker: Worker<R>,
  open: EncodedOpenCommand,
  handler: HandlerDefinition<R>
): Effect.Effect<boolean, never, R> =>
  Effect.suspend(() => {
    const { definition, metrics, store } = worker
    if (open.isLeftBehind && open.attempts >= definition.attempts) {
      return giveUp(worker, open, open.attempts, "the last one did not end")
    }
    const attempt = Telemetry.composed("CommandWorker.execute", (span) => {
      Telemetry.describe(span, { type: open.type, attempt: open.attempts + 1 })
      return handler.work(store.resume, open, ({ domain }) => Telemetry.describe(span, { domain }))
    })
    return Effect.flatMap(Effect.exit(attempt), (exit) => {
      if (Exit.isFailure(exit)) return failed(worker, open, exit.cause)
      if (exit.value === "gone") return Effect.succeed(false)
      metrics.ended(exit.value)
      return Effect.succeed(true)
    })
  })

/** A store that is unavailable is waited for. Otherwise the command is tried again later, or given up. */
const failed = <R>(
  worker: Worker<R>,
  open: EncodedOpenCommand,
  cause: Cause.Cause<unknown>
): Effect.Effect<boolean> => {
  const { definition, metrics } = worker
  const attempt = open.attempts + 1
  const told = Effect.logWarning(
    `attempt ${attempt} at command ${open.id} of type ${open.type} failed`,
    Cause.map(cause, loggable)
  )
  if (attempt >= definition.attempts && !isTransient(Cause.squash(cause))) {
    return Effect.zipRight(told, giveUp(worker, open, attempt, tagOf(Cause.squash(cause))))
  }
  metrics.ended("retried")
  return Effect.zipRight(told, atRest(definition, postpone(worker, open, attempt)))
}

/** After its attempt of this number. */
const postpone = <R>({ definition, store }: Worker<R>, { id, position }: EncodedOpenCommand, attempt: number) => {
  const dueInMs = Math.min(pauseMaxMs, definition.pauseMs * 2 ** (attempt - 1))
  const postponed = Effect.suspend(() => store.encoded.postpone({ id, position, dueInMs }))
  return Effect.tap(postponed, () => Effect.sync(() => store.hints.signal()))
}

const giveUp = <R>(worker: Worker<R>, open: EncodedOpenCommand, attempts: number, why: string) => {
  const { definition, metrics, store } = worker
  const told = `given up after ${attempts} ${attempts === 1 ? "attempt" : "attempts"}: ${why}`
  const closing = Effect.flatMap(
    Effect.suspend(() => close(store.encoded, open, told)),
    (isClosed) => {
      if (!isClosed) return Effect.void
      metrics.ended("given_up")
      return Effect.logError(`command ${open.id} of type ${open.type} was ${told}`)
    }
  )
  // It stays open, and each look would begin it again.
  const putOff = (cause: Cause.Cause<StoreFailure>) =>
    Effect.zipRight(
      Effect.logWarning(`command ${open.id} of type ${open.type} could not be given up`, cause),
      postpone(worker, open, attempts)
    )
  return atRest(definition, Effect.catchAllCause(Effect.asVoid(closing), putOff))
}

/** If that fails the command is open, and would be found again at once. */
const atRest = <R>({ name, pauseMs }: Definition<R>, self: Effect.Effect<unknown, StoreFailure>) =>
  Effect.as(
    Effect.catchAllCause(self, (cause) =>
      Effect.zipRight(Effect.logWarning(`worker ${name} could not put a command off`, cause), Effect.sleep(pauseMs))
    ),
    false
  )

/** Why data does not fit a Schema quotes it, and it may be sealed where it is stored. */
const loggable = (error: unknown): unknown =>
  error instanceof CommandDecodeError ? `command ${error.id} of type ${error.type} does not fit the schema` : error

/** The tag of an error, or its name: its message may show what is sealed elsewhere. */
const tagOf = (error: unknown): string => {
  if (typeof error !== "object" || error === null) return typeof error
  if ("_tag" in error && typeof error._tag === "string") return error._tag
  return error instanceof Error ? error.name : "an object"
}
