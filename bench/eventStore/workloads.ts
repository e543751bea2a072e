/**
 * What is measured of an EventStore, on any backend, beside raw drivers that do the same.
 */
import { randomUUID } from "node:crypto"
import { Chunk, DateTime, Effect, type ManagedRuntime, Stream } from "effect"
import { EventStore } from "effect-stores"
import { effectSide, promiseSide, type Side, type Workload } from "../harness.js"

/** What is to be reached beside a side, as a ratio; undefined where nothing was asked for. */
export interface Bars {
  readonly append?: (events: number, callers: number) => number | undefined
  readonly fold?: (events: number) => number | undefined
  readonly read?: (events: number) => number | undefined
  readonly feed?: number
}

/** What the library sets itself beside a driver with the best plain SQL, one append per statement. */
export const barsOfDriver = (appendAt128: number): Bars => ({
  append: (events, callers) => (events > 1 ? 1 : callers === 128 ? appendAt128 : 0.9),
  fold: (events) => (events >= 1_000 ? 0.9 : undefined),
  read: (events) => (events >= 1_000 ? 0.8 : undefined),
  feed: 0.9
})

/** A short read as a Stream may take so much longer than the same as a fold, which sets up no Stream. */
const streamOverFoldMicros = 40

/** Another way of doing the work: a driver without the library, or another library. */
export interface Raw {
  readonly name: string
  /** It reads what our side has written. */
  readonly sharesTables: boolean
  /** Appends to a stream that has `after` events; fails if it has not. */
  readonly append?: ((aggregateId: string, events: number, after: number) => Promise<unknown>) | undefined
  /** Reads a whole stream, payloads parsed; answers the number of events. */
  readonly read?: ((aggregateId: string) => Promise<number>) | undefined
  /** Reads this many events in the order of the store; answers the number of events. */
  readonly feed?: ((limit: number) => Promise<number>) | undefined
  /** How many events it has appended. */
  readonly stored?: (() => Promise<number>) | undefined
  readonly bars: Bars
}

export interface Options {
  /** See `effectSide`. */
  readonly takesTurns: boolean
  /** Empty the store before each workload. */
  readonly startsEmpty?: boolean
  /** Runs after a workload's events are there. */
  readonly afterSeed?: () => Promise<unknown>
}

export const tenantId = "bench"
export const domain = "order"
/** Of what another side appends to our tables. */
export const rawDomain = "raw-order"
export const type = "OrderPlaced"

/** About 300 bytes of JSON. */
export const data = (i: number) => ({
  i,
  customer: "c-1029384756",
  items: [{ sku: "A-1", n: 2 }],
  note: "x".repeat(220)
})

export const metadata = () => ({ correlationId: "b3c8-41a7", user: "u-17" })

/** As our side makes them: random ones would have the raw side pay for an index that is hit all over. */
export const newId = (): string => {
  const time = Date.now().toString(16).padStart(12, "0")
  return `${time.slice(0, 8)}-${time.slice(8)}-7${randomUUID().slice(15)}`
}

const feedLength = 20_000
const seedBatch = 1_000
const seededFromMs = Date.UTC(2025, 0, 1)

/** The workloads of an EventStore beside other sides, each with the numbers that make it up. */
export interface Workloads {
  readonly appendToNew: (events: number, callers: number) => Workload
  /** Each caller has a stream of its own, which it knows the version of. */
  readonly appendToExisting: (callers: number) => Workload
  readonly fold: (events: number) => Workload
  readonly read: (events: number) => Workload
  readonly feed: Workload
}

