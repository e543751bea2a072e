/**
 * From what a backend gives to what a caller gets, with the count of what readers found.
 */
import * as Metric from "effect/Metric"
import * as MetricKey from "effect/MetricKey"
import * as MetricLabel from "effect/MetricLabel"
import * as Option from "effect/Option"
import type { Json, JsonObject } from "../Json.js"
import type { EncodedEntry } from "./CacheStoreEncoded.js"

const reads = MetricKey.counter("effect_stores_cache_reads", {
  description: "Values asked for, by what was found",
  incremental: true
})

// Labels are in the key: those of `Metric.tagged` are merged at every update, which costs 20 times the update itself.
const outcome = (name: string) =>
  Metric.fromMetricKey(MetricKey.taggedWithLabels(reads, [MetricLabel.make("outcome", name)]))
const hit = outcome("hit")
const miss = outcome("miss")
const stale = outcome("stale")

const noLabels: ReadonlyArray<MetricLabel.MetricLabel> = []

/** What was stored and is no value to who reads it: no JSON, sealed with a key that is not there, of another Schema. */
export const undecodable = Metric.counter("effect_stores_cache_undecodable", {
  description: "Stored values that could not be read, and counted as absent",
  incremental: true
})

/**
 * The value of an entry that is fresh. What cannot be read is absent: a cache may lose what it likes. Undefined for
 * absent, which is no JSON.
 */
export const freshValue = (entry: EncodedEntry | null): Json | undefined => {
  const value = entry !== null && entry.freshMs > 0 ? read(entry) : undefined
  const found = value === undefined ? miss : hit
  found.unsafeUpdate(1, noLabels)
  return value
}

export const decode = (entry: EncodedEntry | null): Option.Option<Json> => {
  const value = freshValue(entry)
  return value === undefined ? Option.none() : Option.some(value)
}

/** The same for the entries of many keys. */
export const decodeMany = (
  keys: ReadonlyArray<string>,
  entries: ReadonlyArray<EncodedEntry | null>
): ReadonlyMap<string, Json> => {
  const found = new Map<string, Json>()
  for (let i = 0; i < keys.length; i++) {
    const entry = entries[i] ?? null
    const value = entry !== null && entry.freshMs > 0 ? read(entry) : undefined
    if (value !== undefined) found.set(keys[i] as string, value)
  }
  if (found.size > 0) hit.unsafeUpdate(found.size, noLabels)
  if (found.size < keys.length) miss.unsafeUpdate(keys.length - found.size, noLabels)
  return found
}

/** The value of an entry that is stale, when it is to be served. */
export const decodeStale = (entry: EncodedEntry | null): Option.Option<Json> => {
  const value = entry === null ? undefined : read(entry)
  if (value === undefined) return Option.none()
  stale.unsafeUpdate(1, noLabels)
  return Option.some(value)
}

/** For whoever would wait for it in vain. */
export const isReadable = (entry: EncodedEntry): boolean => parse(entry) !== undefined

const parse = ({ keyId, parsed, value }: EncodedEntry): Json | undefined => {
  if (keyId !== null) return undefined
  try {
    if (parsed?.text !== value) return JSON.parse(value)
    if (parsed.json === undefined) parsed.json = JSON.parse(value) as Json
    return copy(parsed.json)
  } catch {
    return undefined
  }
}

/** What one reader does to its value no other one sees. */
const copy = (json: Json): Json => {
  if (typeof json !== "object" || json === null) return json
  if (Array.isArray(json)) return json.map(copy)
  const copied: { [key: string]: Json } = { ...(json as JsonObject) }
  // Also an own `__proto__`, which is there already, so that assigning to it sets no prototype.
  for (const key in copied) {
    const part = copied[key] as Json
    if (typeof part === "object" && part !== null) copied[key] = copy(part)
  }
  return copied
}

const read = (entry: EncodedEntry): Json | undefined => {
  const value = parse(entry)
  if (value === undefined) undecodable.unsafeUpdate(1, noLabels)
  return value
}
