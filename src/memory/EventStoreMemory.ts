/**
 * The EventStore in memory: for tests, and as the model that the other backends are held against. Everything happens
 * in one synchronous step, so appends are atomic and the order of appends is the order of positions. It survives
 * nothing but the layer's scope, and knows no transactions.
 *
 * @since 0.1.0
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { InvalidInput } from "../Errors.js"
import type { DistinctField, ExpectedVersion, StreamId } from "../EventStore.js"
import { EventStore } from "../EventStore.js"
import type { Encoded, EncodedEvent, EncodedFilter } from "../eventStore/EventStoreEncoded.js"
import { make } from "../eventStore/EventStoreEncoded.js"
import { Hints } from "../internal/Hints.js"
import { type Keys, liftOptions, onlyKnown } from "../internal/storeOptions.js"
import { streamKey } from "../StreamId.js"

/**
 * @since 0.1.0
 * @category models
 */
export interface Options {
  /** Refuse all writes with `ReadOnly`. Default false. */
  readonly readOnly?: boolean | undefined
  /** What events without one get as their `instanceId`. */
  readonly instanceId?: string | undefined
}

const keys: Keys<Options> = { readOnly: true, instanceId: true }

/**
 * A port of its own for each call.
 *
 * @since 0.1.0
 * @category constructors
 */
export const makeEncoded: Effect.Effect<Encoded> = Effect.sync(() => {
  const hints = new Hints()
  const streams = new Map<string, Array<EncodedEvent>>()
  const byId = new Map<string, EncodedEvent>()
  // In order of position; positions go on over a reset.
  let log: Array<EncodedEvent> = []
  let lastPosition = 0

  const versionOf = (stream: StreamId): number => streams.get(streamKey(stream))?.length ?? 0

  return {
    append: (appends, guards) =>
      Effect.sync(() => {
        const existing = appends.flatMap(({ events }) => events.flatMap(({ id }) => byId.get(id) ?? []))
        if (existing.length > 0) return { _tag: "Exists", events: existing }
        for (const [index, { expected, stream }] of [...appends, ...guards].entries()) {
          const actual = versionOf(stream)
          if (!isExpected(expected, actual)) return { _tag: "Conflict", index, actual }
        }
        const results = appends.map(({ events, stream }) => {
          const key = streamKey(stream)
          const events_ = streams.get(key) ?? []
          streams.set(key, events_)
          for (const event of events) {
            const stored = { ...event, ...stream, version: events_.length + 1, position: ++lastPosition }
            events_.push(stored)
            log.push(stored)
            byId.set(stored.id, stored)
          }
          return { version: events_.length, position: lastPosition }
        })
        hints.signal()
        return { _tag: "Appended", results }
      }),

    readStream: ({ direction, fromVersion, limit, stream, toVersion }) =>
      Effect.sync(() => {
        const events = (streams.get(streamKey(stream)) ?? []).slice(Math.max(0, fromVersion - 1), toVersion)
        return direction === "forward" ? events.slice(0, limit) : events.reverse().slice(0, limit)
      }),

    version: (stream) => Effect.sync(() => versionOf(stream)),

    head: Effect.sync(() => lastPosition),

    readFeed: ({ after, direction, filter, limit, through }) =>
      Effect.sync(() => {
        const found: Array<EncodedEvent> = []
        const step = direction === "forward" ? 1 : -1
        const start = direction === "forward" ? indexAfter(log, after) : indexAfter(log, through) - 1
        for (let i = start; found.length < limit; i += step) {
          const event = log[i]
          if (event === undefined || event.position <= after || event.position > through) break
          if (matches(event, filter)) found.push(event)
        }
        return found
      }),

    get: (id) => Effect.sync(() => byId.get(id) ?? null),

    distinct: ({ after, field, filter, limit }) =>
      Effect.sync(() => {
        const values = new Set<string>()
        for (const event of log) {
          const value = valueOf(event, field)
          if (value !== null && matches(event, filter) && (after === null || byBytes(value, after) > 0))
            values.add(value)
        }
        return [...values].sort(byBytes).slice(0, limit)
      }),

    count: (filter) => Effect.sync(() => log.reduce((count, event) => (matches(event, filter) ? count + 1 : count), 0)),

    info: Effect.sync(() => ({
      backend: "InMemory",
      connection: "memory",
      events: log.length,
      streams: streams.size,
      lastEvent: log[log.length - 1] ?? null
    })),

    update: ({ data, id, keyId, metadata }) =>
      Effect.sync(() => {
        const event = byId.get(id)
        if (event === undefined) return false
        const changed = { ...event, data: data ?? event.data, metadata: metadata ?? event.metadata, keyId }
        byId.set(id, changed)
        log[indexAfter(log, event.position) - 1] = changed
        ;(streams.get(streamKey(event)) as Array<EncodedEvent>)[event.version - 1] = changed
        return true
      }),

    deleteStream: (stream) =>
      Effect.sync(() => {
        const events = streams.get(streamKey(stream)) ?? []
        streams.delete(streamKey(stream))
        for (const { id } of events) byId.delete(id)
        if (events.length > 0) log = log.filter(({ id }) => byId.has(id))
        return events.length
      }),

    reset: Effect.sync(() => {
      streams.clear()
      byId.clear()
      log = []
    }),

    hints: hints.register
  }
})

/**
 * The default backend: nothing to configure, nothing kept.
 *
 * @since 0.1.0
 * @category layers
 */
export const layer = (options: Options = {}): Layer.Layer<EventStore, InvalidInput> =>
  Layer.effect(
    EventStore,
    Effect.gen(function* () {
      const known = yield* onlyKnown(options, keys)
      const lifting = yield* liftOptions("memory", known)
      return make(yield* makeEncoded, { ...lifting, pollInterval: Duration.seconds(1) })
    })
  )

const isExpected = (expected: ExpectedVersion, actual: number): boolean =>
  expected === "any" ||
  (expected === "noStream" ? actual === 0 : expected === "streamExists" ? actual > 0 : actual === expected)

/** Index of the first event with a greater position. */
const indexAfter = (log: ReadonlyArray<EncodedEvent>, position: number): number => {
  let low = 0
  let high = log.length
  while (low < high) {
    const middle = (low + high) >> 1
    if ((log[middle] as EncodedEvent).position <= position) low = middle + 1
    else high = middle
  }
  return low
}

const matches = (event: EncodedEvent, filter: EncodedFilter): boolean =>
  (filter.tenantId === null || filter.tenantId === event.tenantId) &&
  (filter.domain === null || filter.domain === event.domain) &&
  (filter.aggregateId === null || filter.aggregateId === event.aggregateId) &&
  (filter.types === null || filter.types.includes(event.type)) &&
  (filter.commandId === null || filter.commandId === event.commandId) &&
  (filter.createdFrom === null || event.createdAt >= filter.createdFrom) &&
  (filter.createdUntil === null || event.createdAt < filter.createdUntil)

const valueOf = (event: EncodedEvent, field: DistinctField): string | null => event[field]

const byBytes = (a: string, b: string): number => Buffer.compare(Buffer.from(a), Buffer.from(b))
