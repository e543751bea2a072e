/**
 * What sealing promises of objects beyond the contract: streams of any pieces, constant memory, and that whatever is done
 * to what is stored, no wrong byte is ever given, and an error says which key and which object.
 */
import assert from "node:assert/strict"
import { randomBytes, randomInt } from "node:crypto"
import { Cause, Chunk, Duration, Effect, Exit, Layer, Option, Stream } from "effect"
import { CryptoService, DataStore, DataStoreEncoded } from "effect-stores"
import { DataStoreFileSystem } from "effect-stores/fs"
import { DataStoreMemory } from "effect-stores/memory"
import { describe, test } from "vitest"
import { keyBytesOf, ringOf } from "../crypto/fixtures.js"
import { temporaryDirectory } from "../support/backends.js"
import { spawnWorker } from "../support/child.js"
import { isFull } from "../support/scale.js"
import { sealed } from "./support.js"

const MiB = 2 ** 20
const segment = 65_536
const head = 266
const id = { bucket: "documents", name: "a/b.txt" }
const given = { contentType: "text/plain", metadata: { by: "me" } }

const read = (found: DataStore.StoredObject) =>
  Effect.map(Stream.runCollect(found.body), (pieces) => Buffer.concat(Chunk.toReadonlyArray(pieces)))

/** A port in memory, seen plain and sealed. */
const world = Effect.map(DataStoreMemory.makeEncoded, (port) => {
  const plain = DataStoreEncoded.make(port, { system: "memory" })
  return { port, layer: Layer.succeed(DataStore.DataStore, plain) }
})
type Port = Effect.Effect.Success<typeof world>["port"]

interface Raw {
  readonly object: DataStoreEncoded.EncodedObject
  readonly bytes: Buffer
}

/** What is stored, whatever it means. */
const take = (port: Port, where: DataStore.ObjectId): Effect.Effect<Raw> =>
  Effect.gen(function* () {
    const found = yield* port.open(where)
    assert.ok(found !== null && found !== "NoBucket")
    const pieces = yield* Stream.runCollect(found.read(0, found.object.size))
    return { object: found.object, bytes: Buffer.concat(Chunk.toReadonlyArray(pieces)) }
  }).pipe(Effect.orDie)

const store = (port: Port, { bytes, object }: Raw): Effect.Effect<unknown> => {
  const pieces: Array<Uint8Array> = []
  const { chunkBytes } = DataStoreEncoded
  for (let at = 0; at < bytes.length; at += chunkBytes) pieces.push(bytes.subarray(at, at + chunkBytes))
  const { bucket, checksums, contentType, keyId, metadata, modifiedAt, name } = object
  const fields = { bucket, name, contentType, keyId, metadata, modifiedAt, size: null, writeId: object.writeId ?? "" }
  return port
    .put({ ...fields, finish: () => ({ checksums }) }, Stream.fromIterable(pieces), { _tag: "Always" })
    .pipe(Effect.orDie)
}

/** Reads an object, and holds all that is given against what was put. */
const reading = (where: DataStore.ObjectId, expected: Buffer) =>
  Effect.gen(function* () {
    const store = yield* DataStore.DataStore
    let at = 0
    const body = Effect.flatMap(store.get(where), (found) =>
      Stream.runForEach(Option.getOrThrow(found).body, (piece) =>
        Effect.sync(() => {
          assert.ok(expected.subarray(at, at + piece.length).equals(piece), "a wrong byte")
          at += piece.length
        })
      )
    )
    const exit = yield* Effect.exit(body)
    if (Exit.isSuccess(exit)) return { tag: at === expected.length ? "whole" : "short", message: "", at }
    const error = Cause.failureOption(exit.cause)
    assert.ok(Option.isSome(error), Cause.pretty(exit.cause))
    return { tag: error.value._tag, message: error.value.message, at }
  })

const opened = (where: DataStore.ObjectId) =>
  Effect.flatMap(DataStore.DataStore, (service) =>
    Effect.flatMap(service.get(where), (found) => read(Option.getOrThrow(found)))
  )

const typed = ["Tampered", "Truncated", "WrongKey", "UnsupportedFormat", "UnknownKeyId"]

