/**
 * The plot of loads: their time over the length of the stream.
 */
import { count, duration, type Line, type Plot, powersAround } from "../plot.js"
import type { Figures } from "./measure.js"

const linesOf = (figures: ReadonlyArray<Figures>): ReadonlyArray<Line> => {
  const groups = new Map<string, Array<Figures>>()
  for (const each of figures) {
    const name = each.snapshots === null ? `${each.events}, all events` : `${each.events}/${each.snapshots}`
    groups.set(name, [...(groups.get(name) ?? []), each])
  }
  const pairs = [...groups].filter(([, [first]]) => first?.snapshots !== null).map(([name]) => name)
  return [...groups].map(([name, group]) => {
    const isDashed = group[0]?.snapshots === null
    // A replay has the colour of its events' first pair.
    const color = isDashed ? pairs.findIndex((pair) => pair.startsWith(`${group[0]?.events}/`)) : pairs.indexOf(name)
    const points = group.toSorted((a, b) => a.length - b.length).map(({ length, p50Ms }) => [length, p50Ms] as const)
    return { name, color, isDashed, points }
  })
}

export const plotOf = (figures: ReadonlyArray<Figures>): Plot => {
  const lines = linesOf(figures)
  const points = lines.flatMap((line) => line.points)
  return {
    title: "Time of loading an aggregate over the number of its events, with and without snapshots",
    x: {
      label: "events in the stream",
      ticks: powersAround(points.map(([length]) => length)),
      isLogarithmic: true,
      format: count
    },
    y: {
      label: "time of a load, median",
      ticks: powersAround(points.map(([, ms]) => ms)),
      isLogarithmic: true,
      format: duration
    },
    lines
  }
}
