/**
 * Everything that takes a filter of events, with a filter for each way of looking up and for several at once.
 */
import { DateTime, Effect, Stream } from "effect"
import { EventStore } from "effect-stores"

const filters: ReadonlyArray<EventStore.Filter> = [
  { types: ["Rare"] },
  { types: ["Rare", "Other", "Third"] },
  { types: Array.from({ length: 40 }, (_, i) => `T${i}`) },
  { domain: "rare" },
  { tenantId: "rare" },
  { tenantId: "rare", domain: "rare" },
  { tenantId: "rare", domain: "rare", aggregateId: "rare" },
  { commandId: "rare" },
  { createdFrom: DateTime.unsafeMake(1), createdUntil: DateTime.unsafeMake(2) },
  { tenantId: "many", types: ["Rare", "T"], createdFrom: DateTime.unsafeMake(10) },
  { tenantId: "many", domain: "rare", types: ["T"], commandId: "rare" }
]

export const filtered = Effect.flatMap(EventStore.EventStore, (store) =>
  Effect.forEach(
    filters,
    (filter) =>
      Effect.all([
        Stream.runDrain(store.feed({ filter })),
        store.page({ filter, limit: 10 }),
        store.page({ filter, limit: 10, direction: "backward" }),
        store.count(filter),
        Stream.runDrain(store.distinct("tenantId", filter))
      ]),
    { discard: true }
  ).pipe(
    Effect.zipRight(
      Effect.forEach(["type", "domain", "tenantId"] as const, (field) => Stream.runDrain(store.distinct(field)))
    )
  )
)
