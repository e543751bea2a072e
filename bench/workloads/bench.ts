/**
 * The bench of what applications do, over the time and on a machine that other callers use too: loads drawn from a seed,
 * on SQLite and PostgreSQL, plain and sealed. Each variant of a load has a process and a database of its own, so that
 * its CPU time and its peak of memory are its own, and the variants take turns. `--only` takes the loads whose name has
 * the text; `--quick` is for a look; `--docs` writes the tables and the plots into docs/.
 */
import { type ChildProcess, fork } from "node:child_process"
import { once } from "node:events"
import { mkdtempSync, readdirSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { parseArgs } from "node:util"
import { createDatabase, dropDatabases, withClient } from "../../test/support/databases.js"
import * as docs from "../docs.js"
import { pgFacts, sqliteFacts } from "../drivers.js"
import { ascending, quantile } from "../harness.js"
import * as report from "../report.js"
import { postgres } from "../servers.js"
import { draw } from "./latencies.js"
import { type Load, loads } from "./loads.js"
import type { Answer, Order, Question, Totals, TurnDone } from "./process.js"
import { cpuSecondsOf } from "./server-cpu.js"
import * as table from "./table.js"

export const usage =
  "workloads [--what pg,sqlite] [--only TEXT] [--seed NUMBER] [--quick | --brief] [--docs] [--json FILE]"

/** Of one load on one backend, plain or sealed. */
export interface Variant extends Totals {
  readonly isSealed: boolean
  readonly operations: number
  readonly elapsedMs: number
  /** Of all processes of the database's server, where it is on this machine. */
  readonly serverCpuSeconds: number | null
}

export interface Measured {
  readonly backend: string
  readonly load: string
  readonly callers: number
  readonly plotted: string
  readonly variants: ReadonlyArray<Variant>
  /** Operations per second of the sealed variant over those of the plain one in the same round. */
  readonly sealedToPlain: { readonly median: number; readonly quartiles: readonly [number, number] }
}

interface Backend {
  readonly facts: Readonly<Record<string, string>>
  /** A database that nobody has used. */
  readonly fresh: () => Promise<Order["at"]>
  readonly settle: () => Promise<unknown>
  /** Removes the databases that were used. */
  readonly clear: () => Promise<unknown>
  readonly serverCpuSeconds: () => number | null
  readonly close: () => Promise<void>
}

const sqlite = async (): Promise<Backend> => {
  const directory = mkdtempSync(join(tmpdir(), "es-bench-"))
  let n = 0
  return {
    facts: sqliteFacts("FULL"),
    fresh: async () => ({ filename: join(directory, `${n++}.db`) }),
    settle: async () => {},
    clear: async () => {
      for (const name of readdirSync(directory)) rmSync(join(directory, name))
    },
    serverCpuSeconds: () => null,
    close: async () => rmSync(directory, { recursive: true })
  }
}

const pg = async (): Promise<Backend> => {
  const server = await postgres()
  const prefix = "es_bench_"
  let n = 0
  return {
    facts: await pgFacts(server.url),
    fresh: async () => ({ url: await createDatabase(server.url, `${prefix}${n++}`) }),
    // What the server would do by itself, but perhaps in the middle of a turn.
    settle: () => withClient(server.url, (client) => client.query("checkpoint")),
    clear: () => dropDatabases(server.url, prefix),
    serverCpuSeconds: () => (server.pid === undefined ? null : cpuSecondsOf(server.pid)),
    close: server.stop
  }
}

const backends: Readonly<Record<string, { readonly title: string; readonly open: () => Promise<Backend> }>> = {
  pg: { title: "Pg", open: pg },
  sqlite: { title: "Sqlite", open: sqlite }
}

interface Budget {
  readonly turns: number
  readonly turnMs: number
  readonly warmUpMs: number
}

const budgets = {
  quick: { turns: 2, turnMs: 100, warmUpMs: 100 },
  brief: { turns: 6, turnMs: 300, warmUpMs: 400 },
  thorough: { turns: 16, turnMs: 500, warmUpMs: 600 }
} as const satisfies Readonly<Record<string, Budget>>

/** One question at a time; fails if the process ends without an answer. */
class VariantProcess {
  private readonly child: ChildProcess
  readonly turns: Array<TurnDone> = []
  serverCpuSeconds = 0

  constructor(readonly isSealed: boolean) {
    this.child = fork(join(import.meta.dirname, "process.ts"))
  }

  async ask(question: Question): Promise<Answer> {
    const ended = new AbortController()
    const answered = once(this.child, "message", { signal: ended.signal })
    const exited = once(this.child, "exit", { signal: ended.signal })
    this.child.send(question)
    try {
      const [answer] = await Promise.race([
        answered,
        exited.then(([code]) => {
          throw new Error(`the process of a load ended with ${code}`)
        })
      ])
      return answer
    } finally {
      ended.abort()
      await Promise.allSettled([answered, exited])
    }
  }

  async stop(): Promise<void> {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return
    const exited = once(this.child, "exit")
    this.child.kill()
    await exited
  }
}

const measure = async (
  backend: Backend,
  title: string,
  { callers, name, plotted }: Load,
  seed: number,
  { turnMs, turns, warmUpMs }: Budget
): Promise<Measured> => {
  const variants = [new VariantProcess(false), new VariantProcess(true)] as const
  const take = async (variant: VariantProcess): Promise<void> => {
    const before = backend.serverCpuSeconds() ?? 0
    variant.turns.push((await variant.ask({ turnMs, isWarmUp: false })) as TurnDone)
    variant.serverCpuSeconds += (backend.serverCpuSeconds() ?? 0) - before
  }
  try {
    for (const variant of variants) {
      const order: Order = { load: name, seed, isSealed: variant.isSealed, at: await backend.fresh() }
      await variant.ask({ order })
      await variant.ask({ turnMs: warmUpMs, isWarmUp: true })
    }
    await backend.settle()
    for (let turn = 0; turn < turns; turn++) {
      for (const variant of turn % 2 === 0 ? variants : variants.toReversed()) await take(variant)
    }
    const measured: Array<Variant> = []
    for (const variant of variants) {
      const { isSealed, serverCpuSeconds, turns } = variant
      measured.push({
        isSealed,
        operations: turns.reduce((sum, { operations }) => sum + operations, 0),
        elapsedMs: turns.reduce((sum, { elapsedMs }) => sum + elapsedMs, 0),
        serverCpuSeconds: backend.serverCpuSeconds() === null ? null : serverCpuSeconds,
        ...((await variant.ask("end")) as Totals)
      })
    }
    const rates = ({ turns }: VariantProcess) => turns.map(({ elapsedMs, operations }) => operations / elapsedMs)
    const [plain, sealed] = [rates(variants[0]), rates(variants[1])]
    const ratios = ascending(sealed.map((rate, i) => rate / (plain[i] ?? Number.NaN)))
    return {
      backend: title,
      load: name,
      callers,
      plotted,
      variants: measured,
      sealedToPlain: {
        median: quantile(ratios, 0.5),
        quartiles: [quantile(ratios, 0.25), quantile(ratios, 0.75)]
      }
    }
  } finally {
    for (const variant of variants) await variant.stop()
    await backend.clear()
  }
}

const options = {
  what: { type: "string", default: "pg,sqlite" },
  only: { type: "string", default: "" },
  seed: { type: "string", default: "16" },
  quick: { type: "boolean", default: false },
  brief: { type: "boolean", default: false },
  docs: { type: "boolean", default: false },
  json: { type: "string", default: ".bench/workloads.json" }
} as const

/** Throws at once for arguments that it does not know. */
export const prepare = (args: ReadonlyArray<string>): (() => Promise<void>) => {
  const { values } = parseArgs({ args: [...args], options })
  const chosen = values.what.split(",").map((name) => {
    const named = backends[name]
    if (named === undefined) throw new Error(`nothing called ${name}`)
    return named
  })
  const seed = Number(values.seed)
  if (!Number.isSafeInteger(seed) || seed < 0 || seed > 255) throw new Error("--seed is an integer from 0 to 255")
  const budget = values.quick ? budgets.quick : values.brief ? budgets.brief : budgets.thorough
  return async () => {
    const loadBefore = await report.othersLoad()
    const results: Array<Measured> = []
    const facts: Record<string, string> = {}
    console.log(`seed ${seed}`)
    for (const { open, title } of chosen) {
      const backend = await open()
      try {
        Object.assign(facts, backend.facts)
        table.heading(title)
        const measured: Array<Measured> = []
        for (const load of loads.filter(({ name }) => name.includes(values.only))) {
          const result = await measure(backend, title, load, seed, budget)
          table.print(result)
          measured.push(result)
        }
        results.push(...measured)
        if (values.docs && measured.length > 0) {
          const place = `${docs.environment(backend.facts, loadBefore)} Seed ${seed}.`
          docs.replace(`workloads ${title}`, `${table.markdown(measured)}\n\n${place}`)
        }
      } finally {
        await backend.close()
      }
    }
    report.write(values.json, "workloads", results, { seed, facts, budget, loadBefore })
    draw(results, values.docs ? "docs" : ".bench")
  }
}
