/**
 * Pages are bounded by bytes: a reader of large events or commands holds few of them at once, and the event loop turns
 * between them.
 */
import { execFile } from "node:child_process"
import * as path from "node:path"
import { promisify } from "node:util"
import { assert, describe, it } from "vitest"
import { describePg, freshDatabase, temporaryDirectory } from "./support/backends.js"
import { bundled } from "./support/child.js"

const items = 30
const bytes = 4 * 1024 ** 2

/** All items together are 120 MiB as text, and as much again as values. */
const grownMiBMax = 100

const readLargeItems = async (where: string) => {
  const program = new URL("support/large-events.ts", import.meta.url)
  const { stdout } = await promisify(execFile)(process.execPath, [
    "--expose-gc",
    // Less than all items take; garbage is collected early.
    "--max-old-space-size=128",
    "--max-semi-space-size=8",
    bundled(program),
    where,
    String(items),
    String(bytes)
  ])
  const found = JSON.parse(stdout) as ReadonlyArray<{
    readonly name: string
    readonly seen: number
    readonly grownMiB: number
    readonly mostInTurn: number
  }>
  assert.deepStrictEqual(
    found.map(({ name, seen }) => [name, seen / bytes]),
    [
      ...["read", "fold", "backward", "feed", "subscribe", "follow", "list"].map((name) => [name, items]),
      ...["read", "feed", "list"].map((name) => [`the first of ${name}`, 1])
    ]
  )
  for (const { grownMiB, mostInTurn, name } of found) {
    assert.isBelow(grownMiB, grownMiBMax, name)
    assert.strictEqual(mostInTurn, 1, name)
  }
}

describe("reading events and commands of 4 MiB from SQLite", () => {
  it("holds few of them at once, and lets the event loop turn after each", () =>
    readLargeItems(path.join(temporaryDirectory(), "large.db")))
})

describePg("reading events and commands of 4 MiB from PostgreSQL", () => {
  it("holds few of them at once, and lets the event loop turn after each", async () =>
    readLargeItems(await freshDatabase()))
})
