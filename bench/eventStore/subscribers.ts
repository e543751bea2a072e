/**
 * The bench of many subscribers, such as a web client each: what they cost while nothing happens, and how long an
 * append takes to reach all of them. The other side is one subscriber in the same run. `--quick` is for a look.
 */
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { parseArgs } from "node:util"
import { Context, Effect, Exit, Fiber, Layer, Redacted, Scope, Stream } from "effect"
import { EventStore, EventStoreEncoded } from "effect-stores"
import { EventStoreMemory } from "effect-stores/memory"
import { EventStorePg } from "effect-stores/pg"
import { EventStoreSqlite } from "effect-stores/sqlite"
import { pgFacts, sqliteFacts } from "../drivers.js"
import * as report from "../report.js"
import { postgres } from "../servers.js"
import { data, metadata, type } from "./workloads.js"

export const usage = "subscribers [--backend pg,sqlite,memory] [--most NUMBER] [--quick | --brief] [--json FILE]"

/** An append reaches a thousand subscribers in so many milliseconds. */
const barMs = 50
const barAt = 1_000

const crowds = [1, barAt, 10_000] as const
const stream = { tenantId: "t", domain: "order", aggregateId: "watched" }

type Filters = "one filter" | "a filter each"

interface Opened {
  readonly layer: Layer.Layer<EventStore.EventStore, unknown>
  readonly facts: Readonly<Record<string, string>>
  readonly close: () => Promise<void>
}

const backends: Readonly<Record<string, () => Promise<Opened>>> = {
  memory: async () => ({ layer: EventStoreMemory.layer(), facts: {}, close: async () => {} }),
  sqlite: async () => {
    const directory = mkdtempSync(join(tmpdir(), "bench-subscribers-"))
    return {
      layer: EventStoreSqlite.layer({ filename: join(directory, "bench.db") }),
      facts: sqliteFacts("FULL"),
      close: async () => rmSync(directory, { recursive: true })
    }
  },
  pg: async () => {
    const server = await postgres()
    const layer = EventStorePg.layer({ url: Redacted.make(server.url) })
    return { layer, facts: await pgFacts(server.url), close: server.stop }
  }
}

interface Asked {
  times: number
}

/** A store that counts how often its backend is asked. */
const counting = (store: EventStore.EventStoreShape, asked: Asked) => {
  const count = <A, E>(self: Effect.Effect<A, E>) =>
    Effect.suspend(() => {
      asked.times++
      return self
    })
  return EventStoreEncoded.relift(store, (port) =>
    Effect.succeed({
      ...port,
      head: count(port.head),
      lastPosition: count(port.lastPosition),
      readFeed: (request: Parameters<typeof port.readFeed>[0]) => count(port.readFeed(request))
    })
  )
}

const cpuMs = (since?: NodeJS.CpuUsage): number => {
  const { system, user } = process.cpuUsage(since)
  return (system + user) / 1_000
}

const sleepMs = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms))

interface Figures {
  readonly subscribers: number
  readonly filters: Filters
  readonly idleAskedPerSecond: number
  readonly idleCpu: number
  readonly reachedMs: ReadonlyArray<number>
  readonly askedByAppend: number
}

const median = (values: ReadonlyArray<number>): number =>
  [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? 0

const measure = async (
  store: EventStore.EventStoreShape,
  asked: Asked,
  subscribers: number,
  filters: Filters,
  { appends, idleMs }: { readonly appends: number; readonly idleMs: number }
): Promise<Figures> => {
  const after = await Effect.runPromise(store.head)
  let reached = 0
  const all = (): void => {
    reached++
  }
  const fibers = Array.from({ length: subscribers }, (_, i) => {
    const types = filters === "one filter" ? [type] : [type, `other ${i}`]
    const watching = Stream.runForEach(store.subscribe({ after, filter: { domain: "order", types } }), () =>
      Effect.sync(all)
    )
    return Effect.runFork(watching)
  })
  const append = async () => {
    reached = 0
    const before = performance.now()
    await Effect.runPromise(store.append(stream, [{ type, data: data(0), metadata: metadata() }], { expected: "any" }))
    while (reached < subscribers) await new Promise((resolve) => setImmediate(resolve))
    return performance.now() - before
  }
  // The first one finds out that all are there, and warms up.
  await append()
  await append()
  await sleepMs(1_500)
  asked.times = 0
  const cpu = process.cpuUsage()
  const start = performance.now()
  await sleepMs(idleMs)
  const ms = performance.now() - start
  const idle = { idleAskedPerSecond: (asked.times / ms) * 1_000, idleCpu: cpuMs(cpu) / ms }
  asked.times = 0
  const reachedMs: Array<number> = []
  for (let i = 0; i < appends; i++) {
    reachedMs.push(await append())
    await sleepMs(20)
  }
  const askedByAppend = asked.times / appends
  await Effect.runPromise(Fiber.interruptAll(fibers))
  return { subscribers, filters, ...idle, reachedMs, askedByAppend }
}

export const prepare = (args: ReadonlyArray<string>): (() => Promise<void>) => {
  const { values } = parseArgs({
    args: [...args],
    options: {
      backend: { type: "string", default: "pg,sqlite,memory" },
      quick: { type: "boolean", default: false },
      brief: { type: "boolean", default: false },
      most: { type: "string", default: "10000" },
      json: { type: "string", default: ".bench/subscribers.json" }
    }
  })
  const chosen = values.backend.split(",").map((name) => {
    const open = backends[name]
    if (open === undefined) throw new Error(`no backend ${name}`)
    return { name, open }
  })
  const budget = values.quick || values.brief ? { appends: 5, idleMs: 3_000 } : { appends: 21, idleMs: 10_000 }
  return async () => {
    const loadBefore = await report.othersLoad()
    const results: Array<Figures & { readonly backend: string }> = []
    const allFacts: Record<string, string> = {}
    for (const { name, open } of chosen) {
      const { close, facts, layer } = await open()
      Object.assign(allFacts, facts)
      const scope = await Effect.runPromise(Scope.make())
      try {
        const context = await Effect.runPromise(Scope.extend(Layer.build(layer), scope))
        const asked: Asked = { times: 0 }
        const store = await Effect.runPromise(counting(Context.get(context, EventStore.EventStore), asked))
        for (const subscribers of crowds.filter((crowd) => crowd <= Number(values.most))) {
          for (const filters of ["one filter", "a filter each"] as const) {
            if (subscribers === 1 && filters === "a filter each") continue
            const found = await measure(store, asked, subscribers, filters, budget)
            results.push({ backend: name, ...found })
            const reached = median(found.reachedMs)
            const verdict = subscribers === barAt ? ` bar ${barMs} ms ${reached < barMs ? "met" : "MISSED"}` : ""
            console.log(
              `${name}: ${subscribers} subscribers, ${filters}: idle ${found.idleAskedPerSecond.toFixed(1)} questions/s, ` +
                `${found.idleCpu.toFixed(4)} of a core; an append takes ${reached.toFixed(1)} ms ` +
                `(${Math.min(...found.reachedMs).toFixed(1)} to ${Math.max(...found.reachedMs).toFixed(1)}) and ` +
                `${found.askedByAppend.toFixed(1)} questions to reach them${verdict}`
            )
          }
        }
      } finally {
        await Effect.runPromise(Scope.close(scope, Exit.void))
        await close()
      }
    }
    report.write(values.json, "subscribers", results, { facts: allFacts, budget, loadBefore })
  }
}
