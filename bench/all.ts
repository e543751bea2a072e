/**
 * `npm run bench` without a name: all benches one after the other, each in a process of its own, within 15 minutes on an
 * idle machine, with `--quick` within 2. Plots are drawn into .bench and, without `--quick`, copied into docs/: a quick
 * run's figures are no good for docs.
 */
import { spawn } from "node:child_process"
import { once } from "node:events"
import { copyFileSync, existsSync, statSync } from "node:fs"
import { areInstalled } from "./installed.js"
import * as report from "./report.js"

interface Run {
  readonly bench: string
  /** What is left out where it would take too long, or `null` for all of the bench. */
  readonly brief: ReadonlyArray<string>
  readonly quick: ReadonlyArray<string> | null
}

const runs: ReadonlyArray<Run> = [
  { bench: "event-store", brief: [], quick: ["--what", "pg,sqlite", "--only", "append of 1 event to a new stream"] },
  { bench: "peers", brief: [], quick: [] },
  { bench: "workloads", brief: [], quick: ["--what", "sqlite", "--only", "reads"] },
  { bench: "aggregate", brief: [], quick: ["--backend", "sqlite"] },
  { bench: "subscribers", brief: ["--backend", "pg,sqlite", "--most", "1000"], quick: null },
  { bench: "command-store", brief: [], quick: ["--only", "create"] },
  { bench: "snapshot-store", brief: [], quick: null },
  { bench: "cache-store", brief: ["--what", "memory,redis"], quick: ["--what", "memory", "--only", "getOrSet"] },
  { bench: "data-store", brief: ["--backend", "fs,sqlite,pg"], quick: null },
  { bench: "crypto", brief: ["--what", "records,objects,pg"], quick: ["--what", "records"] },
  { bench: "followers", brief: [], quick: null }
]

/** What they draw into .bench. */
const plots = ["appends-pg", "appends-sqlite", "latency-pg", "latency-sqlite", "aggregate-load"]

const run = async (args: ReadonlyArray<string>, othersLoad: number): Promise<number> => {
  const [command = "", ...main] = process.argv
  const child = spawn(command, [...process.execArgv, main[0] ?? "", ...args], {
    stdio: "inherit",
    env: { ...process.env, EFFECT_STORES_BENCH_LOAD: othersLoad.toFixed(2) }
  })
  const [code] = await once(child, "exit")
  return code ?? 1
}

export const usage = "[--quick]"

/** Throws at once for arguments that it does not know. */
export const prepare = (args: ReadonlyArray<string>): (() => Promise<void>) => {
  const unknown = args.filter((arg) => arg !== "--quick")
  if (unknown.length > 0) throw new Error(`nothing called ${unknown.join(" ")}`)
  const isQuick = args.includes("--quick")
  return async () => {
    const startedAt = performance.now()
    const othersLoad = await report.othersLoad()
    const failed: Array<string> = []
    for (const { bench, brief, quick } of runs) {
      if (isQuick && quick === null) continue
      if (bench === "peers" && !areInstalled()) continue
      console.log(`\n== ${bench}`)
      const from = performance.now()
      const options = isQuick ? [...(quick ?? []), "--quick"] : [...brief, "--brief"]
      if ((await run([bench, ...options], othersLoad)) !== 0) failed.push(bench)
      console.log(`${bench}: ${seconds(performance.now() - from)}`)
    }
    if (!isQuick) copyPlots(startedAt)
    console.log(`\nall: ${seconds(performance.now() - startedAt)}`)
    if (failed.length > 0) throw new Error(`failed: ${failed.join(", ")}`)
  }
}

/** Those of this run. */
const copyPlots = (startedAt: number): void => {
  for (const plot of plots) {
    const drawn = `.bench/${plot}.svg`
    if (!existsSync(drawn) || statSync(drawn).mtimeMs < performance.timeOrigin + startedAt) continue
    copyFileSync(drawn, `docs/${plot}.svg`)
    console.log(`written to docs/${plot}.svg`)
  }
}

const seconds = (ms: number): string => `${(ms / 1_000).toFixed(0)} s`
