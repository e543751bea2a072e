/**
 * The table that a bench prints and the JSON it leaves.
 */
import { mkdirSync, writeFileSync } from "node:fs"
import { cpus } from "node:os"
import { dirname } from "node:path"
import type { Result } from "./harness.js"

const pad = (text: string, width: number) => text.padStart(width)

export const print = (result: Result): void => {
  console.log(`\n${result.workload}, ${result.concurrency} at a time`)
  for (const { operationsPerSecond, p50Ms, p99Ms, side } of result.figures) {
    const ratio = result.ratios[side]
    const bar = result.bars[side]
    const verdict =
      ratio === undefined || bar === undefined ? "" : ratio >= bar ? `  (bar ${bar}: met)` : `  (bar ${bar}: MISSED)`
    console.log(
      `  ${side.padEnd(28)}${pad(operationsPerSecond.toFixed(0), 8)} op/s` +
        `${pad((operationsPerSecond * result.events).toFixed(0), 10)} events/s` +
        `   p50 ${pad(p50Ms.toFixed(3), 8)} ms   p99 ${pad(p99Ms.toFixed(3), 8)} ms` +
        (ratio === undefined ? "" : `   ours is ${ratio.toFixed(2)} of it${verdict}`)
    )
  }
}

export const write = (
  file: string,
  name: string,
  results: ReadonlyArray<Result>,
  facts: Record<string, unknown>
): void => {
  mkdirSync(dirname(file), { recursive: true })
  const machine = { node: process.version, cpus: cpus().length, model: cpus()[0]?.model }
  writeFileSync(
    file,
    `${JSON.stringify({ name, at: new Date().toISOString(), machine, ...facts, results }, null, 2)}\n`
  )
  console.log(`\nwritten to ${file}`)
}
