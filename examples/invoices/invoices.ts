/**
 * Invoices whose documents are objects: the object first, then the event that refers to it. So a process that dies in
 * between leaves an object that nobody knows, which the sweep finds, and never an event without its document.
 */
import { createHash } from "node:crypto"
import { Clock, Duration, Effect, Option, Schema, Stream } from "effect"
import { Aggregate, DataStore, EventStore } from "effect-stores"

export const bucket = "invoices"

const Issued = Schema.TaggedStruct("Issued", { total: Schema.Number, document: Schema.String, sha256: Schema.String })

const Invoice = Aggregate.make({
  domain: "invoice",
  state: Schema.Struct({ documents: Schema.Array(Schema.String) }),
  event: Issued,
  initial: { documents: [] },
  evolve: ({ documents }, { document }) => ({ documents: [...documents, document] })
})

/** The name says whose document it is, so that whether anything refers to it is one look at one aggregate. */
const nameOf = ({ aggregateId, tenantId }: Aggregate.Id, sha256: string): string =>
  [tenantId, aggregateId, sha256].map(encodeURIComponent).join("/")

const ownerOf = (name: string): Aggregate.Id | undefined => {
  const [tenantId, aggregateId, sha256, ...rest] = name.split("/").map(decodeURIComponent)
  return tenantId === undefined || aggregateId === undefined || sha256 === undefined || rest.length > 0
    ? undefined
    : { tenantId, aggregateId }
}

/** Stores the document, then says so. The name is that of the content: doing it again changes nothing. */
export const issue = (invoice: Aggregate.Id, total: number, document: Uint8Array) =>
  Effect.gen(function* () {
    const objects = yield* DataStore.DataStore
    const sha256 = createHash("sha256").update(document).digest("hex")
    const name = nameOf(invoice, sha256)
    yield* objects.put({ bucket, name }, document, { contentType: "application/pdf" })
    yield* Aggregate.execute(Invoice, invoice, ({ documents }) =>
      documents.includes(name) ? [] : [{ _tag: "Issued" as const, total, document: name, sha256 }]
    )
    return name
  })

export interface SweepOptions {
  /** Younger objects are left alone: their event may be on its way. Longer than any `issue` takes. */
  readonly grace: Duration.DurationInput
  /** True only says what would be deleted. */
  readonly dryRun: boolean
  /** Told of every so many objects, and of each that was found. */
  readonly progress: (looked: number, orphan: string | undefined) => Effect.Effect<void>
}

/**
 * Objects that no event refers to.
 *
 * 1. Lists all objects, and leaves those alone that are younger than the grace or whose name is not of ours.
 * 2. Looks at the aggregate that the name tells: does it refer to the object?
 * 3. At the moment of deletion looks again, since an event may have come meanwhile; and deletes only the content that
 *    was seen, where the backend can.
 */
export const sweepObjects = ({ dryRun, grace, progress }: SweepOptions) =>
  Effect.gen(function* () {
    const objects = yield* DataStore.DataStore
    const oldest = (yield* Clock.currentTimeMillis) - Duration.toMillis(grace)
    const isReferred = (invoice: Aggregate.Id, name: string) =>
      Effect.map(Aggregate.load(Invoice, invoice), ({ state }) => state.documents.includes(name))
    let looked = 0
    const orphans: Array<string> = []
    yield* Stream.runForEach(objects.list(bucket), (entry) =>
      Effect.gen(function* () {
        if (entry._tag === "Prefix") return
        const { etag, modifiedAt, name } = entry
        if (++looked % 1_000 === 0) yield* progress(looked, undefined)
        const owner = ownerOf(name)
        if (owner === undefined || modifiedAt.epochMillis > oldest || (yield* isReferred(owner, name))) return
        yield* progress(looked, name)
        if (!dryRun) {
          if (yield* isReferred(owner, name)) return
          const ifMatch = objects.capabilities.deleteIfMatch ? { ifMatch: etag } : {}
          const deleted = yield* Effect.catchTag(objects.delete({ bucket, name }, ifMatch), "ObjectChanged", () =>
            // It was put again: somebody is about to refer to it.
            Effect.succeed(false)
          )
          if (!deleted) return
        }
        orphans.push(name)
      })
    )
    return orphans
  })

/** The other direction: events whose document is missing, which nothing here can mend, and everybody should know of. */
export const missingDocuments = Effect.gen(function* () {
  const objects = yield* DataStore.DataStore
  const events = yield* EventStore.EventStore
  const missing: Array<{ readonly event: string; readonly document: string }> = []
  yield* Stream.runForEach(events.feed({ filter: { domain: Invoice.domain, types: ["Issued"] } }), ({ data, id }) =>
    Effect.gen(function* () {
      const { document } = yield* Schema.decodeUnknown(Schema.Struct({ document: Schema.String }))(data)
      if (Option.isNone(yield* objects.head({ bucket, name: document }))) missing.push({ event: id, document })
    })
  )
  return missing
})
