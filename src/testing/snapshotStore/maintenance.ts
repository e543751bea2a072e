/**
 * Contract of `delete`, `info` and `reset`, and of a store that was opened read-only.
 */
import assert from "node:assert/strict"
import * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import { SnapshotStore } from "../../SnapshotStore.js"
import { failsWith } from "../suite.js"
import type { Test } from "./fixtures.js"
import { assertLatest, freshStream, freshTenant, latestVersion, newSnapshot, streamOf } from "./fixtures.js"

export const maintenance = (test: Test, { secrets }: { readonly secrets: ReadonlyArray<string> }): void => {
  test("a delete says whether there was a snapshot, and a lower version can be saved after it", () =>
    Effect.gen(function* () {
      const store = yield* SnapshotStore
      const stream = freshStream()
      assert.equal(yield* store.delete(stream), false)
      yield* store.save(stream, newSnapshot(10))
      assert.equal(yield* store.delete(stream), true)
      assert.equal(yield* store.delete(stream), false)
      yield* assertLatest(stream, undefined)
      const lower = newSnapshot(3)
      assert.equal(yield* store.save(stream, lower), true)
      yield* assertLatest(stream, lower)
    }))

  test("of many that delete at once one is told that there was a snapshot", () =>
    Effect.gen(function* () {
      const store = yield* SnapshotStore
      const stream = freshStream()
      yield* store.save(stream, newSnapshot(10))
      const answers = yield* Effect.all(
        Array.from({ length: 16 }, () => store.delete(stream)),
        {
          concurrency: "unbounded"
        }
      )
      assert.equal(answers.filter((deleted) => deleted).length, 1)
    }))

  test("info counts the streams that have a snapshot, names the backend and shows no secret", () =>
    Effect.gen(function* () {
      const store = yield* SnapshotStore
      const tenantId = freshTenant()
      const { snapshots: before } = yield* store.info
      const counted = Effect.map(store.info, ({ snapshots }) => snapshots - before)
      for (const version of [1, 2, 2, 1]) yield* store.save(streamOf(tenantId, "1"), newSnapshot(version))
      assert.equal(yield* counted, 1)
      yield* store.save(streamOf(tenantId, "2"), newSnapshot(1))
      yield* store.save(streamOf(freshTenant(), "2"), newSnapshot(1))
      assert.equal(yield* counted, 3)
      yield* store.delete(streamOf(tenantId, "2"))
      yield* store.delete(streamOf(tenantId, "2"))
      assert.equal(yield* counted, 2)
      const info = yield* store.info
      assert.ok(info.backend !== "" && info.connection !== "")
      assert.equal(info.readOnly, false)
      for (const secret of secrets) assert.ok(!JSON.stringify(info).includes(secret))
    }))
}

/** Apart, since it empties the store. */
export const reset = (test: Test): void =>
  test("a reset leaves no snapshot, whatever its stream is called, and the store goes on", () =>
    Effect.gen(function* () {
      const store = yield* SnapshotStore
      const names = ["1", "*", "[a]", "{b}", "a:b", "a/b", "\\", "%", "\n", "\u{1f600}", "x".repeat(255)]
      const streams = names.flatMap((name) => [streamOf(freshTenant(), name), streamOf(name), streamOf("t", "1", name)])
      // More than a backend finds in one step.
      const many = Array.from({ length: 1_500 }, (_, i) => streamOf("many", `${i}`))
      const all = [...streams, ...many]
      yield* Effect.forEach(all, (stream) => store.save(stream, newSnapshot(9)), { concurrency: 32, discard: true })
      assert.ok((yield* store.info).snapshots >= all.length)
      yield* store.reset
      assert.equal((yield* store.info).snapshots, 0)
      for (const stream of streams) yield* assertLatest(stream, undefined)
      const left = yield* Effect.forEach(many, (stream) => latestVersion(stream), { concurrency: 32 })
      assert.ok(left.every((version) => version === undefined))
      const lower = newSnapshot(1)
      assert.equal(yield* store.save(streamOf("many", "0"), lower), true)
      yield* assertLatest(streamOf("many", "0"), lower)
      yield* store.reset
      yield* store.reset
      assert.equal((yield* store.info).snapshots, 0)
    }))

export const readOnly = (test: Test, layer: Layer.Layer<SnapshotStore, unknown>): void =>
  test("a read-only store refuses every write by name, saves nothing in the background, and reads", () =>
    Effect.gen(function* () {
      const writer = yield* SnapshotStore
      const stream = freshStream()
      const snapshot = newSnapshot(5)
      yield* writer.save(stream, snapshot)
      yield* Effect.gen(function* () {
        const store = yield* SnapshotStore
        const refused = yield* Effect.all([
          failsWith(store.save(stream, newSnapshot(6)), "ReadOnly"),
          // Also what would change nothing, and what would be refused anyway.
          failsWith(store.save(stream, newSnapshot(4)), "ReadOnly"),
          failsWith(store.save(stream, newSnapshot(-1)), "ReadOnly"),
          failsWith(store.delete(stream), "ReadOnly"),
          failsWith(store.delete(freshStream()), "ReadOnly"),
          failsWith(store.reset, "ReadOnly")
        ])
        assert.deepEqual(
          refused.map(({ operation }) => operation),
          ["save", "save", "save", "delete", "delete", "reset"]
        )
        let made = false
        const make = Effect.sync(() => {
          made = true
          return newSnapshot(7)
        })
        yield* store.saveInBackground(stream, make)
        yield* store.flush(stream)
        assert.equal(made, false)
        assert.equal((yield* store.info).readOnly, true)
        yield* assertLatest(stream, snapshot)
        assert.equal(yield* latestVersion(stream, { atMost: 4 }), undefined)
      }).pipe(Effect.provide(layer))
      yield* assertLatest(stream, snapshot)
    }))
