/**
 * UUIDs for event ids: version 7 (RFC 9562), whose leading milliseconds let the id index grow at its end, and the check
 * of given ones.
 *
 * @since 0.1.0
 */
import { createHash, randomFillSync } from "node:crypto"
import { InvalidInput } from "./Errors.js"

// One call of the random source serves 256 ids: the call costs as much as all the formatting.
const bytesPerId = 10
const pool = Buffer.alloc(bytesPerId * 256)
let offset = pool.length

const hex: ReadonlyArray<string> = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, "0"))

/**
 * A new UUIDv7 for the given epoch milliseconds.
 *
 * @since 0.1.0
 */
export const v7 = (nowMs: number): string => {
  if (offset === pool.length) {
    randomFillSync(pool)
    offset = 0
  }
  const at = (i: number): number => pool[offset + i] as number
  const time = Math.trunc(nowMs).toString(16).padStart(12, "0").slice(-12)
  const id =
    `${time.slice(0, 8)}-${time.slice(8)}-` +
    `${hex[0x70 | (at(0) & 0x0f)]}${hex[at(1)]}-${hex[0x80 | (at(2) & 0x3f)]}${hex[at(3)]}-` +
    `${hex[at(4)]}${hex[at(5)]}${hex[at(6)]}${hex[at(7)]}${hex[at(8)]}${hex[at(9)]}`
  offset += bytesPerId
  return id
}

/**
 * A UUID that depends on these arguments only (version 8: SHA-256 over the id and the parts, with texts as JSON). It
 * begins with the same 48 bits as `id`, so a UUID derived from a UUIDv7 sorts by the same time. Throws `InvalidInput`
 * if `id` is not a UUID in canonical form.
 *
 * @example
 * ```ts
 * import { Uuid } from "effect-stores"
 *
 * // The id of a command from the key of a message that may arrive twice.
 * const commandId = Uuid.derived("0192f0c1-2f6b-7000-8000-000000000000", ["payments", "msg-4711"])
 * ```
 *
 * @since 0.1.0
 */
export const derived = (id: string, parts: ReadonlyArray<string | number>): string => {
  if (typeof id !== "string" || !isCanonical(id))
    throw new InvalidInput({ what: "id", why: "must be a UUID in lower case" })
  if (!parts.every((part) => typeof part === "string" || typeof part === "number")) {
    throw new InvalidInput({ what: "parts", why: "must be texts and numbers" })
  }
  // JSON delimits each text, and keeps lone surrogates apart, which would otherwise all be hashed as the same
  // character.
  const text = parts.map((part) => (typeof part === "string" ? JSON.stringify(part) : part)).join()
  const bytes = createHash("sha256").update(`${id},${text}`).digest()
  const at = (i: number): number => bytes[i] as number
  return (
    `${id.slice(0, 14)}${hex[0x80 | (at(0) & 0x0f)]}${hex[at(1)]}-${hex[0x80 | (at(2) & 0x3f)]}${hex[at(3)]}-` +
    `${hex[at(4)]}${hex[at(5)]}${hex[at(6)]}${hex[at(7)]}${hex[at(8)]}${hex[at(9)]}`
  )
}

const canonical = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/

/**
 * Whether the text is a UUID in the canonical form (lower case, with hyphens), of any version.
 *
 * @since 0.1.0
 */
export const isCanonical = (text: string): boolean => text.length === 36 && canonical.test(text)
