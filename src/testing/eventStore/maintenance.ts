/**
 * Contract of `maintenance`, and of a store that was opened read-only.
 */
import assert from "node:assert/strict"
import { randomUUID } from "node:crypto"
import * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as Aggregate from "../../Aggregate.js"
import { EventStore } from "../../EventStore.js"
import * as SnapshotStoreMemory from "../../memory/SnapshotStoreMemory.js"
import * as SnapshotPolicy from "../../SnapshotPolicy.js"
import { SnapshotStore } from "../../SnapshotStore.js"
import { collect, failsWith } from "../suite.js"
import type { Test } from "./fixtures.js"
import {
  assertSameEvents,
  freshStream,
  freshTenant,
  type GivenEvent,
  newEvent,
  newEvents,
  plain,
  readAll,
  streamOf,
  versions
} from "./fixtures.js"

const Sum = Aggregate.make({
  domain: "sum",
  state: Schema.Number,
  event: Schema.TaggedStruct("Happened", { n: Schema.Number }),
  initial: 0,
  evolve: (sum, { n }) => sum + n,
  snapshots: SnapshotPolicy.every(1)
})

export const maintenance = (test: Test): void => {
  test("an update replaces data or metadata or both, and keeps the event's place, type and time", () =>
    Effect.gen(function* () {
      const store = yield* EventStore
      const stream = freshStream()
      const { tenantId } = stream
      yield* store.append(
        stream,
        newEvents(3, () => ({ metadata: { by: "me" }, commandId: "c" })),
        { expected: "any" }
      )
      const [first, second, third] = yield* readAll(stream)
      assert.ok(first !== undefined && second !== undefined && third !== undefined)
      yield* store.maintenance.update(first.id, { data: { redacted: true } })
      yield* store.maintenance.update(second.id, { metadata: { by: "nobody" } })
      yield* store.maintenance.update(third.id, { data: null, metadata: {} })
      const expected = [
        { ...first, data: { redacted: true } },
        { ...second, metadata: { by: "nobody" } },
        { ...third, data: null, metadata: {} }
      ]
      assertSameEvents(yield* readAll(stream), expected)
      assertSameEvents(yield* collect(store.feed({ filter: { tenantId } })), expected)
      assertSameEvents((yield* store.page({ filter: { tenantId } })).events, expected)
      assertSameEvents(Option.toArray(yield* store.get(third.id)), expected.slice(2))
    }))

  test("an update of an unknown id is NotFound, and one without changes is refused", () =>
    Effect.gen(function* () {
      const { maintenance } = yield* EventStore
      const id = randomUUID()
      const missing = yield* failsWith(maintenance.update(id, { data: 1 }), "NotFound")
      assert.ok(missing.what.includes(id))
      yield* failsWith(maintenance.update(id, {}), "InvalidInput")
    }))

  test("after an update the first form of the event is no repeat any more", () =>
    Effect.gen(function* () {
      const store = yield* EventStore
      const stream = freshStream()
      const event = newEvent()
      yield* store.append(stream, [event], { expected: "any" })
      yield* store.maintenance.update(event.id, { data: "redacted" })
      yield* failsWith(store.append(stream, [event], { expected: "any" }), "DuplicateEvent")
      const same = yield* store.append(stream, [{ ...event, data: "redacted" }], { expected: "any" })
      assert.equal(same.version, 1)
    }))

  test("after an update of any event an aggregate loads from no snapshot of before it", () =>
    Effect.gen(function* () {
      const store = yield* EventStore
      const snapshots = yield* SnapshotStore
      const id = { tenantId: freshTenant(), aggregateId: "1" }
      const stream = Aggregate.streamId(Sum, id)
      const events = newEvents(3, () => ({ data: { n: 1 } }))
      yield* store.append(stream, events, { expected: "noStream" })
      const load = Effect.zipLeft(Aggregate.load(Sum, id), snapshots.flush(stream))
      assert.deepEqual((yield* load).state, 3)
      let sum = 3
      // The last one twice.
      for (const { id: event } of [...events, events[2] as GivenEvent]) {
        assert.equal((yield* load).snapshotVersion, 3)
        sum += 10
        yield* store.maintenance.update(event, { data: { n: sum } })
        const all = yield* readAll(stream)
        const expected = all.reduce((total, { data }) => total + (data as { readonly n: number }).n, 0)
        const loaded = yield* load
        assert.deepEqual([loaded.state, loaded.snapshotVersion], [expected, 0])
        assert.equal((yield* Aggregate.loadAt(Sum, id, 3)).state, expected)
      }
    }).pipe(Effect.provide(SnapshotStoreMemory.layer())))

  test("a deleted stream is gone everywhere, its neighbours stay, and it starts again from version 1", () =>
    Effect.gen(function* () {
      const store = yield* EventStore
      const tenantId = freshTenant()
      const [stream, neighbour] = [streamOf(tenantId, "1"), streamOf(tenantId, "2")]
      const events = newEvents(3)
      const before = yield* store.append(stream, events, { expected: "noStream" })
      const other = yield* store.append(neighbour, newEvents(2), { expected: "noStream" })
      assert.equal(yield* store.maintenance.deleteStream(stream), 3)
      assert.equal(yield* store.maintenance.deleteStream(stream), 0)
      assert.equal(yield* store.version(stream), 0)
      assert.deepEqual(yield* readAll(stream), [])
      assert.ok(Option.isNone(yield* store.get(events[0]?.id ?? "")))
      assert.equal(yield* store.count({ tenantId }), 2)
      assert.deepEqual(yield* collect(store.distinct("aggregateId", { tenantId })), ["2"])
      yield* failsWith(store.append(stream, [newEvent()], { expected: "streamExists" }), "VersionConflict")
      const again = yield* store.append(stream, events, { expected: "noStream" })
      assert.equal(again.version, 3)
      assert.ok(again.position > before.position && again.position > other.position)
      assert.deepEqual(versions(yield* readAll(stream)), [1, 2, 3])
      assert.deepEqual(versions(yield* readAll(neighbour)), [1, 2])
    }))

  test("positions are not used again after the newest stream was deleted", () =>
    Effect.gen(function* () {
      const store = yield* EventStore
      const stream = freshStream()
      const before = yield* store.append(stream, newEvents(5), { expected: "any" })
      yield* store.maintenance.deleteStream(stream)
      const after = yield* store.append(freshStream(), newEvents(1), { expected: "any" })
      assert.ok(after.position > before.position)
    }))

  test("a reset empties the store, and positions go on from where they were", () =>
    Effect.gen(function* () {
      const store = yield* EventStore
      const stream = freshStream()
      const events = newEvents(3)
      const before = yield* store.append(stream, events, { expected: "any" })
      yield* store.maintenance.reset
      assert.equal(yield* store.count(), 0)
      assert.deepEqual(yield* collect(store.feed()), [])
      assert.equal(yield* store.version(stream), 0)
      const info = yield* store.info
      assert.deepEqual([info.events, info.streams, Option.isNone(info.lastEvent)], [0, 0, true])
      const after = yield* store.append(stream, events, { expected: "noStream" })
      assert.equal(after.version, 3)
      assert.ok(after.position > before.position)
      assert.equal((yield* collect(store.feed({ after: before.position }))).length, 3)
    }))
}

