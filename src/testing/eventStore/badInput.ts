/**
 * The property of bad input on the EventStore: its operations, and what they must answer.
 */
import assert from "node:assert/strict"
import { randomUUID } from "node:crypto"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import type {
  DistinctField,
  Event,
  EventStoreShape,
  ExpectedVersion,
  FeedOptions,
  Filter,
  NewEvent,
  ReadError,
  StreamId
} from "../../EventStore.js"
import { EventStore } from "../../EventStore.js"
import type { At, Operation } from "../hostileCalls.js"
import { copy, hostileCalls, isSteady, operationsOf, same, streamArg as streamOn } from "../hostileCalls.js"
import { hostileQueries, inTime, type LogWorld } from "../log.js"
import type { PropertyOptions } from "../suite.js"
import { collect } from "../suite.js"
import type { Test } from "./fixtures.js"
import { freshStream, newEvents, plain, streamOf } from "./fixtures.js"

type World = LogWorld<EventStoreShape, Event>

const operation = operationsOf<World>({ store: EventStore.of({} as EventStoreShape), fixture: [], victim: "" })

const streamArg = (at: At, name: string, right: StreamId = freshStream()): StreamId => streamOn(at, name, right)

const eventArg = (at: At, name: string): NewEvent => {
  const misspelt = at<unknown>(`${name}.commandID`, undefined)
  return at(name, {
    ...(misspelt === undefined ? {} : { commandID: misspelt }),
    id: at(`${name}.id`, randomUUID()),
    type: at(`${name}.type`, "Happened"),
    data: at<unknown>(`${name}.data`, { list: [0, at<unknown>(`${name}.data.list[1]`, 1)] }),
    metadata: at<NewEvent["metadata"]>(`${name}.metadata`, { trace: at<unknown>(`${name}.metadata.trace`, "t") }),
    commandId: at<string | undefined>(`${name}.commandId`, "command"),
    instanceId: at<string | undefined>(`${name}.instanceId`, "instance"),
    createdAt: at<DateTime.Utc | undefined>(`${name}.createdAt`, DateTime.unsafeMake(1))
  })
}

const eventsArg = (at: At, name: string): ReadonlyArray<NewEvent> =>
  at(name, [eventArg(at, `${name}[0]`), eventArg(at, `${name}[1]`)])

const filterArg = (at: At, name: string, tenantId: string | undefined): Filter =>
  at(name, {
    tenantId: at(`${name}.tenantId`, tenantId),
    domain: at<string | undefined>(`${name}.domain`, undefined),
    aggregateId: at<string | undefined>(`${name}.aggregateId`, undefined),
    types: at<ReadonlyArray<string> | undefined>(`${name}.types`, ["Happened", at(`${name}.types[1]`, "Other")]),
    commandId: at<string | undefined>(`${name}.commandId`, undefined),
    createdFrom: at<DateTime.Utc | undefined>(`${name}.createdFrom`, undefined),
    createdUntil: at<DateTime.Utc | undefined>(`${name}.createdUntil`, undefined)
  })

const tenantOf = ({ fixture }: World): string | undefined => fixture[0]?.tenantId

const assertStored = (stored: ReadonlyArray<Event>, given: ReadonlyArray<NewEvent>): void => {
  assert.equal(stored.length, given.length)
  for (const [i, event] of stored.entries()) {
    const { commandId, createdAt, data, id, instanceId, metadata, type } = given[i] as NewEvent
    assert.ok(!Object.keys(given[i] as NewEvent).includes("commandID"), "a misspelt key was left out silently")
    if (!isSteady(data, metadata)) continue
    if (id !== undefined) same(event.id, id, "id")
    same(event.type, type, "type")
    same(event.data, copy(data), "data")
    same(event.metadata, copy(metadata ?? {}), "metadata")
    same(event.commandId, commandId, "commandId")
    if (instanceId !== undefined) same(event.instanceId, instanceId, "instanceId")
    if (createdAt !== undefined) same(event.createdAt.epochMillis, createdAt.epochMillis, "createdAt")
    assert.ok(!("polluted" in event) && !("polluted" in {}), "a prototype was polluted")
  }
}

const { assertFound, operations: queries } = hostileQueries(operation, {
  filterArg,
  matches: (event, filter) => {
    const { aggregateId, commandId, domain, types } = filter
    return (
      (domain === undefined || domain === event.domain) &&
      (aggregateId === undefined || aggregateId === event.aggregateId) &&
      (types === undefined || types.includes(event.type)) &&
      (commandId === undefined || commandId === event.commandId) &&
      inTime(event, filter)
    )
  },
  field: "type" as DistinctField,
  get: (store, id) => store.get(id),
  page: (store, options) => Effect.map(store.page(options), ({ events }) => events),
  distinct: (store, field, filter) => store.distinct(field, filter),
  count: (store, filter) => store.count(filter)
})

const checkStream = (store: EventStoreShape, stream: StreamId, version: number, events: ReadonlyArray<NewEvent>) =>
  Effect.map(collect(store.read(stream, { fromVersion: version - events.length + 1, toVersion: version })), (stored) =>
    assertStored(
      stored,
      Array.from({ length: events.length }, (_, i) => events[i] as NewEvent)
    )
  )

const following = (follow: (store: EventStoreShape, options: FeedOptions) => Stream.Stream<unknown, ReadError>) =>
  operation({
    args: (at, world) => ({
      options: at<FeedOptions>("options", {
        after: at("options.after", 0),
        filter: filterArg(at, "options.filter", tenantOf(world)),
        limit: at("options.limit", 3)
      })
    }),
    // A subscription that nothing ends waits, which is right; a typed error comes at once.
    run: (store, { options }) => Effect.timeoutOption(collect(Stream.take(follow(store, options), 1)), "30 millis"),
    check: () => Effect.void
  })

