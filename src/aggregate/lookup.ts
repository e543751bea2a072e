/**
 * How a load asks for its snapshot, so that a SnapshotStore that hangs or is down costs next to nothing. All loads with
 * one service share its `Pace`. As long as it answers in time, a load waits for it. Otherwise loads go on without it,
 * and one lookup at a time, in the background, tries whether it is back.
 */
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import type * as Option from "effect/Option"
import * as Runtime from "effect/Runtime"
import { isRetryable } from "../Errors.js"
import { timerMaxMs } from "../internal/durations.js"
import { outside } from "../internal/fibers.js"
import { partsOf } from "../internal/lifted.js"
import type { ReadError, Snapshot, SnapshotStoreShape } from "../SnapshotStore.js"
import type { StreamId } from "../StreamId.js"

type Latest = Exit.Exit<Option.Option<Snapshot>, ReadError>

export type Answer =
  | { readonly _tag: "Answered"; readonly exit: Latest }
  /** `why` is undefined when it has been said. */
  | { readonly _tag: "Unavailable"; readonly why: string | undefined }

/** How long a load waits unless its definition says otherwise: many times longer than a lookup takes. */
export const timeoutDefaultMs = 100

/** From one try to the next. */
const pauseMs = 1_000

/** What comes within so many times the time that a load waits is slow; what does not, is not waited for at all. */
const slowness = 10

/** How a store has answered lately. */
class Pace {
  /** How long the last answer took, 0 if it came in time; infinite if none came. */
  lastMs = 0
  private trying = false
  private triesFromMs = 0

  /** What an answer says of the store; an error of another kind than being unavailable says nothing. */
  hear(exit: Latest, tookMs: number): Answer {
    if (!isUnavailable(exit)) {
      this.lastMs = tookMs
      return { _tag: "Answered", exit }
    }
    const failure = Cause.failureOption(exit.cause)
    return this.miss(failure._tag === "Some" ? `could not be read: ${failure.value.message}` : "did not come")
  }

  /** Said once, by the load or the try that meets it first. */
  miss(why: string): Answer {
    const isNews = this.lastMs !== Number.POSITIVE_INFINITY
    this.lastMs = Number.POSITIVE_INFINITY
    this.triesFromMs = performance.now() + pauseMs
    return { _tag: "Unavailable", why: isNews ? why : undefined }
  }

  /** Begins a lookup that nobody waits for, if it is time for one. */
  try(runtime: Runtime.Runtime<never>, lookup: Lookup, patienceMs: number): void {
    if (this.trying || performance.now() < this.triesFromMs) return
    // Outside any transaction of the load, which may end before.
    const apart = outside(Effect.interruptible(lookup), Context.empty())
    this.watch(runtime, Runtime.runFork(runtime, apart), performance.now(), patienceMs)
  }

  /** Waits for a lookup that is under way, unless another is waited for. */
  watch(runtime: Runtime.Runtime<never>, asked: Asked, startMs: number, patienceMs: number): void {
    const giveUp = () => void Runtime.runFork(runtime, Fiber.interrupt(asked))
    if (this.trying) return giveUp()
    this.trying = true
    const timer = setTimeout(giveUp, Math.min(patienceMs, timerMaxMs)).unref()
    asked.addObserver((exit) => {
      clearTimeout(timer)
      this.trying = false
      const wasAway = this.lastMs === Number.POSITIVE_INFINITY
      const tookMs = performance.now() - startMs
      const answer = this.hear(exit, tookMs)
      this.triesFromMs = performance.now() + pauseMs
      if (answer._tag === "Unavailable") {
        if (answer.why !== undefined) Runtime.runFork(runtime, Effect.logWarning(`a snapshot ${answer.why}`))
      } else if (wasAway && Exit.isSuccess(exit))
        Runtime.runFork(runtime, Effect.logInfo(`the SnapshotStore answers again, after ${Math.ceil(tookMs)} ms`))
    })
  }
}

type Lookup = Effect.Effect<Option.Option<Snapshot>, ReadError>
type Asked = Fiber.RuntimeFiber<Option.Option<Snapshot>, ReadError>

