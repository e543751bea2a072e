/**
 * What loads cost, as lines for a terminal and as tables for the docs, and whether they cost the same at every length.
 */
import type { Figures } from "./measure.js"

/** A load with a snapshot beside the replay of the same stream without. */
export interface Row {
  readonly load: Figures
  readonly replay: Figures
  /** The replay's median over the load's. */
  readonly gain: number
}

export const rowsOf = (figures: ReadonlyArray<Figures>): ReadonlyArray<Row> =>
  figures.flatMap((load) => {
    if (load.snapshots === null) return []
    const { bytes, events, length } = load
    const replay = figures.find(
      (other) => other.snapshots === null && other.events === events && other.bytes === bytes && other.length === length
    )
    return replay === undefined ? [] : [{ load, replay, gain: replay.p50Ms / load.p50Ms }]
  })

/** Loads with a snapshot of streams from this length on should cost the same, up to the spread. */
const flatFrom = 1_000
const spreadMax = 1.25

export interface Spread {
  readonly pair: string
  readonly bytes: number
  /** The slowest length's median over the fastest's. */
  readonly spread: number
  readonly bar: number
  readonly met: boolean
}

export const spreadsOf = (rows: ReadonlyArray<Row>): ReadonlyArray<Spread> => {
  const groups = new Map<string, Array<Row>>()
  for (const row of rows) {
    if (row.load.length < flatFrom) continue
    const key = JSON.stringify([pairOf(row), row.load.bytes])
    groups.set(key, [...(groups.get(key) ?? []), row])
  }
  return [...groups.values()].flatMap((group) => {
    const [first] = group
    if (first === undefined || group.length < 2) return []
    const medians = group.map(({ load }) => load.p50Ms)
    const spread = Math.max(...medians) / Math.min(...medians)
    return [{ pair: pairOf(first), bytes: first.load.bytes, spread, bar: spreadMax, met: spread <= spreadMax }]
  })
}

export const pairOf = ({ load }: Row): string => `${load.events}/${load.snapshots}`

export const print = (rows: ReadonlyArray<Row>): void => {
  const widths = [14, 8, 11, 11, 11, 12, 11, 9]
  const line = (cells: ReadonlyArray<string>) =>
    console.log(
      cells.map((cell, i) => (i === 0 ? cell.padEnd(widths[i] ?? 0) : cell.padStart(widths[i] ?? 0))).join("")
    )
  line(["", "", "", "snapshot", "", "all events", "", ""])
  line(["", "bytes", "events", "p50 ms", "p99 ms", "p50 ms", "p99 ms", "gain"])
  const cells = ({ p50Ms, p99Ms }: Figures) => [milliseconds(p50Ms), p99Ms === null ? "" : milliseconds(p99Ms)]
  for (const row of rows) {
    const { gain, load, replay } = row
    line([pairOf(row), number(load.bytes), number(load.length), ...cells(load), ...cells(replay), times(gain)])
  }
}

export const printSpreads = (spreads: ReadonlyArray<Spread>): void => {
  console.log(`\nslowest over fastest length with a snapshot, from ${number(flatFrom)} events on (bar ${spreadMax})`)
  for (const { bytes, met, pair, spread } of spreads) {
    console.log(
      `  ${pair.padEnd(14)} ${number(bytes).padStart(6)} bytes  ${spread.toFixed(2)} ${met ? "met" : "MISSED"}`
    )
  }
}

/** A table for each size of payload, medians in milliseconds. */
export const markdown = (rows: ReadonlyArray<Row>, spreads: ReadonlyArray<Spread>): string =>
  [...new Set(rows.map(({ load }) => load.bytes))]
    .map((bytes) => {
      const ofSize = rows.filter(({ load }) => load.bytes === bytes)
      const pairs = [...new Set(ofSize.map(pairOf))]
      const head = pairs.flatMap((pair, i) => [
        ...(sameEvents(pairs[i - 1], pair) ? [] : [`${eventsOf(pair)}, all events`]),
        pair,
        "gain"
      ])
      const lengths = [...new Set(ofSize.map(({ load }) => load.length))]
      const body = lengths.map((length) => [
        number(length),
        ...pairs.flatMap((pair, i) => {
          const row = ofSize.find((row) => pairOf(row) === pair && row.load.length === length)
          if (row === undefined) return []
          const replay = sameEvents(pairs[i - 1], pair) ? [] : [cellOf(row.replay)]
          return [...replay, cellOf(row.load), times(row.gain)]
        })
      ])
      const spread = pairs.flatMap((pair) => {
        const found = spreads.find((each) => each.pair === pair && each.bytes === bytes)
        return found === undefined
          ? []
          : [`${pair} ${found.met ? "" : "**"}${found.spread.toFixed(2)}${found.met ? "" : "**"}`]
      })
      return [
        `Events with ${number(bytes)} bytes of data:`,
        "",
        align([["events", ...head], ...body]),
        "",
        `Slowest over fastest length from ${number(flatFrom)} events on: ${spread.join(", ")}.`
      ].join("\n")
    })
    .join("\n\n")

const eventsOf = (pair: string): string => pair.slice(0, pair.indexOf("/"))
const sameEvents = (a: string | undefined, b: string): boolean => a !== undefined && eventsOf(a) === eventsOf(b)

const cellOf = ({ p50Ms, p99Ms }: Figures): string =>
  p99Ms === null ? milliseconds(p50Ms) : `${milliseconds(p50Ms)} (${milliseconds(p99Ms)})`

const align = (lines: ReadonlyArray<ReadonlyArray<string>>): string => {
  const widths = (lines[0] ?? []).map((_, i) => Math.max(...lines.map((line) => line[i]?.length ?? 0)))
  const row = (cells: ReadonlyArray<string>) =>
    `| ${cells.map((cell, i) => cell.padStart(widths[i] ?? 0)).join(" | ")} |`
  const [head = [], ...body] = lines
  return [row(head), `| ${widths.map((width) => `${"-".repeat(width - 1)}:`).join(" | ")} |`, ...body.map(row)].join(
    "\n"
  )
}

const milliseconds = (ms: number): string =>
  ms >= 100 ? number(Math.round(ms)) : ms.toFixed(ms < 1 ? 3 : ms < 10 ? 2 : 1)
const times = (gain: number): string => `${gain < 10 ? gain.toFixed(1) : number(Math.round(gain))}×`
const number = (value: number): string => value.toLocaleString("en-US")
