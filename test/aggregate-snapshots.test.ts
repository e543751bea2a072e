import { assert, layer as vitestLayer } from "@effect/vitest"
import { Effect, Either, FastCheck, Schema } from "effect"
import { Aggregate, EventStore, SnapshotPolicy, SnapshotStore, SnapshotStoreEncoded } from "effect-stores"
import {
  addTo,
  countedBy,
  Eager,
  eventsOf,
  evolveAll,
  flush,
  freshId,
  markOf,
  pairs,
  property,
  type RawSnapshot,
  RawSnapshots,
  type Stores,
  snapshotTimeout,
  streamOf,
  trailAfter,
  warningsOf
} from "./support/aggregates.js"
import { isFull } from "./support/scale.js"

const used = "effect_stores_snapshots_used"

type Policy = SnapshotPolicy.SnapshotPolicy<unknown>

/** One version of an application: its definition with any policy, and what it makes of events by no other means. */
interface Generation {
  readonly define: (policy: Policy) => {
    readonly schemaVersion: string
    readonly load: (id: Aggregate.Id) => Effect.Effect<Aggregate.Loaded<unknown>, unknown, EventStore.EventStore>
    readonly loadAt: (
      id: Aggregate.Id,
      version: number
    ) => Effect.Effect<Aggregate.Loaded<unknown>, unknown, EventStore.EventStore>
    readonly add: (
      id: Aggregate.Id,
      amount: number
    ) => Effect.Effect<Aggregate.Executed<unknown, unknown>, unknown, EventStore.EventStore>
    readonly delete: (id: Aggregate.Id) => Effect.Effect<number, unknown, EventStore.EventStore>
  }
  readonly stateAfter: (events: ReadonlyArray<EventStore.Event>) => unknown
  /** Whether a stored state has the form that this version knows. */
  readonly knows: (state: string) => boolean
}

const domain = "evolving"

const generation = <S, SI, EI extends { readonly _tag: string }, E extends { readonly _tag: string }>(
  options: Omit<Aggregate.Options<S, SI, E, EI>, "domain" | "snapshots"> & { readonly add: (amount: number) => E }
): Generation => {
  const decodeEvent = Schema.decodeUnknownSync(options.event)
  const decodeState = Schema.decodeUnknownEither(options.state)
  return {
    define: (snapshots) => {
      const { add, ...definition } = options
      const aggregate = Aggregate.make({ ...definition, domain, snapshots, snapshotTimeout })
      return {
        schemaVersion: aggregate.schemaVersion,
        load: (id) => Aggregate.load(aggregate, id),
        loadAt: (id, version) => Aggregate.loadAt(aggregate, id, version),
        add: (id, amount) => Aggregate.execute(aggregate, id, () => [add(amount), add(amount + 1)]),
        delete: (id) => Aggregate.delete(aggregate, id)
      }
    },
    stateAfter: (events) =>
      events.reduce(
        (state, { data, type }) => options.evolve(state, decodeEvent({ ...(data as object), _tag: type })),
        options.initial
      ),
    knows: (state) => Either.isRight(decodeState(JSON.parse(state)))
  }
}

const Added = Schema.TaggedStruct("Added", { amount: Schema.Number })
const Weighed = Schema.TaggedStruct("Added", {
  amount: Schema.Number,
  weight: Schema.optionalWith(Schema.Number, { default: () => 1 })
})
const Named = Schema.TaggedStruct("Named", { name: Schema.String })
const Sum = Schema.Struct({ sum: Schema.Number, trail: Schema.String })

const first = {
  state: Sum,
  event: Schema.Union(Added, Named),
  initial: { sum: 0, trail: "" },
  evolve: (state: typeof Sum.Type, event: typeof Added.Type | typeof Named.Type) => ({
    sum: event._tag === "Added" ? state.sum + event.amount : state.sum,
    trail: trailAfter(state.trail, event)
  }),
  add: (amount: number) => Added.make({ amount })
}

