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

export interface Query {
  readonly text: string
  readonly params: ReadonlyArray<unknown>
}

interface Filtered {
  readonly where: string
  readonly params: ReadonlyArray<unknown>
}

interface DistinctQuery {
  /** By index, in order, so that a short page costs little however many there are. */
  readonly inOrder: boolean
  /** Takes the value to begin after, the filter, and the number of values. */
  readonly all: Query
  /** The same of a stretch of positions, whose ends it takes first. */
  readonly stretch: Query
  /** Counts what an index finds of the filter, up to a number that it takes last. */
  readonly few: Query | undefined
}

/** Records that one turn of the event loop looks through, some 5 ms. */
const stretchLength = 16_384

/** Values that one turn takes from an index. */
const inOrderMax = 8_192

export const boundsOf = (table: string): string =>
  `SELECT coalesce((SELECT min(position) FROM ${table}), 1), coalesce((SELECT max(position) FROM ${table}), 0)`

export const distinctOf = (
  column: string,
  table: string,
  { params, where }: Filtered
): Pick<DistinctQuery, "all" | "stretch"> => {
  const rest = `${column} > ?${where} ORDER BY 1 LIMIT ?`
  return {
    all: { text: `SELECT DISTINCT ${column} FROM ${table} WHERE ${rest}`, params },
    stretch: {
      // An index would be looked through as a whole for every stretch.
      text: `SELECT DISTINCT ${column} FROM ${table} NOT INDEXED WHERE position BETWEEN ? AND ? AND ${rest}`,
      params
    }
  }
}

export const fewOf = (table: string, { params, where }: Filtered): Query => ({
  text: `SELECT count(*) FROM (SELECT 1 FROM ${table} WHERE true${where} LIMIT ?)`,
  params
})

export const logQueries = <Row, Encoded, Field, Filter>(
  database: StoreAccess,
  sql: {
    readonly get: string
    readonly bounds: string
    readonly distinct: (field: Field, filter: Filter) => DistinctQuery
    readonly count: (filter: Filter) => Query
  },
  fromRow: (row: Row) => Encoded
) => {
  const valuesOf = (
    connection: StepConnection,
    { params, text }: Query,
    {
      after,
      from = [],
      limit
    }: { readonly from?: ReadonlyArray<number>; readonly after: string; readonly limit: number }
  ): ReadonlyArray<string> =>
    (connection.prepare(text).all(...from, after, ...params, limit) as ReadonlyArray<[string]>).map(([value]) => value)

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
      const query = sql.distinct(request.field, request.filter)
      const { limit } = request
      // No value is empty, so all are greater than the empty string.
      const after = request.after ?? ""
      if (query.inOrder) return inOrder(query.all, after, limit)
      const isShort = (connection: StepConnection, first: number, last: number): boolean => {
        if (last - first < stretchLength) return true
        if (query.few === undefined) return false
        const { params, text } = query.few
        return (connection.prepare(text).get(...params, stretchLength) as [number])[0] < stretchLength
      }
      return Effect.flatMap(
        database.read("distinct", (connection) => {
          const [first, last] = connection.prepare(sql.bounds).get() as [number, number]
          return isShort(connection, first, last)
            ? { values: valuesOf(connection, query.all, { after, limit }) }
            : { first, last, values: undefined }
        }),
        ({ first, last, values }) =>
          values === undefined ? byStretches(query.stretch, after, limit, first, last) : Effect.succeed(values)
      )
    },

    count: (filter: Filter): Effect.Effect<number, ReadFailure> =>
      database.read("count", (connection) => {
        const { params, text } = sql.count(filter)
        return (connection.prepare(text).get(...params) as [number])[0]
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
