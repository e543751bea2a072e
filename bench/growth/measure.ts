/**
 * One workload on stores of several sizes, in turns.
 */
import type { Effect } from "effect"
import { effectSide, type Side, turn } from "../harness.js"
import type { Filled, Stores } from "./backends.js"

export interface Workload {
  readonly name: string
  /** What must be there, and one operation, again and again. */
  readonly on: (store: Filled) => Promise<() => Effect.Effect<unknown, unknown, Stores>>
}

export interface Budget {
  readonly rounds: number
  readonly turnMs: number
  /** Of each store, before the first round: compiled code, prepared statements, caches. */
  readonly warmUpMs: number
}

export interface Figures {
  readonly workload: string
  /** The smallest store first. */
  readonly sizes: ReadonlyArray<{
    readonly events: number
    readonly operations: number
    readonly p50Ms: number
    readonly p99Ms: number
    /** The median of a turn over that of the smallest store in the same round; the median of all rounds. */
    readonly ratio: number
  }>
}

const bar = 1.25

export const isFlat = (ratio: number): boolean => ratio <= bar

const quantile = (values: ReadonlyArray<number>, q: number): number => {
  const ascending = values.toSorted((a, b) => a - b)
  return ascending[Math.min(ascending.length - 1, Math.floor(ascending.length * q))] ?? Number.NaN
}

interface Measured {
  readonly events: number
  readonly side: Side
  /** Latencies of each round. */
  readonly rounds: Array<ReadonlyArray<number>>
}

export const measure = async (
  workload: Workload,
  stores: ReadonlyArray<Filled>,
  { rounds, turnMs, warmUpMs }: Budget
): Promise<Figures> => {
  const sides: Array<Measured> = []
  for (const store of stores) {
    const operation = await workload.on(store)
    const side = effectSide("effect-stores", store.runtime, false, operation)
    await turn(side, 1, warmUpMs)
    sides.push({ events: store.seed.events, side, rounds: [] })
  }
  for (let round = 0; round < rounds; round++) {
    const start = round % sides.length
    const order = [...sides.slice(start), ...sides.slice(0, start)]
    if (round % 4 >= 2) order.reverse()
    for (const { rounds, side } of order) rounds.push((await turn(side, 1, turnMs)).latencies)
  }
  const medians = sides.map(({ rounds }) => rounds.map((latencies) => quantile(latencies, 0.5)))
  return {
    workload: workload.name,
    sizes: sides.map(({ events, rounds }, i) => ({
      events,
      operations: rounds.flat().length,
      p50Ms: quantile(rounds.flat(), 0.5),
      p99Ms: quantile(rounds.flat(), 0.99),
      ratio: quantile(
        (medians[i] ?? []).map((median, round) => median / (medians[0]?.[round] ?? Number.NaN)),
        0.5
      )
    }))
  }
}
