/**
 * The examples: the programs of examples/, and every block of code that is printed in README.md, CONTRIBUTING.md, docs
 * and the doc comments of src.
 *
 * A block fenced as `ts` must compile. It is a module of its own, so it imports what it uses. What it declares it need
 * not use, but what it imports it must. One that has `Effect.runPromise` or `NodeRuntime.runMain` in it is a program,
 * and is run as printed. When a block fenced as `text` follows it, with nothing but blank lines between, that is all it
 * prints; `…` there stands for any text. Programs run without servers: on memory, or on Sqlite with `:memory:`. One that
 * chooses PostgreSQL by `DATABASE_URL` runs there, too.
 */
import { execFile } from "node:child_process"
import * as fs from "node:fs"
import * as path from "node:path"
import { Context, Effect, Layer, Option } from "effect"
import { DataStore, EventStore } from "effect-stores"
import { DataStoreMemory, EventStoreMemory } from "effect-stores/memory"
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest"
import { bucket, issue, missingDocuments, sweepObjects } from "../examples/invoices/invoices.js"
import { describePg, freshDatabase, temporaryDirectory } from "./support/backends.js"
import { bundledAll, fromSources } from "./support/child.js"
import { type Block, blocksOf, docBlocksOf, markdown, project, sources } from "./support/documents.js"

const programTimeoutMs = 600_000
const compilerTimeoutMs = 800_000
vi.setConfig({ testTimeout: 3 * programTimeoutMs })

describe("examples/first-steps.ts", () => {
  const printed =
    "too late: version 2 is there already\nread 1: Placed\nread 2: Shipped\nfollowed: Placed\nfollowed: Shipped\n"

  it("runs in memory", async () => {
    expect(await runProgram("examples/first-steps.ts")).toEqual({ code: 0, stderr: "", stdout: printed })
  })

  it("runs on a file, again and again", async () => {
    const file = path.join(temporaryDirectory(), "orders.db")
    for (const _ of [1, 2]) {
      expect(await runProgram("examples/first-steps.ts", file)).toEqual({ code: 0, stderr: "", stdout: printed })
    }
  })
})