const generations: ReadonlyArray<Generation> = [
  generation(first),
  // Another evolve, which only snapshotVersion can tell.
  generation({
    ...first,
    snapshotVersion: "2",
    evolve: (state, event) => {
      const { sum, trail } = first.evolve(state, event)
      return { sum: sum * 2, trail: `${trail}'` }
    }
  }),
  // The events have got a field with a default; the state looks as before.
  generation({
    ...first,
    event: Schema.Union(Weighed, Named),
    evolve: (state, event) => ({
      sum: event._tag === "Added" ? state.sum + event.amount * (event.weight + 1) : state.sum,
      trail: trailAfter(state.trail, event)
    }),
    add: (amount) => Weighed.make({ amount, weight: 3 })
  }),
  // The state has got a field, and one that is encoded otherwise.
  generation({
    state: Schema.Struct({ sum: Schema.NumberFromString, names: Schema.Array(Schema.String), trail: Schema.String }),
    event: Schema.Union(Added, Named),
    initial: { sum: 0, names: [], trail: "" },
    evolve: (state, event) => ({
      sum: event._tag === "Added" ? state.sum + event.amount : state.sum,
      names: event._tag === "Named" ? [...state.names, event.name] : state.names,
      trail: trailAfter(state.trail, event)
    }),
    add: (amount) => Added.make({ amount })
  })
]

const policies: Readonly<Record<string, Policy>> = {
  every1: SnapshotPolicy.every(1),
  every3: SnapshotPolicy.every(3),
  every100: SnapshotPolicy.every(100),
  evenVersions: (sourcing) => sourcing.version % 2 === 0,
  always: SnapshotPolicy.sourcingOver(0),
  neither: SnapshotPolicy.and(
    SnapshotPolicy.every(1),
    SnapshotPolicy.when(() => false)
  ),
  either: SnapshotPolicy.or(
    SnapshotPolicy.every(5),
    SnapshotPolicy.when((state) => trailOf(state).endsWith("a"))
  ),
  throws: () => {
    throw new Error("policy")
  },
  never: SnapshotPolicy.never
}

const trailOf = (state: unknown): string => (state as { readonly trail: string }).trail

const rawColumns = ["version", "lastEventMark", "schemaVersion", "keyId", "checksum", "createdAt", "state"] as const

type Damage =
  | { readonly kind: "missing" | "otherSchema" | "future" | "foreign" | "undecodable" | "swapped" }
  | { readonly kind: "truncated"; readonly at: number }
  | { readonly kind: "flipped"; readonly column: (typeof rawColumns)[number]; readonly at: number }

type Step =
  | { readonly step: "append"; readonly events: ReadonlyArray<EventStore.NewEvent> }
  | { readonly step: "execute"; readonly amount: number }
  | { readonly step: "deploy"; readonly generation: number; readonly policy: string }
  | {
      readonly step: "restart"
      readonly properly: boolean
      readonly sameIds: boolean
      readonly events: ReadonlyArray<EventStore.NewEvent>
    }
  | { readonly step: "copy" | "restore" }
  | { readonly step: "redact"; readonly at: number; readonly amount: number }
  | { readonly step: "damage"; readonly damage: Damage }

const amount = FastCheck.integer({ min: -9, max: 9 }).map((n) => n + 0)
const newEvent: FastCheck.Arbitrary<EventStore.NewEvent> = FastCheck.oneof(
  amount.map((amount) => ({ type: "Added", data: { amount } })),
  FastCheck.record({ amount, weight: FastCheck.integer({ min: 1, max: 3 }) }).map((data) => ({ type: "Added", data })),
  FastCheck.string({ maxLength: 4, unit: "grapheme" }).map((name) => ({
    type: "Named",
    data: { name: name.toWellFormed() }
  }))
)
const newEvents = (minLength: number) => FastCheck.array(newEvent, { minLength, maxLength: 6 })
const place = FastCheck.nat(999)
const damage: FastCheck.Arbitrary<Damage> = FastCheck.oneof(
  FastCheck.constantFrom(
    ...(["missing", "otherSchema", "future", "foreign", "undecodable", "swapped"] as const).map(
      (kind): Damage => ({ kind })
    )
  ),
  place.map((at): Damage => ({ kind: "truncated", at })),
  FastCheck.record({ column: FastCheck.constantFrom(...rawColumns), at: place }).map(
    (where): Damage => ({ kind: "flipped", ...where })
  ),
  // The largest, and the one whose damage could pass for a state.
  place.map((at): Damage => ({ kind: "flipped", column: "state", at }))
)
const step: FastCheck.Arbitrary<Step> = FastCheck.oneof(
  { weight: 3, arbitrary: newEvents(1).map((events): Step => ({ step: "append", events })) },
  { weight: 1, arbitrary: amount.map((amount): Step => ({ step: "execute", amount })) },
  {
    weight: 2,
    arbitrary: FastCheck.record({
      step: FastCheck.constant("deploy" as const),
      generation: FastCheck.nat(generations.length - 1),
      policy: FastCheck.constantFrom(...Object.keys(policies))
    })
  },
  {
    weight: 1,
    arbitrary: FastCheck.record({
      step: FastCheck.constant("restart" as const),
      properly: FastCheck.boolean(),
      sameIds: FastCheck.boolean(),
      events: newEvents(0)
    })
  },
  { weight: 2, arbitrary: FastCheck.constantFrom<Step>({ step: "copy" }, { step: "restore" }) },
  { weight: 2, arbitrary: FastCheck.record({ at: place, amount }).map((what): Step => ({ step: "redact", ...what })) },
  { weight: 4, arbitrary: damage.map((damage): Step => ({ step: "damage", damage })) }
)
const history = FastCheck.record({
  policy: FastCheck.constantFrom("every1", "every1", ...Object.keys(policies)),
  steps: FastCheck.array(step, { minLength: 1, maxLength: 8 })
})

