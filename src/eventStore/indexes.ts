/**
 * The option that names which indexes of events there are beside those of every store.
 */
import { array, oneOf } from "../internal/validate.js"

/** What an index of events by choice may be by, as the option names it. */
export const eventIndexes = ["type", "domain", "tenant", "time"] as const

/**
 * @since 0.1.0
 * @category models
 */
export type EventIndex = (typeof eventIndexes)[number]

/**
 * @since 0.1.0
 * @category models
 */
export interface IndexOptions {
  /**
   * Indexes beside those that every store has, so that a filter costs by what it finds and not by what it passes over:
   * of types, of domains, of tenants, and of times of creation. Each makes appends slower. They are created when the store opens, unless `migrate` is false. Default `["type"]`. One that exists is
   * used, and is not removed because it is not named.
   */
  readonly indexes?: ReadonlyArray<EventIndex> | undefined
}

/** Throws `InvalidInput`. */
export const checkedIndexes = ({ indexes = ["type"] }: IndexOptions): ReadonlyArray<EventIndex> => {
  const given = array(indexes, "indexes", 0, eventIndexes.length)
  const named = new Set(given.map((index, i) => oneOf(index, `indexes[${i}]`, eventIndexes)))
  return eventIndexes.filter((index) => named.has(index))
}
