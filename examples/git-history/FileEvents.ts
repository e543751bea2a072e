/**
 * The events of a file, where they are kept, and how they make up a file's state. Here is all that an application would
 * call its domain; nothing here knows git or a database.
 *
 * Each path has a stream. When a file is renamed, the stream of the new path gets `Renamed`, which says where the file
 * came from, and the stream of the old path gets `Deleted`, which says where it went. So what a stream says about its
 * path is complete, and a file's life under other names is found by following `from`.
 */
import { createHash } from "node:crypto"
import { DateTime, Schema } from "effect"
import { Aggregate, EventStore, SnapshotPolicy } from "effect-stores"
import { type Commit, Lines } from "./History.js"

/** What all events tell: of which file, what it did to its lines, and who did it when in which commit. */
const about = {
  path: Schema.String,
  lines: Lines,
  commit: Schema.String,
  author: Schema.String,
  time: Schema.DateTimeUtc
}

export const FileEvent = Schema.Union(
  Schema.TaggedStruct("Added", about),
  Schema.TaggedStruct("Modified", about),
  Schema.TaggedStruct("Renamed", { ...about, from: Schema.String }),
  Schema.TaggedStruct("Deleted", { ...about, renamedTo: Schema.NullOr(Schema.String) })
)
export type FileEvent = typeof FileEvent.Type

/** Appends and reads of these events. */
export const files = EventStore.forSchema(FileEvent)

export const domain = "file"

/** The stream of a path. A tenant is one history. */
export const streamOf = (tenantId: string, path: string): EventStore.StreamId => ({
  tenantId,
  domain,
  aggregateId: aggregateIdOf(path)
})

/** Longest part of a stream's address, in bytes of UTF-8. */
const aggregateIdBytesMax = 255

/**
 * The path itself, or, if it is too long for that, `\#`, a hash of it, and as much of its end as there is room for. In
 * a path as the history gives it a backslash is followed by another one or by `x`, so no path looks like that.
 */
const aggregateIdOf = (path: string): string => {
  const bytes = Buffer.from(path)
  if (bytes.length <= aggregateIdBytesMax) return path
  const shortened = `\\#${createHash("sha256").update(bytes).digest("hex")}…`
  let start = bytes.length - (aggregateIdBytesMax - Buffer.byteLength(shortened))
  // not in the middle of a character
  while (((bytes[start] ?? 0) & 0xc0) === 0x80) start++
  return shortened + bytes.toString("utf8", start)
}

/** The events of one commit, in order. */
export const eventsOf = (commit: Commit): Array<FileEvent> =>
  commit.changes.flatMap((change): Array<FileEvent> => {
    const about = { commit: commit.hash, author: commit.author, time: DateTime.unsafeMake(commit.timeMs) }
    switch (change._tag) {
      case "Deleted":
        return [{ ...change, ...about, renamedTo: null }]
      case "Renamed": {
        const { from, lines, path } = change
        return [
          { _tag: "Deleted", path: from, lines: lines && { added: 0, removed: 0 }, ...about, renamedTo: path },
          { _tag: "Renamed", path, lines, ...about, from }
        ]
      }
      default:
        return [{ ...change, ...about }]
    }
  })

/**
 * The id of an event, the same whenever the same change is imported: a hash of all that tells it from others, as a
 * UUID of version 8, the one for ids that are made by the application's own rule.
 */
export const idOf = (tenantId: string, ...what: ReadonlyArray<string>): string => {
  const hash = createHash("sha256")
    .update([tenantId, ...what].join("\0"))
    .digest()
  hash.writeUInt8((hash.readUInt8(6) & 0x0f) | 0x80, 6)
  hash.writeUInt8((hash.readUInt8(8) & 0x3f) | 0x80, 8)
  return hash.toString("hex", 0, 16).replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-")
}

/** What is known of a file after its events so far; the authors in the order in which they came to it. */
export const FileState = Schema.Struct({
  path: Schema.String,
  exists: Schema.Boolean,
  changes: Schema.Int,
  linesAdded: Schema.Int,
  linesRemoved: Schema.Int,
  authors: Schema.Array(Schema.String)
})
export type FileState = typeof FileState.Type

export const initial: FileState = {
  path: "",
  exists: false,
  changes: 0,
  linesAdded: 0,
  linesRemoved: 0,
  authors: []
}

export const evolve = (state: FileState, event: FileEvent): FileState => ({
  path: event.path,
  exists: event._tag !== "Deleted",
  changes: state.changes + 1,
  linesAdded: state.linesAdded + (event.lines?.added ?? 0),
  linesRemoved: state.linesRemoved + (event.lines?.removed ?? 0),
  authors: state.authors.includes(event.author) ? state.authors : [...state.authors, event.author]
})

/** Few events for a snapshot, so that a young repository has one too; the default is 100. */
const snapshotEvery = 5

const definition = { domain, state: FileState, event: FileEvent, initial, evolve }

/** A file as an aggregate. */
export const File = Aggregate.make({ ...definition, snapshots: SnapshotPolicy.every(snapshotEvery) })

/** The same, always loaded from its first event: to compare with. */
export const FileWithoutSnapshots = Aggregate.make({ ...definition, snapshots: SnapshotPolicy.never })
