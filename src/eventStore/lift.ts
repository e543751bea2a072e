/**
 * The step from the EventStore's port to its public service. Here, once for all backends: input is checked, missing
 * fields are filled in, payloads become JSON text and back, repeats are told from clashes, pages become streams.
 */
import * as Chunk from "effect/Chunk"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import { type InvalidInput, NotFound } from "../Errors.js"
import type {
  AppendError,
  Appended,
  Event,
  EventStoreShape,
  FeedOptions,
  Guard,
  ReadError,
  ReadOptions,
  Step,
  StreamId
} from "../EventStore.js"
import { DuplicateEvent, VersionConflict } from "../EventStore.js"
import { isSameJson, unsealed, utc } from "../internal/encoding.js"
import { Lifted, withoutKeys } from "../internal/lifted.js"
import * as logs from "../internal/logs.js"
import { foldPages, type Pages, pagedStream, rangePages } from "../internal/pages.js"
import * as Telemetry from "../internal/telemetry.js"
import { checked, streamId } from "../internal/validate.js"
import type { JsonObject } from "../Json.js"
import { traceparentOf } from "../Trace.js"
import type {
  AppendOutcome,
  Encoded,
  EncodedAppend,
  EncodedEvent,
  EncodedFilter,
  Options
} from "./EventStoreEncoded.js"
import { Following } from "./Following.js"
import { headAfter } from "./head.js"
import * as input from "./input.js"
import { subscription } from "./subscription.js"

const lifted = new Lifted<EventStoreShape, Encoded, Options>("EventStore")

export const lift = (port: Encoded, options: Options): EventStoreShape => {
  const { encoded, look } = withoutKeys("the EventStore", port, ["append", "update"])
  return lifted.add(serviceOf(encoded, options), port, options, look)
}

export const relift = <E, R>(
  service: EventStoreShape,
  wrap: (encoded: Encoded) => Effect.Effect<Encoded, E, R>
): Effect.Effect<EventStoreShape, E | InvalidInput, R> =>
  Effect.map(lifted.rewrap(service, wrap), ({ encoded, options }) => lift(encoded, options))

