/**
 * What the project's documents are made of, for the tests that hold them: code blocks in Markdown and in doc comments,
 * links, headings, and the names that comments quote.
 */
import * as fs from "node:fs"
import * as path from "node:path"
import { fileURLToPath } from "node:url"
import ts from "typescript"

export const project = fileURLToPath(new URL("../..", import.meta.url))

/** A file of the project, by its path from the root. */
export interface Document {
  readonly file: string
  readonly text: string
}

const documentOf = (file: string): Document => ({ file, text: fs.readFileSync(path.join(project, file), "utf8") })

const filesBelow = (folder: string, extension: string): ReadonlyArray<string> =>
  (fs.readdirSync(path.join(project, folder), { recursive: true }) as Array<string>)
    .filter((file) => file.endsWith(extension))
    .map((file) => `${folder}/${file.split(path.sep).join("/")}`)
    .sort()

/** README.md, CONTRIBUTING.md and everything in docs and examples. */
export const markdown = (): ReadonlyArray<Document> =>
  ["README.md", "CONTRIBUTING.md", ...filesBelow("docs", ".md"), ...filesBelow("examples", ".md")].map(documentOf)

export const sources = (): ReadonlyArray<Document> => filesBelow("src", ".ts").map(documentOf)

/** A fenced block. `line` is that of its first line of code. */
export interface Block {
  readonly file: string
  readonly line: number
  readonly language: string
  readonly code: string
  /** What the block says that it prints: that of a `text` block which follows it with only blank lines between. */
  readonly printed: string | undefined
}

export const blocksOf = ({ file, text }: Document): ReadonlyArray<Block> =>
  [...text.matchAll(/^```(\w*)\n([\s\S]*?)^```$(?=(?:\s*^```text\n([\s\S]*?)^```$)?)/gm)].map(
    ({ 1: language = "", 2: code = "", 3: printed, index }) => ({
      file,
      line: lineAt(text, index) + 1,
      language,
      code,
      printed
    })
  )

/** The fenced blocks in the doc comments of a source file. */
export const docBlocksOf = ({ file, text }: Document): ReadonlyArray<Block> =>
  docCommentsOf(text).flatMap((comment) =>
    blocksOf({ file, text: comment.text }).map((block) => ({ ...block, line: comment.line + block.line - 1 }))
  )

export interface DocComment {
  /** The line of the file on which it begins. */
  readonly line: number
  /** Without the stars, with as many lines as in the file. */
  readonly text: string
}

export const docCommentsOf = (source: string): ReadonlyArray<DocComment> =>
  [...source.matchAll(/^[ \t]*\/\*\*([\s\S]*?)\*\//gm)].map(({ 1: body = "", index }) => ({
    line: lineAt(source, index),
    text: body.replace(/^[ \t]*\* ?/gm, "").trimEnd()
  }))

const lineAt = (text: string, index: number): number => text.slice(0, index).split("\n").length

/** A link to another place of the project. `heading` is what follows `#`. */
export interface Link {
  readonly from: string
  readonly line: number
  readonly file: string
  readonly heading: string | undefined
}

export const linksOf = ({ file, text }: Document): ReadonlyArray<Link> =>
  [...withoutCode(text).matchAll(/\]\(([^()\s]+)\)/g)].flatMap(({ 1: target = "", index }) => {
    if (/^[a-z]+:/.test(target)) return []
    const [to = "", heading] = target.split("#")
    return [
      {
        from: file,
        line: lineAt(text, index),
        file: to === "" ? file : path.posix.join(path.posix.dirname(file), to),
        heading
      }
    ]
  })

/** The headings of a document as links name them. */
export const headingsOf = ({ text }: Document): ReadonlyArray<string> =>
  [...withoutCode(text).matchAll(/^#+ (.*)$/gm)].map(({ 1: title = "" }) =>
    title
      .trim()
      .toLowerCase()
      .replace(/[^\p{L}\p{N}\s_-]/gu, "")
      .replace(/\s/g, "-")
  )

/** Blocks blanked, with the same length and lines. */
const withoutCode = (text: string): string =>
  text.replace(/^```[\s\S]*?^```$/gm, (block) => block.replace(/[^\n]/g, " "))

/** Every name that a source file declares: values, types, members, properties of literals; of SQL every word. */
export const declaredIn = ({ file, text }: Document): ReadonlySet<string> => {
  if (file.endsWith(".sql")) return new Set(text.match(/\w+/g))
  const names = new Set<string>()
  const visit = (node: ts.Node): void => {
    if ((ts.isIdentifier(node) || ts.isPrivateIdentifier(node)) && isDeclared(node)) names.add(node.text)
    ts.forEachChild(node, visit)
  }
  visit(ts.createSourceFile(file, text, ts.ScriptTarget.ESNext, true))
  return names
}

const isDeclared = (node: ts.Identifier | ts.PrivateIdentifier): boolean => {
  const { parent } = node
  return "name" in parent && parent.name === node && !ts.isPropertyAccessExpression(parent)
}
