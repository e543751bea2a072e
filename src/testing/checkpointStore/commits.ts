/**
 * Contract of `commit` and `transaction`: a checkpoint advances by whoever holds it, step by step, and together with
 * what is written beside it.
 */
import assert from "node:assert/strict"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import { CheckpointStore, type Lease } from "../../CheckpointStore.js"
import { failsWith, range } from "../suite.js"
import type { Test } from "./fixtures.js"
import { claimed, claimedAtLast, freshFollower, listed, long, positionOf } from "./fixtures.js"

const largest = Number.MAX_SAFE_INTEGER

export const commits = (test: Test): void => {
  test("a commit advances the checkpoint and gives the next lease", () =>
    Effect.gen(function* () {
      const store = yield* CheckpointStore
      const follower = freshFollower()
      const lease = yield* claimed(follower)
      const next = yield* store.commit(lease, 5)
      assert.deepEqual(next, { ...lease, position: 5 })
      // Nothing was there to do.
      assert.deepEqual(yield* store.commit(next, 5), next)
      const last = yield* store.commit(next, largest)
      assert.deepEqual(yield* positionOf(follower), [largest])
      assert.equal((yield* claimed(follower, { takeFrom: last.token })).position, largest)
    }))

  test("a commit renews the lease", () =>
    Effect.gen(function* () {
      const store = yield* CheckpointStore
      const follower = freshFollower()
      const lease = yield* claimed(follower, { lease: 100 })
      yield* store.commit({ ...lease, duration: long }, 1)
      yield* Effect.sleep(150)
      assert.deepEqual(yield* store.claim(follower, { owner: "two" }), Option.none())
    }))

  test("a lease that was committed from is of no use any more: of many commits from it one counts", () =>
    Effect.gen(function* () {
      const store = yield* CheckpointStore
      const follower = freshFollower()
      const lease = yield* claimed(follower)
      const answers = yield* Effect.forEach(range(1, 20), (position) => Effect.either(store.commit(lease, position)), {
        concurrency: "unbounded"
      })
      const counted = answers.flatMap((answer) => (answer._tag === "Right" ? [answer.right.position] : []))
      assert.equal(counted.length, 1)
      for (const answer of answers) assert.ok(answer._tag === "Right" || answer.left._tag === "CheckpointLost")
      assert.deepEqual(yield* positionOf(follower), counted)
    }))

  test("a checkpoint never goes back", () =>
    Effect.gen(function* () {
      const store = yield* CheckpointStore
      const follower = freshFollower()
      const lease = yield* store.commit(yield* claimed(follower), 5)
      const error = yield* failsWith(store.commit(lease, 4), "InvalidInput")
      assert.equal(error.what, "position")
      assert.deepEqual(yield* positionOf(follower), [5])
    }))

  test("partitions advance on their own", () =>
    Effect.gen(function* () {
      const store = yield* CheckpointStore
      const follower = freshFollower()
      yield* store.open(follower, { partitions: 3 })
      const leases = yield* Effect.forEach(range(0, 2), (partition) =>
        Effect.map(store.claim(follower, { owner: `${partition}`, partition, lease: long }), Option.getOrThrow)
      )
      yield* store.commit(leases[2] as Lease, 30)
      yield* store.commit(leases[0] as Lease, 10)
      assert.deepEqual(yield* positionOf(follower), [10, 0, 30])
      assert.deepEqual(
        (yield* listed(follower)).map(({ owner }) => owner),
        ["0", "1", "2"]
      )
    }))

  test("in a transaction it counts when that is committed, and not when it fails or is interrupted", () =>
    Effect.gen(function* () {
      const store = yield* CheckpointStore
      const follower = freshFollower()
      const lease = yield* claimed(follower)
      const failed = yield* Effect.either(
        store.transaction(Effect.zipRight(store.commit(lease, 5), Effect.fail("undone")))
      )
      assert.equal(failed._tag, "Left")
      assert.deepEqual(yield* positionOf(follower), [0])
      const begun = yield* Deferred.make<void>()
      const fiber = yield* Effect.fork(
        store.transaction(
          Effect.zipRight(Effect.zipRight(store.commit(lease, 6), Deferred.succeed(begun, undefined)), Effect.never)
        )
      )
      yield* Deferred.await(begun)
      yield* Fiber.interrupt(fiber)
      assert.deepEqual(yield* positionOf(follower), [0])
      // The lease is as good as before, since nothing was committed from it.
      const next = yield* store.transaction(store.commit(lease, 7))
      assert.deepEqual(yield* positionOf(follower), [7])
      yield* store.commit(next, 8)
    }))

  test("two commits in one transaction are both part of it", () =>
    Effect.gen(function* () {
      const store = yield* CheckpointStore
      const [one, other] = [freshFollower(), freshFollower()]
      const [leaseOfOne, leaseOfOther] = [yield* claimed(one), yield* claimed(other)]
      const both = (ending: Effect.Effect<void, string>) =>
        store.transaction(
          Effect.zipRight(Effect.zipRight(store.commit(leaseOfOne, 1), store.commit(leaseOfOther, 2)), ending)
        )
      yield* Effect.either(both(Effect.fail("undone")))
      assert.deepEqual([yield* positionOf(one), yield* positionOf(other)], [[0], [0]])
      yield* both(Effect.void)
      assert.deepEqual([yield* positionOf(one), yield* positionOf(other)], [[1], [2]])
    }))

  test("a lost checkpoint fails the transaction around it, and a caught failure leaves that usable", () =>
    Effect.gen(function* () {
      const store = yield* CheckpointStore
      const [one, other] = [freshFollower(), freshFollower()]
      const lost = yield* claimed(one)
      yield* claimed(one, { owner: "two", takeFrom: lost.token })
      const lease = yield* claimed(other)
      const both = Effect.zipRight(store.commit(lease, 3), store.commit(lost, 4))
      yield* failsWith(store.transaction(both), "CheckpointLost")
      assert.deepEqual([yield* positionOf(one), yield* positionOf(other)], [[0], [0]])
      yield* store.transaction(Effect.either(both))
      assert.deepEqual([yield* positionOf(one), yield* positionOf(other)], [[0], [3]])
    }))

  test("nobody gets the checkpoint while a transaction with a commit is open, and it begins where that ends", () =>
    Effect.gen(function* () {
      const store = yield* CheckpointStore
      for (const ending of ["committed", "undone"] as const) {
        const follower = freshFollower()
        const lease = yield* claimed(follower)
        const [begun, end] = [yield* Deferred.make<void>(), yield* Deferred.make<void, string>()]
        const holder = yield* Effect.fork(
          store.transaction(
            store
              .commit(lease, 5)
              .pipe(Effect.zipRight(Deferred.succeed(begun, undefined)), Effect.zipRight(Deferred.await(end)))
          )
        )
        yield* Deferred.await(begun)
        // A claim waits for the transaction, or returns none.
        const options = { owner: "two", takeFrom: lease.token, lease: long }
        const taker = yield* Effect.fork(claimedAtLast(follower, options))
        // Long enough for a claim that does neither.
        yield* Effect.sleep("100 millis")
        assert.deepEqual(yield* Fiber.poll(taker), Option.none())
        yield* ending === "committed" ? Deferred.succeed(end, undefined) : Deferred.fail(end, ending)
        yield* Fiber.await(holder)
        const taken = yield* Fiber.join(taker)
        assert.deepEqual([taken.token, taken.position], [2, ending === "committed" ? 5 : 0])
        yield* failsWith(store.commit(lease, 6), "CheckpointLost")
      }
    }))
}