const serviceOf = (encoded: Encoded, options: Options): EventStoreShape => {
  const observe = Telemetry.make("EventStore", options)
  const instanceId = options.instanceId ?? null
  const queries = logs.queries({
    observe,
    decode,
    input,
    through: ({ at = 0, direction }) =>
      direction === "forward" ? headAfter(encoded, at, "options.cursor") : encoded.head,
    range: encoded.readFeed,
    encoded
  })

  const defaults = (nowMs: number, span: Telemetry.Span): input.AppendDefaults => ({
    nowMs,
    instanceId,
    traceparent:
      options.traceparent === true && span !== undefined ? Option.getOrUndefined(traceparentOf(span)) : undefined
  })

  const appendBatch = (appends: ReadonlyArray<EncodedAppend>, guards: ReadonlyArray<Guard>, span: Telemetry.Span) => {
    if (span !== undefined) describeAppends(span, appends)
    return Effect.flatMap(encoded.append(appends, guards), (outcome) => {
      if (outcome._tag === "Conflict") {
        observe.conflicted()
        Telemetry.describe(span, { version: outcome.actual })
      }
      return settle(appends, guards, outcome)
    })
  }

  const streamPages = (
    stream: StreamId,
    readOptions: ReadOptions | undefined,
    span: Telemetry.Span
  ): Pages<Event, ReadError> =>
    Effect.suspend(() =>
      checked(
        () => ({ stream: streamId(stream, "stream"), ...input.readOptions(readOptions) }),
        ({ direction, fromVersion, limit, stream, toVersion }) => {
          Telemetry.describe(span, { domain: stream.domain })
          return rangePages(
            (range) => decode.page(encoded.readStream({ ...range, stream, direction })),
            { fromVersion, toVersion },
            limit,
            (range, { version }) =>
              direction === "forward" ? { ...range, fromVersion: version + 1 } : { ...range, toVersion: version - 1 }
          )
        }
      )
    )

  const following = new Following(encoded, options.pollInterval)

  const followed = <A>(
    feedOptions: FeedOptions | undefined,
    span: Telemetry.Span,
    hearsOfNothing: boolean,
    emit: (events: ReadonlyArray<Event>, position: number) => Chunk.Chunk<A>
  ): Stream.Stream<A, ReadError> =>
    Stream.unwrapScoped(
      Effect.suspend(() =>
        checked(
          () => input.feedOptions(feedOptions),
          (request) => {
            Telemetry.describe(span, filtered(request.filter))
            return Effect.map(following.join(request.filter, hearsOfNothing), (next) =>
              subscription({ request, next, decode: decode.rows, emit, pollInterval: options.pollInterval })
            )
          }
        )
      )
    )

  return {
    append: (stream, events, appendOptions) =>
      observe.write("append", (nowMs, span) =>
        checked(
          () => input.append(stream, events, appendOptions, defaults(nowMs, span)),
          (append) =>
            Effect.map(appendBatch([append], [], span), ([appended]) => {
              Telemetry.describe(span, { version: appended?.version })
              return appended as Appended
            })
        )
      ),

    appendAll: (appends, appendOptions) =>
      observe.write("appendAll", (nowMs, span) =>
        checked(
          () => input.appendAll(appends, appendOptions, defaults(nowMs, span)),
          (batch) => appendBatch(batch.appends, batch.guards, span)
        )
      ),

    read: (stream, readOptions) =>
      observe.stream("read", (span) => pagedStream(streamPages(stream, readOptions, span))),

    fold: (stream, initial, step, readOptions) =>
      observe.effect("fold", (_, span) =>
        foldPages(streamPages(stream, readOptions, span), initial, Telemetry.counted(span, step))
      ),

    version: (stream) =>
      observe.effect("version", (_, span) =>
        checked(
          () => streamId(stream, "stream"),
          (stream) => {
            Telemetry.describe(span, { domain: stream.domain })
            return encoded.version(stream)
          }
        )
      ),

    feed: (feedOptions) =>
      observe.stream("feed", (span) =>
        pagedStream(
          checked(
            () => input.feedOptions(feedOptions),
            ({ after, filter, limit }) => {
              Telemetry.describe(span, filtered(filter))
              return Effect.flatMap(headAfter(encoded, after, "options.after"), (through) =>
                rangePages(
                  (range) => decode.page(encoded.readFeed({ ...range, filter })),
                  { after, through, direction: "forward" as const },
                  limit,
                  (range, { position }) => ({ ...range, after: position })
                )
              )
            }
          )
        )
      ),

    subscribe: (feedOptions) =>
      observe.stream("subscribe", (span) => followed(feedOptions, span, false, Chunk.unsafeFromArray)),

    follow: (feedOptions) =>
      observe.stream(
        "follow",
        (span) => followed(feedOptions, span, true, (events, position) => Chunk.of<Step>({ events, position })),
        ({ events }) => events.length
      ),

    head: observe.effect("head", () => encoded.head),

    get: queries.get,

    page: (pageOptions) => Effect.map(queries.page(pageOptions), ({ items, next }) => ({ events: items, next })),

    distinct: queries.distinct,

    count: queries.count,

    info: observe.effect("info", () =>
      Effect.flatMap(encoded.info, ({ lastEvent, ...info }) =>
        Effect.map(decode.row(lastEvent), (lastEvent) => ({ ...info, readOnly: options.readOnly ?? false, lastEvent }))
      )
    ),

    maintenance: {
      update: (id, changes) =>
        observe.write("update", (nowMs) =>
          checked(
            () => input.update(id, changes, nowMs),
            (request) =>
              Effect.flatMap(encoded.update(request), (found) =>
                found ? Effect.void : Effect.fail(new NotFound({ what: `event ${request.id}` }))
              )
          )
        ),
      deleteStream: (stream) =>
        observe.write("deleteStream", (_, span) =>
          checked(
            () => streamId(stream, "stream"),
            (stream) => {
              Telemetry.describe(span, { domain: stream.domain })
              return encoded.deleteStream(stream)
            }
          )
        ),
      reset: observe.write("reset", () => encoded.reset)
    }
  }
}

