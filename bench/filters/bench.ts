/**
 * What filters cost among few events and among many, with all indexes by choice; and what each index costs appends.
 */
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { parseArgs } from "node:util"
import Database from "better-sqlite3"
import { DateTime, Effect, Layer, ManagedRuntime, Redacted, Stream } from "effect"
import { EventStore } from "effect-stores"
import { EventStorePg } from "effect-stores/pg"
import { EventStoreSqlite } from "effect-stores/sqlite"
import { barePg } from "../drivers.js"
import { effectSide, type Workload } from "../harness.js"
import { chosenBy, type Part } from "../parts.js"
import { commonType, rare, type Seed, seedPg, seedSqlite, startMs } from "../seed.js"

export const usage =
  "filters [--backend pg,sqlite] [--events 1000000] [--indexed] [--what pg-looks,sqlite-price] [--only TEXT] [--quick]"

type Index = "type" | "domain" | "tenant" | "time"
type Store = ManagedRuntime.ManagedRuntime<EventStore.EventStore, never>

const indexes: ReadonlyArray<Index> = ["type", "domain", "tenant", "time"]

const few = 100_000
const found = 100

const seedOf = (events: number): Seed => ({ events, streams: events / 10, rare: found })

interface Backend {
  readonly title: string
  readonly takesTurns: boolean
  readonly facts: Readonly<Record<string, string>>
  /** A store with so many events, and nothing but the indexes that every store has. Returns how to open it. */
  readonly seeded: (name: string, events: number) => Promise<(indexes: ReadonlyArray<Index>) => Store>
  readonly close: () => Promise<void>
}

const pg = async (): Promise<Backend> => {
  const { close, facts, pool, url } = await barePg(2)
  return {
    title: "Pg",
    takesTurns: false,
    facts,
    seeded: async (schema, events) => {
      const client = await pool.connect()
      await client.query(EventStorePg.migrationSql({ schema, indexes: [] }))
      await client.query(`set search_path = ${schema}`)
      await seedPg(client, seedOf(events))
      client.release(true)
      return (indexes) =>
        ManagedRuntime.make(
          Layer.orDie(
            EventStorePg.layer({
              url: Redacted.make(url),
              schema,
              indexes,
              // Whether a log of many events is walked is what is measured.
              statementTimeout: "10 minutes",
              pool: { maxOpenConns: 10, maxIdleConns: 10 }
            })
          )
        )
    },
    close
  }
}

const sqlite = async (): Promise<Backend> => {
  const directory = mkdtempSync(join(tmpdir(), "es-bench-"))
  return {
    title: "Sqlite",
    takesTurns: true,
    facts: { synchronous: "FULL" },
    seeded: async (name, events) => {
      const filename = join(directory, `${name}.db`)
      const db = new Database(filename)
      db.pragma("journal_mode = WAL")
      db.exec(EventStoreSqlite.migrationSql({ indexes: [] }))
      seedSqlite(db, seedOf(events))
      db.close()
      return (indexes) => ManagedRuntime.make(Layer.orDie(EventStoreSqlite.layer({ filename, indexes })))
    },
    close: async () => rmSync(directory, { recursive: true })
  }
}

const middle = (events: number): EventStore.Filter => ({
  createdFrom: DateTime.unsafeMake(startMs + events / 2),
  createdUntil: DateTime.unsafeMake(startMs + events / 2 + found)
})

