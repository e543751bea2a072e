/**
 * Contract of what the port has beyond the service: how those who seal anew change a stored event.
 */
import assert from "node:assert/strict"
import * as Effect from "effect/Effect"
import { EventStore } from "../../EventStore.js"
import { type Encoded, type EncodedEvent, relift } from "../../eventStore/EventStoreEncoded.js"
import type { Test } from "../eventStore/fixtures.js"
import { freshTenant, newEvent, plain, streamOf } from "../eventStore/fixtures.js"
import { collect, failsWith, portOf } from "../suite.js"
import { type Replaceable, replace } from "./replace.js"

export const port = (test: Test): void => {
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
        replace: (was, now) => port.replace({ ...now, was, changes: false }),
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

  test("an append is told from another by its data after that was sealed anew, and not after it was changed", () =>
    Effect.gen(function* () {
      const store = yield* EventStore
      const port = yield* portOf<Encoded>((keep) => relift(store, keep))
      const stream = streamOf(freshTenant(), "1")
      const event = newEvent({ data: { n: 1 } })
      const append = (n: number) => store.append(stream, [{ ...event, data: { n } }], { expected: "any" })
      const replaceData = (data: string, changes: boolean) =>
        Effect.flatMap(port.get(event.id), (was) => {
          assert.ok(was !== null)
          return port.replace({ ...was, was, data, changes })
        })
      yield* append(1)
      assert.equal(yield* replaceData(`{"n":2}`, false), true)
      yield* failsWith(append(1), "DuplicateEvent")
      assert.equal((yield* append(2)).version, 1)
      assert.equal(yield* replaceData(`{"n":3}`, true), true)
      assert.equal((yield* append(2)).version, 1)
      assert.equal(yield* replaceData(`{"n":4}`, false), true)
      assert.equal((yield* append(2)).version, 1)
    }))
}
