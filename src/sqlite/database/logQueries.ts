/**
 * The queries that the ports of EventStore and CommandStore ask alike. A statement of SQLite keeps the event loop until
 * it has returned, so one that would look through many records is asked for a stretch of positions at a time.
 */
import * as Effect from "effect/Effect"
import type { ReadFailure } from "../../Errors.js"
import { turn } from "../../internal/fibers.js"
import { byBytes } from "../../internal/pages.js"
import type { StoreAccess } from "./access.js"
import type { StepConnection } from "./connection.js"

/** A statement, and what to bind before its own parameters and behind them. */
export interface Query {
  readonly text: string
  readonly before: ReadonlyArray<unknown>
  readonly params: ReadonlyArray<unknown>
}

/** Where records are found: a table or a subquery, what to bind in it, and conditions, each after an AND. */
export interface Source {
  readonly from: string
  readonly before: ReadonlyArray<unknown>
  readonly where: string
  readonly params: ReadonlyArray<unknown>
}

/** Each query takes the value to begin after, and the number of values. */
type DistinctQuery =
  /** By index, in order, so that a short page costs little however many there are. */
  | { readonly inOrder: Query }
  | {
      readonly all: Query
      /** The same of a stretch of positions, whose ends it takes first. */
      readonly stretch: Query
      /** An index finds few records. */
      readonly few: boolean
    }

/** Records that one turn of the event loop looks through, some 5 ms. */
export const stretchLength = 16_384

/** Values that one turn takes from an index. */
const inOrderMax = 8_192

export const boundsOf = (table: string): string =>
  `SELECT coalesce((SELECT min(position) FROM ${table}), 1), coalesce((SELECT max(position) FROM ${table}), 0)`

export const distinctOf = (column: string, { before, from, params, where }: Source): Query => ({
  text: `SELECT DISTINCT ${column} FROM ${from} WHERE ${column} > ?${where} ORDER BY 1 LIMIT ?`,
  before,
  params
})

export const stretchOf = (column: string, { before, from, params, where }: Source): Query => ({
  text: `SELECT DISTINCT ${column} FROM ${from}
    WHERE position BETWEEN ? AND ? AND ${column} > ?${where} ORDER BY 1 LIMIT ?`,
  before,
  params
})

/** By index: each value by a look-up of the next one after it. */
export const looseOf = (
  column: string,
  table: string,
  { params, where }: { readonly where: string; readonly params: ReadonlyArray<unknown> }
): Query => {
  const next = (after: string) =>
    `SELECT ${column} AS value FROM ${table} WHERE ${column} > ${after}${where} ORDER BY ${column} LIMIT 1`
  return {
    text: `WITH RECURSIVE found (value) AS (
        SELECT value FROM (${next("?")})
        UNION ALL
        SELECT (${next("found.value")}) FROM found WHERE value IS NOT NULL
      )
      SELECT value FROM found WHERE value IS NOT NULL LIMIT ?`,
    before: [],
    params: [...params, ...params]
  }
}

export const logQueries = <Row, Encoded, Field, Filter>(
  database: StoreAccess,
  sql: {
    readonly get: string
    readonly bounds: string
    /** May look how much an index finds. */
    readonly distinct: (connection: StepConnection, field: Field, filter: Filter) => DistinctQuery
    readonly count: (connection: StepConnection, filter: Filter) => Query
  },
  fromRow: (row: Row) => Encoded
) => {
  const valuesOf = (
    connection: StepConnection,
    { before, params, text }: Query,
    {
      after,
      from = [],
      limit
    }: { readonly from?: ReadonlyArray<number>; readonly after: string; readonly limit: number }
  ): ReadonlyArray<string> =>
    (connection.prepare(text).all(...before, ...from, after, ...params, limit) as ReadonlyArray<[string]>).map(
      ([value]) => value
    )

  const inOrder = (query: Query, after: string, limit: number): Effect.Effect<ReadonlyArray<string>, ReadFailure> =>
    Effect.flatMap(
      database.read("distinct", (connection) =>
        valuesOf(connection, query, { after, limit: Math.min(limit, inOrderMax) })
      ),
      (values) => {
        const last = values[values.length - 1]
        return last === undefined || values.length < inOrderMax || values.length === limit
          ? Effect.succeed(values)
          : Effect.map(inOrder(query, last, limit - values.length), (rest) => values.concat(rest))
      }
    )

  /** `found` are the values of the positions before. What is appended meanwhile is for the next look. */
  const byStretches = (
    query: Query,
    after: string,
    limit: number,
    first: number,
    last: number,
    found: ReadonlyArray<string> = []
  ): Effect.Effect<ReadonlyArray<string>, ReadFailure> =>
    Effect.flatMap(
      database.read("distinct", (connection) => {
        const end = Math.min(last, first + stretchLength - 1)
        return valuesOf(connection, query, { from: [first, end], after, limit })
      }),
      (values) =>
        Effect.flatMap(merged(found, values, limit), (found) => {
          const next = first + stretchLength
          return next > last ? Effect.succeed(found) : byStretches(query, after, limit, next, last, found)
        })
    )

  return {
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
    }): Effect.Effect<ReadonlyArray<string>, ReadFailure> => {
      const { limit } = request
      // No value is empty, so all are greater than the empty string.
      const after = request.after ?? ""
      return Effect.flatMap(
        database.read("distinct", (connection) => {
          const query = sql.distinct(connection, request.field, request.filter)
          if ("inOrder" in query) return query
          const [first, last] = connection.prepare(sql.bounds).get() as [number, number]
          return query.few || last - first < stretchLength
            ? { values: valuesOf(connection, query.all, { after, limit }) }
            : { stretch: query.stretch, first, last }
        }),
        (found) =>
          "values" in found
            ? Effect.succeed(found.values)
            : "inOrder" in found
              ? inOrder(found.inOrder, after, limit)
              : byStretches(found.stretch, after, limit, found.first, found.last)
      )
    },

    count: (filter: Filter): Effect.Effect<number, ReadFailure> =>
      database.read("count", (connection) => {
        const { before, params, text } = sql.count(connection, filter)
        return (connection.prepare(text).get(...before, ...params) as [number])[0]
      })
  }
}

/** The first values of two lists that are in order, each once; many in several turns. */
const merged = (
  a: ReadonlyArray<string>,
  b: ReadonlyArray<string>,
  limit: number
): Effect.Effect<ReadonlyArray<string>> => {
  const values: Array<string> = []
  let i = 0
  let j = 0
  const some = (until: number): Effect.Effect<ReadonlyArray<string>> =>
    Effect.suspend(() => {
      while (values.length < until) {
        const x = a[i]
        const y = b[j]
        if (x === undefined && y === undefined) return Effect.succeed(values)
        const order = x === undefined ? 1 : y === undefined ? -1 : byBytes(x, y)
        if (order <= 0) i++
        if (order >= 0) j++
        values.push((order <= 0 ? x : y) as string)
      }
      return until === limit
        ? Effect.succeed(values)
        : Effect.zipRight(turn, some(Math.min(limit, until + stretchLength)))
    })
  return some(Math.min(limit, stretchLength))
}
