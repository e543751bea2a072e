/**
 * The process of one variant of a load: it opens its stores, and does turns of the load when its parent asks.
 */
import { createHash } from "node:crypto"
import { Effect, Layer, ManagedRuntime, Redacted } from "effect"
import { CryptoService, EventStore } from "effect-stores"
import { CommandStorePg, EventStorePg, PgDatabase, SnapshotStorePg } from "effect-stores/pg"
import { CommandStoreSqlite, EventStoreSqlite, SnapshotStoreSqlite, SqliteDatabase } from "effect-stores/sqlite"
import { ascending, percentilesOf } from "../harness.js"
import { loads, type Stores } from "./loads.js"
import { seeded } from "./random.js"

export interface Order {
  readonly load: string
  readonly seed: number
  readonly isSealed: boolean
  readonly at: { readonly filename: string } | { readonly url: string }
}

export type Question = { readonly order: Order } | { readonly turnMs: number; readonly isWarmUp: boolean } | "end"

export interface TurnDone {
  readonly operations: number
  readonly elapsedMs: number
}

/** Of all turns but the warm-up; the peak is of the process's whole life. */
export interface Totals {
  readonly kinds: ReadonlyArray<
    { readonly kind: string; readonly operations: number } & ReturnType<typeof percentilesOf>
  >
  readonly cpuSeconds: number
  readonly peakMiB: number
}

export type Answer = "ready" | TurnDone | Totals

const pool = { maxOpenConns: 25, maxIdleConns: 25 }

const layerOf = ({ at, isSealed, seed }: Order): Layer.Layer<Stores, unknown> => {
  const stores =
    "url" in at
      ? Layer.mergeAll(
          EventStorePg.layerFromDatabase(),
          SnapshotStorePg.layerFromDatabase(),
          CommandStorePg.layerFromDatabase()
        ).pipe(Layer.provide(PgDatabase.layer({ url: Redacted.make(at.url), pool })))
      : Layer.mergeAll(
          EventStoreSqlite.layerFromDatabase(),
          SnapshotStoreSqlite.layerFromDatabase(),
          CommandStoreSqlite.layerFromDatabase()
        ).pipe(Layer.provide(SqliteDatabase.layer({ filename: at.filename })))
  if (!isSealed) return stores
  const key = Redacted.make(createHash("sha256").update(`${seed}`).digest())
  return stores.pipe(
    CryptoService.seal,
    Layer.provide(CryptoService.layer({ keys: [{ id: "bench", key }], primary: "bench" }))
  )
}

const opened = async (order: Order) => {
  const load = loads.find(({ name }) => name === order.load)
  if (load === undefined) throw new Error(`no load ${order.load}`)
  const runtime = ManagedRuntime.make(layerOf(order))
  const stored = () => runtime.runPromise(Effect.flatMap(EventStore.EventStore, (store) => store.count()))
  await runtime.runPromise(load.prepare)
  const storedBefore = await stored()
  const callers = Array.from({ length: load.callers }, (_, i) => load.caller(i, seeded(order.seed * 1_000 + i)))
  // A backend that finishes without waiting would leave the other callers no turn.
  const takesTurns = "filename" in order.at
  const latencies = new Map<string, Array<number>>()
  let appended = 0
  let cpuMicros = 0

  const callAgain = (next: (typeof callers)[number], end: number, note: (kind: string, ms: number) => void) => {
    let first = true
    let [before, kind, appends] = [0, "", 0]
    return Effect.whileLoop({
      while: () => first || performance.now() < end,
      body: () => {
        first = false
        const operation = next()
        kind = operation.kind
        appends = operation.appends
        before = performance.now()
        return takesTurns ? Effect.zipLeft(operation.effect, Effect.yieldNow()) : operation.effect
      },
      step: () => {
        appended += appends
        note(kind, performance.now() - before)
      }
    })
  }

  return {
    turn: async (turnMs: number, isWarmUp: boolean): Promise<TurnDone> => {
      let operations = 0
      const note = (kind: string, ms: number): void => {
        operations++
        if (isWarmUp) return
        const noted = latencies.get(kind)
        if (noted === undefined) latencies.set(kind, [ms])
        else noted.push(ms)
      }
      const cpuBefore = process.cpuUsage()
      const startedAt = performance.now()
      await Promise.all(callers.map((next) => runtime.runPromise(callAgain(next, startedAt + turnMs, note))))
      const elapsedMs = performance.now() - startedAt
      const { system, user } = process.cpuUsage(cpuBefore)
      if (!isWarmUp) cpuMicros += system + user
      return { operations, elapsedMs }
    },
    end: async (): Promise<Totals> => {
      const written = (await stored()) - storedBefore
      if (written !== appended) throw new Error(`${load.name}: ${written} events are stored, not ${appended}`)
      await runtime.dispose()
      return {
        kinds: [...latencies].map(([kind, each]) => ({
          kind,
          operations: each.length,
          ...percentilesOf(ascending(each))
        })),
        cpuSeconds: cpuMicros / 1e6,
        peakMiB: process.resourceUsage().maxRSS / 1024
      }
    }
  }
}

const answer = (value: Answer): void => {
  process.send?.(value)
}

let open: Awaited<ReturnType<typeof opened>> | undefined

const ask = async (question: Question): Promise<void> => {
  if (question === "end") {
    const totals = await open?.end()
    if (totals !== undefined) answer(totals)
    process.disconnect()
  } else if ("order" in question) {
    open = await opened(question.order)
    answer("ready")
  } else if (open !== undefined) answer(await open.turn(question.turnMs, question.isWarmUp))
}

process.on("message", (question: Question) => {
  ask(question).catch((error) => {
    console.error(error)
    process.exit(1)
  })
})

// Its parent has ended.
process.on("disconnect", () => process.exit())
