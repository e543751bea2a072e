/**
 * Waiting for a condition that others bring about: a server, another process, a fiber.
 */
import { Effect } from "effect"

/** Looks again until it holds. A minute and a half is in vain: the bound is for a report, and no measure of speed. */
export const eventually = <A, E, R>(
  check: Effect.Effect<A, E, R>,
  holds: (value: A) => boolean = (value) => value === true,
  what = "what was waited for did not happen"
): Effect.Effect<A, E | Error, R> =>
  Effect.repeat(Effect.delay(check, "10 millis"), { until: holds }).pipe(
    Effect.timeoutFail({ duration: "5 minutes", onTimeout: () => new Error(what) })
  )
