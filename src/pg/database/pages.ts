/**
 * Pages of rows and of values. Rows are bounded by bytes in the statement itself, so that nothing beyond the page
 * leaves the server: `octet_length` asks a value in the TOAST table for its size without reading it.
 */
import * as Effect from "effect/Effect"
import type Pg from "pg"
import { turn } from "../../internal/fibers.js"
import type { Direction, Page, PageBounds } from "../../internal/pages.js"

export interface BoundedRows {
  /** The columns of a row's payload, none of which is null. */
  readonly payload: ReadonlyArray<string>
  /** `from ... where ...` */
  readonly rows: string
  readonly key: string
  readonly direction: "asc" | "desc"
  /** Parameters. */
  readonly limit: string
  readonly maxBytes: string
}

export const orderOf = (direction: Direction) => (direction === "forward" ? "asc" : "desc")

export const bytesOf = (payload: ReadonlyArray<string>): string =>
  payload.map((column) => `octet_length(${column})`).join(" + ")

/** How many rows a page has: those before which the payloads have not reached `maxBytes`. */
export const rowCount = ({ direction, key, limit, maxBytes, payload, rows }: BoundedRows): string => `(
  select count(*)
  from (
    select sum(bytes) over (order by ${key} ${direction} rows between unbounded preceding and 1 preceding) as before
    from (select ${key}, ${bytesOf(payload)} as bytes ${rows} order by ${key} ${direction} limit ${limit}) as sized
  ) as measured
  where before is null or before < ${maxBytes}
)`

/** Values in one row of `distinct`. Taking a row apart costs the driver as much as fifty values of JSON. */
const valuesPerRow = 1_000

/**
 * Values, from a column called `value`. The server sends them as rows of many, because 200,000 rows of one would hold
 * the event loop for 100 ms.
 */
const inPieces = (values: string): string => `
  select json_agg(value order by value)::text
  from (
    select value, (row_number() over (order by value) - 1) / ${valuesPerRow} as piece
    from (${values}) as page
  ) as numbered
  group by piece order by piece`

/** The distinct values of a column in order, after the parameter `$1` and `$2` at most. */
export const distinct = (column: string, table: string, where: string): string =>
  inPieces(`
      select distinct ${column} as value from ${table}
      where ${column} is not null and ($1::text is null or ${column} > $1)${where}
      order by value limit $2`)

/** The same where an index has them in order, and few: a look-up of the next value for each. No value is empty. */
export const loose = (column: string, table: string, where: string): string => {
  const next = (after: string) =>
    `select ${column} from ${table} where ${column} > ${after}${where} order by ${column} limit 1`
  return inPieces(`
      with recursive found (value) as (
        (${next("coalesce($1::text, '')")})
        union all
        select (${next("found.value")}) from found where value is not null
      )
      select value from found where value is not null limit $2`)
}

export const distinctRows = ({ rows }: Pg.QueryResult) => rows as ReadonlyArray<readonly [values: string]>

/** Rows of values that are taken apart in one turn of the event loop, about 10 ms. */
const rowsPerTurn = 16

export const valuesOf = (
  rows: ReadonlyArray<readonly [values: string]>,
  values: Array<string> = [],
  from = 0
): Effect.Effect<ReadonlyArray<string>> =>
  Effect.suspend(() => {
    const to = from + rowsPerTurn
    for (const [text] of rows.slice(from, to)) values.push(...(JSON.parse(text) as ReadonlyArray<string>))
    return to < rows.length ? Effect.zipRight(turn, valuesOf(rows, values, to)) : Effect.succeed(values)
  })

/** The rows that a statement bounded by bytes has returned, as a page. */
export const pageOf = <Row, A>(
  rows: ReadonlyArray<Row>,
  { limit, maxBytes }: PageBounds,
  payloadOf: (row: Row) => ReadonlyArray<string | null>,
  fromRows: (rows: ReadonlyArray<Row>) => ReadonlyArray<A>
): Page<A> => ({ items: fromRows(rows), more: rows.length >= limit || reaches(rows, maxBytes, payloadOf) })

/** Whether the payloads have so many bytes, which are counted only if their length leaves it open. */
const reaches = <Row>(
  rows: ReadonlyArray<Row>,
  bytes: number,
  payloadOf: (row: Row) => ReadonlyArray<string | null>
): boolean => {
  const sum = (measure: (text: string) => number) => {
    let total = 0
    for (const row of rows) for (const text of payloadOf(row)) total += text === null ? 0 : measure(text)
    return total
  }
  const length = sum((text) => text.length)
  // A UTF-16 unit takes one to three bytes of UTF-8.
  if (length >= bytes || length * 3 < bytes) return length >= bytes
  return sum((text) => Buffer.byteLength(text)) >= bytes
}