/** What is asked of a store with so many events; the filters find the same, however many there are. */
const asked = (
  events: number
): Readonly<Record<string, (store: EventStore.EventStoreShape) => Effect.Effect<unknown, unknown>>> => {
  const feed =
    (filter: EventStore.Filter, limit = found) =>
    (store: EventStore.EventStoreShape) =>
      Effect.flatMap(Stream.runCount(store.feed({ filter, limit: limit + 1 })), (n) =>
        n < limit ? Effect.die(`${n} events for ${JSON.stringify(filter)}`) : Effect.void
      )
  const page = (filter: EventStore.Filter) => (store: EventStore.EventStoreShape) =>
    store.page({ filter, direction: "backward", limit: 20 })
  return {
    "feed of a type": feed({ types: [rare] }),
    "feed of a domain": feed({ domain: rare }),
    "feed of a tenant": feed({ tenantId: rare }),
    "feed of a command": feed({ commandId: rare }),
    "feed of a time": feed(middle(events)),
    "feed of one of 8 types": feed({ types: [rare, "A", "B", "C", "D", "E", "F", "G"] }),
    "feed of a tenant, common type": feed({ tenantId: rare, types: [rare, commonType] }),
    "feed of a type, common tenant": feed({ types: [rare], domain: rare }),
    "page of a type": page({ types: [rare] }),
    "page of a domain": page({ domain: rare }),
    "page of a tenant": page({ tenantId: rare }),
    "page of a time": page(middle(events)),
    "count of a type": (store) => store.count({ types: [rare] }),
    "count of a time": (store) => store.count(middle(events)),
    "distinct types": (store) => Stream.runDrain(store.distinct("type")),
    "distinct tenants": (store) => Stream.runDrain(store.distinct("tenantId")),
    "distinct domains": (store) => Stream.runDrain(store.distinct("domain")),
    "distinct tenants of a type": (store) => Stream.runDrain(store.distinct("tenantId", { types: [rare] })),
    "1,000 of a common type": feed({ types: [commonType] }, 1_000),
    "1,000 of 3 common types": feed({ types: [commonType, "Type1", "Type2"] }, 1_000),
    "1,000 of a common type and tenant": feed({ types: [commonType], tenantId: "tenant3" }, 1_000)
  }
}

const onStore = (ask: (store: EventStore.EventStoreShape) => Effect.Effect<unknown, unknown>) =>
  Effect.flatMap(EventStore.EventStore, ask)

/** What takes so long is looked at once. */
const longMs = 1_000

const medianMs = async (run: () => Promise<unknown>): Promise<number> => {
  const times: Array<number> = []
  for (let i = 0; i < 3; i++) {
    const before = performance.now()
    await run()
    const ms = performance.now() - before
    if (ms >= longMs) return ms
    times.push(ms)
  }
  return times.sort((a, b) => a - b)[1] as number
}

const secondsSince = (before: number) => () => ((performance.now() - before) / 1_000).toFixed(1)

/** Prints it. */
const lookWithout = async (
  title: string,
  { few: openFew, many: openMany }: Readonly<Record<"few" | "many", (indexes: ReadonlyArray<Index>) => Store>>,
  events: number,
  only: string
): Promise<void> => {
  console.log(
    `${title}: without indexes by choice, ms among ${few.toLocaleString("en-US")} and ${events.toLocaleString("en-US")} events`
  )
  const without = [openFew([]), openMany([])] as const
  for (const [name, ask] of Object.entries(asked(events)).filter(([name]) => name.includes(only))) {
    const all: Array<string> = []
    for (const [i, store] of without.entries()) {
      const here = i === 0 ? (asked(few)[name] ?? ask) : ask
      all.push((await medianMs(() => store.runPromise(onStore(here)))).toFixed(2))
    }
    console.log(`  ${name.padEnd(36)} ${all.map((ms) => ms.padStart(10)).join("")}`)
  }
  for (const store of without) await store.dispose()
}

interface Looks {
  readonly events: number
  readonly only: string
  /** Without them is not measured: it takes minutes. */
  readonly indexed: boolean
}

const looks =
  (open: () => Promise<Backend>, { events, indexed, only }: Looks) =>
  async (): Promise<Part> => {
    const backend = await open()
    const openFew = await backend.seeded("few", few)
    const seconds = secondsSince(performance.now())
    const openMany = await backend.seeded("many", events)
    console.log(`\n${backend.title}: ${events.toLocaleString("en-US")} events in ${seconds()} s`)
    if (!indexed) await lookWithout(backend.title, { few: openFew, many: openMany }, events, only)
    const built = secondsSince(performance.now())
    const many = openMany(indexes)
    await many.runPromise(Effect.void)
    console.log(`  all four indexes were built in ${built()} s`)
    const fewStore = openFew(indexes)
    const against = "among few"
    return {
      title: `${backend.title}: among ${events.toLocaleString("en-US")} events, beside ${few.toLocaleString("en-US")}`,
      facts: backend.facts,
      workloads: Object.entries(asked(events)).map(
        ([name, ask]): Workload => ({
          name,
          concurrency: 1,
          events: found,
          prepare: async () => {},
          ours: effectSide("among many", many, backend.takesTurns, () => onStore(ask)),
          raw: [effectSide(against, fewStore, backend.takesTurns, () => onStore(asked(few)[name] ?? ask))],
          bars: { [against]: 0.5 }
        })
      ),
      close: async () => {
        await many.dispose()
        await fewStore.dispose()
        await backend.close()
      }
    }
  }