export const workloads = async (
  runtime: ManagedRuntime.ManagedRuntime<EventStore.EventStore, unknown>,
  raws: ReadonlyArray<Raw>,
  options: Options
): Promise<Workloads> => {
  const store = await runtime.runPromise(EventStore.EventStore)
  const stream = (aggregateId: string) => ({ tenantId, domain, aggregateId })
  const events = (n: number) => Array.from({ length: n }, (_, i) => ({ type, data: data(i), metadata: metadata() }))
  const run = <A, E>(effect: Effect.Effect<A, E>) => runtime.runPromise(effect)
  const empty = async () => {
    if (options.startsEmpty) await run(store.maintenance.reset)
  }

  const seeded = new Set<string>()
  const seed = async (aggregateId: string, length: number): Promise<void> => {
    if (seeded.has(aggregateId) && !options.startsEmpty) return
    seeded.add(aggregateId)
    for (let after = 0; after < length; after += seedBatch) {
      const n = Math.min(seedBatch, length - after)
      // A stream grows over time: no two of its events share their moment.
      const written = events(n).map((event, i) => ({
        ...event,
        createdAt: DateTime.unsafeMake(seededFromMs + after + i)
      }))
      await run(store.append(stream(aggregateId), written, { expected: after }))
      for (const raw of raws) if (!raw.sharesTables) await raw.append?.(aggregateId, n, after)
    }
  }

  const appending = raws.filter((raw) => raw.append !== undefined)
  const appendBars = (n: number, callers: number) => barsBy(appending, ({ append }) => append?.(n, callers))
  const countOurs = () => run(store.count({ domain }))
  const counted = (side: Side, stored: Side["stored"] = countOurs): Side => ({ ...side, stored })

  const appendToNew = (n: number, concurrency: number): Workload => ({
    name: `append of ${n} event${n === 1 ? "" : "s"} to a new stream`,
    concurrency,
    events: n,
    bars: appendBars(n, concurrency),
    prepare: empty,
    ours: counted(
      effectSide("effect-stores", runtime, options.takesTurns && concurrency > 1, () =>
        store.append(stream(randomUUID()), events(n), { expected: "noStream" })
      )
    ),
    raw: appending.map(({ append, name, stored }) =>
      counted(
        promiseSide(name, async () => append?.(randomUUID(), n, 0)),
        stored
      )
    )
  })

  const appendToExisting = (concurrency: number): Workload => {
    const streams = () => {
      const prefix = randomUUID()
      const versions = new Map<number, number>()
      return (caller: number) => {
        const after = versions.get(caller) ?? 0
        versions.set(caller, after + 1)
        return { aggregateId: `${prefix}/${caller}`, after }
      }
    }
    const next = streams()
    return {
      name: "append of 1 event at its exact version",
      concurrency,
      events: 1,
      bars: appendBars(1, concurrency),
      prepare: empty,
      ours: counted(
        effectSide("effect-stores", runtime, options.takesTurns && concurrency > 1, (caller) => {
          const { after, aggregateId } = next(caller)
          return store.append(stream(aggregateId), events(1), { expected: after })
        })
      ),
      raw: appending.map(({ append, name, stored }) => {
        const next = streams()
        const appending = promiseSide(name, async (caller) => {
          const { after, aggregateId } = next(caller)
          return append?.(aggregateId, 1, after)
        })
        return counted(appending, stored)
      })
    }
  }

  const readers = raws.filter((raw) => raw.read !== undefined)
  const reading = (how: string, length: number, bar: (bars: Bars) => number | undefined, ours: Side): Workload => {
    const id = readId(length)
    return {
      name: `read of ${length} events, ${how}`,
      concurrency: 1,
      events: length,
      bars: barsBy(readers, bar),
      prepare: async () => {
        await empty()
        await seed(id, length)
        await options.afterSeed?.()
      },
      ours,
      raw: readers.map(({ name, read }) => promiseSide(name, async () => expect(await read?.(id), length)))
    }
  }

  const folding = (length: number, name = "effect-stores"): Side =>
    effectSide(name, runtime, false, () =>
      Effect.map(
        store.fold(stream(readId(length)), 0, (count) => count + 1),
        (count) => expect(count, length)
      )
    )

  const fold = (length: number): Workload => reading("fold", length, (bars) => bars.fold?.(length), folding(length))

  const read = (length: number): Workload => {
    const streaming = effectSide("effect-stores", runtime, false, () =>
      Effect.map(Stream.runCollect(store.read(stream(readId(length)))), (chunk) => expect(Chunk.size(chunk), length))
    )
    const workload = reading("Stream.runCollect", length, (bars) => bars.read?.(length), streaming)
    return {
      ...workload,
      raw: [...workload.raw.slice(0, 1), folding(length, "fold")],
      over: length < 1_000 ? { side: "fold", micros: streamOverFoldMicros } : undefined
    }
  }

  const feed: Workload = {
    name: `feed of ${feedLength} events, runForEachChunk`,
    concurrency: 1,
    events: feedLength,
    bars: barsBy(raws, ({ feed }) => feed),
    prepare: async () => {
      await empty()
      for (let i = 0; i < feedLength / seedBatch; i++) await seed(`feed-${i}`, seedBatch)
      await options.afterSeed?.()
    },
    ours: effectSide("effect-stores", runtime, false, () => {
      let count = 0
      return Effect.map(
        Stream.runForEachChunk(store.feed({ limit: feedLength }), (chunk) =>
          Effect.sync(() => {
            count += Chunk.size(chunk)
          })
        ),
        () => expect(count, feedLength)
      )
    }),
    raw: raws
      .filter((raw) => raw.feed !== undefined)
      .map(({ feed, name }) => promiseSide(name, async () => expect(await feed?.(feedLength), feedLength)))
  }

  return { appendToNew, appendToExisting, fold, read, feed }
}

/** What is measured of a backend by itself. */
export const standard = (
  { appendToExisting, appendToNew, feed, fold, read }: Workloads,
  callers: ReadonlyArray<number>
): ReadonlyArray<Workload> => {
  const upTo = (most: number) => [...new Set([1, Math.min(most, Math.max(...callers))])]
  return [
    ...callers.map((each) => appendToNew(1, each)),
    ...upTo(32).map(appendToExisting),
    ...upTo(8).map((each) => appendToNew(100, each)),
    ...readLengths.map(fold),
    ...readLengths.map(read),
    feed
  ]
}

const readLengths = [10, 1_000, 10_000] as const

const readId = (length: number): string => `read-${length}`

const barsBy = (
  raws: ReadonlyArray<Raw>,
  barOf: (bars: Bars) => number | undefined
): Readonly<Record<string, number>> =>
  Object.fromEntries(
    raws.flatMap(({ bars, name }) => {
      const bar = barOf(bars)
      return bar === undefined ? [] : [[name, bar]]
    })
  )

/** A bench that measures something else than it says is worse than none. */
const expect = (actual: number | undefined, expected: number): void => {
  if (actual !== expected) throw new Error(`expected ${expected} events, got ${actual}`)
}
