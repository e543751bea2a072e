/**
 * The options that the layers of backends have in common, as the lift takes them.
 */
import * as Effect from "effect/Effect"
import type { InvalidInput } from "../Errors.js"
import { checked, refuse } from "../internal/validate.js"
import type { LayerOptions, Options } from "./CacheStoreEncoded.js"
import { time } from "./input.js"

/** Below it a busy process would lose its own locks; beyond it a dead one would hold them too long. */
const leaseMinMs = 100
const leaseMaxMs = 3_600_000

export const liftOptions = (
  system: string,
  { breaker, lease, readOnly }: LayerOptions
): Effect.Effect<Options, InvalidInput> =>
  checked(
    () => ({ system, readOnly, breaker, leaseMs: lease === undefined ? undefined : leaseOf(lease) }),
    Effect.succeed
  )

/** Throws `InvalidInput`. */
export const leaseOf = (value: unknown): number => {
  const ms = time(value, "lease", leaseMinMs)
  return ms <= leaseMaxMs ? ms : refuse("lease", "must be at most an hour")
}
