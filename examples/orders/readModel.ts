/**
 * What readers see of orders: kept in the cache, which a projection removes from as events say.
 *
 * - It is removed once for all processes, so these share a cache: in the database, or in Redis.
 * - Whoever has got the response to a command, and reads then, sees its events; so does whoever is told of a change.
 * - If a process dies between its append and the removal, another goes on where it was.
 * - A removed value never comes back: a load that began before the removal stores nothing.
 */
import { Effect, Layer, Schedule, Schema } from "effect"
import { Aggregate, CacheStore, EventStore, Projection, Trace } from "effect-stores"
import { idOf, NotFound, Order, OrderEvent, OrderId, tenantId } from "./order.js"

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

const keyOf = (orderId: string) => `order/${orderId}`
const newestKey = "newest"

export const view = (orderId: string) => views.getOrSet(tenantId, keyOf(orderId), load(orderId), { ttl })

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
    newestKey,
    Effect.gen(function* () {
      const store = yield* EventStore.EventStore
      const filter = { tenantId, domain: Order.domain, types: ["Placed"] }
      const { events } = yield* store.page({ filter, direction: "backward", limit: newestMax })
      return yield* Effect.forEach(events, ({ aggregateId }) => view(aggregateId), { concurrency: 5 })
    }),
    { ttl }
  )
)

/**
 * Removes what is kept of each order that changes, whichever process changes it. It may happen again to the same
 * events, and then removes what is not there.
 */
const OrderViews = Projection.make({
  name: "order_views",
  delivery: "atLeastOnce",
  events: OrderEvent,
  filter: { tenantId, domain: Order.domain },
  // The start of the next process waits for it when one was killed.
  lease: "5 seconds",
  handle: (events) =>
    Effect.flatMap(CacheStore.CacheStore, (cache) =>
      cache.invalidate(tenantId, { keys: [newestKey, ...new Set(events.map(({ aggregateId }) => keyOf(aggregateId)))] })
    ).pipe(
      // A trace of its own, which leads to those of the requests that the events come from.
      Effect.withSpan("orders.follow", {
        kind: "consumer",
        links: events.flatMap(Trace.linksOf),
        attributes: { events: events.length }
      })
    )
})

/**
 * Waits until readers see what was appended up to the position. If that takes too long, they see it later: the events
 * stand all the same.
 */
export const shown = (position: number) =>
  Effect.catchAll(Projection.awaitPosition(OrderViews, position, { timeout: "5 seconds" }), (error) =>
    Effect.logWarning("readers see it later", error)
  )

/**
 * 1. Catches up with what was appended while nobody followed, so that no request is served what was before.
 * 2. Follows. Should it stop, at an event of a newer release perhaps, it says so and tries again.
 */
export const following = Layer.scopedDiscard(
  Effect.suspend(() =>
    Effect.zipRight(
      Projection.catchUp(OrderViews),
      Projection.run(OrderViews).pipe(
        Effect.tapError((error) => Effect.logError("what readers see of orders is not kept up to date", error)),
        Effect.retry(Schedule.spaced("10 seconds")),
        Effect.forkScoped
      )
    )
  )
)