const describeAppends = (span: Telemetry.Span, appends: ReadonlyArray<EncodedAppend>): void => {
  const events = appends.flatMap(({ events }) => events)
  const [first] = appends
  Telemetry.describe(span, {
    domain: Telemetry.names(appends.map(({ stream }) => stream.domain)),
    type: Telemetry.names(events.map(({ type }) => type)),
    events: events.length,
    ...(appends.length === 1 ? { expected: String(first?.expected) } : { streams: appends.length })
  })
}

const filtered = ({ domain, types }: EncodedFilter): Telemetry.Attributes => ({
  domain: domain ?? undefined,
  type: types === null ? undefined : Telemetry.names(types)
})

const settle = (
  appends: ReadonlyArray<EncodedAppend>,
  guards: ReadonlyArray<Guard>,
  outcome: AppendOutcome
): Effect.Effect<ReadonlyArray<Appended>, AppendError> => {
  switch (outcome._tag) {
    case "Appended":
      return Effect.succeed(outcome.results)
    case "Conflict": {
      const { expected, stream } = [...appends, ...guards][outcome.index] as Guard
      return Effect.fail(new VersionConflict({ stream, expected, actual: outcome.actual }))
    }
    case "Exists":
      return repeatOf(appends, outcome)
  }
}

/**
 * The first result, if the stored events are this very append; otherwise the event that clashes, and why. Data that was
 * changed since says nothing of what it was.
 */
const repeatOf = (
  appends: ReadonlyArray<EncodedAppend>,
  { changed, events: stored }: Extract<AppendOutcome, { _tag: "Exists" }>
): Effect.Effect<ReadonlyArray<Appended>, DuplicateEvent> => {
  const byId = new Map(stored.map((event) => [event.id, event]))
  const clash = (id: string, why: string) => Effect.fail(new DuplicateEvent({ id, why }))
  // In the order of the call, whatever the order of the rows.
  const taken = () => appends.flatMap(({ events }) => events).find(({ id }) => byId.has(id))?.id ?? ""
  const results: Array<Appended> = []
  for (const { events, stream } of appends) {
    let before: EncodedEvent | undefined
    for (const event of events) {
      const found = byId.get(event.id)
      if (found === undefined) return clash(taken(), "other events of this append do not exist")
      const elsewhere =
        found.tenantId !== stream.tenantId || found.domain !== stream.domain || found.aggregateId !== stream.aggregateId
      if (elsewhere) return clash(event.id, "in another stream")
      if (before !== undefined && found.version !== before.version + 1) return clash(event.id, "at another place")
      for (const field of ["type", "commandId"] as const) {
        if (found[field] !== event[field]) return clash(event.id, `with other ${field}`)
      }
      if (!changed.has(event.id) && !isSameJson(found.data, event.data)) return clash(event.id, "with other data")
      before = found
    }
    if (before !== undefined) results.push({ version: before.version, position: before.position })
  }
  return Effect.succeed(results)
}

// Most events have none.
const noMetadata: JsonObject = Object.freeze({})

const decode = logs.decoder(
  "event",
  (row: EncodedEvent): Event => ({
    id: row.id,
    tenantId: row.tenantId,
    domain: row.domain,
    aggregateId: row.aggregateId,
    version: row.version,
    position: row.position,
    type: row.type,
    data: JSON.parse(unsealed(row.data, row.keyId)),
    metadata: row.metadata === "{}" ? noMetadata : JSON.parse(unsealed(row.metadata, row.keyId)),
    commandId: row.commandId ?? undefined,
    instanceId: row.instanceId ?? undefined,
    createdAt: utc(row.createdAt)
  })
)
