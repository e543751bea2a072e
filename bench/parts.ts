/**
 * A bench in parts, each with what it opens: its workloads are measured one after the other, and it is closed. With
 * `profile` nothing is measured, and it is shown where the time of our side goes.
 */
import { parseArgs } from "node:util"
import * as docs from "./docs.js"
import { budgetOf, measure, type Result, type Workload } from "./harness.js"
import { profile } from "./profile.js"
import * as report from "./report.js"

export interface Part {
  readonly title: string
  readonly workloads: ReadonlyArray<Workload>
  /** Versions and settings that the figures depend on. */
  readonly facts?: Readonly<Record<string, string>> | undefined
  readonly close: () => Promise<void>
}

/** What every bench of parts understands. */
export const usage = "[--only TEXT] [--quick | --brief | --profile] [--docs] [--json FILE]"

const options = {
  what: { type: "string" },
  only: { type: "string", default: "" },
  quick: { type: "boolean", default: false },
  brief: { type: "boolean", default: false },
  profile: { type: "boolean", default: false },
  docs: { type: "boolean", default: false },
  json: { type: "string" }
} as const

export type Measured = Result & { readonly backend: string }

interface Options {
  /** What is left of a part with `--quick`; all, unless it says otherwise. */
  readonly isQuick?: (workload: Workload) => boolean
  /** Draws, into docs/ with `--docs`. */
  readonly draw?: (results: ReadonlyArray<Measured>, directory: string) => void
}

/** For a bench of named parts: `--what` chooses some. Throws at once for arguments that it does not know. */
export const chosenBy =
  (name: string, parts: Readonly<Record<string, () => Promise<Part>>>, { draw, isQuick = () => true }: Options = {}) =>
  (args: ReadonlyArray<string>): (() => Promise<void>) => {
    const { json = `.bench/${name}.json`, what, ...values } = parseArgs({ args: [...args], options }).values
    const chosen = (what?.split(",") ?? Object.keys(parts)).map((part) => {
      const named = parts[part]
      if (named === undefined) throw new Error(`nothing called ${part}`)
      return named
    })
    return async () => {
      const budget = budgetOf(values)
      const loadBefore = await report.othersLoad()
      const results: Array<Measured> = []
      const allFacts: Record<string, string> = {}
      for (const open of chosen) {
        const { close, facts = {}, title, workloads } = await open()
        Object.assign(allFacts, facts)
        const measured: Array<Measured> = []
        try {
          report.heading(title)
          for (const workload of workloads) {
            if (!workload.name.includes(values.only) || (values.quick && !isQuick(workload))) continue
            if (values.profile) {
              await profile(workload)
              continue
            }
            const result = await measure(workload, budget)
            report.print(result)
            measured.push({ backend: title, ...result })
          }
          results.push(...measured)
          if (values.docs && measured.length > 0) {
            const text = docs.table(measured, "per second", ({ events }) => events)
            docs.replace(`${name} ${title}`, `${text}\n\n${docs.environment(facts, loadBefore)}`)
          }
        } finally {
          await close()
        }
      }
      if (values.profile) return
      report.summary(results)
      report.write(json, name, results, { facts: allFacts, budget, loadBefore })
      draw?.(results, values.docs ? "docs" : ".bench")
    }
  }
