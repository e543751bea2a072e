/**
 * `npm run bench -- event-store [--backend pg,sqlite,memory] [--only TEXT] [--quick] [--json FILE]`
 *
 * Runs on the built library, as an application would. PostgreSQL is the one of EFFECT_STORES_TEST_PG_URL (an empty
 * database, please), or a private server from the machine's binaries. `--only` takes the workloads whose name has the
 * text.
 */
import { parseArgs } from "node:util"
import { startPostgres } from "../test/support/postgres.js"
import { memory } from "./eventStore/memory.js"
import { pg } from "./eventStore/pg.js"
import { sqlite } from "./eventStore/sqlite.js"
import { type Budget, measure, type Result, type Workload } from "./harness.js"
import * as report from "./report.js"

const usage = "usage: npm run bench -- event-store [--backend pg,sqlite,memory] [--only TEXT] [--quick] [--json FILE]"

interface Backend {
  readonly title: string
  readonly open: () => Promise<{ workloads: ReadonlyArray<Workload>; close: () => Promise<void> }>
}

const openPg: Backend["open"] = async () => {
  const given = process.env.EFFECT_STORES_TEST_PG_URL
  if (given) return pg(given)
  const server = await startPostgres({ maxConnections: 100 })
  const opened = await pg(server.url)
  return {
    workloads: opened.workloads,
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

const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: {
    backend: { type: "string", default: "pg,sqlite,memory" },
    only: { type: "string", default: "" },
    quick: { type: "boolean", default: false },
    json: { type: "string", default: ".bench/event-store.json" }
  }
})
const chosen = values.backend.split(",")
if (positionals[0] !== "event-store" || positionals.length > 1 || chosen.some((name) => backends[name] === undefined)) {
  console.error(usage)
  process.exit(2)
}

const budget: Budget = values.quick ? { rounds: 3, turnMs: 150 } : { rounds: 9, turnMs: 350 }
const results: Array<Result & { readonly backend: string }> = []
for (const { open, title } of chosen.flatMap((name) => backends[name] ?? [])) {
  console.log(`\n=== ${title}`)
  const { close, workloads } = await open()
  for (const workload of workloads.filter(({ name }) => name.includes(values.only))) {
    const result = await measure(workload, budget)
    report.print(result)
    results.push({ backend: title, ...result })
  }
  await close()
}
report.write(values.json, "event-store", results, { budget })
