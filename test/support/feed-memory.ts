/**
 * The process that reads a long feed and says by how much its resident memory grows meanwhile:
 * `feed-memory.ts <sqlite file | Pg url> <events> read|keep`. It needs --expose-gc. `keep` holds on to the events, so
 * that the test sees that this would show.
 */
import Database from "better-sqlite3"
import { Chunk, Effect, type Layer, Redacted, Stream } from "effect"
import { EventStore } from "effect-stores"
import { EventStorePg } from "effect-stores/pg"
import { EventStoreSqlite } from "effect-stores/sqlite"
import Pg from "pg"

const [where = "", events = "", mode = "read"] = process.argv.slice(2)
const total = Number(events)
const isPg = where.startsWith("postgres")
const layer: Layer.Layer<EventStore.EventStore, unknown> = isPg
  ? EventStorePg.layer({ url: Redacted.make(where) })
  : EventStoreSqlite.layer({ filename: where, synchronous: "OFF" })

const mebibyte = 1024 ** 2
const perStream = 1_000
const columns =
  "id, tenant_id, domain, aggregate_id, version, type, data, metadata, key_id, command_id, instance_id, created_ms"

/** Written by the database itself: appending five million events would be most of the test's time. */
const fill = async (): Promise<void> => {
  if (isPg) {
    const client = new Pg.Client({ connectionString: where })
    await client.connect()
    await client.query(
      `insert into es_events (position, ${columns})
       select nextval('es_positions'), gen_random_uuid(), 't', 'd', (n / ${perStream})::text, n % ${perStream} + 1,
         'Happened', '{"n":' || n || ',"note":"one of a long feed"}', '{}', null, null, null, 1700000000000
       from generate_series(0, ${total - 1}) n order by n`
    )
    await client.query("analyze es_events")
    await client.end()
    return
  }
  const db = new Database(where)
  db.pragma("synchronous = OFF")
  db.exec(
    `INSERT INTO es_events (${columns})
     WITH RECURSIVE numbers (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM numbers WHERE n < ${total - 1})
     SELECT printf('00000000-0000-7000-8000-%012x', n), 't', 'd', n / ${perStream}, n % ${perStream} + 1,
       'Happened', '{"n":' || n || ',"note":"one of a long feed"}', '{}', NULL, NULL, NULL, 1700000000000
     FROM numbers`
  )
  db.close()
}

const program = Effect.gen(function* () {
  const store = yield* EventStore.EventStore
  yield* Effect.promise(fill)
  yield* Stream.runDrain(store.feed({ limit: 20_000 }))
  globalThis.gc?.()
  const before = process.memoryUsage.rss()
  let most = before
  let seen = 0
  const kept: Array<unknown> = []
  yield* Stream.runForEachChunk(store.feed(), (chunk) =>
    Effect.sync(() => {
      seen += Chunk.size(chunk)
      if (mode === "keep") kept.push(chunk)
      most = Math.max(most, process.memoryUsage.rss())
    })
  )
  process.stdout.write(JSON.stringify({ seen, kept: kept.length, grownMiB: Math.ceil((most - before) / mebibyte) }))
})

Effect.runPromise(Effect.provide(program, layer)).catch((error) => {
  process.stderr.write(String(error))
  process.exitCode = 1
})