describe("examples/audit.ts", () => {
  it("goes from a command to its events and back, and transfers nothing twice", async () => {
    const file = path.join(temporaryDirectory(), "audit.db")
    const { code, stderr, stdout } = await runProgram("examples/audit.ts", file)
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

describe("examples/invoices", () => {
  it("finds the halves that were lost, in both directions", async () => {
    const { code, stderr, stdout } = await runProgram("examples/invoices/main.ts", temporaryDirectory())
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" })
    expect(stdout).toBe(
      [
        "within the grace: 0",
        "would be deleted: acme/2026-3/abc",
        "deleted: acme/2026-3/abc",
        "left to delete: 0",
        "events without a document: 1, true",
        "documents: 1, true",
        ""
      ].join("\n")
    )
  })

  it("leaves an object alone that an event refers to since the sweep has looked", async () => {
    const id = { tenantId: "acme", aggregateId: "2026-9" }
    const document = new TextEncoder().encode("%PDF")
    const swept = await Effect.gen(function* () {
      const objects = yield* DataStore.DataStore
      yield* objects.buckets.create(bucket)
      const name = yield* issue(id, 1, document)
      const events = yield* EventStore.EventStore
      yield* events.maintenance.deleteStream({ ...id, domain: "invoice" })
      yield* Effect.sleep("5 millis")
      const orphans = yield* sweepObjects({
        grace: 0,
        dryRun: false,
        // Between the look and the deletion.
        progress: () => Effect.orDie(Effect.asVoid(Effect.provide(issue(id, 1, document), context(objects, events))))
      })
      return { orphans, left: Option.isSome(yield* objects.head({ bucket, name })), missing: yield* missingDocuments }
    }).pipe(Effect.provide(Layer.merge(DataStoreMemory.layer(), EventStoreMemory.layer())), Effect.runPromise)
    expect(swept).toEqual({ orphans: [], left: true, missing: [] })
  })
})

const context = (objects: DataStore.DataStoreShape, events: EventStore.EventStoreShape) =>
  Context.make(DataStore.DataStore, objects).pipe(Context.add(EventStore.EventStore, events))

describe("the code in README.md, CONTRIBUTING.md, docs and doc comments", () => {
  const blocks = [...markdown().flatMap(blocksOf), ...sources().flatMap(docBlocksOf)].filter(
    ({ language }) => language === "ts"
  )
  // inside the project, so that `effect-stores` is this one
  const directory = path.join(project, ".demo", `blocks-${process.pid}`)
  const nameOf = ({ file, line }: Block) => `${file.replace(/\W/g, "-")}-${line}.ts`
  const fileOf = (block: Block) => path.join(directory, nameOf(block))

  beforeAll(() => {
    fs.mkdirSync(directory, { recursive: true })
    for (const block of [...blocks, ...seeded]) fs.writeFileSync(fileOf(block), moduleOf(block))
    for (const [file, code] of standIns(blocks)) fs.writeFileSync(path.join(directory, file), code)
    const config = { extends: "../../tsconfig.json", include: ["*.ts"] }
    fs.writeFileSync(path.join(directory, "tsconfig.json"), JSON.stringify(config))
  })
  afterAll(() => fs.rmSync(directory, { recursive: true, force: true }))

  it("is found", () => {
    const found = (file: string) => blocks.filter((block) => block.file === file).length
    expect(found("README.md")).toBeGreaterThan(0)
    expect(found("src/EventStore.ts")).toBeGreaterThan(0)
    expect(blocks.filter(isProgram).length).toBeGreaterThan(3)
    expect(new Set(blocks.map(nameOf)).size).toBe(blocks.length)
  })

  it(
    "compiles, and what does not compile is noticed",
    async () => {
      const compiler = path.join(project, "node_modules/typescript/bin/tsc")
      const { stdout } = await run([compiler, "--pretty", "false", "-p", directory], compilerTimeoutMs)
      const errors = errorsOf(stdout, [...blocks, ...seeded], nameOf)
      expect(errors.filter((error) => !error.startsWith("seeded.md"))).toEqual([])
      expect(
        errors.filter((error) => error.startsWith("seeded.md")).map((error) => error.split(":", 3).join())
      ).toEqual(["seeded.md,11, error TS2322", "seeded.md,20, error TS6133"])
    },
    compilerTimeoutMs
  )

  const programs = blocks.filter(isProgram)
  const bundleOf = (block: Block) => bundledAll(programs.map(fileOf))[programs.indexOf(block)] as string

  for (const block of programs) {
    it(`runs as printed: ${block.file}:${block.line}`, async () => {
      const { code, stderr, stdout } = await run([bundleOf(block)], programTimeoutMs)
      expect(stderr).toBe("")
      expect(code).toBe(0)
      if (block.printed !== undefined) expect(stdout.trimEnd()).toMatch(pattern(block.printed))
    })
  }

  describePg("that choose PostgreSQL by DATABASE_URL", () => {
    const onBoth = programs.filter(({ code }) => code.includes("process.env.DATABASE_URL"))

    it("are found", () => expect(onBoth.map(({ file }) => file)).toEqual(["docs/transactions.md"]))

    for (const block of onBoth) {
      it(`run there as printed: ${block.file}:${block.line}`, async () => {
        const environment = { DATABASE_URL: await freshDatabase() }
        const { code, stderr, stdout } = await run([bundleOf(block)], programTimeoutMs, environment)
        expect({ code, stderr }).toEqual({ code: 0, stderr: "" })
        expect(stdout.trimEnd()).toMatch(pattern(block.printed ?? ""))
      })
    }
  })
})

/** Blocks that must not pass: a wrong type, an import without use. */
const seeded: ReadonlyArray<Block> = [
  { file: "seeded.md", line: 10, code: 'const fine = 1\nconst wrong: number = "text"\n' },
  { file: "seeded.md", line: 20, code: 'import { Effect } from "effect"\n' }
].map((block) => ({ ...block, language: "ts", printed: undefined }))

/** The modules of a user that examples import, such as `./EventStoreMine.js`: a backend of their own. */
const standIns = (blocks: ReadonlyArray<Block>): ReadonlyArray<readonly [file: string, code: string]> =>
  [...new Set(blocks.flatMap(({ code }) => code.match(/(?<=from "\.\/)\w+(?=Mine\.js")/g) ?? []))].map((store) => [
    `${store}Mine.ts`,
    `import type { Layer } from "effect"
     import type { ${store} } from "effect-stores"
     export declare const ${store}Mine: {
       layer(options: { url: string; readOnly?: boolean }): Layer.Layer<${store}.${store}>
     }`
  ])

// A module even without imports, or its names would be those of all blocks.
const moduleOf = ({ code }: Block): string => (/^(import|export) /m.test(code) ? code : `${code}export {}\n`)

const isProgram = ({ code }: Block): boolean => /Effect\.runPromise|NodeRuntime\.runMain/.test(code)

/** What the compiler reports, at the lines of the documents. A fragment may declare what it does not use. */
const errorsOf = (stdout: string, blocks: ReadonlyArray<Block>, nameOf: (block: Block) => string): Array<string> =>
  stdout
    .split("\n")
    .filter((line) => line !== "" && !line.startsWith(" "))
    .flatMap((report) => {
      const [, file, line, error] = report.match(/([^/]*)\((\d+),\d+\)(: error .*)$/) ?? []
      const block = blocks.find((block) => nameOf(block) === file)
      if (block === undefined) return [report]
      const code = block.code.split("\n")[Number(line) - 1] ?? ""
      if (/TS(6133|6196)/.test(error ?? "") && !code.startsWith("import ")) return []
      return [`${block.file}:${block.line + Number(line) - 1}${error}`]
    })

describe("the reader of documents", () => {
  it("finds programs and what they print, and leaves fragments alone", () => {
    const fenced = (language: string, text: string) => `\`\`\`${language}\n${text}\n\`\`\`\n`
    const text = [
      fenced("ts", "const fragment = 1"),
      fenced("ts", "Effect.runPromise(a)"),
      fenced("text", "took … ms (1+1)"),
      fenced("ts", "NodeRuntime.runMain(b)"),
      "It prints nothing worth showing.",
      fenced("text", "something else")
    ].join("\n")
    const programs = blocksOf({ file: "a.md", text }).filter((block) => block.language === "ts" && isProgram(block))
    expect(programs.map(({ code, line }) => ({ code, line }))).toEqual([
      { code: "Effect.runPromise(a)\n", line: 6 },
      { code: "NodeRuntime.runMain(b)\n", line: 14 }
    ])
    expect("took 12 ms (1+1)").toMatch(pattern(programs[0]?.printed ?? ""))
    expect("took 12 ms (1+2)").not.toMatch(pattern(programs[0]?.printed ?? ""))
    expect(programs[1]?.printed).toBeUndefined()
  })

  it("finds the blocks of doc comments, at their lines", () => {
    const text = "const a = 1\n/**\n * Adds.\n *\n * ```ts\n * add(1)\n *\n * ```\n */\nconst b = 2"
    expect(docBlocksOf({ file: "a.ts", text })).toEqual([
      { file: "a.ts", line: 6, language: "ts", code: "add(1)\n\n", printed: undefined }
    ])
  })
})

function pattern(output: string): RegExp {
  const literal = (text: string) => text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")
  return new RegExp(`^${output.trimEnd().split("…").map(literal).join("[\\s\\S]*")}$`)
}

/** Waits without blocking: the test runner must hear of this file meanwhile. */
const run = (args: ReadonlyArray<string>, timeoutMs: number, variables: Readonly<Record<string, string>> = {}) =>
  new Promise<{ readonly code: unknown; readonly stderr: string; readonly stdout: string }>((resolve) => {
    const env = { ...process.env, ...variables }
    execFile(process.execPath, args, { cwd: project, timeout: timeoutMs, env }, (error, stdout, stderr) =>
      resolve({ code: error === null ? 0 : (error.code ?? error.signal), stderr, stdout })
    )
  })

const runProgram = (file: string, ...args: ReadonlyArray<string>) =>
  run([...fromSources(file), ...args], programTimeoutMs)
