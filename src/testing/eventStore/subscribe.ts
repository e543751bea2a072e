/**
 * Contract of `subscribe`: catch-up, then live, without hole or duplicate between the two.
 */
import assert from "node:assert/strict"
import * as Chunk from "effect/Chunk"
import * as DateTime from "effect/DateTime"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Stream from "effect/Stream"
import type { Event, Filter } from "../../EventStore.js"
import { EventStore } from "../../EventStore.js"
import { cursor } from "../../internal/pages.js"
import { collect, failsWith, range } from "../suite.js"
import type { Test } from "./fixtures.js"
import { assertFeedOrder, assertSameEvents, freshTenant, ids, newEvents, streamOf } from "./fixtures.js"

const writers = 8
const appendsPerWriter = 30

/** 8 writers on 5 streams, batches of 1 and 2. */
const write = (tenantId: string) =>
  Effect.flatMap(EventStore, (store) =>
    Effect.all(
      range(1, writers).map((w) =>
        Effect.forEach(
          range(1, appendsPerWriter),
          (i) => store.append(streamOf(tenantId, `${(w + i) % 5}`), newEvents((i % 2) + 1), { expected: "any" }),
          { discard: true }
        )
      ),
      { concurrency: "unbounded", discard: true }
    )
  )

const written = writers * appendsPerWriter * 1.5

/** Runs a subscription in the background; `seen` completes with the first chunk. */
const follow = (tenantId: string, limit?: number) =>
  Effect.gen(function* () {
    const store = yield* EventStore
    const seen = yield* Deferred.make<ReadonlyArray<Event>>()
    const fiber = yield* store.subscribe({ filter: { tenantId }, limit }).pipe(
      Stream.chunks,
      Stream.tap((chunk) =>
        Chunk.isEmpty(chunk) ? Effect.void : Deferred.succeed(seen, Chunk.toReadonlyArray(chunk))
      ),
      Stream.flattenChunks,
      collect,
      Effect.fork
    )
    return { fiber, seen: Deferred.await(seen) }
  })

