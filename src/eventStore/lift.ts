/**
 * The step from the EventStore's port to its public service. Here, once for all backends: input is checked, missing
 * fields are filled in, payloads become JSON text and back, repeats are told from clashes, pages become streams.
 */
import * as Chunk from "effect/Chunk"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import { type InvalidInput, isRetryable, NotFound, StoreError, type StoreFailure } from "../Errors.js"
import type {
  AppendError,
  Appended,
  Event,
  EventStoreShape,
  Guard,
  ReadError,
  ReadOptions,
  StreamId
} from "../EventStore.js"
import { DuplicateEvent, VersionConflict } from "../EventStore.js"
import { Lifted } from "../internal/lifted.js"
import {
  foldPages,
  type Page,
  type Pages,
  pageAt,
  pageBytes,
  pageSize,
  streamOf,
  valuePages
} from "../internal/pages.js"
import { writesOf } from "../internal/storeOptions.js"
import * as Telemetry from "../internal/telemetry.js"
import { checked } from "../internal/validate.js"
import { streamId, unsealed, utc, uuid } from "../internal/values.js"
import type { JsonObject } from "../Json.js"
import type { AppendOutcome, Encoded, EncodedAppend, EncodedEvent, Options } from "./EventStoreEncoded.js"
import * as input from "./input.js"

const lifted = new Lifted<EventStoreShape, Encoded, Options>("EventStore")

export const lift = (encoded: Encoded, options: Options): EventStoreShape =>
  lifted.add(serviceOf(encoded, options), encoded, options)

export const relift = <E, R>(
  service: EventStoreShape,
  wrap: (encoded: Encoded) => Effect.Effect<Encoded, E, R>
): Effect.Effect<EventStoreShape, E | InvalidInput, R> =>
  Effect.map(lifted.rewrap(service, wrap), ({ encoded, options }) => lift(encoded, options))

