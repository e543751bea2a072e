/**
 * The history of a git repository, read from `git log` while it runs. What git prints is understood in `gitLogParser`.
 *
 * The history is the first-parent line of HEAD, oldest first: each commit is compared with its first parent, so a merge
 * is one commit that brings in everything that was merged, under the name of who merged it. That way the events of a
 * file follow each other as the file did, and replaying all of them gives the tree of HEAD; with the commits of all
 * branches side by side, a file could be added twice and modified after its deletion.
 *
 * Needs git 2.31 (2021) or later.
 */
import { type ChildProcessByStdio, spawn } from "node:child_process"
import { createHash } from "node:crypto"
import * as Path from "node:path"
import type { Readable } from "node:stream"
import { NodeStream } from "@effect/platform-node"
import { Effect, Option, Stream } from "effect"
import { format, GitLogParser } from "./gitLogParser.js"
import { type Commit, type History, HistoryRewritten, NoCommits, SourceError } from "./History.js"

export interface Repository extends History {
  /** Only the newest commits are there; the first of them brings in all files. */
  readonly shallow: boolean
}

/** The directory that the files of a path's repository are in; of a bare repository, the repository itself. */
export const rootOf = (path: string): Effect.Effect<string, SourceError> =>
  Effect.flatMap(line(path, ["rev-parse", "--absolute-git-dir"]), (gitDir) =>
    Effect.orElseSucceed(line(path, ["rev-parse", "--show-toplevel"]), () => gitDir)
  )

/** The repository that a path is in. Fails when there is none, when git is not installed, or without commits. */
export const open = (path: string): Effect.Effect<Repository, SourceError | NoCommits> =>
  Effect.gen(function* () {
    const gitDir = yield* line(path, ["rev-parse", "--absolute-git-dir"])
    const root = yield* rootOf(path)
    const head = yield* line(path, ["rev-parse", "--quiet", "--verify", "HEAD^{commit}"]).pipe(
      Effect.mapError(() => new NoCommits({ path: root }))
    )
    const shallow = (yield* line(path, ["rev-parse", "--is-shallow-repository"])) === "true"
    // of a shallow clone, the oldest commit that is there: once it is made deeper, it is another history
    const first = yield* line(path, ["rev-list", "--first-parent", "--max-parents=0", head, "--"])
    const name = Path.basename(root)
      .replace(/[^A-Za-z0-9._-]+/g, "-")
      .slice(0, 40)
    return {
      id: `${name}-${createHash("sha256").update(`${gitDir}\0${first}`).digest("hex").slice(0, 12)}`,
      title: `the git history of ${root}`,
      shallow,
      head,
      commitsAfter: (after) =>
        Effect.gen(function* () {
          const base = Option.getOrUndefined(after)
          if (base !== undefined) yield* mustLeadTo(path, base, head)
          const range = base === undefined ? [head] : [`${base}..${head}`]
          const total = Number(yield* line(path, ["rev-list", "--count", "--first-parent", ...range, "--"]))
          return { total, commits: log(path, range) }
        })
    }
  })

/**
 * Whether the line of commits that ends in `head` goes through `base`. That `base` is an ancestor does not say so: it
 * may have been merged from the side.
 */
const mustLeadTo = (path: string, base: string, head: string): Effect.Effect<void, SourceError | HistoryRewritten> =>
  Effect.gen(function* () {
    if (base === head) return
    const [oldest = ""] = yield* text(path, [
      ...["rev-list", "--first-parent", "--reverse", "--parents", `${base}..${head}`, "--"]
    ]).pipe(
      Stream.splitLines,
      Stream.runHead,
      Effect.map(Option.toArray),
      // git does not know the commit any more
      Effect.catchTag("SourceError", () => Effect.succeed([]))
    )
    if (oldest.split(" ")[1] !== base) yield* new HistoryRewritten({ imported: base, head })
  })

/**
 * Everything that a user's configuration of git could change in the output is set here. Counting lines (`--numstat`)
 * needs the contents of the files, which is most of the work.
 */
