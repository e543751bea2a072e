/**
 * How many of the library's files an append passes, from the service to the row: what a newcomer opens to follow one.
 * Json and Uuid, public modules that make values and know no store, are not counted.
 */
import { join } from "node:path"
import { describe, expect, it } from "vitest"
import { describePg, freshDatabase, temporaryDirectory } from "./support/backends.js"
import { spawnWorker } from "./support/child.js"

const filesMax = 12
const values = ["Json.ts", "Uuid.ts"]

const expectFew = async (where: string, port: string) => {
  const worker = spawnWorker(new URL("./workers/appendPath.ts", import.meta.url), { args: [where], unbundled: true })
  const lines: Array<string> = []
  for await (const line of worker.lines) lines.push(line)
  expect(await worker.exited).toMatchObject({ code: 0 })
  const files: ReadonlyArray<string> = JSON.parse(lines.join(""))
  expect(files).toEqual(expect.arrayContaining(["eventStore/input.ts", "eventStore/lift.ts", port]))
  expect(files.filter((file) => !values.includes(file)).length, files.join(" ")).toBeLessThanOrEqual(filesMax)
}

describe("an append passes few files", () => {
  it("on Sqlite", async () => {
    await expectFew(join(temporaryDirectory(), "events.db"), "sqlite/eventStore/port.ts")
  })

  describePg("on a server", () => {
    it("on Pg", async () => {
      await expectFew(await freshDatabase(), "pg/eventStore/port.ts")
    })
  })
})
