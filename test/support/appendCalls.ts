/**
 * Calls that append to few streams with few ids, so that they conflict, repeat and clash: made one after the other in
 * memory, and together on the backend under test, they are told the same and leave the same.
 */
import { Chunk, Effect, Exit, Fiber, FastCheck as fc, Stream } from "effect"
import { EventStore } from "effect-stores"
import { EventStoreMemory } from "effect-stores/memory"

interface Part {
  readonly stream: string
  readonly expected: EventStore.ExpectedVersion
}

interface Call {
  readonly appends: ReadonlyArray<Part & { readonly events: ReadonlyArray<{ readonly id?: number; total: number }> }>
  readonly guards: ReadonlyArray<Part>
  /** Its caller is interrupted while it waits. */
  readonly interrupted: boolean
}

const expected = (...versions: ReadonlyArray<number>) =>
  fc.constantFrom<EventStore.ExpectedVersion>("any", "noStream", "streamExists", ...versions)

const one = fc.record({
  stream: fc.constantFrom("a", "b", "c"),
  events: fc.array(fc.record({ id: fc.nat(5), total: fc.nat(1) }, { requiredKeys: ["total"] }), {
    minLength: 1,
    maxLength: 3
  }),
  expected: expected(1, 2, 3)
})

export const calls: fc.Arbitrary<ReadonlyArray<Call>> = fc.array(
  fc.record({
    appends: fc.uniqueArray(one, { minLength: 1, maxLength: 2, selector: ({ stream }) => stream }),
    guards: fc.array(fc.record({ stream: fc.constantFrom("c", "d"), expected: expected(1, 2) }), { maxLength: 1 }),
    interrupted: fc.nat(9).map((n) => n === 0)
  }),
  { minLength: 2, maxLength: 12 }
)

/** The calls with ids and streams of their own, to be made on any store. */
export const inDomain = (calls: ReadonlyArray<Call>, domain: string) => {
  const ids = Array.from({ length: 6 }, () => crypto.randomUUID())
  const streamOf = (aggregateId: string) => ({ tenantId: "tenant", domain, aggregateId })
  const made = calls.map(({ appends, guards }) => ({
    appends: appends.map(({ events, expected, stream }) => ({
      stream: streamOf(stream),
      expected,
      events: events.map(({ id, total }) => ({
        type: "Placed",
        data: { total },
        id: id === undefined ? crypto.randomUUID() : (ids[id] as string)
      }))
    })),
    guards: guards.map(({ expected, stream }) => ({ stream: streamOf(stream), expected }))
  }))
  return (store: EventStore.EventStoreShape) =>
    made.map(({ appends, guards }): Effect.Effect<unknown, unknown> => {
      const [first] = appends
      return first !== undefined && appends.length === 1 && guards.length === 0
        ? store.append(first.stream, first.events, { expected: first.expected })
        : store.appendAll(appends, { guards })
    })
}

/** The last first: when an earlier one leaves, those behind it may be sent, and then are stored all the same. */
export const interrupt = (calls: ReadonlyArray<Call>, fibers: ReadonlyArray<Fiber.RuntimeFiber<unknown, unknown>>) =>
  Effect.forEach(fibers.filter((_, i) => calls[i]?.interrupted).reverse(), Fiber.interrupt)

/**
 * What a call was told; positions count from the one before the calls. Of a clash only that it is one: the id and the
 * reason that it names are found when its transaction has ended, and then events of its neighbours may be there too.
 */
export const told = (exit: Exit.Exit<unknown, unknown>, before: number): unknown => {
  const since = (value: unknown): unknown => {
    if (Array.isArray(value)) return value.map(since)
    const { position, version } = value as EventStore.Appended
    return { version, position: position - before }
  }
  return Exit.match(exit, {
    onFailure: (cause) => {
      const { error, ...rest } = JSON.parse(JSON.stringify(cause))
      return { ...rest, error: error?._tag === "DuplicateEvent" ? error._tag : error }
    },
    onSuccess: since
  })
}

export const contents = (store: EventStore.EventStoreShape, domain: string, before: number) =>
  Effect.map(Stream.runCollect(store.feed({ filter: { domain } })), (events) =>
    Chunk.toReadonlyArray(events).map(({ aggregateId, data, id, position, version }) => ({
      aggregateId,
      data,
      id,
      position: position - before,
      version
    }))
  )

/** One after the other, without those that are interrupted. */
export const oneByOne = (
  calls: ReadonlyArray<Call>,
  make: (store: EventStore.EventStoreShape) => ReadonlyArray<Effect.Effect<unknown, unknown>>,
  domain: string
) =>
  Effect.gen(function* () {
    const store = yield* EventStore.EventStore
    const exits: Array<unknown> = []
    for (const [i, call] of make(store).entries()) {
      exits.push(calls[i]?.interrupted ? "interrupted" : told(yield* Effect.exit(call), 0))
    }
    return { exits, contents: yield* contents(store, domain, 0) }
  }).pipe(Effect.provide(EventStoreMemory.layer()))
