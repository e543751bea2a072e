/**
 * Contract of what the port has beyond the service: how those who seal anew find snapshots, and change one.
 */
import assert from "node:assert/strict"
import * as Effect from "effect/Effect"
import { pagedStream } from "../../internal/pages.js"
import { SnapshotStore } from "../../SnapshotStore.js"
import { checksum, type Encoded, type EncodedSnapshot, relift } from "../../snapshotStore/SnapshotStoreEncoded.js"
import { type Replaceable, replace } from "../replace.js"
import { collect, portOf, range } from "../suite.js"
import type { Test } from "./fixtures.js"
import { freshTenant, newSnapshot, plain, streamOf } from "./fixtures.js"

const checked = ({ checksum: _, ...row }: EncodedSnapshot): EncodedSnapshot => ({ ...row, checksum: checksum(row) })

export const port = (test: Test): void => {
  replace(
    test,
    Effect.gen(function* () {
      const store = yield* SnapshotStore
      const port = yield* portOf<Encoded>((keep) => relift(store, keep))
      const tenantId = freshTenant()
      const [stream, other] = [streamOf(tenantId, "1"), streamOf(tenantId, "2")]
      yield* store.save(stream, newSnapshot(3))
      yield* store.save(other, newSnapshot(3))
      const record: Replaceable<EncodedSnapshot> = {
        port,
        read: port.latest(stream, 3),
        replace: (was, { checksum, keyId, state }) => port.replace({ was, state, keyId, checksum }),
        remove: store.delete(stream),
        others: Effect.map(Effect.flatten(store.latest(other)), plain),
        changes: [(row, n) => checked({ ...row, state: `{"n":${-n}}` })],
        sealed: (row, keyId) => checked({ ...row, keyId, state: "sealed" })
      }
      return record
    })
  )

  test("the port lists the address of every snapshot, whatever is saved and deleted meanwhile", () =>
    Effect.gen(function* () {
      const store = yield* SnapshotStore
      const port = yield* portOf<Encoded>((keep) => relift(store, keep))
      const tenantId = freshTenant()
      const names = [...range(1, 1_100).map(String), "*", "a:b", "{x}", "é", "%", "\u{10ffff}"]
      yield* Effect.forEach(names, (name) => store.save(streamOf(tenantId, name), newSnapshot(1)), {
        concurrency: 16,
        discard: true
      })
      const list = Effect.map(collect(pagedStream(port.addresses)), (all) =>
        all.filter((address) => address.tenantId === tenantId).map(({ aggregateId }) => aggregateId)
      )
      const churn = Effect.forever(
        Effect.forEach(range(1, 20), (n) => {
          const stream = streamOf(tenantId, `churn-${n}`)
          return Effect.zipRight(store.save(stream, newSnapshot(1)), store.delete(stream))
        })
      )
      const listed = new Set(yield* Effect.raceFirst(list, churn))
      assert.deepEqual(
        names.filter((name) => !listed.has(name)),
        []
      )
      yield* Effect.forEach(names, (name) => store.delete(streamOf(tenantId, name)), { concurrency: 16 })
      assert.deepEqual(
        (yield* list).filter((name) => !name.startsWith("churn-")),
        []
      )
    }))
}
