/**
 * What the lifts of the EventStore and the CommandStore share. Both keep records in an order of positions, which
 * readers look through by filter.
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type * as Stream from "effect/Stream"
import { type InvalidInput, type ReadFailure, StoreError } from "../Errors.js"
import { type Page, type PageBounds, type PageRequest, pageAt, pagedStream, type Range, valuePages } from "./pages.js"
import { type Observer, returned } from "./telemetry.js"
import { checked, uuid } from "./validate.js"

export interface Decoder<Row, A> {
  readonly rows: (rows: ReadonlyArray<Row>) => Effect.Effect<ReadonlyArray<A>, StoreError>
  readonly row: (row: Row | null) => Effect.Effect<Option.Option<A>, StoreError>
  readonly page: <E>(page: Effect.Effect<Page<Row>, E>) => Effect.Effect<Page<A>, E | StoreError>
}

/** What `decode` throws fails the whole page, and names the record. */
export const decoder = <Row extends { readonly id: string }, A>(
  record: string,
  decode: (row: Row) => A
): Decoder<Row, A> => {
  // One Effect for all of them: an Effect per row would cost as much as the row.
  const rows = (rows: ReadonlyArray<Row>): Effect.Effect<ReadonlyArray<A>, StoreError> => {
    const items = new Array<A>(rows.length)
    let i = 0
    try {
      for (; i < rows.length; i++) items[i] = decode(rows[i] as Row)
    } catch (cause) {
      return Effect.fail(new StoreError({ operation: `decoding ${record} ${rows[i]?.id}`, cause }))
    }
    return Effect.succeed(items)
  }
  return {
    rows,
    row: (row) => Effect.map(rows(row === null ? [] : [row]), ([item]) => Option.fromNullable(item)),
    page: (page) =>
      Effect.flatMap(page, ({ items, more, revision }) =>
        Effect.map(rows(items), (items) => ({ items, more, revision }))
      )
  }
}

/** What each condition of a filter means; one that is forgotten does not compile. */
export type Conditions<Filter, Row> = {
  readonly [K in keyof Filter]-?: (row: Row, wanted: NonNullable<Filter[K]>) => boolean
}

/** The test that a filter is, looked at once and not for each row: a condition that is null is none. */
export const matcher =
  <Filter extends object, Row>(conditions: Conditions<Filter, Row>) =>
  (filter: Filter): ((row: Row) => boolean) => {
    const active: Array<(row: Row) => boolean> = []
    const add = <K extends keyof Filter>(key: K) => {
      const wanted = filter[key]
      if (wanted !== null && wanted !== undefined) active.push((row) => conditions[key](row, wanted))
    }
    for (const key in conditions) add(key)
    return (row) => active.every((holds) => holds(row))
  }

/** The members that need nothing but a position, an id and a filter. */
export const queries = <Row extends { readonly position: number }, A, Field, Filter>(log: {
  readonly observe: Observer
  readonly decode: Decoder<Row, A>
  readonly input: {
    readonly distinctField: (value: unknown) => Field
    readonly filter: (value: unknown) => Filter
    readonly pageOptions: (value: unknown) => PageRequest<Filter>
  }
  /** Pages end here: what comes later is on none of them. May refuse what was asked for. */
  readonly through: (request: PageRequest<Filter>) => Effect.Effect<number, InvalidInput | ReadFailure>
  readonly range: (request: Range & PageBounds & { readonly filter: Filter }) => Effect.Effect<Page<Row>, ReadFailure>
  readonly encoded: {
    readonly get: (id: string) => Effect.Effect<Row | null, ReadFailure>
    readonly count: (filter: Filter) => Effect.Effect<number, ReadFailure>
    readonly distinct: (request: {
      readonly field: Field
      readonly filter: Filter
      readonly after: string | null
      readonly limit: number
    }) => Effect.Effect<ReadonlyArray<string>, ReadFailure>
  }
}) => {
  const { decode, encoded, input, observe, range, through } = log
  type ReadError = InvalidInput | ReadFailure
  return {
    get: (id: string): Effect.Effect<Option.Option<A>, ReadError> =>
      observe.effect("get", (_, span) =>
        checked(
          () => uuid(id, "id"),
          (id) =>
            Effect.flatMap(encoded.get(id), (row) => {
              returned(span, row === null ? 0 : 1)
              return decode.row(row)
            })
        )
      ),

    page: (
      options: unknown
    ): Effect.Effect<{ readonly items: ReadonlyArray<A>; readonly next: Option.Option<string> }, ReadError> =>
      observe.effect("page", (_, span) =>
        checked(
          () => input.pageOptions(options),
          (request) =>
            Effect.flatMap(through(request), (through) => {
              const { filter } = request
              const page = pageAt(request, through, (bounds) => range({ ...bounds, filter }))
              return Effect.flatMap(page, ({ items, next }) => {
                returned(span, items.length)
                return Effect.map(decode.rows(items), (items) => ({ items, next }))
              })
            })
        )
      ),

    distinct: (field: Field, filter: unknown): Stream.Stream<string, ReadError> =>
      observe.stream("distinct", () =>
        pagedStream(
          checked(
            () => ({ field: input.distinctField(field), filter: input.filter(filter) }),
            (request) => valuePages((after, limit) => encoded.distinct({ ...request, after, limit }))
          )
        )
      ),

    count: (filter: unknown): Effect.Effect<number, ReadError> =>
      observe.effect("count", () => checked(() => input.filter(filter), encoded.count))
  }
}
