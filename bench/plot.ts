/**
 * Plots as SVG that follow the reader's light or dark scheme: lines over an axis of numbers or of names, with a
 * logarithmic axis for what is measured.
 */
import { writeText } from "./report.js"

const width = 760
const height = 420
const area = { left: 64, right: 560, top: 32, bottom: 368 }

/** Readable on white and on black. */
const colors = ["#2f81f7", "#d9730d", "#1a9e77", "#a855c7", "#c9375c", "#8a6d00", "#5c7080"]

export interface Axis {
  readonly label: string
  /** From the first to the last of them the axis reaches. */
  readonly ticks: ReadonlyArray<number>
  readonly isLogarithmic: boolean
  readonly format: (tick: number) => string
}

export interface Line {
  readonly name: string
  /** Lines of one number have one colour. */
  readonly color: number
  readonly isDashed?: boolean
  readonly points: ReadonlyArray<readonly [x: number, y: number]>
}

export interface Plot {
  readonly title: string
  readonly x: Axis
  readonly y: Axis
  readonly lines: ReadonlyArray<Line>
}

/** The powers of ten around all values. */
export const powersAround = (values: ReadonlyArray<number>): ReadonlyArray<number> => {
  const first = Math.floor(Math.log10(Math.min(...values)) + 1e-9)
  const last = Math.ceil(Math.log10(Math.max(...values)) - 1e-9)
  return Array.from({ length: Math.max(1, last - first) + 1 }, (_, i) => 10 ** (first + i))
}

export const duration = (ms: number): string =>
  ms >= 1_000 ? `${ms / 1_000} s` : ms >= 1 ? `${ms} ms` : `${Math.round(ms * 1_000)} µs`

export const count = (value: number): string => value.toLocaleString("en-US")

const scaled = ({ isLogarithmic, ticks }: Axis, from: number, to: number) => {
  const of = isLogarithmic ? Math.log10 : (value: number) => value
  const [first, last] = [of(ticks[0] ?? 1), of(ticks.at(-1) ?? 10)]
  return (value: number) => Number((from + ((to - from) * (of(value) - first)) / (last - first)).toFixed(1))
}

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

export const svg = ({ lines, title, x: xAxis, y: yAxis }: Plot): string => {
  const x = scaled(xAxis, area.left, area.right)
  const y = scaled(yAxis, area.bottom, area.top)
  const ends = spacedOut(lines.map(({ points }) => y(points.at(-1)?.[1] ?? 1)))
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" font-family="system-ui, sans-serif" font-size="13">`,
    `<title>${title}</title>`,
    "<style>text{fill:#424a53}.grid{stroke:#d0d7de}@media(prefers-color-scheme:dark){text{fill:#b7bfc8}.grid{stroke:#3d444d}}</style>",
    ...xAxis.ticks.flatMap((tick) => [
      `<line class="grid" x1="${x(tick)}" y1="${area.top}" x2="${x(tick)}" y2="${area.bottom}"/>`,
      `<text x="${x(tick)}" y="${area.bottom + 20}" text-anchor="middle">${xAxis.format(tick)}</text>`
    ]),
    ...yAxis.ticks.flatMap((tick) => [
      `<line class="grid" x1="${area.left}" y1="${y(tick)}" x2="${area.right}" y2="${y(tick)}"/>`,
      `<text x="${area.left - 8}" y="${y(tick) + 4}" text-anchor="end">${yAxis.format(tick)}</text>`
    ]),
    `<text x="8" y="14">${yAxis.label}</text>`,
    `<text x="${(area.left + area.right) / 2}" y="${height - 10}" text-anchor="middle">${xAxis.label}</text>`,
    ...lines.flatMap(({ color, isDashed, name, points }, i) => {
      const drawn = colors[color % colors.length]
      return [
        `<polyline fill="none" stroke="${drawn}" stroke-width="2"${isDashed ? ` stroke-dasharray="6 5"` : ""} points="${points
          .map(([px, py]) => `${x(px)},${y(py)}`)
          .join(" ")}"/>`,
        ...points.map(([px, py]) => `<circle cx="${x(px)}" cy="${y(py)}" r="3" fill="${drawn}"/>`),
        `<text x="${area.right + 12}" y="${(ends[i] ?? 0) + 4}" style="fill:${drawn}">${name}</text>`
      ]
    }),
    "</svg>",
    ""
  ].join("\n")
}

export const draw = (file: string, plot: Plot): void => writeText(file, svg(plot))
