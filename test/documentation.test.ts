/**
 * What is written about the project agrees with it: links lead somewhere, commands exist, the places that
 * docs/architecture.md names are where it says, and names that doc comments quote are names of the code.
 */
import * as fs from "node:fs"
import * as path from "node:path"
import * as effect from "effect"
import ts from "typescript"
import { describe, expect, it } from "vitest"
import {
  blocksOf,
  type Document,
  declaredIn,
  docCommentsOf,
  headingsOf,
  linksOf,
  markdown,
  project,
  sources
} from "./support/documents.js"

const read = (file: string): string => fs.readFileSync(path.join(project, file), "utf8")

/** Links of a document that lead nowhere. */
const broken = (document: Document): ReadonlyArray<string> =>
  linksOf(document).flatMap(({ file, from, heading, line }) => {
    if (!fs.existsSync(path.join(project, file))) return [`${from}:${line}: ${file} does not exist`]
    if (heading === undefined) return []
    const text = file === from ? document.text : read(file)
    return headingsOf({ file, text }).includes(heading) ? [] : [`${from}:${line}: ${file} has no heading #${heading}`]
  })

describe("links", () => {
  it("between README.md, CONTRIBUTING.md, docs and sources lead to files and headings that exist", () => {
    expect(markdown().flatMap(linksOf).length).toBeGreaterThan(20)
    expect(markdown().flatMap(broken)).toEqual([])
  })

  it("that lead nowhere are noticed", () => {
    const text = "# A title, `b`\n[a](gone.md) [b](#a-title-b) [c](#c) [d](https://example.com) [e](../README.md#e)"
    expect(broken({ file: "docs/limits.md", text })).toEqual([
      "docs/limits.md:2: docs/gone.md does not exist",
      "docs/limits.md:2: docs/limits.md has no heading #c",
      "docs/limits.md:2: README.md has no heading #e"
    ])
  })
})