const price = (open: () => Promise<Backend>, events: number) => async (): Promise<Part> => {
  const backend = await open()
  const stores: Array<{ readonly name: string; readonly store: Store }> = []
  const variants: ReadonlyArray<readonly [string, ReadonlyArray<Index>]> = [
    ["none", []],
    ...indexes.map((index) => [index, [index]] as const),
    ["all", indexes]
  ]
  for (const [name, chosen] of variants) {
    const store = (await backend.seeded(`price_${name}`, events))(chosen)
    await store.runPromise(Effect.void)
    stores.push({ name, store })
  }
  const [none, ...others] = stores as [(typeof stores)[number], ...typeof stores]
  let next = 0
  const append = (count: number) =>
    Effect.flatMap(EventStore.EventStore, (store) => {
      const n = next++
      const stream = { tenantId: `tenant${n % 10}`, domain: `domain${n % 5}`, aggregateId: crypto.randomUUID() }
      const events = Array.from({ length: count }, (_, i) => ({
        type: (n + i) % 10 > 0 ? commonType : `Type${((n + i) % 9) + 1}`,
        data: { text: "x".repeat(180) }
      }))
      return store.append(stream, events, { expected: "noStream" })
    })
  const workload = (count: number, concurrency: number): Workload => {
    const side = ({ name, store }: (typeof stores)[number]) =>
      effectSide(name, store, backend.takesTurns, () => append(count))
    return {
      name: count === 1 ? "append 1 event" : `append ${count} events`,
      concurrency,
      events: count,
      prepare: async () => {},
      ours: side(none),
      raw: others.map(side),
      bars: {}
    }
  }
  return {
    title: `${backend.title}: appends with no index by choice, beside each of them`,
    facts: backend.facts,
    workloads: [workload(1, 1), workload(1, 32), workload(100, 1)],
    close: async () => {
      for (const { store } of stores) await store.dispose()
      await backend.close()
    }
  }
}

/** Throws at once for arguments that it does not know. */
export const prepare = (args: ReadonlyArray<string>): (() => Promise<void>) => {
  const { values, tokens } = parseArgs({
    args: [...args],
    options: {
      backend: { type: "string", default: "pg,sqlite" },
      events: { type: "string", default: "1000000" },
      indexed: { type: "boolean", default: false }
    },
    strict: false,
    tokens: true
  })
  const many = Number(values.events)
  if (!Number.isSafeInteger(many) || many < few) throw new Error(`--events must be ${few} or more`)
  const only = typeof values.only === "string" ? values.only : ""
  const backends: Readonly<Record<string, () => Promise<Backend>>> = { pg, sqlite }
  const chosen = String(values.backend)
    .split(",")
    .map((name) => {
      const open = backends[name]
      if (open === undefined) throw new Error(`nothing called ${name}`)
      return [name, open] as const
    })
  const parts = Object.fromEntries(
    chosen.flatMap(([name, open]) => [
      [`${name}-looks`, looks(open, { events: many, only, indexed: values.indexed === true })],
      [`${name}-price`, price(open, few)]
    ])
  )
  // What is left is what every bench of parts understands.
  const own = new Set(
    tokens.flatMap((token) =>
      token.kind === "option" && ["backend", "events", "indexed"].includes(token.name)
        ? token.inlineValue === true || token.name === "indexed"
          ? [token.index]
          : [token.index, token.index + 1]
        : []
    )
  )
  return chosenBy("filters", parts)(args.filter((_, i) => !own.has(i)))
}
