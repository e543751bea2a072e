/**
 * The work on one partition while its lease is held: reading the feed, handling batches, advancing the checkpoint.
 * Retries are here, and what is done when a store is unavailable. How a lease is kept is in `holding`.
 */
import type * as Arr from "effect/Array"
import * as Cause from "effect/Cause"
import type * as Chunk from "effect/Chunk"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import type * as FiberRefs from "effect/FiberRefs"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import { CheckpointLost, type CheckpointStoreShape, type Lease, type NewDeadLetter } from "../CheckpointStore.js"
import { isTransient, type StoreFailure } from "../Errors.js"
import type { Event, EventStoreShape } from "../EventStore.js"
import { isIdentifier } from "../internal/validate.js"
import type { RunError } from "../Projection.js"
import { streamKey } from "../StreamId.js"
import { type Definition, HandlerFailed } from "./definition.js"
import { logged, ProjectionStopped } from "./errors.js"
import { checkpointsOf } from "./looking.js"
import type { Metrics } from "./metrics.js"
import { partitionOf } from "./partitions.js"

/** A projection that is run. */
export interface Follower<R> {
  readonly definition: Definition<R>
  readonly owner: string
  readonly checkpoints: CheckpointStoreShape
  readonly events: EventStoreShape
  readonly metrics: Metrics
}

/** A partition that this process holds. */
export interface Held {
  /** As of the last claim or commit. */
  lease: Lease
  /** Until then nobody else has it, by the clock of this process, which began before the backend's. */
  untilMs: number
  /** It is being claimed anew, and the lease that is known here may be of no use already. */
  isResuming: boolean
  /** The transaction that is open, at whose end the checkpoint advances. */
  inside?: Inside | undefined
}

/** What a fiber needs to be in a transaction, and whether the lease was renewed there. */
interface Inside {
  readonly refs: FiberRefs.FiberRefs
  isRenewed: boolean
}

/** Between commits that only pass by events of others. */
const passingMs = 100

const unavailableFirstMs = 100
const unavailableMaxMs = 5_000

/** A store could not do it, or it is unknown whether it did: go on from what is committed. */
class Unavailable {
  readonly _tag = "Unavailable"
  constructor(readonly cause: unknown) {}
}

/** A batch could not be done for a reason that lies in it. */
class Failed {
  readonly _tag = "Failed"
  constructor(readonly cause: unknown) {}
}

/** Runs what handles events and commits: with `exactlyOnce` in one transaction, in which the lease can be renewed. */
export const together = <A, E, R>(
  { checkpoints, definition }: Follower<R>,
  held: Held,
  handled: Effect.Effect<A, E, R>
): Effect.Effect<A, E | StoreFailure, R> =>
  definition.delivery === "atLeastOnce"
    ? handled
    : checkpoints.transaction(
        Effect.flatMap(Effect.getFiberRefs, (refs) => {
          held.inside = { refs, isRenewed: false }
          return Effect.ensuring(
            handled,
            Effect.sync(() => {
              held.inside = undefined
            })
          )
        })
      )

const ofStores = <E>(error: E): E | Unavailable =>
  !(error instanceof Unavailable) && isTransient(error) ? new Unavailable(error) : error

const ofBatch = (error: unknown): CheckpointLost | Unavailable | Failed => {
  if (error instanceof CheckpointLost) return error
  const cause = error instanceof HandlerFailed ? Cause.squash(error.cause) : error
  return isTransient(cause) ? new Unavailable(cause) : new Failed(cause)
}

const deadLetterOf = (event: Event, cause: unknown, scope: "event" | "stream"): NewDeadLetter => {
  const { aggregateId, domain, id, position, tenantId, type } = event
  return { tenantId, domain, aggregateId, eventId: id, position, type, reason: reasonOf(cause), scope }
}

/** The tag of an error, or its name: a message may show what is sealed elsewhere. */
const reasonOf = (cause: unknown): string => {
  const tag = typeof cause === "object" && cause !== null && "_tag" in cause ? cause._tag : undefined
  const reason = tag ?? (cause instanceof Error ? cause.name : typeof cause)
  return isIdentifier(reason) ? reason : "unknown"
}

