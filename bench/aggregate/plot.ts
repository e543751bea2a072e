/**
 * The plot: the time of a load over the length of the stream, both logarithmic, as an SVG that follows the reader's light
 * or dark scheme.
 */
import type { Figures } from "./measure.js"

const width = 760
const height = 420
const area = { left: 64, right: 590, top: 32, bottom: 368 }

/** Readable on white and on black; a colour for each pair, the replays have that of their events' first pair. */
const colors = ["#2f81f7", "#d9730d", "#1a9e77", "#a855c7"]

interface Line {
  readonly name: string
  readonly color: string
  readonly dashed: boolean
  readonly points: ReadonlyArray<readonly [length: number, ms: number]>
}

const linesOf = (figures: ReadonlyArray<Figures>): ReadonlyArray<Line> => {
  const groups = new Map<string, Array<Figures>>()
  for (const each of figures) {
    const name = each.snapshots === null ? `${each.events}, all events` : `${each.events}/${each.snapshots}`
    groups.set(name, [...(groups.get(name) ?? []), each])
  }
  const pairs = [...groups].filter(([, [first]]) => first?.snapshots !== null).map(([name]) => name)
  return [...groups].map(([name, group]) => {
    const dashed = group[0]?.snapshots === null
    const pair = dashed ? pairs.findIndex((pair) => pair.startsWith(`${group[0]?.events}/`)) : pairs.indexOf(name)
    return {
      name,
      color: colors[pair % colors.length] ?? "currentColor",
      dashed,
      points: group.toSorted((a, b) => a.length - b.length).map(({ length, p50Ms }) => [length, p50Ms])
    }
  })
}

const powersWithin = (values: ReadonlyArray<number>): { readonly first: number; readonly last: number } => ({
  first: Math.floor(Math.log10(Math.min(...values)) + 1e-9),
  last: Math.ceil(Math.log10(Math.max(...values)) - 1e-9)
})

const powers = ({ first, last }: { readonly first: number; readonly last: number }): ReadonlyArray<number> =>
  Array.from({ length: last - first + 1 }, (_, i) => first + i)

const duration = (power: number): string =>
  power >= 3 ? `${10 ** (power - 3)} s` : power >= 0 ? `${10 ** power} ms` : `${10 ** (power + 3)} µs`

/** Labels stand where their lines end, and where two would cover each other, below. */
const spacedOut = (ys: ReadonlyArray<number>): ReadonlyArray<number> => {
  const spaced = [...ys]
  let lowest = Number.NEGATIVE_INFINITY
  for (const [i, y] of [...ys.entries()].sort((a, b) => a[1] - b[1])) {
    lowest = Math.max(y, lowest + 17)
    spaced[i] = lowest
  }
  return spaced
}

export const plot = (figures: ReadonlyArray<Figures>): string => {
  const lines = linesOf(figures)
  const points = lines.flatMap((line) => line.points)
  const xs = powersWithin(points.map(([length]) => length))
  const ys = powersWithin(points.map(([, ms]) => ms))
  const scale = (from: number, to: number, { first, last }: typeof xs, value: number) =>
    Number((from + ((to - from) * (Math.log10(value) - first)) / Math.max(1, last - first)).toFixed(1))
  const x = (length: number) => scale(area.left, area.right, xs, length)
  const y = (ms: number) => scale(area.bottom, area.top, ys, ms)
  const ends = spacedOut(lines.map(({ points }) => y(points.at(-1)?.[1] ?? 1)))
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" font-family="system-ui, sans-serif" font-size="13">`,
    "<title>Time of loading an aggregate over the number of its events, with and without snapshots</title>",
    "<style>text{fill:#424a53}.grid{stroke:#d0d7de}@media(prefers-color-scheme:dark){text{fill:#b7bfc8}.grid{stroke:#3d444d}}</style>",
    ...powers(xs).flatMap((power) => {
      const at = x(10 ** power)
      return [
        `<line class="grid" x1="${at}" y1="${area.top}" x2="${at}" y2="${area.bottom}"/>`,
        `<text x="${at}" y="${area.bottom + 20}" text-anchor="middle">${(10 ** power).toLocaleString("en-US")}</text>`
      ]
    }),
    ...powers(ys).flatMap((power) => {
      const at = y(10 ** power)
      return [
        `<line class="grid" x1="${area.left}" y1="${at}" x2="${area.right}" y2="${at}"/>`,
        `<text x="${area.left - 8}" y="${at + 4}" text-anchor="end">${duration(power)}</text>`
      ]
    }),
    `<text x="8" y="14">time of a load, median</text>`,
    `<text x="${(area.left + area.right) / 2}" y="${height - 10}" text-anchor="middle">events in the stream</text>`,
    ...lines.flatMap(({ color, dashed, name, points }, i) => [
      `<polyline fill="none" stroke="${color}" stroke-width="2"${dashed ? ` stroke-dasharray="6 5"` : ""} points="${points
        .map(([length, ms]) => `${x(length)},${y(ms)}`)
        .join(" ")}"/>`,
      ...points.map(([length, ms]) => `<circle cx="${x(length)}" cy="${y(ms)}" r="3" fill="${color}"/>`),
      `<text x="${area.right + 12}" y="${(ends[i] ?? 0) + 4}" style="fill:${color}">${name}</text>`
    ]),
    "</svg>",
    ""
  ].join("\n")
}
