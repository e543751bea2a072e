/**
 * The options that every EventStore layer has, whatever its backend.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type { InvalidInput } from "../Errors.js"
import type { Options } from "../EventStoreEncoded.js"
import { checked, describe, identifier, refuse } from "./validate.js"

export interface StoreOptions {
  readonly readOnly?: boolean | undefined
  readonly instanceId?: string | undefined
  readonly pollInterval?: Duration.DurationInput | undefined
}

export const checkOptions = (
  system: string,
  options: StoreOptions,
  pollInterval: Duration.Duration
): Effect.Effect<Options, InvalidInput> =>
  checked(
    (): Options => ({
      system,
      readOnly: options.readOnly,
      instanceId: options.instanceId === undefined ? undefined : identifier(options.instanceId, "instanceId"),
      pollInterval: options.pollInterval === undefined ? pollInterval : interval(options.pollInterval)
    }),
    Effect.succeed
  )

const interval = (value: Duration.DurationInput): Duration.Duration => {
  const decoded = Duration.decodeUnknown(value)
  return decoded._tag === "Some" && Duration.toMillis(decoded.value) > 0
    ? decoded.value
    : refuse("pollInterval", `must be a duration greater than zero, not ${describe(value)}`)
}
