/**
 * Measuring sides against each other: all sides of a workload run in short turns, in changing order, so that a machine
 * whose speed drifts treats them alike. Only ratios of one run mean something.
 */
import { Effect, type ManagedRuntime } from "effect"

/** One way of doing the workload. `run` does it again and again until `end`, noting each latency; several run at a time. */
export interface Side {
  readonly name: string
  readonly run: (caller: number, end: number, latencies: Array<number>) => Promise<void>
  /** How many events are stored, of a side that writes: `measure` compares it with what the side says it has written. */
  readonly stored?: (() => Promise<number>) | undefined
}

/** A driver, called as its users call it: in an async loop, which lets the other callers have their turn. */
export const promiseSide = (name: string, operation: (caller: number) => Promise<unknown>): Side => ({
  name,
  run: async (caller, end, latencies) => {
    do {
      const before = performance.now()
      await operation(caller)
      latencies.push(performance.now() - before)
    } while (performance.now() < end)
  }
})

/**
 * An Effect, called as its users call it: in a fiber, which is started once. `takesTurns` is for backends that finish
 * without ever waiting: one fiber would do all the work, and the others none, until it has had its 2,048 steps.
 */
export const effectSide = <R>(
  name: string,
  runtime: ManagedRuntime.ManagedRuntime<R, unknown>,
  takesTurns: boolean,
  operation: (caller: number) => Effect.Effect<unknown, unknown, R>
): Side => ({
  name,
  run: (caller, end, latencies) => {
    let before = 0
    let first = true
    const next = (): Effect.Effect<unknown, unknown, R> => {
      first = false
      before = performance.now()
      return operation(caller)
    }
    return runtime.runPromise(
      Effect.whileLoop({
        while: () => first || performance.now() < end,
        body: takesTurns ? () => Effect.zipLeft(next(), Effect.yieldNow()) : next,
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
  /** What must be there before the first run. */
  readonly prepare: () => Promise<void>
  readonly ours: Side
  /** What it is held against. */
  readonly raw: ReadonlyArray<Side>
  /** Ratio to the raw side named that we want to reach. */
  readonly bars: Readonly<Record<string, number>>
  /** Events per second that we want to reach on any machine that the bench is run on. */
  readonly least?: number | undefined
  /** How much longer than the raw side named one operation of ours may take, at the median. */
  readonly over?: { readonly side: string; readonly micros: number } | undefined
}

export interface Figures {
  readonly side: string
  readonly operations: number
  /** Median over rounds. */
  readonly operationsPerSecond: number
  readonly p50Ms: number
  readonly p95Ms: number
  readonly p99Ms: number
  readonly p999Ms: number
}

/** Our operations per second divided by the raw side's in the same round: 1 is as fast, more is faster. */
export interface Ratio {
  readonly median: number
  readonly quartiles: readonly [number, number]
  readonly bar: number | null
}

export interface Result {
  readonly workload: string
  readonly concurrency: number
  readonly events: number
  readonly least: number | null
  /** By how much our median is over that of a raw side. */
  readonly over: { readonly side: string; readonly micros: number; readonly bar: number } | null
  readonly ours: Figures
  readonly raw: ReadonlyArray<Figures & { readonly ratio: Ratio }>
}

export interface Budget {
  readonly rounds: number
  readonly turnMs: number
  /** Of each side, before the first round: compiled code, prepared statements, open connections. */
  readonly warmUpMs: number
}

/** For a look, as a part of `npm run bench`, and for figures that are to be believed. */
export const budgets = {
  quick: { rounds: 3, turnMs: 70, warmUpMs: 200 },
  brief: { rounds: 7, turnMs: 100, warmUpMs: 250 },
  thorough: { rounds: 13, turnMs: 140, warmUpMs: 350 }
} as const satisfies Readonly<Record<string, Budget>>

export const budgetOf = (options: { readonly quick: boolean; readonly brief: boolean }): Budget =>
  options.quick ? budgets.quick : options.brief ? budgets.brief : budgets.thorough

interface Turn {
  readonly latencies: Array<number>
  readonly elapsedMs: number
}

// Garbage is not collected by force in between: that also throws away compiled code of the sides that wait for their
// turn, and the side with the most code, ours, then looks twice as slow as it is.
export const turn = async ({ run }: Side, concurrency: number, budgetMs: number): Promise<Turn> => {
  const latencies: Array<number> = []
  const startedAt = performance.now()
  await Promise.all(Array.from({ length: concurrency }, (_, caller) => run(caller, startedAt + budgetMs, latencies)))
  return { latencies, elapsedMs: performance.now() - startedAt }
}

export const ascending = (values: ReadonlyArray<number>) => values.toSorted((a, b) => a - b)

export const quantile = (sorted: ReadonlyArray<number>, q: number): number =>
  sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * q))] ?? Number.NaN

export const percentilesOf = (sorted: ReadonlyArray<number>) => ({
  p50Ms: quantile(sorted, 0.5),
  p95Ms: quantile(sorted, 0.95),
  p99Ms: quantile(sorted, 0.99),
  p999Ms: quantile(sorted, 0.999)
})

const rate = ({ elapsedMs, latencies }: Turn) => (latencies.length / elapsedMs) * 1000

const overOf = ({ over }: Workload, ours: Figures, raw: ReadonlyArray<Figures>): Result["over"] => {
  const theirs = raw.find(({ side }) => side === over?.side)
  if (over === undefined || theirs === undefined) return null
  return { side: over.side, micros: (ours.p50Ms - theirs.p50Ms) * 1_000, bar: over.micros }
}

export const measure = async (workload: Workload, budget: Budget): Promise<Result> => {
  const { bars, concurrency, ours, raw } = workload
  await workload.prepare()
  const sides = [ours, ...raw]
  const storedBefore = new Map<Side, number | undefined>()
  for (const side of sides) storedBefore.set(side, await side.stored?.())
  const warmUps = new Map<Side, Turn>()
  for (const side of sides) warmUps.set(side, await turn(side, concurrency, budget.warmUpMs))
  const turns = new Map<Side, Array<Turn>>(sides.map((side) => [side, []]))
  for (let round = 0; round < budget.rounds; round++) {
    const start = round % sides.length
    const order = [...sides.slice(start), ...sides.slice(0, start)]
    if (round % 4 >= 2) order.reverse()
    for (const side of order) turns.get(side)?.push(await turn(side, concurrency, budget.turnMs))
  }
  const turnsOf = (side: Side) => turns.get(side) ?? []
  for (const side of sides) {
    const operations = [warmUps.get(side), ...turnsOf(side)].reduce(
      (sum, each) => sum + (each?.latencies.length ?? 0),
      0
    )
    const stored = await side.stored?.()
    if (stored === undefined) continue
    const [written, claimed] = [stored - (storedBefore.get(side) ?? 0), operations * workload.events]
    if (written !== claimed) throw new Error(`${workload.name}: ${side.name} stored ${written} events of ${claimed}`)
  }
  const figuresOf = (side: Side): Figures => {
    const latencies = ascending(turnsOf(side).flatMap((each) => each.latencies))
    return {
      side: side.name,
      operations: latencies.length,
      operationsPerSecond: quantile(ascending(turnsOf(side).map(rate)), 0.5),
      ...percentilesOf(latencies)
    }
  }
  const ratioTo = (side: Side): Ratio => {
    const theirs = turnsOf(side).map(rate)
    const ratios = ascending(turnsOf(ours).map((turn, round) => rate(turn) / (theirs[round] ?? Number.NaN)))
    return {
      median: quantile(ratios, 0.5),
      quartiles: [quantile(ratios, 0.25), quantile(ratios, 0.75)],
      bar: bars[side.name] ?? null
    }
  }
  const ourFigures = figuresOf(ours)
  const figures = raw.map((side) => ({ ...figuresOf(side), ratio: ratioTo(side) }))
  return {
    workload: workload.name,
    concurrency,
    events: workload.events,
    least: workload.least ?? null,
    over: overOf(workload, ourFigures, figures),
    ours: ourFigures,
    raw: figures
  }
}