const run = <A, E>(
  plaintext: Buffer,
  program: (context: {
    readonly port: Port
    readonly raw: Raw
    /** Stores this instead, and reads it. */
    readonly tried: (
      raw: Raw,
      where?: DataStore.ObjectId
    ) => Effect.Effect<{ tag: string; message: string; at: number }>
  }) => Effect.Effect<A, E, DataStore.DataStore>
): Promise<A> =>
  Effect.gen(function* () {
    const { layer, port } = yield* world
    return yield* Effect.gen(function* () {
      const service = yield* DataStore.DataStore
      yield* service.buckets.create("documents")
      yield* service.buckets.create("others")
      yield* service.put(id, plaintext, given)
      const raw = yield* take(port, id)
      const tried = (changed: Raw, where: DataStore.ObjectId = id) =>
        Effect.provideService(
          Effect.zipRight(store(port, changed), reading(where, plaintext)),
          DataStore.DataStore,
          service
        )
      return yield* program({ port, raw, tried })
    }).pipe(Effect.provide(sealed(layer)))
  }).pipe(Effect.runPromise)

const flipped = (bytes: Buffer, bit: number): Buffer => {
  const out = Buffer.from(bytes)
  out[bit >> 3] = (out[bit >> 3] ?? 0) ^ (1 << (bit & 7))
  return out
}

describe("streams through a sealed store", () => {
  for (const size of [1, 13, 65_535, 65_536, 65_537]) {
    test(`pieces of ${size} bytes with random delays, to a slow reader`, async () => {
      const plaintext = randomBytes(size === 1 ? 70_000 : 200_000)
      const layer = sealed(DataStoreFileSystem.layer({ root: temporaryDirectory(), sync: false }))
      await Effect.gen(function* () {
        const service = yield* DataStore.DataStore
        yield* service.buckets.create("documents")
        const pieces: Array<Uint8Array> = []
        for (let at = 0; at < plaintext.length; at += size) pieces.push(plaintext.subarray(at, at + size))
        let late = 0
        const body = Stream.fromIterable(pieces).pipe(
          Stream.rechunk(1),
          Stream.mapEffect((piece) =>
            Math.random() < 20 / pieces.length && late++ < 50
              ? Effect.delay(Effect.succeed(piece), 3)
              : Effect.succeed(piece)
          )
        )
        yield* service.put(id, body)
        const found = Option.getOrThrow(yield* service.get(id))
        assert.equal(found.info.size, plaintext.length)
        const slow = { ...found, body: Stream.tap(found.body, () => Effect.sleep(Duration.millis(5))) }
        assert.ok((yield* read(slow)).equals(plaintext))
        for (let i = 0; i < 50; i++) {
          const offset = randomInt(plaintext.length)
          const length = randomInt(1, 70_000)
          const part = Option.getOrThrow(yield* service.getRange(id, { offset, length }))
          assert.ok((yield* read(part)).equals(plaintext.subarray(offset, offset + length)))
        }
      }).pipe(Effect.provide(layer), Effect.runPromise)
    })
  }

  test("a range reads the segments that it touches, and no more", async () => {
    const asked: Array<readonly [from: number, length: number]> = []
    await Effect.gen(function* () {
      const { port } = yield* world
      const watched: Port = {
        ...port,
        open: (id) =>
          Effect.map(port.open(id), (found) =>
            found === null || found === "NoBucket"
              ? found
              : {
                  ...found,
                  read: (offset, length) => {
                    asked.push([offset, length])
                    return found.read(offset, length)
                  }
                }
          )
      }
      const layer = Layer.succeed(DataStore.DataStore, DataStoreEncoded.make(watched, { system: "memory" }))
      yield* Effect.gen(function* () {
        const service = yield* DataStore.DataStore
        yield* service.buckets.create("documents")
        yield* service.put(id, randomBytes(10 * segment))
        for (const offset of [0, 65_503, 65_504, 300_000]) {
          yield* read(Option.getOrThrow(yield* service.getRange(id, { offset, length: 1 })))
        }
        yield* read(Option.getOrThrow(yield* service.getRange(id, { offset: 65_503, length: 2 })))
      }).pipe(Effect.provide(sealed(layer)))
    }).pipe(Effect.runPromise)
    const at = (n: number, count = 1) => [head + n * segment, count * segment]
    assert.deepEqual(asked, [at(0), at(0), at(1), at(4), at(0, 2)])
  })

  const mebibytes = isFull ? 2_048 : 256
  test(`${mebibytes} MiB in constant memory`, { timeout: 1_800_000 }, async () => {
    const worker = spawnWorker(new URL("../data/writer.ts", import.meta.url), {
      args: ["fs", "large", `${mebibytes * MiB}`],
      env: {
        WORKER_PLACE: temporaryDirectory(),
        WORKER_KEY: keyBytesOf("k1").toString("hex"),
        NODE_OPTIONS: "--expose-gc"
      }
    })
    const lines: Array<string> = []
    for await (const line of worker.lines) lines.push(line)
    const { code, stderr } = await worker.exited
    assert.deepEqual({ code, stderr }, { code: 0, stderr: "" })
    console.log(`sealed, ${mebibytes} MiB: ${lines[0]}`)
    const figures = JSON.parse(lines[0] ?? "{}")
    assert.equal(figures.got, mebibytes * MiB)
    assert.ok(figures.grownMiB < 150, `grown by ${figures.grownMiB} MiB`)
  })
})

