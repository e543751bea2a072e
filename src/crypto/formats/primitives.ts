/**
 * The two primitives under all formats: AES-256-GCM with a nonce of 12 bytes and a tag of 16, and one block of
 * HKDF-Expand. Everything that Node lets vary is fixed here: it would also take tags of 4 bytes and nonces of any
 * length.
 */
import { type CipherKey, createCipheriv, createDecipheriv, createHmac } from "node:crypto"
import { type Steps, stepBytes } from "./steps.js"

export const gcmNonceBytes = 12
export const gcmTagBytes = 16

const options = { authTagLength: gcmTagBytes } as const

const checkNonce = (nonce: Uint8Array): void => {
  if (nonce.length !== gcmNonceBytes) throw new RangeError(`a nonce has ${gcmNonceBytes} bytes`)
}

/** Writes ciphertext and tag into `out` from `at` on. `aad` is authenticated as if it were one piece. */
export const gcmSeal = (
  key: CipherKey,
  nonce: Uint8Array,
  aad: ReadonlyArray<Uint8Array>,
  plaintext: string | Uint8Array,
  out: Buffer,
  at: number
): void => {
  checkNonce(nonce)
  const cipher = createCipheriv("aes-256-gcm", key, nonce, options)
  for (const part of aad) cipher.setAAD(part)
  const ciphertext = typeof plaintext === "string" ? cipher.update(plaintext, "utf8") : cipher.update(plaintext)
  ciphertext.copy(out, at)
  cipher.final()
  cipher.getAuthTag().copy(out, at + ciphertext.length)
}

/** The plaintext; undefined when the tag does not fit. */
export const gcmOpen = (
  key: CipherKey,
  nonce: Uint8Array,
  aad: ReadonlyArray<Uint8Array>,
  ciphertext: Uint8Array,
  tag: Uint8Array
): Buffer | undefined => {
  checkNonce(nonce)
  if (tag.length !== gcmTagBytes) return undefined
  const decipher = createDecipheriv("aes-256-gcm", key, nonce, options)
  for (const part of aad) decipher.setAAD(part)
  decipher.setAuthTag(tag)
  // What `update` gives is not authenticated yet: nobody may see it before `final` has passed.
  const plaintext = decipher.update(ciphertext)
  try {
    decipher.final()
    return plaintext
  } catch {
    return undefined
  }
}

/** `gcmSeal` of what is in `out` from `at` to `end`, in its own place, in steps; the tag comes behind it. */
export function* gcmSealing(
  key: CipherKey,
  nonce: Uint8Array,
  aad: ReadonlyArray<Uint8Array>,
  out: Buffer,
  at: number,
  end: number
): Steps<void> {
  checkNonce(nonce)
  const cipher = createCipheriv("aes-256-gcm", key, nonce, options)
  for (const part of aad) cipher.setAAD(part)
  for (let from = at; from < end; from += stepBytes) {
    cipher.update(out.subarray(from, Math.min(from + stepBytes, end))).copy(out, from)
    yield
  }
  cipher.final()
  cipher.getAuthTag().copy(out, end)
}

/** `gcmOpen` in steps, into `out`, which may be the ciphertext itself. */
export function* gcmOpening(
  key: CipherKey,
  nonce: Uint8Array,
  aad: ReadonlyArray<Uint8Array>,
  ciphertext: Uint8Array,
  tag: Uint8Array,
  out: Buffer
): Steps<Buffer | undefined> {
  checkNonce(nonce)
  if (tag.length !== gcmTagBytes) return undefined
  const decipher = createDecipheriv("aes-256-gcm", key, nonce, options)
  for (const part of aad) decipher.setAAD(part)
  decipher.setAuthTag(tag)
  for (let at = 0; at < ciphertext.length; at += stepBytes) {
    decipher.update(ciphertext.subarray(at, at + stepBytes)).copy(out, at)
    yield
  }
  try {
    decipher.final()
    return out
  } catch {
    return undefined
  }
}

const one = Buffer.of(1)

/** The first block of HKDF-Expand (RFC 5869): HMAC of the information and the byte 1. */
export const expandBlock = (
  hash: "sha256" | "sha384" | "sha512",
  key: CipherKey,
  info: ReadonlyArray<Uint8Array>
): Buffer => {
  const hmac = createHmac(hash, key)
  for (const part of info) hmac.update(part)
  return hmac.update(one).digest()
}
