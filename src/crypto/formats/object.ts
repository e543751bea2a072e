/**
 * The format O1 of an object, as in docs/formats.md: a key header of 192 bytes, in which the object's own random key is
 * wrapped and bound to the object's place, and a FLOE body under that key. Whoever copies, moves or rotates makes a new
 * key header and leaves the body. Nothing here knows of a store.
 */
import { createHash, timingSafeEqual } from "node:crypto"
import * as Chunk from "effect/Chunk"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import { type CryptoError, Tampered, Truncated, UnsupportedFormat, WrongKey } from "../../CryptoError.js"
import { idOf, isSubjectId, type Key, keyBytes, keyIdBytes } from "../keys/key.js"
import { turn } from "../sealer.js"
import type { FindKey } from "./envelope.js"
import * as floe from "./floe.js"
import * as nonces from "./nonces.js"
import { expandBlock, gcmOpen, gcmSeal, gcmTagBytes } from "./primitives.js"

/** As in PNG: what a transfer as text would break, and no UTF-8. */
const magic = Buffer.from([0x89, 0x46, 0x53, 0x4f, 0x31, 0x0d, 0x0a, 0x1a])
const formatVersion = 1
const suite = 1
const flagSubject = 2
const flagKeyless = 4

export const objectIdBytes = 16
const keyIdAt = 12
const objectIdAt = keyIdAt + keyIdBytes
const nonceAt = objectIdAt + objectIdBytes
const commitmentAt = nonceAt + 24
const wrappedAt = commitmentAt + 32
const tagAt = wrappedAt + keyBytes
const paddingAt = tagAt + gcmTagBytes
/** Of the key header. */
export const headerBytes = 192
/** What stands before the first segment: a header of the object and the header of the body. */
export const headBytes = headerBytes + floe.headerBytes

export const parameters: floe.Parameters = { segmentBytes: 65_536 }

const plainPerSegment = floe.plainLength(parameters, parameters.segmentBytes) as number

const label = Buffer.from("effect-stores O1")
const bodyLabel = Buffer.from("effect-stores O1 body")
const padding = Buffer.alloc(headerBytes - paddingAt)

/** An object's own key, and the id that ties its body to its header. */
export interface ObjectKey {
  readonly id: Buffer
  readonly key: Buffer
}

export const newObjectKey = (): ObjectKey => ({ id: nonces.fresh(objectIdBytes), key: nonces.fresh(keyBytes) })

const derive = (key: Key, head: Uint8Array): Buffer => expandBlock("sha512", key.secret, [label, head])

/** The object's key, wrapped for its place. Only for known answers a nonce is given. */
export const wrap = (key: Key, context: Uint8Array, object: ObjectKey, nonce?: Uint8Array): Buffer => {
  const out = Buffer.alloc(headerBytes)
  magic.copy(out)
  out[8] = formatVersion
  out[9] = suite
  out[10] = isSubjectId(key.id) ? flagSubject : 0
  key.idBytes.copy(out, keyIdAt)
  object.id.copy(out, objectIdAt)
  if (nonce === undefined) nonces.fill(out, nonceAt, 24)
  else out.set(nonce, nonceAt)
  const derived = derive(key, out.subarray(0, commitmentAt))
  derived.copy(out, commitmentAt, 32)
  const iv = out.subarray(nonceAt + 12, commitmentAt)
  gcmSeal(derived.subarray(0, 32), iv, [out.subarray(0, wrappedAt), context], object.key, out, wrappedAt)
  derived.fill(0)
  return out
}

/**
 * The header that stands before a body whose key header is kept beside it: no key, and zeros in its place. So a key
 * that has sealed nothing any more can open nothing any more, whoever keeps the bytes of the body.
 */
export const keyless = (object: Pick<ObjectKey, "id">): Buffer => {
  const out = Buffer.alloc(headerBytes)
  magic.copy(out)
  out[8] = formatVersion
  out[9] = suite
  out[10] = flagKeyless
  object.id.copy(out, objectIdAt)
  return out
}

/** Which key a header says that it has. */
export const keyIdOf = (header: Buffer, place: () => string): string | CryptoError => {
  const unsupported = (why: string) => new UnsupportedFormat({ place: place(), why })
  if (header.length < headerBytes) return new Truncated({ place: place() })
  if (!header.subarray(0, magic.length).equals(magic)) return unsupported("is no sealed object")
  if (header[8] !== formatVersion || header[9] !== suite)
    return unsupported(`has the format ${header[8]}, suite ${header[9]}, which this version does not know`)
  const flags = header[10] as number
  if ((flags & ~flagSubject) !== 0 || header[11] !== 0 || !header.subarray(paddingAt, headerBytes).equals(padding))
    return unsupported("has flags which this version does not know")
  return idOf(header.subarray(keyIdAt, objectIdAt), flags === flagSubject) ?? unsupported("has the id of no key")
}

