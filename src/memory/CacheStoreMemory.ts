/**
 * The CacheStore in memory: for one process, as the first of two levels, for tests (it follows the Clock), and as the
 * model that the other backends are held against. It is bounded by entries and by bytes, and what was not used for the
 * longest time makes room.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { CacheStore } from "../CacheStore.js"
import { type Encoded, make } from "../cacheStore/CacheStoreEncoded.js"
import type { InvalidInput } from "../Errors.js"
import { type Keys, onlyKnown, part } from "../internal/storeOptions.js"
import { checked, fields, integer } from "../internal/validate.js"
import { MemoryCache } from "./cacheStore/MemoryCache.js"
import * as port from "./cacheStore/port.js"

/**
 * The bounds, which hold at every moment.
 *
 * @since 0.1.0
 * @category models
 */
export interface Bounds {
  /** Default 100,000. */
  readonly maxEntries?: number | undefined
  /**
   * Of the UTF-8 text of tenants, keys, tags and values. Not counted is what the engine needs beside it, about 320
   * bytes an entry, nor the parsed form that is kept of short values once they are read: of up to 1,024 characters,
   * with at most one comma or opening bracket in 16 of them and 4 more. It takes about 6 times the bytes of its text
   * (the most that was measured). A value that by itself is larger is not stored, and makes nobody go: the set
   * succeeds, and the key is absent. Default 64 MiB.
   */
  readonly maxBytes?: number | undefined
}

/**
 * @since 0.1.0
 * @category models
 */
export interface Options extends Bounds {
  /** Refuse all writes with `ReadOnly`. Default false. */
  readonly readOnly?: boolean | undefined
}

/**
 * How much a port holds, fresh or not.
 *
 * @since 0.1.0
 * @category models
 */
export interface Size {
  readonly entries: number
  readonly bytes: number
}

const boundKeys: Keys<Bounds> = { maxEntries: true, maxBytes: true }

/**
 * A port of its own for each call, with its size.
 *
 * @since 0.1.0
 * @category constructors
 */
export const makeEncoded = (
  options: Bounds = {}
): Effect.Effect<{ readonly encoded: Encoded; readonly size: Effect.Effect<Size> }, InvalidInput> =>
  checked(
    () => {
      const { maxBytes = 64 * 1024 * 1024, maxEntries = 100_000 } = fields(options, "options", Object.keys(boundKeys))
      return new MemoryCache(integer(maxEntries, "maxEntries", 1), integer(maxBytes, "maxBytes", 1))
    },
    (cache) =>
      Effect.succeed({
        encoded: port.make(cache),
        size: Effect.sync(() => ({ entries: cache.entries, bytes: cache.bytes }))
      })
  )

/**
 * @since 0.1.0
 * @category layers
 */
export const layer = (options: Options = {}): Layer.Layer<CacheStore, InvalidInput> =>
  Layer.scoped(
    CacheStore,
    Effect.gen(function* () {
      const known = yield* onlyKnown(options, { ...boundKeys, readOnly: true })
      const { encoded } = yield* makeEncoded(part<Bounds>(known, boundKeys))
      // Nobody outlives the process to wait for the lock of a load.
      return yield* make(encoded, {
        system: "memory",
        readOnly: known.readOnly,
        leaseMs: Number.POSITIVE_INFINITY,
        breaker: false
      })
    })
  )