/**
 * Works until the partition is lost, and then returns false; with `until`, also until it has come to that position, and
 * then returns true. `wakeUp` waits until something may have been appended.
 *
 * A store that is unavailable is waited for. Then the checkpoint is claimed anew, from this process itself: nobody gets
 * it before a commit whose result was lost has ended, so its position is the last that counts.
 */
export const work = <R>(
  follower: Follower<R>,
  held: Held,
  wakeUp: Effect.Effect<void>,
  until = Number.POSITIVE_INFINITY
): Effect.Effect<boolean, RunError, R> => {
  const { checkpoints, definition, events, metrics, owner } = follower
  const { batchSize, filter, generation, lease, name, onFailure, partitions, retry } = definition
  const { partition } = held.lease
  /** How far was read. Between what is committed and this there is nothing of this partition. */
  let seen = held.lease.position
  let committedMs = 0
  let knownHead = 0
  /** Streams that are passed by. Only who holds the partition changes that. */
  const parked = new Set<string>()

  const moved = (fromMs: number) => (next: Lease) => {
    held.lease = next
    held.untilMs = fromMs + Duration.toMillis(lease)
    committedMs = fromMs
    metrics.lag(partition, Math.max(0, knownHead - next.position))
  }

  const attempted = (batch: Arr.NonEmptyReadonlyArray<Event>, position: number) => {
    const handled = Effect.zipRight(
      definition.apply(batch, { name, generation, partition }),
      Effect.suspend(() => checkpoints.commit(held.lease, position))
    )
    const attempt = Effect.flatMap(Clock.currentTimeMillis, (fromMs) =>
      Effect.map(together(follower, held, handled), moved(fromMs))
    )
    return attempt.pipe(
      Effect.mapError(ofBatch),
      Effect.tapErrorTag("Failed", ({ cause }) => {
        metrics.failed("failed")
        return Effect.logWarning(`projection ${name} failed after position ${held.lease.position}`, logged(cause))
      }),
      Effect.retry({ schedule: retry, while: ({ _tag }) => _tag === "Failed" }),
      Effect.tap(() => metrics.batch(batch.length))
    )
  }

  const stop = ({ cause }: Failed) => {
    metrics.failed("stopped")
    const error = new ProjectionStopped({
      projection: name,
      generation,
      partition,
      position: held.lease.position,
      cause
    })
    // Whoever has forked the run may not look at what has become of it.
    return Effect.zipRight(Effect.logError(error.message), Effect.fail(error))
  }

  const passOver = (event: Event, position: number, policy: "skip" | "park", { cause }: Failed) =>
    Effect.gen(function* () {
      metrics.failed(policy)
      yield* Effect.logWarning(`projection ${name} passes by event ${event.id}`, logged(cause))
      const fromMs = yield* Clock.currentTimeMillis
      const letter = deadLetterOf(event, cause, policy === "park" ? "stream" : "event")
      moved(fromMs)(yield* checkpoints.commit(held.lease, position, { deadLetters: [letter] }))
      if (policy === "park") parked.add(streamKey(event))
    }).pipe(Effect.mapError(ofBatch), Effect.catchTag("Failed", stop))

  const handle = (
    [first, ...others]: Arr.NonEmptyReadonlyArray<Event>,
    position: number
  ): Effect.Effect<void, CheckpointLost | Unavailable | ProjectionStopped, R> =>
    Effect.catchTag(attempted([first, ...others], position), "Failed", (failed) => {
      if (onFailure === "stop") return stop(failed)
      return others.length === 0
        ? passOver(first, position, onFailure, failed)
        : handleEach([first, ...others], position)
    })

  const handleEach = (events: ReadonlyArray<Event>, position: number) =>
    Effect.forEach(
      events,
      (event, i) =>
        parked.has(streamKey(event))
          ? Effect.void
          : handle([event], i === events.length - 1 ? position : event.position),
      { discard: true }
    )

  /** What is not handled here is passed by with the batch before it. */
  const handleAll = (chunk: Chunk.Chunk<Event>) =>
    Effect.gen(function* () {
      const read = [...chunk]
      const last = read[read.length - 1]
      if (last === undefined) return
      const own = partitions === 1 ? read : read.filter((event) => partitionOf(event, partitions) === partition)
      for (let i = 0; i < own.length; i += batchSize) {
        const part = own.slice(i, i + batchSize)
        const { position } = i + batchSize >= own.length ? last : (part[part.length - 1] ?? last)
        const [first, ...others] = parked.size === 0 ? part : part.filter((event) => !parked.has(streamKey(event)))
        if (first !== undefined) yield* handle([first, ...others], position)
      }
      seen = last.position
    })

  const findParked = Stream.runForEach(checkpoints.deadLetters({ name, generation }), (letter) =>
    Effect.sync(() => {
      if (letter.partition === partition && letter.scope === "stream") parked.add(streamKey(letter))
    })
  )

  const pass = Effect.gen(function* () {
    const head = yield* events.head
    knownHead = head
    metrics.lag(partition, Math.max(0, head - held.lease.position))
    // Also when it is behind: the feed refuses a position that the store has never had.
    if (head !== seen) {
      yield* Stream.runForEachChunk(events.feed({ after: seen, filter }), handleAll)
      seen = Math.max(seen, head)
    }
  })

  const passBy = Effect.flatMap(Clock.currentTimeMillis, (fromMs) =>
    Effect.map(
      Effect.suspend(() => checkpoints.commit(held.lease, seen)),
      moved(fromMs)
    )
  )

  /** Waits at the head. What was passed by is committed when it is due, or when nothing else comes. */
  const rest = Effect.gen(function* () {
    if (seen === held.lease.position) return yield* wakeUp
    const leftMs = committedMs + passingMs - (yield* Clock.currentTimeMillis)
    const isDue = leftMs <= 0 || Option.isNone(yield* Effect.timeoutOption(wakeUp, leftMs))
    if (isDue) yield* passBy
  })

  const session = Effect.gen(function* () {
    parked.clear()
    yield* findParked
    while (seen < until) {
      yield* pass
      if (seen < until) yield* rest
    }
    if (held.lease.position < until) yield* passBy
  }).pipe(Effect.mapError(ofStores))

  /** So none is claimed because of a transaction that is still open: one whose connection was lost, or a renewal. */
  const isStillOurs = Effect.map(checkpointsOf(checkpoints, definition), (all) => {
    const current = all[partition]
    return current?.token === held.lease.token && Option.contains(current.owner, owner)
  })

  const resume = Effect.gen(function* () {
    held.isResuming = true
    const { token } = held.lease
    for (;;) {
      const fromMs = yield* Clock.currentTimeMillis
      const claimed = yield* checkpoints.claim({ name, generation }, { owner, partition, lease, takeFrom: token })
      if (Option.isSome(claimed)) {
        moved(fromMs)(claimed.value)
        seen = claimed.value.position
        return true
      }
      if (!(yield* isStillOurs)) return false
      yield* Effect.sleep(unavailableFirstMs)
    }
  }).pipe(
    // Deleted: it is opened again, by whoever claims it.
    Effect.catchTag("NotFound", () => Effect.succeed(false)),
    Effect.mapError(ofStores),
    Effect.ensuring(
      Effect.sync(() => {
        held.isResuming = false
      })
    )
  )

  return Effect.gen(function* () {
    let pauseMs = unavailableFirstMs
    for (let isResumed = true; ; ) {
      const before = held.lease.position
      const ended = yield* Effect.either(
        isResumed
          ? Effect.as(session, true)
          : Effect.flatMap(resume, (resumed) => (resumed ? Effect.as(session, true) : Effect.succeed(false)))
      )
      if (Either.isRight(ended)) return ended.right
      const error = ended.left
      if (error instanceof CheckpointLost) return false
      if (!(error instanceof Unavailable)) return yield* Effect.fail(error)
      metrics.failed("unavailable")
      pauseMs = held.lease.position > before ? unavailableFirstMs : Math.min(unavailableMaxMs, pauseMs * 2)
      yield* Effect.logWarning(`projection ${name} waits for a store`, logged(error.cause))
      yield* Effect.sleep(pauseMs)
      isResumed = false
    }
  })
}
