/**
 * How the demo prints: tables, figures with their units, and texts that may have anything in them.
 */
import { Clock, Console, Duration, Effect } from "effect"

export const timed = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.map(Effect.timed(effect), ([elapsed, value]) => ({ value, elapsedMs: Duration.toMillis(elapsed) }))

/** The median of many times, as a single one is mostly the compiler's; the first ones are not counted. */
export const timedOften = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.gen(function* () {
    const atMostMs = 250
    const startedMs = yield* Clock.currentTimeMillis
    const times: Array<number> = []
    let last = yield* timed(effect)
    do {
      last = yield* timed(effect)
      times.push(last.elapsedMs)
    } while ((yield* Clock.currentTimeMillis) - startedMs < atMostMs)
    const measured = times.slice(Math.floor(times.length / 4)).sort((a, b) => a - b)
    return { value: last.value, elapsedMs: measured[Math.floor(measured.length / 2)] ?? last.elapsedMs }
  })

/** Columns as wide as what is in them; what looks like a number to the right. */
export const printTable = (head: ReadonlyArray<string>, rows: ReadonlyArray<ReadonlyArray<string>>) =>
  Effect.gen(function* () {
    const lines = head.some((title) => title !== "") ? [head, ...rows] : rows
    const widths = head.map((_, column) => Math.max(...lines.map((line) => line[column]?.length ?? 0)))
    const numeric = head.map((_, column) => rows.every((row) => /^([+-]?[\d,]*|binary)$/.test(row[column] ?? "")))
    for (const line of lines) {
      const cells = line.map((cell, column) =>
        numeric[column] ? cell.padStart(widths[column] ?? 0) : cell.padEnd(widths[column] ?? 0)
      )
      yield* Console.log(`  ${cells.join("  ")}`.trimEnd())
    }
  })

/** A path may have anything in it, and a terminal obeys control characters. */
export const printable = (text: string): string => {
  const visible = text.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, (char) => `\\u{${char.codePointAt(0)?.toString(16)}}`)
  return visible.length > 80 ? `${visible.slice(0, 30)}…${visible.slice(-49)}` : visible
}

export const number = (value: number): string => value.toLocaleString("en-US")
export const count = (value: number, thing: string): string => `${number(value)} ${thing}${value === 1 ? "" : "s"}`
export const time = (ms: number): string =>
  ms < 1000 ? `${ms.toFixed(ms < 1 ? 3 : ms < 100 ? 1 : 0)} ms` : `${(ms / 1000).toFixed(1)} s`
export const rate = (things: number, ms: number): string =>
  `${number(Math.round((things * 1000) / Math.max(ms, 0.001)))} a second`
export const size = (bytes: number): string =>
  bytes < 1024 ? count(bytes, "byte") : `${(bytes / 1024).toFixed(1)} KiB`
