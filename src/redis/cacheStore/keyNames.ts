/**
 * What the CacheStore's keys in Redis are called. A prefix has no brace, so the keys of a store are those whose text
 * before the first one is its prefix. The key of an entry, or the tag, comes last and may be anything.
 */
import type { Place } from "../../cacheStore/CacheStoreEncoded.js"

/** Before what is in a key's name only these two would be ambiguous. */
const part = (text: string): string => (/[%:]/.test(text) ? text.replace(/[%:]/g, encodeURIComponent) : text)

export class KeyNames {
  /** What the keys of all entries, and of all tags, begin with. */
  readonly entries: string
  readonly tags: string
  /** Like no other: no entry, and no SnapshotStore with the same prefix. */
  readonly notes: string

  constructor(prefix: string) {
    this.entries = `${prefix}{k:`
    this.tags = `${prefix}{t:`
    this.notes = `${prefix}}c`
  }

  entriesOf(tenantId: string): string {
    return `${this.entries}${part(tenantId)}:`
  }

  tagsOf(tenantId: string): string {
    return `${this.tags}${part(tenantId)}:`
  }

  entry({ key, tenantId }: Place): string {
    return this.entriesOf(tenantId) + key
  }

  tag(tenantId: string, tag: string): string {
    return this.tagsOf(tenantId) + tag
  }

  /** Of an entry's key. */
  tenantIn(key: string): string {
    return decodeURIComponent(key.slice(this.entries.length, key.indexOf(":", this.entries.length)))
  }
}
