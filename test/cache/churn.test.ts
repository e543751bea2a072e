/**
 * An hour of two processes that write entries of a short life: what is at its end is deleted in small batches, so the
 * tables stay as large as what is alive, and neither process gets an error, as by a deadlock.
 */
import assert from "node:assert/strict"
import * as fs from "node:fs"
import * as path from "node:path"
import { setTimeout as delay } from "node:timers/promises"
import Database from "better-sqlite3"
import { Effect, type Layer, Redacted } from "effect"
import type { CacheStore } from "effect-stores"
import { CacheStorePg } from "effect-stores/pg"
import { CacheStoreSqlite } from "effect-stores/sqlite"
import Pg from "pg"
import { describe, it } from "vitest"
import { describePg, freshDatabase, temporaryDirectory } from "../support/backends.js"
import { spawnWorker } from "../support/child.js"
import { isFull } from "../support/scale.js"

/** Under CI a tenth of an hour, at a desk long enough for a few purges. */
const seconds = isFull ? 3_600 : process.env.CI === "true" ? 360 : 30

/** Of each process, however slow the machine is: enough for the bound to be passed by what is not purged. */
const roundsMin = 160

/**
 * Each process writes at most 80 entries a second that live for 4 seconds at most, and purges every 5 seconds: 1,440
 * entries of both. Twice that for a machine that is busy.
 */
const rowsMax = 3_000

interface Table {
  readonly env: Readonly<Record<string, string>>
  readonly measure: () => Promise<{ readonly rows: number; readonly bytes: number }>
  readonly close: () => Promise<unknown>
}

const file = new URL("../workers/cacheStore.ts", import.meta.url)

/** Makes the tables. */
const build = (layer: Layer.Layer<CacheStore.CacheStore, unknown>): Promise<void> =>
  Effect.runPromise(Effect.scoped(Effect.provide(Effect.void, layer)))

const churning = (open: () => Promise<Table>): void => {
  it(
    `${seconds} seconds of churn by two processes leave the tables bounded`,
    async () => {
      const { close, env, measure } = await open()
      const workers = Array.from({ length: 2 }, () =>
        spawnWorker(file, {
          env: { ...env, WORKER_MODE: "churn", WORKER_CHURN_MS: `${seconds * 1_000}`, WORKER_ROUNDS: `${roundsMin}` }
        })
      )
      try {
        let running = workers.length
        const ended = workers.map(async (worker) => {
          const lines: Array<string> = []
          for await (const line of worker.lines) lines.push(line)
          const { code, stderr } = await worker.exited
          running--
          assert.strictEqual(code, 0, stderr)
          return Number(lines[0])
        })
        const samples: Array<Awaited<ReturnType<Table["measure"]>>> = []
        while (running > 0) {
          samples.push(await measure())
          await delay(500)
        }
        const written = (await Promise.all(ended)).reduce((sum, count) => sum + count, 0)
        const half = Math.floor(samples.length / 2)
        const most = (of: "rows" | "bytes", from: number, to: number) =>
          Math.max(...samples.slice(from, to).map((sample) => sample[of]))
        const figures = {
          written,
          rowsFirst: most("rows", 0, half),
          rowsSecond: most("rows", half, samples.length),
          bytesFirst: most("bytes", 0, half),
          bytesSecond: most("bytes", half, samples.length)
        }
        if (seconds > 30) console.log(JSON.stringify(figures))
        assert.ok(written > 2 * rowsMax, JSON.stringify(figures))
        assert.ok(Math.max(figures.rowsFirst, figures.rowsSecond) <= rowsMax, JSON.stringify(figures))
        // The size is at its bound early: what was deleted gives its place to what comes.
        assert.ok(figures.bytesSecond <= 2 * figures.bytesFirst + 1_000_000, JSON.stringify(figures))
      } finally {
        for (const worker of workers) worker.kill()
        await close()
      }
    },
    seconds * 2_000 + 600_000
  )
}

describe.concurrent("churn", () => {
  describe("of the CacheStore on SQLite", () => {
    churning(async () => {
      const filename = path.join(temporaryDirectory(), "churn.db")
      await build(CacheStoreSqlite.layer({ filename }))
      const db = new Database(filename, { readonly: true })
      const counting = db.prepare(
        "select (select count(*) from es_cache_entries) + (select count(*) from es_cache_tags) as n"
      )
      return {
        env: { WORKER_SQLITE_FILE: filename },
        measure: async () => ({
          rows: (counting.get() as { readonly n: number }).n,
          bytes: fs.statSync(filename).size + (fs.statSync(`${filename}-wal`, { throwIfNoEntry: false })?.size ?? 0)
        }),
        close: async () => db.close()
      }
    })
  })

  describePg("of the CacheStore on PostgreSQL", () => {
    churning(async () => {
      const url = await freshDatabase()
      await build(CacheStorePg.layer({ url: Redacted.make(url) }))
      const client = new Pg.Client({ connectionString: url })
      await client.connect()
      return {
        env: { WORKER_PG_URL: url },
        measure: async () => {
          const { rows } = await client.query(`select
  ((select count(*) from es_cache_entries) + (select count(*) from es_cache_tags))::int as rows,
  (pg_total_relation_size('es_cache_entries') + pg_total_relation_size('es_cache_tags'))::int as bytes`)
          return rows[0]
        },
        close: () => client.end()
      }
    })
  })
})