const isUnavailable = (exit: Latest): exit is Exit.Failure<never, ReadError> => {
  if (Exit.isSuccess(exit)) return false
  const failure = Cause.failureOption(exit.cause)
  return failure._tag === "Some" ? isRetryable(failure.value) : Cause.isInterruptedOnly(exit.cause)
}

const paces = new WeakMap<SnapshotStoreShape, Pace>()

const paceOf = (store: SnapshotStoreShape): Pace => {
  const known = paces.get(store)
  if (known !== undefined) return known
  const pace = new Pace()
  paces.set(store, pace)
  return pace
}

const skipped: Answer = { _tag: "Unavailable", why: undefined }

/**
 * The stream's snapshot.
 *
 * 1. From a store that answers: waits for it, at most `timeoutMs`. A lookup that takes longer goes on as the next try.
 * 2. From a store that is down: returns at once, and begins a try if the last one was a second ago.
 * 3. From one that answers, but slowly: the same, unless `isLong` says that reading the events takes even longer.
 *
 * In a transaction of the store's database it is an ordinary statement: waited for, since to interrupt it would fail
 * the transaction.
 */
export const latest = <E>(
  store: SnapshotStoreShape,
  stream: StreamId,
  request: {
    readonly atMost: number | undefined
    readonly timeoutMs: number
    readonly isLong: Effect.Effect<boolean, E>
  }
): Effect.Effect<Answer, E> =>
  Effect.flatMap(Effect.runtime<never>(), (runtime): Effect.Effect<Answer, E> => {
    const { atMost, isLong, timeoutMs } = request
    const lookup = Effect.suspend(() => store.latest(stream, { atMost }))
    const pace = paceOf(store)
    const patienceMs = timeoutMs * slowness
    const isDown = () => pace.lastMs === Number.POSITIVE_INFINITY
    if (pace.lastMs > timeoutMs) pace.try(runtime, lookup, patienceMs)
    if (isDown()) return Effect.succeed(skipped)
    if (partsOf(store)?.options.inTransaction?.(runtime) === true)
      // How it ends is of the transaction, and says nothing of the store.
      return Effect.map(Effect.exit(lookup), (exit) => ({ _tag: "Answered", exit }))
    if (pace.lastMs <= timeoutMs) return ask(pace, runtime, lookup, timeoutMs, patienceMs)
    return Effect.flatMap(isLong, (isLong) =>
      isLong && !isDown() ? ask(pace, runtime, lookup, patienceMs, patienceMs) : Effect.succeed(skipped)
    )
  })

const ask = (
  pace: Pace,
  runtime: Runtime.Runtime<never>,
  lookup: Lookup,
  waitMs: number,
  patienceMs: number
): Effect.Effect<Answer> =>
  Effect.async((resume) => {
    const startMs = performance.now()
    const asked = Runtime.runFork(runtime, Effect.interruptible(lookup))
    // In memory and on SQLite it has been answered by now.
    const answered = asked.unsafePoll()
    if (answered !== null) return resume(Effect.succeed(pace.hear(answered, 0)))
    let isWaiting = true
    let timer: NodeJS.Timeout | undefined
    asked.addObserver((exit) => {
      if (!isWaiting) return
      isWaiting = false
      clearTimeout(timer)
      // In time is in time, whatever kept the event loop busy.
      resume(Effect.succeed(pace.hear(exit, waitMs < patienceMs ? 0 : performance.now() - startMs)))
    })
    const late = () => {
      if (!isWaiting) return
      isWaiting = false
      resume(
        Effect.succeed(pace.miss(`did not come within ${waitMs} ms, and until its store answers loads do without`))
      )
      pace.watch(runtime, asked, startMs, patienceMs - waitMs)
    }
    // Where the event loop was kept busy for so long, the answer may have come in the meantime: it is read first.
    if (waitMs <= timerMaxMs) timer = setTimeout(() => setImmediate(late), waitMs)
    return Effect.suspend(() => {
      isWaiting = false
      clearTimeout(timer)
      return Fiber.interrupt(asked)
    })
  })
