/**
 * Stores whose records are of subjects, for the tests of forgetting: two customers in each store, and what nobody's is.
 */
import { Chunk, Clock, Effect, Exit, Layer, Option, Stream } from "effect"
import { CryptoService, type SubjectKeysEncoded, Subjects, Uuid } from "effect-stores"
import { allStores, bucket, idOf, mark, ring, type Stores, tenantId, type World } from "./worlds.js"

export type Keys = Layer.Layer<Subjects.SubjectKeys, unknown>
export type Ledger = Layer.Layer<Subjects.ShredLedger, unknown>

/** The stores, the keys of subjects and the ledger of one application: its processes share them. */
export interface Place {
  readonly stores: World
  readonly keys: Keys
  readonly ledger: Ledger
}

export type Services = Stores | CryptoService.CryptoService | Subjects.ShredLedger | Subjects.SubjectKeys

export const customer = (id: string): Subjects.Subject => ({ tenantId, id })

/** Aggregates by their domain, everything else by what it says itself or is called. */
export const rules: Subjects.Options = {
  domains: ["Customer"],
  events: ({ metadata }) => metadata.customer as string | undefined,
  commands: ({ data }) => (data as { readonly customer?: string }).customer,
  cache: ({ key }) => /^customer:(.+)$/.exec(key)?.[1],
  objects: ({ metadata }) => (metadata.customer === undefined ? undefined : customer(metadata.customer))
}

/** A process of the application: `ringKeys` are the keys that it has, the first seals. */
export const processOf = (
  { keys, ledger, stores }: Place,
  options: Subjects.Options = rules,
  ringKeys: readonly [string, ...Array<string>] = ["k1"],
  policy: CryptoService.PolicyOptions = {}
): Layer.Layer<Services, unknown> =>
  stores.pipe(
    CryptoService.seal,
    Layer.provideMerge(ring(ringKeys, policy).pipe(Subjects.withRules(options))),
    Layer.provideMerge(Layer.merge(keys, ledger))
  )

export const sharedKeys = (port: SubjectKeysEncoded.Encoded): Keys => Layer.succeed(Subjects.SubjectKeys, port)

/** The same application where a process does something else with the store of keys. */
export const withKeys = (
  place: Place,
  change: (port: SubjectKeysEncoded.Encoded) => SubjectKeysEncoded.Encoded
): Place => ({
  ...place,
  keys: Layer.provide(Layer.effect(Subjects.SubjectKeys, Effect.map(Subjects.SubjectKeys, change)), place.keys)
})

/** Runs a program in a process that ends with it. */
export const run = <A, E, R>(process: Layer.Layer<R, unknown>, program: Effect.Effect<A, E, R>): Promise<A> =>
  Effect.runPromise(Effect.provide(program, process))

/** A clock that stands still until it is put forward. Sleeps are real. */
export const movableClock = () => {
  const real = Clock.make()
  let nowMs = real.unsafeCurrentTimeMillis()
  const millis = () => nowMs
  const nanos = () => BigInt(nowMs) * 1_000_000n
  const clock: Clock.Clock = {
    ...real,
    unsafeCurrentTimeMillis: millis,
    unsafeCurrentTimeNanos: nanos,
    currentTimeMillis: Effect.sync(millis),
    currentTimeNanos: Effect.sync(nanos),
    sleep: (duration) => real.sleep(duration)
  }
  return {
    clock,
    forward: (ms: number) =>
      Effect.sync(() => {
        nowMs += ms
      })
  }
}

export const streamOf = (id: string) => ({ tenantId, domain: "Customer", aggregateId: id })
/** Events that are the customer's by what they say. */
export const ordersOf = (id: string) => ({ tenantId, domain: "Order", aggregateId: `o-${id}` })
export const objectOf = (id: string) => ({ bucket, name: `invoices/${id}` })
const commandOf = (id: string) => idOf(0xc0 + id.charCodeAt(id.length - 1))

