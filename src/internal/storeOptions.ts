/**
 * The options that every EventStore layer has, whatever its backend, and the check that a layer was given no others.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type { InvalidInput } from "../Errors.js"
import type { Options } from "../EventStoreEncoded.js"
import { checked, describe, fields, identifier, refuse } from "./validate.js"

export interface StoreOptions {
  readonly readOnly?: boolean | undefined
  readonly instanceId?: string | undefined
  readonly pollInterval?: Duration.DurationInput | undefined
}

/** The keys of a record of options, all of them: a forgotten one does not compile. */
export type Keys<O> = { readonly [K in keyof Required<O>]: true }

/** Refuses other keys: of a misspelt option the default would silently stay. */
export const onlyKnown = <O extends object>(options: O, keys: Keys<O>): Effect.Effect<O, InvalidInput> =>
  checked(() => {
    const given = fields(options, "options", Object.keys(keys))
    for (const key of switches) {
      const value = given[key]
      // "false" would count as true.
      if (value !== undefined && typeof value !== "boolean")
        refuse(key, `must be true or false, not ${describe(value)}`)
    }
    return options
  }, Effect.succeed)

const switches = ["readOnly", "migrate"] as const

/** Those of the options that the keys name. */
export const part = <P extends object>(options: P, keys: Keys<P>): P =>
  Object.fromEntries(
    Object.keys(keys).flatMap((key) => {
      const value = options[key as keyof P]
      return value === undefined ? [] : [[key, value]]
    })
  ) as P

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
