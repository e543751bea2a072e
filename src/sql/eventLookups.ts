/**
 * The ways to look up what a filter of events asks for, the same on both databases. Where a filter has several, the
 * indexes are asked how much each of them has: neither database can be relied on to choose, since the plan of a
 * prepared statement does not know its values, and statistics may be missing.
 */
import type { Direction, DistinctField } from "../EventStore.js"
import type { EncodedFilter } from "../eventStore/EventStoreEncoded.js"
import type { EventIndex } from "../internal/storeOptions.js"

/** The columns that some index has. All but those of the index that is wanted are kept from being looked up. */
export const lookedUp = ["position", "tenant_id", "domain", "aggregate_id", "type", "command_id", "created_ms"] as const

export type Column = (typeof lookedUp)[number]

/**
 * `position` walks over all events in their order, and `stream` over those of one stream. `address` is the beginning of
 * the index of streams, by tenant or by tenant and domain.
 */
export type WayName = "position" | "stream" | "address" | "command" | EventIndex

export interface Way {
  readonly name: WayName
  readonly columns: ReadonlyArray<Column>
  /** Whether its events come in order of position. Others are sorted, so that a page costs what all of them cost. */
  readonly inOrder: boolean
}

const inOrder = (name: WayName, ...columns: ReadonlyArray<Column>): Way => ({ name, columns, inOrder: true })
const unordered = (name: WayName, ...columns: ReadonlyArray<Column>): Way => ({ name, columns, inOrder: false })

export const walk: Way = inOrder("position", "position")

/** Each type is read by itself, and what they have is merged. */
const mergedMax = 32

/** The ways that an index has for a filter; none if all events must be looked at. */
export const waysOf = (filter: EncodedFilter, indexes: ReadonlySet<EventIndex>): ReadonlyArray<Way> => {
  const { aggregateId, commandId, createdFrom, createdUntil, domain, tenantId, types } = filter
  if (tenantId !== null && domain !== null && aggregateId !== null) {
    return [unordered("stream", "tenant_id", "domain", "aggregate_id")]
  }
  const ways: Array<Way> = []
  if (commandId !== null) ways.push(inOrder("command", "command_id", "position"))
  if (types !== null && indexes.has("type")) {
    ways.push(types.length > mergedMax ? unordered("type", "type") : inOrder("type", "type", "position"))
  }
  if (tenantId !== null && indexes.has("tenant")) ways.push(inOrder("tenant", "tenant_id", "position"))
  if (domain !== null && indexes.has("domain")) ways.push(inOrder("domain", "domain", "position"))
  if (tenantId !== null && (domain !== null || !indexes.has("tenant"))) {
    ways.push(unordered("address", "tenant_id", "domain"))
  }
  if ((createdFrom !== null || createdUntil !== null) && indexes.has("time")) ways.push(unordered("time", "created_ms"))
  return ways
}

/** The part of a filter that a way looks up. */
export const partOf = (filter: EncodedFilter, { columns, name }: Way): EncodedFilter => ({
  tenantId: columns.includes("tenant_id") ? filter.tenantId : null,
  domain: columns.includes("domain") ? filter.domain : null,
  aggregateId: columns.includes("aggregate_id") ? filter.aggregateId : null,
  types: columns.includes("type") ? filter.types : null,
  commandId: columns.includes("command_id") ? filter.commandId : null,
  createdFrom: name === "time" ? filter.createdFrom : null,
  createdUntil: name === "time" ? filter.createdUntil : null
})

/**
 * The types that are read one by one and merged; none if the way does not do that. More than four are made a power of
 * two by empty ones, which no event has: each number has a statement of its own, which every connection keeps, and for
 * 32 types it takes 3 MiB of PostgreSQL's memory.
 */
export const mergedTypes = (filter: EncodedFilter, way: Way): ReadonlyArray<string> => {
  if (way.name !== "type" || !way.inOrder) return []
  const types = [...new Set(filter.types)]
  const number = types.length > 4 ? 2 ** Math.ceil(Math.log2(types.length)) : types.length
  return types.concat(Array.from({ length: number - types.length }, () => ""))
}

/** What a way has, looked at up to a number of events: how many, and the position of the last of them. */
export interface Look {
  readonly count: number
  readonly last: number
}

/** How many events of each way are looked at, at first. It takes about a millisecond. */
export const lookMax = 10_000

/** How many more each time, where one way must be found that has fewer. */
export const lookGrowth = 16

/** Everything, for those who count. */
export const everywhere = { after: 0, through: Number.MAX_SAFE_INTEGER, direction: "forward" } as const

/** A range of positions that is not longer is walked, without any look. */
const shortRange = 1_000

/** The way to a page that needs no look; `undefined` if it takes one. */
export const evident = (
  ways: ReadonlyArray<Way>,
  { after, through }: { readonly after: number; readonly through: number }
): Way | undefined => {
  const [only] = ways
  if (only === undefined || only.name === "stream") return only ?? walk
  if (through - after <= shortRange) return walk
  return ways.length === 1 && only.inOrder ? only : undefined
}

/**
 * The way that has the fewest events. If all have more than were looked at, that whose events reach furthest, so are
 * the rarest here; it must be in order then, since all of the others would be sorted for each page.
 */
export const rarest = (
  ways: ReadonlyArray<Way>,
  looks: ReadonlyArray<Look>,
  direction: Direction,
  max: number
): Way => {
  const all = ways.map((way, i) => ({ way, ...(looks[i] as Look) }))
  const [fewest] = all.filter(({ count }) => count < max).sort((a, b) => a.count - b.count)
  if (fewest !== undefined) return fewest.way
  const sign = direction === "forward" ? 1 : -1
  const [furthest] = all.filter(({ way }) => way.inOrder).sort((a, b) => sign * (b.last - a.last))
  return furthest?.way ?? walk
}

/** Whether an index has the values of a field one after the other, so that each is looked up after the one before. */
export const isLoose = (
  field: DistinctField,
  { tenantId, ...filter }: EncodedFilter,
  indexes: ReadonlySet<EventIndex>
): boolean => {
  if (Object.values(filter).some((value) => value !== null)) return false
  if (tenantId !== null) return field === "domain"
  return field === "tenantId" || ((field === "type" || field === "domain") && indexes.has(field))
}
