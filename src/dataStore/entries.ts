/**
 * Lists of names in order of their UTF-8 bytes, with what lies behind a delimiter given as one prefix: for backends
 * that cannot do it themselves.
 */
import type { ListRequest } from "./DataStoreEncoded.js"

/**
 * By UTF-8 bytes. JavaScript compares by UTF-16, which differs where a surrogate meets a character from U+E000 on:
 * those are moved to where UTF-8 has them. (The technique of fixing up code units is that of ICU.)
 */
export const compareNames = (a: string, b: string): number => {
  const length = Math.min(a.length, b.length)
  for (let i = 0; i < length; i++) {
    const left = a.charCodeAt(i)
    const right = b.charCodeAt(i)
    if (left !== right) return fixUp(left) - fixUp(right)
  }
  return a.length - b.length
}

const fixUp = (unit: number): number => (unit < 0xd800 ? unit : unit < 0xe000 ? unit + 0x2000 : unit - 0x800)

export interface Named {
  readonly name: string
}

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