describe("what somebody has done to a stored object", () => {
  test("every bit of what is beside the body is found when it flips", () =>
    run(randomBytes(1_000), ({ raw, tried }) =>
      Effect.gen(function* () {
        const [header = "", metadata = ""] = raw.object.metadata.split(".")
        const checksums = raw.object.checksums ?? ""
        const change = (what: "header" | "metadata" | "checksums", text: string): Raw => ({
          ...raw,
          object: {
            ...raw.object,
            metadata: `${what === "header" ? text : header}.${what === "metadata" ? text : metadata}`,
            checksums: what === "checksums" ? text : checksums
          }
        })
        for (const [what, text] of Object.entries({ header, metadata, checksums })) {
          const bytes = Buffer.from(text, "base64url")
          for (let bit = 0; bit < bytes.length * 8; bit++) {
            const changed = flipped(bytes, bit).toString("base64url")
            const outcome = yield* tried(change(what as "header", changed))
            assert.ok(typed.includes(outcome.tag), `${what}, bit ${bit}: ${outcome.tag}`)
            assert.equal(outcome.at, 0)
            assert.match(outcome.message, /documents\/a\/b\.txt/)
          }
          for (let length = 0; length < text.length; length += 7) {
            const outcome = yield* tried(change(what as "header", text.slice(0, length)))
            assert.ok(typed.includes(outcome.tag), `${what}, cut off at ${length}: ${outcome.tag}`)
          }
        }
      })
    ))

  test("random bits of the body are found when they flip", () =>
    run(randomBytes(MiB), ({ raw, tried }) =>
      Effect.gen(function* () {
        for (let i = 0; i < (isFull ? 10_000 : 300); i++) {
          // What stands before the segments is read from beside the body only.
          const bit = randomInt(head * 8, raw.bytes.length * 8)
          const outcome = yield* tried({ ...raw, bytes: flipped(raw.bytes, bit) })
          assert.ok(typed.includes(outcome.tag), `bit ${bit}: ${outcome.tag}`)
        }
        assert.equal((yield* tried(raw)).tag, "whole")
      })
    ))

  test("a body that is cut off, or goes on, at every boundary of a segment and around it", () =>
    run(randomBytes(5 * 65_504 + 7), ({ raw, tried }) =>
      Effect.gen(function* () {
        const boundaries = [
          0,
          1,
          192,
          head,
          ...Array.from({ length: 6 }, (_, i) => head + i * segment),
          raw.bytes.length
        ]
        for (const boundary of boundaries) {
          for (const length of [boundary - 1, boundary, boundary + 1]) {
            if (length < 0 || length >= raw.bytes.length) continue
            const outcome = yield* tried({ ...raw, bytes: raw.bytes.subarray(0, length) })
            assert.equal(outcome.tag, "Truncated", `cut off at ${length}`)
            assert.equal(outcome.at, 0)
          }
        }
        for (const more of [1, 31, 32, 33, segment]) {
          const outcome = yield* tried({
            ...raw,
            bytes: Buffer.concat([raw.bytes, raw.bytes.subarray(head, head + more)])
          })
          assert.equal(outcome.tag, "Truncated")
        }
      })
    ))

  test("segments swapped, doubled, left out, or of another object", () =>
    run(randomBytes(5 * 65_504), ({ port, raw, tried }) =>
      Effect.gen(function* () {
        const service = yield* DataStore.DataStore
        const other = { bucket: "documents", name: "other" }
        yield* service.put(other, randomBytes(5 * 65_504), given)
        const { bytes: foreign } = yield* take(port, other)
        const segmentOf = (bytes: Buffer, n: number) => bytes.subarray(head + n * segment, head + (n + 1) * segment)
        const own = [0, 1, 2, 3, 4].map((n) => segmentOf(raw.bytes, n))
        const replaced = (n: number, bytes: Buffer) => own.map((one, i) => (i === n ? bytes : one))
        const swapped = (a: number, b: number) =>
          own.map((one, i) => (i === a ? own[b] : i === b ? own[a] : one) as Buffer)
        const cases = [
          ...[0, 1, 2, 3, 4].flatMap((a) => [0, 1, 2, 3, 4].filter((b) => b > a).map((b) => swapped(a, b))),
          ...[0, 1, 2, 3].map((n) => replaced(n + 1, own[n] as Buffer)),
          ...[0, 1, 2, 3, 4].map((n) => replaced(n, segmentOf(foreign, n)))
        ]
        for (const segments of cases) {
          const outcome = yield* tried({ ...raw, bytes: Buffer.concat([raw.bytes.subarray(0, head), ...segments]) })
          assert.equal(outcome.tag, "Tampered")
        }
        for (const n of [0, 2, 4]) {
          const without = own.filter((_, i) => i !== n)
          const outcome = yield* tried({ ...raw, bytes: Buffer.concat([raw.bytes.subarray(0, head), ...without]) })
          assert.equal(outcome.tag, "Truncated")
        }
        // The whole body of the other, and everything but the body of the other.
        assert.equal((yield* tried({ ...raw, bytes: foreign })).tag, "Tampered")
      })
    ))

  test("moved to another bucket, name, write, content type or key id, or to another store, it is Tampered", () =>
    run(randomBytes(1_000), ({ raw, tried }) =>
      Effect.gen(function* () {
        const service = yield* DataStore.DataStore
        const moved: ReadonlyArray<Partial<DataStoreEncoded.EncodedObject>> = [
          { bucket: "others" },
          { name: "a/c.txt" },
          { writeId: "0198c0de-0000-7000-8000-000000000001" },
          { contentType: "text/html" },
          { keyId: "k2" }
        ]
        for (const change of moved) {
          const object = { ...raw.object, ...change }
          const outcome = yield* tried({ ...raw, object }, { bucket: object.bucket, name: object.name })
          assert.equal(outcome.tag, "Tampered", JSON.stringify(change))
          assert.match(outcome.message, new RegExp(`${object.bucket}/${object.name}.*${object.keyId}`))
          const kept = yield* Effect.flip(service.copy(object, { bucket: "others", name: "copy" }))
          assert.equal(kept._tag, "Tampered")
        }
        assert.equal((yield* tried({ ...raw, object: { ...raw.object, keyId: null } })).tag, "NotEncrypted")
        const elsewhere = yield* world
        const there = yield* Effect.gen(function* () {
          yield* elsewhere.port.createBucket("documents", {}, 0)
          yield* store(elsewhere.port, raw)
          return yield* reading(id, Buffer.alloc(0))
        }).pipe(Effect.provide(sealed(elsewhere.layer)))
        assert.equal(there.tag, "Tampered")
      })
    ))

  test("beside which something else than text stands, it is UnsupportedFormat and no defect", () =>
    run(randomBytes(1_000), ({ raw, tried }) =>
      Effect.gen(function* () {
        for (const field of ["metadata", "contentType", "writeId", "checksums", "keyId"]) {
          for (const value of [5, {}]) {
            const object = { ...raw.object, [field]: value } as DataStoreEncoded.EncodedObject
            assert.equal((yield* tried({ ...raw, object })).tag, "UnsupportedFormat", `${field}: ${String(value)}`)
          }
        }
      })
    ))

  test("is bound to the place that was asked for, whatever the backend says it has found", () =>
    run(randomBytes(1_000), ({ port, raw }) =>
      Effect.gen(function* () {
        const lying = Layer.succeed(
          DataStore.DataStore,
          DataStoreEncoded.make({ ...port, open: () => port.open(id) }, { system: "memory" })
        )
        yield* store(port, raw)
        const outcome = yield* Effect.provide(reading({ ...id, name: "another" }, Buffer.alloc(0)), sealed(lying))
        assert.equal(outcome.tag, "Tampered")
      })
    ))

  test("what is beside one version is not taken for another's", () =>
    run(randomBytes(1_000), ({ port, raw, tried }) =>
      Effect.gen(function* () {
        const service = yield* DataStore.DataStore
        yield* service.put(id, randomBytes(1_000), given)
        const newer = yield* take(port, id)
        const [header = ""] = newer.object.metadata.split(".")
        const [, metadata = ""] = raw.object.metadata.split(".")
        const mixed: ReadonlyArray<Raw> = [
          { object: newer.object, bytes: raw.bytes },
          { object: raw.object, bytes: newer.bytes },
          { ...raw, object: { ...raw.object, checksums: newer.object.checksums } },
          { ...newer, object: { ...newer.object, metadata: `${header}.${metadata}` } },
          { ...newer, object: { ...newer.object, metadata: raw.object.metadata } }
        ]
        for (const one of mixed) assert.equal((yield* tried(one)).tag, "Tampered")
      })
    ))
})

