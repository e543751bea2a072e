/**
 * A history in a file: one commit a line as JSON, compressed. `export.ts` writes the one that comes with this project,
 * for those who got it without its repository.
 */
import { createReadStream } from "node:fs"
import { fileURLToPath } from "node:url"
import { createGunzip } from "node:zlib"
import { NodeStream } from "@effect/platform-node"
import { Effect, Option, Schema, Stream } from "effect"
import { Commit, type History, HistoryRewritten, SourceError } from "./History.js"

/** The history of this project that comes with it. */
export const path = fileURLToPath(new URL("bundled-history.ndjson.gz", import.meta.url))

const Line = Schema.parseJson(Commit)

export const encodeLine = Schema.encode(Line)

/** The whole file is in memory: it is meant to be small. */
export const open = (path: string): Effect.Effect<History, SourceError> =>
  Effect.gen(function* () {
    const unreadable = (error: unknown) => new SourceError({ message: `${path} cannot be read: ${error}` })
    const commits = yield* NodeStream.fromReadable<SourceError, Uint8Array>(() => {
      const file = createReadStream(path)
      const unzip = createGunzip()
      file.on("error", (error) => unzip.destroy(error))
      return file.pipe(unzip)
    }, unreadable).pipe(
      Stream.decodeText(),
      Stream.splitLines,
      Stream.mapEffect((line) => Effect.mapError(Schema.decode(Line)(line), unreadable)),
      Stream.runCollect,
      Effect.map((chunk) => Array.from(chunk))
    )
    const head = commits[commits.length - 1]?.hash
    if (head === undefined) return yield* new SourceError({ message: `${path} has no commits` })
    return {
      id: "bundled-history",
      title: "the history of effect-stores that is bundled with it",
      head,
      commitsAfter: Option.match({
        onNone: () => Effect.succeed({ total: commits.length, commits: Stream.fromIterable(commits) }),
        onSome: (imported) => {
          const rest = commits.slice(commits.findIndex(({ hash }) => hash === imported) + 1)
          return rest.length === commits.length
            ? Effect.fail(new HistoryRewritten({ imported, head }))
            : Effect.succeed({ total: rest.length, commits: Stream.fromIterable(rest) })
        }
      })
    }
  })
