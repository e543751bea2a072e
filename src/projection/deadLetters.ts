/**
 * Trying again what was passed by, while the partition is held: nobody else handles or passes by events of its streams
 * meanwhile.
 */
import * as Arr from "effect/Array"
import * as Chunk from "effect/Chunk"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import { CheckpointLost, type DeadLetter } from "../CheckpointStore.js"
import type { Event } from "../EventStore.js"
import type { RunError } from "../Projection.js"
import { streamKey } from "../StreamId.js"
import { HandlerFailed } from "./definition.js"
import { logged } from "./errors.js"
import { type Follower, type Held, together } from "./work.js"

export const deadLettersOf = <R>({ checkpoints, definition }: Follower<R>) => {
  const { generation, name } = definition
  return Effect.map(Stream.runCollect(checkpoints.deadLetters({ name, generation })), Chunk.toReadonlyArray)
}

/** Returns how many are left, which somebody else tries when the partition is lost meanwhile. */
export const retryAll = <R>(follower: Follower<R>, held: Held): Effect.Effect<number, RunError, R> =>
  Effect.gen(function* () {
    const { name } = follower.definition
    const stored = Effect.map(deadLettersOf(follower), (letters) =>
      letters.filter(({ partition }) => partition === held.lease.partition)
    )
    // What comes after one that fails waits for it.
    const failed = new Set<string>()
    let left = 0
    for (const letter of yield* stored) {
      if (!failed.has(streamKey(letter))) {
        const settled = yield* Effect.either(settle(follower, held, letter))
        if (Either.isRight(settled)) continue
        const error = settled.left
        if (error instanceof CheckpointLost) return (yield* stored).length
        const cause = error instanceof HandlerFailed ? error.cause : logged(error)
        yield* Effect.logWarning(`the dead letter of event ${letter.eventId} of projection ${name} stays`, cause)
        failed.add(streamKey(letter))
      }
      left++
    }
    return left
  })

/** Handles what the dead letter stands for, and deletes it. */
const settle = <R>(follower: Follower<R>, held: Held, letter: DeadLetter) =>
  Effect.gen(function* () {
    const { checkpoints, definition } = follower
    const { batchSize, generation, name } = definition
    const events = yield* eventsOf(follower, letter, held.lease.position)
    const batch = { name, generation, partition: letter.partition }
    const handled = Effect.zipRight(
      Effect.forEach(Arr.chunksOf(events, batchSize), (some) => definition.apply(some, batch), { discard: true }),
      Effect.suspend(() => checkpoints.commit(held.lease, held.lease.position, { settled: [letter.position] }))
    )
    held.lease = yield* together(follower, held, handled)
  })

/** None if the event was deleted meanwhile. */
const eventsOf = <R>({ definition, events }: Follower<R>, letter: DeadLetter, until: number) => {
  if (letter.scope === "event") {
    return Effect.map(events.get(letter.eventId), (found): ReadonlyArray<Event> => Option.toArray(found))
  }
  const { aggregateId, domain, tenantId } = letter
  const filter = { ...definition.filter, tenantId, domain, aggregateId }
  return events.feed({ after: letter.position - 1, filter }).pipe(
    Stream.takeWhile(({ position }) => position <= until),
    Stream.runCollect,
    Effect.map((chunk): ReadonlyArray<Event> => Chunk.toReadonlyArray(chunk))
  )
}
