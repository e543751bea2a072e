/**
 * Pages of a backend: joined to streams, where each page knows how to get the next one, and single ones that a caller
 * asks for by cursor.
 */
import * as Chunk from "effect/Chunk"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import { cursor, type PageRequest } from "./values.js"

/** Items of one page. `Stream.runFold` overflows the stack on chunks beyond 8,192. */
export const pageSize = 1000

/** A page, and how to get the next one. */
export type Pages<A, E> = Effect.Effect<{ readonly items: Array<A>; readonly next: Pages<A, E> | undefined }, E>

// A single construct, because each layer of Stream costs as much as reading ten events.
export const streamOf = <A, E>(first: Pages<A, E>): Stream.Stream<A, E> =>
  Stream.paginateChunkEffect(first, (page) =>
    Effect.map(page, ({ items, next }) => [Chunk.unsafeFromArray(items), Option.fromNullable(next)])
  )

/** A page that is not full is the last one. A full page may be the last one too; then an empty page follows. */
export const hasNext = (found: number, size: number, left: number): boolean => found === size && found < left

/** All values; each page begins after the last value of the page before. */
export const valuePages = <E>(
  page: (after: string | null, limit: number) => Effect.Effect<ReadonlyArray<string>, E>,
  after: string | null = null
): Pages<string, E> =>
  Effect.map(page(after, pageSize), (values) => {
    const last = values[values.length - 1]
    const more = last !== undefined && values.length === pageSize
    return { items: [...values], next: more ? valuePages(page, last) : undefined }
  })

/** The range of positions, up to `through`, of a page that was asked for by cursor. */
export const rangeOf = (
  { at, direction }: Pick<PageRequest<unknown>, "at" | "direction">,
  through: number
): { readonly after: number; readonly through: number } => ({
  after: direction === "forward" ? (at ?? 0) : 0,
  through: direction === "backward" && at !== undefined ? Math.min(through, at - 1) : through
})

/** The page, and the cursor of the next one. Needs one item more than `limit`. */
export const cut = <A extends { readonly position: number }>(
  found: ReadonlyArray<A>,
  { direction, limit }: Pick<PageRequest<unknown>, "direction" | "limit">
): { readonly items: ReadonlyArray<A>; readonly next: Option.Option<string> } => {
  const items = found.slice(0, limit)
  const last = items[items.length - 1]
  const more = found.length > limit && last !== undefined
  return { items, next: more ? Option.some(cursor(direction, last.position)) : Option.none() }
}
