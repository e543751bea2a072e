/**
 * What the lift does for every backend, on ports in memory that have other bounds, or what that in memory has not.
 */
import { Effect, Option, Stream } from "effect"
import { DataStore, DataStoreEncoded } from "effect-stores"
import { DataStoreMemory } from "effect-stores/memory"
import { expect, it } from "vitest"
import { objects } from "../support/tour.js"
import { traced } from "../support/tracing.js"

const id = { bucket: "bucket", name: "object" }

const on = <A, E>(
  change: (port: DataStoreEncoded.Encoded) => Partial<DataStoreEncoded.Encoded>,
  body: (store: DataStore.DataStoreShape) => Effect.Effect<A, E>
): Promise<A> =>
  Effect.gen(function* () {
    const port = yield* DataStoreMemory.makeEncoded
    const store = DataStoreEncoded.make({ ...port, ...change(port) }, { system: "memory" })
    yield* store.buckets.create(id.bucket)
    return yield* body(store)
  }).pipe(Effect.runPromise)

const bytes = (size: number): Uint8Array => new Uint8Array(size).fill(7)

const inPieces = (size: number): Stream.Stream<Uint8Array> => Stream.make(bytes(10), bytes(size - 10))

/** A body that nobody may read. */
const unread = Stream.die("was read")

const sizeOf = (store: DataStore.DataStoreShape) =>
  Effect.map(store.head(id), (found) => Option.getOrUndefined(found)?.size)

it("more bytes than a backend takes are ObjectTooLarge, unread where their number is known, and change nothing", () =>
  on(
    ({ capabilities }) => ({ capabilities: { ...capabilities, sizeMax: 1_000, conditionalSizeMax: 1_000 } }),
    (store) =>
      Effect.gen(function* () {
        for (const body of [bytes(1_000), inPieces(1_000)]) {
          yield* store.put(id, body)
          yield* store.put(id, body, { ifMatch: Option.getOrThrow(yield* store.head(id)).etag })
        }
        const tooLarge = [
          store.put(id, bytes(1_001)),
          store.put(id, inPieces(1_001)),
          store.put(id, unread, { size: 1_001 }),
          store.put(id, unread, { size: 1_001, ifAbsent: true })
        ]
        for (const put of tooLarge) {
          expect(yield* Effect.flip(put)).toMatchObject({ _tag: "ObjectTooLarge", ...id, sizeMax: 1_000 })
        }
        expect(yield* sizeOf(store)).toBe(1_000)
      })
  ))

it("a backend may take less on a condition: that is Unsupported, and stored without one", () =>
  on(
    ({ capabilities }) => ({ capabilities: { ...capabilities, conditionalSizeMax: 1_000 } }),
    (store) =>
      Effect.gen(function* () {
        for (const put of [
          store.put(id, bytes(1_001), { ifAbsent: true }),
          store.put(id, inPieces(1_001), { ifAbsent: true }),
          store.put(id, unread, { size: 1_001, ifAbsent: true })
        ]) {
          expect(yield* Effect.flip(put)).toMatchObject({ _tag: "Unsupported", operation: "put" })
        }
        expect(yield* sizeOf(store)).toBeUndefined()
        yield* store.put(id, inPieces(1_000), { ifAbsent: true })
        yield* store.put(id, bytes(1_001))
        expect(yield* sizeOf(store)).toBe(1_001)
      })
  ))

it("a presigned URL is for the object and the method that were asked for, in whole seconds up to 7 days", () =>
  on(
    () => ({
      presign: (method, { bucket, name }, seconds) => Effect.succeed([method, bucket, name, `${seconds}`].join(" "))
    }),
    (store) =>
      Effect.gen(function* () {
        for (const [expiresIn, seconds] of [
          [undefined, 900],
          ["1 second", 1],
          ["1999 millis", 1],
          ["7 days", 604_800]
        ] as const) {
          expect(yield* store.presign.get(id, { expiresIn })).toBe(`get bucket object ${seconds}`)
          expect(yield* store.presign.put(id, { expiresIn })).toBe(`put bucket object ${seconds}`)
        }
        for (const expiresIn of ["999 millis", "604800001 millis"] as const) {
          const error = yield* Effect.flip(store.presign.get(id, { expiresIn }))
          expect(error).toMatchObject({ _tag: "InvalidInput", what: "options.expiresIn" })
        }
      })
  ))

it("deleteMany deletes eight objects at once", () => {
  let [underWay, most] = [0, 0]
  return on(
    ({ delete: deleteOne }) => ({
      delete: (id, ifMatch) =>
        Effect.acquireUseRelease(
          Effect.sync(() => {
            most = Math.max(most, ++underWay)
          }),
          () => Effect.zipRight(Effect.yieldNow(), deleteOne(id, ifMatch)),
          () => Effect.sync(() => underWay--)
        )
    }),
    (store) =>
      Effect.gen(function* () {
        const names = Array.from({ length: 30 }, (_, i) => `${i}`)
        for (const name of names) yield* store.put({ ...id, name }, bytes(1))
        expect(yield* store.deleteMany(id.bucket, names)).toBe(30)
        expect([most, underWay]).toEqual([8, 0])
      })
  )
})

it("of a port that verifies what it gives nothing is read beyond a range, and of another whole pieces", async () => {
  for (const [isVerified, expected] of [
    [true, [300_000, 100]],
    [false, [262_144, 262_144]]
  ] as const) {
    const reads: Array<readonly [offset: number, length: number]> = []
    await on(
      ({ open }) => ({
        open: (id) =>
          Effect.map(open(id), (found) => {
            if (found === null || found === "NoBucket") return found
            const read = (offset: number, length: number) => {
              reads.push([offset, length])
              return found.read(offset, length)
            }
            const { checksums } = found.object
            return {
              ...found,
              read,
              isVerified,
              object: { ...found.object, checksums: isVerified ? (checksums?.slice(0, 64) ?? null) : checksums }
            }
          })
      }),
      (store) =>
        Effect.gen(function* () {
          yield* store.put(id, bytes(700_000))
          const { body } = Option.getOrThrow(yield* store.getRange(id, { offset: 300_000, length: 100 }))
          expect(Buffer.concat([...(yield* Stream.runCollect(body))])).toEqual(Buffer.from(bytes(100)))
          expect(reads).toEqual([expected])
        })
    )
  }
})

it("an object that is moved onto itself stays, also where nothing is deleted on a condition", () =>
  on(
    ({ capabilities }) => ({ capabilities: { ...capabilities, deleteIfMatch: false } }),
    (store) =>
      Effect.gen(function* () {
        yield* store.put(id, bytes(5))
        yield* store.move(id, id, { contentType: "text/plain" })
        expect(yield* store.head(id)).toMatchObject(Option.some({ size: 5, contentType: "text/plain" }))
        const other = { ...id, name: "other" }
        yield* store.move(id, other)
        expect([yield* sizeOf(store), Option.isSome(yield* store.head(other))]).toEqual([undefined, true])
      })
  ))

it("every operation has a span of its name", () =>
  on(
    () => ({}),
    (store) =>
      Effect.gen(function* () {
        const spans = yield* traced(Effect.provideService(objects, DataStore.DataStore, store))
        const membersOf = (members: object): ReadonlyArray<string> =>
          Object.entries(members).flatMap(([name, member]) =>
            name === "buckets" || name === "presign" ? membersOf(member).map((inner) => `${name}.${inner}`) : [name]
          )
        const operations = membersOf(store).filter((name) => name !== "capabilities")
        expect(spans.map(({ name }) => name).sort()).toEqual(operations.map((name) => `DataStore.${name}`).sort())
      })
  ))
