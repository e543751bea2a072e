/**
 * The service as a Schema: its server is checked against it, its clients and its OpenAPI document are made from it.
 */
import { HttpApi, HttpApiEndpoint, HttpApiGroup, HttpApiSchema, OpenApi } from "@effect/platform"
import { Schema } from "effect"
import { bodies, Conflict, NotFound, OrderId, Refused } from "./order.js"
import { OrderView } from "./readModel.js"

/** The store or the network failed, and the same request may succeed later. With the same key it is safe to repeat. */
export class Unavailable extends Schema.TaggedError<Unavailable>()(
  "Unavailable",
  {},
  HttpApiSchema.annotations({ status: 503 })
) {}

/** The log of the server says why. */
export class Failed extends Schema.TaggedError<Failed>()("Failed", {}, HttpApiSchema.annotations({ status: 500 })) {}

export class TooLarge extends Schema.TaggedError<TooLarge>()(
  "TooLarge",
  { bytesMax: Schema.Int },
  HttpApiSchema.annotations({ status: 413 })
) {}

export class NotPdf extends Schema.TaggedError<NotPdf>()("NotPdf", {}, HttpApiSchema.annotations({ status: 415 })) {}

const id = HttpApiSchema.param("id", OrderId)

/** A command with this id is done once. To try again, send the same request with the same key. */
const Key = Schema.Struct({
  "idempotency-key": Schema.compose(Schema.Lowercase, Schema.UUID).annotations({
    description: "A UUID for this command. Send it again with every repeat of the request."
  })
})

const body = <Fields extends Schema.Struct.Fields>({ fields }: Schema.Struct<Fields>) =>
  Schema.Struct({
    ...fields,
    expectedVersion: Schema.optional(Schema.NonNegativeInt).annotations({
      description: "Refuse with 409 unless the order is at this version."
    })
  })

/** Where the order is after a command. */
const Done = Schema.Struct({ orderId: OrderId, version: Schema.Int })

const pdf = "application/pdf"

const orders = HttpApiGroup.make("orders")
  .add(
    HttpApiEndpoint.post("place")`/orders`.setHeaders(Key).setPayload(bodies.Place).addSuccess(Done, { status: 201 })
  )
  .add(HttpApiEndpoint.get("newest")`/orders`.addSuccess(Schema.Array(OrderView)))
  .add(HttpApiEndpoint.get("get")`/orders/${id}`.addSuccess(OrderView))
  .add(
    HttpApiEndpoint.post("addLine")`/orders/${id}/lines`
      .setHeaders(Key)
      .setPayload(body(bodies.AddLine))
      .addSuccess(Done)
  )
  .add(HttpApiEndpoint.post("pay")`/orders/${id}/payment`.setHeaders(Key).setPayload(body(bodies.Pay)).addSuccess(Done))
  .add(
    HttpApiEndpoint.post("ship")`/orders/${id}/shipment`.setHeaders(Key).setPayload(body(bodies.Ship)).addSuccess(Done)
  )
  .add(
    HttpApiEndpoint.post("cancel")`/orders/${id}/cancellation`
      .setHeaders(Key)
      .setPayload(body(bodies.Cancel))
      .addSuccess(Done)
  )
  .add(
    HttpApiEndpoint.put("attachInvoice")`/orders/${id}/invoice`
      .setHeaders(Key)
      .setPayload(HttpApiSchema.Uint8Array({ contentType: pdf }))
      .addSuccess(Done)
      .addError(TooLarge)
      .addError(NotPdf)
  )
  .add(
    HttpApiEndpoint.get("getInvoice")`/orders/${id}/invoice`.addSuccess(HttpApiSchema.Uint8Array({ contentType: pdf }))
  )
  .addError(NotFound, { status: 404 })
  .addError(Conflict, { status: 409 })
  .addError(Refused, { status: 422 })
  .addError(Unavailable)
  .addError(Failed)

/** One event of the feed, as the `data` of a server-sent event. */
export const Change = Schema.Struct({
  orderId: OrderId,
  version: Schema.Int,
  type: Schema.String,
  data: Schema.Unknown,
  at: Schema.String
})

/** Where a reader goes on: an `EventSource` sends the header by itself when it connects again. */
const Position = Schema.NumberFromString.pipe(Schema.int(), Schema.between(0, Number.MAX_SAFE_INTEGER))
const From = Schema.Struct({ "last-event-id": Schema.optional(Position) })
const After = Schema.Struct({ after: Schema.optional(Position) })
const EventStream = HttpApiSchema.Text({ contentType: "text/event-stream" })

const changes = HttpApiGroup.make("changes")
  .add(HttpApiEndpoint.get("ofAll")`/changes`.setHeaders(From).setUrlParams(After).addSuccess(EventStream))
  .add(HttpApiEndpoint.get("ofOne")`/orders/${id}/changes`.setHeaders(From).setUrlParams(After).addSuccess(EventStream))
  .addError(NotFound, { status: 404 })
  .addError(Refused, { status: 422 })
  .addError(Unavailable)
  .addError(Failed)

export const Api = HttpApi.make("orders")
  .add(orders)
  .add(changes)
  .prefix("/api")
  .annotate(OpenApi.Title, "Orders")
  .annotate(OpenApi.Version, "1.0.0")
