/**
 * The envelope R1 of a record, as in docs/formats.md: derived key and commitment by HMAC-SHA-512, then AES-256-GCM.
 * Each derived key encrypts one message. Synchronous, because anything asynchronous costs many times what it does; what
 * is large goes in steps.
 */
import { timingSafeEqual } from "node:crypto"
import { type CryptoError, Tampered, Truncated, UnknownKeyId, UnsupportedFormat, WrongKey } from "../../CryptoError.js"
import { idOf, isSubjectId, type Key, keyIdBytes } from "../keys/key.js"
import * as nonces from "./nonces.js"
import { expandBlock, gcmOpen, gcmOpening, gcmSeal, gcmSealing, gcmTagBytes } from "./primitives.js"
import { atOnce, type Steps, stepBytes } from "./steps.js"

/** No UTF-8 text begins with it, so no envelope is taken for JSON. */
const magic = 0xfe
const formatVersion = 1
const suite = 1
const flagSubject = 2

const headerBytes = 4 + keyIdBytes
export const nonceBytes = 24
const nonceEnd = headerBytes + nonceBytes
const commitmentBytes = 32
const commitmentEnd = nonceEnd + commitmentBytes
/** What an envelope has beside the ciphertext, which is as long as the plaintext. */
export const overheadBytes = commitmentEnd + gcmTagBytes

const label = Buffer.from("effect-stores R1")

const derive = (key: Key, headerAndNonce: Buffer): Buffer => expandBlock("sha512", key.secret, [label, headerAndNonce])

const subjectFlag = (key: Key): number => (isSubjectId(key.id) ? flagSubject : 0)

/** In one turn of the event loop. Only for known answers a nonce is given; else it is random. */
export const seal = (key: Key, context: Uint8Array, plaintext: string | Uint8Array, nonce?: Uint8Array): Buffer =>
  atOnce(sealing(key, context, plaintext, nonce))

export function* sealing(
  key: Key,
  context: Uint8Array,
  plaintext: string | Uint8Array,
  nonce?: Uint8Array
): Steps<Buffer> {
  const isLarge = plaintext.length > stepBytes
  const length = isLarge ? yield* byteLength(plaintext) : Buffer.byteLength(plaintext)
  const out = Buffer.allocUnsafe(overheadBytes + length)
  out[0] = magic
  out[1] = formatVersion
  out[2] = suite
  out[3] = subjectFlag(key)
  key.idBytes.copy(out, 4)
  if (nonce === undefined) nonces.fill(out, headerBytes, nonceBytes)
  else out.set(nonce, headerBytes)
  const derived = derive(key, out.subarray(0, nonceEnd))
  try {
    derived.copy(out, nonceEnd, 32)
    const secret = derived.subarray(0, 32)
    const iv = out.subarray(headerBytes + 12, nonceEnd)
    const aad = [out.subarray(0, commitmentEnd), context]
    if (isLarge) {
      yield* write(plaintext, out)
      yield* gcmSealing(secret, iv, aad, out, commitmentEnd, commitmentEnd + length)
    } else gcmSeal(secret, iv, aad, plaintext, out, commitmentEnd)
  } finally {
    derived.fill(0)
  }
  return out
}

function* byteLength(plaintext: string | Uint8Array): Steps<number> {
  if (typeof plaintext !== "string") return plaintext.length
  let length = 0
  for (let at = 0; at < plaintext.length; ) {
    const end = pieceEnd(plaintext, at)
    length += Buffer.byteLength(plaintext.slice(at, end))
    at = end
    yield
  }
  return length
}

/** Puts the plaintext where it is encrypted. */
function* write(plaintext: string | Uint8Array, out: Buffer): Steps<void> {
  let to = commitmentEnd
  for (let at = 0; at < plaintext.length; ) {
    const end = pieceEnd(plaintext, at)
    if (typeof plaintext === "string") to += out.write(plaintext.slice(at, end), to)
    else {
      out.set(plaintext.subarray(at, end), to)
      to += end - at
    }
    at = end
    yield
  }
}

/** Where a piece ends that begins at `at`: of text, not within a pair of surrogates, which is one character. */
const pieceEnd = (plaintext: string | Uint8Array, at: number): number => {
  const end = at + stepBytes
  if (typeof plaintext !== "string") return end
  const last = plaintext.charCodeAt(end - 1)
  return last >= 0xd800 && last < 0xdc00 ? end + 1 : end
}

/** What finds the key of an envelope: a key, or why there is none. */
export type FindKey = (id: string, place: () => string) => Key | CryptoError

/** Which key an envelope says that it has, without a look at the rest. */
export const keyIdOf = (envelope: Buffer, place: () => string): string | CryptoError => {
  if (envelope.length < overheadBytes) return new Truncated({ place: place() })
  if (envelope[0] !== magic) return new UnsupportedFormat({ place: place(), why: "is no envelope" })
  if (envelope[1] !== formatVersion) return unsupported(place, "format", envelope[1] as number)
  if (envelope[2] !== suite) return unsupported(place, "suite", envelope[2] as number)
  const flags = envelope[3] as number
  if ((flags & ~flagSubject) !== 0) return unsupported(place, "flags", flags)
  const id = idOf(envelope.subarray(4, headerBytes), flags === flagSubject)
  return id ?? new UnsupportedFormat({ place: place(), why: "has the id of no key" })
}

const unsupported = (place: () => string, what: string, value: number): UnsupportedFormat =>
  new UnsupportedFormat({ place: place(), why: `has the ${what} ${value}, which this version does not know` })

/**
 * The plaintext, or why it does not open, in one turn of the event loop. `place` names it for errors. A header that was
 * changed cannot be told from another key of the same id: both are `WrongKey`.
 */
export const open = (find: FindKey, context: Uint8Array, envelope: Buffer, place: () => string): Buffer | CryptoError =>
  atOnce(opening(find, context, envelope, place, false))

/** `isOwn`: a large envelope is opened in its own place, which is of no use to anybody else. */
export function* opening(
  find: FindKey,
  context: Uint8Array,
  envelope: Buffer,
  place: () => string,
  isOwn: boolean
): Steps<Buffer | CryptoError> {
  const keyId = keyIdOf(envelope, place)
  if (typeof keyId !== "string") return keyId
  const key = find(keyId, place)
  if ("_tag" in key) return key
  const derived = derive(key, envelope.subarray(0, nonceEnd))
  try {
    if (!timingSafeEqual(derived.subarray(32), envelope.subarray(nonceEnd, commitmentEnd))) {
      return new WrongKey({ keyId, place: place() })
    }
    const secret = derived.subarray(0, 32)
    const iv = envelope.subarray(headerBytes + 12, nonceEnd)
    const aad = [envelope.subarray(0, commitmentEnd), context]
    const end = envelope.length - gcmTagBytes
    const ciphertext = envelope.subarray(commitmentEnd, end)
    const tag = envelope.subarray(end)
    const plaintext =
      ciphertext.length <= stepBytes
        ? gcmOpen(secret, iv, aad, ciphertext, tag)
        : yield* gcmOpening(
            secret,
            iv,
            aad,
            ciphertext,
            tag,
            isOwn ? ciphertext : Buffer.allocUnsafe(ciphertext.length)
          )
    return plaintext ?? new Tampered({ keyId, place: place() })
  } finally {
    derived.fill(0)
  }
}

/** For rings that are one map. */
export const findIn =
  (keys: ReadonlyMap<string, Key>): FindKey =>
  (keyId, place) =>
    keys.get(keyId) ?? new UnknownKeyId({ keyId, place: place() })
