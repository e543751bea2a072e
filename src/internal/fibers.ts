/**
 * What Effect's own operators on fibers leave open: something that goes on beside an effect for exactly as long as that
 * runs, what belongs to no transaction of its caller, and a turn of the event loop.
 */
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as FiberRef from "effect/FiberRef"

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

/** Whether a fiber has left the transactions that it inherited. One that begins in it is entered as usual. */
export const detached: FiberRef.FiberRef<boolean> = FiberRef.unsafeMake(false, {
  join: (own) => own
})

/** Runs the effect with another context and outside any transaction of the fiber, which may end before it. */
export const outside = <A, E>(self: Effect.Effect<A, E>, context: Context.Context<never>): Effect.Effect<A, E> =>
  Effect.locally(
    Effect.mapInputContext(self, (_: Context.Context<never>) => context),
    detached,
    true
  )

/** A turn of the event loop: fibers alone yield by microtasks, which would not let it on. */
export const turn: Effect.Effect<void> = Effect.async((resume) => {
  const immediate = setImmediate(() => resume(Effect.void))
  return Effect.sync(() => clearImmediate(immediate))
})
