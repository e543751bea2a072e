/**
 * The plots of latencies: the percentiles of one kind of operation of each load, a plot for each database.
 */
import { draw as drawPlot, duration, powersAround } from "../plot.js"
import type { Measured } from "./bench.js"

const percentiles = [
  ["p50", "p50Ms"],
  ["p95", "p95Ms"],
  ["p99", "p99Ms"],
  ["p999", "p999Ms"]
] as const

export const draw = (results: ReadonlyArray<Measured>, directory: string): void => {
  for (const backend of new Set(results.map((result) => result.backend))) {
    const lines = results
      .filter((result) => result.backend === backend)
      .flatMap(({ load, plotted, variants }, color) => {
        const kind = variants.find(({ isSealed }) => !isSealed)?.kinds.find(({ kind }) => kind === plotted)
        if (kind === undefined) return []
        return [
          { name: nameOf(load, plotted), color, points: percentiles.map(([, key], i) => [i, kind[key]] as const) }
        ]
      })
    drawPlot(`${directory}/latency-${backend.toLowerCase()}.svg`, {
      title: `Latency of one kind of operation of each load, ${backend}`,
      x: {
        label: "percentile",
        ticks: percentiles.map((_, i) => i),
        isLogarithmic: false,
        format: (i) => percentiles[i]?.[0] ?? ""
      },
      y: {
        label: `latency, ${backend}`,
        ticks: powersAround(lines.flatMap(({ points }) => points.map(([, ms]) => ms))),
        isLogarithmic: true,
        format: duration
      },
      lines
    })
  }
}

const nameOf = (load: string, kind: string): string => (load.includes("%") ? `${load.split(",")[0]}: ${kind}` : load)