/** The object's key, out of a header that was made for this place. */
export const unwrap = (
  find: FindKey,
  context: Uint8Array,
  header: Buffer,
  place: () => string
): ObjectKey | CryptoError => {
  const keyId = keyIdOf(header, place)
  if (typeof keyId !== "string") return keyId
  const key = find(keyId, place)
  if ("_tag" in key) return key
  const derived = derive(key, header.subarray(0, commitmentAt))
  if (!timingSafeEqual(derived.subarray(32), header.subarray(commitmentAt, wrappedAt)))
    return new WrongKey({ keyId, place: place() })
  const unwrapped = gcmOpen(
    derived.subarray(0, 32),
    header.subarray(nonceAt + 12, commitmentAt),
    [header.subarray(0, wrappedAt), context],
    header.subarray(wrappedAt, tagAt),
    header.subarray(tagAt, paddingAt)
  )
  derived.fill(0)
  if (unwrapped === undefined) return new Tampered({ keyId, place: place() })
  return { id: Buffer.from(header.subarray(objectIdAt, nonceAt)), key: unwrapped }
}

export const bodyAad = (object: ObjectKey): Buffer => Buffer.concat([bodyLabel, object.id])

/** Of a whole object, its head included; undefined when no plaintext gives so many. */
export const plainLength = (bytes: number): number | undefined => floe.plainLength(parameters, bytes - headBytes)

/** The longest plaintext whose object has at most so many bytes. */
export const plainLengthMax = (bytes: number): number => {
  const body = Math.max(0, bytes - headBytes)
  const rest = plainLength(headBytes + (body % parameters.segmentBytes))
  return Math.floor(body / parameters.segmentBytes) * plainPerSegment + (rest ?? 0)
}

export const sealedLength = (plainBytes: number): number => headBytes + floe.sealedLength(parameters, plainBytes)

/** How much goes through between two turns of the event loop, a millisecond or less. */
const bytesUnbroken = 1024 * 1024
const pieceBytes = 4 * parameters.segmentBytes
/** What a step costs that has few bytes, in bytes. */
const stepBytes = 16 * 1024

// Of all streams together, since they share the loop: many small ones must not keep a large one from its turn.
let unbroken = 0

/** A large piece would be encrypted in one go. */
const pieces = function* (bytes: Uint8Array): Generator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += pieceBytes) yield bytes.subarray(at, at + pieceBytes)
}

/** Puts every piece through `step`, one at a time, and what `end` gives behind the last. Holds one segment. */
const through = <E, R>(
  source: Stream.Stream<Uint8Array, E, R>,
  step: (piece: Uint8Array) => ReadonlyArray<Uint8Array> | CryptoError,
  end: () => ReadonlyArray<Uint8Array> | CryptoError
): Stream.Stream<Uint8Array, E | CryptoError, R> => {
  const given = (result: ReadonlyArray<Uint8Array> | CryptoError) =>
    "_tag" in result ? Effect.fail(result) : Effect.succeed(Chunk.unsafeFromArray(result))
  return source.pipe(
    Stream.mapConcat(pieces),
    Stream.rechunk(1),
    Stream.mapEffect((piece) => {
      const result = given(step(piece))
      unbroken += piece.length + stepBytes
      if (unbroken < bytesUnbroken) return result
      unbroken = 0
      return Effect.zipRight(turn, result)
    }),
    Stream.flattenChunks,
    Stream.concat(Stream.fromIterableEffect(Effect.suspend(() => given(end()))))
  )
}

/** A body to come: its header, and its segments, which may be asked for again, since each has a nonce of its own. */
export interface Body {
  readonly header: Buffer
  readonly segments: <E, R>(source: Stream.Stream<Uint8Array, E, R>) => Stream.Stream<Uint8Array, E | CryptoError, R>
}

export const beginBody = (object: ObjectKey): Body => {
  const message = floe.Message.begin(object.key, bodyAad(object), parameters)
  return {
    header: message.header,
    segments: (source) =>
      Stream.suspend(() => {
        const sealer = new floe.Sealer(message)
        return through(
          source,
          (piece) => sealer.push(piece),
          () => [sealer.end()]
        )
      })
  }
}

/** The body of an object, its header first. The message of it is a new one for every run of the stream. */
export const sealBody = <E, R>(
  object: ObjectKey,
  source: Stream.Stream<Uint8Array, E, R>
): Stream.Stream<Uint8Array, E | CryptoError, R> =>
  Stream.suspend(() => {
    const { header, segments } = beginBody(object)
    return Stream.concat(Stream.make<[Uint8Array]>(header), segments(source))
  })

