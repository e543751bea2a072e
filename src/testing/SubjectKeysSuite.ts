/**
 * The contract of what keeps the keys of subjects, as tests, for every backend: those of this package and a user's own.
 * Give it a database that nobody else uses.
 *
 * @since 0.1.0
 */
import assert from "node:assert/strict"
import * as Effect from "effect/Effect"
import * as FastCheck from "effect/FastCheck"
import type * as Layer from "effect/Layer"
import { type Encoded, type EncodedSubjectKey, SubjectKeys } from "../crypto/SubjectKeysEncoded.js"
import * as SubjectKeysMemory from "../memory/SubjectKeysMemory.js"
import * as suites from "./suite.js"

/**
 * @since 0.1.0
 * @category models
 */
export interface ContractOptions {
  /** Longest time of one test, in milliseconds. Default 900,000. */
  readonly timeoutMs?: number | undefined
}

let count = 0

/** Of a subject that no test has used yet. */
const freshRef = (): string => (++count).toString(16).padStart(64, "0")

const keyOf = (ref: string, n = ++count): EncodedSubjectKey => ({
  ref,
  keyId: n.toString(16).padStart(16, "0"),
  wrapped: `wrapped ${n}`,
  wrappedBy: `k${n % 3}`,
  createdAt: 1_700_000_000_000 + n,
  shreddedAt: null
})

const tombstoneOf = ({ createdAt, keyId, ref }: EncodedSubjectKey, shreddedAt: number): EncodedSubjectKey => ({
  ref,
  keyId,
  wrapped: null,
  wrappedBy: null,
  createdAt,
  shreddedAt
})

const sorted = (keys: ReadonlyArray<EncodedSubjectKey>): ReadonlyArray<EncodedSubjectKey> =>
  [...keys].sort((a, b) => (a.ref < b.ref ? -1 : 1))

const allOf = (pages: Encoded["all"]): Effect.Effect<ReadonlyArray<EncodedSubjectKey>, unknown> =>
  Effect.flatMap(pages, ({ items, next }) =>
    next === undefined ? Effect.succeed(items) : Effect.map(allOf(next), (rest) => [...items, ...rest])
  )

/**
 * The contract, point by point.
 *
 * @since 0.1.0
 * @category suites
 */
export const contract = <E>(name: string, layer: Layer.Layer<SubjectKeys, E>, options: ContractOptions = {}): void =>
  suites.suite(`${name}: contract`, layer, options.timeoutMs ?? 900_000, (test) => {
    test("a subject keeps the key that it got first", () =>
      Effect.gen(function* () {
        const keys = yield* SubjectKeys
        const first = keyOf(freshRef())
        assert.deepEqual(yield* keys.create(first), first)
        assert.deepEqual(yield* keys.create(keyOf(first.ref)), first)
        assert.deepEqual(yield* keys.find("ref", [first.ref, freshRef()]), [first])
        assert.deepEqual(yield* keys.find("keyId", [first.keyId as string, "ffffffffffffffff"]), [first])
        assert.deepEqual(yield* keys.find("ref", []), [])
      }))

    test("of many keys at the same time one is kept, and all are told which", () =>
      Effect.gen(function* () {
        const keys = yield* SubjectKeys
        const ref = freshRef()
        const kept = yield* Effect.forEach(
          Array.from({ length: 50 }, () => keyOf(ref)),
          keys.create,
          { concurrency: "unbounded" }
        )
        assert.equal(new Set(kept.map(({ keyId }) => keyId)).size, 1)
        assert.deepEqual(yield* keys.find("ref", [ref]), [kept[0]])
      }))

    test("a tombstone takes the key's place, keeps its id, and stays", () =>
      Effect.gen(function* () {
        const keys = yield* SubjectKeys
        const key = yield* keys.create(keyOf(freshRef()))
        const tombstone = tombstoneOf(key, 1_800_000_000_000)
        const shred = (shreddedAt: number, keyId: string | null) => keys.shred({ ref: key.ref, keyId, shreddedAt })
        assert.deepEqual(yield* shred(1_800_000_000_000, null), tombstone)
        assert.deepEqual(yield* shred(1_900_000_000_000, "ffffffffffffffff"), tombstone)
        assert.deepEqual(yield* keys.create(keyOf(key.ref)), tombstone)
        assert.deepEqual(yield* keys.find("keyId", [key.keyId as string]), [tombstone])
      }))

    test("who has no key gets a tombstone, with the id of a key that was lost once it is told", () =>
      Effect.gen(function* () {
        const keys = yield* SubjectKeys
        const ref = freshRef()
        const shreddedAt = 1_800_000_000_000
        const tombstone = tombstoneOf({ ...keyOf(ref), keyId: null, createdAt: shreddedAt }, shreddedAt)
        assert.deepEqual(yield* keys.shred({ ref, keyId: null, shreddedAt }), tombstone)
        assert.deepEqual(yield* keys.create(keyOf(ref)), tombstone)
        const { keyId } = keyOf(ref)
        assert.deepEqual(yield* keys.shred({ ref, keyId, shreddedAt: shreddedAt + 1 }), { ...tombstone, keyId })
        assert.deepEqual(yield* keys.find("keyId", [keyId as string]), [{ ...tombstone, keyId }])
      }))

    test("among keys that are made while it is destroyed there is none that stays", () =>
      Effect.gen(function* () {
        const keys = yield* SubjectKeys
        const ref = freshRef()
        yield* Effect.all(
          [
            ...Array.from({ length: 20 }, () => keys.create(keyOf(ref))),
            keys.shred({ ref, keyId: null, shreddedAt: 1_800_000_000_000 }),
            ...Array.from({ length: 20 }, () => keys.create(keyOf(ref)))
          ],
          { concurrency: "unbounded" }
        )
        assert.equal((yield* keys.find("ref", [ref]))[0]?.wrapped, null)
      }))

    test("a wrapping is replaced only if it is still as it was", () =>
      Effect.gen(function* () {
        const keys = yield* SubjectKeys
        const key = yield* keys.create(keyOf(freshRef()))
        const { ref } = key
        const rewrap = (was: string, wrapped: string) => keys.rewrap({ ref, was, wrapped, wrappedBy: "k9" })
        assert.equal(yield* rewrap("another", "new"), false)
        assert.equal(yield* rewrap(key.wrapped as string, "new"), true)
        assert.equal(yield* rewrap(key.wrapped as string, "newer"), false)
        assert.deepEqual(yield* keys.find("ref", [ref]), [{ ...key, wrapped: "new", wrappedBy: "k9" }])
        yield* keys.shred({ ref, keyId: null, shreddedAt: 1_800_000_000_000 })
        assert.equal(yield* rewrap("new", "newest"), false)
        assert.equal(yield* keys.rewrap({ ref: freshRef(), was: "new", wrapped: "x", wrappedBy: "k9" }), false)
      }))

    test("all keys and tombstones are listed, page by page, and counted", () =>
      Effect.gen(function* () {
        const keys = yield* SubjectKeys
        const made = Array.from({ length: 1_500 }, () => keyOf(freshRef()))
        yield* Effect.forEach(made, keys.create, { concurrency: 16 })
        const buried = yield* keys.shred({ ref: (made[7] as EncodedSubjectKey).ref, keyId: null, shreddedAt: 1 })
        const listed = yield* allOf(keys.all)
        const refs = new Set(made.map(({ ref }) => ref))
        const expected = sorted([...made.slice(0, 7), buried, ...made.slice(8)])
        assert.deepEqual(sorted(listed.filter(({ ref }) => refs.has(ref))), expected)
        assert.equal(new Set(listed.map(({ ref }) => ref)).size, listed.length)
        assert.equal(yield* keys.count, listed.length)
        const many = made.slice(0, 500).map(({ ref }) => ref)
        assert.equal((yield* keys.find("ref", many)).length, many.length)
      }))

    test("a note keeps its first value", () =>
      Effect.gen(function* () {
        const keys = yield* SubjectKeys
        const name = `note ${freshRef()}`
        assert.equal(yield* keys.note(name, null), null)
        assert.equal(yield* keys.note(name, "first"), "first")
        assert.equal(yield* keys.note(name, "second"), "first")
        assert.equal(yield* keys.note(name, null), "first")
      }))
  })

