/**
 * The site that `npm run docs` builds into .site: the guides of docs, and the reference from the doc comments of the
 * package's entry points. TypeDoc makes it; here stands which pages there are, what they are called and where they are.
 * A link or an anchor that leads nowhere fails the build, as does everything that TypeDoc warns of.
 */
import { readdirSync, readFileSync } from "node:fs"
import * as path from "node:path"
import { fileURLToPath } from "node:url"
import { Comment, Converter, DefaultTheme, DocumentReflection, MinimalSourceFile, StructureRouter } from "typedoc"

const project = fileURLToPath(new URL("../..", import.meta.url))
const read = (file) => readFileSync(path.join(project, file), "utf8")
const fromRoot = (file) => path.relative(project, file).split(path.sep).join("/")
const markdownIn = (folder) =>
  readdirSync(path.join(project, folder))
    .filter((file) => file.endsWith(".md"))
    .map((file) => `${folder}/${file}`)
    .sort()

/** What is imported under which name: the entry points of package.json. */
const entryPoints = new Map(
  Object.entries(JSON.parse(read("package.json")).exports).flatMap(([name, { source }]) =>
    source === undefined ? [] : [[path.join(project, source), path.posix.join("effect-stores", name)]]
  )
)

/** The guides, under the names and in the order of README.md. */
const guides = new Map(
  [...read("README.md").matchAll(/^- \[(.+?)\]\((docs\/[\w-]+\.md)\)/gm)].map(([, title, file]) => [file, title])
)

/** Pages by the group that they stand in. A new file of docs that README.md does not list stands in the second. */
const groups = {
  Guides: [...guides.keys(), "examples/orders/README.md"],
  "How it works": markdownIn("docs").filter((file) => !guides.has(file)),
  Decisions: ["docs/decisions/README.md", ...markdownIn("docs/decisions").filter((file) => /\d/.test(file))],
  Project: ["CONTRIBUTING.md", "CHANGELOG.md"]
}

/** Sources that guides link to and that are not in the reference: pages of their own that no menu lists. */
const sources = "Sources"

const titleOf = (file) => {
  const number = /^docs\/decisions\/(\d+)/.exec(file)?.[1]
  const heading = /^# (.*)$/m.exec(read(file))?.[1].replaceAll("`", "")
  return guides.get(file) ?? (number === undefined ? heading : `${number}. ${heading}`)
}

/** A guide is docs/guide.md and guide.html, a module is effect-stores/pg and effect-stores/pg.html. */
class Router extends StructureRouter {
  getIdealBaseName(reflection) {
    const file = reflection.isDocument() && reflection.project.files.getReflectionPath(reflection)
    return file
      ? fromRoot(file)
          .replace(/^docs\//, "")
          .replace(/\.md$/, "")
      : super.getIdealBaseName(reflection)
  }
}

class Theme extends DefaultTheme {
  buildNavigation(project) {
    return super.buildNavigation(project).filter(({ text }) => text !== sources)
  }
}

const plugin = (app) => {
  app.renderer.defineRouter("site", Router)
  app.renderer.defineTheme("site", Theme)

  app.converter.on(Converter.EVENT_CREATE_DOCUMENT, (_, document) => {
    const file = fromRoot(document.project.files.getReflectionPath(document))
    document.name = titleOf(file)
    document.frontmatter.group = Object.keys(groups).find((group) => groups[group].includes(file))
  })

  // An entry point is called as it is imported. The first comment of a file is about the module, without any tag.
  app.converter.on(Converter.EVENT_CREATE_DECLARATION, ({ project, converter }, module) => {
    const file = project.files.getReflectionPath(module)
    if (file === undefined) return
    const [, text = ""] = /^\/\*\*([\s\S]*?)(?:\n \* @|\*\/)/.exec(readFileSync(file, "utf8")) ?? []
    const about = new MinimalSourceFile(text.replaceAll(/^ \* ?/gm, ""), file)
    module.comment = new Comment(converter.parseRawComment(about, project.files).content)
    module.comment.modifierTags.add("@hideGroups")
    module.name = entryPoints.get(path.normalize(file)) ?? module.name
  })

  app.converter.on(Converter.EVENT_RESOLVE_BEGIN, ({ project }) => {
    for (const file of project.files.getMediaPaths()) {
      // A picture stays what it is.
      if (!/\.(ts|mjs|sql)$|\/run$/.test(file)) continue
      const title = { kind: "text", text: `# ${fromRoot(file)}\n\n` }
      const language = path.extname(file).slice(1) || "sh"
      const code = { kind: "code", text: `\`\`\`\`${language}\n${readFileSync(file, "utf8")}\`\`\`\`` }
      const page = new DocumentReflection(fromRoot(file), project, [title, code], { group: sources })
      project.addChild(page)
      project.registerReflection(page, undefined, file)
    }
  })
}

export default {
  name: "effect-stores",
  includeVersion: true,
  tsconfig: "../../tsconfig.build.json",
  // CI checks the types.
  skipErrorChecking: true,
  entryPoints: [...entryPoints.keys()],
  readme: "../../README.md",
  projectDocuments: Object.values(groups).flatMap((files) => files.map((file) => path.join(project, file))),
  out: "../../.site",
  plugin: [plugin],
  router: "site",
  theme: "site",
  customCss: "site.css",
  headings: { readme: false, document: false },
  navigation: { includeCategories: true, includeGroups: true, includeFolders: false },
  locales: { en: { kind_plural_module: "Reference" } },
  groupOrder: ["Guides", "Reference", "How it works", "Decisions", "Project", sources, "*"],
  categorizeByGroup: false,
  categoryOrder: ["tags", "models", "constructors", "layers", "config", "*", "errors", "encoded", "migrations"],
  sortEntryPoints: false,
  searchInComments: true,
  searchInDocuments: true,
  searchGroupBoosts: { Guides: 5, [sources]: 0 },
  highlightLanguages: ["bash", "javascript", "json", "sql", "tsx", "typescript", "yaml"],
  // README.md is a file here, and not a host.
  markdownItOptions: { html: true, linkify: false },
  includeHierarchySummary: false,
  disableSources: true,
  // What Effect's own classes give a tag or an error.
  excludeExternals: true,
  hideGenerator: true,
  treatWarningsAsErrors: true,
  requiredToBeDocumented: ["Class", "Interface", "TypeAlias"],
  validation: { invalidLink: true, invalidPath: true, rewrittenLink: true, notExported: false, notDocumented: true }
}
