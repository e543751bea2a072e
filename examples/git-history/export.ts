/**
 * Writes the history of this project to the file that the demo falls back on (`BundledHistory`):
 *
 *     npx tsx --conditions=source examples/git-history/export.ts
 *
 * Run it in a full clone, before a release. The same history gives the same file, byte for byte.
 */
import { writeFileSync } from "node:fs"
import { fileURLToPath } from "node:url"
import { gzipSync } from "node:zlib"
import { NodeRuntime } from "@effect/platform-node"
import { Console, Effect, Option, Stream } from "effect"
import * as BundledHistory from "./BundledHistory.js"
import * as GitLog from "./GitLog.js"

const program = Effect.gen(function* () {
  const repository = yield* GitLog.open(fileURLToPath(new URL("../..", import.meta.url)))
  const { commits, total } = yield* repository.commitsAfter(Option.none())
  const lines = yield* Stream.mkString(
    Stream.mapEffect(commits, (commit) => Effect.map(BundledHistory.encodeLine(commit), (line) => `${line}\n`))
  )
  yield* Effect.sync(() => writeFileSync(BundledHistory.path, gzipSync(lines, { level: 9 })))
  yield* Console.log(`${BundledHistory.path}: ${total} commits, up to ${repository.head}`)
})

NodeRuntime.runMain(program)