type Step =
  | { readonly _tag: "create"; readonly subject: number }
  | { readonly _tag: "shred"; readonly subject: number; readonly known: boolean }
  | { readonly _tag: "rewrap"; readonly subject: number; readonly was: number }

const subjects = 3

const steps: FastCheck.Arbitrary<ReadonlyArray<Step>> = FastCheck.array(
  FastCheck.oneof(
    FastCheck.record({ _tag: FastCheck.constant("create" as const), subject: FastCheck.nat(subjects - 1) }),
    FastCheck.record({
      _tag: FastCheck.constant("shred" as const),
      subject: FastCheck.nat(subjects - 1),
      known: FastCheck.boolean()
    }),
    FastCheck.record({
      _tag: FastCheck.constant("rewrap" as const),
      subject: FastCheck.nat(subjects - 1),
      was: FastCheck.nat(3)
    })
  ),
  { maxLength: 20 }
)

/**
 * Random histories on the backend and on the one in memory: every answer must be the same.
 *
 * @since 0.1.0
 * @category suites
 */
export const model = <E>(name: string, layer: Layer.Layer<SubjectKeys, E>, options: suites.ModelOptions = {}): void =>
  suites.modelSuite(name, layer, options, (test, property) => {
    test("answers as the model does", () =>
      suites.property(steps, property, (history) =>
        Effect.gen(function* () {
          const real = yield* SubjectKeys
          const oracle = yield* SubjectKeysMemory.makeEncoded
          const refs = Array.from({ length: subjects }, freshRef)
          const wrappings = [...refs, "other"]
          for (const step of history) {
            const ref = refs[step.subject] as string
            const n = ++count
            const apply = (keys: Encoded): Effect.Effect<unknown, unknown> => {
              switch (step._tag) {
                case "create":
                  return keys.create({ ...keyOf(ref, n), wrapped: wrappings[n % wrappings.length] as string })
                case "shred":
                  return keys.shred({ ref, keyId: step.known ? keyOf(ref, n).keyId : null, shreddedAt: n })
                case "rewrap":
                  return keys.rewrap({ ref, was: wrappings[step.was] as string, wrapped: ref, wrappedBy: `k${n % 9}` })
              }
            }
            assert.deepEqual(yield* apply(real), yield* apply(oracle), JSON.stringify(step))
            assert.deepEqual(sorted(yield* real.find("ref", refs)), sorted(yield* oracle.find("ref", refs)))
          }
        })
      ))
  })
