/**
 * Work that may be long, in steps: whoever runs it decides what happens between them. Small work has one, so the same
 * code costs a record of 100 bytes next to nothing, and lets the event loop on while it seals 16 MiB.
 */
import * as Effect from "effect/Effect"
import { turn } from "../../internal/fibers.js"

export type Steps<A> = Generator<void, A, void>

/** All of it, in one turn of the event loop: for what is known to be small. */
export const atOnce = <A>(steps: Steps<A>): A => {
  for (;;) {
    const step = steps.next()
    if (step.done) return step.value
  }
}

/** With a turn of the event loop after each step but the last. Interrupted, it ends where it is. */
export const inTurns = <A>(begin: () => Steps<A>): Effect.Effect<A> =>
  Effect.suspend(() => {
    const steps = begin()
    const first = steps.next()
    if (first.done) return Effect.succeed(first.value)
    const rest: Effect.Effect<A> = Effect.zipRight(
      turn,
      Effect.suspend(() => {
        const step = steps.next()
        return step.done ? Effect.succeed(step.value) : rest
      })
    )
    return Effect.onInterrupt(rest, () => Effect.sync(() => steps.return(undefined as never)))
  })

/** What is worked on in one step, in bytes or characters: at most a millisecond of it, as UTF-8 of a script is slow. */
export const stepBytes = 128 * 1024
