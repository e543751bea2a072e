/**
 * Two CacheStores as one: a near one, mostly in memory, before one that processes share.
 *
 * Reads look in the first level, then in the second, and fill the first. Everything else happens in the second: loads
 * and their locks, tags, times to live, lists and counts. A removal, and a `set`, goes to the second level, then to the
 * first, then over the bus to the first levels of other processes; it returns when this process will not serve what was
 * removed any more.
 *
 * Another process serves it until the message arrives. One whose connection to the bus is lost, or silent for two
 * seconds, reads the second level only, and begins with an empty first level when it is connected again. Whatever
 * happens, the first level serves nothing that was removed from the second more than `staleness` ago (default 5
 * seconds), because it keeps nothing for longer; without a bus this is all that is promised. Where a removal is part of
 * a transaction on the second level's database, this holds from its commit on, for this process as for others.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { CacheBus } from "./CacheBus.js"
import { CacheStore } from "./CacheStore.js"
import { time } from "./cacheStore/input.js"
import { encodedOf, relift } from "./cacheStore/lift.js"
import { twoLevels } from "./cacheStore/twoLevels.js"
import type { InvalidInput } from "./Errors.js"
import { checked, fields, refuse } from "./internal/validate.js"

/**
 * @since 0.1.0
 * @category models
 */
export interface Options<E1, R1, E2, R2, E3, R3> {
  readonly first: Layer.Layer<CacheStore, E1, R1>
  readonly second: Layer.Layer<CacheStore, E2, R2>
  /** `CacheStoreRedis.bus`, `CacheStorePg.bus`, or your own. */
  readonly bus?: Layer.Layer<CacheBus, E3, R3> | undefined
  /** How old the first level may be, at most: from 1 ms to an hour. Default 5 seconds. */
  readonly staleness?: Duration.DurationInput | undefined
}

const defaultStalenessMs = 5_000
const stalenessMaxMs = 3_600_000

const stalenessOf = (value: unknown): number => {
  if (value === undefined) return defaultStalenessMs
  const ms = time(value, "staleness", 1)
  return ms <= stalenessMaxMs ? ms : refuse("staleness", "must be at most an hour")
}

/**
 * @example
 * ```ts
 * import { Layer } from "effect"
 * import { CacheStoreTwoLevels } from "effect-stores"
 * import { CacheStoreMemory } from "effect-stores/memory"
 * import { CacheStoreRedis, RedisDatabase } from "effect-stores/redis"
 *
 * const cache = CacheStoreTwoLevels.layer({
 *   first: CacheStoreMemory.layer({ maxEntries: 10_000 }),
 *   second: CacheStoreRedis.layerFromDatabase(),
 *   bus: CacheStoreRedis.bus()
 * }).pipe(Layer.provide(RedisDatabase.layer({ host: "localhost" })))
 * ```
 *
 * @since 0.1.0
 * @category layers
 */
export const layer = <E1, R1, E2, R2, E3 = never, R3 = never>(
  options: Options<E1, R1, E2, R2, E3, R3>
): Layer.Layer<CacheStore, E1 | E2 | E3 | InvalidInput, R1 | R2 | R3> =>
  Layer.scoped(
    CacheStore,
    Effect.gen(function* () {
      const stalenessMs = yield* checked(
        () => stalenessOf(fields(options, "options", ["first", "second", "bus", "staleness"]).staleness),
        Effect.succeed
      )
      const first = Context.get(yield* Layer.build(options.first), CacheStore)
      const second = Context.get(yield* Layer.build(options.second), CacheStore)
      const bus = options.bus === undefined ? undefined : Context.get(yield* Layer.build(options.bus), CacheBus)
      const near = yield* encodedOf(first)
      return yield* relift(second, (far) => twoLevels(near, far, bus, stalenessMs))
    })
  )
