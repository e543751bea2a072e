/**
 * Rows of the table of subjects' keys, the same on both databases.
 */
import type { EncodedSubjectKey } from "../crypto/SubjectKeysEncoded.js"

export const columns = "ref, key_id, wrapped, wrapped_by, created_ms, shredded_ms"

export type Row = readonly [
  ref: string,
  keyId: string | null,
  wrapped: string | null,
  wrappedBy: string | null,
  createdAt: number,
  shreddedAt: number | null
]

export const toRow = (key: EncodedSubjectKey): Array<unknown> => [
  key.ref,
  key.keyId,
  key.wrapped,
  key.wrappedBy,
  key.createdAt,
  key.shreddedAt
]

export const fromRow = ([ref, keyId, wrapped, wrappedBy, createdAt, shreddedAt]: Row): EncodedSubjectKey => ({
  ref,
  keyId,
  wrapped,
  wrappedBy,
  createdAt,
  shreddedAt
})

export const columnOf = { ref: "ref", keyId: "key_id" } as const

/** Less than every reference. */
export const firstRef = ""
