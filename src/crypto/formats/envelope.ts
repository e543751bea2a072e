/**
 * The envelope R1 of a record, as in docs/formats.md: derived key and commitment by HMAC-SHA-512, then AES-256-GCM.
 * Each derived key encrypts one message. Synchronous, because anything asynchronous costs many times what it does.
 */
import { timingSafeEqual } from "node:crypto"
import { type CryptoError, Tampered, Truncated, UnknownKeyId, UnsupportedFormat, WrongKey } from "../../CryptoError.js"
import { idOf, isSubjectId, type Key, keyIdBytes } from "../keys/key.js"
import * as nonces from "./nonces.js"
import { expandBlock, gcmOpen, gcmSeal, gcmTagBytes } from "./primitives.js"

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

/** Only for known answers a nonce is given; else it is random. */
export const seal = (key: Key, context: Uint8Array, plaintext: string | Uint8Array, nonce?: Uint8Array): Buffer => {
  const length = typeof plaintext === "string" ? Buffer.byteLength(plaintext) : plaintext.length
  const out = Buffer.allocUnsafe(overheadBytes + length)
  out[0] = magic
  out[1] = formatVersion
  out[2] = suite
  out[3] = subjectFlag(key)
  key.idBytes.copy(out, 4)
  if (nonce === undefined) nonces.fill(out, headerBytes, nonceBytes)
  else out.set(nonce, headerBytes)
  const derived = derive(key, out.subarray(0, nonceEnd))
  derived.copy(out, nonceEnd, 32)
  const iv = out.subarray(headerBytes + 12, nonceEnd)
  gcmSeal(derived.subarray(0, 32), iv, [out.subarray(0, commitmentEnd), context], plaintext, out, commitmentEnd)
  derived.fill(0)
  return out
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
 * The plaintext, or why it does not open. `place` names it for errors. A header that was changed cannot be told from
 * another key of the same id: both are `WrongKey`.
 */
export const open = (
  find: FindKey,
  context: Uint8Array,
  envelope: Buffer,
  place: () => string
): Buffer | CryptoError => {
  const keyId = keyIdOf(envelope, place)
  if (typeof keyId !== "string") return keyId
  const key = find(keyId, place)
  if ("_tag" in key) return key
  const derived = derive(key, envelope.subarray(0, nonceEnd))
  if (!timingSafeEqual(derived.subarray(32), envelope.subarray(nonceEnd, commitmentEnd))) {
    return new WrongKey({ keyId, place: place() })
  }
  const end = envelope.length - gcmTagBytes
  const plaintext = gcmOpen(
    derived.subarray(0, 32),
    envelope.subarray(headerBytes + 12, nonceEnd),
    [envelope.subarray(0, commitmentEnd), context],
    envelope.subarray(commitmentEnd, end),
    envelope.subarray(end)
  )
  derived.fill(0)
  return plaintext ?? new Tampered({ keyId, place: place() })
}

/** For rings that are one map. */
export const findIn =
  (keys: ReadonlyMap<string, Key>): FindKey =>
  (keyId, place) =>
    keys.get(keyId) ?? new UnknownKeyId({ keyId, place: place() })
