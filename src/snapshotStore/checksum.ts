/**
 * The checksum of a stored snapshot; `SnapshotStoreEncoded.checksum` documents what it is for.
 */
import { createHash } from "node:crypto"
import type { EncodedSnapshot } from "./SnapshotStoreEncoded.js"

export const snapshotChecksum = (snapshot: Omit<EncodedSnapshot, "checksum">): string => {
  const { aggregateId, createdAt, domain, keyId, lastEventMark, schemaVersion, state, tenantId, version } = snapshot
  const hash = createHash("sha256")
  for (const field of [tenantId, domain, aggregateId, version, lastEventMark, schemaVersion, keyId, createdAt, state]) {
    const text = String(field)
    hash.update(`${field === null ? "-" : text.length}:`).update(text)
  }
  return hash.digest("hex").slice(0, 32)
}
