/**
 * Sealed objects (O1): streams of any pieces give the same bytes, ranges are what they say, and whatever is done to a
 * sealed object, what comes out is a beginning of the plaintext and then an error, or no byte at all.
 */
import assert from "node:assert/strict"
import { randomBytes } from "node:crypto"
import { Chunk, Duration, Effect, Either, Stream } from "effect"
import { describe, test } from "vitest"
import type { CryptoError } from "../../src/CryptoError.js"
import { type Context, encode } from "../../src/crypto/formats/context.js"
import * as object from "../../src/crypto/formats/object.js"
import { isFull } from "../support/scale.js"
import { contexts, finding, keyOf } from "./fixtures.js"

const key = keyOf("k1")
const find = finding(key)
const place = () => "the object"
const context = encode(contexts.object as Context)
const segment = object.parameters.segmentBytes
const plainSegment = segment - 32

const join = (chunks: Chunk.Chunk<Uint8Array>): Buffer => Buffer.concat(Chunk.toReadonlyArray(chunks))

const piecesOf = (bytes: Uint8Array, size: number): ReadonlyArray<Uint8Array> => {
  const out: Array<Uint8Array> = []
  for (let at = 0; at < bytes.length; at += size) out.push(bytes.subarray(at, at + size))
  return out
}

const sealed = async (plaintext: Uint8Array, size = 100_000): Promise<Buffer> => {
  const own = object.newObjectKey()
  const body = object.sealBody(own, Stream.fromIterable(piecesOf(plaintext, size)))
  return Buffer.concat([object.wrap(key, context, own), join(await Effect.runPromise(Stream.runCollect(body)))])
}

interface Outcome {
  readonly bytes: Buffer
  readonly error: CryptoError | undefined
}

/** All that came out, and the error after it. */
const opened = async (bytes: Buffer, size = 100_000, where: Uint8Array = context): Promise<Outcome> => {
  const own = object.unwrap(find, where, bytes, place)
  if ("_tag" in own) return { bytes: Buffer.alloc(0), error: own }
  const opening = { object: own, keyId: "k1", bodyHeader: bytes.subarray(object.headerBytes, object.headBytes), place }
  const out: Array<Uint8Array> = []
  const stream = object.openBody(opening, Stream.fromIterable(piecesOf(bytes.subarray(object.headBytes), size)))
  const result = await Effect.runPromise(
    Effect.either(Stream.runForEach(stream, (piece) => Effect.sync(() => out.push(Uint8Array.from(piece)))))
  )
  return { bytes: Buffer.concat(out), error: Either.isLeft(result) ? result.left : undefined }
}

const lengths = [0, 1, plainSegment - 1, plainSegment, plainSegment + 1, 3 * plainSegment, 3 * plainSegment + 17]

