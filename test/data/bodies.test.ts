/**
 * Bodies from a port that gives other bytes than it should, which no backend of this package does: it may be a user's.
 */
import { Effect, Option, Stream } from "effect"
import { DataStoreEncoded } from "effect-stores"
import { DataStoreMemory } from "effect-stores/memory"
import { expect, it } from "vitest"

const id = { bucket: "bucket", name: "object" }
const bytes = new Uint8Array(700_000).fill(7)

/** A store on a port whose objects are read by other means. */
const reading = (read: () => DataStoreEncoded.Read) =>
  Effect.map(DataStoreMemory.makeEncoded, (port) =>
    DataStoreEncoded.make(
      {
        ...port,
        open: (object) =>
          Effect.map(port.open(object), (found) =>
            found === null || found === "NoBucket" ? found : { ...found, read: read() }
          )
      },
      { system: "memory" }
    )
  )

for (const [what, wrong] of [
  ["fewer bytes than there are", (body: Stream.Stream<Uint8Array, never>) => Stream.take(Stream.rechunk(body, 1), 1)],
  ["no bytes", () => Stream.empty],
  [
    "more bytes than there are",
    (body: Stream.Stream<Uint8Array, never>) => Stream.concat(body, Stream.make(new Uint8Array(10)))
  ],
  // A port may be written in JavaScript.
  ["no bytes but text", () => Stream.make("text" as unknown as Uint8Array)]
] as const) {
  it(`${what} is ObjectCorrupt, of all of it and of a part`, () =>
    Effect.gen(function* () {
      const store = yield* reading(
        () => (offset, length) =>
          wrong(
            Stream.fromIterable(
              [0, 262_144, 524_288]
                .filter((at) => at >= offset && at < offset + length)
                .map((at) => bytes.subarray(at, Math.min(at + 262_144, offset + length)))
            )
          )
      )
      yield* store.buckets.create(id.bucket)
      yield* store.put(id, bytes)
      for (const get of [store.get(id), store.getRange(id, { offset: 100_000, length: 300_000 })]) {
        const { body } = Option.getOrThrow(yield* get)
        expect(yield* Effect.flip(Stream.runDrain(body))).toMatchObject({ _tag: "ObjectCorrupt", ...id })
      }
    }).pipe(Effect.runPromise))
}

it("a small body that came along with its object is verified too, before any of it is given", () =>
  Effect.gen(function* () {
    const small = new Uint8Array(1_000).fill(7)
    let inline = small
    const store = yield* reading(() => Object.assign(() => Stream.die("another way"), { inline }))
    yield* store.buckets.create(id.bucket)
    yield* store.put(id, small)
    const bodies = Effect.forEach([store.get(id), store.getRange(id, { offset: 10, length: 20 })], (get) =>
      Effect.map(get, (found) => Option.getOrThrow(found).body)
    )
    const given = yield* Effect.flatMap(bodies, (all) => Effect.forEach(all, (body) => Stream.runHead(body)))
    expect(given.map(Option.getOrThrow)).toEqual([small, small.subarray(10, 30)])
    inline = small.with(999, 8)
    for (const body of yield* bodies) {
      const pieces: Array<Uint8Array> = []
      const all = Stream.runForEach(body, (piece) => Effect.sync(() => pieces.push(piece)))
      expect(yield* Effect.flip(all)).toMatchObject({ _tag: "ObjectCorrupt", ...id })
      expect(pieces).toEqual([])
    }
  }).pipe(Effect.runPromise))

it("checksums of fewer or more pieces than the body has, or of another form, are ObjectCorrupt before any of it is read", () =>
  Effect.gen(function* () {
    const port = yield* DataStoreMemory.makeEncoded
    let cut = (checksums: string) => checksums
    const store = DataStoreEncoded.make(
      {
        ...port,
        open: (object) =>
          Effect.map(port.open(object), (found) =>
            found === null || found === "NoBucket"
              ? found
              : { ...found, object: { ...found.object, checksums: cut(found.object.checksums ?? "") } }
          )
      },
      { system: "memory" }
    )
    yield* store.buckets.create(id.bucket)
    yield* store.put(id, bytes)
    expect(Option.isSome(yield* store.head(id))).toBe(true)
    const others: ReadonlyArray<(sums: string) => string> = [
      (sums) => sums.slice(0, -16),
      (sums) => `${sums}${"A".repeat(16)}`,
      (sums) => `0${sums}`,
      (sums) => sums.slice(1),
      (sums) => `${sums.slice(0, -1)}!`
    ]
    for (const other of others) {
      cut = other
      const looks: ReadonlyArray<Effect.Effect<unknown, unknown>> = [store.head(id), store.get(id)]
      for (const look of looks) expect(yield* Effect.flip(look)).toMatchObject({ _tag: "ObjectCorrupt", ...id })
    }
  }).pipe(Effect.runPromise))

it("an object that has no checksums, as others store them, is read as it is", () =>
  Effect.gen(function* () {
    const port = yield* DataStoreMemory.makeEncoded
    const store = DataStoreEncoded.make(
      {
        ...port,
        open: (object) =>
          Effect.map(port.open(object), (found) =>
            found === null || found === "NoBucket" ? found : { ...found, object: { ...found.object, checksums: null } }
          )
      },
      { system: "memory" }
    )
    yield* store.buckets.create(id.bucket)
    yield* store.put(id, bytes)
    expect(Option.getOrThrow(yield* store.head(id))).toMatchObject({ size: bytes.byteLength, sha256: undefined })
    const { body } = Option.getOrThrow(yield* store.get(id))
    expect(Buffer.concat([...(yield* Stream.runCollect(body))]).equals(bytes)).toBe(true)
  }).pipe(Effect.runPromise))
