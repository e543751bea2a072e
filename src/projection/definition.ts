/**
 * What is made of the definition of a projection: checked options, the types that its Schema knows, and the handler
 * with the decoding before it.
 */
import type * as Arr from "effect/Array"
import * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import type { InvalidInput } from "../Errors.js"
import type { Event, Filter, NewEvent } from "../EventStore.js"
import { EventDecodeError } from "../EventStore.js"
import { optionalLeaseMs } from "../internal/durations.js"
import { tagged, tagsOf } from "../internal/taggedPayload.js"
import {
  describe,
  fields,
  identifier,
  oneOf,
  optionalInteger,
  optionalTypes,
  options,
  refuse
} from "../internal/validate.js"
import type { Batch, Delivery, OnFailure, Options } from "../Projection.js"

export const TypeId: unique symbol = Symbol.for("effect-stores/Projection")

/** A failure of the handler, whatever it was, told from those of the stores around it. */
export class HandlerFailed {
  readonly _tag = "HandlerFailed"
  constructor(readonly cause: Cause.Cause<unknown>) {}
}

export interface Definition<R> {
  readonly name: string
  readonly generation: number
  readonly partitions: number
  readonly delivery: Delivery
  readonly filter: Filter
  readonly batchSize: number
  readonly lease: Duration.Duration
  readonly retry: Schedule.Schedule<unknown>
  readonly onFailure: OnFailure
  /** A value of its Schema as it is stored. */
  readonly encode: (event: { readonly _tag: string }) => Effect.Effect<NewEvent, InvalidInput, R>
  /** Decodes the events and handles them. */
  readonly apply: (
    events: Arr.NonEmptyReadonlyArray<Event>,
    batch: Batch
  ) => Effect.Effect<void, EventDecodeError | HandlerFailed, R>
}

const keys = [
  "name",
  "generation",
  "partitions",
  "events",
  "filter",
  "delivery",
  "batchSize",
  "lease",
  "retry",
  "onFailure",
  "handle"
] as const

const filterKeys = ["tenantId", "domain", "aggregateId", "types", "commandId", "createdFrom", "createdUntil"] as const

/** Each partition reads the feed. */
const partitionsMax = 1_000

/** As many events as a page of the feed has. */
const batchSizeMax = 1_000

/** Five more times, over about three seconds. */
const retryDefault = Schedule.intersect(Schedule.jittered(Schedule.exponential("100 millis")), Schedule.recurs(5))

/** Throws `InvalidInput`. */
export const define = <A extends { readonly _tag: string }, I extends { readonly _tag: string }, RS, E, RH>(
  value: Options<A, I, RS, E, RH, Delivery>
): Definition<RS | RH> => {
  const given = fields(value, "options", keys)
  const { events, filter, handle, retry } = value
  if (!Schema.isSchema(events)) return refuse("events", `must be a Schema, not ${describe(events)}`)
  if (typeof handle !== "function") return refuse("handle", `must be a function, not ${describe(handle)}`)
  if (retry !== undefined && !Schedule.isSchedule(retry)) {
    return refuse("retry", `must be a Schedule, not ${describe(retry)}`)
  }
  const conditions = options(filter, "filter", filterKeys)
  const known = tagsOf(events)
  const asked = optionalTypes(conditions.types, "filter.types")
  for (const [i, type] of asked?.entries() ?? []) {
    if (known?.includes(type) === false) {
      refuse(`filter.types[${i}]`, `is ${describe(type)}, which is no type of the Schema's events`)
    }
  }
  const types = asked ?? known
  const codec = tagged(events)
  return {
    name: identifier(given.name, "name"),
    generation: optionalInteger(given.generation, "generation", 1, 1, 2 ** 31 - 1),
    partitions: optionalInteger(given.partitions, "partitions", 1, 1, partitionsMax),
    delivery: oneOf(given.delivery, "delivery", ["exactlyOnce", "atLeastOnce"]),
    // Its values are checked by the store.
    filter: { ...filter, ...(types === undefined ? {} : { types }) },
    batchSize: optionalInteger(given.batchSize, "batchSize", 1, 100, batchSizeMax),
    lease: Duration.millis(optionalLeaseMs(given.lease, "lease")),
    retry: retry ?? retryDefault,
    onFailure: given.onFailure === undefined ? "stop" : oneOf(given.onFailure, "onFailure", ["stop", "skip", "park"]),
    encode: (event) => codec.encode(event as A, "event", {}),
    apply: (stored, batch) =>
      // As exits: what dies or interrupts itself has failed, too.
      Effect.flatMap(
        Effect.exit(Effect.forEach(stored, (event) => codec.decode(event, EventDecodeError.of))),
        (decoded): Effect.Effect<void, EventDecodeError | HandlerFailed, RS | RH> =>
          Exit.isFailure(decoded)
            ? Effect.fail(Option.getOrElse(Cause.failureOption(decoded.cause), () => new HandlerFailed(decoded.cause)))
            : Effect.flatMap(
                Effect.exit(Effect.suspend(() => handle(decoded.value, batch))),
                (exit): Effect.Effect<void, HandlerFailed> =>
                  Exit.isSuccess(exit) ? Effect.void : Effect.fail(new HandlerFailed(exit.cause))
              )
      )
  }
}
