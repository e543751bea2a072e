/**
 * The examples that are printed: what the README shows as a program is type-checked, is run as it is printed, and
 * prints what the README says it prints.
 *
 * A block fenced as `ts` that has `Effect.runPromise` or `NodeRuntime.runMain` in it is a program. When a block fenced
 * as `text` follows it, with nothing but blank lines between, that is all it prints; `…` there stands for any text.
 */
import { spawnSync } from "node:child_process"
import * as fs from "node:fs"
import * as path from "node:path"
import { fileURLToPath } from "node:url"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { temporaryDirectory } from "./support/backends.js"

const project = fileURLToPath(new URL("..", import.meta.url))

describe("examples/first-steps.ts", () => {
  const printed =
    "too late: version 2 is there already\nread 1: Placed\nread 2: Shipped\nfollowed: Placed\nfollowed: Shipped\n"

  it("runs in memory", () => {
    expect(runProgram("examples/first-steps.ts")).toEqual({ code: 0, stderr: "", stdout: printed })
  })

  it("runs on a file, again and again", () => {
    const file = path.join(temporaryDirectory(), "orders.db")
    for (const _ of [1, 2]) {
      expect(runProgram("examples/first-steps.ts", file)).toEqual({ code: 0, stderr: "", stdout: printed })
    }
  })
})

describe("examples/audit.ts", () => {
  it("goes from a command to its events and back, and transfers nothing twice", () => {
    const file = path.join(temporaryDirectory(), "audit.db")
    const { code, stderr, stdout } = runProgram("examples/audit.ts", file)
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" })
    expect(stdout).toBe(
      [
        "left: 3, asked again: 3",
        "refused: TooLittleMoney",
        "from the command to its events:",
        'Transfer {"from":"alice","to":"bob","amount":7}: succeeded',
        '  alice 2: Withdrawn {"amount":7}',
        '  bob 1: Deposited {"amount":7}',
        'Transfer {"from":"alice","to":"bob","amount":5}: failed',
        "from the account to its commands:",
        "  1: Deposited, because of nothing",
        "  2: Withdrawn, because of Transfer d1f6",
        ""
      ].join("\n")
    )
  })
})

describe("the programs of README.md", () => {
  const programs = programsOf(fs.readFileSync(path.join(project, "README.md"), "utf8"))
  // inside the project, so that `effect-stores` is this one
  const directory = path.join(project, ".demo", `readme-${process.pid}`)
  const fileOf = (index: number) => path.join(directory, `program-${index + 1}.ts`)

  beforeAll(() => {
    fs.mkdirSync(directory, { recursive: true })
    for (const [index, { code }] of programs.entries()) fs.writeFileSync(fileOf(index), code)
    const config = { extends: "../../tsconfig.json", include: ["*.ts"] }
    fs.writeFileSync(path.join(directory, "tsconfig.json"), JSON.stringify(config))
  })
  afterAll(() => fs.rmSync(directory, { recursive: true, force: true }))

  it("are there", () => {
    expect(programs.length).toBeGreaterThan(0)
  })

  it("fit the types of the library", () => {
    const compiler = path.join(project, "node_modules/typescript/bin/tsc")
    const { status, stdout } = spawnSync(process.execPath, [compiler, "-p", directory], { encoding: "utf8" })
    expect(stdout).toBe("")
    expect(status).toBe(0)
  }, 60_000)

  for (const [index, { expected, line }] of programs.entries()) {
    it(`runs as printed: the one at line ${line}`, () => {
      const { code, stderr, stdout } = runProgram(fileOf(index))
      expect(stderr).toBe("")
      expect(code).toBe(0)
      if (expected !== undefined) expect(stdout.trimEnd()).toMatch(expected)
    })
  }
})

describe("the reader of the README", () => {
  it("finds programs and what they print, and leaves fragments alone", () => {
    const fenced = (language: string, text: string) => `\`\`\`${language}\n${text}\n\`\`\`\n`
    const programs = programsOf(
      [
        fenced("ts", "const fragment = 1"),
        fenced("ts", "Effect.runPromise(a)"),
        fenced("text", "took … ms (1+1)"),
        fenced("ts", "NodeRuntime.runMain(b)"),
        "It prints nothing worth showing.",
        fenced("text", "something else")
      ].join("\n")
    )
    expect(programs.map(({ code }) => code)).toEqual(["Effect.runPromise(a)\n", "NodeRuntime.runMain(b)\n"])
    expect("took 12 ms (1+1)").toMatch(programs[0]?.expected ?? /^$/)
    expect("took 12 ms (1+2)").not.toMatch(programs[0]?.expected ?? /./)
    expect(programs[1]?.expected).toBeUndefined()
  })
})

interface Program {
  readonly code: string
  readonly line: number
  readonly expected: RegExp | undefined
}

function programsOf(markdown: string): Array<Program> {
  const blocks = /^```ts\n([\s\S]*?)^```\n(?:\s*^```text\n([\s\S]*?)^```)?/gm
  return [...markdown.matchAll(blocks)].flatMap(({ 1: code = "", 2: output, index }) =>
    /Effect\.runPromise|NodeRuntime\.runMain/.test(code)
      ? [
          {
            code,
            line: markdown.slice(0, index).split("\n").length,
            expected: output === undefined ? undefined : pattern(output)
          }
        ]
      : []
  )
}

function pattern(output: string): RegExp {
  const literal = (text: string) => text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")
  return new RegExp(`^${output.trimEnd().split("…").map(literal).join("[\\s\\S]*")}$`)
}

function runProgram(file: string, ...args: ReadonlyArray<string>) {
  const { status, stderr, stdout } = spawnSync(
    process.execPath,
    ["--import", "tsx", "--conditions=source", file, ...args],
    { cwd: project, encoding: "utf8", timeout: 25_000 }
  )
  return { code: status, stderr, stdout }
}