export const readOnly = (test: Test, layer: Layer.Layer<EventStore, unknown>): void => {
  test("a read-only store refuses every write by name and reads what another wrote", () =>
    Effect.gen(function* () {
      const writer = yield* EventStore
      const stream = freshStream()
      const event = newEvent()
      yield* writer.append(stream, [event], { expected: "any" })
      const stored = yield* readAll(stream)
      yield* Effect.gen(function* () {
        const store = yield* EventStore
        const share = { stream, events: [newEvent()], expected: "any" } as const
        const refused = yield* Effect.all([
          failsWith(store.append(stream, [newEvent()], { expected: "any" }), "ReadOnly"),
          // Also what would change nothing, and what would be refused anyway.
          failsWith(store.append(stream, [event], { expected: "any" }), "ReadOnly"),
          failsWith(store.append(stream, [], { expected: -1 }), "ReadOnly"),
          failsWith(store.appendAll([share]), "ReadOnly"),
          failsWith(store.maintenance.update(event.id, { data: 1 }), "ReadOnly"),
          failsWith(store.maintenance.deleteStream(stream), "ReadOnly"),
          failsWith(store.maintenance.reset, "ReadOnly")
        ])
        assert.deepEqual(
          refused.map(({ operation }) => operation),
          ["append", "append", "append", "appendAll", "update", "deleteStream", "reset"]
        )
        assert.equal((yield* store.info).readOnly, true)
        assertSameEvents(yield* readAll(stream), stored)
        assert.equal(yield* store.version(stream), 1)
        assert.equal(yield* store.count({ tenantId: stream.tenantId }), 1)
        assertSameEvents(yield* collect(store.subscribe({ filter: { tenantId: stream.tenantId }, limit: 1 })), stored)
      }).pipe(Effect.provide(layer))
      assert.deepEqual((yield* readAll(stream)).map(plain), stored.map(plain))
    }))
}
