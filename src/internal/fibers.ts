/**
 * What Effect's own operators on fibers leave open: something that goes on beside an effect for exactly as long as that
 * runs, and a turn of the event loop.
 */
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"

/**
 * Runs `beside`, which never ends by itself, until `self` has ended. `self` stays in its own fiber, so an interrupt
 * waits for what in it cannot be interrupted; a race (`raceFirst`) was seen to go on before that, and then what was
 * cleaned up was still in use.
 */
export const alongside = <A, E, R, R2>(
  self: Effect.Effect<A, E, R>,
  beside: Effect.Effect<never, never, R2>
): Effect.Effect<A, E, R | R2> =>
  Effect.acquireUseRelease(
    Effect.forkDaemon(Effect.interruptible(beside)),
    () => self,
    (fiber) => Effect.asVoid(Fiber.interrupt(fiber))
  )

/** A turn of the event loop: fibers alone yield by microtasks, which would not let it on. */
export const turn: Effect.Effect<void> = Effect.async((resume) => {
  const immediate = setImmediate(() => resume(Effect.void))
  return Effect.sync(() => clearImmediate(immediate))
})
