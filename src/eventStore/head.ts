/**
 * How far the feed may be read, for a reader who has come as far as a position.
 */
import * as Effect from "effect/Effect"
import { InvalidInput, type ReadFailure } from "../Errors.js"
import type { Encoded } from "./EventStoreEncoded.js"

/** A reader is refused who has come further than the store ever was. */
export const neverGiven = (position: number, last: number, what: string): InvalidInput => {
  const why =
    `is at position ${position}, and the last position of this store is ${last}: it was kept from another store, ` +
    "or this one was restored from a backup since; begin again from a position that is in both"
  return new InvalidInput({ what, why })
}

/**
 * The head, for a reader who has come as far as a position. Fails if no event was ever there: the reader has read
 * another store, or this one before it was restored, and would pass by whatever is appended up to there. A head that
 * is lower says nothing by itself: on PostgreSQL it steps back while an append is open.
 */
export const headAfter = (
  encoded: Encoded,
  position: number,
  what: string
): Effect.Effect<number, InvalidInput | ReadFailure> =>
  Effect.flatMap(encoded.head, (head) =>
    position <= head
      ? Effect.succeed(head)
      : Effect.flatMap(encoded.lastPosition, (last) =>
          position <= last ? Effect.succeed(head) : Effect.fail(neverGiven(position, last, what))
        )
  )
