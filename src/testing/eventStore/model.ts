/**
 * The property of equal meaning: random histories of operations run on a backend and on the backend in memory, step by
 * step, and every answer must be the same, but for the values of positions.
 */
import assert from "node:assert/strict"
import { createHash, randomUUID } from "node:crypto"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as FastCheck from "effect/FastCheck"
import * as Option from "effect/Option"
import type {
  Appended,
  Direction,
  DistinctField,
  Event,
  EventStoreShape,
  ExpectedVersion,
  Filter,
  Guard,
  NewEvent,
  StreamAppend,
  StreamId
} from "../../EventStore.js"
import { EventStore, VersionConflict } from "../../EventStore.js"
import type { Json } from "../../Json.js"
import * as EventStoreMemory from "../../memory/EventStoreMemory.js"
import { json } from "../hostile.js"
import { countStep, distinctStep, pageStep } from "../log.js"
import type { PropertyOptions } from "../suite.js"
import { collect, isEnough, property } from "../suite.js"
import type { Test } from "./fixtures.js"
import { plain } from "./fixtures.js"

type Expectation = "any" | "noStream" | "streamExists" | number

interface EventPlan {
  readonly type: string
  readonly data: Json
  readonly metadata: Json
  readonly commandId: string | undefined
  readonly createdAt: number
}

interface AppendPlan {
  readonly stream: number
  /** A number is relative to the stream's version. */
  readonly expected: Expectation
  readonly events: ReadonlyArray<EventPlan>
}

type Change = "none" | "data" | "type" | "metadata" | "command" | "reversed" | "shortened" | "extended" | "elsewhere"

interface FilterPlan {
  readonly tenant: number
  readonly domain: string | undefined
  readonly aggregateId: string | undefined
  readonly types: ReadonlyArray<string> | undefined
  readonly commandId: string | undefined
  readonly createdFrom: number | undefined
  readonly createdUntil: number | undefined
}

type Step =
  | { readonly op: "append"; readonly append: AppendPlan }
  | {
      readonly op: "appendAll"
      readonly appends: ReadonlyArray<AppendPlan>
      readonly guards: ReadonlyArray<{ readonly stream: number; readonly expected: Expectation }>
    }
  | { readonly op: "repeat"; readonly of: number; readonly expected: Expectation; readonly change: Change }
  | {
      readonly op: "read"
      readonly stream: number
      readonly direction: Direction
      readonly fromVersion: number | undefined
      readonly toVersion: number | undefined
      readonly limit: number | undefined
    }
  | { readonly op: "version"; readonly stream: number }
  | { readonly op: "feed"; readonly filter: FilterPlan; readonly after: number; readonly limit: number | undefined }
  | { readonly op: "page"; readonly filter: FilterPlan; readonly direction: Direction; readonly limit: number }
  | { readonly op: "distinct"; readonly field: DistinctField; readonly filter: FilterPlan }
  | { readonly op: "count"; readonly filter: FilterPlan }
  | { readonly op: "get"; readonly of: number }
  | { readonly op: "update"; readonly of: number; readonly data: Json | undefined; readonly metadata: Json | undefined }
  | { readonly op: "deleteStream"; readonly stream: number }

const types = ["Placed", "placed", "\uff5e", "\u{1f600}"]
const commands = ["c1", "C1", "c%"]
const domains = ["order", "invoice"]
const aggregates = ["1", "2"]
const streamCount = 2 * domains.length * aggregates.length

const optional = <A>(arbitrary: FastCheck.Arbitrary<A>): FastCheck.Arbitrary<A | undefined> =>
  FastCheck.option(arbitrary, { nil: undefined, freq: 2 })

const small = FastCheck.nat({ max: 6 })
// Mostly a few streams, so that histories meet.
const stream = FastCheck.oneof(
  { weight: 3, arbitrary: FastCheck.nat({ max: 1 }) },
  { weight: 1, arbitrary: FastCheck.nat({ max: streamCount - 1 }) }
)
const direction = FastCheck.constantFrom<Direction>("forward", "backward")

