/**
 * What is done to the bytes of objects on their way: grouped into pieces of one size, summed up when they are written,
 * and held against their checksums when they are read.
 */
import * as Chunk from "effect/Chunk"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import type { BodyError } from "../DataStore.js"
import { ObjectCorrupt } from "../DataStore.js"
import { InvalidInput } from "../Errors.js"
import { describe, refuse } from "../internal/validate.js"
import { chunkBytes, parse, Regrouping, type Summing } from "./checksums.js"
import type { OpenObject } from "./DataStoreEncoded.js"

/** The body as a Stream. Throws for what is neither that nor bytes. */
export const bodyOf = <E, R>(body: Uint8Array | Stream.Stream<Uint8Array, E, R>): Stream.Stream<Uint8Array, E, R> =>
  body instanceof Uint8Array
    ? Stream.make(body)
    : typeof body === "object" && body !== null && Stream.StreamTypeId in body
      ? body
      : refuse("body", `must be a Uint8Array or a Stream, not ${describe(body)}`)

/** In pieces of `chunkBytes`, all but the last exactly; `use` sees each, and fails the Stream by what it returns. */
const regrouped = <E, R, E2 extends { readonly _tag: string }>(
  self: Stream.Stream<Uint8Array, E, R>,
  use: (piece: Uint8Array) => Uint8Array | E2,
  end: () => E2 | undefined
): Stream.Stream<Uint8Array, E | E2 | InvalidInput, R> =>
  Stream.suspend(() => {
    const regrouping = new Regrouping()
    const pieces = (bytes: Chunk.Chunk<Uint8Array>): Effect.Effect<Chunk.Chunk<Uint8Array>, E2 | InvalidInput> => {
      const out: Array<Uint8Array> = []
      for (const each of bytes) {
        if (!(each instanceof Uint8Array)) {
          const why = `must be a Stream of Uint8Array, not of ${describe(each)}`
          return Effect.fail(new InvalidInput({ what: "body", why }))
        }
        for (const piece of regrouping.push(each)) {
          const used = use(piece)
          if (!(used instanceof Uint8Array)) return Effect.fail(used)
          out.push(used)
        }
      }
      return Effect.succeed(Chunk.unsafeFromArray(out))
    }
    const last = Stream.suspend((): Stream.Stream<Uint8Array, E2> => {
      const rest = regrouping.rest()
      const used = rest === undefined ? [] : use(rest)
      if (!(used instanceof Uint8Array) && !Array.isArray(used)) return Stream.fail(used)
      const failure = end()
      return failure !== undefined ? Stream.fail(failure) : Stream.fromIterable([used].flat())
    })
    return Stream.concat(Stream.mapChunksEffect(self, pieces), last)
  })

/** A body to write that is at hand, of one piece or none. */
export const summedWhole = (bytes: Uint8Array, summing: Summing): Stream.Stream<Uint8Array> =>
  Stream.suspend(() => {
    if (bytes.byteLength === 0) return Stream.empty
    summing.add(bytes)
    return Stream.succeed(bytes)
  })

/** A body to write. Fails when it has more bytes than `sizeMax`, or another number than `size`. */
export const summed = <E, R, E2 extends { readonly _tag: string }>(
  self: Stream.Stream<Uint8Array, E, R>,
  summing: Summing,
  size: number | null,
  sizeMax: number,
  tooLarge: () => E2
): Stream.Stream<Uint8Array, E | E2 | InvalidInput, R> => {
  const wrongSize = (why: string) => new InvalidInput({ what: "options.size", why })
  return regrouped<E, R, E2 | InvalidInput>(
    self,
    (piece) => {
      summing.add(piece)
      if (size !== null && summing.size > size) return wrongSize(`is ${size}, and the body has more bytes`)
      return summing.size > sizeMax ? tooLarge() : piece
    },
    () =>
      size !== null && summing.size < size ? wrongSize(`is ${size}, and the body has ${summing.size} bytes`) : undefined
  )
}

/**
 * The bytes of a range, of which the backend reads whole pieces: each is verified before it is given. Fails with
 * `ObjectCorrupt` where they do not fit their checksums. For layers that wrap a port and read a body themselves.
 *
 * @since 0.1.0
 * @category bodies
 */
export const verified = (
  { isVerified: isVerifiedByPort = false, object, read }: OpenObject,
  offset: number,
  length: number
): Stream.Stream<Uint8Array, BodyError> => {
  const { bucket, name, size } = object
  const corrupt = (why: string) => new ObjectCorrupt({ bucket, name, why })
  const from = Math.min(offset, size)
  const to = Math.min(size, from + length)
  if (from === to) return Stream.empty
  const sums = object.checksums === null ? null : parse(object.checksums, size, isVerifiedByPort)
  if (sums === undefined) return Stream.fail(corrupt("has checksums of a body of another size"))
  const fits = sums?.fits ?? null
  // What the port has verified is not read beyond the range.
  const isVerified = sums !== null && fits === null
  const start = isVerified ? from : from - (from % chunkBytes)
  const end = isVerified ? to : Math.min(size, Math.ceil(to / chunkBytes) * chunkBytes)
  const { inline } = read
  if (inline !== undefined && inline.byteLength === size && size <= chunkBytes) {
    return Stream.suspend(() => {
      // A copy, which is the reader's.
      const bytes = Uint8Array.prototype.slice.call(inline)
      return fits === null || fits(0, bytes)
        ? Stream.succeed(bytes.subarray(from, to))
        : Stream.fail(corrupt(`is not what was put: bytes 0 to ${size - 1} do not fit their checksum`))
    })
  }
  return Stream.suspend(() => {
    let at = start
    const body = regrouped<BodyError, never, ObjectCorrupt>(
      read(start, end - start),
      (piece) => {
        const first = at
        at += piece.byteLength
        if (at > end) return corrupt("has more bytes than it should")
        if (fits !== null && !fits(first / chunkBytes, piece)) {
          return corrupt(`is not what was put: bytes ${first} to ${at - 1} do not fit their checksum`)
        }
        return piece.subarray(Math.max(0, from - first), Math.min(at, to) - first)
      },
      () => (at < end ? corrupt(`ends after ${at} of ${size} bytes`) : undefined)
    )
    // Pieces of a port are bytes.
    return Stream.catchTag(body, "InvalidInput", ({ message }) => Stream.fail(corrupt(message)))
  })
}