/** One record of each kind for the customer; 300 kB of an object. */
export const write = (id: string) =>
  Effect.gen(function* () {
    const [events, commands, snapshots, cache, objects] = yield* allStores
    const registered = { type: "Registered", data: { name: `name of ${id}` }, metadata: { by: id } }
    yield* events.append(streamOf(id), [registered, registered], { expected: "any" })
    yield* events.append(ordersOf(id), [{ type: "Ordered", data: { of: id }, metadata: { customer: id } }], {
      expected: "any"
    })
    yield* commands.create({
      id: commandOf(id),
      tenantId,
      domain: "Customer",
      type: "Register",
      data: { customer: id },
      metadata: { by: id }
    })
    yield* commands.update(commandOf(id), { status: "succeeded", outcome: { sum: id } })
    yield* snapshots.save(streamOf(id), { version: 2, lastEventMark: mark, schemaVersion: "1", state: { name: id } })
    yield* cache.set(tenantId, `customer:${id}`, { name: id }, { ttl: "1 hour" })
    if (!(yield* objects.buckets.exists(bucket))) yield* objects.buckets.create(bucket)
    yield* objects.put(objectOf(id), Buffer.alloc(300_000, id), { metadata: { customer: id } })
  })

/** What is read of each of the customer's records: how often, or the tag of the error. */
export const seen = (id: string) =>
  Effect.gen(function* () {
    const [events, commands, snapshots, cache, objects] = yield* allStores
    const reads = {
      stream: Stream.runCount(events.read(streamOf(id))),
      orders: Stream.runCount(events.read(ordersOf(id))),
      command: Effect.map(commands.get(commandOf(id)), Option.isSome),
      snapshot: Effect.map(snapshots.latest(streamOf(id)), Option.isSome),
      cached: Effect.map(cache.get(tenantId, `customer:${id}`), Option.isSome),
      object: Effect.flatMap(objects.get(objectOf(id)), (found) =>
        Effect.map(Stream.runCollect(Option.getOrThrow(found).body), (pieces) =>
          Chunk.toReadonlyArray(pieces).reduce((sum, piece) => sum + piece.length, 0)
        )
      ),
      head: Effect.map(objects.head(objectOf(id)), Option.isSome)
    }
    return yield* Effect.all(reads, { mode: "either" }).pipe(
      Effect.map((all) =>
        Object.fromEntries(
          Object.entries(all).map(([name, result]) => [
            name,
            result._tag === "Right" ? result.right : (result.left as { readonly _tag: string })._tag
          ])
        )
      )
    )
  })

export const whole = { stream: 2, orders: 1, command: true, snapshot: true, cached: true, object: 300_000, head: true }

export const gone = {
  stream: "Shredded",
  orders: "Shredded",
  command: "Shredded",
  snapshot: "Shredded",
  cached: false,
  object: "Shredded",
  head: "Shredded"
}

/** What becomes of each write for the customer: done, or the tag of the error. */
export const written = (id: string) =>
  Effect.gen(function* () {
    const [events, commands, snapshots, cache, objects] = yield* allStores
    const event = { type: "Registered", data: { again: id } }
    const writes = {
      stream: events.append(streamOf(id), [event], { expected: "any" }),
      orders: events.append(ordersOf(id), [{ ...event, metadata: { customer: id } }], { expected: "any" }),
      command: commands.create({
        id: Uuid.v7(0),
        tenantId,
        domain: "Customer",
        type: "Register",
        data: { customer: id }
      }),
      snapshot: snapshots.save(streamOf(id), { version: 9, lastEventMark: mark, schemaVersion: "1", state: { id } }),
      cached: cache.set(tenantId, `customer:${id}`, { again: id }),
      object: objects.put(objectOf(id), Buffer.from("again"), { metadata: { customer: id } })
    }
    const all = yield* Effect.all(writes, { mode: "either" })
    return Object.fromEntries(
      Object.entries(all).map(([name, result]) => [
        name,
        result._tag === "Right" ? "done" : (result.left as { readonly _tag: string })._tag
      ])
    )
  })

export const everyWrite = (outcome: string) => ({
  stream: outcome,
  orders: outcome,
  command: outcome,
  snapshot: outcome,
  cached: outcome,
  object: outcome
})

export const shred = (id: string, options?: Subjects.ShredOptions) => Subjects.shred(customer(id), options)

export const tagOf = <A>(exit: Exit.Exit<A, unknown>): string =>
  Exit.isSuccess(exit)
    ? "done"
    : exit.cause._tag === "Fail"
      ? (exit.cause.error as { _tag: string })._tag
      : exit.cause._tag
