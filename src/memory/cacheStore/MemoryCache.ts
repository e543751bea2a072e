/**
 * Entries in memory: by tenant and key, in the order of their use, and by tag; with how many there are and how many
 * bytes they have, exactly.
 */
import * as Metric from "effect/Metric"
import type { EncodedWrite, Parsed, Payload } from "../../cacheStore/CacheStoreEncoded.js"

const evictions = Metric.counter("effect_stores_cache_evicted", {
  description: "Entries that a bound of memory has put out, or kept from coming in",
  incremental: true
})
const evicted = Metric.tagged(evictions, "reason", "bound")
const tooLarge = Metric.tagged(evictions, "reason", "too_large")

/**
 * Of which texts the parsed form is kept too, which no bound counts: of short ones with few parts. A part, such as `{}`
 * in a list, has three characters of text and 56 bytes parsed, so without this a text may be 20 times as large parsed.
 */
const parsedMax = 1_024
const partsMin = 4
const charactersPerPart = 16

const isKeptParsed = (text: string): boolean => {
  if (text.length > parsedMax) return false
  let left = partsMin + text.length / charactersPerPart
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i)
    // , [ {
    if ((code === 44 || code === 91 || code === 123) && --left < 0) return false
  }
  return true
}

export interface Node extends Omit<EncodedWrite, "value" | "keyId"> {
  value: string
  keyId: string | null
  bytes: number
  parsed: Parsed | undefined
  freshUntil: number
  keepUntil: number
  /** When which of its tags was expired, the last time. */
  expired: Map<string, number> | undefined
  newer: Node | undefined
  older: Node | undefined
}

export const isFresh = (node: Node, nowMs: number): boolean => node.expired === undefined && node.freshUntil > nowMs

const keptUntil = ({ expired, graceMs, keepUntil }: Node): number =>
  expired === undefined ? keepUntil : Math.min(keepUntil, ...[...expired.values()].map((at) => at + graceMs))

const parsedOf = (value: string, keyId: string | null): Parsed | undefined =>
  keyId === null && isKeptParsed(value) ? { text: value } : undefined

const bytesOf = ({ key, tags, tenantId, value }: EncodedWrite): number => {
  let bytes = Buffer.byteLength(tenantId) + Buffer.byteLength(key) + Buffer.byteLength(value)
  for (const tag of tags) bytes += Buffer.byteLength(tag)
  return bytes
}

export class MemoryCache {
  entries = 0
  bytes = 0
  private newest: Node | undefined
  private oldest: Node | undefined
  private readonly tenants = new Map<string, Map<string, Node>>()
  private readonly tagged = new Map<string, Map<string, Set<Node>>>()

  constructor(
    private readonly maxEntries: number,
    private readonly maxBytes: number
  ) {}

  /** An entry that is fresh, or stale within its grace. What is at its end goes when it is met. */
  find(tenantId: string, key: string, nowMs: number): Node | undefined {
    const node = this.tenants.get(tenantId)?.get(key)
    if (node === undefined || keptUntil(node) > nowMs) return node
    this.delete(node)
    return undefined
  }

  used(node: Node): void {
    if (this.newest === node) return
    this.unlink(node)
    this.link(node)
  }

  put(write: EncodedWrite, nowMs: number): void {
    const { graceMs, key, keyId, tags, tenantId, ttlMs, value } = write
    const before = this.tenants.get(tenantId)?.get(key)
    if (before !== undefined) this.delete(before)
    const bytes = bytesOf(write)
    if (bytes > this.maxBytes) return tooLarge.unsafeUpdate(1, [])
    while (this.oldest !== undefined && (this.entries >= this.maxEntries || this.bytes + bytes > this.maxBytes)) {
      this.delete(this.oldest)
      evicted.unsafeUpdate(1, [])
    }
    const freshUntil = nowMs + ttlMs
    const node: Node = {
      tenantId,
      key,
      value,
      keyId,
      ttlMs,
      graceMs,
      tags,
      bytes,
      parsed: parsedOf(value, keyId),
      freshUntil,
      keepUntil: freshUntil + graceMs,
      expired: undefined,
      newer: undefined,
      older: undefined
    }
    let keys = this.tenants.get(tenantId)
    if (keys === undefined) {
      keys = new Map()
      this.tenants.set(tenantId, keys)
    }
    keys.set(key, node)
    for (const tag of tags) this.nodesOf(tenantId, tag).add(node)
    this.link(node)
    this.entries++
    this.bytes += bytes
  }

  /** Another text for the same value. What is larger than before may be over the bound until the next put. */
  replace(node: Node, { keyId, value }: Payload): void {
    this.bytes -= node.bytes
    Object.assign(node, { value, keyId, parsed: parsedOf(value, keyId) })
    node.bytes = bytesOf(node)
    this.bytes += node.bytes
  }

  delete(node: Node): void {
    const { key, tags, tenantId } = node
    const keys = this.tenants.get(tenantId)
    keys?.delete(key)
    if (keys?.size === 0) this.tenants.delete(tenantId)
    for (const tag of tags) {
      const byTag = this.tagged.get(tenantId)
      const nodes = byTag?.get(tag)
      nodes?.delete(node)
      if (nodes?.size === 0) byTag?.delete(tag)
      if (byTag?.size === 0) this.tagged.delete(tenantId)
    }
    this.unlink(node)
    this.entries--
    this.bytes -= node.bytes
  }

  /** Ends its time to live; the grace begins, unless it has begun before. */
  expire(node: Node, nowMs: number): void {
    if (!(node.freshUntil > nowMs)) return
    node.freshUntil = nowMs
    node.keepUntil = Math.min(node.keepUntil, nowMs + node.graceMs)
    if (node.keepUntil <= nowMs) this.delete(node)
  }

  expireTag(node: Node, tag: string, nowMs: number): void {
    node.expired = (node.expired ?? new Map()).set(tag, nowMs)
    if (keptUntil(node) <= nowMs) this.delete(node)
  }

  withTag(tenantId: string, tag: string): ReadonlyArray<Node> {
    return [...(this.tagged.get(tenantId)?.get(tag) ?? [])]
  }

  all(tenantId: string | null): ReadonlyArray<Node> {
    const tenants = tenantId === null ? [...this.tenants.values()] : [this.tenants.get(tenantId) ?? new Map()]
    return tenants.flatMap((keys) => [...keys.values()])
  }

  private nodesOf(tenantId: string, tag: string): Set<Node> {
    let tags = this.tagged.get(tenantId)
    if (tags === undefined) {
      tags = new Map()
      this.tagged.set(tenantId, tags)
    }
    let nodes = tags.get(tag)
    if (nodes === undefined) {
      nodes = new Set()
      tags.set(tag, nodes)
    }
    return nodes
  }

  private link(node: Node): void {
    node.older = this.newest
    node.newer = undefined
    if (this.newest === undefined) this.oldest = node
    else this.newest.newer = node
    this.newest = node
  }

  private unlink(node: Node): void {
    if (node.newer === undefined) this.newest = node.older
    else node.newer.older = node.older
    if (node.older === undefined) this.oldest = node.newer
    else node.older.newer = node.newer
  }
}