export const subscribe = (test: Test): void => {
  test("a subscription catches up and goes on live, without hole or duplicate while 8 writers append", () =>
    Effect.gen(function* () {
      const store = yield* EventStore
      const tenantId = freshTenant()
      // More than a page, so that catch-up takes several steps while the writers are at work.
      const before = newEvents(2200)
      yield* store.append(streamOf(tenantId, "before"), before, { expected: "noStream" })
      const { fiber } = yield* follow(tenantId, before.length + written)
      yield* write(tenantId)
      const events = yield* Fiber.join(fiber)
      assert.equal(new Set(ids(events)).size, before.length + written)
      assertFeedOrder(events)
      assertSameEvents(yield* collect(store.feed({ filter: { tenantId } })), events)
    }))

  test("several subscribers each see everything", () =>
    Effect.gen(function* () {
      const tenantId = freshTenant()
      const followers = yield* Effect.all(range(1, 4).map(() => follow(tenantId, written)))
      yield* write(tenantId)
      const [first, ...others] = yield* Effect.all(followers.map(({ fiber }) => Fiber.join(fiber)))
      assert.ok(first !== undefined)
      assert.equal(new Set(ids(first)).size, written)
      assertFeedOrder(first)
      for (const events of others) assertSameEvents(events, first)
    }))

  test("subscribers with filters of their own each see what is theirs, and one that is slow sees all of it too", () =>
    Effect.gen(function* () {
      const store = yield* EventStore
      const tenantId = freshTenant()
      const [types, streams] = [range(1, 4).map((n) => `Type${n}`), range(1, 6).map(String)]
      const batches = range(1, 60).map((n) => ({
        stream: streamOf(tenantId, streams[n % streams.length] as string),
        events: newEvents((n % 3) + 1, (i) => ({
          type: types[(n + i) % types.length] as string,
          commandId: `command-${tenantId}-${n % 5}`,
          createdAt: DateTime.unsafeMake(1_000 * (n % 10))
        }))
      }))
      const filters: ReadonlyArray<Filter> = [
        {},
        ...types.map((type) => ({ types: [type] })),
        ...streams.map((aggregateId) => ({ aggregateId, domain: "order" })),
        { types: ["Type1", "Type3"], aggregateId: "2" },
        { commandId: `command-${tenantId}-3` },
        { createdFrom: DateTime.unsafeMake(3_000), createdUntil: DateTime.unsafeMake(7_000) }
      ].map((filter) => ({ tenantId, ...filter }))
      const given = batches.flatMap(({ events }) => events)
      const seen = filters.map((): Array<Event> => [])
      const { position } = yield* store.append(streamOf(tenantId, "before"), newEvents(1), { expected: "any" })
      const expected = (filter: Filter) => collect(store.feed({ after: position, filter }))
      const followers = yield* Effect.forEach(filters, (filter, i) =>
        Effect.fork(
          Stream.runForEach(store.subscribe({ after: position, filter }), (event) =>
            Effect.zipRight(
              i === 0 ? Effect.sleep(1) : Effect.void,
              Effect.sync(() => seen[i]?.push(event))
            )
          )
        )
      )
      yield* Effect.forEach(batches, ({ events, stream }) => store.append(stream, events, { expected: "any" }), {
        concurrency: 6
      })
      for (const [i, filter] of filters.entries()) {
        const wanted = yield* expected(filter)
        assert.ok(wanted.length > 0)
        while ((seen[i]?.length ?? 0) < wanted.length) yield* Effect.sleep(5)
      }
      yield* Fiber.interruptAll(followers)
      for (const [i, filter] of filters.entries()) assertSameEvents(seen[i] ?? [], yield* expected(filter))
      assert.equal(seen[0]?.length, given.length)
    }))

  test("a subscription after head sees only what comes, and wakes up for it", () =>
    Effect.gen(function* () {
      const store = yield* EventStore
      const tenantId = freshTenant()
      yield* store.append(streamOf(tenantId), newEvents(5), { expected: "any" })
      const after = yield* store.head
      const fiber = yield* Effect.fork(collect(store.subscribe({ after, limit: 3 })))
      // Most likely it waits by now; if not, the test still holds.
      yield* Effect.sleep(20)
      const later = newEvents(3)
      for (const event of later) yield* store.append(streamOf(tenantId), [event], { expected: "any" })
      assert.deepEqual(ids(yield* Fiber.join(fiber)), ids(later))
    }))

  test("a subscription that resumes after the last event seen goes on exactly there", () =>
    Effect.gen(function* () {
      const store = yield* EventStore
      const tenantId = freshTenant()
      yield* Effect.fork(write(tenantId))
      const seen: Array<Event> = []
      while (seen.length < written) {
        const limit = Math.min(23, written - seen.length)
        seen.push(
          ...(yield* collect(store.subscribe({ after: seen.at(-1)?.position ?? 0, filter: { tenantId }, limit })))
        )
      }
      assertFeedOrder(seen)
      assert.equal(new Set(ids(seen)).size, written)
    }))

  test("the filter holds in catch-up and live", () =>
    Effect.gen(function* () {
      const store = yield* EventStore
      const tenantId = freshTenant()
      const batch = () => newEvents(4, (i) => ({ type: i % 2 === 0 ? "Even" : "Odd" }))
      const [early, late] = [batch(), batch()]
      yield* store.append(streamOf(tenantId), early, { expected: "any" })
      const reading = store.subscribe({ filter: { tenantId, types: ["Odd"] }, limit: 4 })
      const fiber = yield* Effect.fork(collect(reading))
      yield* store.append(streamOf(tenantId), late, { expected: "any" })
      const odd = [...early, ...late].filter(({ type }) => type === "Odd")
      assert.deepEqual(ids(yield* Fiber.join(fiber)), ids(odd))
    }))

  test("a limit ends a subscription, also at the page boundary", () =>
    Effect.gen(function* () {
      const store = yield* EventStore
      const tenantId = freshTenant()
      const given = newEvents(1500)
      yield* store.append(streamOf(tenantId), given, { expected: "any" })
      for (const limit of [1, 999, 1000, 1001, 1500]) {
        const events = yield* collect(store.subscribe({ filter: { tenantId }, limit }))
        assert.deepEqual(ids(events), ids(given.slice(0, limit)))
      }
    }))

  test("a waiting subscription can be interrupted at once, again and again, and the store goes on", () =>
    Effect.gen(function* () {
      const store = yield* EventStore
      const tenantId = freshTenant()
      yield* store.append(streamOf(tenantId), newEvents(1), { expected: "any" })
      for (const _ of range(1, 50)) {
        const { fiber, seen } = yield* follow(tenantId)
        yield* seen
        const ended = yield* Effect.timeoutOption(Fiber.interrupt(fiber), "90 seconds")
        assert.equal(ended._tag, "Some", "the interruption must not wait")
      }
      const next = yield* store.append(streamOf(tenantId), newEvents(1), { expected: 1 })
      assert.equal(next.version, 2)
    }))

  test("a follower's steps are the feed, and whoever resumes after any of them misses and repeats nothing", () =>
    Effect.gen(function* () {
      const store = yield* EventStore
      const tenantId = freshTenant()
      const filter = { tenantId, types: ["Odd"] }
      const batch = () => newEvents(700, (i) => ({ type: i % 2 === 0 ? "Even" : "Odd" }))
      yield* store.append(streamOf(tenantId), batch(), { expected: "noStream" })
      const fiber = yield* Effect.fork(collect(store.follow({ filter, limit: 700 })))
      yield* store.append(streamOf(tenantId), batch(), { expected: "any" })
      const steps = yield* Fiber.join(fiber)
      const all = yield* collect(store.feed({ filter }))
      assertSameEvents(
        steps.flatMap(({ events }) => events),
        all
      )
      let seen = 0
      for (const { events, position } of steps) {
        seen += events.length
        assert.ok((events.at(-1)?.position ?? 0) <= position)
        assertSameEvents(yield* collect(store.feed({ filter, after: position })), all.slice(seen))
      }
    }))

  test("a follower that finds nothing is told how far it has looked", () =>
    Effect.gen(function* () {
      const store = yield* EventStore
      const tenantId = freshTenant()
      const after = yield* store.head
      const steps = store.follow({ after, filter: { tenantId, types: ["Rare"] } })
      const fiber = yield* Effect.fork(collect(Stream.take(steps, 1)))
      const { position } = yield* store.append(streamOf(tenantId), newEvents(3), { expected: "any" })
      const [step] = yield* Fiber.join(fiber)
      assert.deepEqual(step?.events, [])
      assert.ok(step !== undefined && step.position >= position)
      yield* store.append(
        streamOf(tenantId),
        newEvents(1, () => ({ type: "Rare" })),
        { expected: "any" }
      )
      const [found] = yield* collect(
        Stream.take(store.subscribe({ after: step.position, filter: { tenantId, types: ["Rare"] } }), 1)
      )
      assert.equal(found?.version, 4)
    }))

  test("whoever has come further than the store ever was is told so, and does not wait for ever", () =>
    Effect.gen(function* () {
      const store = yield* EventStore
      yield* store.append(streamOf(freshTenant()), newEvents(2), { expected: "any" })
      // What is appended at the same time does not come so far.
      const after = (yield* store.head) + 1_000_000
      const refused = [
        yield* failsWith(collect(store.subscribe({ after })), "InvalidInput"),
        yield* failsWith(collect(store.feed({ after })), "InvalidInput"),
        yield* failsWith(store.page({ cursor: cursor("forward", after) }), "InvalidInput")
      ]
      assert.deepEqual(
        refused.map(({ what }) => what),
        ["options.after", "options.after", "options.cursor"]
      )
      for (const { why } of refused) assert.match(why, new RegExp(`position ${after}, .* last position .* is [1-9]`))
      assert.equal(
        (yield* store.page({ direction: "backward", cursor: cursor("backward", after) })).events.length > 0,
        true
      )
    }))

  test("whoever has read events that were deleted since goes on after them", () =>
    Effect.gen(function* () {
      const store = yield* EventStore
      const tenantId = freshTenant()
      const { position } = yield* store.append(streamOf(tenantId), newEvents(3), { expected: "any" })
      yield* store.maintenance.deleteStream(streamOf(tenantId))
      const later = newEvents(1)
      const fiber = yield* Effect.fork(collect(store.subscribe({ after: position, filter: { tenantId }, limit: 1 })))
      assert.deepEqual(yield* collect(store.feed({ after: position, filter: { tenantId } })), [])
      yield* store.append(streamOf(tenantId), later, { expected: "noStream" })
      assert.deepEqual(ids(yield* Fiber.join(fiber)), ids(later))
    }))

  test("bad options fail a subscription with a typed error", () =>
    Effect.gen(function* () {
      const store = yield* EventStore
      const refused = yield* failsWith(collect(store.subscribe({ after: -1 })), "InvalidInput")
      assert.equal(refused.what, "options.after")
    }))
}
