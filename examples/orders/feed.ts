/**
 * The feed of events as server-sent events. Their ids are positions, so a reader that connects again and says the last
 * one it has seen gets each event since then exactly once, from this process or another, however long it was away. Who
 * gets one and asks for the order sees it there: it is sent when the read model has come so far.
 */
import { HttpServerResponse } from "@effect/platform"
import { Chunk, DateTime, Effect, Schedule, Schema, Stream } from "effect"
import type { CheckpointStore, EventStore } from "effect-stores"
import { Change } from "./api.js"
import { Order, type OrderEvent, tenantId } from "./order.js"
import { shown } from "./readModel.js"
import { Stopping } from "./server.js"

/** Sent when nothing happens, so that no proxy between takes the connection for dead. */
const heartbeat = ": \n\n"
const heartbeatEvery = "15 seconds"

/** How soon a client connects again, in milliseconds. */
const hello = "retry: 1000\n\n"

const encode = Schema.encodeSync(Schema.parseJson(Change))

const message = ({
  aggregateId,
  createdAt,
  data,
  position,
  type,
  version
}: EventStore.TypedEvent<OrderEvent>): string => {
  // Where an invoice lies is the server's own business.
  const { _tag, ...shown } = data._tag === "InvoiceAttached" ? { ...data, object: undefined } : data
  // JSON has no line breaks outside of strings, and escapes those inside.
  const json = encode({ orderId: aggregateId, version, type, data: shown, at: DateTime.formatIso(createdAt) })
  return `id: ${position}\ndata: ${json}\n\n`
}

/** Ends when the server stops, or when the store fails: the client then connects again by itself. */
export const response = (after: number, orderId?: string) =>
  Effect.gen(function* () {
    const stopping = yield* Stopping
    const filter = { tenantId, domain: Order.domain, aggregateId: orderId }
    const stores = yield* Effect.context<EventStore.EventStore | CheckpointStore.CheckpointStore>()
    const events = Order.events.subscribe({ after, filter }).pipe(
      Stream.mapChunksEffect((changes) =>
        Chunk.isNonEmpty(changes)
          ? Effect.as(shown(Chunk.lastNonEmpty(changes).position), Chunk.map(changes, message))
          : Effect.succeed(Chunk.empty<string>())
      ),
      Stream.catchAll((error) => Stream.execute(Effect.logWarning("a feed ended", error))),
      Stream.provideSomeContext(stores)
    )
    const heartbeats = Stream.as(Stream.fromSchedule(Schedule.spaced(heartbeatEvery)), heartbeat)
    const body = Stream.make(hello).pipe(
      Stream.concat(Stream.merge(events, heartbeats, { haltStrategy: "left" })),
      Stream.interruptWhen(stopping.signal),
      Stream.encodeText
    )
    return HttpServerResponse.stream(body, {
      contentType: "text/event-stream",
      headers: { "cache-control": "no-store", "x-accel-buffering": "no" }
    })
  })
