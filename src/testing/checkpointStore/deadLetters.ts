/**
 * Contract of dead letters: recorded and settled by a commit, in the same step, and by nothing else.
 */
import assert from "node:assert/strict"
import { randomUUID } from "node:crypto"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { CheckpointStore, type NewDeadLetter } from "../../CheckpointStore.js"
import { collect, failsWith, range } from "../suite.js"
import type { Test } from "./fixtures.js"
import { claimed, freshFollower, lettersOf, long, newLetter, positionOf } from "./fixtures.js"

export const deadLetters = (test: Test): void => {
  test("a commit records dead letters, which are listed in order of position", () =>
    Effect.gen(function* () {
      const store = yield* CheckpointStore
      const follower = freshFollower(3)
      const lease = yield* claimed(follower)
      const [late, early] = [newLetter(8, { scope: "stream" }), newLetter(3)]
      const next = yield* store.commit(lease, 9, { deadLetters: [late, early] })
      assert.deepEqual(next, { ...lease, position: 9 })
      assert.deepEqual(yield* lettersOf(follower), [
        { ...follower, partition: 0, ...early },
        { ...follower, partition: 0, ...late }
      ])
      assert.deepEqual(yield* lettersOf({ ...follower, generation: 4 }), [])
    }))

  test("it is exactly what was recorded, whatever the names", () =>
    Effect.gen(function* () {
      const store = yield* CheckpointStore
      const follower = freshFollower()
      const names = ["%", "a'b", "\\", '{"a"}', "\n", "\u{1f600}", "x".repeat(255)]
      const letters = names.map((name, i) =>
        newLetter(i + 1, { tenantId: name, domain: name, aggregateId: name, type: name, reason: name })
      )
      yield* store.commit(yield* claimed(follower), 100, { deadLetters: letters })
      assert.deepEqual(
        yield* lettersOf(follower),
        letters.map((letter) => ({ ...follower, partition: 0, ...letter }))
      )
    }))

  test("one at the same position is replaced, and a settled one is gone", () =>
    Effect.gen(function* () {
      const store = yield* CheckpointStore
      const follower = freshFollower()
      const first = yield* store.commit(yield* claimed(follower), 5, { deadLetters: [newLetter(3), newLetter(4)] })
      const other = newLetter(3, { reason: "other" })
      const second = yield* store.commit(first, 5, { deadLetters: [other], settled: [4, 77] })
      assert.deepEqual(yield* lettersOf(follower), [{ ...follower, partition: 0, ...other }])
      yield* store.commit(second, 5, { settled: [3] })
      assert.deepEqual(yield* lettersOf(follower), [])
    }))

  test("what fails as a commit changes none of them, nor does a transaction that is undone", () =>
    Effect.gen(function* () {
      const store = yield* CheckpointStore
      const follower = freshFollower()
      const lost = yield* store.commit(yield* claimed(follower), 5, { deadLetters: [newLetter(3)] })
      const lease = yield* claimed(follower, { owner: "two", takeFrom: lost.token })
      const before = yield* lettersOf(follower)
      const change = { deadLetters: [newLetter(4)], settled: [3] }
      yield* failsWith(store.commit(lost, 6, change), "CheckpointLost")
      yield* Effect.either(store.transaction(Effect.zipRight(store.commit(lease, 6, change), Effect.fail("undone"))))
      assert.deepEqual(yield* lettersOf(follower), before)
      assert.deepEqual(yield* positionOf(follower), [5])
      yield* store.transaction(store.commit(lease, 6, change))
      assert.deepEqual(
        (yield* lettersOf(follower)).map(({ position }) => position),
        [4]
      )
    }))

  test("of each partition they are its own, and all of a follower are listed, page by page", () =>
    Effect.gen(function* () {
      const store = yield* CheckpointStore
      const follower = freshFollower()
      yield* store.open(follower, { partitions: 2 })
      for (const partition of [0, 1]) {
        const options = { owner: "one", partition, lease: long }
        const lease = Option.getOrThrow(yield* store.claim(follower, options))
        const letters = range(1, 700).map((n) => newLetter(2 * n + partition))
        yield* store.commit(lease, 2_000, { deadLetters: letters })
      }
      const all = yield* lettersOf(follower)
      assert.deepEqual(
        all.map(({ position }) => position),
        range(2, 1_401)
      )
      for (const { partition, position } of all) assert.equal(partition, position % 2)
    }))

  test("they are deleted with their generation, and counted", () =>
    Effect.gen(function* () {
      const store = yield* CheckpointStore
      const { deadLetters: before } = yield* store.info
      const [one, other] = [freshFollower(), freshFollower()]
      for (const follower of [one, other]) {
        yield* store.commit(yield* claimed(follower), 5, { deadLetters: [newLetter(3)] })
      }
      assert.equal((yield* store.info).deadLetters, before + 2)
      yield* store.delete(one)
      assert.deepEqual(yield* lettersOf(one), [])
      assert.equal((yield* lettersOf(other)).length, 1)
      assert.equal((yield* store.info).deadLetters, before + 1)
    }))

  test("a position is named once, and as much as a commit takes is bounded", () =>
    Effect.gen(function* () {
      const store = yield* CheckpointStore
      const follower = freshFollower()
      const lease = yield* claimed(follower)
      const refused: ReadonlyArray<readonly [string, ReadonlyArray<NewDeadLetter>, ReadonlyArray<number>]> = [
        ["options", [newLetter(3), newLetter(3)], []],
        ["options", [newLetter(3)], [3]],
        ["options.deadLetters", range(1, 1_001).map((n) => newLetter(n)), []],
        ["options.settled", [], range(1, 1_001)],
        ["options.deadLetters[0].eventId", [newLetter(3, { eventId: randomUUID().toUpperCase() })], []]
      ]
      for (const [what, deadLetters, settled] of refused) {
        const error = yield* failsWith(store.commit(lease, 5, { deadLetters, settled }), "InvalidInput")
        assert.equal(error.what, what)
      }
      assert.deepEqual(yield* collect(store.deadLetters(follower)), [])
    }))
}
