/**
 * The demo: imports the git history of a repository into an EventStore on Sqlite, shows what can be read from it, and
 * what snapshots, followers, sealed stores and objects do. This file is the command line: what is imported, where to,
 * and how the program ends.
 *
 *     npm run demo                       the repository this project was cloned into
 *     npm run demo -- ../other           another repository
 *     npm run demo -- --db history.db    another file than .demo/<repository>.db
 *     npm run demo -- --encrypt          encrypted, into .demo/<repository>-encrypted.db
 *     npm run demo -- --no-tour          without what the stores do beside the import
 *
 * Exit codes: 0 done, 2 the arguments or the path are no good, 3 a repository without commits, 4 the store failed,
 * 5 the history was rewritten since the last import, 130 stopped with Ctrl-C.
 */
import { mkdirSync, realpathSync } from "node:fs"
import * as Path from "node:path"
import { fileURLToPath } from "node:url"
import { parseArgs } from "node:util"
import { NodeRuntime } from "@effect/platform-node"
import { Console, Data, Effect, Exit } from "effect"
import { EventStore } from "effect-stores"
import * as BundledHistory from "./BundledHistory.js"
import { streamOf } from "./FileEvents.js"
import * as GitLog from "./GitLog.js"
import { SourceError } from "./History.js"
import { importHistory } from "./importHistory.js"
import { describeImport, printReport, showProgress } from "./report.js"
import { FileError, sealedStores, stores } from "./stores.js"
import { printTour } from "./tour.js"

const usage = "Usage: npm run demo -- [path of a git repository] [--db file] [--encrypt] [--no-tour]"

const project = realpathSync(fileURLToPath(new URL("../..", import.meta.url)))

class UsageError extends Data.TaggedError("UsageError")<{ readonly message: string }> {}

const commandLine = Effect.try({
  try: () => {
    const { positionals, values } = parseArgs({
      allowPositionals: true,
      options: {
        db: { type: "string" },
        encrypt: { type: "boolean" },
        "no-tour": { type: "boolean" },
        help: { type: "boolean", short: "h" }
      }
    })
    if (positionals.length > 1) throw new Error("one path at most")
    if (values.db === "" || positionals[0] === "") throw new Error("an empty path")
    const { db, encrypt = false, help = false, "no-tour": noTour = false } = values
    return { path: positionals[0], db, encrypt, help, tour: !noTour }
  },
  catch: (error) => new UsageError({ message: `${error instanceof Error ? error.message : error}\n${usage}` })
})

/**
 * The repository at the path given. Without a path, the clone this project stands in, and where it does not stand in
 * one (it came as an archive, perhaps into another repository, or there is no git), the history bundled with it.
 */
const chooseHistory = (path: string | undefined) =>
  path === undefined
    ? GitLog.rootOf(project).pipe(
        Effect.filterOrFail(
          (root) => realpathSync(root) === project,
          (root) => new SourceError({ message: `the repository around it, ${root}, is another` })
        ),
        Effect.zipRight(openRepository(project)),
        Effect.catchTag("SourceError", useBundled)
      )
    : Effect.mapError(openRepository(path), (error) =>
        error._tag === "SourceError" ? new SourceError({ message: cannotImport(path, error.message) }) : error
      )

// The path as it was understood: npm runs the demo in the directory of the project.
const cannotImport = (path: string, why: string): string =>
  `${Path.resolve(path)} cannot be imported: ${why.replace(/^fatal: /, "")}`

const openRepository = (path: string) => Effect.tap(GitLog.open(path), noteShallow)

const noteShallow = ({ shallow }: GitLog.Repository) =>
  shallow
    ? Console.log("This is a shallow clone: the first of its commits brings in all files that were there by then.")
    : Effect.void

const useBundled = ({ message }: { readonly message: string }) =>
  Effect.zipRight(
    Console.log(
      `${project} is not a git repository that can be read (${message.split("\n")[0]}): the bundled history is used.`
    ),
    BundledHistory.open(BundledHistory.path)
  )

const program = Effect.gen(function* () {
  const { db, encrypt, help, path, tour } = yield* commandLine
  if (help) return yield* Console.log(usage)
  const history = yield* chooseHistory(path)
  const filename = db ?? Path.join(project, ".demo", `${history.id}${encrypt ? "-encrypted" : ""}.db`)
  yield* Effect.try({
    try: () => mkdirSync(Path.dirname(filename), { recursive: true }),
    catch: (error) => new FileError({ message: `${filename} cannot be created: ${error}` })
  })

  yield* Effect.gen(function* () {
    yield* Console.log(`Importing ${history.title} into ${filename}`)
    const imported = yield* importHistory(history, showProgress(process.stdout))
    const store = yield* EventStore.EventStore
    yield* Console.log(describeImport(imported, yield* store.count({ tenantId: history.id })))
    const changed = yield* printReport(history, imported)
    if (tour && changed !== undefined) yield* printTour(streamOf(history.id, changed))
  }).pipe(
    Effect.provide(encrypt ? sealedStores(filename) : stores(filename)),
    Effect.onInterrupt(() => Console.error("\nStopped. Run it again to go on from here."))
  )
})

/** Ends with a message and an exit code, not with a stack trace. */
const fail = (exitCode: number) => (error: { readonly message: string }) =>
  Effect.zipRight(
    Console.error(error.message),
    Effect.sync(() => {
      process.exitCode = exitCode
    })
  )

// whoever read the output has seen enough (`| head`)
process.stdout.on("error", () => process.exit())

program.pipe(
  Effect.catchTags({
    UsageError: fail(2),
    SourceError: fail(2),
    NoCommits: fail(3),
    HistoryRewritten: fail(5),
    VersionConflict: () => fail(4)({ message: "Another import of this history is running on the same file." })
  }),
  Effect.catchAll((error) => fail(4)({ message: `The database cannot be used: ${error.message}` })),
  NodeRuntime.runMain({
    teardown: (exit, done) =>
      done(Exit.isInterrupted(exit) ? 130 : Exit.isFailure(exit) ? 1 : Number(process.exitCode ?? 0))
  })
)
