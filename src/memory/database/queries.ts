/**
 * Queries over rows in memory that several stores have.
 */
import { byBytes } from "../../internal/pages.js"

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
