/**
 * Filters as SQL conditions: a table for each store, with an entry for each field of its filter, so that a forgotten
 * field does not compile. The text is the same for each shape of filter, as prepared statements need it.
 */
import { identity } from "effect/Function"
import type { EncodedFilter as CommandFilter } from "../commandStore/CommandStoreEncoded.js"
import type { EncodedFilter as EventFilter } from "../eventStore/EventStoreEncoded.js"

/** Takes a value for the statement and returns the parameter that stands for it. */
export type Bind = (value: unknown) => string

/** How a dialect writes that a column has one of several values. */
export type AnyOf = (column: string, values: ReadonlyArray<string>, bind: Bind) => string

/** A condition for each field of a filter. */
export type Conditions<F> = {
  readonly [K in keyof F]-?: (value: Exclude<F[K], null>, bind: Bind) => string
}

const equals = (column: string) => (value: unknown, bind: Bind) => `${column} = ${bind(value)}`
const from = (column: string) => (value: number, bind: Bind) => `${column} >= ${bind(value)}`
const until = (column: string) => (value: number, bind: Bind) => `${column} < ${bind(value)}`

/** `address` may keep the columns of a stream's address from being looked up in an index. */
export const eventConditions = (
  anyOf: AnyOf,
  address: (column: string) => string = identity
): Conditions<EventFilter> => ({
  tenantId: equals(address("tenant_id")),
  domain: equals(address("domain")),
  aggregateId: equals(address("aggregate_id")),
  types: (types, bind) => anyOf("type", types, bind),
  commandId: equals("command_id"),
  createdFrom: from("created_ms"),
  createdUntil: until("created_ms")
})

/** `time` may keep the time from being looked up in an index. */
export const commandConditions = (
  anyOf: AnyOf,
  time: (column: string) => string = identity
): Conditions<CommandFilter> => ({
  tenantId: equals("tenant_id"),
  domain: equals("domain"),
  types: (types, bind) => anyOf("type", types, bind),
  statuses: (statuses, bind) => anyOf("status", statuses, bind),
  createdFrom: from(time("created_ms")),
  createdUntil: until(time("created_ms"))
})

/** The conditions of a filter, and its fields: two filters with the same fields have the same text. */
export const compile = <F extends object>(
  conditions: Conditions<F>,
  filter: F,
  bind: Bind
): { readonly shape: string; readonly sql: ReadonlyArray<string> } => {
  let shape = ""
  const sql: Array<string> = []
  for (const field of Object.keys(conditions) as Array<keyof F & string>) {
    const value = filter[field]
    shape += value === null ? "0" : "1"
    if (value !== null) sql.push(conditions[field](value as Exclude<F[typeof field], null>, bind))
  }
  return { shape, sql }
}
