/**
 * The property that a backend answers like the one in memory: random histories on both, every answer compared, and what
 * is stored at the end.
 */
import assert from "node:assert/strict"
import * as Effect from "effect/Effect"
import * as FastCheck from "effect/FastCheck"
import * as Option from "effect/Option"
import type { DataStoreShape, ListOptions, ObjectId } from "../../DataStore.js"
import { DataStore } from "../../DataStore.js"
import { layer as memoryLayer } from "../../memory/DataStoreMemory.js"
import { text as anyText } from "../hostile.js"
import type { PropertyOptions } from "../suite.js"
import { collect, property } from "../suite.js"
import type { Test } from "./fixtures.js"
import { bytesOf, inPieces, read, sha256, turn } from "./fixtures.js"

const names = ["a", "a/b", "a/b/c", "A", "b", "é", "e\u0301", "\u{1f600}", "\uff5e", "..", "x".repeat(300), "a b+c%"]
const bucketsOf = ["one-bucket", "two-bucket", "three-bucket"]
const piece = 256 * 1024

type At = readonly [bucket: number, name: number]

interface Plan {
  readonly size: number
  readonly seed: number
  readonly metadata: Readonly<Record<string, string>>
  readonly condition: "none" | "ifAbsent" | "ifMatch" | "ifMatchWrong"
  readonly streamed: boolean
}

type Step =
  | { readonly op: "put"; readonly at: At; readonly plan: Plan }
  | { readonly op: "copy" | "move"; readonly at: At; readonly to: At; readonly ifAbsent: boolean }
  | { readonly op: "getRange"; readonly at: At; readonly offset: number; readonly length: number }
  | { readonly op: "get" | "head" | "delete" | "deleteIfMatch"; readonly at: At }
  | { readonly op: "deleteMany"; readonly bucket: number; readonly many: ReadonlyArray<number> }
  | { readonly op: "list"; readonly bucket: number; readonly options: ListOptions }
  | { readonly op: "createBucket" | "deleteBucket" | "bucketExists" | "count"; readonly bucket: number }
  | { readonly op: "info" | "buckets" }

const bucket = FastCheck.nat({ max: bucketsOf.length - 1 })
const at = FastCheck.tuple(bucket, FastCheck.nat({ max: names.length - 1 }))
const size = FastCheck.oneof(
  { weight: 4, arbitrary: FastCheck.nat({ max: 2_000 }) },
  { weight: 1, arbitrary: FastCheck.constantFrom(piece - 1, piece, piece + 1, 3 * piece + 7) }
)
const metadataText = anyText.filter((text) => !text.includes("\0") && text.isWellFormed())

const plan: FastCheck.Arbitrary<Plan> = FastCheck.record({
  size,
  seed: FastCheck.nat({ max: 1_000 }),
  metadata: FastCheck.dictionary(
    metadataText.filter((key) => key !== "__proto__"),
    metadataText,
    { maxKeys: 3 }
  ),
  condition: FastCheck.constantFrom("none", "none", "none", "ifAbsent", "ifMatch", "ifMatchWrong"),
  streamed: FastCheck.boolean()
})

const optional = <A>(arbitrary: FastCheck.Arbitrary<A>) => FastCheck.option(arbitrary, { nil: undefined })
const part = FastCheck.constantFrom(...names, "", "a/", "x", "zz")

const listOptions: FastCheck.Arbitrary<ListOptions> = FastCheck.record({
  prefix: optional(part),
  delimiter: optional(FastCheck.constantFrom("/", "b", " ")),
  after: optional(part),
  limit: optional(FastCheck.integer({ min: 1, max: 5 }))
})

const op = <const Op extends string>(...ops: ReadonlyArray<Op>) => FastCheck.constantFrom(...ops)
const step = (weight: number, arbitrary: FastCheck.Arbitrary<Step>) => ({ weight, arbitrary })

const history: FastCheck.Arbitrary<ReadonlyArray<Step>> = FastCheck.array(
  FastCheck.oneof(
    step(12, FastCheck.record({ op: op("put"), at, plan })),
    step(4, FastCheck.record({ op: op("copy", "move"), at, to: at, ifAbsent: FastCheck.boolean() })),
    step(3, FastCheck.record({ op: op("getRange"), at, offset: size, length: size })),
    step(8, FastCheck.record({ op: op("get", "head", "delete", "deleteIfMatch"), at })),
    step(
      1,
      FastCheck.record({
        op: op("deleteMany"),
        bucket,
        many: FastCheck.array(FastCheck.nat({ max: names.length - 1 }), { maxLength: 4 })
      })
    ),
    step(4, FastCheck.record({ op: op("list"), bucket, options: listOptions })),
    step(4, FastCheck.record({ op: op("createBucket", "deleteBucket", "bucketExists", "count"), bucket })),
    step(1, FastCheck.record({ op: op("info", "buckets") }))
  ),
  { minLength: 1, maxLength: 30, size: "max" }
)

