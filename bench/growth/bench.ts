/**
 * The bench of growth: the same operations on stores of 10,000 to 1,000,000 events, taking turns, and on 10,000,000 with
 * `--full`. Which streams they meet is random, over the whole store, so the indexes are touched all over; the same in
 * each run. `--quick` is for a look at the smaller ones. 10,000,000 events take some 8 GB on disk.
 */
import { parseArgs } from "node:util"
import * as docs from "../docs.js"
import * as report from "../report.js"
import { type Backend, backends } from "./backends.js"
import { type Budget, type Figures, isFlat, measure } from "./measure.js"
import { workloads } from "./workloads.js"

export const usage = "growth [--backend pg,sqlite] [--only TEXT] [--full] [--quick] [--docs] [--json FILE]"

const parse = (args: ReadonlyArray<string>) => {
  const { values } = parseArgs({
    args: [...args],
    options: {
      backend: { type: "string", default: "pg,sqlite" },
      only: { type: "string", default: "" },
      full: { type: "boolean", default: false },
      quick: { type: "boolean", default: false },
      docs: { type: "boolean", default: false },
      json: { type: "string", default: ".bench/growth.json" }
    }
  })
  const chosen = values.backend.split(",").map((name) => {
    const backend = backends[name]
    if (backend === undefined) throw new Error(`no backend ${name}`)
    return backend
  })
  return { ...values, chosen }
}

export const prepare = (args: ReadonlyArray<string>): (() => Promise<void>) => {
  const { chosen, docs, full, json, only, quick } = parse(args)
  const sizes = [10_000, 100_000, ...(quick ? [] : [1_000_000]), ...(full ? [10_000_000] : [])]
  const budget: Budget = quick
    ? { rounds: 3, turnMs: 150, warmUpMs: 300 }
    : { rounds: 15, turnMs: 400, warmUpMs: 1_000 }
  return async () => {
    const loadBefore = await report.othersLoad()
    const results: Array<Figures> = []
    for (const backend of chosen) {
      results.push(...(await measureOn(backend, { sizes, budget, only, docs, loadBefore })))
    }
    report.write(json, "growth", results, { budget, sizes, loadBefore })
  }
}

const measureOn = async (
  { open, title }: Backend,
  options: {
    readonly sizes: ReadonlyArray<number>
    readonly budget: Budget
    readonly only: string
    readonly docs: boolean
    readonly loadBefore: number
  }
): Promise<ReadonlyArray<Figures & { readonly backend: string }>> => {
  const { budget, loadBefore, only, sizes } = options
  const opened = await open()
  try {
    const stores = []
    for (const size of sizes) {
      const startedAt = performance.now()
      stores.push(await opened.filled(size))
      const seconds = ((performance.now() - startedAt) / 1_000).toFixed(0)
      console.log(`${title}: ${size.toLocaleString("en-US")} events in ${seconds} s`)
    }
    const measured: Array<Figures> = []
    for (const workload of workloads.filter(({ name }) => name.includes(only))) {
      const figures = await measure(workload, stores, budget)
      console.log(lineOf(figures))
      measured.push(figures)
    }
    if (options.docs) {
      docs.replace(`growth ${title}`, `${table(sizes, measured)}\n\n${docs.environment(opened.facts, loadBefore)}`)
    }
    return measured.map((figures) => ({ backend: title, ...figures }))
  } finally {
    await opened.close()
  }
}

const ms = (value: number): string => value.toPrecision(3)

const lineOf = ({ sizes, workload }: Figures): string =>
  [
    workload.padEnd(34),
    ...sizes.map(({ p50Ms, p99Ms, ratio }) => `${ms(p50Ms)} (${ms(p99Ms)}) ${ratio.toFixed(2)}`.padStart(24))
  ].join(" ")

/** Milliseconds at the median, the 99th percentile in brackets; ratios of medians to the smallest store. */
const table = (sizes: ReadonlyArray<number>, measured: ReadonlyArray<Figures>): string => {
  const head = ["workload", ...sizes.flatMap((size, i) => [size.toLocaleString("en-US"), ...(i > 0 ? ["ratio"] : [])])]
  const rows = measured.map(({ sizes, workload }) => [
    workload,
    ...sizes.flatMap(({ p50Ms, p99Ms, ratio }, i) => [
      `${ms(p50Ms)} (${ms(p99Ms)})`,
      ...(i > 0 ? [isFlat(ratio) ? ratio.toFixed(2) : `**${ratio.toFixed(2)}**`] : [])
    ])
  ])
  return docs.markdown(head, rows, (column) => column > 0)
}
