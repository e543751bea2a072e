/**
 * `npm run test:mutation`: Stryker on all rooms, with whatever arguments of its own are given, or on one room.
 *
 * - `--room cacheStore --lines 40 --seed 1` puts in the mutants that lie within 40 lines of the room, the same ones for
 *   the same seed and sources. These numbers are what is taken if none are given.
 * - `--room cacheStore --mutate src/cacheStore/loads.ts:10-12` puts in those of the named lines instead.
 * - `--tests test/data-store.sqlite.test.ts` runs these tests instead of the room's.
 */
import { spawnSync } from "node:child_process"
import * as fs from "node:fs"
import { parseArgs } from "node:util"
import { filesOf, type Room, rooms } from "./rooms.js"

/** Numbers from 0 up to 1, the same for the same seed (mulberry32). */
const randoms = (seed: number) => {
  let state = seed
  return (): number => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

/** Lines that may hold a mutant: no comments, imports or types, and with a literal, an operator or a function. */
const isMutable = (line: string): boolean =>
  !/^\s*(\*|\/\*|\/\/|import\b|(export )?(declare|interface|type)\b|readonly\b)/.test(line) &&
  /["`!]|\b(true|false)\b|[=&|?]{2}|=>|\?\.|\[\]|\{\}| [-+*/%<>?] |[-+]=|-\w|\{$/.test(line)

/** Lines that are drawn from a room, each as a range of Stryker. */
const draw = (room: Room, count: number, seed: number): Array<string> => {
  const left = filesOf(room).flatMap((file) =>
    fs
      .readFileSync(file, "utf8")
      .split("\n")
      .flatMap((line, i) => (isMutable(line) ? [`${file}:${i + 1}-${i + 1}`] : []))
  )
  const random = randoms(seed)
  const drawn: Array<string> = []
  while (drawn.length < count && left.length > 0) {
    drawn.push(...left.splice(Math.floor(random() * left.length), 1))
  }
  return drawn.sort()
}

const base = JSON.parse(fs.readFileSync("test/mutation/stryker.config.json", "utf8"))

/** Runs Stryker, and returns the status that it ended with. */
const stryker = (
  name: string,
  tests: ReadonlyArray<string>,
  config: Record<string, unknown>,
  args: ReadonlyArray<string> = []
): number => {
  fs.mkdirSync(".mutation", { recursive: true })
  const file = `.mutation/${name}.config.json`
  const reports = {
    htmlReporter: { fileName: `.mutation/${name}.html` },
    jsonReporter: { fileName: `.mutation/${name}.json` }
  }
  fs.writeFileSync(file, JSON.stringify({ ...base, ...reports, ...config }))
  const { status } = spawnSync("npx", ["stryker", "run", file, ...args], {
    stdio: "inherit",
    env: { ...process.env, EFFECT_STORES_MUTATION_TESTS: JSON.stringify(tests) }
  })
  return status ?? 1
}

const isTried = ({ status }: Mutant): boolean => isKilled(status) || ["Survived", "NoCoverage"].includes(status)

const isKilled = (status: string): boolean => ["Killed", "Timeout"].includes(status)

interface Place {
  readonly line: number
  readonly column: number
}

/** Part of Stryker's report as JSON. */
interface Mutant {
  readonly mutatorName: string
  readonly replacement: string
  readonly status: string
  /** None where a run is of all tests. */
  readonly coveredBy?: ReadonlyArray<string>
  readonly testsCompleted?: number
  readonly location: { readonly start: Place; readonly end: Place }
}

interface Report {
  readonly files: Readonly<Record<string, { readonly mutants: ReadonlyArray<Mutant> }>>
  readonly testFiles: Readonly<Record<string, { readonly tests: ReadonlyArray<unknown> }>>
}

/**
 * Each mutant that a run has tried, by what it is, with what became of it. Stryker looks at tests only: where a mutant
 * keeps a file of tests from being loaded, fewer have ended and none has failed. That one is killed. How many there would
 * have been is known for those that were seen to reach it, and where a run is of all tests.
 */
const verdicts = (name: string, isOfAll: boolean): ReadonlyMap<string, Mutant & { readonly range: string }> => {
  const { files, testFiles }: Report = JSON.parse(fs.readFileSync(`.mutation/${name}.json`, "utf8"))
  const all = Object.values(testFiles).reduce((sum, { tests }) => sum + tests.length, 0)
  const statusOf = ({ coveredBy = [], status, testsCompleted = 0 }: Mutant): string =>
    status === "Survived" && testsCompleted < (coveredBy.length || (isOfAll ? all : 0)) ? "Killed" : status
  const found = Object.entries(files).flatMap(([file, { mutants }]) =>
    mutants.filter(isTried).map((mutant) => {
      const { end, start } = mutant.location
      const range = `${file}:${start.line}:${start.column - 1}-${end.line}:${end.column}`
      return [
        `${range} ${mutant.mutatorName} ${mutant.replacement}`,
        { ...mutant, status: statusOf(mutant), range }
      ] as const
    })
  )
  return new Map(found)
}

/**
 * 1. Tries each mutant against the tests that reach it.
 * 2. Those that live, and those that none is seen to reach, against all tests: which tests reach what a fiber runs that
 *    outlives the test which started it, Stryker cannot see.
 */
const tryRoom = (name: string, tests: ReadonlyArray<string>, mutate: ReadonlyArray<string>): void => {
  // A sample is small enough to try mutants of constants too.
  const config = { mutate, ignoreStatic: false, incremental: false, thresholds: { ...base.thresholds, break: null } }
  process.exitCode = stryker(name, tests, config)
  if (process.exitCode !== 0) return
  const first = verdicts(name, false)
  const doubtful = [...first].filter(([, { status }]) => !isKilled(status))
  let lived: ReadonlyArray<string> = []
  if (doubtful.length > 0) {
    const ranges = new Set(doubtful.map(([, { range }]) => range))
    const vitest = { ...base.vitest, related: false }
    process.exitCode = stryker(`${name}-again`, tests, {
      ...config,
      mutate: [...ranges],
      coverageAnalysis: "off",
      vitest
    })
    if (process.exitCode !== 0) return
    const second = verdicts(`${name}-again`, true)
    lived = doubtful.flatMap(([key]) => (isKilled(second.get(key)?.status ?? "") ? [] : [key]))
  }
  const score = (100 * (first.size - lived.length)) / first.size
  console.log(
    [`${name}: ${first.size} mutants, ${lived.length} lived, score ${score.toFixed(1)} %`, ...lived].join("\n")
  )
  if (score < base.thresholds.break) process.exitCode = 1
}

const args = process.argv.slice(2)
if (!args.includes("--room")) {
  const all = Object.values(rooms)
  const tests = all.flatMap(({ tests }) => tests)
  process.exitCode = stryker("report", tests, { mutate: all.flatMap(filesOf) }, args)
} else {
  const { values } = parseArgs({
    args,
    options: {
      room: { type: "string" },
      lines: { type: "string", default: "40" },
      seed: { type: "string", default: "1" },
      mutate: { type: "string" },
      tests: { type: "string" }
    }
  })
  const name = values.room ?? ""
  const room = rooms[name]
  if (room === undefined) throw new Error(`The rooms are ${Object.keys(rooms).join(", ")}`)
  const mutate = values.mutate?.split(",") ?? draw(room, Number(values.lines), Number(values.seed))
  console.log(`--room ${name} --mutate ${mutate.join(",")}`)
  tryRoom(name, values.tests?.split(",") ?? room.tests, mutate)
}
