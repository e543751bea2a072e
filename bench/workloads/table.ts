/**
 * What loads took, as lines for a terminal and as a table for the docs.
 */
import { milliseconds } from "../report.js"
import type { Measured, Variant } from "./bench.js"

const head = [
  "per second",
  "p50 ms",
  "p95 ms",
  "p99 ms",
  "p999 ms",
  "CPU ms",
  "server ms",
  "peak MiB",
  "to plain"
] as const

/** CPU time is told of an operation of any kind, since a process does all kinds at the same time. */
const cellsOf = (
  { kinds, ...variant }: Variant,
  kind: Variant["kinds"][number],
  { sealedToPlain: { median, quartiles } }: Measured
): ReadonlyArray<string> => {
  const isFirst = kinds[0] === kind
  const perOperation = (seconds: number | null) =>
    seconds === null ? "" : ((seconds * 1_000) / variant.operations).toFixed(3)
  return [
    Math.round((kind.operations / variant.elapsedMs) * 1_000).toLocaleString("en-US"),
    ...[kind.p50Ms, kind.p95Ms, kind.p99Ms, kind.p999Ms].map(milliseconds),
    ...(isFirst
      ? [
          perOperation(variant.cpuSeconds),
          perOperation(variant.serverCpuSeconds),
          variant.peakMiB.toFixed(0),
          variant.isSealed ? `${median.toFixed(2)} (${quartiles.map((q) => q.toFixed(2)).join("-")})` : ""
        ]
      : ["", "", "", ""])
  ]
}

const rowsOf = (measured: Measured) =>
  measured.variants.flatMap((variant) =>
    variant.kinds
      .toSorted((a, b) => a.kind.localeCompare(b.kind))
      .map((kind, _, kinds) => ({
        kind: kind.kind,
        isSealed: variant.isSealed,
        cells: cellsOf({ ...variant, kinds }, kind, measured)
      }))
  )

const widths = [12, 9, 9, 9, 9, 9, 11, 10, 18]
const line = (name: string, cells: ReadonlyArray<string>): string =>
  `${name.padEnd(28)}${cells.map((cell, i) => cell.padStart(widths[i] ?? 0)).join("")}`.trimEnd()

export const heading = (backend: string): void => console.log(`\n${line(backend, head)}`)

export const print = (measured: Measured): void => {
  console.log(`${measured.load}, ${measured.callers} callers`)
  for (const { cells, isSealed, kind } of rowsOf(measured)) {
    console.log(line(`  ${kind}, ${isSealed ? "sealed" : "plain"}`, cells))
  }
}

export const markdown = (all: ReadonlyArray<Measured>): string => {
  const body = all.flatMap((measured) =>
    rowsOf(measured).map(({ cells, isSealed, kind }, i) => [
      i === 0 ? `${measured.load}, ${measured.callers} callers` : "",
      kind,
      isSealed ? "sealed" : "plain",
      ...cells
    ])
  )
  const rows = [["load", "operation", "", ...head], ...body]
  // A database without a server has no such column.
  const kept = (rows[0] ?? []).map((_, i) => i < 3 || rows.slice(1).some((cells) => cells[i] !== ""))
  const shown = rows.map((cells) => cells.filter((_, i) => kept[i]))
  const widths = (shown[0] ?? []).map((_, i) => Math.max(3, ...shown.map((cells) => cells[i]?.length ?? 0)))
  const isText = (i: number) => i < 3
  const row = (cells: ReadonlyArray<string>) =>
    `| ${cells.map((cell, i) => (isText(i) ? cell.padEnd(widths[i] ?? 0) : cell.padStart(widths[i] ?? 0))).join(" | ")} |`
  const rule = widths.map((width, i) => (isText(i) ? "-".repeat(width) : `${"-".repeat(width - 1)}:`))
  const [first = [], ...others] = shown
  return [row(first), `| ${rule.join(" | ")} |`, ...others.map(row)].join("\n")
}
