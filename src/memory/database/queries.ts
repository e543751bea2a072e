/**
 * Queries over rows in memory that several stores have.
 */
import { byBytes } from "../../internal/pages.js"

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

/** A page of distinct values in order of their UTF-8 bytes. */
export const distinctPage = (
  values: Iterable<string | null>,
  { after, limit }: { readonly after: string | null; readonly limit: number }
): ReadonlyArray<string> => {
  const found = new Set<string>()
  for (const value of values) {
    if (value !== null && (after === null || byBytes(value, after) > 0)) found.add(value)
  }
  return inOrder([...found]).slice(0, limit)
}

/** Strings compare by UTF-16, and much faster than by a function; below the surrogates that is the order of bytes. */
const inOrder = (values: Array<string>): Array<string> =>
  values.some((value) => beyondSurrogates.test(value)) ? values.sort(byBytes) : values.sort()

const beyondSurrogates = /[\ud800-\uffff]/
