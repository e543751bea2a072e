/**
 * The property of equal meaning: random histories of operations run on a backend and on the backend in memory, step by
 * step, and every answer must be the same.
 */
import assert from "node:assert/strict"
import { randomUUID } from "node:crypto"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as FastCheck from "effect/FastCheck"
import * as Option from "effect/Option"
import type { StreamId } from "../../EventStore.js"
import type { Json } from "../../Json.js"
import * as SnapshotStoreMemory from "../../memory/SnapshotStoreMemory.js"
import type { NewSnapshot, SnapshotStoreShape } from "../../SnapshotStore.js"
import { SnapshotStore } from "../../SnapshotStore.js"
import { json } from "../hostile.js"
import type { PropertyOptions } from "../suite.js"
import { isEnough, property } from "../suite.js"
import type { Test } from "./fixtures.js"
import { plain, quietly } from "./fixtures.js"

interface Plan {
  readonly version: number
  readonly lastEventMark: string
  readonly schemaVersion: string
  readonly state: Json
  readonly createdAt: number
}

type Step =
  | { readonly op: "save"; readonly stream: number; readonly plan: Plan }
  | {
      readonly op: "saveInBackground"
      readonly stream: number
      /** Null: a snapshot that fails. */
      readonly plan: Plan | null | undefined
      readonly replace: boolean
    }
  | { readonly op: "latest"; readonly stream: number; readonly atMost: number | undefined }
  | { readonly op: "delete"; readonly stream: number }
  | { readonly op: "info" }
  | { readonly op: "reset" }

const tenants = ["one", "two:"]
const domains = ["order", ":order"]
const aggregates = ["1", "1:"]
const streamCount = tenants.length * domains.length * aggregates.length

// Mostly one stream, so that histories meet.
const stream = FastCheck.oneof(
  { weight: 2, arbitrary: FastCheck.constant(0) },
  { weight: 1, arbitrary: FastCheck.nat({ max: streamCount - 1 }) }
)

/** Few, so that equal ones meet; those beyond have more digits, or more bits, than a backend may think. */
const version = FastCheck.oneof(
  { weight: 4, arbitrary: FastCheck.integer({ min: 1, max: 5 }) },
  { weight: 2, arbitrary: FastCheck.constantFrom(9, 10, 11, 99, 100, 2 ** 31 - 1, 2 ** 31, 2 ** 53 - 2, 2 ** 53 - 1) }
)

const plan: FastCheck.Arbitrary<Plan> = FastCheck.record({
  version,
  lastEventMark: FastCheck.uuid(),
  schemaVersion: FastCheck.constantFrom("1", "2", "\uff5e", "\u{1f600}"),
  state: json,
  createdAt: FastCheck.integer({ min: -62_167_219_200_000, max: 253_402_300_799_999 })
})

const step = (weight: number, arbitrary: FastCheck.Arbitrary<Step>) => ({ weight, arbitrary })

const history: FastCheck.Arbitrary<ReadonlyArray<Step>> = FastCheck.array(
  FastCheck.oneof(
    step(10, FastCheck.record({ op: FastCheck.constant("save"), stream, plan })),
    step(
      4,
      FastCheck.record({
        op: FastCheck.constant("saveInBackground"),
        stream,
        plan: FastCheck.oneof(
          { weight: 4, arbitrary: plan },
          { weight: 1, arbitrary: FastCheck.constantFrom(null, undefined) }
        ),
        replace: FastCheck.boolean()
      })
    ),
    step(
      6,
      FastCheck.record({
        op: FastCheck.constant("latest"),
        stream,
        atMost: FastCheck.option(FastCheck.oneof(FastCheck.constant(0), version), { nil: undefined })
      })
    ),
    step(2, FastCheck.record({ op: FastCheck.constant("delete"), stream })),
    step(1, FastCheck.record({ op: FastCheck.constant("info") })),
    step(1, FastCheck.record({ op: FastCheck.constant("reset") }))
  ),
  { minLength: 1, maxLength: 30, size: "max" }
)

const streamOf = (run: string, index: number): StreamId => ({
  tenantId: `${run}${tenants[(index >> 2) % 2]}`,
  domain: domains[(index >> 1) % 2] as string,
  aggregateId: aggregates[index % 2] as string
})

const snapshotOf = ({ createdAt, ...fields }: Plan): NewSnapshot => ({
  ...fields,
  createdAt: DateTime.unsafeMake(createdAt)
})

const perform = (step: Step, run: string, store: SnapshotStoreShape) =>
  Effect.gen(function* () {
    switch (step.op) {
      case "save":
        return yield* store.save(streamOf(run, step.stream), snapshotOf(step.plan))
      case "saveInBackground": {
        const stream = streamOf(run, step.stream)
        const { plan, replace } = step
        const snapshot: Effect.Effect<NewSnapshot | undefined, string> =
          plan === null ? Effect.fail("no state") : Effect.succeed(plan && snapshotOf(plan))
        yield* store.saveInBackground(stream, snapshot, { replace })
        yield* store.flush(stream)
        return Option.map(yield* store.latest(stream), plain)
      }
      case "latest":
        return Option.map(yield* store.latest(streamOf(run, step.stream), { atMost: step.atMost }), plain)
      case "delete":
        return yield* store.delete(streamOf(run, step.stream))
      case "info":
        return (yield* store.info).snapshots
      case "reset":
        return yield* store.reset
    }
  })

export const model = (test: Test, options: PropertyOptions): void => {
  test(`${options.runs} random histories have the same answers here and in memory`, () =>
    Effect.gen(function* () {
      const store = yield* SnapshotStore
      const seen = new Map<string, number>()
      yield* property(history, options, (steps) =>
        Effect.gen(function* () {
          const run = `model-${randomUUID()}-`
          const inMemory = yield* SnapshotStore
          // What earlier histories left would be counted here only.
          yield* store.reset
          for (const [i, step] of steps.entries()) {
            const expected = yield* perform(step, run, inMemory)
            const actual = yield* perform(step, run, store)
            assert.deepEqual(actual, expected, `step ${i + 1} of ${steps.length}: ${step.op}`)
            const kind =
              step.op === "latest" ? `latest ${(expected as Option.Option<unknown>)._tag}` : `${step.op} ${expected}`
            seen.set(kind, (seen.get(kind) ?? 0) + 1)
          }
        }).pipe(Effect.provide(SnapshotStoreMemory.layer()), quietly)
      )
      // A generator that never reaches an outcome proves nothing about it.
      if (options.runs >= 100) {
        for (const kind of ["save true", "save false", "latest Some", "latest None", "delete true", "delete false"]) {
          assert.ok(
            isEnough(seen.get(kind) ?? 0, { of: options.runs, share: 1 / 10, usual: 300 }),
            `too few histories reach: ${kind}`
          )
        }
      }
    }))
}