const operations: Readonly<Record<string, Operation<World>>> = {
  append: operation({
    args: (at) => ({
      stream: streamArg(at, "stream"),
      events: eventsArg(at, "events"),
      options: at("options", { expected: at<ExpectedVersion>("options.expected", "any") })
    }),
    run: (store, { events, options, stream }) => store.append(stream, events, options),
    check: ({ store }, { events, stream }, { version }) => checkStream(store, stream, version, events)
  }),

  appendAll: operation({
    args: (at) => ({
      appends: at("appends", [
        at("appends[0]", {
          stream: streamArg(at, "appends[0].stream"),
          events: eventsArg(at, "appends[0].events"),
          expected: at<ExpectedVersion>("appends[0].expected", "noStream")
        }),
        {
          stream: streamArg(at, "appends[1].stream"),
          events: [eventArg(at, "appends[1].events[0]")],
          expected: "any" as ExpectedVersion
        }
      ]),
      options: at("options", {
        guards: at("options.guards", [
          at("options.guards[0]", {
            stream: streamArg(at, "options.guards[0].stream"),
            expected: at<ExpectedVersion>("options.guards[0].expected", "noStream")
          })
        ])
      })
    }),
    run: (store, { appends, options }) => store.appendAll(appends, options),
    check: ({ store }, { appends }, answers) =>
      Effect.forEach(
        Array.from({ length: appends.length }, (_, i) => appends[i] as (typeof appends)[number]),
        ({ events, stream }, i) => checkStream(store, stream, answers[i]?.version ?? 0, events),
        { discard: true }
      )
  }),

  read: operation({
    args: (at, { fixture }) => ({
      stream: streamArg(at, "stream", fixture[0]),
      options: at("options", {
        direction: at<"forward" | "backward">("options.direction", "forward"),
        fromVersion: at("options.fromVersion", 1),
        toVersion: at("options.toVersion", 5),
        limit: at("options.limit", 3)
      })
    }),
    run: (store, { options, stream }) => collect(store.read(stream, options)),
    check: (_, { stream }, events) =>
      Effect.sync(() => {
        for (const event of events) same(event.aggregateId, stream.aggregateId, "the stream of an event")
      })
  }),

  version: operation({
    args: (at, { fixture }) => ({ stream: streamArg(at, "stream", fixture[0]) }),
    run: (store, { stream }) => store.version(stream),
    check: (_, __, version) => Effect.sync(() => assert.ok(Number.isInteger(version) && version >= 0))
  }),

  feed: operation({
    args: (at, world) => ({
      options: at("options", {
        after: at("options.after", 0),
        filter: filterArg(at, "options.filter", tenantOf(world)),
        limit: at("options.limit", 10)
      })
    }),
    run: (store, { options }) => collect(Stream.take(store.feed(options), 20)),
    check: (world, { options }, events) =>
      Effect.sync(() => {
        if (options?.after === 0) assertFound(world, options.filter, events, options.limit ?? 20)
      })
  }),

  subscribe: following((store, options) => store.subscribe(options)),

  follow: following((store, options) => store.follow(options)),

  ...queries,

  update: operation({
    args: (at, { victim }) => ({
      id: at("id", victim),
      changes: at("changes", {
        data: at<unknown>("changes.data", { redacted: at<unknown>("changes.data.redacted", true) }),
        metadata: at<NewEvent["metadata"]>("changes.metadata", { by: at<unknown>("changes.metadata.by", "me") })
      })
    }),
    run: (store, { changes, id }) => store.maintenance.update(id, changes),
    check: ({ store }, { changes: { data, metadata }, id }) =>
      Effect.map(store.get(id), (event) => {
        const stored = Option.getOrThrow(event)
        if (!isSteady(data, metadata)) return
        if (data !== undefined) same(stored.data, copy(data), "data")
        if (metadata !== undefined) same(stored.metadata, copy(metadata), "metadata")
      })
  }),

  deleteStream: operation({
    args: (at) => ({ stream: streamArg(at, "stream") }),
    run: (store, { stream }) => store.maintenance.deleteStream(stream),
    check: ({ store }, { stream }) => Effect.map(store.version(stream), (version) => assert.equal(version, 0))
  })
}

const documented = ["InvalidInput", "VersionConflict", "DuplicateEvent", "NotFound"]

export const badInput = (test: Test, options: PropertyOptions): void => {
  test(`${options.runs} calls with hostile values fail typed and change nothing, or are answered rightly`, () =>
    Effect.gen(function* () {
      const store = yield* EventStore
      const stream = freshStream()
      yield* store.append(
        stream,
        newEvents(5, () => ({ createdAt: DateTime.unsafeMake(5) })),
        { expected: "any" }
      )
      const fixture = yield* collect(store.read(stream))
      const other = streamOf(freshStream().tenantId)
      const [victim] = newEvents(1)
      assert.ok(victim !== undefined)
      yield* store.append(other, [victim], { expected: "any" })
      const world: World = { store, fixture, victim: victim.id }
      const state = Effect.all([store.head, Effect.map(store.get(victim.id), Option.map(plain))])
      yield* hostileCalls(options, {
        operations,
        // Waiting for a subscription that was accepted takes its time.
        weightOf: (name) => (name === "subscribe" || name === "follow" ? 1 : name.startsWith("append") ? 12 : 5),
        world,
        state,
        documented
      })
      assert.deepEqual((yield* collect(store.read(stream))).map(plain), fixture.map(plain))
    }))
}