const expected: FastCheck.Arbitrary<Expectation> = FastCheck.oneof(
  { weight: 3, arbitrary: FastCheck.constantFrom<Expectation>("any", "noStream", "streamExists") },
  { weight: 3, arbitrary: FastCheck.constant<Expectation>(0) },
  { weight: 1, arbitrary: FastCheck.integer({ min: -2, max: 2 }) }
)

const event: FastCheck.Arbitrary<EventPlan> = FastCheck.record({
  type: FastCheck.constantFrom(...types),
  data: json,
  metadata: json,
  commandId: optional(FastCheck.constantFrom(...commands)),
  createdAt: small
})

const append: FastCheck.Arbitrary<AppendPlan> = FastCheck.record({
  stream,
  expected,
  events: FastCheck.array(event, { minLength: 1, maxLength: 4 })
})

const filter: FastCheck.Arbitrary<FilterPlan> = FastCheck.record({
  tenant: FastCheck.nat({ max: 1 }),
  domain: optional(FastCheck.constantFrom(...domains)),
  aggregateId: optional(FastCheck.constantFrom(...aggregates)),
  types: optional(FastCheck.uniqueArray(FastCheck.constantFrom(...types), { minLength: 1 })),
  commandId: optional(FastCheck.constantFrom(...commands)),
  createdFrom: optional(small),
  createdUntil: optional(small)
})

const step = (weight: number, arbitrary: FastCheck.Arbitrary<Step>) => ({ weight, arbitrary })

const history: FastCheck.Arbitrary<ReadonlyArray<Step>> = FastCheck.array(
  FastCheck.oneof(
    step(8, FastCheck.record({ op: FastCheck.constant("append"), append })),
    step(
      3,
      FastCheck.record({
        op: FastCheck.constant("appendAll"),
        appends: FastCheck.uniqueArray(append, { minLength: 1, maxLength: 3, selector: (plan) => plan.stream }),
        guards: FastCheck.uniqueArray(FastCheck.record({ stream, expected }), {
          maxLength: 2,
          selector: (guard) => guard.stream
        })
      })
    ),
    step(
      5,
      FastCheck.record({
        op: FastCheck.constant("repeat"),
        of: small,
        expected,
        change: FastCheck.oneof(
          { weight: 1, arbitrary: FastCheck.constant<Change>("none") },
          {
            weight: 1,
            arbitrary: FastCheck.constantFrom<Change>(
              "data",
              "type",
              "metadata",
              "command",
              "reversed",
              "shortened",
              "extended",
              "elsewhere"
            )
          }
        )
      })
    ),
    step(
      3,
      FastCheck.record({
        op: FastCheck.constant("read"),
        stream,
        direction,
        fromVersion: optional(small),
        toVersion: optional(small),
        limit: optional(FastCheck.integer({ min: 1, max: 5 }))
      })
    ),
    step(1, FastCheck.record({ op: FastCheck.constant("version"), stream })),
    step(
      3,
      FastCheck.record({
        op: FastCheck.constant("feed"),
        filter,
        after: small,
        limit: optional(FastCheck.integer({ min: 1, max: 5 }))
      })
    ),
    step(2, pageStep(filter)),
    step(
      2,
      distinctStep<FilterPlan, DistinctField>(filter, ["domain", "aggregateId", "type", "commandId", "instanceId"])
    ),
    step(1, countStep(filter)),
    step(1, FastCheck.record({ op: FastCheck.constant("get"), of: small })),
    step(
      2,
      FastCheck.record({ op: FastCheck.constant("update"), of: small, data: optional(json), metadata: optional(json) })
    ),
    step(1, FastCheck.record({ op: FastCheck.constant("deleteStream"), stream }))
  ),
  { minLength: 1, maxLength: 30, size: "max" }
)

type Request = { readonly appends: ReadonlyArray<StreamAppend>; readonly guards: ReadonlyArray<Guard> }

/** What a history has done so far: names that both stores share, and requests to repeat. */
class Script {
  readonly requests: Array<Request> = []
  readonly eventIds: Array<string> = []
  private readonly run = randomUUID()
  private next = 0

  stream(index: number): StreamId {
    return {
      tenantId: this.tenant(index >> 2),
      domain: domains[(index >> 1) % 2] as string,
      aggregateId: aggregates[index % 2] as string
    }
  }

