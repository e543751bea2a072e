/**
 * The checksum of a stored snapshot; `SnapshotStoreEncoded.checksum` documents what it is for.
 */
import { createHash } from "node:crypto"
import type { EncodedSnapshot } from "./SnapshotStoreEncoded.js"

export const snapshotChecksum = (snapshot: Omit<EncodedSnapshot, "checksum">): string => {
  const { aggregateId, createdAt, domain, keyId, lastEventMark, schemaVersion, state, tenantId, version } = snapshot
  // As one text: each update of the hash costs as much as many characters.
  let text = ""
  for (const field of [tenantId, domain, aggregateId, version, lastEventMark, schemaVersion, keyId, createdAt, state]) {
    const part = String(field)
    text += `${field === null ? "-" : part.length}:${part}`
  }
  return createHash("sha256").update(text).digest("hex").slice(0, 32)
}