describe("copies of sealed objects", () => {
  test("take the primary key, and leave the body as it is", () =>
    Effect.gen(function* () {
      const { layer, port } = yield* world
      const plaintext = randomBytes(200_000)
      const on = (...keys: readonly [string, ...Array<string>]) =>
        Effect.provide(layer.pipe(CryptoService.seal, Layer.provide(CryptoService.layer(ringOf(...keys)))))
      yield* Effect.gen(function* () {
        const service = yield* DataStore.DataStore
        yield* service.buckets.create("documents")
        yield* service.put(id, plaintext, given)
      }).pipe(on("k1"))
      const to = { bucket: "documents", name: "copy" }
      yield* Effect.flatMap(DataStore.DataStore, (service) => service.copy(id, to, { metadata: { by: "you" } })).pipe(
        on("k2", "k1")
      )
      const [before, after] = [yield* take(port, id), yield* take(port, to)]
      assert.deepEqual([before.object.keyId, after.object.keyId], ["k1", "k2"])
      assert.ok(before.bytes.equals(after.bytes))
      // No byte of the body is of a key: what a copy takes along needs the old key no more.
      const { bytes } = before
      assert.deepEqual(
        [bytes[10], bytes.subarray(12, 20).some(Boolean), bytes.subarray(36, 192).some(Boolean)],
        [4, false, false]
      )
      const found = yield* Effect.flatMap(DataStore.DataStore, (service) =>
        Effect.flatMap(service.get(to), (found) =>
          Effect.map(read(Option.getOrThrow(found)), (bytes) => ({ bytes, info: Option.getOrThrow(found).info }))
        )
      ).pipe(on("k2"))
      assert.ok(found.bytes.equals(plaintext))
      assert.deepEqual(found.info.metadata, { by: "you" })
    }).pipe(Effect.runPromise))

  test("of a body that begins with a key header, as bodies once did, are read like all others", () =>
    run(randomBytes(100_000), ({ port, raw, tried }) =>
      Effect.gen(function* () {
        const [head = ""] = raw.object.metadata.split(".")
        const bytes = Buffer.concat([Buffer.from(head, "base64url"), raw.bytes.subarray(266)])
        assert.equal((yield* tried({ ...raw, bytes })).tag, "whole")
        const service = yield* DataStore.DataStore
        yield* service.copy(id, { ...id, name: "copy" })
        assert.ok((yield* take(port, { ...id, name: "copy" })).bytes.equals(bytes))
        assert.equal((yield* reading({ ...id, name: "copy" }, yield* opened(id))).tag, "whole")
      })
    ))

  test("of what was plain are sealed, and on the way back plain", () =>
    Effect.gen(function* () {
      const { layer, port } = yield* world
      const plaintext = randomBytes(400_000)
      const copy = { bucket: "documents", name: "copy" }
      const back = { bucket: "documents", name: "back" }
      const policy = (policy: CryptoService.Policy) =>
        Effect.provide(layer.pipe(CryptoService.seal, Layer.provide(CryptoService.layer({ ...ringOf("k1"), policy }))))
      yield* Effect.gen(function* () {
        const service = yield* DataStore.DataStore
        yield* service.buckets.create("documents")
        yield* service.put(id, plaintext, given)
      }).pipe(Effect.provide(layer))
      const copied = (from: DataStore.ObjectId, to: DataStore.ObjectId) =>
        Effect.flatMap(DataStore.DataStore, (service) => service.copy(from, to))
      assert.equal((yield* Effect.flip(policy("RequireEncrypt")(copied(id, copy))))._tag, "NotEncrypted")
      yield* policy("EncryptAllowPlaintext")(copied(id, copy))
      assert.equal((yield* take(port, copy)).object.keyId, "k1")
      yield* policy("ForbidEncryptAllowDecrypt")(copied(copy, back))
      const readAt = (where: DataStore.ObjectId) =>
        Effect.flatMap(DataStore.DataStore, (service) =>
          Effect.flatMap(service.get(where), (found) => read(Option.getOrThrow(found)))
        )
      assert.ok((yield* policy("RequireEncrypt")(readAt(copy))).equals(plaintext))
      assert.ok((yield* Effect.provide(readAt(back), layer)).equals(plaintext))
    }).pipe(Effect.runPromise))
})
