/**
 * The property of equal meaning: random histories of operations run on a backend and on the backend in memory, step by
 * step, and every answer must be the same.
 */
import assert from "node:assert/strict"
import { randomUUID } from "node:crypto"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as FastCheck from "effect/FastCheck"
import * as Option from "effect/Option"
import { CacheStore, type CacheStoreShape, doNotStore, type LoadOptions } from "../../CacheStore.js"
import type { Json } from "../../Json.js"
import * as CacheStoreMemory from "../../memory/CacheStoreMemory.js"
import { json } from "../hostile.js"
import type { PropertyOptions } from "../suite.js"
import { collect, isEnough, property } from "../suite.js"
import type { Test } from "./fixtures.js"
import { hour } from "./fixtures.js"

interface Life {
  /** 1 ms is waited for. */
  readonly ttl: 1 | "1 hour" | "infinity"
  readonly grace: 0 | "1 hour" | "infinity"
  readonly tags: ReadonlyArray<string>
}

type Step =
  | { readonly op: "get" | "delete"; readonly tenant: number; readonly key: string }
  | { readonly op: "getMany" | "deleteMany"; readonly tenant: number; readonly keys: ReadonlyArray<string> }
  | {
      readonly op: "set" | "setIfAbsent" | "load" | "doNotStore"
      readonly tenant: number
      readonly key: string
      readonly value: Json
      readonly life: Life
    }
  | {
      readonly op: "setMany" | "loadMany"
      readonly tenant: number
      readonly keys: ReadonlyArray<string>
      readonly life: Life
    }
  | { readonly op: "fail"; readonly tenant: number; readonly key: string }
  | { readonly op: "touch"; readonly tenant: number; readonly key: string; readonly ttl: Life["ttl"] }
  | {
      readonly op: "invalidate" | "expire"
      readonly tenant: number
      readonly keys: ReadonlyArray<string>
      readonly tags: ReadonlyArray<string>
    }
  | { readonly op: "list"; readonly tenant: number; readonly prefix: string }
  | { readonly op: "clear"; readonly tenant: number }
  | { readonly op: "info" | "reset" }

const tenantNames = ["", "*"]
const keyNames = ["a", "ab", "a*", ":b"]

const tenant = FastCheck.nat({ max: tenantNames.length - 1 })
// Mostly one key, so that histories meet.
const key = FastCheck.oneof(
  { weight: 2, arbitrary: FastCheck.constant("a") },
  { weight: 1, arbitrary: FastCheck.constantFrom(...keyNames) }
)
const keys = FastCheck.uniqueArray(key, { maxLength: 4 })
const tags = FastCheck.uniqueArray(FastCheck.constantFrom("t", "u", "t*"), { maxLength: 2 })
const ttl = FastCheck.oneof(
  { weight: 1, arbitrary: FastCheck.constant(1 as const) },
  { weight: 5, arbitrary: FastCheck.constantFrom("1 hour" as const, "infinity" as const) }
)
const life: FastCheck.Arbitrary<Life> = FastCheck.record({
  ttl,
  grace: FastCheck.constantFrom(0 as const, "1 hour" as const, "infinity" as const),
  tags
})

const step = (weight: number, arbitrary: FastCheck.Arbitrary<Step>) => ({ weight, arbitrary })
const one = <const A extends string>(...ops: ReadonlyArray<A>) => FastCheck.constantFrom(...ops)

const history: FastCheck.Arbitrary<ReadonlyArray<Step>> = FastCheck.array(
  FastCheck.oneof(
    step(5, FastCheck.record({ op: one("get", "delete"), tenant, key })),
    step(3, FastCheck.record({ op: one("getMany", "deleteMany"), tenant, keys })),
    step(8, FastCheck.record({ op: one("set", "setIfAbsent", "load", "doNotStore"), tenant, key, value: json, life })),
    step(4, FastCheck.record({ op: one("setMany", "loadMany"), tenant, keys, life })),
    step(2, FastCheck.record({ op: one("fail"), tenant, key })),
    step(2, FastCheck.record({ op: one("touch"), tenant, key, ttl })),
    step(6, FastCheck.record({ op: one("invalidate", "expire"), tenant, keys, tags })),
    step(2, FastCheck.record({ op: one("list"), tenant, prefix: FastCheck.constantFrom("", "a", "a*", ":") })),
    step(1, FastCheck.record({ op: one("clear"), tenant })),
    step(1, FastCheck.record({ op: one("info", "reset") }))
  ),
  { minLength: 1, maxLength: 25, size: "max" }
)

const timeOf = (time: Life["ttl"] | Life["grace"]): Duration.DurationInput =>
  time === "infinity" ? Duration.infinity : time

const optionsOf = ({ grace, tags, ttl }: Life): LoadOptions => ({ ttl: timeOf(ttl), grace: timeOf(grace), tags })

