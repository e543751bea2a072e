/**
 * The bench of the CommandStore: creating and executing commands on SQLite and PostgreSQL, beside the bare drivers with
 * the same columns and statements. `--quick` is for a look; `--profile` shows where the time of our side goes; `--docs`
 * writes the table of each backend that was measured into docs/.
 */
import { randomUUID } from "node:crypto"
import { Effect, type Layer, ManagedRuntime, Redacted, Schema } from "effect"
import { CommandStore } from "effect-stores"
import { CommandStorePg } from "effect-stores/pg"
import { CommandStoreSqlite } from "effect-stores/sqlite"
import { barePg, bareSqlite, type Disk, waiting } from "../drivers.js"
import { effectSide, promiseSide, type Workload } from "../harness.js"
import { chosenBy, type Part, usage as partsUsage } from "../parts.js"

export const usage = `command-store [--what sqlite,pg] ${partsUsage}`

const data = { order: "o-1029384756", lines: [{ sku: "A-1", n: 2 }], note: "n".repeat(200) }
const place = { tenantId: "tenant", domain: "order", type: "PlaceOrder" }
const outcome = { total: 12.5 }

/** What a program without the library would do, both as one call. */
interface Raw {
  readonly name: string
  readonly create: () => Promise<unknown>
  /** Stores it, does nothing, and stores its outcome. */
  readonly execute: () => Promise<unknown>
}

const workloadsOf = (
  layer: Layer.Layer<CommandStore.CommandStore, unknown>,
  raw: Raw,
  takesTurns: boolean
): Pick<Part, "workloads" | "close"> => {
  const runtime = ManagedRuntime.make(layer)
  const command = () => ({ id: randomUUID(), ...place, data })
  const success = Schema.Struct({ total: Schema.Number })
  const ours = {
    create: Effect.flatMap(CommandStore.CommandStore, (store) => store.create(command())),
    execute: Effect.flatMap(CommandStore.CommandStore, (store) =>
      store.execute(command(), Effect.succeed(outcome), { success })
    )
  }
  const workloads = (["create", "execute"] as const).flatMap((operation) =>
    [1, 8, 32, 128].map(
      (concurrency): Workload => ({
        name: operation,
        concurrency,
        events: 1,
        prepare: async () => {},
        ours: effectSide("effect-stores", runtime, takesTurns && concurrency > 1, () => ours[operation]),
        raw: [promiseSide(raw.name, raw[operation])],
        bars: operation === "create" ? { [raw.name]: 0.6 } : {}
      })
    )
  )
  return { workloads, close: () => runtime.dispose() }
}

const columns = "id, tenant_id, domain, type, data, metadata, created_ms, status, attempts, lease_end_ms"

const row = (id: string) =>
  [id, place.tenantId, place.domain, place.type, JSON.stringify(data), "{}", Date.now(), "received", 1, 0] as const

export const onSqlite = async ({ synchronous }: Disk = waiting): Promise<Part> => {
  const bare = bareSqlite(synchronous)
  const { db, facts, filename } = bare
  db.exec(CommandStoreSqlite.migrationSql())
  const insert = db.prepare(
    `INSERT INTO es_commands (${columns}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING`
  )
  const update = db.prepare(
    "UPDATE es_commands SET status = 'succeeded', outcome = ?, finished_ms = ? WHERE id = ? AND status = 'received'"
  )
  const raw: Raw = {
    name: "better-sqlite3",
    create: async () => insert.run(...row(randomUUID())),
    execute: async () => {
      const id = randomUUID()
      insert.run(...row(id))
      // An effect may wait for something.
      await Promise.resolve()
      update.run(JSON.stringify(outcome), Date.now(), id)
    }
  }
  const { close, workloads } = workloadsOf(CommandStoreSqlite.layer({ filename, synchronous }), raw, true)
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
  await pool.query(CommandStorePg.migrationSql({ prefix: "raw_" }))
  const insert = (id: string) =>
    pool.query({
      name: "insert",
      text: `insert into raw_commands (${columns}) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
             on conflict (id) do nothing returning position`,
      values: [...row(id)]
    })
  const raw: Raw = {
    name: "pg",
    create: () => insert(randomUUID()),
    execute: async () => {
      const id = randomUUID()
      await insert(id)
      await pool.query({
        name: "update",
        text: `update raw_commands set status = 'succeeded', outcome = $1, finished_ms = $2
               where id = $3 and status = 'received'`,
        values: [JSON.stringify(outcome), Date.now(), id]
      })
    }
  }
  const { close, workloads } = workloadsOf(
    CommandStorePg.layer({ url: Redacted.make(url), pool: { maxOpenConns, maxIdleConns: maxOpenConns } }),
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

export const prepare = chosenBy("command-store", { sqlite: () => onSqlite(), pg: () => onPg() })
