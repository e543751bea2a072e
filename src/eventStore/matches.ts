/**
 * What a filter of events means, for those who look through events that were read already. The databases say the same
 * in SQL.
 */
import { matcher } from "../internal/logs.js"
import type { EncodedEvent, EncodedFilter } from "./EventStoreEncoded.js"

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
