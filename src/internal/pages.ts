/**
 * Pages of a backend as streams: each page knows how to get the next one.
 */
import * as Chunk from "effect/Chunk"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"

/** Items of one page. `Stream.runFold` overflows the stack on chunks beyond 8,192. */
export const pageSize = 1000

/** A page, and how to get the next one. */
export type Pages<A, E> = Effect.Effect<{ readonly items: Array<A>; readonly next: Pages<A, E> | undefined }, E>

// One construct only: each layer of Stream costs as much as a read of ten events.
export const streamOf = <A, E>(first: Pages<A, E>): Stream.Stream<A, E> =>
  Stream.paginateChunkEffect(first, (page) =>
    Effect.map(page, ({ items, next }) => [Chunk.unsafeFromArray(items), Option.fromNullable(next)])
  )

/** A page that is not full is the last; a full one may be too, and then an empty one follows. */
export const hasNext = (found: number, size: number, left: number): boolean => found === size && found < left
