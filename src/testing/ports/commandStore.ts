/**
 * Contract of what the port has beyond the service: how those who seal anew change a stored command.
 */
import * as Effect from "effect/Effect"
import { CommandStore } from "../../CommandStore.js"
import { type Encoded, type EncodedCommand, relift } from "../../commandStore/CommandStoreEncoded.js"
import type { Test } from "../commandStore/fixtures.js"
import { freshTenant, newCommand, plain, stored } from "../commandStore/fixtures.js"
import { portOf } from "../suite.js"
import { type Replaceable, replace } from "./replace.js"

export const port = (test: Test): void =>
  replace(
    test,
    Effect.gen(function* () {
      const store = yield* CommandStore
      const port = yield* portOf<Encoded>((keep) => relift(store, keep))
      const tenantId = freshTenant()
      const create = store.create(newCommand({ tenantId, metadata: { by: "me" }, instanceId: "i" }))
      const [{ id }, other] = yield* Effect.all([create, create])
      yield* store.update(id, { status: "succeeded", outcome: { n: 0 } })
      const record: Replaceable<EncodedCommand> = {
        port,
        read: port.get(id),
        replace: (was, payloads) => port.replace({ id, was, payloads, changes: false }),
        remove: store.delete(id),
        others: Effect.map(Effect.provideService(stored(other.id), CommandStore, store), plain),
        changes: [
          (row, n) => ({ ...row, data: `{"n":${-n}}` }),
          (row, n) => ({ ...row, metadata: `{"by":"${n}"}` }),
          (row, n) => ({ ...row, outcome: `{"n":${-n}}` })
        ],
        sealed: (row, keyId) => ({ ...row, keyId, data: "sealed", metadata: "", outcome: "too", outcomeKeyId: keyId })
      }
      return record
    })
  )
