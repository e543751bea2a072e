/**
 * A clock that a test holds in its hand.
 */
import { Clock, Effect } from "effect"

export interface HeldClock {
  readonly clock: Clock.Clock
  /** How many sleep on it. */
  readonly sleepers: () => number
  /** Sets its time, and wakes all that sleep on it. */
  readonly moveTo: (epochMs: number) => void
}

export const heldClock = (startMs: number): HeldClock => {
  let nowMs = startMs
  const asleep = new Set<() => void>()
  const clock: Clock.Clock = {
    [Clock.ClockTypeId]: Clock.ClockTypeId,
    unsafeCurrentTimeMillis: () => nowMs,
    unsafeCurrentTimeNanos: () => BigInt(nowMs) * 1_000_000n,
    currentTimeMillis: Effect.sync(() => nowMs),
    currentTimeNanos: Effect.sync(() => BigInt(nowMs) * 1_000_000n),
    sleep: () =>
      Effect.async((resume) => {
        const wake = () => resume(Effect.void)
        asleep.add(wake)
        return Effect.sync(() => asleep.delete(wake))
      })
  }
  return {
    clock,
    sleepers: () => asleep.size,
    moveTo: (epochMs) => {
      nowMs = epochMs
      const all = [...asleep]
      asleep.clear()
      for (const wake of all) wake()
    }
  }
}