  filter({ createdFrom, createdUntil, tenant, ...conditions }: FilterPlan): Filter {
    return {
      ...conditions,
      tenantId: this.tenant(tenant),
      createdFrom: createdFrom === undefined ? undefined : DateTime.unsafeMake(createdFrom),
      createdUntil: createdUntil === undefined ? undefined : DateTime.unsafeMake(createdUntil)
    }
  }

  newEvent({ commandId, createdAt, data, metadata, type }: EventPlan): NewEvent {
    const id = this.newId()
    this.eventIds.push(id)
    return {
      id,
      type,
      data,
      metadata: { value: metadata },
      commandId,
      instanceId: "model",
      createdAt: DateTime.unsafeMake(createdAt)
    }
  }

  changed({ appends, guards }: Request, change: Change, expected: ExpectedVersion): Request {
    const [first, ...rest] = appends as readonly [StreamAppend, ...Array<StreamAppend>]
    const last = first.events.at(-1) as NewEvent
    const edit = (fields: Partial<NewEvent>) => [...first.events.slice(0, -1), { ...last, ...fields }]
    const share = (events: ReadonlyArray<NewEvent>): Request => ({
      appends: [{ ...first, expected, events }, ...rest],
      guards
    })
    switch (change) {
      case "none":
        return share(first.events)
      case "data":
        return share(edit({ data: { changed: true } }))
      case "type":
        return share(edit({ type: "Changed" }))
      case "metadata":
        return share(edit({ metadata: { changed: true } }))
      case "command":
        return share(edit({ commandId: "changed" }))
      case "reversed":
        return share([...first.events].reverse())
      case "shortened":
        return share(first.events.length > 1 ? first.events.slice(1) : first.events)
      case "extended":
        return share([...first.events, { ...last, id: this.newId() }])
      case "elsewhere":
        return {
          appends: [{ ...first, expected, stream: { ...first.stream, aggregateId: "elsewhere" } }, ...rest],
          guards
        }
    }
  }

  private tenant(index: number): string {
    return `model-${this.run}-${index}`
  }

