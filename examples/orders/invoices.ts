/**
 * The invoice of an order, streamed both ways. The object first, then the event that refers to it: a process that dies
 * in between leaves an object that nobody knows, and never an event without its object. (examples/invoices shows how to
 * find such objects.)
 */
import { randomUUID } from "node:crypto"
import { HttpServerResponse } from "@effect/platform"
import { Effect, Layer, Option, Schedule, Stream } from "effect"
import { Aggregate, CommandStore, DataStore, Errors, EventStore } from "effect-stores"
import { Failed, TooLarge } from "./api.js"
import { execute } from "./commands.js"
import { Conflict, idOf, NotFound, Order, Refused } from "./order.js"
import { view } from "./readModel.js"

const bucket = "invoices"

export const bytesMax = 20 * 2 ** 20

export const prepared = Layer.scopedDiscard(
  Effect.gen(function* () {
    const objects = yield* DataStore.DataStore
    yield* objects.buckets.create(bucket)
    // What uploads of dead processes have left.
    const sweep = Effect.catchAll(objects.sweep(), (error) => Effect.logWarning("nothing was swept", error))
    yield* Effect.forkScoped(Effect.repeat(sweep, Schedule.spaced("1 hour")))
  })
)

export interface Upload<E> {
  readonly body: Stream.Stream<Uint8Array, E>
  /** As the client says; undefined when it does not know. */
  readonly size: number | undefined
}

/**
 * 1. Streams the object under a name of its own: what is there is referred to by an event, and must stay as it is.
 * 2. Attaches it. A repeat gets the first outcome, which refers to the first object.
 * 3. Deletes an object that is then known not to be referred to. After a failure that leaves this open it stays.
 */
export const attach = <E>(orderId: string, commandId: string, { body, size }: Upload<E>) =>
  Effect.gen(function* () {
    const objects = yield* DataStore.DataStore
    if (size !== undefined && size > bytesMax) return yield* new TooLarge({ bytesMax })
    yield* view(orderId)

    const object = { bucket, name: `${orderId}/${randomUUID()}` }
    const stored = yield* objects.put(object, atMost(body), {
      contentType: "application/pdf",
      ...(size !== undefined && { size })
    })
    const command = { _tag: "AttachInvoice", orderId, sha256: stored.sha256, bytes: stored.size } as const
    const remove = Effect.catchAll(objects.delete(object), (error) => Effect.logWarning("an object is left", error))
    const outcome = yield* Effect.tapError(execute(commandId, command, object.name), (error) =>
      isFinal(error) ? remove : Effect.void
    )
    const attached = outcome.events[0]
    if (attached?._tag !== "InvoiceAttached" || attached.object !== object.name) yield* remove
    return outcome
  })

const finals = [
  NotFound,
  Refused,
  Conflict,
  EventStore.VersionConflict,
  CommandStore.DuplicateCommand,
  Errors.InvalidInput
]

/** No event refers to this object, and none will. */
const isFinal = (error: unknown): boolean => finals.some((final) => error instanceof final)

/** Counts, since a client need not say, or may say wrong, how much it sends. */
const atMost = <E>(body: Stream.Stream<Uint8Array, E>): Stream.Stream<Uint8Array, E | TooLarge> =>
  Stream.mapAccumEffect(body, 0, (before, piece) => {
    const bytes = before + piece.byteLength
    return bytes > bytesMax ? Effect.fail(new TooLarge({ bytesMax })) : Effect.succeed([bytes, piece] as const)
  })

/**
 * The headers are those of a file to save, never of a page: the bytes are a user's. The connection is closed after it,
 * so that a client notices a body that has failed halfway.
 */
export const response = (orderId: string) =>
  Effect.gen(function* () {
    const objects = yield* DataStore.DataStore
    const { invoice, status } = (yield* Aggregate.load(Order, idOf(orderId))).state
    if (status === "none") return yield* new NotFound({ what: `order ${orderId}` })
    if (invoice === null) return yield* new NotFound({ what: `an invoice of order ${orderId}` })
    const object = { bucket, name: invoice.object }
    const found = yield* objects.get(object)
    if (Option.isNone(found)) {
      yield* Effect.logError("an object is missing", object)
      return yield* new Failed()
    }
    const { contentType, size } = found.value.info
    return HttpServerResponse.stream(found.value.body, {
      contentType,
      contentLength: size,
      headers: {
        connection: "close",
        etag: `"${invoice.sha256}"`,
        "content-disposition": `attachment; filename="invoice-${orderId}.pdf"`,
        "content-security-policy": "sandbox"
      }
    })
  })
