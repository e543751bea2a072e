/**
 * The import: a history's commits become events, each commit in one atomic append, and an import that was stopped goes
 * on exactly where it was.
 *
 * How far it has come is a stream of its own. Each commit adds a `CommitImported` to it, in the same append as the
 * events of the files, so the two cannot disagree whatever happens in between. The append expects that stream to be at
 * the version this import saw last, and the ids of its events follow from what they say: when two imports run at once,
 * one finds the appends it repeats done already, and nothing is there twice.
 */
import { Array as Arr, Clock, DateTime, Effect, Option, Schema, Stream } from "effect"
import { EventStore } from "effect-stores"
import { eventsOf, type FileEvent, files, idOf, streamOf } from "./FileEvents.js"
import type { Commit, History } from "./History.js"

/** A commit, or a part of a large one, is imported. `parent` is where to go on from when parts are missing. */
const CommitImported = Schema.TaggedStruct("CommitImported", {
  commit: Schema.String,
  parent: Schema.NullOr(Schema.String),
  part: Schema.Int,
  parts: Schema.Int,
  events: Schema.Int
})

const imports = EventStore.forSchema(CommitImported)

/** The stream that says how far the import of a history has come. */
export const progressOf = (history: History): EventStore.StreamId => ({
  tenantId: history.id,
  domain: "import",
  aggregateId: "commits"
})

/** An append takes 1,000 streams; one of them is the progress. */
const filesPerAppendMax = 999

/**
 * Sqlite answers at once and Effect goes on at once, so that without a pause now and then nothing else of the process
 * has its turn: Ctrl-C would be heard seconds later.
 */
const commitsPerTurn = 50

export interface Progress {
  readonly commits: number
  readonly total: number
  readonly events: number
}

export interface Imported extends Progress {
  /** The last commit imported before this run. */
  readonly resumedAfter: Option.Option<string>
  readonly appends: number
  readonly elapsedMs: number
  /** The part of it that was spent in the store; the rest is git's. */
  readonly storeMs: number
}

/**
 * Imports what is not imported yet.
 *
 * 1. Reads the newest event of the progress: the commit to go on after, and how many parts of the next one are there.
 * 2. For each commit since, appends the events of its files and the progress. A commit of more files than an append
 *    takes is split; each part is atomic, and a part that is there is not appended again.
 */
export const importHistory = (history: History, report: (progress: Progress) => Effect.Effect<void>) =>
  Effect.gen(function* () {
    const store = yield* EventStore.EventStore
    const last = yield* Stream.runHead(imports.read(progressOf(history), { direction: "backward", limit: 1 }))
    const resumedAfter = Option.flatMap(last, ({ data }) =>
      data.part === data.parts ? Option.some(data.commit) : Option.fromNullable(data.parent)
    )
    const partsDone = Option.match(last, {
      onNone: () => 0,
      onSome: ({ data }) => (data.part === data.parts ? 0 : data.part)
    })
    const { commits, total } = yield* history.commitsAfter(resumedAfter)

    const startedMs = yield* Clock.currentTimeMillis
    const start = {
      version: Option.match(last, { onNone: () => 0, onSome: ({ version }) => version }),
      partsDone,
      commits: 0,
      total,
      events: 0,
      appends: 0,
      storeNanos: 0n
    }
    const end = yield* Stream.runFoldEffect(commits, start, (state, commit) =>
      Effect.gen(function* () {
        const appends = (yield* appendsOf(history, commit)).slice(state.partsDone)
        const before = yield* Clock.currentTimeNanos
        let { version } = state
        for (const { fileAppends, progress } of appends) {
          const progressAppend = { stream: progressOf(history), events: [progress], expected: version }
          yield* store.appendAll([progressAppend, ...fileAppends])
          version++
        }
        const after = yield* Clock.currentTimeNanos
        const next = {
          version,
          partsDone: 0,
          commits: state.commits + 1,
          total,
          events: state.events + appends.reduce((sum, { events }) => sum + events, 0),
          appends: state.appends + appends.length,
          storeNanos: state.storeNanos + (after - before)
        }
        yield* report(next)
        if (next.commits % commitsPerTurn === 0) yield* Effect.sleep(0)
        return next
      })
    )
    const elapsedMs = (yield* Clock.currentTimeMillis) - startedMs
    return { ...end, resumedAfter, elapsedMs, storeMs: Number(end.storeNanos) / 1e6 } satisfies Imported
  })

/** What to append for a commit, one element for each part. */
const appendsOf = (history: History, commit: Commit) =>
  Effect.gen(function* () {
    const envelope = { commandId: commit.hash, createdAt: DateTime.unsafeMake(commit.timeMs) }
    const encode = (event: FileEvent) =>
      files.encode(event, { ...envelope, id: idOf(history.id, commit.hash, event.path, event._tag) })

    const byStream = new Map<string, Array<FileEvent>>()
    for (const event of eventsOf(commit)) byStream.set(event.path, [...(byStream.get(event.path) ?? []), event])
    const fileAppends = yield* Effect.forEach(byStream, ([path, events]) =>
      Effect.map(Effect.forEach(events, encode), (events) => ({
        stream: streamOf(history.id, path),
        events,
        // nobody else writes to these streams: the version of the progress stands for them all
        expected: "any" as const
      }))
    )
    const parts = Arr.isNonEmptyArray(fileAppends) ? Arr.chunksOf(fileAppends, filesPerAppendMax) : [[]]
    return yield* Effect.forEach(parts, (fileAppends, index) =>
      Effect.gen(function* () {
        const events = fileAppends.reduce((sum, { events }) => sum + events.length, 0)
        const { hash, parent } = commit
        const progress = yield* imports.encode(
          { _tag: "CommitImported", commit: hash, parent, part: index + 1, parts: parts.length, events },
          { ...envelope, id: idOf(history.id, hash, `part ${index + 1}`) }
        )
        return { fileAppends, progress, events: events + 1 }
      })
    )
  })
