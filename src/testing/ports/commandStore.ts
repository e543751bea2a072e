/**
 * Contract of what the port has beyond the service: how those who seal anew change a stored command.
 */
import assert from "node:assert/strict"
import * as Effect from "effect/Effect"
import { CommandStore } from "../../CommandStore.js"
import { type Encoded, type EncodedCommand, relift } from "../../commandStore/CommandStoreEncoded.js"
import type { Test } from "../commandStore/fixtures.js"
import { freshTenant, newCommand, plain, stored } from "../commandStore/fixtures.js"
import { failsWith, portOf } from "../suite.js"
import { type Replaceable, replace } from "./replace.js"

export const port = (test: Test): void => {
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

  test("a command is told from another by its data after that was sealed anew, and not after it was changed", () =>
    Effect.gen(function* () {
      const store = yield* CommandStore
      const port = yield* portOf<Encoded>((keep) => relift(store, keep))
      const given = newCommand({ data: { n: 1 } })
      const create = (n: number) => store.create({ ...given, data: { n } })
      const replaceData = (data: string, changes: boolean) =>
        Effect.flatMap(port.get(given.id), (was) => {
          assert.ok(was !== null)
          return port.replace({ id: given.id, was, payloads: { ...was, data }, changes })
        })
      const { position } = yield* create(1)
      assert.equal(yield* replaceData(`{"n":2}`, false), true)
      yield* failsWith(create(1), "DuplicateCommand")
      assert.equal((yield* create(2)).position, position)
      assert.equal(yield* replaceData(`{"n":3}`, true), true)
      assert.equal((yield* create(2)).position, position)
      assert.equal(yield* replaceData(`{"n":4}`, false), true)
      assert.equal((yield* create(2)).position, position)
    }))
}
