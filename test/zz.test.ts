import { spawn } from "node:child_process"
import { expect, inject, it } from "vitest"
import { describeOwnPg, describePg, freshDatabase, pgUrl } from "./support/backends.js"
import { spawnWorker } from "./support/child.js"
import { withClient } from "./support/databases.js"
import { startPostgres } from "./support/postgres.js"
describePg("pg", () => {
  it("answers", async () => {
    const url = await freshDatabase()
    const r = await withClient(url, (c) => c.query("select 1 as x"))
    expect(r.rows).toEqual([{ x: 1 }])
    console.log("MODE", pgUrl(), inject("pgPrivate"))
  })
  it("fails where asked", () => { if (process.env.FAIL) expect(1).toBe(2) })
})
describeOwnPg("own", () => {
  it("hangs where asked", async () => {
    if (!process.env.HANG) return
    await startPostgres()
    const w = spawnWorker(process.env.HANG)
    for await (const l of w.lines) console.log(l)
  }, 100_000)
  it("rejects unhandled where asked", async () => {
    if (process.env.REJECT) { void Promise.reject(new Error("stray")); await new Promise((r) => setTimeout(r, 50)) }
  })
})
