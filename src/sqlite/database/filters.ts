/**
 * The conditions of a filter as SQLite's text.
 */
import { type AnyOf, type Conditions, compile } from "../../sql/filters.js"

export const anyOf: AnyOf = (column, values, bind) =>
  values.length === 1
    ? `${column} = ${bind(values[0])}`
    : `${column} IN (SELECT value FROM json_each(${bind(JSON.stringify(values))}))`

/** Keeps a column out of the choice of an index. */
export const unindexed = (column: string): string => `+${column}`

/** The conditions of a filter, each after an AND, and what to bind. */
export const filtered = <F extends object>(
  conditions: Conditions<F>,
  filter: F
): { readonly where: string; readonly params: ReadonlyArray<unknown> } => {
  const params: Array<unknown> = []
  const { sql } = compile(conditions, filter, (value) => {
    params.push(value)
    return "?"
  })
  return { where: sql.map((condition) => ` AND ${condition}`).join(""), params }
}
