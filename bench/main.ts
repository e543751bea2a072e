/**
 * `npm run bench -- event-store [--backend pg,sqlite,memory] [--only TEXT] [--quick] [--profile] [--json FILE]`
 *
 * Runs on the built library, as an application would. PostgreSQL is the one of EFFECT_STORES_TEST_PG_URL (an empty
 * database, please), or a private server from the machine's binaries. `--only` takes the workloads whose name has the
 * text; `--quick` is for a look: the smaller workloads, for moments. `--profile` measures nothing, and shows where the
 * time of our side goes.
 */
import { parseArgs } from "node:util"
import { startPostgres } from "../test/support/postgres.js"
import { memory } from "./eventStore/memory.js"
import { pg } from "./eventStore/pg.js"
import { sqlite } from "./eventStore/sqlite.js"
import type { Opened } from "./eventStore/workloads.js"
import { type Budget, measure, type Result, type Workload } from "./harness.js"
import { profile } from "./profile.js"
import * as report from "./report.js"

const usage =
  "usage: npm run bench -- event-store [--backend pg,sqlite,memory] [--only TEXT] [--quick] [--profile] [--json FILE]"

interface Backend {
  readonly title: string
  readonly open: () => Promise<Opened>
}

const openPg: Backend["open"] = async () => {
  const given = process.env.EFFECT_STORES_TEST_PG_URL
  if (given) return pg(given)
  const server = await startPostgres({ maxConnections: 100 })
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

const parse = () => {
  try {
    const { positionals, values } = parseArgs({ allowPositionals: true, options })
    const named = values.backend.split(",").map((name) => backends[name])
    const chosen = named.flatMap((each) => each ?? [])
    return positionals.join() === "event-store" && !named.includes(undefined) ? { chosen, values } : undefined
  } catch {
    return undefined
  }
}

const parsed = parse()
if (parsed === undefined) {
  console.error(usage)
  process.exit(2)
}
const { chosen, values } = parsed

const budget: Budget = values.quick
  ? { rounds: 3, turnMs: 70, warmUpMs: 200 }
  : { rounds: 13, turnMs: 140, warmUpMs: 350 }
const isChosen = ({ concurrency, events, name }: Workload): boolean =>
  name.includes(values.only) && (!values.quick || (events <= 1_000 && (concurrency === 1 || concurrency === 32)))
const loadBefore = report.othersLoad()
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
