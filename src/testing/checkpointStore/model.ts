/**
 * The property of equal meaning: random histories of operations run on a backend and on the backend in memory, step by
 * step, and every answer must be the same. No lease ends meanwhile: time is not in these histories.
 */
import assert from "node:assert/strict"
import { randomUUID } from "node:crypto"
import * as Effect from "effect/Effect"
import * as FastCheck from "effect/FastCheck"
import * as Option from "effect/Option"
import { CheckpointStore, type CheckpointStoreShape, type CommitOptions, type Lease } from "../../CheckpointStore.js"
import * as CheckpointStoreMemory from "../../memory/CheckpointStoreMemory.js"
import { isEnough, type PropertyOptions, property } from "../suite.js"
import type { Test } from "./fixtures.js"
import { lettersOf, listed, long, newLetter, type OneGeneration, plain } from "./fixtures.js"

type Step =
  | { readonly op: "open"; readonly follower: number; readonly partitions: number }
  | {
      readonly op: "claim"
      readonly follower: number
      readonly partition: number
      readonly owner: string
      readonly takeFrom: number | undefined
    }
  /** `lease` is one of those that were obtained so far, counted from the last. */
  | { readonly op: "renew" | "release"; readonly lease: number }
  | {
      readonly op: "commit"
      readonly lease: number
      readonly by: number
      readonly undone: boolean
      readonly letters: CommitOptions
    }
  | { readonly op: "delete"; readonly follower: number }

const follower = FastCheck.nat({ max: 2 })
const partition = FastCheck.oneof(
  { weight: 4, arbitrary: FastCheck.constant(0) },
  { weight: 1, arbitrary: FastCheck.nat({ max: 2 }) }
)
const lease = FastCheck.oneof(
  { weight: 3, arbitrary: FastCheck.constant(0) },
  { weight: 1, arbitrary: FastCheck.nat({ max: 3 }) }
)

/** Few positions, so that they meet. */
const letters: FastCheck.Arbitrary<CommitOptions> = FastCheck.record({
  deadLetters: FastCheck.uniqueArray(FastCheck.integer({ min: 1, max: 3 }), { maxLength: 2 }).chain((positions) =>
    FastCheck.record({
      reason: FastCheck.constantFrom("a", "\u{1f600}"),
      scope: FastCheck.constantFrom("event" as const, "stream" as const),
      eventId: FastCheck.uuid()
    }).map((fields) => positions.map((position) => newLetter(position, fields)))
  ),
  settled: FastCheck.uniqueArray(FastCheck.integer({ min: 2, max: 5 }), { maxLength: 2 })
})

const step = (weight: number, arbitrary: FastCheck.Arbitrary<Step>) => ({ weight, arbitrary })

const history: FastCheck.Arbitrary<ReadonlyArray<Step>> = FastCheck.array(
  FastCheck.oneof(
    step(
      4,
      FastCheck.record({ op: FastCheck.constant("open"), follower, partitions: FastCheck.constantFrom(1, 1, 3) })
    ),
    step(
      8,
      FastCheck.record({
        op: FastCheck.constant("claim"),
        follower,
        partition,
        owner: FastCheck.constantFrom("one", "two", "\u{1f600}"),
        takeFrom: FastCheck.constantFrom(undefined, undefined, 1, 2, 3)
      })
    ),
    step(2, FastCheck.record({ op: FastCheck.constant("renew"), lease })),
    step(3, FastCheck.record({ op: FastCheck.constant("release"), lease })),
    step(
      8,
      FastCheck.record({
        op: FastCheck.constant("commit"),
        lease,
        by: FastCheck.oneof(FastCheck.nat({ max: 2 }), FastCheck.nat({ max: 2 ** 50 })),
        undone: FastCheck.constantFrom(false, false, false, true),
        letters
      })
    ),
    step(1, FastCheck.record({ op: FastCheck.constant("delete"), follower }))
  ),
  { minLength: 1, maxLength: 40, size: "max" }
)

const followerOf = (run: string, index: number): OneGeneration => ({
  name: `${run} ${index >> 1}`,
  generation: 1 + (index % 2)
})

/** What an operation came to, with nothing in it that is different each time. */
const perform = (step: Step, run: string, store: CheckpointStoreShape, leases: Array<Lease>) =>
  Effect.gen(function* () {
    const held = "lease" in step ? leases.at(-1 - step.lease) : undefined
    switch (step.op) {
      case "open":
        return (yield* store.open(followerOf(run, step.follower), step)).map(plain)
      case "claim": {
        const { owner, partition, takeFrom } = step
        const options = { owner, partition, takeFrom, lease: long }
        const lease = yield* store.claim(followerOf(run, step.follower), options)
        if (Option.isSome(lease)) leases.push(lease.value)
        return lease
      }
      case "renew":
        return held && (yield* store.renew(held))
      case "release":
        return held && (yield* store.release(held))
      case "commit": {
        if (held === undefined) return undefined
        const commit = store.commit(held, Math.min(held.position + step.by, Number.MAX_SAFE_INTEGER), step.letters)
        if (step.undone) return yield* store.transaction(Effect.zipRight(commit, Effect.fail({ _tag: "undone" })))
        const lease = yield* commit
        leases.push(lease)
        return lease
      }
      case "delete":
        return yield* store.delete(followerOf(run, step.follower))
    }
  }).pipe(
    Effect.map((value) => ({ kind: "succeeded", value: value as unknown })),
    Effect.catchAll(({ _tag }) => Effect.succeed({ kind: _tag, value: undefined }))
  )

export const model = (test: Test, options: PropertyOptions): void => {
  test(`${options.runs} random histories have the same answers here and in memory`, () =>
    Effect.gen(function* () {
      const store = yield* CheckpointStore
      const seen = new Map<string, number>()
      yield* property(history, options, (steps) =>
        Effect.gen(function* () {
          const run = `model-${randomUUID()}`
          const inMemory = yield* CheckpointStore
          const [expectedLeases, actualLeases] = [Array.of<Lease>(), Array.of<Lease>()]
          const all = (store: CheckpointStoreShape) =>
            Effect.all([
              Effect.forEach([0, 1], (i) => listed({ name: followerOf(run, i * 2).name })),
              Effect.forEach([0, 1, 2], (i) => lettersOf(followerOf(run, i)))
            ]).pipe(Effect.provideService(CheckpointStore, store))
          for (const [i, step] of steps.entries()) {
            const expected = yield* perform(step, run, inMemory, expectedLeases)
            const actual = yield* perform(step, run, store, actualLeases)
            const what = `step ${i + 1} of ${steps.length}: ${step.op}`
            assert.deepEqual(actual, expected, what)
            assert.deepEqual(yield* all(store), yield* all(inMemory), what)
            const kind = `${step.op} ${expected.kind}`
            seen.set(kind, (seen.get(kind) ?? 0) + 1)
          }
        }).pipe(Effect.provide(CheckpointStoreMemory.layer()))
      )
      // A generator that never reaches an outcome proves nothing about it.
      if (options.runs >= 100) {
        for (const kind of [
          "open InvalidInput",
          "claim succeeded",
          "claim NotFound",
          "renew CheckpointLost",
          "commit succeeded",
          "commit CheckpointLost",
          "commit undone"
        ]) {
          assert.ok(
            isEnough(seen.get(kind) ?? 0, { of: options.runs, share: 1 / 10, usual: 300 }),
            `too few histories reach: ${kind}`
          )
        }
      }
    }))
}
