/**
 * The bench of loading aggregates: with a snapshot and a mean number of events after it, beside the replay of all events,
 * over lengths, sizes of payload, and pairs of backends for events and snapshots.
 *
 * `--full` adds 1,000,000 events of 1 KiB (4 GB of disk); `--quick` is for a look: no stream above 10,000; `--brief` has none
 * above 100,000. The plot goes
 * beside the JSON; `--docs` writes it and the tables into docs/ too.
 */
import { parseArgs } from "node:util"
import * as docs from "../docs.js"
import { draw } from "../plot.js"
import * as report from "../report.js"
import { backends } from "./backends.js"
import { type Budget, type Case, type Figures, measure, memoryOfReplay, seed, sinceSnapshot } from "./measure.js"
import { plotOf } from "./plot.js"
import * as table from "./table.js"

export const usage = "aggregate [--backend sqlite,pg] [--quick | --brief | --full] [--docs] [--json FILE]"

const options = {
  backend: { type: "string", default: "sqlite,pg" },
  quick: { type: "boolean", default: false },
  brief: { type: "boolean", default: false },
  full: { type: "boolean", default: false },
  docs: { type: "boolean", default: false },
  json: { type: "string", default: ".bench/aggregate.json" }
} as const

const lengths = [100, 1_000, 10_000, 100_000, 1_000_000]
const [small, large] = [50, 1_024]

const parse = (args: ReadonlyArray<string>) => {
  const { values } = parseArgs({ args: [...args], options })
  const chosen = values.backend.split(",").map((name) => {
    const open = backends[name]
    if (open === undefined) throw new Error(`no backend ${name}`)
    return open
  })
  const longest = values.quick ? 10_000 : values.brief ? 100_000 : 1_000_000
  const cases: ReadonlyArray<Case> = [small, large]
    .flatMap((bytes) => lengths.map((length) => ({ bytes, length })))
    .filter(({ bytes, length }) => length <= Math.min(longest, bytes === small || values.full ? 1_000_000 : 100_000))
  const budget: Budget = values.quick
    ? { rounds: 12, turnMs: 10, replayMs: 1_000 }
    : values.brief
      ? { rounds: 30, turnMs: 10, replayMs: 3_000 }
      : { rounds: 60, turnMs: 10, replayMs: 10_000 }
  return { budget, cases, chosen, values }
}

/** Throws at once for arguments that it does not know. */
export const prepare = (args: ReadonlyArray<string>): (() => Promise<void>) => {
  const { budget, cases, chosen, values } = parse(args)
  return async () => {
    const loadBefore = await report.othersLoad()
    const figures: Array<Figures> = []
    const memory: Record<string, ReadonlyArray<number>> = {}
    const facts: Record<string, string> = {}
    for (const open of chosen) {
      const backend = await open()
      try {
        const startedAt = performance.now()
        for (const each of cases) await seed(backend, each)
        await backend.settle()
        const events = cases.reduce((sum, { length }) => sum + length, 0)
        const seconds = ((performance.now() - startedAt) / 1000).toFixed(0)
        console.log(`\nEvents on ${backend.events}: ${events.toLocaleString("en-US")} appended in ${seconds} s`)
        const measured = await measure(backend, cases, budget)
        table.print(table.rowsOf(measured))
        figures.push(...measured)
        const longest = cases.reduce((a, b) => (b.length > a.length ? b : a))
        const samples = await memoryOfReplay(backend, longest)
        memory[backend.events] = samples
        console.log(`\n${describeMemory(backend.events, longest.length, samples)}`)
        Object.assign(facts, backend.facts)
      } finally {
        await backend.close()
      }
    }
    const rows = table.rowsOf(figures)
    const spreads = table.spreadsOf(rows)
    table.printSpreads(spreads)
    report.write(values.json, "aggregate", figures, { facts, budget, loadBefore, sinceSnapshot, memory, spreads })
    const plot = plotOf(figures.filter(({ bytes }) => bytes === small))
    draw(".bench/aggregate-load.svg", plot)
    if (values.docs) {
      draw("docs/aggregate-load.svg", plot)
      const longest = Math.max(...cases.map(({ length }) => length))
      const memories = Object.entries(memory).map(([events, samples]) => `${describeMemory(events, longest, samples)}.`)
      const text = [table.markdown(rows, spreads), memories.join(" "), docs.environment(facts, loadBefore)]
      docs.replace("aggregate", text.join("\n\n"))
    }
  }
}

const describeMemory = (events: string, length: number, samples: ReadonlyArray<number>): string =>
  `Live on the heap at each tenth of a replay of ${length.toLocaleString("en-US")} events from ${events}: ${Math.min(...samples).toFixed(1)} to ${Math.max(...samples).toFixed(1)} MiB, ${samples.at(-1)?.toFixed(1)} at the end`
