/**
 * The queries that the ports of EventStore and CommandStore ask alike.
 */
import type * as Effect from "effect/Effect"
import type { ReadFailure } from "../../Errors.js"
import type { StoreAccess } from "./access.js"

interface Query {
  readonly text: string
  readonly params: ReadonlyArray<unknown>
}

export const logQueries = <Row, Encoded, Field, Filter>(
  database: StoreAccess,
  sql: {
    readonly get: string
    readonly distinct: (field: Field, filter: Filter) => Query
    readonly count: (filter: Filter) => Query
  },
  fromRow: (row: Row) => Encoded
) => ({
  get: (id: string): Effect.Effect<Encoded | null, ReadFailure> =>
    database.read("get", (connection) => {
      const row = connection.prepare(sql.get).get(id) as Row | undefined
      return row === undefined ? null : fromRow(row)
    }),

  distinct: (request: {
    readonly field: Field
    readonly filter: Filter
    readonly after: string | null
    readonly limit: number
  }): Effect.Effect<ReadonlyArray<string>, ReadFailure> =>
    database.read("distinct", (connection) => {
      const { params, text } = sql.distinct(request.field, request.filter)
      // No value is empty, so all are greater than the empty string.
      const rows = connection.prepare(text).all(request.after ?? "", ...params, request.limit) as Array<[string]>
      return rows.map(([value]) => value)
    }),

  count: (filter: Filter): Effect.Effect<number, ReadFailure> =>
    database.read("count", (connection) => {
      const { params, text } = sql.count(filter)
      return (connection.prepare(text).get(...params) as [number])[0]
    })
})
