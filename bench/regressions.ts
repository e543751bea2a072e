/**
 * Whether the library is slower than the main branch was: a few ratios to the bare drivers, beside those that are stored
 * in bench/results/main.json. It warns of what is more than 15 % below, and never fails for it. `--record` stores what
 * it measures instead.
 *
 * Ratios are of one run in turns, so the speed of the machine cancels out, but what other processes do between two turns
 * does not. So a ratio is the median of many short rounds, and one that is too low is measured again, up to twice: only
 * what stays too low is told. No side waits for the disk, whose speed is another on each machine and from second to
 * second.
 */
import { existsSync, readFileSync } from "node:fs"
import { parseArgs } from "node:util"
import { onPg as commandsOnPg, onSqlite as commandsOnSqlite } from "./commandStore/bench.js"
import { inMemory as sealedInMemory } from "./crypto/bench.js"
import { notWaiting } from "./drivers.js"
import { pg } from "./eventStore/pg.js"
import { sqlite } from "./eventStore/sqlite.js"
import { type Budget, measure, type Result, type Workload } from "./harness.js"
import type { Part } from "./parts.js"
import * as report from "./report.js"
import { onPg as snapshotsOnPg, onSqlite as snapshotsOnSqlite } from "./snapshotStore/bench.js"

export const usage = "regressions [--record] [--json FILE]"

const file = "bench/results/main.json"
const mostBelow = 0.15
const attempts = 3
const budget: Budget = { rounds: 11, turnMs: 60, warmUpMs: 200 }

interface Watched {
  readonly name: string
  readonly open: () => Promise<Part>
  readonly workloads: ReadonlyArray<readonly [name: string, callers: number]>
}

const newStream = "append of 1 event to a new stream"
const hundred = "append of 100 events to a new stream"
const fold = "read of 1000 events, fold"
const stream = "read of 1000 events, Stream.runCollect"

const watched: ReadonlyArray<Watched> = [
  {
    name: "events",
    open: () => pg(notWaiting),
    workloads: [
      [newStream, 1],
      [newStream, 32],
      [hundred, 1],
      [fold, 1],
      [stream, 1]
    ]
  },
  {
    name: "events",
    open: () => sqlite(notWaiting),
    workloads: [
      [newStream, 1],
      [newStream, 32],
      [hundred, 1],
      [fold, 1],
      [stream, 1]
    ]
  },
  { name: "events sealed", open: sealedInMemory, workloads: [["append under any", 1]] },
  { name: "commands", open: () => commandsOnPg(notWaiting), workloads: [["create", 32]] },
  { name: "commands", open: () => commandsOnSqlite(notWaiting), workloads: [["create", 32]] },
  { name: "snapshots", open: () => snapshotsOnPg(notWaiting), workloads: [["latest", 1]] },
  { name: "snapshots", open: () => snapshotsOnSqlite(notWaiting), workloads: [["latest", 1]] }
]

/** To the first other side, which is the bare driver. */
const ratioOf = ({ raw: [side] }: Result): number => side?.ratio.median ?? Number.NaN

const onlyFirst = (workload: Workload): Workload => ({
  ...workload,
  raw: workload.raw.slice(0, 1),
  over: undefined
})

/** By what was measured. */
type Ratios = Readonly<Record<string, number>>

const stored = (): Ratios => {
  if (!existsSync(file)) return {}
  const { results } = JSON.parse(readFileSync(file, "utf8")) as { readonly results: ReadonlyArray<Ratios> }
  return results[0] ?? {}
}

const measureAll = async (known: Ratios): Promise<Ratios> => {
  const ratios: Record<string, number> = {}
  for (const { name, open, workloads: names } of watched) {
    const { close, title, workloads } = await open()
    try {
      for (const [what, callers] of names) {
        const workload = workloads.find((each) => each.name === what && each.concurrency === callers)
        if (workload === undefined) throw new Error(`${title} has no ${what} of ${callers}`)
        const key = `${name}, ${title}: ${what}, ${callers} at a time`
        const least = (known[key] ?? 0) * (1 - mostBelow)
        let best = 0
        for (let attempt = 0; attempt < attempts && (attempt === 0 || best < least); attempt++) {
          best = Math.max(best, ratioOf(await measure(onlyFirst(workload), budget)))
        }
        ratios[key] = Number(best.toFixed(3))
        const before = known[key]
        console.log(`${key}: ${best.toFixed(2)}${before === undefined ? "" : `, stored ${before.toFixed(2)}`}`)
      }
    } finally {
      await close()
    }
  }
  return ratios
}

const middle = (values: ReadonlyArray<number>): number => values.toSorted((a, b) => a - b)[values.length >> 1] ?? 0

/** Throws at once for arguments that it does not know. */
export const prepare = (args: ReadonlyArray<string>): (() => Promise<void>) => {
  const { values } = parseArgs({
    args: [...args],
    options: {
      record: { type: "boolean", default: false },
      json: { type: "string", default: ".bench/regressions.json" }
    }
  })
  return async () => {
    const loadBefore = await report.othersLoad()
    if (values.record) {
      const all: Array<Ratios> = []
      for (let i = 0; i < attempts; i++) all.push(await measureAll({}))
      const keys = Object.keys(all[0] ?? {})
      const ratios = Object.fromEntries(keys.map((key) => [key, middle(all.map((each) => each[key] ?? 0))]))
      report.write(file, "regressions", [ratios], { budget, loadBefore })
      return
    }
    const before = stored()
    const ratios = await measureAll(before)
    report.write(values.json, "regressions", [ratios], { budget, loadBefore })
    for (const [key, ratio] of Object.entries(ratios)) {
      const known = before[key]
      if (known === undefined) console.log(`not stored yet: ${key}`)
      else if (ratio < known * (1 - mostBelow)) {
        const below = Math.round((1 - ratio / known) * 100)
        console.log(`WARNING: ${key}: ${ratio.toFixed(2)}, ${below} % below the ${known.toFixed(2)} of the main branch`)
      }
    }
  }
}
