/**
 * The table that a bench prints, a line for each raw side, and the JSON it leaves.
 */
import { mkdirSync, writeFileSync } from "node:fs"
import { cpus } from "node:os"
import { dirname } from "node:path"
import type { Figures, Ratio, Result } from "./harness.js"

const widths = [41, 5, 10, 9, 9, 24, 10, 9, 9, 7, 13] as const
const leftAligned = new Set([0, 5])

const line = (cells: ReadonlyArray<string>): string =>
  cells
    .map((cell, i) => (leftAligned.has(i) ? cell.padEnd(widths[i] ?? 0) : cell.padStart(widths[i] ?? 0)))
    .join(" ")
    .trimEnd()

const cellsOf = ({ operationsPerSecond, p50Ms, p99Ms }: Figures) => [
  operationsPerSecond.toFixed(operationsPerSecond < 100 ? 1 : 0),
  p50Ms.toFixed(3),
  p99Ms.toFixed(3)
]

const isMissed = ({ bar, median }: Ratio): boolean => bar !== null && median < bar

const verdict = (ratio: Ratio): string =>
  ratio.bar === null ? "" : ` bar ${ratio.bar.toFixed(2)} ${isMissed(ratio) ? "MISSED" : "met"}`

/**
 * How many CPUs others keep busy, looked at for two seconds before anything runs. The load of the last minute would be
 * mostly what has ended.
 */
export const othersLoad = async (): Promise<number> => {
  const busyMs = () =>
    cpus().reduce((sum, { times: { idle: _, ...busy } }) => sum + Object.values(busy).reduce((a, b) => a + b, 0), 0)
  const before = busyMs()
  await new Promise((resolve) => setTimeout(resolve, 2_000))
  const load = (busyMs() - before) / 2_000
  if (load > 0.2) console.log(`Others keep ${load.toFixed(2)} of ${cpus().length} CPUs busy: measure again later.`)
  return load
}

export const heading = (backend: string): void => {
  console.log(`\n${backend}`)
  const side = ["op/s", "p50 ms", "p99 ms"]
  console.log(line(["", "at", ...side, "raw side", ...side, "ratio", "quartiles"]))
}

const isBelow = ({ events, least, ours }: Result): boolean =>
  least !== null && ours.operationsPerSecond * events < least

export const print = (result: Result): void => {
  const { concurrency, events, least, ours, raw, workload } = result
  const left = [workload, String(concurrency), ...cellsOf(ours)]
  if (raw.length === 0) console.log(line(left))
  for (const [i, side] of raw.entries()) {
    const { median, quartiles } = side.ratio
    const cells = [
      ...(i === 0 ? left : left.map(() => "")),
      side.side,
      ...cellsOf(side),
      median.toFixed(2),
      quartiles.map((q) => q.toFixed(2)).join("-")
    ]
    console.log(line(cells) + verdict(side.ratio))
  }
  if (least !== null) {
    const rate = Math.round(ours.operationsPerSecond * events)
    console.log(`  ${rate.toLocaleString("en-US")} per second, bar ${least} ${isBelow(result) ? "MISSED" : "met"}`)
  }
}

/** Which bars were missed, of how many. */
export const summary = (results: ReadonlyArray<Result & { readonly backend: string }>): void => {
  const held = results.flatMap(({ backend, concurrency, raw, workload }) =>
    raw
      .filter(({ ratio }) => ratio.bar !== null)
      .map(({ ratio, side }) => ({ ratio, what: `${backend}: ${workload}, ${concurrency} at a time, ${side}` }))
  )
  const missed = held.filter(({ ratio }) => isMissed(ratio))
  const slow = results.filter(isBelow)
  const all = held.length + results.filter(({ least }) => least !== null).length
  console.log(`\nratio: our operations per second over the raw side's, median of the rounds; 1 is as fast`)
  console.log(`bars: ${all - missed.length - slow.length} of ${all} met`)
  for (const { ratio, what } of missed) console.log(`  missed: ${what}: ${ratio.median.toFixed(2)} of ${ratio.bar}`)
  for (const { backend, least, workload } of slow) console.log(`  missed: ${backend}: ${workload}: ${least} per second`)
}

export const write = (
  file: string,
  name: string,
  results: ReadonlyArray<unknown>,
  facts: Record<string, unknown>
): void => {
  mkdirSync(dirname(file), { recursive: true })
  const machine = { node: process.version, platform: process.platform, cpus: cpus().length, model: cpus()[0]?.model }
  writeFileSync(
    file,
    `${JSON.stringify({ name, at: new Date().toISOString(), machine, ...facts, results }, null, 2)}\n`
  )
  console.log(`\nwritten to ${file}`)
}