const serviceOf = (encoded: Encoded, options: Options): EventStoreShape => {
  const observe = Telemetry.make("EventStore", options.system)
  const instanceId = options.instanceId ?? null

  const write = writesOf(observe, options.readOnly)

  const appendBatch = (appends: ReadonlyArray<EncodedAppend>, guards: ReadonlyArray<Guard>) =>
    Effect.flatMap(encoded.append(appends, guards), (outcome) => {
      if (outcome._tag === "Conflict") observe.conflicted()
      return settle(appends, guards, outcome)
    })

  const streamPages = (stream: StreamId, readOptions: ReadOptions | undefined): Pages<Event, ReadError> =>
    Effect.suspend(() =>
      checked(
        () => ({ stream: streamId(stream, "stream"), ...input.readOptions(readOptions) }),
        (request) => streamPage(encoded, request)
      )
    )

  return {
    append: (stream, events, appendOptions) =>
      write("append", (nowMs) =>
        checked(
          () => input.append(stream, events, appendOptions, { nowMs, instanceId }),
          (append) => Effect.map(appendBatch([append], []), (results) => results[0] as Appended)
        )
      ),

    appendAll: (appends, appendOptions) =>
      write("appendAll", (nowMs) =>
        checked(
          () => input.appendAll(appends, appendOptions, { nowMs, instanceId }),
          (batch) => appendBatch(batch.appends, batch.guards)
        )
      ),

    read: (stream, readOptions) => observe.stream("read", streamOf(streamPages(stream, readOptions))),

    fold: (stream, initial, step, readOptions) =>
      observe.effect("fold", () => foldPages(streamPages(stream, readOptions), initial, step)),

    version: (stream) => observe.effect("version", () => checked(() => streamId(stream, "stream"), encoded.version)),

    feed: (feedOptions) =>
      observe.stream(
        "feed",
        streamOf(
          checked(
            () => input.feedOptions(feedOptions),
            (request) =>
              Effect.flatMap(encoded.head, (through) =>
                feedPage(encoded, request, request.after, through, request.limit)
              )
          )
        )
      ),

    subscribe: (feedOptions) =>
      observe.stream(
        "subscribe",
        Stream.unwrapScoped(
          Effect.suspend(() =>
            checked(
              () => input.feedOptions(feedOptions),
              (request) =>
                Effect.map(encoded.hints, (hint) => subscription(encoded, request, hint, options.pollInterval))
            )
          )
        )
      ),

    head: observe.effect("head", () => encoded.head),

    get: (id) =>
      observe.effect("get", () =>
        checked(
          () => uuid(id, "id"),
          (id) =>
            Effect.flatMap(encoded.get(id), (row) =>
              row === null
                ? Effect.succeedNone
                : Effect.map(decodeAll(Effect.succeed([row])), ([event]) => Option.fromNullable(event))
            )
        )
      ),

    page: (pageOptions) =>
      observe.effect("page", () =>
        checked(
          () => input.pageOptions(pageOptions),
          (request) =>
            Effect.flatMap(encoded.head, (head) => {
              const { filter } = request
              const page = pageAt(request, head, (range) => encoded.readFeed({ ...range, filter }))
              return Effect.flatMap(page, ({ items, next }) =>
                Effect.map(decodeAll(Effect.succeed(items)), (events) => ({ events, next }))
              )
            })
        )
      ),

    distinct: (field, filter) =>
      observe.stream(
        "distinct",
        streamOf(
          checked(
            () => ({ field: input.distinctField(field), filter: input.filter(filter) }),
            (request) => valuePages((after, limit) => encoded.distinct({ ...request, after, limit }))
          )
        )
      ),

    count: (filter) => observe.effect("count", () => checked(() => input.filter(filter), encoded.count)),

    info: observe.effect("info", () =>
      Effect.flatMap(encoded.info, ({ lastEvent, ...info }) =>
        Effect.map(decodeAll(Effect.succeed(lastEvent === null ? [] : [lastEvent])), ([event]) => ({
          ...info,
          readOnly: options.readOnly ?? false,
          lastEvent: Option.fromNullable(event)
        }))
      )
    ),

    maintenance: {
      update: (id, changes) =>
        write("update", () =>
          checked(
            () => input.update(id, changes),
            (request) =>
              Effect.flatMap(encoded.update(request), (found) =>
                found ? Effect.void : Effect.fail(new NotFound({ what: `event ${request.id}` }))
              )
          )
        ),
      deleteStream: (stream) =>
        write("deleteStream", () => checked(() => streamId(stream, "stream"), encoded.deleteStream)),
      reset: write("reset", () => encoded.reset)
    }
  }
}

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
      return repeatOf(appends, outcome.events)
  }
}

/** The first result, if the stored events are this very append; otherwise the event that clashes, and why. */
const repeatOf = (
  appends: ReadonlyArray<EncodedAppend>,
  stored: ReadonlyArray<EncodedEvent>
): Effect.Effect<ReadonlyArray<Appended>, DuplicateEvent> => {
  const byId = new Map(stored.map((event) => [event.id, event]))
  const clash = (id: string, why: string) => Effect.fail(new DuplicateEvent({ id, why }))
  const taken = (stored[0] as EncodedEvent).id
  const results: Array<Appended> = []
  for (const { events, stream } of appends) {
    let before: EncodedEvent | undefined
    for (const event of events) {
      const found = byId.get(event.id)
      if (found === undefined) return clash(taken, "other events of this append do not exist")
      const elsewhere =
        found.tenantId !== stream.tenantId || found.domain !== stream.domain || found.aggregateId !== stream.aggregateId
      if (elsewhere) return clash(event.id, "in another stream")
      if (before !== undefined && found.version !== before.version + 1) return clash(event.id, "at another place")
      for (const field of ["type", "data", "metadata", "commandId"] as const) {
        if (found[field] !== event[field]) return clash(event.id, `with other ${field}`)
      }
      before = found
    }
    if (before !== undefined) results.push({ version: before.version, position: before.position })
  }
  return Effect.succeed(results)
}

