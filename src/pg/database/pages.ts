/**
 * Pages bounded by bytes in the statement itself, so that nothing beyond the page leaves the server. `octet_length`
 * asks a value in the TOAST table for its size without reading it.
 */
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

/** The rows that such a statement has returned, as a page. */
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
