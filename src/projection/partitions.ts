/**
 * Which partition a stream belongs to. All events of a stream are in one, so they are handled in order. Part of what is
 * stored: a follower that was run with another function would skip events and repeat others.
 */
import { type StreamId, streamKey } from "../StreamId.js"

/** FNV-1a over the UTF-8 bytes of the address, with the finalizer of MurmurHash3 to spread similar ones. */
export const partitionOf = (stream: StreamId, partitions: number): number => {
  if (partitions === 1) return 0
  let hash = 0x811c9dc5
  for (const byte of Buffer.from(streamKey(stream))) hash = Math.imul(hash ^ byte, 0x01000193)
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b)
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35)
  return ((hash ^ (hash >>> 16)) >>> 0) % partitions
}
