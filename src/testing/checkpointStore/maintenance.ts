/**
 * Contract of `list`, `delete`, `info` and `reset`, and of a store that was opened read-only.
 */
import assert from "node:assert/strict"
import { randomUUID } from "node:crypto"
import * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import { CheckpointStore } from "../../CheckpointStore.js"
import { byBytes, collect, failsWith } from "../suite.js"
import type { Test } from "./fixtures.js"
import { claimed, freshFollower, listed, plain } from "./fixtures.js"

export const maintenance = (test: Test, { secrets }: { readonly secrets: ReadonlyArray<string> }): void => {
  test("checkpoints are listed in order of name by bytes, generation and partition, page by page", () =>
    Effect.gen(function* () {
      const store = yield* CheckpointStore
      const run = randomUUID()
      const names = ["a", "Z", "\u{1f600}", "\uff5e", "%", "a b"].map((name) => `${name} ${run}`)
      for (const name of names) {
        yield* store.open({ name, generation: 10 }, { partitions: 200 })
        yield* store.open({ name, generation: 9 }, { partitions: 2 })
      }
      const all = (yield* collect(store.list())).filter(({ name }) => name.endsWith(run))
      const expected = names
        .toSorted(byBytes)
        .flatMap((name) => [
          ...Array.from({ length: 2 }, (_, partition) => [name, 9, partition]),
          ...Array.from({ length: 200 }, (_, partition) => [name, 10, partition])
        ])
      assert.deepEqual(
        all.map(({ generation, name, partition }) => [name, generation, partition]),
        expected
      )
      assert.equal((yield* listed({ name: names[0] as string })).length, 202)
      assert.equal((yield* listed({ name: names[0] as string, generation: 9 })).length, 2)
      assert.deepEqual(yield* listed({ name: names[0] as string, generation: 8 }), [])
      assert.deepEqual(yield* listed({ name: `${run}` }), [])
      const error = yield* failsWith(collect(store.list({ generation: 9 })), "InvalidInput")
      assert.equal(error.what, "filter.generation")
    }))

  test("a generation is deleted with all its checkpoints, whoever holds them, and begins again at 0", () =>
    Effect.gen(function* () {
      const store = yield* CheckpointStore
      const follower = freshFollower(2)
      const other = { ...follower, generation: 3 }
      assert.equal(yield* store.delete(follower), false)
      yield* store.open(other)
      const lease = yield* store.commit(yield* claimed(follower), 5)
      assert.equal(yield* store.delete(follower), true)
      assert.equal(yield* store.delete(follower), false)
      yield* failsWith(store.commit(lease, 6), "CheckpointLost")
      yield* failsWith(store.renew(lease), "CheckpointLost")
      assert.deepEqual(
        (yield* listed({ name: follower.name })).map(({ generation }) => generation),
        [3]
      )
      yield* store.open(follower, { partitions: 2 })
      assert.deepEqual(
        (yield* listed(follower)).map(({ position }) => position),
        [0, 0]
      )
    }))

  test("a deletion that was undone leaves the checkpoints as they were, in their order", () =>
    Effect.gen(function* () {
      const store = yield* CheckpointStore
      const follower = freshFollower()
      const opened = yield* store.open(follower, { partitions: 4 })
      yield* Effect.flip(store.transaction(Effect.zipRight(store.delete(follower), Effect.fail("undone"))))
      assert.deepEqual(yield* store.open(follower, { partitions: 4 }), opened)
      assert.deepEqual(yield* listed(follower), opened.map(plain))
    }))

  test("info counts checkpoints, names the backend and shows no secret", () =>
    Effect.gen(function* () {
      const store = yield* CheckpointStore
      const { checkpoints } = yield* store.info
      yield* store.open(freshFollower(), { partitions: 3 })
      const info = yield* store.info
      assert.equal(info.checkpoints, checkpoints + 3)
      assert.ok(info.backend !== "" && info.connection !== "")
      assert.equal(info.readOnly, false)
      for (const secret of secrets) assert.ok(!JSON.stringify(info).includes(secret))
    }))
}

/** Apart, since it empties the store. */
export const reset = (test: Test): void =>
  test("a reset leaves no checkpoint, and the store goes on", () =>
    Effect.gen(function* () {
      const store = yield* CheckpointStore
      const follower = freshFollower()
      const lease = yield* claimed(follower)
      yield* store.reset
      assert.deepEqual(yield* collect(store.list()), [])
      assert.equal((yield* store.info).checkpoints, 0)
      yield* failsWith(store.commit(lease, 1), "CheckpointLost")
      yield* store.reset
      assert.equal((yield* claimed(follower)).token, 1)
    }))

export const readOnly = (test: Test, layer: Layer.Layer<CheckpointStore, unknown>): void =>
  test("a read-only store refuses every write by name, and reads", () =>
    Effect.gen(function* () {
      const follower = freshFollower()
      const lease = yield* claimed(follower)
      const before = yield* listed(follower)
      yield* Effect.gen(function* () {
        const store = yield* CheckpointStore
        const refused = yield* Effect.all([
          failsWith(store.open(follower), "ReadOnly"),
          failsWith(store.claim(follower, { owner: "two" }), "ReadOnly"),
          failsWith(store.renew(lease), "ReadOnly"),
          failsWith(store.commit(lease, 1), "ReadOnly"),
          // Also what would be refused anyway.
          failsWith(store.commit(lease, -1), "ReadOnly"),
          failsWith(store.release(lease), "ReadOnly"),
          failsWith(store.delete(follower), "ReadOnly"),
          failsWith(store.reset, "ReadOnly")
        ])
        assert.deepEqual(
          refused.map(({ operation }) => operation),
          ["open", "claim", "renew", "commit", "commit", "release", "delete", "reset"]
        )
        assert.equal((yield* store.info).readOnly, true)
        assert.deepEqual(yield* listed(follower), before)
      }).pipe(Effect.provide(layer))
      assert.deepEqual(yield* listed(follower), before)
    }))
