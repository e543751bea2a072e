/**
 * The bench of the EventStore: `--only` takes the workloads whose name has the text; `--quick` is for a look: the smaller
 * workloads, for moments. `--profile` measures nothing, and shows where the time of our side goes.
 */
import { parseArgs } from "node:util"
import { type Budget, measure, type Result, type Workload } from "../harness.js"
import { profile } from "../profile.js"
import * as report from "../report.js"
import { postgres } from "../servers.js"
import { memory } from "./memory.js"
import { pg } from "./pg.js"
import { sqlite } from "./sqlite.js"
import type { Opened } from "./workloads.js"

export const usage = "event-store [--backend pg,sqlite,memory] [--only TEXT] [--quick] [--profile] [--json FILE]"

interface Backend {
  readonly title: string
  readonly open: () => Promise<Opened>
}

const openPg: Backend["open"] = async () => {
  const server = await postgres()
  const opened = await pg(server.url)
  return {
    ...opened,
    close: async () => {
      await opened.close()
      await server.stop()
    }
  }
}

const backends: Readonly<Record<string, ReadonlyArray<Backend>>> = {
  memory: [{ title: "InMemory", open: memory }],
  sqlite: [
    { title: "Sqlite, synchronous FULL", open: () => sqlite("FULL") },
    { title: "Sqlite, synchronous OFF (shows the CPU)", open: () => sqlite("OFF") }
  ],
  pg: [{ title: "Pg", open: openPg }]
}

const options = {
  backend: { type: "string", default: "pg,sqlite,memory" },
  only: { type: "string", default: "" },
  quick: { type: "boolean", default: false },
  profile: { type: "boolean", default: false },
  json: { type: "string", default: ".bench/event-store.json" }
} as const

const parse = (args: ReadonlyArray<string>) => {
  const { values } = parseArgs({ args: [...args], options })
  const chosen = values.backend.split(",").map((name) => {
    const named = backends[name]
    if (named === undefined) throw new Error(`no backend ${name}`)
    return named
  })
  return { chosen: chosen.flat(), values }
}

/** Throws at once for arguments that it does not know. */
export const prepare = (args: ReadonlyArray<string>): (() => Promise<void>) => {
  const { chosen, values } = parse(args)
  return async () => {
    const budget: Budget = values.quick
      ? { rounds: 3, turnMs: 70, warmUpMs: 200 }
      : { rounds: 13, turnMs: 140, warmUpMs: 350 }
    const isChosen = ({ concurrency, events, name }: Workload): boolean =>
      name.includes(values.only) && (!values.quick || (events <= 1_000 && (concurrency === 1 || concurrency === 32)))
    const loadBefore = await report.othersLoad()
    const results: Array<Result & { readonly backend: string }> = []
    const facts: Record<string, string> = {}
    for (const { open, title } of chosen) {
      const opened = await open()
      try {
        Object.assign(facts, opened.facts)
        report.heading(title)
        for (const workload of opened.workloads.filter(isChosen)) {
          if (values.profile) {
            await profile(workload)
            continue
          }
          const result = await measure(workload, budget)
          report.print(result)
          results.push({ backend: title, ...result })
        }
      } finally {
        await opened.close()
      }
    }
    if (!values.profile) {
      report.summary(results)
      report.write(values.json, "event-store", results, { facts, budget, loadBefore })
    }
  }
}
