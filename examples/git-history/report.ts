/**
 * What people see: the progress of an import, and what the imported events say. The store is asked here as any
 * application would ask it: the feed for what concerns all files, a stream or an aggregate for what concerns one.
 */
import { Clock, Console, DateTime, Effect, Option, Stream } from "effect"
import { Aggregate, type EventStore, SnapshotStore } from "effect-stores"
import {
  domain,
  evolve,
  File,
  type FileEvent,
  type FileState,
  FileWithoutSnapshots,
  files,
  initial,
  streamOf
} from "./FileEvents.js"
import type { History } from "./History.js"
import type { Imported, Progress } from "./importHistory.js"
import { count, number, printable, printTable, rate, time, timed, timedOften } from "./print.js"

/** On a terminal one line, written again and again; elsewhere a line now and then, for a log. */
export const showProgress = (output: NodeJS.WriteStream): ((progress: Progress) => Effect.Effect<void>) => {
  const everyMs = output.isTTY ? 100 : 5000
  let shownMs: number | undefined
  return (progress) =>
    Effect.map(Clock.currentTimeMillis, (nowMs) => {
      shownMs ??= output.isTTY ? 0 : nowMs
      const last = progress.commits === progress.total
      if (nowMs - shownMs < everyMs && !(last && output.isTTY)) return
      shownMs = nowMs
      const text = `${count(progress.commits, "commit")} of ${number(progress.total)}, ${count(progress.events, "event")}`
      output.write(output.isTTY ? `\r\x1b[2K  ${text}${last ? "\n" : ""}` : `  ${text}\n`)
    })
}

/** What an import did. */
export const describeImport = (imported: Imported, storedEvents: number): string => {
  const after = Option.getOrUndefined(imported.resumedAfter)?.slice(0, 12)
  if (imported.commits === 0) return `Nothing new since ${after}, ${count(storedEvents, "event")} already there.`
  return [
    `Imported ${count(imported.commits, "commit")} as ${count(imported.events, "event")}`,
    after === undefined ? "" : `, going on after ${after}; ${number(storedEvents)} are there now`,
    "."
  ].join("")
}

/**
 * Prints the most changed files, the history of the first of them, how it is loaded, and what was measured. Returns the
 * path of that file, if there is any.
 */
export const printReport = (history: History, imported: Imported) =>
  Effect.gen(function* () {
    const all = yield* timed(statesOfAllFiles(history.id))
    const states = [...all.value.values()].sort((a, b) => b.changes - a.changes || (a.path < b.path ? -1 : 1))
    const existing = states.filter(({ exists }) => exists).length
    yield* Console.log(`\nMost changed of ${count(states.length, "file")} (${number(existing)} exist today)\n`)
    yield* printTable(
      ["changes", "added", "removed", "", "path"],
      states
        .slice(0, 10)
        .map((state) => [
          number(state.changes),
          `+${number(state.linesAdded)}`,
          `-${number(state.linesRemoved)}`,
          state.exists ? "" : "gone",
          printable(state.path)
        ])
    )

    const changed = states[0]
    if (changed === undefined) return undefined
    yield* printFile(history.id, changed)
    yield* Console.log(`\nLoading ${printable(changed.path)}, as an aggregate\n`)
    yield* printLoads(streamOf(history.id, changed.path))

    const events = states.reduce((sum, { changes }) => sum + changes, 0)
    yield* Console.log("\nMeasured\n")
    yield* printTable(
      ["", ""],
      [
        ...(imported.commits === 0
          ? []
          : [
              ["import", `${count(imported.commits, "commit")} in ${time(imported.elapsedMs)}, git included`],
              [
                "appends",
                `${number(imported.appends)} in ${time(imported.storeMs)}, ${rate(imported.appends, imported.storeMs)}`
              ],
              ["events appended", `${number(imported.events)}, ${rate(imported.events, imported.storeMs)}`]
            ]),
        ["events read", `${number(events)} in ${time(all.elapsedMs)}, ${rate(events, all.elapsedMs)}, decoded`]
      ]
    )
    return changed.path
  })

/** The state of every file, from the feed: as much memory as there are files, however many events they have. */
const statesOfAllFiles = (tenantId: string) => {
  const states = new Map<string, FileState>()
  return files.feed({ filter: { tenantId, domain } }).pipe(
    Stream.runForEachChunk((events) =>
      Effect.sync(() => {
        for (const { data } of events) states.set(data.path, evolve(states.get(data.path) ?? initial, data))
      })
    ),
    Effect.as<ReadonlyMap<string, FileState>>(states)
  )
}

/** Prints how a file came to be what it is, of a long history the end. */
const printFile = (tenantId: string, { changes, path }: FileState) =>
  Effect.gen(function* () {
    const shown = 8
    const newest = yield* Stream.runCollect(
      files.read(streamOf(tenantId, path), { direction: "backward", limit: shown })
    )
    yield* Console.log(
      `\nHistory of ${printable(path)}${changes > shown ? `, the last ${shown} of ${number(changes)}` : ""}\n`
    )
    yield* printTable(
      ["version", "date", "", "added", "removed", "commit", "author"],
      Array.from(newest)
        .reverse()
        .map(({ data, version }) => [
          String(version),
          DateTime.formatIsoDateUtc(data.time),
          what(data),
          data.lines === null ? "binary" : `+${number(data.lines.added)}`,
          data.lines === null ? "" : `-${number(data.lines.removed)}`,
          data.commit.slice(0, 10),
          printable(data.author.replace(/ <.*/, ""))
        ])
    )
  })

/**
 * Loads the aggregate of a file from its first event and from its snapshot, and prints what either way took and gave.
 * The first load of all leaves the snapshot, unless it found one with few events since, or the file has too few.
 */
export const printLoads = (stream: EventStore.StreamId) =>
  Effect.gen(function* () {
    yield* Aggregate.load(File, stream)
    yield* Effect.flatMap(SnapshotStore.SnapshotStore, (snapshots) => snapshots.flush(stream))

    const ways = { "without snapshots": FileWithoutSnapshots, "with snapshots": File }
    const loads = yield* Effect.forEach(Object.entries(ways), ([name, file]) =>
      Effect.map(timedOften(Aggregate.load(file, stream)), (timed) => ({ name, ...timed }))
    )
    yield* printTable(
      ["", "median", "events read", "lines", "authors"],
      loads.map(({ elapsedMs, name, value: { replayed, snapshotVersion, state } }) => [
        name,
        time(elapsedMs),
        `${count(replayed, "event")}${snapshotVersion === 0 ? "" : ` since the snapshot at version ${number(snapshotVersion)}`}`,
        `+${number(state.linesAdded)} -${number(state.linesRemoved)}`,
        number(state.authors.length)
      ])
    )
    return loads.map(({ elapsedMs }) => elapsedMs)
  })

export const what = (event: FileEvent): string => {
  if (event._tag === "Renamed") return `renamed from ${printable(event.from)}`
  if (event._tag === "Deleted" && event.renamedTo !== null) return `renamed to ${printable(event.renamedTo)}`
  return event._tag.toLowerCase()
}
