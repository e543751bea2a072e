/**
 * What a history is to the importer, wherever it comes from: commits in order, each with the files it changed, and the
 * errors of reading one. `GitLog` gets a history out of a repository, `BundledHistory` out of a file; what is made of it
 * is in `FileEvents`.
 */
import type { Option, Stream } from "effect"
import { Data, type Effect, Schema } from "effect"

/** Lines added and removed; null where lines are not counted, because git takes the file for binary. */
export const Lines = Schema.NullOr(Schema.Struct({ added: Schema.Int, removed: Schema.Int }))

const change = { path: Schema.String, lines: Lines }

/** What a commit did to one file. A change of mode or type (file to symbolic link) is a modification. */
export const Change = Schema.Union(
  Schema.TaggedStruct("Added", change),
  Schema.TaggedStruct("Modified", change),
  Schema.TaggedStruct("Deleted", change),
  Schema.TaggedStruct("Renamed", { from: Schema.String, ...change })
)
export type Change = typeof Change.Type

/** `parent` is null for the first commit, `timeMs` is when it was committed. */
export const Commit = Schema.Struct({
  hash: Schema.String,
  parent: Schema.NullOr(Schema.String),
  author: Schema.String,
  timeMs: Schema.Int,
  changes: Schema.Array(Change)
})
export type Commit = typeof Commit.Type

/**
 * A line of commits from the first to `head`, each the child of the one before. Going on after a commit that is not (or
 * no longer) on this line fails with `HistoryRewritten`.
 */
export interface History {
  /** The same for every import of this history, and no other's: it becomes the tenant of the events. */
  readonly id: string
  /** What is being imported, for people. */
  readonly title: string
  readonly head: string
  /** The commits after this one, or all. `total` says how many there will be. */
  readonly commitsAfter: (
    commit: Option.Option<string>
  ) => Effect.Effect<{ readonly total: number; readonly commits: Stream.Stream<Commit, SourceError> }, HistoryError>
}

export type HistoryError = SourceError | HistoryRewritten

/** The path given, or what is there, cannot be read as a history; `message` says why. */
export class SourceError extends Data.TaggedError("SourceError")<{ readonly message: string }> {}

export class NoCommits extends Data.TaggedError("NoCommits")<{ readonly path: string }> {
  override readonly message = `${this.path} is a git repository without commits: there is no history to import`
}

export class HistoryRewritten extends Data.TaggedError("HistoryRewritten")<{
  readonly imported: string
  readonly head: string
}> {
  override readonly message =
    `The history was rewritten, or another branch is checked out: the last commit imported, ${this.imported}, is not ` +
    `on the way to ${this.head}. Events are never changed, so nothing was imported; ` +
    "delete the database file, or give another one with --db, to import the history as it is now."
}