describe("a sealed object", () => {
  for (const length of lengths) {
    test(`of ${length} bytes opens as it was, in pieces of any size, and its length is known from outside`, async () => {
      const plaintext = randomBytes(length)
      for (const size of [13, 65_535, 65_536, 65_537]) {
        const bytes = await sealed(plaintext, size)
        assert.equal(bytes.length, object.sealedLength(length))
        assert.equal(object.plainLength(bytes.length), length)
        const outcome = await opened(bytes, size)
        assert.equal(outcome.error, undefined)
        assert.ok(outcome.bytes.equals(plaintext))
      }
    })
  }

  test("goes through byte by byte, with pauses, to a slow reader", async () => {
    const plaintext = randomBytes(plainSegment + 5)
    const bytes = await sealed(plaintext, 1)
    assert.ok((await opened(bytes, 1)).bytes.equals(plaintext))
    const slow = piecesOf(bytes.subarray(object.headBytes), 9_999)
    const own = object.unwrap(find, context, bytes, place)
    assert.ok(!("_tag" in own))
    const opening = {
      object: own,
      keyId: "k1",
      bodyHeader: bytes.subarray(object.headerBytes, object.headBytes),
      place
    }
    const pause = Effect.sleep(Duration.millis(1))
    const stream = object
      .openBody(
        opening,
        Stream.mapEffect(Stream.fromIterable(slow), (piece) => Effect.as(pause, piece))
      )
      .pipe(Stream.tap(() => pause))
    assert.ok(join(await Effect.runPromise(Stream.runCollect(stream))).equals(plaintext))
  })

  test("gives any range of itself", async () => {
    const plaintext = randomBytes(3 * plainSegment + 100)
    const bytes = await sealed(plaintext)
    const own = object.unwrap(find, context, bytes, place)
    assert.ok(!("_tag" in own))
    const opening = {
      object: own,
      keyId: "k1",
      bodyHeader: bytes.subarray(object.headerBytes, object.headBytes),
      place
    }
    const edges = [0, 1, plainSegment - 1, plainSegment, plainSegment + 1, 2 * plainSegment, plaintext.length - 1]
    const random = Array.from({ length: 40 }, () => Math.floor(Math.random() * plaintext.length))
    for (const from of [...edges, ...random]) {
      for (const wanted of [1, 100, plainSegment, plaintext.length]) {
        const length = Math.min(wanted, plaintext.length - from)
        const range = object.rangeOf(from, length, bytes.length)
        assert.ok(range.to - range.from <= length + 2 * segment)
        const source = Stream.fromIterable(piecesOf(bytes.subarray(range.from, range.to), 50_000))
        const part = join(await Effect.runPromise(Stream.runCollect(object.openRange(opening, range, source))))
        assert.ok(part.equals(plaintext.subarray(from, from + length)), `${from} + ${length}`)
      }
    }
    // A range that ends before its end is not whole.
    const range = object.rangeOf(10, 2 * plainSegment, bytes.length)
    const short = Stream.make(bytes.subarray(range.from, range.to - 70_000))
    const result = await Effect.runPromise(Effect.flip(Stream.runDrain(object.openRange(opening, range, short))))
    assert.equal(result._tag, "Truncated")
    // Segments of another place are not those of this one.
    const elsewhere = Stream.make(bytes.subarray(range.from + segment, range.to + segment))
    const moved = await Effect.runPromise(Effect.flip(Stream.runDrain(object.openRange(opening, range, elsewhere))))
    assert.equal(moved._tag, "Tampered")
  })

  test("is moved by a new header alone, and then opens at the new place only", async () => {
    const plaintext = randomBytes(200_000)
    const bytes = await sealed(plaintext)
    const own = object.unwrap(find, context, bytes, place)
    assert.ok(!("_tag" in own))
    const elsewhere = encode({ ...(contexts.object as Context), key: "another key" })
    const moved = Buffer.concat([object.wrap(key, elsewhere, own), bytes.subarray(object.headerBytes)])
    assert.ok((await opened(moved, 100_000, elsewhere)).bytes.equals(plaintext))
    assert.equal((await opened(moved)).error?._tag, "Tampered")
  })
})

/** Never a byte that was not sealed there, and never an end that is none. */
const isSafe = ({ bytes, error }: Outcome, plaintext: Buffer, what: string): void => {
  assert.ok(error !== undefined, `${what}: opened`)
  assert.ok(bytes.equals(plaintext.subarray(0, bytes.length)), `${what}: other bytes came out`)
  assert.ok(["Tampered", "Truncated", "UnsupportedFormat", "UnknownKeyId", "WrongKey"].includes(error._tag), what)
  assert.ok(error.message.includes("the object"), what)
}

