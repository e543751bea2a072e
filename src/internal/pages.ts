/**
 * Pages of a backend: joined to streams, where each page knows how to get the next one, and single ones that a caller
 * asks for by cursor.
 */
import * as Chunk from "effect/Chunk"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import { turn } from "./fibers.js"
import { oneOf, optionalInteger, options, refuse } from "./validate.js"

/**
 * @since 0.1.0
 * @category models
 */
export type Direction = "forward" | "backward"

/** Items of one page. `Stream.runFold` overflows the stack on chunks beyond 8,192. */
export const pageSize = 1000

/**
 * Bytes of payload at which a page ends, whatever number of items it has room for. So what a reader holds at once, and
 * how long one page keeps the event loop busy, is bounded for large items too.
 */
export const pageBytes = 1024 * 1024

/**
 * What a port is asked for.
 *
 * @since 0.1.0
 * @category encoded
 */
export interface PageBounds {
  /** Items, at most. */
  readonly limit: number
  /** The page ends with the item at which its payloads reach this, so it has an item if there is any. */
  readonly maxBytes: number
}

/**
 * What a port returns.
 *
 * @since 0.1.0
 * @category encoded
 */
export interface Page<A> {
  readonly items: ReadonlyArray<A>
  /** The page ended at one of its bounds, so more may follow. */
  readonly more: boolean
  /** Which history of a stream the page is of, where it is one of a stream; see `pageBegins`. */
  readonly revision?: string | null | undefined
}

/** Positions, and the order in which they are read. */
export interface Range {
  readonly after: number
  /** Inclusive. */
  readonly through: number
  readonly direction: Direction
}

/** Takes a page from the items. An iterator is left where the page ends. */
export const takePage = <A>(
  items: Iterable<A>,
  { limit, maxBytes }: PageBounds,
  bytesOf: (item: A) => number
): Page<A> => {
  const taken: Array<A> = []
  let bytes = 0
  for (const item of items) {
    bytes += bytesOf(item)
    if (taken.push(item) >= limit || bytes >= maxBytes) return { items: taken, more: true }
  }
  return { items: taken, more: false }
}

/**
 * A page, and how to get the next one.
 *
 * @since 0.1.0
 * @category encoded
 */
export type Pages<A, E> = Effect.Effect<
  {
    readonly items: ReadonlyArray<A>
    readonly next: Pages<A, E> | undefined
    readonly revision?: string | null | undefined
  },
  E
>

/** All items of a range, page by page: `rest` is the range that is left after an item. */
export const rangePages = <Range, A, E>(
  read: (range: Range & PageBounds) => Effect.Effect<Page<A>, E>,
  range: Range,
  limit: number,
  rest: (range: Range, last: A) => Range
): Pages<A, E> =>
  Effect.map(read({ ...range, limit: Math.min(pageSize, limit), maxBytes: pageBytes }), ({ items, more, revision }) => {
    const last = items[items.length - 1]
    if (last === undefined || !more || items.length === limit) return { items, next: undefined, revision }
    return { items, next: rangePages(read, rest(range, last), limit - items.length, rest), revision }
  })

// A single construct, because each layer of Stream costs as much as reading ten events.
export const pagedStream = <A, E>(first: Pages<A, E>): Stream.Stream<A, E> =>
  Stream.paginateChunkEffect(first, (page) =>
    Effect.map(page, ({ items, next }) => [Chunk.unsafeFromArray(items), Option.fromNullable(next)])
  )

/**
 * A state with this member is told by the fold that it is handed to when a page begins, and of which history of the
 * stream the page is (null: of one that was never changed). A state that was folded from one page is that of one
 * moment.
 */
export const pageBegins: unique symbol = Symbol.for("effect-stores/pageBegins")

const isTold = (state: unknown): state is { readonly [pageBegins]: (revision: string | null) => void } =>
  typeof state === "object" && state !== null && pageBegins in state

export const foldPages = <A, E, S>(
  page: Pages<A, E>,
  initial: S,
  step: (state: S, item: A) => S
): Effect.Effect<S, E> =>
  Effect.flatMap(page, ({ items, next, revision }) => {
    let state = initial
    if (isTold(state)) state[pageBegins](revision ?? null)
    for (const item of items) state = step(state, item)
    return next === undefined ? Effect.succeed(state) : foldPages(next, state, step)
  })

/**
 * The order of UTF-8 bytes. JavaScript compares by UTF-16, which differs where a surrogate meets a character from
 * U+E000 on: those are moved to where UTF-8 has them. (The technique of fixing up code units is that of ICU.)
 */
export const byBytes = (a: string, b: string): number => {
  const length = Math.min(a.length, b.length)
  for (let i = 0; i < length; i++) {
    const left = a.charCodeAt(i)
    const right = b.charCodeAt(i)
    if (left !== right) return fixUp(left) - fixUp(right)
  }
  return a.length - b.length
}

const fixUp = (unit: number): number => (unit < 0xd800 ? unit : unit < 0xe000 ? unit + 0x2000 : unit - 0x800)