const log = (path: string, range: ReadonlyArray<string>): Stream.Stream<Commit, SourceError> =>
  Stream.suspend(() => {
    const parser = new GitLogParser()
    const parsed = (parse: () => Array<Commit>) =>
      Effect.try({ try: parse, catch: (error) => new SourceError({ message: String(error) }) })
    const args = [
      ...["-c", "log.showRoot=true", "-c", "diff.renameLimit=1000"],
      ...["log", "--first-parent", "--diff-merges=first-parent", "--topo-order", "--reverse", `--format=${format}`],
      ...["--encoding=UTF-8", "--no-show-signature", "--no-color", "--no-notes", "--no-mailmap", "--no-relative"],
      ...["-z", "--raw", "--numstat", "--no-abbrev", "--find-renames=50%", "--diff-algorithm=myers"],
      ...[
        "--no-ext-diff",
        "--no-textconv",
        "-O/dev/null",
        "--ignore-submodules=none",
        "--submodule=short",
        ...range,
        "--"
      ]
    ]
    return git(path, args).pipe(
      Stream.mapEffect((bytes) => parsed(() => parser.push(bytes))),
      Stream.concat(Stream.fromEffect(Effect.suspend(() => parsed(() => parser.end())))),
      Stream.mapConcat((commits) => commits)
    )
  })

const line = (path: string, args: ReadonlyArray<string>): Effect.Effect<string, SourceError> =>
  Effect.map(Stream.mkString(text(path, args)), (text) => text.replace(/\n$/, ""))

const text = (path: string, args: ReadonlyArray<string>): Stream.Stream<string, SourceError> =>
  Stream.decodeText(git(path, args))

/**
 * What git prints, as it prints it: git waits while nobody reads, and is stopped when the reader is. The stream fails
 * with what git says on its standard error when it does not end well.
 */
const git = (path: string, args: ReadonlyArray<string>): Stream.Stream<Uint8Array, SourceError> =>
  Stream.unwrapScoped(
    Effect.gen(function* () {
      const process = yield* Effect.acquireRelease(
        Effect.sync(() => start(path, args)),
        ({ child }) => Effect.sync(() => child.kill())
      )
      const output = NodeStream.fromReadable<SourceError, Uint8Array>(
        () => process.child.stdout,
        (error) => new SourceError({ message: `git's output cannot be read: ${error}` })
      )
      return Stream.concat(output, Stream.execute(process.ended))
    })
  )

type Child = ChildProcessByStdio<null, Readable, Readable>

const start = (
  path: string,
  args: ReadonlyArray<string>
): { readonly child: Child; readonly ended: Effect.Effect<void, SourceError> } => {
  const child = spawn("git", ["-C", path, ...args], { stdio: ["ignore", "pipe", "pipe"], env: environment() })
  let complaint = ""
  child.stderr.on("data", (bytes: Buffer) => {
    // the first lines say what is wrong
    if (complaint.length < 2000) complaint += bytes.toString()
  })
  const ended = new Promise<SourceError | "interrupted" | undefined>((resolve) => {
    child.on("error", (error) => resolve(new SourceError({ message: `git cannot be run: ${error.message}` })))
    child.on("close", (code, signal) => {
      if (code === 0) resolve(undefined)
      // Ctrl-C reaches git as well
      else if (signal === "SIGINT") resolve("interrupted")
      else resolve(new SourceError({ message: complaint.trim() || `git ended with ${signal ?? `exit code ${code}`}` }))
    })
  })
  return {
    child,
    ended: Effect.flatMap(
      Effect.promise(() => ended),
      (end) => (end === undefined ? Effect.void : end === "interrupted" ? Effect.interrupt : Effect.fail(end))
    )
  }
}

/** Without what a git hook sets, which would point to another repository than the path does. */
const environment = (): NodeJS.ProcessEnv => {
  const { GIT_DIR: _, GIT_WORK_TREE: __, GIT_INDEX_FILE: ___, GIT_NAMESPACE: ____, ...environment } = process.env
  return { ...environment, LC_ALL: "C", GIT_OPTIONAL_LOCKS: "0" }
}
