/**
 * What is measured of an EventStore, on any backend, beside raw drivers that do the same.
 */
import { randomUUID } from "node:crypto"
import { Chunk, Effect, type ManagedRuntime, Stream } from "effect"
import { EventStore } from "effect-stores"
import { effectSide, promiseSide, type Workload } from "../harness.js"

/** A driver without the library, doing the same work. */
export interface Raw {
  readonly name: string
  /** Appends to a new stream. */
  readonly append: (aggregateId: string, events: number) => Promise<unknown>
  /** Reads a whole stream, payloads parsed; answers the number of events. */
  readonly read?: ((aggregateId: string) => Promise<number>) | undefined
  /** Reads this many events in the order of the store; answers the number of events. */
  readonly feed?: ((limit: number) => Promise<number>) | undefined
  readonly bars: { readonly append?: number; readonly read?: number; readonly readOf?: number }
}

export const tenantId = "bench"
export const domain = "order"

/** About 300 bytes of JSON. */
export const data = (i: number) => ({
  i,
  customer: "c-1029384756",
  items: [{ sku: "A-1", n: 2 }],
  note: "x".repeat(220)
})

export const readLengths = [10, 1_000, 10_000] as const
const feedLength = 20_000

export const workloads = async (
  runtime: ManagedRuntime.ManagedRuntime<EventStore.EventStore, unknown>,
  raws: ReadonlyArray<Raw>
): Promise<ReadonlyArray<Workload>> => {
  const store = await runtime.runPromise(EventStore.EventStore)
  const stream = (aggregateId: string) => ({ tenantId, domain, aggregateId })
  const events = (n: number) => Array.from({ length: n }, (_, i) => ({ type: "OrderPlaced", data: data(i) }))
  const run = <A, E>(effect: Effect.Effect<A, E>) => runtime.runPromise(effect)

  const appends = [
    [1, 1],
    [1, 8],
    [1, 32],
    [1, 128],
    [100, 1],
    [100, 8]
  ] as const

  const appending = appends.map(
    ([n, concurrency]): Workload => ({
      name: `append of ${n} event${n === 1 ? "" : "s"} to a new stream`,
      concurrency,
      events: n,
      bars: Object.fromEntries(
        raws.flatMap(({ bars, name }) => (bars.append === undefined ? [] : [[name, bars.append]]))
      ),
      sides: [
        effectSide("effect-stores", runtime, () =>
          store.append(stream(randomUUID()), events(n), { expected: "noStream" })
        ),
        ...raws.map(({ append, name }) => promiseSide(name, () => append(randomUUID(), n)))
      ]
    })
  )

  const readable = raws.filter((raw) => raw.read !== undefined)
  const reading: Array<Workload> = []
  for (const length of readLengths) {
    const id = `read-${length}`
    for (let written = 0; written < length; written += 1_000) {
      const n = Math.min(1_000, length - written)
      await run(store.append(stream(id), events(n), { expected: written }))
    }
    for (const { append, name } of readable) if (!name.startsWith("same SQL")) await append(id, length)
    reading.push({
      name: `read of a stream of ${length} events`,
      concurrency: 1,
      events: length,
      bars: Object.fromEntries(
        readable.flatMap(({ bars, name }) =>
          bars.read === undefined || (bars.readOf !== undefined && bars.readOf !== length) ? [] : [[name, bars.read]]
        )
      ),
      sides: [
        effectSide("effect-stores, fold", runtime, () =>
          Effect.map(
            store.fold(stream(id), 0, (count) => count + 1),
            (count) => expect(count, length)
          )
        ),
        ...readable.map(({ name, read }) => promiseSide(name, async () => expect(await read?.(id), length))),
        effectSide("effect-stores, as a Stream", runtime, () =>
          Effect.map(Stream.runCollect(store.read(stream(id))), (chunk) => expect(Chunk.size(chunk), length))
        )
      ]
    })
  }

  const feedable = raws.filter((raw) => raw.feed !== undefined)
  const feed: Workload = {
    name: `feed of ${feedLength} events`,
    concurrency: 1,
    events: feedLength,
    bars: {},
    sides: [
      effectSide("effect-stores", runtime, () => {
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
      ...feedable.map(({ feed, name }) => promiseSide(name, async () => expect(await feed?.(feedLength), feedLength)))
    ]
  }
  for (let i = 0; i < feedLength / 1_000; i++) {
    await run(store.append(stream(`feed-${i}`), events(1_000), { expected: "noStream" }))
  }
  return [...appending, ...reading, feed]
}

/** A bench that measures something else than it says is worse than none. */
const expect = (actual: number | undefined, expected: number): void => {
  if (actual !== expected) throw new Error(`expected ${expected} events, got ${actual}`)
}
