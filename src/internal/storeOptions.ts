/**
 * The options that layers of several stores share, whatever their backend, and the check that a layer was given no
 * others.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type { InvalidInput } from "../Errors.js"
import { timeoutMs } from "./durations.js"
import { array, checked, describe, fields, identifier, oneOf, refuse } from "./validate.js"

/** The keys of a record of options, all of them: a forgotten one does not compile. */
export type Keys<O> = { readonly [K in keyof Required<O>]: true }

/** Refuses other keys: a misspelt option would silently keep its default. */
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

const switches = ["readOnly", "migrate", "breaker", "durable", "groupCommit", "traceparent"] as const

/** Those of the options that the keys name. */
export const part = <P extends object>(options: P, keys: Keys<P>): P =>
  Object.fromEntries(
    Object.keys(keys).flatMap((key) => {
      const value = options[key as keyof P]
      return value === undefined ? [] : [[key, value]]
    })
  ) as P

/** The options that the lifts of events and of commands share. */
export const liftOptions = (
  system: string,
  { instanceId, readOnly }: { readonly readOnly?: boolean | undefined; readonly instanceId?: string | undefined }
) =>
  checked(
    () => ({
      system,
      readOnly,
      instanceId: instanceId === undefined ? undefined : identifier(instanceId, "instanceId")
    }),
    Effect.succeed
  )

export const pollIntervalOf = (
  options: { readonly pollInterval?: Duration.DurationInput | undefined },
  otherwise: Duration.DurationInput
): Effect.Effect<Duration.Duration, InvalidInput> => {
  const { pollInterval = otherwise } = options
  return checked(() => interval(pollInterval), Effect.succeed)
}

const interval = (value: Duration.DurationInput): Duration.Duration => Duration.millis(timeoutMs(value, "pollInterval"))

/** What an index of events by choice may be by, as the option names it. */
export const eventIndexes = ["type", "domain", "tenant", "time"] as const

/**
 * @since 0.1.0
 * @category models
 */
export type EventIndex = (typeof eventIndexes)[number]

/**
 * @since 0.1.0
 * @category models
 */
export interface IndexOptions {
  /**
   * Indexes beside those that every store has, so that a filter costs by what it finds and not by what it passes over:
   * of types, of domains, of tenants, and of times of creation. Each makes appends slower. They are created when the
   * store opens, unless `migrate` is false. Default `["type"]`, and none for a store with `readOnly`: its role may be
   * one that creates nothing. One that exists is used, and is not removed because it is not named.
   */
  readonly indexes?: ReadonlyArray<EventIndex> | undefined
}

/** Throws `InvalidInput`. */
export const checkedIndexes = ({
  readOnly,
  indexes = readOnly === true ? [] : ["type"]
}: IndexOptions & { readonly readOnly?: boolean | undefined }): ReadonlyArray<EventIndex> => {
  const given = array(indexes, "indexes", 0, eventIndexes.length)
  const named = new Set(given.map((index, i) => oneOf(index, `indexes[${i}]`, eventIndexes)))
  return eventIndexes.filter((index) => named.has(index))
}
