/**
 * What is measured of an EventStore, on any backend, beside raw drivers that do the same.
 */
import { randomUUID } from "node:crypto"
import { Chunk, DateTime, Effect, type ManagedRuntime, Stream } from "effect"
import { EventStore } from "effect-stores"
import { effectSide, promiseSide, type Side, type Workload } from "../harness.js"

/** A backend with its workloads, ready to be measured. */
export interface Opened {
  /** Versions and settings that the figures depend on. */
  readonly facts: Readonly<Record<string, string>>
  readonly workloads: ReadonlyArray<Workload>
  readonly close: () => Promise<void>
}

/** A driver without the library, doing the same work. */
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
  readonly bars: { readonly append?: number; readonly read?: number; readonly readOf?: number }
}

export interface Options {
  /** See `effectSide`. */
  readonly takesTurns: boolean
  /** How many callers append one event at a time. */
  readonly callers: ReadonlyArray<number>
  /** Empty the store before each workload. */
  readonly startsEmpty?: boolean
  /** Appends by one caller only: all that the setting under test changes. */
  readonly appendsOnly?: boolean
  /** Runs after a workload's events are there. */
  readonly afterSeed?: () => Promise<unknown>
}

export const tenantId = "bench"
export const domain = "order"
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

const readLengths = [10, 1_000, 10_000] as const
const feedLength = 20_000
const seedBatch = 1_000
const seededFromMs = Date.UTC(2025, 0, 1)

export const workloads = async (
  runtime: ManagedRuntime.ManagedRuntime<EventStore.EventStore, unknown>,
  raws: ReadonlyArray<Raw>,
  options: Options
): Promise<ReadonlyArray<Workload>> => {
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
  const appendBars = Object.fromEntries(
    appending.flatMap(({ bars, name }) => (bars.append === undefined ? [] : [[name, bars.append]]))
  )

  const appendToNew = (n: number, concurrency: number): Workload => ({
    name: `append of ${n} event${n === 1 ? "" : "s"} to a new stream`,
    concurrency,
    events: n,
    bars: appendBars,
    prepare: empty,
    ours: effectSide("effect-stores", runtime, options.takesTurns && concurrency > 1, () =>
      store.append(stream(randomUUID()), events(n), { expected: "noStream" })
    ),
    raw: appending.map(({ append, name }) => promiseSide(name, async () => append?.(randomUUID(), n, 0)))
  })

  /** Each caller has a stream of its own, which it knows the version of. */
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
      bars: appendBars,
      prepare: empty,
      ours: effectSide("effect-stores", runtime, options.takesTurns && concurrency > 1, (caller) => {
        const { after, aggregateId } = next(caller)
        return store.append(stream(aggregateId), events(1), { expected: after })
      }),
      raw: appending.map(({ append, name }) => {
        const next = streams()
        return promiseSide(name, async (caller) => {
          const { after, aggregateId } = next(caller)
          return append?.(aggregateId, 1, after)
        })
      })
    }
  }

  const readers = raws.filter((raw) => raw.read !== undefined)
  const reading = (
    how: string,
    length: number,
    readers: ReadonlyArray<Raw>,
    ours: (aggregateId: string) => Side
  ): Workload => {
    const id = `read-${length}`
    return {
      name: `read of ${length} events, ${how}`,
      concurrency: 1,
      events: length,
      bars: Object.fromEntries(
        readers.flatMap(({ bars, name }) =>
          bars.read === undefined || (bars.readOf !== undefined && bars.readOf !== length) ? [] : [[name, bars.read]]
        )
      ),
      prepare: async () => {
        await empty()
        await seed(id, length)
        await options.afterSeed?.()
      },
      ours: ours(id),
      raw: readers.map(({ name, read }) => promiseSide(name, async () => expect(await read?.(id), length)))
    }
  }

  const folded = (length: number): Workload =>
    reading("fold", length, readers, (id) =>
      effectSide("effect-stores", runtime, false, () =>
        Effect.map(
          store.fold(stream(id), 0, (count) => count + 1),
          (count) => expect(count, length)
        )
      )
    )

  const streamed = (length: number): Workload =>
    reading("Stream.runCollect", length, readers.slice(0, 1), (id) =>
      effectSide("effect-stores", runtime, false, () =>
        Effect.map(Stream.runCollect(store.read(stream(id))), (chunk) => expect(Chunk.size(chunk), length))
      )
    )

  const feed: Workload = {
    name: `feed of ${feedLength} events, runForEachChunk`,
    concurrency: 1,
    events: feedLength,
    bars: {},
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

  if (options.appendsOnly) return [appendToNew(1, 1), appendToExisting(1), appendToNew(100, 1)]
  const most = Math.max(...options.callers)
  return [
    ...options.callers.map((concurrency) => appendToNew(1, concurrency)),
    ...[...new Set([1, Math.min(32, most)])].map(appendToExisting),
    ...[...new Set([1, Math.min(8, most)])].map((concurrency) => appendToNew(100, concurrency)),
    ...readLengths.map(folded),
    ...readLengths.map(streamed),
    feed
  ]
}

/** A bench that measures something else than it says is worse than none. */
const expect = (actual: number | undefined, expected: number): void => {
  if (actual !== expected) throw new Error(`expected ${expected} events, got ${actual}`)
}
