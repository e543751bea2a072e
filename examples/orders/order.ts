/**
 * The order: its events, its state, and what may be asked of it. Nothing here knows of HTTP or of a store.
 */
import { Effect, Schema } from "effect"
import { Aggregate, SnapshotPolicy } from "effect-stores"

/** The example serves one shop. With several, this comes from who is signed in. */
export const tenantId = "shop"

export const OrderId = Schema.UUID.annotations({ identifier: "OrderId" })

const Text = Schema.String.pipe(Schema.minLength(1), Schema.maxLength(200))

/** Whole cents: sums of lines stay far below what a number holds exactly. */
const Cents = Schema.Int.pipe(Schema.between(0, 100_000_000))

const Quantity = Schema.Int.pipe(Schema.between(1, 1_000))

/** Every load carries all lines, so their number is bounded. */
const linesMax = 100

const Line = Schema.Struct({ item: Text, quantity: Quantity, price: Cents })

export const Invoice = Schema.Struct({
  object: Schema.String,
  sha256: Schema.String,
  bytes: Schema.Int.pipe(Schema.positive())
})
export type Invoice = typeof Invoice.Type

export const OrderEvent = Schema.Union(
  Schema.TaggedStruct("Placed", { customer: Text }),
  Schema.TaggedStruct("LineAdded", Line.fields),
  Schema.TaggedStruct("Paid", { amount: Schema.Int }),
  Schema.TaggedStruct("InvoiceAttached", Invoice.fields),
  Schema.TaggedStruct("Shipped", { carrier: Text }),
  Schema.TaggedStruct("Cancelled", { reason: Text })
)
export type OrderEvent = typeof OrderEvent.Type

const State = Schema.Struct({
  status: Schema.Literal("none", "placed", "paid", "shipped", "cancelled"),
  customer: Schema.String,
  lines: Schema.Array(Line),
  /** In cents. */
  total: Schema.Int,
  invoice: Schema.NullOr(Invoice)
})
export type State = typeof State.Type

const evolve = (order: State, event: OrderEvent): State => {
  switch (event._tag) {
    case "Placed":
      return { ...order, status: "placed", customer: event.customer }
    case "LineAdded": {
      const { item, price, quantity } = event
      return { ...order, lines: [...order.lines, { item, quantity, price }], total: order.total + quantity * price }
    }
    case "Paid":
      return { ...order, status: "paid" }
    case "InvoiceAttached": {
      const { bytes, object, sha256 } = event
      return { ...order, invoice: { object, sha256, bytes } }
    }
    case "Shipped":
      return { ...order, status: "shipped" }
    case "Cancelled":
      return { ...order, status: "cancelled" }
  }
}

export const Order = Aggregate.make({
  domain: "order",
  state: State,
  event: OrderEvent,
  initial: { status: "none", customer: "", lines: [], total: 0, invoice: null },
  evolve,
  snapshots: SnapshotPolicy.every(20)
})

export const idOf = (orderId: string): Aggregate.Id => ({ tenantId, aggregateId: orderId })

/** What the body of a request says; the rest of a command stands in its path. */
export const bodies = {
  Place: Schema.Struct({ customer: Text }),
  AddLine: Line,
  Pay: Schema.Struct({ amount: Cents }),
  Ship: Schema.Struct({ carrier: Text }),
  Cancel: Schema.Struct({ reason: Text })
}

/** Whom a command is for, and, if the client says so, which version of the order it was decided on. */
const target = { orderId: OrderId, expectedVersion: Schema.optional(Schema.NonNegativeInt) }

export const Command = Schema.Union(
  Schema.TaggedStruct("Place", { ...target, ...bodies.Place.fields }),
  Schema.TaggedStruct("AddLine", { ...target, ...bodies.AddLine.fields }),
  Schema.TaggedStruct("Pay", { ...target, ...bodies.Pay.fields }),
  Schema.TaggedStruct("Ship", { ...target, ...bodies.Ship.fields }),
  Schema.TaggedStruct("Cancel", { ...target, ...bodies.Cancel.fields }),
  // Not the object's name: each attempt to upload it has another, and a repeat must be the same command.
  Schema.TaggedStruct("AttachInvoice", { ...target, sha256: Schema.String, bytes: Schema.Int.pipe(Schema.positive()) })
)
export type Command = typeof Command.Type

export class NotFound extends Schema.TaggedError<NotFound>()("NotFound", { what: Schema.String }) {}

/** What was asked is not possible with the order as it is. */
export class Refused extends Schema.TaggedError<Refused>()("Refused", { why: Schema.String }) {}

/** The order has changed since the version that the client has seen. */
export class Conflict extends Schema.TaggedError<Conflict>()("Conflict", {
  expected: Schema.Int,
  actual: Schema.Int
}) {}

export type Decision = Effect.Effect<ReadonlyArray<OrderEvent>, NotFound | Refused>

const happened = (...events: ReadonlyArray<OrderEvent>): Decision => Effect.succeed(events)

const refused = (why: string): Decision => Effect.fail(new Refused({ why }))

/** `object` is where this attempt has put the invoice. */
export const decide = ({ lines, status, total }: State, command: Command, object = ""): Decision => {
  if (command._tag === "Place") {
    return status === "none"
      ? happened({ _tag: "Placed", customer: command.customer })
      : refused("it was placed already")
  }
  if (status === "none") return Effect.fail(new NotFound({ what: `order ${command.orderId}` }))
  switch (command._tag) {
    case "AddLine": {
      if (status !== "placed") return refused(`it is ${status}`)
      if (lines.length === linesMax) return refused(`it has ${linesMax} lines already`)
      const { item, price, quantity } = command
      return happened({ _tag: "LineAdded", item, quantity, price })
    }
    case "Pay":
      if (status !== "placed") return refused(`it is ${status}`)
      if (lines.length === 0) return refused("it has no lines")
      if (command.amount !== total) return refused(`the total is ${total}`)
      return happened({ _tag: "Paid", amount: command.amount })
    case "AttachInvoice":
      if (status === "cancelled") return refused("it is cancelled")
      return happened({ _tag: "InvoiceAttached", object, sha256: command.sha256, bytes: command.bytes })
    case "Ship":
      if (status !== "paid") return refused(`it is ${status}`)
      return happened({ _tag: "Shipped", carrier: command.carrier })
    case "Cancel":
      if (status === "shipped" || status === "cancelled") return refused(`it is ${status}`)
      return happened({ _tag: "Cancelled", reason: command.reason })
  }
}
