/**
 * Contract of what the port has beyond the service: how those who seal anew change a stored event, and which history of
 * a stream a page is of.
 */
import assert from "node:assert/strict"
import { randomUUID } from "node:crypto"
import * as Effect from "effect/Effect"
import { type Direction, EventStore, type StreamId } from "../../EventStore.js"
import { type Encoded, type EncodedEvent, relift } from "../../eventStore/EventStoreEncoded.js"
import type { Test } from "../eventStore/fixtures.js"
import { freshTenant, type GivenEvent, newEvent, plain, streamOf } from "../eventStore/fixtures.js"
import { collect, portOf } from "../suite.js"
import { type Replaceable, replace } from "./replace.js"

export const port = (test: Test): void => {
  test("the port tells with each page of a stream by which change its history became what it is", () =>
    Effect.gen(function* () {
      const store = yield* EventStore
      const port = yield* portOf<Encoded>((keep) => relift(store, keep))
      const tenantId = freshTenant()
      const [stream, neighbour] = [streamOf(tenantId, "1"), streamOf(tenantId, "2")]
      const pageOf = (stream: StreamId, direction: Direction = "forward") =>
        port.readStream({ stream, direction, fromVersion: 2, toVersion: 3, limit: 1, maxBytes: 1_000 })
      const revisionIs = (revision: string | null) =>
        Effect.gen(function* () {
          for (const direction of ["forward", "backward"] as const)
            assert.equal((yield* pageOf(stream, direction)).revision, revision)
          assert.equal((yield* pageOf(neighbour)).revision, null)
        })
      const events = [newEvent(), newEvent(), newEvent()]
      const [first] = events as [GivenEvent]
      yield* store.append(stream, events, { expected: "noStream" })
      yield* store.append(neighbour, [newEvent(), newEvent()], { expected: "noStream" })
      yield* revisionIs(null)

      const [one, two] = [randomUUID(), randomUUID()]
      const update = { id: first.id, data: '{"n":-1}', metadata: null, keyId: null }
      assert.equal(yield* port.update({ ...update, revision: one }), true)
      yield* revisionIs(one)
      assert.equal(yield* port.update({ ...update, id: randomUUID(), revision: two }), false)
      yield* store.append(stream, [newEvent()], { expected: 3 })
      yield* revisionIs(one)

      const was = yield* port.get(first.id)
      assert.ok(was !== null)
      const now = { id: first.id, was, data: '{"n":-2}', metadata: "{}", keyId: was.keyId }
      assert.equal(yield* port.replace({ ...now, was: { ...was, data: "{}" }, revision: two }), false)
      yield* revisionIs(one)
      assert.equal(yield* port.replace({ ...now, revision: two }), true)
      yield* revisionIs(two)
      assert.equal(yield* port.replace({ ...now, was: now, data: was.data, revision: null }), true)
      yield* revisionIs(two)

      assert.equal(yield* store.maintenance.deleteStream(stream), 4)
      yield* store.append(stream, events, { expected: "noStream" })
      yield* revisionIs(null)
    }))

  replace(
    test,
    Effect.gen(function* () {
      const store = yield* EventStore
      const port = yield* portOf<Encoded>((keep) => relift(store, keep))
      const tenantId = freshTenant()
      const event = () => newEvent({ metadata: { by: "me" }, commandId: "c", instanceId: "i" })
      const { id } = event()
      const stream = streamOf(tenantId, "1")
      yield* store.append(streamOf(tenantId, "0"), [event()], { expected: "any" })
      yield* store.append(stream, [{ ...event(), id }, event()], { expected: "any" })
      const record: Replaceable<EncodedEvent> = {
        port,
        read: port.get(id),
        replace: (was, now) => port.replace({ ...now, was, revision: null }),
        remove: store.maintenance.deleteStream(stream),
        others: Effect.map(collect(store.feed({ filter: { tenantId } })), (events) =>
          events.filter((event) => event.id !== id).map(plain)
        ),
        changes: [(row, n) => ({ ...row, data: `{"n":${-n}}` }), (row, n) => ({ ...row, metadata: `{"by":"${n}"}` })],
        sealed: (row, keyId) => ({ ...row, keyId, data: "sealed", metadata: "" })
      }
      return record
    })
  )
}
