/**
 * Every statement that the stores prepare on SQLite finds its rows by an index, whatever the statistics say: the plans
 * are asked for without any, and with those of a log of a million events, a thousand for each value.
 */
import assert from "node:assert/strict"
import * as path from "node:path"
import Database from "better-sqlite3"
import { Effect, Layer } from "effect"
import { EventStore } from "effect-stores"
import {
  CacheStoreSqlite,
  CheckpointStoreSqlite,
  CommandStoreSqlite,
  DataStoreSqlite,
  EventStoreSqlite,
  SnapshotStoreSqlite,
  SqliteDatabase
} from "effect-stores/sqlite"
import { describe, test } from "vitest"
import { temporaryDirectory } from "../support/backends.js"
import { everything } from "../support/tour.js"

/** The statements that an effect prepares, on any connection. */
const preparedBy = async (self: Effect.Effect<unknown, unknown>): Promise<ReadonlyArray<string>> => {
  const { prototype } = Database as unknown as { readonly prototype: { prepare: (text: string) => unknown } }
  const { prepare } = prototype
  const texts = new Set<string>()
  prototype.prepare = function (this: unknown, text: string) {
    texts.add(text)
    return prepare.call(this, text)
  }
  try {
    await Effect.runPromise(self)
  } finally {
    prototype.prepare = prepare
  }
  return [...texts]
}

/** What looks at everything there is, by its meaning. */
const looksAtAll = [
  // Numbers of all, sums of all, and what is emptied.
  /^SELECT count\(\*\)/,
  /^DELETE FROM \S+$/,
  /FROM sqlite_schema/,
  /^SELECT \(SELECT count\(\*\)/,
  // A scan in order of position that ends with its first row.
  /ORDER BY position DESC LIMIT 1$/,
  // Only where the log is short; else it is looked through a stretch of positions at a time.
  /^SELECT DISTINCT \w+ FROM es_commands WHERE/,
  // All buckets, and the puts that are under way: few.
  /FROM es_buckets$/,
  /FROM es_object_uploads WHERE touched_ms/,
  /coalesce\(sum/
]

const scansOf = (db: Database.Database, text: string): ReadonlyArray<string> =>
  (
    db.prepare(`EXPLAIN QUERY PLAN ${text}`).all(...Array.from(text.matchAll(/\?/g), () => null)) as ReadonlyArray<{
      readonly detail: string
    }>
  )
    .map(({ detail }) => detail)
    .filter((detail) => /^SCAN es_\w+$/.test(detail))

describe("plans on SQLite", () => {
  test("no statement scans a table, without statistics and with any", async () => {
    const filename = path.join(temporaryDirectory(), "plans.db")
    const stores = Layer.mergeAll(
      EventStoreSqlite.layerFromDatabase({ indexes: ["type", "domain", "tenant", "time"] }),
      CommandStoreSqlite.layerFromDatabase(),
      SnapshotStoreSqlite.layerFromDatabase(),
      CacheStoreSqlite.layerFromDatabase(),
      DataStoreSqlite.layerFromDatabase(),
      CheckpointStoreSqlite.layerFromDatabase()
    ).pipe(Layer.provideMerge(SqliteDatabase.layer({ filename })))
    const fill = () => {
      const db = new Database(filename)
      db.exec(`WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 3000)
        INSERT INTO es_events (id, tenant_id, domain, aggregate_id, version, type, data, metadata, created_ms)
        SELECT n, 'many', 'order', n, 1, 'T', '1', '{}', n FROM n`)
      db.close()
    }
    const texts = await preparedBy(
      Effect.all([
        // The log must be long enough for looks to be taken.
        Effect.flatMap(EventStore.EventStore, () => Effect.sync(fill)),
        everything
      ]).pipe(Effect.provide(stores))
    )
    assert.ok(texts.length > 150, `${texts.length} statements`)
    const db = new Database(filename)
    const asked = texts.filter(
      (text) =>
        /^(SELECT|INSERT|UPDATE|DELETE|WITH)/.test(text.trim()) && !looksAtAll.some((all) => all.test(text.trim()))
    )
    const found = (on: Database.Database) =>
      asked.flatMap((text) => scansOf(on, text).map((scan) => `${scan}: ${text}`))
    assert.deepEqual(found(db), [])
    db.exec("ANALYZE")
    db.exec(`DELETE FROM sqlite_stat1; INSERT INTO sqlite_stat1 (tbl, idx, stat)
      SELECT tbl_name, name, '1000000 1000 100 10 1' FROM sqlite_schema WHERE type = 'index' AND tbl_name LIKE 'es\\_%' ESCAPE '\\'`)
    db.close()
    const analyzed = new Database(filename)
    assert.deepEqual(found(analyzed), [])
    analyzed.close()
  })
})
