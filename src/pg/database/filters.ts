/**
 * The conditions of a filter as PostgreSQL's text.
 */
import { type AnyOf, type Conditions, compile } from "../../sql/filters.js"

export const anyOf: AnyOf = (column, values, bind) => `${column} = any (${bind(values)})`

/**
 * The conditions of a filter, each after an `and`; its values are added to those that the statement has already.
 * `shape` tells the text apart.
 */
export const where = <F extends object>(
  conditions: Conditions<F>,
  filter: F,
  values: Array<unknown>
): { readonly shape: string; readonly sql: string } => {
  const { shape, sql } = compile(conditions, filter, (value) => `$${values.push(value)}`)
  return { shape, sql: sql.map((condition) => ` and ${condition}`).join("") }
}
