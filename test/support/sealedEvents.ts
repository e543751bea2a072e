/**
 * A layer that seals the data and metadata of events, as small as one can be: it shows that the port can be wrapped so
 * that users of the tag cannot tell. It is no model of how to keep keys.
 */
import { createCipheriv, createDecipheriv, randomBytes } from "node:crypto"
import { Context, Effect, Layer } from "effect"
import { type Errors, EventStore, EventStoreEncoded } from "effect-stores"

type Row = EventStoreEncoded.EncodedEvent

const keyId = "k1"
const key = Buffer.alloc(32, 7)

/** With a random nonce, so the same text is sealed differently each time; bound to its event and field. */
const seal = (text: string, id: string, field: string): string => {
  const nonce = randomBytes(12)
  const cipher = createCipheriv("aes-256-gcm", key, nonce).setAAD(Buffer.from(`${id}.${field}`))
  return Buffer.concat([nonce, cipher.update(text), cipher.final(), cipher.getAuthTag()]).toString("base64url")
}

const open = (sealed: string, id: string, field: string): string => {
  const bytes = Buffer.from(sealed, "base64url")
  const decipher = createDecipheriv("aes-256-gcm", key, bytes.subarray(0, 12))
  decipher.setAAD(Buffer.from(`${id}.${field}`)).setAuthTag(bytes.subarray(-16))
  return Buffer.concat([decipher.update(bytes.subarray(12, -16)), decipher.final()]).toString()
}

const sealedEvent = <E extends EventStoreEncoded.EncodedNewEvent>(event: E): E => ({
  ...event,
  data: seal(event.data, event.id, "data"),
  metadata: seal(event.metadata, event.id, "metadata"),
  keyId
})

const openedEvent = (row: Row): Row => ({
  ...row,
  data: open(row.data, row.id, "data"),
  metadata: open(row.metadata, row.id, "metadata"),
  keyId: null
})

type Page = Effect.Effect.Success<ReturnType<EventStoreEncoded.Encoded["readFeed"]>>

const openedEvents = (page: Effect.Effect<Page, Errors.ReadFailure>): Effect.Effect<Page, Errors.ReadFailure> =>
  Effect.map(page, ({ items, more }) => ({ items: items.map(openedEvent), more }))

export const sealedPort = (port: EventStoreEncoded.Encoded): EventStoreEncoded.Encoded => ({
  ...port,
  append: (appends, guards) =>
    Effect.map(
      port.append(
        appends.map((append) => ({ ...append, events: append.events.map(sealedEvent) })),
        guards
      ),
      (outcome) => (outcome._tag === "Exists" ? { ...outcome, events: outcome.events.map(openedEvent) } : outcome)
    ),
  readStream: (request) => openedEvents(port.readStream(request)),
  readFeed: (request) => openedEvents(port.readFeed(request)),
  get: (id) => Effect.map(port.get(id), (row) => (row === null ? null : openedEvent(row))),
  info: Effect.map(port.info, (info) => ({
    ...info,
    lastEvent: info.lastEvent === null ? null : openedEvent(info.lastEvent)
  })),
  update: ({ data, id, metadata }) =>
    port.update({
      id,
      keyId,
      data: data === null ? null : seal(data, id, "data"),
      metadata: metadata === null ? null : seal(metadata, id, "metadata")
    })
})

/** The same layer, with what else it gives, and its events sealed. */
export const sealed = <Out, E, In>(
  layer: Layer.Layer<Out | EventStore.EventStore, E, In>
): Layer.Layer<Out | EventStore.EventStore, E | Errors.InvalidInput, In> =>
  Layer.flatMap(layer, (context) =>
    Layer.effectContext(
      Effect.map(
        EventStoreEncoded.relift(
          Context.get(context as Context.Context<EventStore.EventStore>, EventStore.EventStore),
          (port) => Effect.succeed(sealedPort(port))
        ),
        (store) => Context.add(context, EventStore.EventStore, store)
      )
    )
  )
