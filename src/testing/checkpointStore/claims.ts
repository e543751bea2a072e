/**
 * Contract of `open`, `claim`, `renew` and `release`: one holder at a time, and no other after it was taken over.
 */
import assert from "node:assert/strict"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { CheckpointStore } from "../../CheckpointStore.js"
import { failsWith, range } from "../suite.js"
import type { Test } from "./fixtures.js"
import { claimed, claimedAtLast, freshFollower, listed, long, plain } from "./fixtures.js"

const fresh = { position: 0, owner: null, token: 0, isHeld: false }

export const claims = (test: Test): void => {
  test("a follower that is opened has a checkpoint at 0 for each partition, and keeps them", () =>
    Effect.gen(function* () {
      const store = yield* CheckpointStore
      const follower = freshFollower()
      const opened = yield* store.open(follower, { partitions: 3 })
      const expected = range(0, 2).map((partition) => ({ ...follower, partition, partitions: 3, ...fresh }))
      assert.deepEqual(opened.map(plain), expected)
      const lease = Option.getOrThrow(yield* store.claim(follower, { owner: "one", partition: 1, lease: long }))
      yield* store.commit(lease, 7)
      const [first, second, third] = expected
      const moved = [first, { ...second, position: 7, owner: "one", token: 1, isHeld: true }, third]
      assert.deepEqual((yield* store.open(follower, { partitions: 3 })).map(plain), moved)
      assert.deepEqual(yield* listed(follower), moved)
    }))

  test("one partition and the first generation are what is meant when nothing is said", () =>
    Effect.gen(function* () {
      const store = yield* CheckpointStore
      const { name } = freshFollower()
      const opened = yield* store.open({ name })
      assert.deepEqual(opened.map(plain), [{ name, generation: 1, partition: 0, partitions: 1, ...fresh }])
    }))

  test("another number of partitions is refused and changes nothing", () =>
    Effect.gen(function* () {
      const store = yield* CheckpointStore
      const follower = freshFollower()
      yield* store.open(follower, { partitions: 2 })
      const before = yield* listed(follower)
      for (const partitions of [1, 3, undefined]) {
        const error = yield* failsWith(store.open(follower, { partitions }), "InvalidInput")
        assert.equal(error.what, "options.partitions")
        assert.match(error.why, /with 2/)
      }
      assert.deepEqual(yield* listed(follower), before)
    }))

  test("a lease of before the follower was deleted is of no use when it is opened anew", () =>
    Effect.gen(function* () {
      const store = yield* CheckpointStore
      const follower = freshFollower()
      yield* store.open(follower)
      const old = Option.getOrThrow(yield* store.claim(follower, { owner: "one", lease: long }))
      yield* store.delete(follower)
      yield* store.open(follower)
      const lease = Option.getOrThrow(yield* store.claim(follower, { owner: "two", lease: long }))
      yield* failsWith(store.renew(old), "CheckpointLost")
      yield* failsWith(store.commit(old, 7), "CheckpointLost")
      assert.equal(yield* store.release(old), false)
      assert.equal((yield* store.commit(lease, 8)).position, 8)
    }))

  test("of several that open a follower at once with other numbers of partitions one number holds", () =>
    Effect.gen(function* () {
      const store = yield* CheckpointStore
      const follower = freshFollower()
      const answers = yield* Effect.forEach(
        range(0, 39),
        (i) => Effect.either(store.open(follower, { partitions: 1 + (i % 4) })),
        { concurrency: "unbounded" }
      )
      const checkpoints = yield* listed(follower)
      const partitions = checkpoints[0]?.partitions
      assert.deepEqual(
        checkpoints,
        range(0, checkpoints.length - 1).map((partition) => ({
          ...follower,
          partition,
          partitions: checkpoints.length,
          ...fresh
        }))
      )
      answers.forEach((answer, i) => {
        assert.equal(answer._tag === "Right", 1 + (i % 4) === partitions, `${1 + (i % 4)} of ${partitions}`)
        if (answer._tag === "Right") assert.deepEqual(answer.right.map(plain), checkpoints)
      })
    }))

  test("generations of a follower, and followers, have nothing to do with each other", () =>
    Effect.gen(function* () {
      const store = yield* CheckpointStore
      const { name } = freshFollower()
      yield* store.open({ name, generation: 1 }, { partitions: 2 })
      yield* store.open({ name, generation: 2 })
      const lease = yield* claimed({ name, generation: 2 })
      yield* store.commit(lease, 5)
      assert.deepEqual(
        (yield* listed({ name })).map(({ generation, partition, position }) => [generation, partition, position]),
        [
          [1, 0, 0],
          [1, 1, 0],
          [2, 0, 5]
        ]
      )
    }))

  test("a claim gives a lease with the place of the checkpoint, and a greater token each time", () =>
    Effect.gen(function* () {
      const store = yield* CheckpointStore
      const follower = freshFollower()
      const first = yield* claimed(follower, { lease: "1 minute" })
      const of = { ...follower, partition: 0, partitions: 1 }
      assert.deepEqual(first, { ...of, owner: "one", token: 1, position: 0, duration: Duration.minutes(1) })
      const moved = yield* store.commit(first, 12)
      assert.equal(yield* store.release(moved), true)
      const second = yield* claimed(follower, { owner: "two" })
      assert.deepEqual(second, { ...of, owner: "two", token: 2, position: 12, duration: long })
    }))

  test("a lease of 30 seconds is what is meant when nothing is said, and no more of it is left than that", () =>
    Effect.gen(function* () {
      const store = yield* CheckpointStore
      const follower = freshFollower()
      const lease = yield* claimed(follower, { lease: undefined })
      assert.deepEqual(lease.duration, Duration.seconds(30))
      const [checkpoint] = yield* store.open(follower)
      const leftMs = Duration.toMillis(checkpoint?.leaseLeft ?? Duration.zero)
      assert.ok(leftMs > 0 && leftMs <= 30_000, `${leftMs} ms`)
    }))

  test("while one holds a checkpoint nobody else gets it, and not the same owner either", () =>
    Effect.gen(function* () {
      const store = yield* CheckpointStore
      const follower = freshFollower()
      yield* claimed(follower)
      const before = yield* listed(follower)
      for (const owner of ["one", "two"]) {
        assert.deepEqual(yield* store.claim(follower, { owner }), Option.none())
        assert.deepEqual(yield* store.claim(follower, { owner, takeFrom: 2 }), Option.none())
      }
      assert.deepEqual(yield* listed(follower), before)
    }))

  test("of many that claim at once one gets the checkpoint", () =>
    Effect.gen(function* () {
      const store = yield* CheckpointStore
      const follower = freshFollower()
      yield* store.open(follower)
      const answers = yield* Effect.forEach(
        range(1, 50),
        (i) => store.claim(follower, { owner: `${i}`, lease: long }),
        { concurrency: "unbounded" }
      )
      const leases = answers.flatMap((lease) => Option.toArray(lease))
      assert.equal(leases.length, 1)
      assert.equal((yield* listed(follower))[0]?.owner, leases[0]?.owner)
    }))

  test("a checkpoint that was never opened cannot be claimed", () =>
    Effect.gen(function* () {
      const store = yield* CheckpointStore
      const follower = freshFollower()
      yield* failsWith(store.claim(follower, { owner: "one" }), "NotFound")
      yield* store.open(follower)
      const { what } = yield* failsWith(store.claim(follower, { owner: "one", partition: 1 }), "NotFound")
      assert.ok(what.includes(follower.name) && what.includes("partition 1"), what)
      yield* failsWith(store.claim({ ...follower, generation: 2 }, { owner: "one" }), "NotFound")
    }))

  test("it is claimed once the lease has ended, and not before; what its holder had is of no use then", () =>
    Effect.gen(function* () {
      const store = yield* CheckpointStore
      const follower = freshFollower()
      const fromMs = yield* Clock.currentTimeMillis
      const lost = yield* claimed(follower, { lease: 300 })
      const lease = yield* claimedAtLast(follower, { owner: "two", lease: long })
      // The clock of the backend may be another.
      assert.ok((yield* Clock.currentTimeMillis) - fromMs > 200)
      assert.equal(lease.token, 2)
      const before = yield* listed(follower)
      yield* failsWith(store.renew(lost), "CheckpointLost")
      const error = yield* failsWith(store.commit(lost, 9), "CheckpointLost")
      assert.deepEqual([error.follower, error.partition, error.owner], [follower.name, 0, "one"])
      assert.equal(yield* store.release(lost), false)
      assert.deepEqual(yield* listed(follower), before)
    }))

  test("a renewal keeps it, also after the end of a lease that nobody has taken over", () =>
    Effect.gen(function* () {
      const store = yield* CheckpointStore
      const follower = freshFollower()
      const lease = yield* claimed(follower, { lease: 100 })
      yield* Effect.repeat(Effect.delay(listed(follower), "20 millis"), { until: ([found]) => found?.isHeld === false })
      assert.equal((yield* listed(follower))[0]?.owner, "one")
      yield* store.renew({ ...lease, duration: long })
      assert.deepEqual(yield* store.claim(follower, { owner: "two" }), Option.none())
      yield* store.commit(lease, 3)
    }))

  test("it can be taken from a holder whose token is named, and then from the next", () =>
    Effect.gen(function* () {
      const store = yield* CheckpointStore
      const follower = freshFollower()
      const first = yield* claimed(follower)
      const second = yield* claimed(follower, { owner: "two", takeFrom: first.token })
      yield* failsWith(store.commit(first, 1), "CheckpointLost")
      assert.deepEqual(yield* store.claim(follower, { owner: "three", takeFrom: first.token }), Option.none())
      yield* store.commit(second, 2)
      const third = yield* claimed(follower, { owner: "three", takeFrom: second.token })
      assert.deepEqual([third.token, third.position], [3, 2])
    }))

  test("what was released is claimed at once, and its lease is of no use any more", () =>
    Effect.gen(function* () {
      const store = yield* CheckpointStore
      const follower = freshFollower()
      const lease = yield* claimed(follower)
      assert.equal(yield* store.release(lease), true)
      assert.deepEqual((yield* listed(follower))[0]?.owner, null)
      assert.equal(yield* store.release(lease), false)
      yield* failsWith(store.renew(lease), "CheckpointLost")
      yield* failsWith(store.commit(lease, 1), "CheckpointLost")
      assert.equal((yield* claimed(follower, { owner: "two" })).token, 2)
    }))
}
