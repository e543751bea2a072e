/**
 * Loads of streams of many lengths, taking turns: how long they take, and what a replay keeps in memory.
 */
import { setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"
import { Effect, Option } from "effect"
import { Aggregate, EventStore, SnapshotStore } from "effect-stores"
import { effectSide, type Side, turn } from "../harness.js"
import { Account, eventsAfter, idOf, observed, Replayed, Saving, streamOf } from "./account.js"
import type { Backend, Pair } from "./backends.js"

export interface Case {
  /** Events in the stream. */
  readonly length: number
  /** Data of each, as JSON. */
  readonly bytes: number
}

/** Of one side: where the snapshots are, or `null` for a replay without. */
export interface Figures extends Case {
  readonly events: string
  readonly snapshots: string | null
  readonly loads: number
  readonly p50Ms: number
  /** Not of fewer than 100 loads. */
  readonly p99Ms: number | null
}

export interface Budget {
  readonly rounds: number
  /** Of each side with a snapshot, in each round. */
  readonly turnMs: number
  /** Of each replay, in all rounds; at least three are made. */
  readonly replayMs: number
}

/** What stands between the snapshot and the end of the stream: the mean, with a snapshot every 100 events. */
export const sinceSnapshot = 50

const seedBatch = 5_000

/** Appends the events, with a snapshot left by a load in between, the same in all stores of snapshots. */
export const seed = async ({ pairs }: Backend, { bytes, length }: Case): Promise<void> => {
  const id = idOf(length, bytes)
  const stream = streamOf(id)
  const append = (from: number, to: number) =>
    Effect.gen(function* () {
      const store = yield* EventStore.EventStore
      for (let after = from; after < to; after += seedBatch) {
        const count = Math.min(seedBatch, to - after)
        yield* store.append(stream, eventsAfter(after, count, bytes), { expected: after })
      }
    })
  const saved = Effect.gen(function* () {
    const snapshots = yield* SnapshotStore.SnapshotStore
    yield* Aggregate.load(Saving, id)
    yield* snapshots.flush(stream)
    return Option.getOrThrow(yield* snapshots.latest(stream))
  })
  const [first, ...others] = pairs
  if (first === undefined) return
  await first.runtime.runPromise(append(0, length - sinceSnapshot))
  const { createdAt, lastEventMark, schemaVersion, state, version } = await first.runtime.runPromise(saved)
  for (const { runtime } of others) {
    await runtime.runPromise(
      Effect.flatMap(SnapshotStore.SnapshotStore, (snapshots) =>
        snapshots.save(stream, { createdAt, lastEventMark, schemaVersion, state, version })
      )
    )
  }
  await first.runtime.runPromise(append(length - sinceSnapshot, length))
}

interface Measured extends Case {
  readonly snapshots: string | null
  readonly side: Side
  readonly latencies: Array<number>
}

const loadOf = ({ runtime, snapshots }: Pair, { bytes, length }: Case, withSnapshot: boolean): Measured => {
  const id = idOf(length, bytes)
  const aggregate = withSnapshot ? Account : Replayed
  const snapshotVersion = withSnapshot ? length - sinceSnapshot : 0
  const check = (loaded: Aggregate.Loaded<unknown>): void => {
    // A bench that measures something else than it says is worse than none.
    if (loaded.version !== length || loaded.snapshotVersion !== snapshotVersion) {
      throw new Error(`expected ${length} events from ${snapshotVersion} on, got ${JSON.stringify(loaded)}`)
    }
  }
  return {
    bytes,
    length,
    snapshots: withSnapshot ? snapshots : null,
    side: effectSide("effect-stores", runtime, false, () => Effect.map(Aggregate.load(aggregate, id), check)),
    latencies: []
  }
}

/**
 * 1. Each side once or for a moment, which also says how many replays fit into the budget.
 * 2. In each round the loads with snapshots, in changing order, so that a machine whose speed drifts treats all lengths
 *    alike; then the replays whose turn it is.
 */
export const measure = async (
  { events, pairs }: Backend,
  cases: ReadonlyArray<Case>,
  { replayMs, rounds, turnMs }: Budget
): Promise<ReadonlyArray<Figures>> => {
  const loads = cases.flatMap((each) => pairs.map((pair) => loadOf(pair, each, true)))
  // Without snapshots the pairs of a backend do the same.
  const replays = cases.flatMap((each) => pairs.slice(0, 1).map((pair) => loadOf(pair, each, false)))
  for (const { side } of loads) await turn(side, 1, 5 * turnMs)
  const turnsOf = new Map<Measured, number>()
  for (const replay of replays) {
    const { elapsedMs } = await turn(replay.side, 1, turnMs)
    turnsOf.set(replay, Math.min(rounds, Math.max(3, Math.floor(replayMs / elapsedMs))))
  }
  const take = async ({ latencies, side }: Measured): Promise<void> => {
    latencies.push(...(await turn(side, 1, turnMs)).latencies)
  }
  for (let round = 0; round < rounds; round++) {
    const start = (round * 7) % loads.length
    const order = [...loads.slice(start), ...loads.slice(0, start)]
    if (round % 2 === 1) order.reverse()
    for (const load of order) await take(load)
    for (const replay of replays) {
      const turns = turnsOf.get(replay) ?? rounds
      const dueBy = (round: number) => Math.floor((round * turns) / rounds)
      if (dueBy(round + 1) > dueBy(round)) await take(replay)
    }
  }
  return [...loads, ...replays].map(({ bytes, latencies, length, snapshots }) => {
    const ascending = latencies.toSorted((a, b) => a - b)
    const quantile = (q: number) => ascending[Math.floor(ascending.length * q)] ?? Number.NaN
    return {
      events,
      snapshots,
      bytes,
      length,
      loads: ascending.length,
      p50Ms: quantile(0.5),
      p99Ms: ascending.length < 100 ? null : quantile(0.99)
    }
  })
}

const bytesPerMiB = 1024 * 1024

/** What is alive on the heap at each tenth of a replay, in MiB. */
export const memoryOfReplay = async ({ pairs }: Backend, { bytes, length }: Case): Promise<ReadonlyArray<number>> => {
  setFlagsFromString("--expose-gc")
  const collectGarbage: () => void = runInNewContext("gc")
  const samples: Array<number> = []
  let seen = 0
  const aggregate = observed(() => {
    if (++seen % (length / 10) !== 0) return
    collectGarbage()
    const { external, heapUsed } = process.memoryUsage()
    samples.push((heapUsed + external) / bytesPerMiB)
  })
  await pairs[0]?.runtime.runPromise(Aggregate.load(aggregate, idOf(length, bytes)))
  return samples
}
