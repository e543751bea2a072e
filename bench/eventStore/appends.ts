/**
 * The plots of appends: how many a second the sides do with so many callers, a plot for each database.
 */

import type { Measured } from "../parts.js"
import { count, draw as drawPlot, powersAround } from "../plot.js"

const appends = "append of 1 event to a new stream"

export const draw = (results: ReadonlyArray<Measured>, directory: string): void => {
  for (const backend of new Set(results.map((result) => result.backend))) {
    const measured = results.filter((result) => result.backend === backend && result.workload === appends)
    if (measured.length < 2) continue
    const sides = measured[0] === undefined ? [] : [measured[0].ours, ...measured[0].raw].map(({ side }) => side)
    const lines = sides.map((name, color) => ({
      name,
      color,
      isDashed: name.includes("bare"),
      points: measured.flatMap(({ concurrency, ours, raw }) => {
        const found = [ours, ...raw].find(({ side }) => side === name)
        return found === undefined ? [] : [[concurrency, found.operationsPerSecond] as const]
      })
    }))
    drawPlot(`${directory}/appends-${backend.toLowerCase()}.svg`, {
      title: `Appends of one event a second over the number of concurrent callers, ${backend}`,
      x: {
        label: "callers at the same time",
        ticks: measured.map(({ concurrency }) => concurrency),
        isLogarithmic: true,
        format: count
      },
      y: {
        label: `appends a second, ${backend}`,
        ticks: powersAround(lines.flatMap(({ points }) => points.map(([, rate]) => rate))),
        isLogarithmic: true,
        format: count
      },
      lines
    })
  }
}