const idOf = ([bucket, name]: At): ObjectId => ({
  bucket: bucketsOf[bucket] as string,
  name: names[name] as string
})

/** Etags and times are each store's own. */
const answerOf = (info: { readonly etag: string; readonly modifiedAt: unknown }) => {
  const { etag: _, modifiedAt: __, ...rest } = info
  return rest
}

const etagOf = (store: DataStoreShape, id: ObjectId) =>
  Effect.map(store.head(id), (found) => Option.getOrUndefined(found)?.etag ?? "none")

const perform = (step: Step, store: DataStoreShape, oracle: DataStoreShape) => {
  const { capabilities } = store
  return Effect.gen(function* () {
    switch (step.op) {
      case "put": {
        const { metadata, seed, size, streamed } = step.plan
        const id = idOf(step.at)
        const bytes = bytesOf(size, seed)
        const body = streamed ? inPieces(bytes, 100_000) : bytes
        const able =
          step.plan.condition === "none" ||
          (size <= capabilities.conditionalSizeMax &&
            (step.plan.condition === "ifAbsent" ? capabilities.putIfAbsent : capabilities.putIfMatch))
        const condition = able ? step.plan.condition : "none"
        const on =
          condition === "ifAbsent"
            ? { ifAbsent: true }
            : condition === "none"
              ? {}
              : { ifMatch: condition === "ifMatch" ? yield* etagOf(oracle, id) : "wrong" }
        return answerOf(yield* oracle.put(id, body, { metadata, ...on }))
      }
      case "copy":
      case "move": {
        const ifAbsent = step.ifAbsent && capabilities.copyIfAbsent
        return answerOf(yield* oracle[step.op](idOf(step.at), idOf(step.to), { ifAbsent }))
      }
      case "get": {
        const found = yield* oracle.get(idOf(step.at))
        if (Option.isNone(found)) return "none"
        return [answerOf(found.value.info), sha256(yield* read(found.value))]
      }
      case "getRange": {
        const found = yield* oracle.getRange(idOf(step.at), { offset: step.offset, length: step.length })
        return Option.isNone(found) ? "none" : sha256(yield* read(found.value))
      }
      case "head":
        return Option.map(yield* oracle.head(idOf(step.at)), answerOf)
      case "delete":
        return yield* oracle.delete(idOf(step.at))
      case "deleteIfMatch": {
        if (!capabilities.deleteIfMatch) return yield* oracle.delete(idOf(step.at))
        return yield* oracle.delete(idOf(step.at), { ifMatch: yield* etagOf(oracle, idOf(step.at)) })
      }
      case "deleteMany":
        return yield* oracle.deleteMany(
          bucketsOf[step.bucket] as string,
          step.many.map((i) => names[i] as string)
        )
      case "list":
        return (yield* collect(oracle.list(bucketsOf[step.bucket] as string, step.options))).map((entry) =>
          entry._tag === "Prefix" ? entry : answerOf(entry)
        )
      case "count":
        return yield* oracle.count(bucketsOf[step.bucket] as string)
      case "createBucket":
        return yield* oracle.buckets.create(bucketsOf[step.bucket] as string)
      case "deleteBucket":
        return yield* oracle.buckets.delete(bucketsOf[step.bucket] as string)
      case "bucketExists":
        return yield* oracle.buckets.exists(bucketsOf[step.bucket] as string)
      case "buckets":
        return (yield* oracle.buckets.list).map(({ name }) => name)
      case "info": {
        const { buckets, bytes, objects } = yield* oracle.info
        return { buckets, bytes, objects }
      }
    }
  }).pipe(
    Effect.catchAll((error) => Effect.succeed({ failed: error._tag, message: "what" in error ? error.what : "" }))
  )
}

export const model = (test: Test, options: PropertyOptions): void => {
  test(`${options.runs} histories are answered as in memory`, () =>
    Effect.gen(function* () {
      const store = yield* DataStore
      const memory = yield* Effect.provide(DataStore, memoryLayer())
      yield* property(history, options, (steps) =>
        Effect.gen(function* () {
          yield* turn
          yield* store.reset
          yield* memory.reset
          for (const each of [store, memory]) yield* each.buckets.create(bucketsOf[0] as string)
          for (const [i, step] of steps.entries()) {
            const answers = [yield* perform(step, store, store), yield* perform(step, store, memory)]
            assert.deepEqual(answers[0], answers[1], `step ${i}: ${JSON.stringify(step)}`)
          }
          for (const { name } of yield* memory.buckets.list) {
            for (const entry of yield* collect(memory.list(name))) {
              if (entry._tag === "Prefix") continue
              const id = { bucket: name, name: entry.name }
              const [ours, theirs] = [yield* store.get(id), yield* memory.get(id)]
              assert.equal(sha256(yield* read(Option.getOrThrow(ours))), sha256(yield* read(Option.getOrThrow(theirs))))
            }
          }
        })
      )
    }))
}