describe("a sealed object that was changed", () => {
  const plaintext = randomBytes(1024 * 1024)

  test("in any bit of its head", async () => {
    const small = randomBytes(100)
    const bytes = await sealed(small)
    for (let bit = 0; bit < object.headBytes * 8; bit++) {
      const flipped = Buffer.from(bytes)
      flipped[bit >> 3] = (flipped[bit >> 3] as number) ^ (1 << (bit & 7))
      isSafe(await opened(flipped), small, `bit ${bit}`)
    }
  })

  test("in one bit of 1 MiB, at random", async () => {
    const bytes = await sealed(plaintext)
    for (let i = 0; i < (isFull ? 10_000 : 300); i++) {
      const bit = Math.floor(Math.random() * bytes.length * 8)
      const at = bit >> 3
      bytes[at] = (bytes[at] as number) ^ (1 << (bit & 7))
      isSafe(await opened(bytes, 2 ** 20), plaintext, `bit ${bit}`)
      bytes[at] = (bytes[at] as number) ^ (1 << (bit & 7))
    }
    assert.equal((await opened(bytes)).error, undefined)
  })

  test("by cutting it off", async () => {
    const bytes = await sealed(plaintext)
    const ends = new Set<number>()
    for (let at = object.headBytes; at < bytes.length; at += segment)
      for (const end of [at - 1, at, at + 1, at + 4, at + 31, at + 32]) ends.add(end)
    for (let i = 0; i < (isFull ? 1000 : 50); i++) ends.add(Math.floor(Math.random() * bytes.length))
    for (const end of [0, 1, 191, 192, 193, 265, bytes.length - 1]) ends.add(end)
    for (const end of ends) {
      const outcome = await opened(bytes.subarray(0, end), 2 ** 20)
      isSafe(outcome, plaintext, `${end} bytes`)
      assert.equal(outcome.error?._tag, "Truncated", `${end} bytes`)
    }
  })

  test("by swapping, doubling, leaving out, adding and splicing segments", async () => {
    const bytes = await sealed(plaintext)
    const other = await sealed(plaintext)
    const head = bytes.subarray(0, object.headBytes)
    const segments = piecesOf(bytes.subarray(object.headBytes), segment) as Array<Buffer>
    const foreign = piecesOf(other.subarray(object.headBytes), segment) as Array<Buffer>
    const count = segments.length
    const last = segments[count - 1] as Buffer
    const cases: ReadonlyArray<readonly [what: string, changed: ReadonlyArray<Buffer>]> = [
      ["two swapped", segments.map((one, i) => segments[i === 3 ? 4 : i === 4 ? 3 : i] ?? one)],
      ["one doubled", segments.flatMap((one, i) => (i === 5 ? [one, one] : [one]))],
      ["one left out", segments.filter((_, i) => i !== 2)],
      ["the first left out", segments.slice(1)],
      ["the last left out", segments.slice(0, -1)],
      ["the last doubled", [...segments, last]],
      ["the last in front", [last, ...segments]],
      ["a last one in the middle", [...segments.slice(0, 4), last]],
      [
        "one of another object with the same key and plaintext",
        segments.map((one, i) => (i === 6 ? (foreign[6] ?? one) : one))
      ],
      ["bytes behind the end", [...segments, Buffer.from("more")]],
      ["zeros behind the end", [...segments, Buffer.alloc(segment)]],
      [
        "the marker of the last taken off",
        [...segments.slice(0, -1), Buffer.concat([Buffer.alloc(4, 0xff), last.subarray(4)])]
      ],
      [
        "a short length",
        [Buffer.concat([Buffer.of(0, 0, 0, 3), (segments[0] as Buffer).subarray(4)]), ...segments.slice(1)]
      ],
      [
        "a length beyond the segment",
        [Buffer.concat([Buffer.of(0, 1, 0, 1), (segments[0] as Buffer).subarray(4)]), ...segments.slice(1)]
      ]
    ]
    for (const [what, changed] of cases)
      isSafe(await opened(Buffer.concat([head, ...changed]), 2 ** 20), plaintext, what)
    const spliced = Buffer.concat([bytes.subarray(0, object.headerBytes), other.subarray(object.headerBytes)])
    isSafe(await opened(spliced, 2 ** 20), plaintext, "the body of another object")
  })

  test("by emptying it: an object without a byte is not whole, one of no bytes is", async () => {
    assert.equal((await opened(Buffer.alloc(0))).error?._tag, "Truncated")
    const empty = await sealed(Buffer.alloc(0))
    assert.equal(empty.length, 298)
    assert.deepEqual(await opened(empty), { bytes: Buffer.alloc(0), error: undefined })
  })
})
