/**
 * UUIDs for event ids: generation of version 7 (RFC 9562), whose leading milliseconds keep the id index append-mostly,
 * and the check of given ones.
 *
 * @since 0.1.0
 */
import { randomFillSync } from "node:crypto"

// One call into the random source serves 256 ids: the call costs as much as all of the formatting.
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

const canonical = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/

/**
 * Whether the text is a UUID in the canonical form (lower case, with hyphens), of any version.
 *
 * @since 0.1.0
 */
export const isCanonical = (text: string): boolean => text.length === 36 && canonical.test(text)
