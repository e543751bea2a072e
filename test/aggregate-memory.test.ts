/**
 * Loading folds event by event: the heap does not grow with the length of the history.
 */
import { execFile } from "node:child_process"
import * as path from "node:path"
import { promisify } from "node:util"
import { assert, it } from "vitest"
import { temporaryDirectory } from "./support/backends.js"
import { bundled } from "./support/child.js"
import { isFull } from "./support/scale.js"

const events = isFull ? 1_000_000 : 200_000

/** Less than a third of what the events of the shorter run take when they are kept. */
const mostBytes = 16 * 1024 ** 2

const replay = async (mode: "load" | "keep", count: number) => {
  const program = new URL("support/replay-memory.ts", import.meta.url)
  const { stdout } = await promisify(execFile)(process.execPath, [
    "--expose-gc",
    bundled(program),
    path.join(temporaryDirectory(), "events.db"),
    String(count),
    mode
  ])
  return JSON.parse(stdout) as {
    readonly state: number
    readonly version: number
    readonly seen: number
    readonly grownBytes: number
  }
}

it(`replaying ${events} events without a snapshot keeps the heap flat`, async () => {
  const { grownBytes, seen, state, version } = await replay("load", events)
  assert.deepStrictEqual([state, version, seen], [events, events, events])
  assert.isBelow(grownBytes, mostBytes)
})

it("a replay that kept its events would be seen", async () => {
  const { grownBytes } = await replay("keep", 100_000)
  assert.isAbove(grownBytes, mostBytes)
})
