/**
 * The EventStore in memory: for tests, and as the model that the other backends are compared with. Each operation is
 * one synchronous step, so appends are atomic and the order of appends is the order of positions. It survives nothing
 * but the scope of its `MemoryDatabase`.
 *
 * @since 0.1.0
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import type { InvalidInput } from "../Errors.js"
import { EventStore, type ExpectedVersion, type StreamId } from "../EventStore.js"
import * as Encoded from "../eventStore/EventStoreEncoded.js"
import { Hints } from "../internal/Hints.js"
import { takePage } from "../internal/pages.js"
import { liftOptions } from "../internal/storeOptions.js"
import { streamKey } from "../StreamId.js"
import type { Database } from "./database/Database.js"
import { makeNote } from "./database/notes.js"
import { distinctPage } from "./database/queries.js"
import { storeLayers } from "./database/storeLayers.js"
import type { MemoryDatabase } from "./MemoryDatabase.js"

/**
 * @since 0.1.0
 * @category models
 */
export interface Options {
  /** Refuse all writes with `ReadOnly`. Default false. */
  readonly readOnly?: boolean | undefined
  /** What events without one get as their `instanceId`. */
  readonly instanceId?: string | undefined
  /**
   * Write the span that appends into the metadata of events that have no `traceparent`, so that whoever handles them
   * can link to it: see `Trace`. Default false.
   */
  readonly traceparent?: boolean | undefined
}

interface State {
  streams: Map<string, Array<Encoded.EncodedEvent>>
  byId: Map<string, Encoded.EncodedEvent>
  /** In order of position. */
  log: Array<Encoded.EncodedEvent>
  /** Of streams of which an event was changed. */
  revisions: Map<string, string>
  /** Goes on over a reset and deletions. */
  lastPosition: number
}

const empty = (): Omit<State, "lastPosition"> => ({
  streams: new Map(),
  byId: new Map(),
  log: [],
  revisions: new Map()
})

const copy = ({ byId, log, revisions, streams, ...rest }: State): State => ({
  ...rest,
  streams: new Map(Array.from(streams, ([key, events]) => [key, [...events]])),
  byId: new Map(byId),
  log: [...log],
  revisions: new Map(revisions)
})

const versionOf = ({ streams }: State, stream: StreamId): number => streams.get(streamKey(stream))?.length ?? 0

/** In the place of the event that it was. */
const replace = ({ byId, log, streams }: State, event: Encoded.EncodedEvent): void => {
  byId.set(event.id, event)
  log[indexAfter(log, event.position) - 1] = event
  ;(streams.get(streamKey(event)) as Array<Encoded.EncodedEvent>)[event.version - 1] = event
}

/** The event, and the revision of its stream; without one the stream has none. */
const revise = (state: State, event: Encoded.EncodedEvent, revision: string | undefined): void => {
  replace(state, event)
  const key = streamKey(event)
  if (revision === undefined) state.revisions.delete(key)
  else state.revisions.set(key, revision)
}

/** Takes the newest events out again. */
const truncate = (state: State, length: number, lastPosition: number): void => {
  const { byId, log, streams } = state
  for (const event of log.splice(length)) {
    byId.delete(event.id)
    const key = streamKey(event)
    // Its first one here has the lowest version, and takes the others with it.
    if (event.version === 1) streams.delete(key)
    else streams.get(key)?.splice(event.version - 1)
  }
  state.lastPosition = lastPosition
}

