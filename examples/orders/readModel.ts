/**
 * What readers see of orders: kept in the cache, and removed from it as events say.
 *
 * - Whoever has got the response to a command, and reads then, sees its events.
 * - Another process with a cache of its own, and everybody if a process dies between its append and the removal, sees
 *   them when `following` has read the event: as a rule within milliseconds, after an outage when it is over.
 * - A removed value never comes back: a load that began before the removal stores nothing.
 */
import { Effect, Layer, Schema, Stream } from "effect"
import { Aggregate, CacheStore, EventStore, Trace } from "effect-stores"
import { idOf, NotFound, Order, OrderId, tenantId } from "./order.js"

/** An order as clients see it. */
export class OrderView extends Schema.Class<OrderView>("Order")({
  orderId: OrderId,
  version: Schema.Int,
  status: Schema.Literal("placed", "paid", "shipped", "cancelled"),
  customer: Schema.String,
  lines: Schema.Array(Schema.Struct({ item: Schema.String, quantity: Schema.Int, price: Schema.Int })),
  total: Schema.Int,
  invoice: Schema.NullOr(Schema.Struct({ sha256: Schema.String, bytes: Schema.Int }))
}) {}

const views = CacheStore.forSchema(OrderView)
const lists = CacheStore.forSchema(Schema.Array(OrderView))

/** The last bound, should all else fail. */
const ttl = "10 minutes"

/** Of the newest orders. */
const newestMax = 20

const tagOf = (orderId: string) => `order/${orderId}`
const listTag = "orders"

export const view = (orderId: string) =>
  views.getOrSet(tenantId, tagOf(orderId), load(orderId), { ttl, tags: [tagOf(orderId)] })

const load = (orderId: string) =>
  Effect.flatMap(Aggregate.load(Order, idOf(orderId)), ({ state: { invoice, status, ...order }, version }) =>
    status === "none"
      ? Effect.fail(new NotFound({ what: `order ${orderId}` }))
      : Effect.succeed(
          OrderView.make({
            ...order,
            orderId,
            version,
            status,
            invoice: invoice && { sha256: invoice.sha256, bytes: invoice.bytes }
          })
        )
  )

/** The orders that were placed last, the newest first. */
export const newest = Effect.suspend(() =>
  lists.getOrSet(
    tenantId,
    "newest",
    Effect.gen(function* () {
      const store = yield* EventStore.EventStore
      const filter = { tenantId, domain: Order.domain, types: ["Placed"] }
      const { events } = yield* store.page({ filter, direction: "backward", limit: newestMax })
      return yield* Effect.forEach(events, ({ aggregateId }) => view(aggregateId), { concurrency: 5 })
    }),
    { ttl, tags: [listTag] }
  )
)

/** Removes what is kept of an order. When it fails the events stand all the same, and `following` makes up for it. */
export const forget = (orderId: string) =>
  Effect.catchAll(remove(orderId), (error) => Effect.logWarning(`the cache still has order ${orderId}`, error))

const remove = (orderId: string) =>
  Effect.flatMap(CacheStore.CacheStore, (cache) => cache.invalidate(tenantId, { tags: [tagOf(orderId), listTag] }))

/**
 * Removes what is kept of each order that changes, whichever process changes it.
 *
 * 1. Takes the head of the feed, then empties the cache: nobody may have removed what changed before.
 * 2. Follows the feed from that head. If either store fails, it begins anew.
 */
export const following = Layer.scopedDiscard(
  Effect.suspend(() => Effect.flatMap(begin, (head) => Effect.forkScoped(followFrom(head))))
)

const begin = Effect.gen(function* () {
  const head = yield* (yield* EventStore.EventStore).head
  yield* (yield* CacheStore.CacheStore).clear(tenantId)
  return head
})

const followFrom = (head: number): Effect.Effect<never, never, EventStore.EventStore | CacheStore.CacheStore> =>
  Effect.gen(function* () {
    const store = yield* EventStore.EventStore
    const changes = store.subscribe({ after: head, filter: { tenantId, domain: Order.domain } })
    yield* Effect.catchAll(
      Stream.runForEach(changes, (event) =>
        // A trace of its own for each event, which leads to that of the request that the event comes from.
        Effect.withSpan(remove(event.aggregateId), "orders.follow", {
          kind: "consumer",
          links: Trace.linksOf(event),
          attributes: { type: event.type }
        })
      ),
      (error) => Effect.logWarning("the cache begins anew", error)
    )
    return yield* followFrom(yield* Effect.eventually(Effect.tapError(begin, () => Effect.sleep("1 second"))))
  })