const flawed = (flaw: floe.Flaw, keyId: string, place: () => string): CryptoError =>
  flaw === "truncated" || flaw === "trailing"
    ? new Truncated({ place: place() })
    : new Tampered({ keyId, place: place() })

/** What a body is opened with: the object's key, its header's key id, and the header of the body. */
export interface Opening {
  readonly object: ObjectKey
  readonly keyId: string
  readonly bodyHeader: Uint8Array
  readonly place: () => string
}

const resumed = ({ bodyHeader, keyId, object, place }: Opening): floe.Message | CryptoError =>
  bodyHeader.length < floe.headerBytes
    ? new Truncated({ place: place() })
    : (floe.Message.resume(object.key, bodyAad(object), parameters, bodyHeader) ??
      new Tampered({ keyId, place: place() }))

/**
 * The plaintext of a body, `source` being what stands behind its header. A segment is given out when it has been
 * authenticated; only the end of the stream says that nothing is missing.
 */
export const openBody = <E, R>(
  opening: Opening,
  source: Stream.Stream<Uint8Array, E, R>
): Stream.Stream<Uint8Array, E | CryptoError, R> =>
  Stream.suspend(() => {
    const message = resumed(opening)
    if ("_tag" in message) return Stream.fail(message)
    const opener = new floe.Opener(message)
    const { keyId, place } = opening
    return through(
      source,
      (piece) => {
        const result = opener.push(piece)
        return typeof result === "string" ? flawed(result, keyId, place) : result
      },
      () => {
        const flaw = opener.end()
        return flaw === undefined ? [] : flawed(flaw, keyId, place)
      }
    )
  })

/** Passes segments on while they open, and fails at their end unless they are what `sha256` is the checksum of. */
export const proving = <E, R>(
  opening: Opening,
  source: Stream.Stream<Uint8Array, E, R>,
  sha256: () => string
): Stream.Stream<Uint8Array, E | CryptoError, R> =>
  Stream.suspend(() => {
    const message = resumed(opening)
    if ("_tag" in message) return Stream.fail(message)
    const opener = new floe.Opener(message)
    const hash = createHash("sha256")
    const { keyId, place } = opening
    return through(
      source,
      (piece) => {
        const result = opener.push(piece)
        if (typeof result === "string") return flawed(result, keyId, place)
        for (const plaintext of result) hash.update(plaintext)
        return [piece]
      },
      () => {
        const flaw = opener.end()
        if (flaw !== undefined) return flawed(flaw, keyId, place)
        return hash.digest("hex") === sha256() ? [] : new Tampered({ keyId, place: place() })
      }
    )
  })

/** Where in the object the segments are that hold this range of the plaintext, and what of them is the range. */
export interface SealedRange {
  /** In the object, the head included. */
  readonly from: number
  readonly to: number
  readonly segment: number
  /** Of the first segment's plaintext. */
  readonly skip: number
  readonly length: number
}

/** For `0 <= offset`, `0 < length`, `offset + length <= plainBytes` of an object with `bytes` bytes. */
export const rangeOf = (offset: number, length: number, bytes: number): SealedRange => {
  const segment = Math.floor(offset / plainPerSegment)
  const last = Math.floor((offset + length - 1) / plainPerSegment)
  return {
    from: headBytes + segment * parameters.segmentBytes,
    to: Math.min(bytes, headBytes + (last + 1) * parameters.segmentBytes),
    segment,
    skip: offset - segment * plainPerSegment,
    length
  }
}

/**
 * The plaintext of a range, `source` being the segments that `rangeOf` names. What comes is authentic and in its
 * place.
 */
export const openRange = <E, R>(
  opening: Opening,
  range: SealedRange,
  source: Stream.Stream<Uint8Array, E, R>
): Stream.Stream<Uint8Array, E | CryptoError, R> =>
  Stream.suspend(() => {
    const message = resumed(opening)
    if ("_tag" in message) return Stream.fail(message)
    const opener = new floe.Opener(message, range.segment)
    const { keyId, place } = opening
    let { length, skip } = range
    return through(
      source,
      (piece) => {
        const result = opener.push(piece)
        if (typeof result === "string") return flawed(result, keyId, place)
        const out: Array<Uint8Array> = []
        for (const plaintext of result) {
          const part = plaintext.subarray(skip, skip + length)
          skip = Math.max(0, skip - plaintext.length)
          length -= part.length
          if (part.length > 0) out.push(part)
        }
        return out
      },
      () => (length > 0 ? new Truncated({ place: place() }) : [])
    )
  })
