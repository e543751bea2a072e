/**
 * The bench of the SnapshotStore: saving a snapshot and loading the latest on SQLite and PostgreSQL, beside the bare
 * drivers with the same columns and statements. `--quick` is for a look; `--profile` shows where the time of our side
 * goes; `--docs` writes the table of each backend that was measured into docs/.
 */
import { randomUUID } from "node:crypto"
import { Effect, type Layer, ManagedRuntime, Option, Redacted } from "effect"
import { SnapshotStore } from "effect-stores"
import { SnapshotStorePg } from "effect-stores/pg"
import { SnapshotStoreSqlite } from "effect-stores/sqlite"
import { barePg, bareSqlite, type Disk, waiting } from "../drivers.js"
import { effectSide, promiseSide, type Workload } from "../harness.js"
import { chosenBy, type Part, usage as partsUsage } from "../parts.js"

export const usage = `snapshot-store [--what sqlite,pg] ${partsUsage}`

/** About 1 KiB of JSON. */
const state = {
  owner: "c-1029384756",
  balance: 12.5,
  entries: Array.from({ length: 20 }, (_, i) => ({ id: `e-${i}`, amount: i * 1.5, note: "n".repeat(10) }))
}
const address = { tenantId: "tenant", domain: "account" }
const mark = "0190b3c8-41a7-7000-8000-1029384756aa"

/** What a program without the library would do; `id` is that of an aggregate. */
interface Raw {
  readonly name: string
  readonly save: (id: string, version: number) => Promise<unknown>
  readonly latest: (id: string) => Promise<unknown>
}

/** Aggregates whose snapshots are loaded, or saved again at a newer version. */
const ids = Array.from({ length: 1_000 }, () => randomUUID())

const workloadsOf = (
  layer: Layer.Layer<SnapshotStore.SnapshotStore, unknown>,
  raw: Raw,
  takesTurns: boolean
): Pick<Part, "workloads" | "close"> => {
  const runtime = ManagedRuntime.make(layer)
  const use = (body: (store: SnapshotStore.SnapshotStoreShape) => Effect.Effect<unknown, unknown>) =>
    Effect.flatMap(SnapshotStore.SnapshotStore, body)
  const save = (aggregateId: string, version: number) =>
    use((store) => store.save({ ...address, aggregateId }, { version, lastEventMark: mark, schemaVersion: "1", state }))
  const latest = (aggregateId: string) =>
    use((store) => Effect.map(store.latest({ ...address, aggregateId }), Option.getOrThrow))
  const turns = () => {
    let n = 0
    return () => {
      n++
      return { id: ids[n % ids.length] as string, version: 2 + Math.floor(n / ids.length) }
    }
  }
  const [ourTurn, rawTurn] = [turns(), turns()]
  let seeded = false
  const prepare = async () => {
    if (seeded) return
    seeded = true
    for (const id of ids) {
      await runtime.runPromise(save(id, 1))
      await raw.save(id, 1)
    }
  }
  const workloads = (["latest", "save"] as const).flatMap((operation) =>
    [1, 8, 32, 128].map(
      (concurrency): Workload => ({
        name: operation,
        concurrency,
        events: 1,
        prepare,
        ours: effectSide("effect-stores", runtime, takesTurns && concurrency > 1, () => {
          const { id, version } = ourTurn()
          return operation === "latest" ? latest(id) : save(id, version)
        }),
        raw: [
          promiseSide(raw.name, async () => {
            const { id, version } = rawTurn()
            return operation === "latest" ? raw.latest(id) : raw.save(id, version)
          })
        ],
        bars: { [raw.name]: 0.7 }
      })
    )
  )
  return { workloads, close: () => runtime.dispose() }
}

const columns = "tenant_id, domain, aggregate_id, version, last_event_mark, schema_version, checksum, created_ms, state"
const updates = ["version", "last_event_mark", "schema_version", "checksum", "created_ms", "state"].map(
  (name) => `${name} = excluded.${name}`
)
/** Without the checksum, which ours computes and compares. */
const row = (id: string, version: number) =>
  [address.tenantId, address.domain, id, version, mark, "1", "", Date.now(), JSON.stringify(state)] as const

export const onSqlite = async ({ synchronous }: Disk = waiting): Promise<Part> => {
  const bare = bareSqlite(synchronous)
  const { db, facts, filename } = bare
  db.exec(SnapshotStoreSqlite.migrationSql())
  const upsert = db.prepare(
    `INSERT INTO es_snapshots AS stored (${columns}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
     ON CONFLICT (tenant_id, domain, aggregate_id) DO UPDATE SET ${updates.join(", ")}
     WHERE stored.version <= excluded.version`
  )
  const read = db.prepare(
    `SELECT version, last_event_mark, schema_version, created_ms, state FROM es_snapshots
     WHERE tenant_id = ? AND domain = ? AND aggregate_id = ?`
  )
  const raw: Raw = {
    name: "better-sqlite3",
    save: async (id, version) => upsert.run(...row(id, version)),
    latest: async (id) => {
      const found = read.get(address.tenantId, address.domain, id) as { state: string }
      return { ...found, state: JSON.parse(found.state) }
    }
  }
  const { close, workloads } = workloadsOf(SnapshotStoreSqlite.layer({ filename, synchronous }), raw, true)
  return {
    title: "Sqlite",
    workloads,
    facts,
    close: async () => {
      await close()
      await bare.close()
    }
  }
}

export const onPg = async ({ settings }: Disk = waiting): Promise<Part> => {
  const maxOpenConns = 25
  const bare = await barePg(maxOpenConns, settings)
  const { facts, pool, url } = bare
  await pool.query(SnapshotStorePg.migrationSql({ prefix: "raw_" }))
  const raw: Raw = {
    name: "pg",
    save: (id, version) =>
      pool.query({
        name: "save",
        text: `insert into raw_snapshots as stored (${columns}) values ($1, $2, $3, $4, $5, $6, $7, $8, $9)
               on conflict (tenant_id, domain, aggregate_id) do update set ${updates.join(", ")}
               where stored.version <= excluded.version`,
        values: [...row(id, version)]
      }),
    latest: async (id) => {
      const { rows } = await pool.query<{ state: string }>({
        name: "latest",
        text: `select version, last_event_mark, schema_version, created_ms, state from raw_snapshots
               where tenant_id = $1 and domain = $2 and aggregate_id = $3`,
        values: [address.tenantId, address.domain, id]
      })
      const [found] = rows
      return { ...found, state: JSON.parse(found?.state ?? "null") }
    }
  }
  const { close, workloads } = workloadsOf(
    SnapshotStorePg.layer({ url: Redacted.make(url), pool: { maxOpenConns, maxIdleConns: maxOpenConns } }),
    raw,
    false
  )
  return {
    title: "Pg",
    workloads,
    facts,
    close: async () => {
      await close()
      await bare.close()
    }
  }
}

export const prepare = chosenBy("snapshot-store", { sqlite: () => onSqlite(), pg: () => onPg() })
