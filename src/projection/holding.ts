/**
 * Keeps the lease of a partition while it is worked on, and ends the work when the lease is lost.
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import { CheckpointLost, type CheckpointStoreShape } from "../CheckpointStore.js"
import type { RunError } from "../Projection.js"
import type { Follower, Held } from "./work.js"

/**
 * Returns what the work returns, and false when the partition was lost. The work is awaited in any
 * case, so nothing of it goes on afterwards.
 */
export const hold = <R>(
  follower: Follower<R>,
  held: Held,
  work: Effect.Effect<boolean, RunError, R>
): Effect.Effect<boolean, RunError, R> =>
  Effect.uninterruptibleMask((restore) =>
    Effect.gen(function* () {
      let isLost = false
      const worker = yield* Effect.fork(restore(Effect.exit(work)))
      const beats = yield* Effect.forkDaemon(
        Effect.interruptible(
          Effect.zipRight(
            heartbeat(follower, held),
            Effect.suspend(() => {
              isLost = true
              return Fiber.interruptFork(worker)
            })
          )
        )
      )
      return yield* restore(Fiber.await(worker)).pipe(
        Effect.onInterrupt(() => Fiber.interrupt(worker)),
        Effect.ensuring(Fiber.interrupt(beats)),
        Effect.flatMap((exits) => {
          const exit = Exit.flatten(exits)
          return Exit.isInterrupted(exit) && !isLost
            ? Effect.die(new Error("the work on a partition was interrupted from inside"))
            : exit
        }),
        Effect.catchAllCause((cause) => (isLost ? Effect.succeed(false) : Effect.failCause(cause)))
      )
    })
  )

/**
 * Renews the lease three times in its time, and ends when it is lost. If the writes of a handler are in the transaction
 * that advances the checkpoint, a handler may take longer than its lease, even where it keeps a renewal waiting.
 * Otherwise this also ends when the lease could not be renewed by its end.
 */
const heartbeat = <R>({ checkpoints, definition }: Follower<R>, held: Held): Effect.Effect<void> =>
  Effect.gen(function* () {
    const leaseMs = Duration.toMillis(definition.lease)
    const outlivesLease = definition.delivery === "exactlyOnce"
    const now = Clock.currentTimeMillis
    for (;;) {
      const leftMs = outlivesLease ? leaseMs : Math.max(0, held.untilMs - (yield* now))
      yield* Effect.sleep(Math.min(leaseMs / 3, leftMs))
      const fromMs = yield* now
      if (!outlivesLease && fromMs >= held.untilMs) {
        return yield* Effect.logWarning(`projection ${definition.name} interrupts a handler: its lease was not renewed`)
      }
      // Nobody gets the checkpoint before that transaction ends, and a renewal outside of it would wait for it.
      if (held.inside?.isRenewed === true) continue
      const { lease } = held
      const renewed = yield* Effect.either(
        Effect.catchAll(Effect.timeout(checkpoints.renew(lease), leaseMs / 3), (error) =>
          error instanceof CheckpointLost ? Effect.fail(error) : renewInside(checkpoints, held, error)
        )
      )
      if (Either.isRight(renewed)) held.untilMs = Math.max(held.untilMs, fromMs + leaseMs)
      // Otherwise the work has claimed it anew meanwhile, or is about to.
      else if (renewed.left instanceof CheckpointLost && held.lease.token === lease.token && !held.isResuming) return
    }
  })

/**
 * Where no other connection is free, the lease is renewed in the transaction of the handler, between two statements of
 * it. Not the first way, since others cannot take over from an owner who is paused then, or gone without a word, before
 * the server ends that transaction.
 */
const renewInside = <E>({ renew }: CheckpointStoreShape, held: Held, otherwise: E) =>
  Effect.gen(function* () {
    const { inside, lease } = held
    if (inside === undefined) return yield* Effect.fail(otherwise)
    const renewing = yield* Effect.fork(Effect.zipRight(Effect.setFiberRefs(inside.refs), renew(lease)))
    yield* yield* Fiber.await(renewing)
    inside.isRenewed = true
  })
