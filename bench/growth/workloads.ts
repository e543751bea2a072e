/**
 * What is measured on stores of every size. Reads come first, since appends let the small stores grow.
 */
import { randomUUID } from "node:crypto"
import { Effect, Schema } from "effect"
import { Aggregate, EventStore, SnapshotPolicy, SnapshotStore } from "effect-stores"
import { commonType, idOf, type Seed, streamOf } from "../seed.js"
import type { Filled } from "./backends.js"
import type { Workload } from "./measure.js"

const eventsPerStream = 10
const bytes = 200

export const seedOf = (events: number): Seed => ({ events, streams: events / eventsPerStream, bytes })

const data = { text: "x".repeat(bytes - 11) }
const event = { type: commonType, data }
const hundred = Array.from({ length: 100 }, () => event)

/** Numbers from 0 to below `n`, the same in each run (mulberry32). */
const random = (seed: number) => {
  let state = seed
  return (n: number): number => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return Math.floor((((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296) * n)
  }
}

/** Of fifty streams that follow each other in the seed, the first ten have the domain of the aggregate. */
const domain = "domain0"
const cycle = 50
const ofAggregate = 10

/** A stream of another domain: what is appended there changes no aggregate. */
const otherStream = ({ streams }: Seed, below: (n: number) => number): number => {
  const stream = below(streams)
  return stream % cycle < ofAggregate ? stream + ofAggregate : stream
}

const types = [commonType, ...Array.from({ length: 9 }, (_, i) => `Type${i + 1}`)]

const definition = {
  domain,
  state: Schema.Struct({ entries: Schema.Number }),
  event: Schema.Union(...types.map((type) => Schema.TaggedStruct(type, { text: Schema.String }))),
  initial: { entries: 0 },
  evolve: ({ entries }: { readonly entries: number }) => ({ entries: entries + 1 }),
  // A load that does without its snapshot is another workload.
  snapshotTimeout: "1 minute" as const
}
const Saving = Aggregate.make({ ...definition, snapshots: SnapshotPolicy.every(1) })
const Loaded = Aggregate.make({ ...definition, snapshots: SnapshotPolicy.every(1_000) })

/** Streams of the aggregate that have snapshots, all over the store. */
const withSnapshots = 1_000
const sinceSnapshot = 2

const withStore = (
  name: string,
  operation: (store: EventStore.EventStoreShape, seed: Seed) => () => Effect.Effect<unknown, unknown>
): Workload => ({
  name,
  on: async ({ runtime, seed }: Filled) => operation(await runtime.runPromise(EventStore.EventStore), seed)
})

const expect = (actual: number, expected: number): void => {
  if (actual !== expected) throw new Error(`expected ${expected}, got ${actual}`)
}

const load: Workload = {
  name: `load by snapshot, ${sinceSnapshot} events since`,
  on: async ({ runtime, seed }) => {
    const all = (seed.streams / cycle) * ofAggregate
    const count = Math.min(withSnapshots, all)
    const streams = Array.from({ length: count }, (_, i) => {
      const nth = Math.floor((i * all) / count)
      return streamOf(seed, Math.floor(nth / ofAggregate) * cycle + (nth % ofAggregate))
    })
    await runtime.runPromise(
      Effect.forEach(
        streams,
        ({ id, version }) =>
          Effect.gen(function* () {
            yield* Aggregate.load(Saving, id)
            yield* (yield* SnapshotStore.SnapshotStore).flush(id)
            const since = Array.from({ length: sinceSnapshot }, () => event)
            yield* (yield* EventStore.EventStore).append(id, since, { expected: version })
          }),
        { concurrency: 4, discard: true }
      )
    )
    const below = random(seed.events)
    return () => {
      const { id, version } = streams[below(count)] as ReturnType<typeof streamOf>
      return Effect.map(Aggregate.load(Loaded, id), (loaded) => {
        expect(loaded.snapshotVersion, version)
        expect(loaded.version, version + sinceSnapshot)
      })
    }
  }
}

export const workloads: ReadonlyArray<Workload> = [
  withStore(`fold of ${eventsPerStream} events`, (store, seed) => {
    const below = random(seed.events + 1)
    return () => {
      const { id } = streamOf(seed, below(seed.streams))
      return Effect.map(
        store.fold(id, 0, (count) => count + 1, { toVersion: eventsPerStream }),
        (count) => expect(count, eventsPerStream)
      )
    }
  }),

  withStore("page of 100 events at the head", (store) => {
    const options = { direction: "backward", limit: 100 } as const
    return () => Effect.map(store.page(options), ({ events }) => expect(events.length, 100))
  }),

  load,

  withStore("repeat of an append", (store, seed) => {
    const below = random(seed.events + 2)
    const events = (position: number) => {
      // Of the seed's rare types none is repeated.
      const common = position % 10 === 0 ? position - 1 : position
      const at = (common - 1) % seed.streams
      return { stream: streamOf(seed, at).id, position: common, before: Math.floor((common - 1) / seed.streams) }
    }
    return () => {
      const { before, position, stream } = events(below(seed.events) + 1)
      return Effect.map(store.append(stream, [{ ...event, id: idOf(position) }], { expected: before }), (appended) =>
        expect(appended.position, position)
      )
    }
  }),

  withStore("append of 1 at its exact version", (store, seed) => {
    const below = random(seed.events + 3)
    const appended = new Map<number, number>()
    return () => {
      const stream = otherStream(seed, below)
      const { id, version } = streamOf(seed, stream)
      const before = appended.get(stream) ?? 0
      appended.set(stream, before + 1)
      return store.append(id, [event], { expected: version + before })
    }
  }),

  withStore("append of 1 to a new stream", (store, seed) => {
    const below = random(seed.events + 4)
    return () => {
      const { id } = streamOf(seed, below(seed.streams))
      return store.append({ ...id, aggregateId: randomUUID() }, [event], { expected: "noStream" })
    }
  }),

  withStore("append of 100 to a new stream", (store, seed) => {
    const below = random(seed.events + 5)
    return () => {
      const { id } = streamOf(seed, below(seed.streams))
      return store.append({ ...id, aggregateId: randomUUID() }, hundred, { expected: "noStream" })
    }
  })
]