/** Loads in this step, so that there is one outcome. */
const loadingOf = (life: Life): LoadOptions => ({ ...optionsOf(life), softTimeout: Duration.infinity })

const answers = (found: ReadonlyMap<string, Json>) => [...found].sort(([a], [b]) => (a < b ? -1 : 1))

const valuesOf = (keys: ReadonlyArray<string>) => new Map<string, Json>(keys.map((key) => [key, { loaded: key }]))

const perform = (step: Step, run: string, store: CacheStoreShape) =>
  Effect.gen(function* () {
    const tenantId = "tenant" in step ? `${run}${tenantNames[step.tenant]}` : ""
    switch (step.op) {
      case "get":
        return Option.getOrElse(yield* store.get(tenantId, step.key), () => "absent")
      case "delete":
        return yield* store.delete(tenantId, step.key)
      case "getMany":
        return answers(yield* store.getMany(tenantId, step.keys))
      case "deleteMany":
        return yield* store.deleteMany(tenantId, step.keys)
      case "set":
        return yield* store.set(tenantId, step.key, step.value, optionsOf(step.life))
      case "setIfAbsent":
        return yield* store.setIfAbsent(tenantId, step.key, step.value, optionsOf(step.life))
      case "load":
        return yield* store.getOrSet(tenantId, step.key, Effect.succeed(step.value), loadingOf(step.life))
      case "doNotStore": {
        const load = Effect.succeed(doNotStore(step.value))
        return yield* store.getOrSet(tenantId, step.key, load, loadingOf(step.life))
      }
      case "setMany": {
        const entries = step.keys.map((key) => ({ key, value: [key] }))
        return yield* store.setMany(tenantId, entries, optionsOf(step.life))
      }
      case "loadMany": {
        // Leaves one key out.
        const load = (keys: ReadonlyArray<string>) => Effect.succeed(valuesOf(keys.filter((key) => key !== ":b")))
        return answers(yield* store.getOrSetMany(tenantId, step.keys, load, loadingOf(step.life)))
      }
      case "fail": {
        const load = Effect.fail("no value")
        const served = yield* Effect.either(
          store.getOrSet(tenantId, step.key, load, { softTimeout: Duration.infinity })
        )
        // Else what comes next would wait for the end of the hold.
        if (served._tag === "Right") yield* store.set(tenantId, step.key, "after", { ttl: hour, grace: hour })
        return served
      }
      case "touch":
        return yield* store.touch(tenantId, step.key, timeOf(step.ttl))
      case "invalidate":
        return yield* store.invalidate(tenantId, { keys: step.keys, tags: step.tags })
      case "expire":
        return yield* store.expire(tenantId, { keys: step.keys, tags: step.tags })
      case "list": {
        const listed = yield* collect(store.list(tenantId, { prefix: step.prefix }))
        const count = yield* store.count(tenantId, { prefix: step.prefix })
        return [
          count,
          ...listed
            .sort((a, b) => (a.key < b.key ? -1 : 1))
            .map(({ key, ttl }) => [key, Math.round(Duration.toMillis(ttl) / 60_000)])
        ]
      }
      case "clear":
        return yield* store.clear(tenantId)
      case "info":
        return (yield* store.info).entries
      case "reset":
        return yield* store.reset
    }
  })

/** Whether the step sets what is at its end a moment later. */
const lapses = (step: Step): boolean =>
  ("life" in step && step.life.ttl === 1) || (step.op === "touch" && step.ttl === 1)

export const model = (test: Test, options: PropertyOptions): void => {
  test(`${options.runs} random histories have the same answers here and in memory`, () =>
    Effect.gen(function* () {
      const store = yield* CacheStore
      const seen = new Map<string, number>()
      yield* property(history, options, (steps) =>
        Effect.gen(function* () {
          const run = `model-${randomUUID()}`
          const inMemory = yield* CacheStore
          // What earlier histories left would be counted here only.
          yield* store.reset
          for (const [i, step] of steps.entries()) {
            const expected = yield* perform(step, run, inMemory)
            const actual = yield* perform(step, run, store)
            assert.deepEqual(actual, expected, `step ${i + 1} of ${steps.length}: ${step.op}`)
            if (lapses(step)) yield* Effect.sleep(4)
            const kind = step.op === "get" ? (expected === "absent" ? "get none" : "get some") : step.op
            const outcome = typeof expected === "boolean" ? `${kind} ${expected}` : kind
            seen.set(outcome, (seen.get(outcome) ?? 0) + 1)
          }
        }).pipe(Effect.provide(CacheStoreMemory.layer()))
      )
      // A generator that never reaches an outcome proves nothing about it.
      if (options.runs >= 100) {
        for (const kind of ["get some", "get none", "setIfAbsent true", "setIfAbsent false", "touch true", "fail"]) {
          assert.ok(
            isEnough(seen.get(kind) ?? 0, { of: options.runs, share: 1 / 20, usual: 300 }),
            `too few histories reach: ${kind}`
          )
        }
      }
    }))
}
