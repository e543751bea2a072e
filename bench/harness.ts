/**
 * Measuring sides against each other: all sides of a workload run in short turns, in changing order, so that a machine
 * whose speed drifts treats them alike. Only ratios of one run mean something.
 */
import { Effect, type ManagedRuntime } from "effect"

/** One way of doing the workload. `caller` does it again and again until `end`, noting each latency; several run at a time. */
export interface Side {
  readonly name: string
  readonly caller: (end: number, latencies: Array<number>) => Promise<void>
}

/** A driver, called as its users call it: in an async loop. */
export const promiseSide = (name: string, run: () => Promise<unknown>): Side => ({
  name,
  caller: async (end, latencies) => {
    do {
      const before = performance.now()
      await run()
      latencies.push(performance.now() - before)
    } while (performance.now() < end)
  }
})

/** An Effect, called as its users call it: in a fiber, which is started once. */
export const effectSide = <R>(
  name: string,
  runtime: ManagedRuntime.ManagedRuntime<R, unknown>,
  operation: () => Effect.Effect<unknown, unknown, R>
): Side => ({
  name,
  caller: (end, latencies) => {
    let before = 0
    let first = true
    return runtime.runPromise(
      Effect.whileLoop({
        while: () => first || performance.now() < end,
        body: () => {
          first = false
          before = performance.now()
          return operation()
        },
        step: () => {
          latencies.push(performance.now() - before)
        }
      })
    )
  }
})

export interface Workload {
  readonly name: string
  readonly concurrency: number
  /** How many events one run writes or reads. */
  readonly events: number
  /** The first is ours, the others are what it is held against. */
  readonly sides: ReadonlyArray<Side>
  /** Ratio to the side named that we want to reach. */
  readonly bars: Readonly<Record<string, number>>
}

export interface Figures {
  readonly side: string
  readonly operations: number
  readonly operationsPerSecond: number
  readonly p50Ms: number
  readonly p99Ms: number
}

export interface Result {
  readonly workload: string
  readonly concurrency: number
  readonly events: number
  readonly figures: ReadonlyArray<Figures>
  /** Our operations per second divided by the side's: 1 is as fast, more is faster. Median over rounds. */
  readonly ratios: Readonly<Record<string, number>>
  readonly bars: Readonly<Record<string, number>>
}

export interface Budget {
  readonly rounds: number
  readonly turnMs: number
}

interface Turn {
  readonly latencies: Array<number>
  readonly elapsedMs: number
}

const turn = async ({ caller }: Side, concurrency: number, budgetMs: number): Promise<Turn> => {
  const latencies: Array<number> = []
  const startedAt = performance.now()
  await Promise.all(Array.from({ length: concurrency }, () => caller(startedAt + budgetMs, latencies)))
  return { latencies, elapsedMs: performance.now() - startedAt }
}

const quantile = (sorted: ReadonlyArray<number>, q: number): number =>
  sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * q))] ?? Number.NaN

const median = (values: ReadonlyArray<number>): number =>
  quantile(
    values.toSorted((a, b) => a - b),
    0.5
  )

export const measure = async (workload: Workload, budget: Budget): Promise<Result> => {
  const { concurrency, sides } = workload
  // Warm-up: compiled code, prepared statements, open connections.
  for (const side of sides) await turn(side, concurrency, budget.turnMs)
  const turns = new Map<Side, Array<Turn>>(sides.map((side) => [side, []]))
  for (let round = 0; round < budget.rounds; round++) {
    const start = round % sides.length
    const order = [...sides.slice(start), ...sides.slice(0, start)]
    if (round % 2 === 1) order.reverse()
    for (const side of order) turns.get(side)?.push(await turn(side, concurrency, budget.turnMs))
  }
  const rate = ({ elapsedMs, latencies }: Turn) => (latencies.length / elapsedMs) * 1000
  const ratesOf = (side: Side) => (turns.get(side) ?? []).map(rate)
  const [ours, ...others] = sides as [Side, ...Array<Side>]
  return {
    workload: workload.name,
    concurrency,
    events: workload.events,
    figures: sides.map((side) => {
      const latencies = (turns.get(side) ?? []).flatMap((each) => each.latencies).sort((a, b) => a - b)
      return {
        side: side.name,
        operations: latencies.length,
        operationsPerSecond: median(ratesOf(side)),
        p50Ms: quantile(latencies, 0.5),
        p99Ms: quantile(latencies, 0.99)
      }
    }),
    ratios: Object.fromEntries(
      others.map((other) => {
        const theirs = ratesOf(other)
        return [other.name, median(ratesOf(ours).map((rate, round) => rate / (theirs[round] ?? Number.NaN)))]
      })
    ),
    bars: workload.bars
  }
}
