/**
 * Contract of what the port has beyond the service: how those who seal anew change a stored event.
 */
import * as Effect from "effect/Effect"
import { EventStore } from "../../EventStore.js"
import { type Encoded, type EncodedEvent, relift } from "../../eventStore/EventStoreEncoded.js"
import { type Replaceable, replace } from "../replace.js"
import { collect, portOf } from "../suite.js"
import type { Test } from "./fixtures.js"
import { freshTenant, newEvent, plain, streamOf } from "./fixtures.js"

export const port = (test: Test): void =>
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
        replace: (was, now) => port.replace({ ...now, was }),
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
