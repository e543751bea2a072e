/**
 * What a bench prints of a workload, a line for each side, and the JSON it leaves.
 */
import { mkdirSync, writeFileSync } from "node:fs"
import { cpus } from "node:os"
import { dirname } from "node:path"
import { environment } from "./environment.js"
import type { Figures, Ratio, Result } from "./harness.js"

const columns = ["op/s", "p50 ms", "p95 ms", "p99 ms", "p999 ms", "ratio", "quartiles"] as const
const widths = [10, 9, 9, 9, 9, 8, 12] as const
const nameWidth = 28

const line = (name: string, cells: ReadonlyArray<string>): string =>
  `${name.padEnd(nameWidth)}${cells.map((cell, i) => cell.padStart(widths[i] ?? 0)).join("")}`.trimEnd()

const cellsOf = ({ operationsPerSecond, p50Ms, p95Ms, p99Ms, p999Ms }: Figures) => [
  operationsPerSecond.toFixed(operationsPerSecond < 100 ? 1 : 0),
  ...[p50Ms, p95Ms, p99Ms, p999Ms].map(milliseconds)
]

/** Three digits are all that a bench can tell. */
export const milliseconds = (ms: number): string => ms.toFixed(ms < 10 ? 3 : ms < 100 ? 1 : 0)

const isMissed = ({ bar, median }: Ratio): boolean => bar !== null && median < bar

const verdict = (bar: number | string, missed: boolean): string => `  bar ${bar} ${missed ? "MISSED" : "met"}`

/** Set by a bench that runs others: it has looked once, and what runs now is its own. */
const lookedAt = process.env.EFFECT_STORES_BENCH_LOAD

/**
 * How many CPUs others keep busy, looked at for two seconds before anything runs. The load of the last minute would be
 * mostly what has ended.
 */
export const othersLoad = async (): Promise<number> => {
  if (lookedAt !== undefined) return Number(lookedAt)
  const busyMs = () =>
    cpus().reduce((sum, { times: { idle: _, ...busy } }) => sum + Object.values(busy).reduce((a, b) => a + b, 0), 0)
  const before = busyMs()
  await new Promise((resolve) => setTimeout(resolve, 2_000))
  const load = (busyMs() - before) / 2_000
  if (load > 0.2) console.log(`Others keep ${load.toFixed(2)} of ${cpus().length} CPUs busy: measure again later.`)
  return load
}

export const heading = (backend: string): void => console.log(`\n${line(backend, columns)}`)

const isBelow = ({ events, least, ours }: Result): boolean =>
  least !== null && ours.operationsPerSecond * events < least

const isOver = ({ over }: Result): boolean => over !== null && over.micros > over.bar

export const print = (result: Result): void => {
  const { concurrency, events, least, ours, over, raw, workload } = result
  console.log(`${workload}, ${concurrency} at a time`)
  console.log(line(`  ${ours.side}`, cellsOf(ours)))
  for (const side of raw) {
    const { bar, median, quartiles } = side.ratio
    const ratio = [median.toFixed(2), quartiles.map((q) => q.toFixed(2)).join("-")]
    const missed = bar === null ? "" : verdict(bar.toFixed(2), isMissed(side.ratio))
    console.log(line(`  ${side.side}`, [...cellsOf(side), ...ratio]) + missed)
  }
  if (least !== null) {
    const rate = Math.round(ours.operationsPerSecond * events)
    console.log(`  ${rate.toLocaleString("en-US")} per second${verdict(least, isBelow(result))}`)
  }
  if (over !== null) console.log(`  ${over.micros.toFixed(0)} µs over ${over.side}${verdict(over.bar, isOver(result))}`)
}

/** Which bars were missed, of how many. */
export const summary = (results: ReadonlyArray<Result & { readonly backend: string }>): void => {
  const bars = results.flatMap((result) => {
    const { backend, concurrency, events, least, ours, over, raw, workload } = result
    const what = `${backend}: ${workload}, ${concurrency} at a time`
    return [
      ...raw.flatMap(({ ratio, side }) =>
        ratio.bar === null
          ? []
          : [{ missed: isMissed(ratio), what: `${what}, ${side}: ${ratio.median.toFixed(2)} of ${ratio.bar}` }]
      ),
      ...(least === null
        ? []
        : [
            {
              missed: isBelow(result),
              what: `${what}: ${Math.round(ours.operationsPerSecond * events)} of ${least} per second`
            }
          ]),
      ...(over === null
        ? []
        : [
            { missed: isOver(result), what: `${what}: ${over.micros.toFixed(0)} µs over ${over.side}, not ${over.bar}` }
          ])
    ]
  })
  const missed = bars.filter((bar) => bar.missed)
  console.log(`\nratio: our operations per second over the other side's, median of the rounds; 1 is as fast`)
  console.log(`bars: ${bars.length - missed.length} of ${bars.length} met`)
  for (const { what } of missed) console.log(`  missed: ${what}`)
}

export const write = (
  file: string,
  name: string,
  results: ReadonlyArray<unknown>,
  facts: Readonly<Record<string, unknown>>
): void => {
  const text = JSON.stringify({ name, at: new Date().toISOString(), ...environment(), ...facts, results }, null, 2)
  writeText(file, `${text}\n`)
}

export const writeText = (file: string, text: string): void => {
  mkdirSync(dirname(file), { recursive: true })
  writeFileSync(file, text)
  console.log(`written to ${file}`)
}
