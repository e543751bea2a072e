/**
 * Bodies from a port that gives other bytes than it should, which no backend of this package does: it may be a user's.
 */
import { Effect, Option, Stream } from "effect"
import { DataStoreEncoded } from "effect-stores"
import { DataStoreMemory } from "effect-stores/memory"
import { expect, it } from "vitest"

const id = { bucket: "bucket", name: "object" }
const bytes = new Uint8Array(700_000).fill(7)

for (const [what, wrong] of [
  ["fewer", (body: Stream.Stream<Uint8Array, never>) => Stream.take(Stream.rechunk(body, 1), 1)],
  ["no", () => Stream.empty],
  ["more", (body: Stream.Stream<Uint8Array, never>) => Stream.concat(body, Stream.make(new Uint8Array(10)))]
] as const) {
  it(`${what} bytes than there are is ObjectCorrupt, of all of it and of a part`, () =>
    Effect.gen(function* () {
      const port = yield* DataStoreMemory.makeEncoded
      const store = DataStoreEncoded.make(
        {
          ...port,
          open: (object) =>
            Effect.map(port.open(object), (found) =>
              found === null || found === "NoBucket"
                ? found
                : {
                    ...found,
                    read: (offset, length) =>
                      wrong(
                        Stream.fromIterable(
                          [0, 262_144, 524_288]
                            .filter((at) => at >= offset && at < offset + length)
                            .map((at) => bytes.subarray(at, Math.min(at + 262_144, offset + length)))
                        )
                      )
                  }
            )
        },
        { system: "memory" }
      )
      yield* store.buckets.create(id.bucket)
      yield* store.put(id, bytes)
      for (const reading of [store.get(id), store.getRange(id, { offset: 100_000, length: 300_000 })]) {
        const { body } = Option.getOrThrow(yield* reading)
        expect(yield* Effect.flip(Stream.runDrain(body))).toMatchObject({ _tag: "ObjectCorrupt", ...id })
      }
    }).pipe(Effect.runPromise))
}
