/**
 * Pages are bounded by bytes: a reader of large events holds few of them at once, and the event loop turns between them.
 */
import { execFile } from "node:child_process"
import * as path from "node:path"
import { fileURLToPath } from "node:url"
import { promisify } from "node:util"
import { assert, describe, it } from "vitest"
import { temporaryDirectory } from "./support/backends.js"

const events = 10
const bytes = 4 * 1024 ** 2

/** The text of an event, its value, and the page before; all events together are 40 MiB, and as much again as values. */
const heldMiBMax = 24

const readLargeEvents = async (where: string) => {
  const program = fileURLToPath(new URL("support/large-events.ts", import.meta.url))
  const { stdout } = await promisify(execFile)(process.execPath, [
    "--expose-gc",
    "--max-old-space-size=256",
    "--conditions=source",
    "--import",
    "tsx",
    program,
    where,
    String(events),
    String(bytes)
  ])
  const found = JSON.parse(stdout) as ReadonlyArray<{
    readonly name: string
    readonly seen: number
    readonly heldMiB: number
    readonly mostInTurn: number
  }>
  assert.deepStrictEqual(
    found.map(({ name }) => name),
    ["read", "fold", "backward", "feed", "subscribe"]
  )
  for (const { heldMiB, mostInTurn, name, seen } of found) {
    assert.strictEqual(seen, events * bytes, name)
    assert.isBelow(heldMiB, heldMiBMax, name)
    assert.isAtMost(mostInTurn, 2, name)
  }
}

describe("reading events of 4 MiB from SQLite", () => {
  it("holds few of them at once, and lets the event loop turn", { timeout: 600_000 }, () =>
    readLargeEvents(path.join(temporaryDirectory(), "events.db"))
  )
})
