/**
 * The feed that does not end, for one subscriber: catch-up, then live. What it shares with others is in `Following`.
 */
import type * as Chunk from "effect/Chunk"
import * as Clock from "effect/Clock"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import { isRetryable } from "../Errors.js"
import type { Event, ReadError } from "../EventStore.js"
import { pageSize } from "../internal/pages.js"
import * as Telemetry from "../internal/telemetry.js"
import type { EncodedEvent } from "./EventStoreEncoded.js"
import type { Found, Place } from "./Following.js"
import type { FeedRequest } from "./input.js"

/**
 * Page by page: `next` waits where there is nothing to read. If the backend is unavailable, it is asked again after the
 * poll interval. A failure that would repeat ends the stream. The interval runs on the fiber's Clock: under a test's
 * clock a subscription wakes by hints, and polls as time is adjusted.
 */
export const subscription = <A>(options: {
  readonly request: FeedRequest
  readonly next: (place: Place) => Effect.Effect<Found, ReadError>
  readonly decode: (rows: ReadonlyArray<EncodedEvent>) => Effect.Effect<ReadonlyArray<Event>, ReadError>
  readonly emit: (events: ReadonlyArray<Event>, position: number) => Chunk.Chunk<A>
  readonly pollInterval: Duration.Duration
}): Stream.Stream<A, ReadError> => {
  const { decode, emit, next, pollInterval, request } = options
  const start = { after: request.after, through: request.after, left: request.limit }
  // As few effects as possible: an append makes each subscriber of a store take this step, and there may be thousands.
  return Stream.paginateChunkEffect(start, ({ left, ...place }) => {
    const wanted = { ...place, limit: Math.min(pageSize, left) }
    const attempt: Effect.Effect<readonly [Chunk.Chunk<A>, Option.Option<typeof start>], ReadError> = Effect.catchAll(
      Effect.flatMap(next(wanted), (found) =>
        Effect.flatMap(decode(found.events), (events) =>
          Effect.map(Clock.currentTimeMillis, (nowMs) => {
            const newest = events[events.length - 1]
            if (newest !== undefined) Telemetry.delayed(nowMs - newest.createdAt.epochMillis)
            const rest = { after: found.position, through: found.through, left: left - events.length }
            return [emit(events, found.position), rest.left === 0 ? Option.none() : Option.some(rest)]
          })
        )
      ),
      (error) =>
        isRetryable(error)
          ? Effect.logDebug("subscription waits for the backend", error).pipe(
              Effect.zipRight(Effect.sleep(pollInterval)),
              Effect.zipRight(Effect.suspend(() => attempt))
            )
          : Effect.fail(error)
    )
    return attempt
  })
}
