/**
 * What the compiler says of programs that use the library. Those in test/types/right must compile, and show the types
 * that are written above their statements (`// type:`); those in test/types/wrong must have the errors that are written
 * above theirs (`// error:`, a part of the message), each mistake once, and no others.
 */
import { readdirSync } from "node:fs"
import * as path from "node:path"
import * as ts from "typescript"
import { assert, describe, it } from "vitest"

const root = path.join(import.meta.dirname, "..")
const folder = (name: string) => path.join(import.meta.dirname, "types", name)
const files = (name: string) => readdirSync(folder(name)).map((file) => path.join(folder(name), file))

const { options } = ts.parseJsonConfigFileContent(
  ts.readConfigFile(path.join(root, "tsconfig.json"), ts.sys.readFile).config,
  ts.sys,
  root
)
const program = ts.createProgram([...files("right"), ...files("wrong")], options)
const checker = program.getTypeChecker()

interface Statement {
  readonly line: number
  readonly node: ts.Statement
  /** What the comments above it say. */
  readonly expected: ReadonlyArray<string>
}

const statements = (source: ts.SourceFile, mark: "error" | "type"): ReadonlyArray<Statement> =>
  source.statements.map((node) => ({
    line: source.getLineAndCharacterOfPosition(node.getStart(source)).line + 1,
    node,
    expected: (ts.getLeadingCommentRanges(source.text, node.pos) ?? [])
      .map(({ end, pos }) => source.text.slice(pos, end))
      .flatMap((comment) => (comment.startsWith(`// ${mark}: `) ? [comment.slice(mark.length + 5)] : []))
  }))

const source = (file: string): ts.SourceFile => program.getSourceFile(file) ?? assert.fail(`${file} is not compiled`)

const messages = (file: string) =>
  [...program.getSyntacticDiagnostics(source(file)), ...program.getSemanticDiagnostics(source(file))].map(
    ({ messageText, start = 0 }) => ({ start, message: ts.flattenDiagnosticMessageText(messageText, "\n") })
  )

const shown = (node: ts.Statement): string => {
  if (!ts.isVariableStatement(node)) return assert.fail("only a constant has a type to show")
  const [declaration] = node.declarationList.declarations
  return declaration === undefined
    ? assert.fail("nothing is declared")
    : checker.typeToString(checker.getTypeAtLocation(declaration.name), declaration)
}

describe("programs that are right", () => {
  for (const file of files("right")) {
    it(`compile: ${path.basename(file)}`, () => {
      assert.deepStrictEqual(messages(file), [])
    })

    it(`show readable types: ${path.basename(file)}`, () => {
      for (const { expected, line, node } of statements(source(file), "type")) {
        if (expected.length > 0) assert.deepStrictEqual([shown(node)], expected, `line ${line}`)
      }
    })
  }
})

describe("programs that are wrong", () => {
  for (const file of files("wrong")) {
    it(`do not compile, and say why: ${path.basename(file)}`, () => {
      const found = messages(file)
      for (const { expected, line, node } of statements(source(file), "error")) {
        const here = found.filter(({ start }) => start >= node.pos && start < node.end).map(({ message }) => message)
        const place = `line ${line}:\n${here.join("\n\n")}`
        assert.strictEqual(here.length, expected.length, place)
        for (const part of expected)
          assert.isTrue(
            here.some((message) => message.includes(part)),
            `${part}\n${place}`
          )
      }
    })
  }
})