/** One bit of a text, such that what comes out is text that every backend takes, and a UUID if it was one. */
const flipText = (text: string, at: number): string => {
  const places = [...text].flatMap((char, i) => (/[0-9a-zA-Z{}",:]/.test(char) && char.length === 1 ? [i] : []))
  const i = places[at % places.length] ?? 0
  const chars = [...text]
  const char = chars[i] ?? ""
  const digit = Number.parseInt(char, 16)
  chars[i] = Number.isNaN(digit) ? String.fromCharCode(char.charCodeAt(0) ^ 1) : (digit ^ 1).toString(16)
  return chars.join("")
}

const flip = (raw: RawSnapshot, column: (typeof rawColumns)[number], at: number): RawSnapshot => {
  const value = raw[column]
  if (value === null) return { ...raw, [column]: "k" }
  return {
    ...raw,
    [column]: typeof value === "number" ? Number(BigInt(value) ^ (1n << BigInt(at % 50))) : flipText(value, at)
  }
}

/**
 * What a load must find, from what is stored and the events alone. `isOfHistory`: whether it was saved from the events
 * as they are; undefined if none of them was ever changed, which the mark shows.
 */
const expectedOutcome = (
  stream: EventStore.StreamId,
  raw: RawSnapshot | undefined,
  schemaVersion: string,
  { knows }: Generation,
  events: ReadonlyArray<EventStore.Event>,
  isOfHistory: boolean | undefined
): string => {
  if (raw === undefined) return "missing"
  const { checksum, ...fields } = raw
  if (SnapshotStoreEncoded.checksum({ ...stream, ...fields }) !== checksum) return "corrupt"
  if (raw.schemaVersion !== schemaVersion || !knows(raw.state)) return "otherSchema"
  const last = events[raw.version - 1]
  return last !== undefined && (isOfHistory ?? markOf(last) === raw.lastEventMark) ? "hit" : "otherStream"
}

/** Runs a history, and holds the state by snapshots against the one by the events after each step. */
const holds = ({ policy, steps }: typeof history extends FastCheck.Arbitrary<infer A> ? A : never) =>
  Effect.gen(function* () {
    const events = yield* EventStore.EventStore
    const snapshots = yield* SnapshotStore.SnapshotStore
    const raw = yield* RawSnapshots
    const id = freshId()
    const stream = { ...id, domain }
    const other = { ...freshId(), domain }

    let application = generations[0] as Generation
    let aggregate = application.define(policies[policy] as Policy)
    let looksForSnapshots = policy !== "never"
    let copy: RawSnapshot | undefined
    // What loads have saved since the last change of an event; undefined if there was none.
    let savedSince: Set<string> | undefined

    const check = Effect.gen(function* () {
      const stored = yield* eventsOf(stream)
      const state = application.stateAfter(stored)
      const before = yield* raw.get(stream)
      const isOfHistory = before === undefined ? undefined : savedSince?.has(before.lastEventMark)
      const outcome = expectedOutcome(stream, before, aggregate.schemaVersion, application, stored, isOfHistory)
      const isUsable = outcome === "hit" || outcome === "missing"
      for (let version = 0; version <= stored.length; version++) {
        const [loaded, warnings] = yield* warningsOf(aggregate.loadAt(id, version))
        assert.ok(warnings.length <= (isUsable ? 0 : 1), warnings.join("\n"))
        assert.deepStrictEqual(loaded.state, application.stateAfter(stored.slice(0, version)), `at ${version}`)
        assert.strictEqual(loaded.version, version)
      }
      const [[loaded, counted], warnings] = yield* warningsOf(
        countedBy(used, Effect.zipLeft(aggregate.load(id), flush(stream)))
      )
      assert.deepStrictEqual([loaded.state, loaded.version], [state, stored.length], outcome)
      if (!looksForSnapshots) {
        assert.deepStrictEqual([counted, warnings], [{}, []])
        return
      }
      yield* keepSaved(before)
      assert.deepStrictEqual(counted, { [outcome]: 1 })
      const ofSnapshots = warnings.filter((warning) => !warning.includes("a snapshot policy threw"))
      assert.strictEqual(ofSnapshots.length, isUsable ? 0 : 1, warnings.join("\n"))
      if (isUsable) return
      // What was of no use was replaced, or has gone with the events.
      if (stored.length === 0) {
        assert.strictEqual(yield* raw.get(stream), undefined)
        return
      }
      const [[again, hit], none] = yield* warningsOf(countedBy(used, aggregate.load(id)))
      assert.deepStrictEqual([hit, none], [{ hit: 1 }, []])
      assert.deepStrictEqual(again, { state, version: stored.length, snapshotVersion: stored.length, replayed: 0 })
    })

    const keepSaved = (before: RawSnapshot | undefined) =>
      Effect.map(raw.get(stream), (after) => {
        if (after !== undefined && after.checksum !== before?.checksum) savedSince?.add(after.lastEventMark)
      })

    const forge = (fields: Partial<SnapshotStore.NewSnapshot>) =>
      Effect.gen(function* () {
        const stored = yield* eventsOf(stream)
        const version = fields.version ?? stored.length
        const last = stored[version - 1]
        yield* raw.delete(stream)
        if (version === 0) return
        yield* snapshots.save(stream, {
          version,
          lastEventMark: last === undefined ? crypto.randomUUID() : markOf(last),
          schemaVersion: aggregate.schemaVersion,
          state: { sum: 1e6, trail: "forged" },
          ...fields
        })
      })

    const run = (step: Step): Effect.Effect<unknown, unknown, EventStore.EventStore> =>
      Effect.suspend((): Effect.Effect<unknown, unknown, EventStore.EventStore> => {
        switch (step.step) {
          case "append":
            return events.append(stream, step.events, { expected: "any" })
          case "execute":
            return Effect.gen(function* () {
              const before = yield* raw.get(stream)
              const [executed] = yield* warningsOf(aggregate.add(id, step.amount))
              const stored = yield* eventsOf(stream)
              assert.deepStrictEqual(executed.state, application.stateAfter(stored))
              yield* snapshots.flush(stream)
              yield* keepSaved(before)
            })
          case "deploy":
            application = generations[step.generation] as Generation
            aggregate = application.define(policies[step.policy] as Policy)
            looksForSnapshots = step.policy !== "never"
            return Effect.void
          case "restart":
            return Effect.gen(function* () {
              const before = yield* eventsOf(stream)
              savedSince = undefined
              yield* step.properly ? aggregate.delete(id) : events.maintenance.deleteStream(stream)
              if (step.properly) assert.strictEqual(yield* raw.get(stream), undefined)
              const begunAgain = step.events.map((event, i) => (step.sameIds ? { ...event, id: before[i]?.id } : event))
              if (begunAgain.length > 0) yield* events.append(stream, begunAgain, { expected: "noStream" })
            })
          case "copy":
            return Effect.map(raw.get(stream), (found) => {
              copy = found ?? copy
            })
          case "restore":
            return copy === undefined ? Effect.void : raw.put(stream, copy)
          case "redact":
            return Effect.gen(function* () {
              const stored = yield* eventsOf(stream)
              const event = stored[step.at % stored.length]
              if (event === undefined) return
              const data = event.type === "Added" ? { amount: step.amount } : { name: "redacted" }
              yield* events.maintenance.update(event.id, { data })
              savedSince = new Set()
            })
          case "damage":
            return Effect.flatMap(raw.get(stream), (found) =>
              found === undefined ? Effect.void : inflict(step.damage, found)
            )
        }
      })

    const inflict = (damage: Damage, found: RawSnapshot): Effect.Effect<unknown, unknown, EventStore.EventStore> => {
      switch (damage.kind) {
        case "missing":
          return raw.delete(stream)
        case "otherSchema":
          return forge({ schemaVersion: "another" })
        case "future":
          return Effect.flatMap(eventsOf(stream), ({ length }) => forge({ version: length + 3 }))
        case "foreign":
          return forge({ lastEventMark: crypto.randomUUID() })
        case "undecodable":
          return forge({ state: [] })
        case "swapped":
          return Effect.gen(function* () {
            yield* events.append(other, [{ type: "Added", data: { amount: 77 } }], { expected: "any" })
            yield* snapshots.save(other, {
              version: 1,
              lastEventMark: crypto.randomUUID(),
              schemaVersion: aggregate.schemaVersion,
              state: { sum: 77, trail: "other" }
            })
            const swapped = yield* raw.get(other)
            if (swapped !== undefined) yield* raw.put(stream, swapped)
          })
        case "truncated":
          return raw.put(stream, { ...found, state: found.state.slice(0, damage.at % found.state.length) })
        case "flipped":
          return raw.put(stream, flip(found, damage.column, damage.at))
      }
    }

    for (const step of steps) {
      yield* run(step)
      yield* check
    }
  })

for (const pair of pairs) {
  pair.describe(`Snapshots of aggregates on ${pair.name}`, () => {
    vitestLayer(pair.layer, { excludeTestServices: true, timeout: 900_000 })((it) => {
      const test = (title: string, body: () => Effect.Effect<void, unknown, Stores>) =>
        it.effect(title, body, isFull ? 900_000 : 120_000)

      test("state by snapshot equals state by full replay, whatever happens to histories, Schemas and snapshots", () =>
        property(history, Math.ceil((isFull ? 1_000 : 100) / pair.cost), holds))

      test("of 32 that load at once all have the same state, and the snapshot is one of it", () =>
        Effect.gen(function* () {
          const id = freshId()
          yield* addTo(Eager, id, 10)
          const loads = Effect.replicateEffect(Aggregate.load(Eager, id), 32, { concurrency: "unbounded" })
          for (const { state, version } of yield* loads) {
            assert.deepStrictEqual([state.sum, version], [45, 10])
          }
          yield* flush(streamOf(Eager, id))
          assert.deepStrictEqual((yield* Aggregate.load(Eager, id)).snapshotVersion, 10)
        }))

      test("a snapshot that is missed is worth a warning, one that a young aggregate has not yet is not", () =>
        Effect.gen(function* () {
          const raw = yield* RawSnapshots
          const long = freshId()
          const stream = streamOf(Eager, long)
          yield* addTo(Eager, long, 999)
          assert.deepStrictEqual((yield* warningsOf(Aggregate.load(Eager, long)))[1], [])
          yield* addTo(Eager, long, 1)
          yield* flush(stream)
          assert.deepStrictEqual((yield* warningsOf(Aggregate.load(Eager, long)))[1], [])
          yield* flush(stream)
          assert.ok((yield* raw.get(stream)) !== undefined)
          yield* Effect.flatMap(SnapshotStore.SnapshotStore, (store) => store.delete(stream))
          const [[, counted], warnings] = yield* warningsOf(countedBy(used, Aggregate.load(Eager, long)))
          assert.deepStrictEqual([counted, warnings.length], [{ missing: 1 }, 1], warnings.join())
          yield* flush(stream)
        }))

      test("a snapshot that another process saves while the aggregate is deleted never counts", () =>
        Effect.gen(function* () {
          const id = freshId()
          const stream = streamOf(Eager, id)
          const raw = yield* RawSnapshots
          yield* addTo(Eager, id, 6)
          yield* Aggregate.load(Eager, id)
          yield* flush(stream)
          const late = yield* raw.get(stream)
          assert.ok(late !== undefined)
          assert.strictEqual(yield* Aggregate.delete(Eager, id), 6)
          assert.strictEqual(yield* raw.get(stream), undefined)
          for (const begunAgain of [0, 3, 6, 9]) {
            yield* Aggregate.delete(Eager, id)
            if (begunAgain > 0) yield* addTo(Eager, id, begunAgain)
            yield* raw.put(stream, late)
            const { sum } = evolveAll(begunAgain)
            const [loaded, warnings] = yield* warningsOf(Aggregate.load(Eager, id))
            assert.deepStrictEqual([loaded.state.sum, loaded.version], [sum, begunAgain])
            assert.strictEqual(warnings.length, 1)
            yield* flush(stream)
            const healed = yield* raw.get(stream)
            assert.strictEqual(healed?.version, begunAgain === 0 ? undefined : begunAgain)
          }
        }))
    })
  })
}