const streamPage = (
  encoded: Encoded,
  request: { readonly stream: StreamId } & input.ReadRequest
): Pages<Event, StoreFailure> => {
  const { direction, fromVersion, limit, stream, toVersion } = request
  const bounds = { limit: Math.min(pageSize, limit), maxBytes: pageBytes }
  return Effect.map(
    decodePage(encoded.readStream({ stream, direction, fromVersion, toVersion, ...bounds })),
    ({ items, more }) => {
      const last = items[items.length - 1]
      if (last === undefined || !more || items.length === limit) return { items, next: undefined }
      const rest = direction === "forward" ? { fromVersion: last.version + 1 } : { toVersion: last.version - 1 }
      return { items, next: streamPage(encoded, { ...request, ...rest, limit: limit - items.length }) }
    }
  )
}

const feedPage = (
  encoded: Encoded,
  request: input.FeedRequest,
  after: number,
  through: number,
  limit: number
): Pages<Event, StoreFailure> => {
  const { filter } = request
  const bounds = { limit: Math.min(pageSize, limit), maxBytes: pageBytes }
  return Effect.map(
    decodePage(encoded.readFeed({ after, through, direction: "forward", filter, ...bounds })),
    ({ items, more }) => {
      const last = items[items.length - 1]
      if (last === undefined || !more || items.length === limit) return { items, next: undefined }
      return { items, next: feedPage(encoded, request, last.position, through, limit - items.length) }
    }
  )
}

/**
 * 1. Read pages up to the last known head.
 * 2. There, ask for the head; if it has not moved, wait for a hint or the poll interval, and ask again. If the backend
 *    is unavailable, it is asked again after the poll interval. A failure that would repeat ends the stream. The
 *    interval runs on the fiber's Clock: under a test's clock a subscription wakes by hints, and polls as time is
 *    adjusted.
 */
const subscription = (
  encoded: Encoded,
  request: ReturnType<typeof input.feedOptions>,
  hint: Effect.Effect<void>,
  pollInterval: Duration.Duration
): Stream.Stream<Event, ReadError> =>
  Stream.paginateChunkEffect({ after: request.after, through: request.after, left: request.limit }, (start) => {
    const attempt: Effect.Effect<readonly [Chunk.Chunk<Event>, Option.Option<typeof start>], ReadError> = Effect.gen(
      function* () {
        let { through } = start
        while (through <= start.after) {
          through = yield* encoded.head
          if (through <= start.after) yield* Effect.timeoutOption(hint, pollInterval)
        }
        const page = encoded.readFeed({
          after: start.after,
          through,
          direction: "forward",
          filter: request.filter,
          limit: Math.min(pageSize, start.left),
          maxBytes: pageBytes
        })
        const { items: events, more } = yield* decodePage(page)
        const left = start.left - events.length
        const after = more ? (events[events.length - 1] as Event).position : through
        return [
          Chunk.unsafeFromArray(events),
          left === 0 ? Option.none() : Option.some({ after, through, left })
        ] as const
      }
    )
    return Effect.retry(attempt, {
      while: (error) =>
        isRetryable(error)
          ? Effect.as(
              Effect.zipRight(Effect.logDebug("subscription waits for the backend", error), Effect.sleep(pollInterval)),
              true
            )
          : Effect.succeed(false)
    })
  })

const decodeAll = <E>(
  rows: Effect.Effect<ReadonlyArray<EncodedEvent>, E>
): Effect.Effect<Array<Event>, E | StoreError> =>
  Effect.map(decodePage(Effect.map(rows, (items) => ({ items, more: false }))), ({ items }) => items)

const decodePage = <E>(
  page: Effect.Effect<Page<EncodedEvent>, E>
): Effect.Effect<{ readonly items: Array<Event>; readonly more: boolean }, E | StoreError> =>
  Effect.flatMap(page, ({ items: rows, more }) => {
    const events = new Array<Event>(rows.length)
    for (let i = 0; i < rows.length; i++) {
      const row = rows[i] as EncodedEvent
      try {
        events[i] = decode(row)
      } catch (cause) {
        return Effect.fail(new StoreError({ operation: `decoding event ${row.id}`, cause }))
      }
    }
    return Effect.succeed({ items: events, more })
  })

// Most events have none.
const noMetadata: JsonObject = Object.freeze({})

const decode = (row: EncodedEvent): Event => {
  return {
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
  }
}
