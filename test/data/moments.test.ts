/**
 * What happens between two steps of one operation: another writer comes just then, on a port in memory that lets it.
 */
import { Cause, Effect, Exit, Option, Stream } from "effect"
import { type DataStore, DataStoreEncoded } from "effect-stores"
import { DataStoreMemory } from "effect-stores/memory"
import { expect, it } from "vitest"

const [from, to] = [
  { bucket: "bucket", name: "from" },
  { bucket: "bucket", name: "to" }
] as const

const text = (words: string): Uint8Array => new TextEncoder().encode(words)

const options = { system: "memory" }

/** The store, and one on which `meanwhile` happens once, before or after a copy. */
const withMoments = <A, E>(
  when: "before" | "after",
  meanwhile: (store: DataStore.DataStoreShape) => Effect.Effect<unknown, unknown>,
  body: (store: DataStore.DataStoreShape, late: DataStore.DataStoreShape) => Effect.Effect<A, E>
): Promise<A> =>
  Effect.gen(function* () {
    const port = yield* DataStoreMemory.makeEncoded
    const store = DataStoreEncoded.make(port, options)
    const other = Effect.orDie(meanwhile(store))
    const late = DataStoreEncoded.make(
      {
        ...port,
        copy: (...args) =>
          when === "before" ? Effect.zipRight(other, port.copy(...args)) : Effect.zipLeft(port.copy(...args), other)
      },
      options
    )
    yield* store.buckets.create(from.bucket)
    yield* store.put(from, text("first"))
    return yield* body(store, late)
  }).pipe(Effect.runPromise)

const stored = (store: DataStore.DataStoreShape, id: DataStore.ObjectId) =>
  Effect.flatMap(store.get(id), (found) =>
    Option.isNone(found)
      ? Effect.succeed(undefined)
      : Effect.map(Stream.runCollect(found.value.body), (pieces) => Buffer.concat([...pieces]).toString())
  )

const failureOf = <A, E>(effect: Effect.Effect<A, E>) =>
  Effect.map(Effect.exit(effect), (exit) =>
    Exit.isFailure(exit) ? Option.getOrUndefined(Cause.failureOption(exit.cause)) : undefined
  )

it("what has taken the source's place while it was moved is another object, and stays", () =>
  withMoments(
    "after",
    (store) => store.put(from, text("second")),
    (store, late) =>
      Effect.gen(function* () {
        yield* late.move(from, to)
        expect(yield* stored(store, to)).toBe("first")
        expect(yield* stored(store, from)).toBe("second")
      })
  ))

for (const [what, meanwhile] of [
  ["replaced", (store: DataStore.DataStoreShape) => store.put(from, text("second"))],
  ["deleted", (store: DataStore.DataStoreShape) => store.delete(from)]
] as const) {
  it(`a source that is ${what} before it is copied is ObjectChanged, with ifAbsent too, and nothing is made`, () =>
    withMoments("before", meanwhile, (store, late) =>
      Effect.gen(function* () {
        for (const ifAbsent of [false, true]) {
          yield* store.put(from, text("first"))
          expect(yield* failureOf(late.copy(from, to, { ifAbsent }))).toMatchObject({ _tag: "ObjectChanged", ...from })
          expect(yield* stored(store, to)).toBeUndefined()
        }
        // What is there is said, whatever became of the source.
        yield* store.put(from, text("first"))
        yield* store.put(to, text("there"))
        expect(yield* failureOf(late.copy(from, to, { ifAbsent: true }))).toMatchObject({ _tag: "ObjectExists", ...to })
        expect(yield* stored(store, to)).toBe("there")
      })
    ))
}

it("a bucket that is deleted while `info` counts has nothing in it, and the others are counted", () =>
  Effect.gen(function* () {
    const port = yield* DataStoreMemory.makeEncoded
    const store = DataStoreEncoded.make(
      { ...port, buckets: Effect.zipLeft(port.buckets, Effect.orDie(port.deleteBucket("gone"))) },
      options
    )
    for (const bucket of ["gone", from.bucket]) yield* store.buckets.create(bucket)
    yield* store.put(from, text("first"))
    expect(yield* store.info).toMatchObject({ buckets: 2, objects: 1, bytes: 5 })
  }).pipe(Effect.runPromise))
