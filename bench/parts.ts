/**
 * A bench in parts, each with what it opens: its workloads are measured one after the other, and it is closed. With
 * `profile` nothing is measured, and it is shown where the time of our side goes.
 */
import { parseArgs } from "node:util"
import * as docs from "./docs.js"
import { type Budget, measure, type Result, type Workload } from "./harness.js"
import { profile } from "./profile.js"
import * as report from "./report.js"

export interface Part {
  readonly title: string
  readonly workloads: ReadonlyArray<Workload>
  /** Versions and settings that the figures depend on. */
  readonly facts?: Readonly<Record<string, string>> | undefined
  readonly close: () => Promise<void>
}

const options = {
  what: { type: "string" },
  only: { type: "string", default: "" },
  quick: { type: "boolean", default: false },
  profile: { type: "boolean", default: false },
  docs: { type: "boolean", default: false },
  json: { type: "string" }
} as const

/** For a bench of named parts: `--what` chooses some. Throws at once for arguments that it does not know. */
export const chosenBy =
  (name: string, parts: Readonly<Record<string, () => Promise<Part>>>) =>
  (args: ReadonlyArray<string>): (() => Promise<void>) => {
    const { json = `.bench/${name}.json`, what, ...values } = parseArgs({ args: [...args], options }).values
    const chosen = (what?.split(",") ?? Object.keys(parts)).map((part) => {
      const named = parts[part]
      if (named === undefined) throw new Error(`nothing called ${part}`)
      return named
    })
    return () => runParts(name, chosen, { ...values, json })
  }

export const runParts = async (
  name: string,
  parts: ReadonlyArray<() => Promise<Part>>,
  options: {
    readonly only: string
    readonly quick: boolean
    readonly profile: boolean
    readonly docs?: boolean
    readonly json: string
  }
): Promise<void> => {
  const budget: Budget = options.quick
    ? { rounds: 3, turnMs: 70, warmUpMs: 200 }
    : { rounds: 13, turnMs: 140, warmUpMs: 350 }
  const loadBefore = await report.othersLoad()
  const results: Array<Result & { readonly backend: string }> = []
  for (const open of parts) {
    const { close, facts = {}, title, workloads } = await open()
    const measured: Array<Result> = []
    try {
      report.heading(title)
      for (const workload of workloads.filter(({ name }) => name.includes(options.only))) {
        if (options.profile) {
          await profile(workload)
          continue
        }
        const result = await measure(workload, budget)
        report.print(result)
        measured.push(result)
      }
      results.push(...measured.map((result) => ({ backend: title, ...result })))
      if (options.docs === true && measured.length > 0) {
        const text = docs.table(measured, "per second", ({ events }) => events)
        docs.replace(`${name} ${title}`, `${text}\n\n${docs.environment(facts, loadBefore)}`)
      }
    } finally {
      await close()
    }
  }
  if (options.profile) return
  report.summary(results)
  report.write(options.json, name, results, { budget, loadBefore })
}
