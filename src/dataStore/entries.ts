/**
 * Lists of names in order of their UTF-8 bytes, with what lies behind a delimiter given as one prefix: for backends
 * that cannot do it themselves.
 */
import { byBytes } from "../internal/pages.js"
import type { ListRequest } from "./DataStoreEncoded.js"

/** The order of names in lists: that of their UTF-8 bytes. */
export const compareNames: (a: string, b: string) => number = byBytes

/**
 * Rows of objects, by their names.
 *
 * @since 0.1.0
 * @category encoded
 */
export interface Named {
  readonly name: string
}

/**
 * An entry of a list: a row, or what rows that were left out begin with.
 *
 * @since 0.1.0
 * @category encoded
 */
export type Listed<A> = { readonly _tag: "Row"; readonly row: A } | { readonly _tag: "Prefix"; readonly prefix: string }

/** The entries of rows that come in order of their names: whatever begins with `prefix` and comes after `after`. */
export function* entriesOf<A extends Named>(
  rows: Iterable<A>,
  { after, delimiter, prefix }: Pick<ListRequest, "after" | "delimiter" | "prefix">
): Generator<Listed<A>> {
  let last: string | undefined
  for (const row of rows) {
    const { name } = row
    if (!name.startsWith(prefix)) continue
    const at = delimiter === null ? -1 : name.indexOf(delimiter, prefix.length)
    if (at < 0) {
      if (compareNames(name, after) > 0) yield { _tag: "Row", row }
      continue
    }
    const common = name.slice(0, at + 1)
    if (common === last) continue
    last = common
    if (compareNames(common, after) > 0) yield { _tag: "Prefix", prefix: common }
  }
}