/** Commands of a document that this repository does not have: scripts of npm, files given to vitest, tsx and npm. */
const unknownCommands = (document: Document): ReadonlyArray<string> =>
  blocksOf(document)
    .filter(({ language }) => language === "sh")
    .flatMap(({ code, line }) =>
      code.split("\n").flatMap((command, i) => {
        const words = command.replace(/\s#.*$/, "").split(/\s+/)
        const scripts = words.filter((_, i) => words[i - 1] === "run" && words[i - 2] === "npm")
        const files = words.filter((word) => /^(src|test|docs|examples|bench|\.ci)\/[\w./-]*$/.test(word))
        return [
          ...scripts.filter((script) => !(script in JSON.parse(read("package.json")).scripts)),
          ...files.filter((file) => !fs.existsSync(path.join(project, file)))
        ].map((what) => `${document.file}:${line + i}: there is no ${what}`)
      })
    )

describe("commands", () => {
  it("in README.md, CONTRIBUTING.md and docs name scripts and files that exist", () => {
    expect(markdown().flatMap(unknownCommands)).toEqual([])
  })

  it("that do not exist are noticed", () => {
    const text = "```sh\nnpm ci && npm run demo # npm run b\nnpm run gone\nnpx vitest run test/gone.test.ts\n```\n"
    expect(unknownCommands({ file: "a.md", text })).toEqual([
      "a.md:3: there is no gone",
      "a.md:4: there is no test/gone.test.ts"
    ])
  })
})

/** Paths that the text of a document names, beside links, and that do not exist. */
const unknownPaths = ({ file, text }: Document): ReadonlyArray<string> =>
  text
    .split("\n")
    .flatMap((row, i) =>
      [...row.matchAll(/(?<![\w/.(])(?:src|test|docs|bench|examples)\/[\w./-]*\w/g)].flatMap(([named]) =>
        fs.existsSync(path.join(project, named)) ? [] : [`${file}:${i + 1}: ${named} does not exist`]
      )
    )

describe("paths", () => {
  it("that README.md, CONTRIBUTING.md and docs name exist", () => {
    expect(markdown().flatMap(unknownPaths)).toEqual([])
  })

  it("that do not exist are noticed", () => {
    const text = "See test/pg, test/gone.test.ts and\n`src/gone`, not ../some/repository."
    expect(unknownPaths({ file: "a.md", text })).toEqual([
      "a.md:1: test/gone.test.ts does not exist",
      "a.md:2: src/gone does not exist"
    ])
  })
})

/** A row of the table "Where is ...?": a name, and the file that must declare it. */
interface Place {
  readonly line: number
  readonly name: string
  readonly file: string
}

/** Every `` `name` in [file](link) `` of a document; several names may share a file. */
const placesOf = ({ file: from, text }: Document): ReadonlyArray<Place> =>
  text.split("\n").flatMap((row, i) =>
    [...row.matchAll(/((?:`[^`]+`(?:, | and )?)+) in \[[^\]]*\]\(([^)#]+)\)/g)].flatMap(([, names = "", link = ""]) =>
      [...names.matchAll(/`([^`]+)`/g)].map(([, name = ""]) => ({
        line: i + 1,
        name,
        file: path.posix.join(path.posix.dirname(from), link)
      }))
    )
  )

const misplaced = (document: Document): ReadonlyArray<string> => {
  const declared = new Map<string, ReadonlySet<string>>()
  return placesOf(document).flatMap(({ file, line, name }) => {
    if (!fs.existsSync(path.join(project, file))) return [`${document.file}:${line}: ${file} does not exist`]
    const names = declared.get(file) ?? declaredIn({ file, text: read(file) })
    declared.set(file, names)
    return name.split(".").every((part) => names.has(part))
      ? []
      : [`${document.file}:${line}: ${file} does not declare ${name}`]
  })
}

describe("docs/architecture.md", () => {
  const file = "docs/architecture.md"
  const architecture = { file, text: read(file) }

  it("says where things are, and they are there", () => {
    const table = architecture.text.split(/^## /m).find((section) => section.startsWith("Where is"))
    const rows = table?.split("\n").filter((row) => row.startsWith("| Where")) ?? []
    expect(rows.length).toBeGreaterThanOrEqual(20)
    expect(rows.filter((text) => placesOf({ file, text }).length === 0)).toEqual([])
    expect(misplaced(architecture)).toEqual([])
  })

  it("names every folder of src", () => {
    const folders = fs.readdirSync(path.join(project, "src"), { withFileTypes: true }).filter((e) => e.isDirectory())
    expect(folders.map(({ name }) => name).filter((name) => !architecture.text.includes(`${name}/`))).toEqual([])
  })

  it("would not be believed", () => {
    const text = "`lift`, `settle` and `gone` in [a](../src/eventStore/lift.ts), `x` in [b](../src/x.ts)"
    expect(misplaced({ file, text })).toEqual([
      `${file}:1: src/eventStore/lift.ts does not declare gone`,
      `${file}:1: src/x.ts does not exist`
    ])
  })
})

describe("decisions", () => {
  const decisions = markdown().filter(({ file }) => /^docs\/decisions\/\d/.test(file))

  it("have a number of their own, a date, a status and all parts", () => {
    expect(decisions.length).toBeGreaterThanOrEqual(7)
    decisions.forEach(({ file, text }, i) => {
      expect(file).toMatch(new RegExp(`/${String(i + 1).padStart(2, "0")}-`))
      expect(text, file).toMatch(/^# .+\n\n\d{4}-\d\d-\d\d\. (Accepted|Replaced by \[\d\d\]\(.+\))\.$/m)
      const parts = [...text.matchAll(/^\*\*(.+?)\.\*\*/gm)].map(([, part]) => part)
      expect(parts, file).toEqual(["Context", "Decision", "Instead of", "Consequences"])
    })
  })
})

/** What code names, wherever: identifiers, and words in texts such as SQL, options and tags. */
const wordsOf = (source: string): ReadonlySet<string> => {
  const words = new Set<string>()
  const visit = (node: ts.Node): void => {
    if (ts.isIdentifier(node) || ts.isPrivateIdentifier(node)) words.add(node.text)
    else if (ts.isStringLiteralLike(node) || ts.isTemplateHead(node) || ts.isTemplateMiddleOrTemplateTail(node)) {
      for (const [word] of node.text.matchAll(/\w+/g)) words.add(word)
    }
    ts.forEachChild(node, visit)
  }
  visit(ts.createSourceFile("a.ts", source, ts.ScriptTarget.ESNext, true))
  return words
}

/** Names that comments quote and that are PostgreSQL's own. */
const foreign = new Set([
  "lock_not_available",
  "max_connections",
  "max_locks_per_transaction",
  "max_prepared_transactions",
  "pg_stat_activity"
])

/** The names of a set of sources, by which quoted ones are told. */
const namesOf = (files: ReadonlyArray<Document>) => {
  const words = new Set(files.flatMap(({ text }) => [...wordsOf(text)]))
  const modules = new Map(files.map((file) => [path.posix.basename(file.file, ".ts"), declaredIn(file)]))

  const listed = fs.readFileSync(new URL("../docs/configuration.md", import.meta.url), "utf8")
  const variables = [...listed.matchAll(/`([A-Z][A-Z_]+)`/g)].map(([, name = ""]) => name)

  /**
   * Of a dotted name the first part may be a module, ours or Effect's, which then must have the rest. Else each part must
   * be a word of the code, be it a variable of the environment with the prefix of an example. A variable is one, or the
   * beginning or the end of one, that docs/configuration.md lists.
   */
  const isVariable = (quoted: string): boolean =>
    variables.some((name) => name.startsWith(quoted) || name.endsWith(`_${quoted}`))

  const isKnown = (quoted: string): boolean => {
    if (foreign.has(quoted) || modules.has(quoted.replace(/\.ts$/, ""))) return true
    if (/^[A-Z][A-Z_]*_[A-Z_]*$/.test(quoted) && isVariable(quoted)) return true
    const [first = "", ...rest] = quoted.split(".")
    const own = modules.get(first)
    const effects = (effect as Record<string, unknown>)[first]
    if (rest.length > 0 && own !== undefined) return rest.every((part) => own.has(part))
    if (rest.length > 0 && typeof effects === "object" && effects !== null) return (rest[0] as string) in effects
    return [first.replace(/^[A-Z]+_/, ""), ...rest].every((part) => words.has(part))
  }

  /** Quoted names that are not known. Looked at is only what can be nothing but a name: in camel case, with _ or a dot. */
  return (document: Document): ReadonlyArray<string> =>
    docCommentsOf(document.text).flatMap(({ line, text }) =>
      text
        .split("\n")
        .flatMap((row, i) =>
          [...row.matchAll(/`([A-Za-z_][\w.]*)`/g)].flatMap(([, quoted = ""]) =>
            !/[a-z][A-Z]|_|\./.test(quoted) || isKnown(quoted) ? [] : [`${document.file}:${line + i}: ${quoted}`]
          )
        )
    )
}

describe("doc comments", () => {
  const files = sources()
  const unknownNames = namesOf(files)

  it("quote names that exist", () => {
    expect(files.flatMap(unknownNames)).toEqual([])
  })

  it("that quote another name are noticed", () => {
    const text =
      "/**\n * `Effect.map`, `Effect.mop`,\n * `appendAll`, `appendSome`, `any`, `Pool.limits`, `Pool.limit`\n */"
    expect(unknownNames({ file: "a.ts", text })).toEqual([
      "a.ts:2: Effect.mop",
      "a.ts:3: appendSome",
      "a.ts:3: Pool.limit"
    ])
  })
})