const port = (database: Database): Encoded.Encoded => {
  const hints = new Hints()
  const events = database.keep<State>({ ...empty(), lastPosition: 0 }, copy)
  // Events are never mutated: a change puts another in the place, and undoing it puts the first one back.
  const changed = new WeakSet<Encoded.EncodedEvent>()

  return {
    append: (appends, guards) =>
      events.write(
        (state, undo): Encoded.AppendOutcome => {
          const { byId, lastPosition, log, streams } = state
          const existing = appends.flatMap(({ events }) => events.flatMap(({ id }) => byId.get(id) ?? []))
          if (existing.length > 0) {
            const ids = existing.filter((event) => changed.has(event)).map(({ id }) => id)
            return { _tag: "Exists", events: existing, changed: new Set(ids) }
          }
          for (const [index, { expected, stream }] of [...appends, ...guards].entries()) {
            const actual = versionOf(state, stream)
            if (!isExpected(expected, actual)) return { _tag: "Conflict", index, actual }
          }
          const { length } = log
          undo((state) => truncate(state, length, lastPosition))
          const results = appends.map(({ events, stream }) => {
            const key = streamKey(stream)
            const events_ = streams.get(key) ?? []
            streams.set(key, events_)
            for (const event of events) {
              const stored = { ...event, ...stream, version: events_.length + 1, position: ++state.lastPosition }
              events_.push(stored)
              log.push(stored)
              byId.set(stored.id, stored)
            }
            return { version: events_.length, position: state.lastPosition }
          })
          return { _tag: "Appended", results }
        },
        ({ _tag }) => {
          if (_tag === "Appended") hints.signal()
        }
      ),

    readStream: ({ direction, fromVersion, stream, toVersion, ...bounds }) =>
      events.read(({ revisions, streams }) => {
        const key = streamKey(stream)
        const found = (streams.get(key) ?? []).slice(Math.max(0, fromVersion - 1), toVersion)
        const page = takePage(direction === "forward" ? found : found.reverse(), bounds, bytesOf)
        return { ...page, revision: revisions.get(key) ?? null }
      }),

    version: (stream) => events.read((state) => versionOf(state, stream)),

    head: events.read(({ lastPosition }) => lastPosition),

    // An append is committed, or cannot be read.
    lastPosition: events.read(({ lastPosition }) => lastPosition),

    readFeed: ({ after, direction, filter, limit, maxBytes, through }) =>
      events.read(({ log }) => {
        const found: Array<Encoded.EncodedEvent> = []
        const isMatch = Encoded.matches(filter)
        const step = direction === "forward" ? 1 : -1
        const start = direction === "forward" ? indexAfter(log, after) : indexAfter(log, through) - 1
        for (let i = start; found.length < limit; i += step) {
          const event = log[i]
          if (event === undefined || event.position <= after || event.position > through) break
          if (isMatch(event)) found.push(event)
        }
        return takePage(found, { limit, maxBytes }, bytesOf)
      }),

    get: (id) => events.read(({ byId }) => byId.get(id) ?? null),

    distinct: ({ field, filter, ...page }) =>
      events.read(({ log }) =>
        distinctPage(
          log.filter(Encoded.matches(filter)).map((event) => event[field]),
          page
        )
      ),

    count: (filter) => events.read(({ log }) => log.filter(Encoded.matches(filter)).length),

    info: events.read(({ log, streams }) => ({
      backend: "InMemory",
      connection: "memory",
      events: log.length,
      streams: streams.size,
      lastEvent: log.at(-1) ?? null
    })),

    update: ({ data, id, keyId, metadata, revision }) =>
      events.write((state, undo) => {
        const event = state.byId.get(id)
        if (event === undefined) return false
        const before = state.revisions.get(streamKey(event))
        undo((state) => revise(state, event, before))
        const updated = { ...event, data: data ?? event.data, metadata: metadata ?? event.metadata, keyId }
        if (data !== null || changed.has(event)) changed.add(updated)
        revise(state, updated, revision)
        return true
      }),

    replace: ({ changes, data, id, keyId, metadata, revision, was }) =>
      events.write((state, undo) => {
        const event = state.byId.get(id)
        if (event === undefined || event.data !== was.data || event.metadata !== was.metadata) return false
        const before = state.revisions.get(streamKey(event))
        undo((state) => revise(state, event, before))
        const replaced = { ...event, data, metadata, keyId }
        if (changes || changed.has(event)) changed.add(replaced)
        revise(state, replaced, revision ?? before)
        return true
      }),

    deleteStream: (stream) =>
      events.write((state, undo) => {
        const key = streamKey(stream)
        const { byId, log, revisions, streams } = state
        const deleted = streams.get(key)
        if (deleted === undefined) return 0
        const revision = revisions.get(key)
        undo((state) => {
          state.streams.set(key, [...deleted])
          if (revision !== undefined) state.revisions.set(key, revision)
          for (const event of deleted) state.byId.set(event.id, event)
          state.log = [...log]
        })
        streams.delete(key)
        revisions.delete(key)
        for (const { id } of deleted) byId.delete(id)
        state.log = log.filter(({ id }) => byId.has(id))
        return deleted.length
      }),

    reset: events.write((state, undo) => {
      const before = { ...state }
      undo((state) => Object.assign(state, copy(before)))
      Object.assign(state, empty())
    }),

    note: makeNote(),

    hints: hints.register,

    inTransaction: Effect.withFiberRuntime((fiber) => Effect.succeed(database.current(fiber) !== undefined))
  }
}

const bytesOf = ({ data, metadata }: Encoded.EncodedEvent): number => data.length + metadata.length

const isExpected = (expected: ExpectedVersion, actual: number): boolean =>
  expected === "any" ||
  (expected === "noStream" ? actual === 0 : expected === "streamExists" ? actual > 0 : actual === expected)

/** Index of the first event with a greater position. */
const indexAfter = (log: ReadonlyArray<Encoded.EncodedEvent>, position: number): number => {
  let low = 0
  let high = log.length
  while (low < high) {
    const middle = (low + high) >> 1
    if ((log[middle] as Encoded.EncodedEvent).position <= position) low = middle + 1
    else high = middle
  }
  return low
}

const layers = storeLayers({
  tag: EventStore,
  keys: { readOnly: true, instanceId: true, traceparent: true },
  options: (options: Options) =>
    Effect.map(liftOptions("memory", options), (lifting) => ({ ...lifting, traceparent: options.traceparent })),
  port,
  lift: (port, options) => Effect.succeed(Encoded.make(port, { ...options, pollInterval: Duration.seconds(1) }))
})

/**
 * A port on a database of its own for each call.
 *
 * @since 0.1.0
 * @category constructors
 */
export const makeEncoded: Effect.Effect<Encoded.Encoded> = layers.makeEncoded

/**
 * The EventStore on a database that other stores share, with its transactions.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerFromDatabase: (options?: Options) => Layer.Layer<EventStore, InvalidInput, MemoryDatabase> =
  layers.layerFromDatabase

/**
 * The EventStore on a database of its own. The default backend: nothing to configure, nothing kept.
 *
 * @since 0.1.0
 * @category layers
 */
export const layer: (options?: Options) => Layer.Layer<EventStore, InvalidInput> = layers.layer