/** How much larger each page of values is than the one before, and the largest. */
const valuesGrowth = 256
const valuesMax = 256_000

/**
 * All values; each page begins after the last value of the page before. For each page, a database without an index on
 * the values sorts all that are left, so pages grow: reading many values takes few pages.
 */
export const valuePages = <E>(
  page: (after: string | null, limit: number) => Effect.Effect<ReadonlyArray<string>, E>,
  after: string | null = null,
  limit = pageSize
): Pages<string, E> =>
  Effect.flatMap(page(after, limit), (values) => {
    const last = values[values.length - 1]
    const more = last !== undefined && values.length === limit
    return pieces(values, more ? valuePages(page, last, Math.min(valuesMax, limit * valuesGrowth)) : undefined)
  })

/** A page of up to `pageSize` items in an order, and the pages after its last one. */
export const nextAfter = <A, E>(
  items: ReadonlyArray<A>,
  pages: (last: A) => Pages<A, E>
): Effect.Effect.Success<Pages<A, E>> => {
  const last = items[pageSize - 1]
  return { items, next: last === undefined ? undefined : pages(last) }
}

/** What is in memory already, in pages. */
export const pagesOf = <A>(items: ReadonlyArray<A>): Pages<A, never> => pieces(items, undefined)

/** Values that a caller gets in one turn of the event loop. */
const valuesPerTurn = 16 * pageSize

/** A large page in pieces of `pageSize`. */
const pieces = <A, E>(items: ReadonlyArray<A>, rest: Pages<A, E> | undefined, from = 0): Pages<A, E> => {
  const piece = Effect.sync(() => {
    const to = from + pageSize
    return { items: items.slice(from, to), next: to < items.length ? pieces(items, rest, to) : rest }
  })
  return items.length > valuesPerTurn && from % valuesPerTurn === 0 ? Effect.zipRight(turn, piece) : piece
}

/** The range of positions, up to `through`, of a page that was asked for by cursor. */
const rangeOf = (
  { at, direction }: Pick<PageRequest<unknown>, "at" | "direction">,
  through: number
): { readonly after: number; readonly through: number } => ({
  after: direction === "forward" ? (at ?? 0) : 0,
  through: direction === "backward" && at !== undefined ? Math.min(through, at - 1) : through
})

/** The page that was asked for by cursor, of all positions up to `through`, and the cursor of the next one. */
export const pageAt = <A extends { readonly position: number }, E>(
  request: Omit<PageRequest<unknown>, "filter">,
  through: number,
  read: (range: Range & PageBounds) => Effect.Effect<Page<A>, E>
): Effect.Effect<{ readonly items: ReadonlyArray<A>; readonly next: Option.Option<string> }, E> => {
  const { direction, limit } = request
  const ask = (at: number | undefined, limit: number) =>
    read({ ...rangeOf({ at, direction }, through), direction, limit, maxBytes: pageBytes })
  // One item more tells whether anything follows. A page that ended at its bytes does not, so that is asked for.
  return Effect.flatMap(ask(request.at, limit + 1), (page) => {
    const items = page.items.slice(0, limit)
    const last = items[items.length - 1]
    if (last === undefined || !page.more) return Effect.succeed({ items, next: Option.none() })
    const following = page.items.length > limit ? Effect.succeed(page) : ask(last.position, 1)
    return Effect.map(following, (following) => ({
      items,
      next: following.items.length > 0 ? Option.some(cursor(direction, last.position)) : Option.none()
    }))
  })
}

const pageLimitMax = 1_000

export const direction = (value: unknown, what: string): Direction =>
  value === undefined ? "forward" : oneOf(value, what, ["forward", "backward"])

export interface PageRequest<F> {
  readonly at: number | undefined
  readonly direction: Direction
  readonly filter: F
  readonly limit: number
}

export const pageRequest = <F>(value: unknown, filter: (value: unknown, what: string) => F): PageRequest<F> => {
  const given = options(value, "options", ["filter", "direction", "cursor", "limit"])
  const towards = direction(given.direction, "options.direction")
  return {
    at: given.cursor === undefined ? undefined : cursorPosition(given.cursor, towards),
    direction: towards,
    filter: filter(given.filter, "options.filter"),
    limit: optionalInteger(given.limit, "options.limit", 1, 100, pageLimitMax)
  }
}

/** Version 1 of the cursor: the direction, and the position of the last item of the page before. */
export const cursor = (towards: Direction, position: number): string =>
  `1${towards === "forward" ? "f" : "b"}${position.toString(36)}`

const cursorPosition = (value: unknown, towards: Direction): number => {
  const parts = typeof value === "string" ? /^1([fb])([0-9a-z]{1,11})$/.exec(value) : null
  if (parts === null) return refuse("options.cursor", "is not a cursor that a page of this store gave")
  if (parts[1] !== (towards === "forward" ? "f" : "b"))
    return refuse("options.cursor", "was given for the other direction")
  const position = Number.parseInt(parts[2] as string, 36)
  return Number.isSafeInteger(position) ? position : refuse("options.cursor", "is out of range")
}
