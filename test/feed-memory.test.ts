/**
 * A reader of the whole feed holds one page, however long the feed is. The growth of the resident memory is measured in
 * a process of its own.
 */
import { execFile } from "node:child_process"
import * as path from "node:path"
import { promisify } from "node:util"
import { assert, describe, it } from "vitest"
import { describePg, freshDatabase, temporaryDirectory } from "./support/backends.js"
import { bundled } from "./support/child.js"
import { isFull } from "./support/scale.js"

const events = isFull ? 5_000_000 : 500_000
const grownMiBMax = 100

const read = async (where: string, count: number, mode: "read" | "keep") => {
  const program = new URL("support/feed-memory.ts", import.meta.url)
  const { stdout } = await promisify(execFile)(process.execPath, [
    "--expose-gc",
    // Garbage is collected early: without this, what grows is mostly what V8 has not collected yet.
    "--max-semi-space-size=8",
    // Less than all events take, so whoever keeps them needs more.
    ...(mode === "read" ? ["--max-old-space-size=128"] : []),
    bundled(program),
    where,
    String(count),
    mode
  ])
  return JSON.parse(stdout) as { readonly seen: number; readonly grownMiB: number }
}

const holdsOnePage = async (where: string) => {
  const { grownMiB, seen } = await read(where, events, "read")
  assert.strictEqual(seen, events)
  assert.isBelow(grownMiB, grownMiBMax)
  console.log(`${events} events of the feed: ${grownMiB} MiB more`)
}

const minutes = 60_000

describe(`a feed of ${events} events on SQLite`, () => {
  it("is read in constant memory", () => holdsOnePage(path.join(temporaryDirectory(), "feed.db")), 30 * minutes)

  it("would be seen to grow if its events were kept", async () => {
    const { grownMiB } = await read(path.join(temporaryDirectory(), "feed.db"), 500_000, "keep")
    assert.isAbove(grownMiB, grownMiBMax)
  })
})

describePg(`a feed of ${events} events on PostgreSQL`, () => {
  it("is read in constant memory", async () => holdsOnePage(await freshDatabase()), 30 * minutes)
})
