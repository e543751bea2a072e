/**
 * From what a backend gives to what a caller gets, with the count of what readers found.
 */
import * as Metric from "effect/Metric"
import * as Option from "effect/Option"
import type { Json } from "../Json.js"
import type { EncodedEntry } from "./CacheStoreEncoded.js"

const reads = Metric.counter("effect_stores_cache_reads", {
  description: "Values asked for, by what was found",
  incremental: true
})

// Made once: labels that are added at an update cost many times the update.
const hit = Metric.tagged(reads, "outcome", "hit")
const miss = Metric.tagged(reads, "outcome", "miss")
const stale = Metric.tagged(reads, "outcome", "stale")

/** What was stored and is no value to who reads it: no JSON, sealed with a key that is not there, of another Schema. */
export const undecodable = Metric.counter("effect_stores_cache_undecodable", {
  description: "Stored values that could not be read, and counted as absent",
  incremental: true
})

const missed = (): Option.Option<never> => {
  miss.unsafeUpdate(1, [])
  return Option.none()
}

/** The value of an entry that is fresh. What cannot be read is absent: a cache may lose what it likes. */
export const decode = (entry: EncodedEntry | null): Option.Option<Json> => {
  if (entry === null || !(entry.freshMs > 0)) return missed()
  const value = read(entry)
  if (Option.isNone(value)) return missed()
  hit.unsafeUpdate(1, [])
  return value
}

/** The value of an entry that is stale, when it is to be served. */
export const decodeStale = (entry: EncodedEntry | null): Option.Option<Json> => {
  const value = entry === null ? Option.none() : read(entry)
  if (Option.isSome(value)) stale.unsafeUpdate(1, [])
  return value
}

/** For whoever would wait for it in vain. */
export const isReadable = (entry: EncodedEntry): boolean => Option.isSome(parse(entry))

const parse = (entry: EncodedEntry): Option.Option<Json> => {
  if (entry.keyId === null) {
    try {
      return Option.some(JSON.parse(entry.value))
    } catch {}
  }
  return Option.none()
}

const read = (entry: EncodedEntry): Option.Option<Json> => {
  const value = parse(entry)
  if (Option.isNone(value)) undecodable.unsafeUpdate(1, [])
  return value
}