  private newId(): string {
    const hex = createHash("sha256")
      .update(`${this.run} ${this.next++}`)
      .digest("hex")
    return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20, 32)}`
  }
}

/** Positions differ between stores. Their order shows in the order of the feed. */
const placeless = (event: Event) => ({ ...plain(event), position: undefined })

/** An answer without its position, after a look whether that is the position of the event with its version. */
const placed = (store: EventStoreShape, stream: StreamId, { position, version }: Appended) =>
  Effect.map(collect(store.read(stream, { fromVersion: version, toVersion: version })), ([event]) => {
    assert.equal(event?.position, position, "an append answers the position of its last event")
    return { version, id: event?.id }
  })

const answered = <A, E extends { readonly _tag: string }, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.match(effect, {
    onFailure: (error) =>
      error instanceof VersionConflict
        ? { failed: error._tag, actual: error.actual, expected: error.expected, stream: { ...error.stream } }
        : { failed: error._tag },
    onSuccess: (answer) => ({ answer })
  })

/** What a step asks, the same of both stores. Numbers of an expectation are relative to the model's version. */
const resolve = (step: Step, script: Script, model: EventStoreShape) =>
  Effect.gen(function* () {
    const expectation = function* (stream: StreamId, expected: Expectation) {
      return typeof expected === "number" ? Math.max(0, (yield* model.version(stream)) + expected) : expected
    }
    const share = function* (plan: AppendPlan) {
      const stream = script.stream(plan.stream)
      const expected = yield* expectation(stream, plan.expected)
      return { stream, expected, events: plan.events.map((event) => script.newEvent(event)) }
    }
    switch (step.op) {
      case "append":
      case "appendAll": {
        const plans = step.op === "append" ? [step.append] : step.appends
        const appends: Array<StreamAppend> = []
        for (const plan of plans) appends.push(yield* share(plan))
        const guards: Array<Guard> = []
        for (const guard of step.op === "append" ? [] : step.guards) {
          if (plans.some((plan) => plan.stream === guard.stream)) continue
          const stream = script.stream(guard.stream)
          guards.push({ stream, expected: yield* expectation(stream, guard.expected) })
        }
        const request = { appends, guards }
        script.requests.push(request)
        return request
      }
      case "repeat": {
        const request = script.requests[step.of % Math.max(1, script.requests.length)]
        if (request === undefined) return undefined
        const [first] = request.appends as readonly [StreamAppend]
        return script.changed(request, step.change, yield* expectation(first.stream, step.expected))
      }
      default:
        return undefined
    }
  })

const perform = (step: Step, request: Request | undefined, script: Script, store: EventStoreShape) =>
  Effect.gen(function* () {
    const anyId = (of: number) => script.eventIds[of % Math.max(1, script.eventIds.length)] ?? randomUUID()
    switch (step.op) {
      case "append":
      case "appendAll":
      case "repeat": {
        if (request === undefined) return undefined
        const [first, ...rest] = request.appends
        const single = first !== undefined && rest.length === 0 && request.guards.length === 0
        return yield* answered(
          Effect.flatMap(
            single
              ? Effect.map(store.append(first.stream, first.events, { expected: first.expected }), (answer) => [answer])
              : store.appendAll(request.appends, { guards: request.guards }),
            (answers) =>
              Effect.forEach(request.appends, ({ stream }, i) => placed(store, stream, answers[i] as Appended))
          )
        )
      }
      case "read": {
        const { direction, fromVersion, limit, stream, toVersion } = step
        const options = { direction, fromVersion, limit, toVersion }
        return (yield* collect(store.read(script.stream(stream), options))).map(placeless)
      }
      case "version":
        return yield* store.version(script.stream(step.stream))
      case "feed": {
        const { after, filter, limit } = step
        const last = yield* store.get(anyId(after))
        const options = {
          after: Option.match(last, { onNone: () => 0, onSome: (event) => event.position }),
          filter: script.filter(filter),
          limit
        }
        return (yield* collect(store.feed(options))).map(placeless)
      }
      case "page": {
        const options = { filter: script.filter(step.filter), direction: step.direction, limit: step.limit }
        const first = yield* store.page(options)
        const second = yield* store.page({ ...options, cursor: Option.getOrUndefined(first.next) })
        return [first, second].map(({ events, next }) => [events.map(placeless), Option.isSome(next)])
      }
      case "distinct":
        return yield* collect(store.distinct(step.field, script.filter(step.filter)))
      case "count":
        return yield* store.count(script.filter(step.filter))
      case "get":
        return Option.map(yield* store.get(anyId(step.of)), placeless)
      case "update": {
        const changes = {
          data: step.data,
          metadata: step.metadata === undefined ? undefined : { updated: step.metadata }
        }
        return yield* answered(store.maintenance.update(anyId(step.of), changes))
      }
      case "deleteStream":
        return yield* store.maintenance.deleteStream(script.stream(step.stream))
    }
  })

export const model = (test: Test, options: PropertyOptions): void => {
  test(`${options.runs} random histories have the same answers here and in memory`, () =>
    Effect.gen(function* () {
      const store = yield* EventStore
      const seen = new Map<string, number>()
      yield* property(history, options, (steps) =>
        Effect.gen(function* () {
          const script = new Script()
          const inMemory = yield* EventStore
          for (const [i, step] of steps.entries()) {
            const request = yield* resolve(step, script, inMemory)
            const expected = yield* perform(step, request, script, inMemory)
            const actual = yield* perform(step, request, script, store)
            assert.deepEqual(actual, expected, `step ${i + 1} of ${steps.length}: ${step.op}`)
            const kind = `${step.op}${JSON.stringify(expected ?? null).startsWith('{"failed"') ? " failed" : ""}`
            seen.set(kind, (seen.get(kind) ?? 0) + 1)
          }
        }).pipe(Effect.provide(EventStoreMemory.layer()))
      )
      // A generator that never reaches an outcome proves nothing about it.
      if (options.runs >= 100) {
        for (const kind of ["append", "append failed", "appendAll", "appendAll failed", "repeat", "repeat failed"]) {
          assert.ok(
            isEnough(seen.get(kind) ?? 0, { of: options.runs, share: 1 / 10, usual: 300 }),
            `too few histories reach: ${kind}`
          )
        }
      }
    }))
}
