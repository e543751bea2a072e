/**
 * A key, its id and its check value. Keys are held as key objects, whose bytes are outside of the JavaScript heap and
 * in no dump of an object.
 */
import { createHmac, createSecretKey, type KeyObject } from "node:crypto"

export const keyBytes = 32
export const keyIdBytes = 8

/**
 * The id of a key in a ring: its name, 1 to 8 characters. In an envelope it is padded with NUL. Keys of subjects have 8
 * random bytes instead, written as 16 hexadecimal digits, so an id says by its length of which kind it is.
 */
const ringId = /^[A-Za-z0-9._-]{1,8}$/
const subjectId = /^[0-9a-f]{16}$/

export const isRingId = (id: unknown): id is string => typeof id === "string" && ringId.test(id)

export const isSubjectId = (id: string): boolean => subjectId.test(id)

/**
 * - `enabled`: seals and opens.
 * - `decryptOnly`: opens what it has sealed.
 * - `disabled`: is known, and neither seals nor opens.
 *
 * @since 0.1.0
 * @category models
 */
export type KeyStatus = "enabled" | "decryptOnly" | "disabled"

export interface Key {
  readonly id: string
  readonly idBytes: Buffer
  readonly secret: KeyObject
  /** Tells keys apart, and tells nothing of the key: 64 bits of an HMAC under it. */
  readonly check: string
}

const checkLabel = Buffer.from("effect-stores key check v1")

const idBytesOf = (id: string): Buffer => {
  if (isSubjectId(id)) return Buffer.from(id, "hex")
  const bytes = Buffer.alloc(keyIdBytes)
  bytes.write(id, "latin1")
  return bytes
}

/** The id that a header has; undefined when no key can have it. */
export const idOf = (bytes: Buffer, isSubject: boolean): string | undefined => {
  if (isSubject) return bytes.toString("hex")
  const end = bytes.indexOf(0)
  const id = bytes.toString("latin1", 0, end === -1 ? keyIdBytes : end)
  // Padding is NUL to the end, or two headers would mean the same key.
  for (let i = id.length; i < keyIdBytes; i++) if (bytes[i] !== 0) return undefined
  return isRingId(id) ? id : undefined
}

/** Of 32 bytes, which the caller has checked. */
export const make = (id: string, bytes: Uint8Array): Key => {
  const secret = createSecretKey(bytes)
  const idBytes = idBytesOf(id)
  const check = createHmac("sha256", secret).update(checkLabel).update(idBytes).digest("hex").slice(0, 16)
  return { id, idBytes, secret, check }
}

/** 32 times the same byte is no key that anybody has drawn. */
export const isWeak = (bytes: Uint8Array): boolean => bytes.every((byte) => byte === bytes[0])
