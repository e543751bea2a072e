/**
 * What a bench writes into docs/performance.md: each part between markers of its own, so that it can be measured alone.
 */
import { readFileSync, writeFileSync } from "node:fs"
import { cpus } from "node:os"
import type { Result } from "./harness.js"

const file = "docs/performance.md"
const end = "<!-- to here -->"

/** `what` names the markers, which must be there. */
export const replace = (what: string, text: string): void => {
  const before = readFileSync(file, "utf8")
  const marker = `<!-- ${what}: written by the bench, from here -->`
  const from = before.indexOf(marker)
  const to = before.indexOf(end, from)
  if (from < 0 || to < 0) throw new Error(`${file} has lost its markers for ${what}`)
  writeFileSync(file, `${before.slice(0, from + marker.length)}\n\n${text}\n\n${before.slice(to)}`)
  console.log(`written to ${file}: ${what}`)
}

/** Where and when it was measured. */
export const environment = (facts: Readonly<Record<string, string>>, othersBefore: number): string => {
  const versions = Object.entries({ Node: process.versions.node, ...facts }).map(
    ([name, version]) => `${name} ${version}`
  )
  const day = new Date().toISOString().slice(0, 10)
  return `Measured on ${cpus().length} CPUs (${cpus()[0]?.model}), ${versions.join(", ")}; ${day}, CPUs in use by other processes before: ${othersBefore.toFixed(2)}.`
}

/** A row for each workload. Ratios have their quartiles in brackets, and are bold below their bar. */
export const table = (results: ReadonlyArray<Result>, unit: string, unitsOf: (result: Result) => number): string => {
  const sides = [...new Set(results.flatMap(({ raw }) => raw.map(({ side }) => side)))]
  const over = results.find((result) => result.over !== null)?.over?.side
  const head = ["workload", "callers", unit, "p99 ms", ...sides.map((side) => `to ${side}`)]
  if (over !== undefined) head.push(`µs over ${over}`)
  const body = results.map((result) => {
    const { concurrency, least, ours, raw, workload } = result
    const rate = number(unitsOf(result) * ours.operationsPerSecond)
    const cells = [
      workload,
      String(concurrency),
      least !== null && ours.operationsPerSecond * result.events < least ? `**${rate}**` : rate,
      ours.p99Ms.toFixed(ours.p99Ms < 10 ? 3 : 0),
      ...sides.map((name) => {
        const ratio = raw.find(({ side }) => side === name)?.ratio
        if (ratio === undefined) return ""
        const median = ratio.median.toFixed(2)
        const shown = ratio.bar !== null && ratio.median < ratio.bar ? `**${median}**` : median
        return `${shown} (${ratio.quartiles.map((q) => q.toFixed(2)).join("-")})`
      })
    ]
    if (over === undefined) return cells
    const micros = result.over?.micros.toFixed(0) ?? ""
    return [...cells, result.over !== null && result.over.micros > result.over.bar ? `**${micros}**` : micros]
  })
  return markdown(head, body, (column) => column > 0)
}

/** A table as it is formatted. Columns of numbers end where their head does. */
export const markdown = (
  head: ReadonlyArray<string>,
  body: ReadonlyArray<ReadonlyArray<string>>,
  isNumber: (column: number) => boolean
): string => {
  const widths = head.map((_, i) => Math.max(...[head, ...body].map((cells) => cells[i]?.length ?? 0)))
  const line = (cells: ReadonlyArray<string>) =>
    `| ${cells.map((cell, i) => (isNumber(i) ? cell.padStart(widths[i] ?? 0) : cell.padEnd(widths[i] ?? 0))).join(" | ")} |`
  const rule = widths.map((width, i) => (isNumber(i) ? `${"-".repeat(width - 1)}:` : "-".repeat(width)))
  return [line(head), `| ${rule.join(" | ")} |`, ...body.map(line)].join("\n")
}

const number = (value: number): string =>
  value >= 100 ? Math.round(value).toLocaleString("en-US") : value.toPrecision(3)
