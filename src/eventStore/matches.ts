/**
 * What a filter of events means, for those who look through events that were read already. The databases say the same
 * in SQL.
 */
import { matcher } from "../internal/logs.js"
import type { EncodedEvent, EncodedFilter } from "./EventStoreEncoded.js"

/**
 * The filter that all match.
 *
 * @since 0.1.0
 * @category encoded
 */
export const anyEvent: EncodedFilter = {
  tenantId: null,
  domain: null,
  aggregateId: null,
  types: null,
  commandId: null,
  createdFrom: null,
  createdUntil: null
}

/**
 * Whether an event is one of those that a filter asks for, as a predicate that looks at the filter once: for backends
 * that look through events themselves.
 *
 * @since 0.1.0
 * @category encoded
 */
export const matches: (filter: EncodedFilter) => (event: EncodedEvent) => boolean = matcher<
  EncodedFilter,
  EncodedEvent
>({
  tenantId: (event, tenantId) => event.tenantId === tenantId,
  domain: (event, domain) => event.domain === domain,
  aggregateId: (event, aggregateId) => event.aggregateId === aggregateId,
  types: (event, types) => types.includes(event.type),
  commandId: (event, commandId) => event.commandId === commandId,
  createdFrom: (event, from) => event.createdAt >= from,
  createdUntil: (event, until) => event.createdAt < until
})
