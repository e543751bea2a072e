/**
 * The property of bad input on the CheckpointStore: its operations, and what they must answer.
 */
import assert from "node:assert/strict"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { CheckpointStoreShape, CommitOptions, Lease, NewDeadLetter } from "../../CheckpointStore.js"
import { CheckpointStore } from "../../CheckpointStore.js"
import { type At, copy, hostileCalls, type Operation, operationsOf, same } from "../hostileCalls.js"
import { collect, type PropertyOptions } from "../suite.js"
import type { Test } from "./fixtures.js"
import { claimed, freshFollower, lettersOf, listed, long, newLetter, type OneGeneration } from "./fixtures.js"

interface World {
  readonly store: CheckpointStoreShape
  readonly fixture: OneGeneration
  /** Of the fixture, as of the last commit. */
  lease: Lease
}

const noLease: Lease = {
  ...freshFollower(),
  partition: 0,
  partitions: 1,
  owner: "one",
  token: 1,
  position: 0,
  duration: long
}

const operation = operationsOf<World>({
  store: CheckpointStore.of({} as CheckpointStoreShape),
  fixture: freshFollower(),
  lease: noLease
})

const followerArg = (at: At, right: OneGeneration, what = "follower"): OneGeneration => {
  const misspelt = at<unknown>(`${what}.Name`, undefined)
  return at(what, {
    ...(misspelt === undefined ? {} : { Name: misspelt }),
    name: at(`${what}.name`, right.name),
    generation: at(`${what}.generation`, right.generation)
  })
}

const leaseArg = (at: At, right: Lease): Lease => {
  const parts = Object.entries(right).map(([key, value]) => [key, at<unknown>(`lease.${key}`, value)])
  return at("lease", Object.fromEntries(parts) as Lease)
}

/** With no dead letters, at position 0. */
const beginAgain = (world: World) =>
  Effect.gen(function* () {
    yield* world.store.delete(world.fixture)
    world.lease = yield* claimed(world.fixture).pipe(Effect.provideService(CheckpointStore, world.store))
  })

/** Where a short lease was right: it would end while the state is compared. */
const lengthened = (store: CheckpointStoreShape, lease: Lease) => store.renew({ ...lease, duration: long })

const operations: Readonly<Record<string, Operation<World>>> = {
  open: operation({
    args: (at) => ({
      follower: followerArg(at, freshFollower()),
      options: at("options", { partitions: at("options.partitions", 2) })
    }),
    run: (store, { follower, options }) => store.open(follower, options),
    check: (_, { follower, options }, opened) =>
      Effect.sync(() => {
        same(opened.length, options?.partitions ?? 1, "the number of partitions")
        for (const { name } of opened) same(name, follower.name, "the name")
      })
  }),

  claim: operation({
    args: (at, { fixture }) => ({
      follower: followerArg(at, fixture),
      options: at("options", {
        owner: at("options.owner", "two"),
        partition: at("options.partition", 0),
        lease: at<Duration.DurationInput>("options.lease", long),
        takeFrom: at<number | undefined>("options.takeFrom", undefined)
      })
    }),
    run: (store, { follower, options }) =>
      Effect.tap(store.claim(follower, options), (found) =>
        Option.isSome(found) ? lengthened(store, found.value) : Effect.void
      ),
    check: (world, { follower, options }, found) =>
      Effect.sync(() => {
        if (Option.isNone(found)) return
        same(found.value.owner, options.owner, "the owner")
        if (follower.name === world.fixture.name) world.lease = found.value
      })
  }),

  renew: operation({
    args: (at, world) => ({ lease: leaseArg(at, world.lease), world }),
    run: (store, { lease, world }) => Effect.zipRight(store.renew(lease), lengthened(store, world.lease)),
    check: (world, { lease }) => Effect.sync(() => same(lease.token, world.lease.token, "the token"))
  }),

  commit: operation({
    args: (at, world) => {
      const { lease } = world
      const letter = newLetter(7)
      const parts = Object.entries(letter).map(([key, value]) => [
        key,
        at<unknown>(`options.deadLetters[0].${key}`, value)
      ])
      return {
        world,
        lease: leaseArg(at, lease),
        position: at("position", lease.position + 1),
        options: at<CommitOptions>("options", {
          deadLetters: at("options.deadLetters", [
            at("options.deadLetters[0]", Object.fromEntries(parts) as NewDeadLetter)
          ]),
          settled: at("options.settled", [at("options.settled[0]", 3)])
        })
      }
    },
    // What succeeds is tidied up in the same step: the state is compared from one call to the next.
    run: (store, { lease, options, position, world }) =>
      Effect.gen(function* () {
        const next = yield* store.commit(lease, position, options)
        const [found] = yield* collect(store.list(world.fixture))
        const letters = yield* collect(store.deadLetters(world.fixture))
        const settled = letters.map(({ position }) => position)
        world.lease = yield* store.commit({ ...next, duration: long }, next.position, { settled })
        // So that there is room for further commits.
        if (next.position > 2 ** 40) yield* beginAgain(world)
        return { next, found, letters }
      }),
    check: (_, { options, position }, { found, letters, next }) =>
      Effect.sync(() => {
        same(next.position, position, "the position")
        assert.equal(found?.position, position)
        const [given] = options?.deadLetters ?? []
        if (given === undefined) return
        const kept = letters.find(({ eventId }) => eventId === given.eventId)
        assert.ok(kept !== undefined, "a dead letter was not recorded")
        const { generation: _, name: __, partition: ___, ...letter } = kept
        same(letter, copy(given), "the dead letter")
      })
  }),

  release: operation({
    args: (at, world) => ({ lease: leaseArg(at, world.lease), world }),
    run: (store, { lease, world }) =>
      Effect.tap(store.release(lease), (released) => (released ? beginAgain(world) : Effect.void)),
    check: (_, __, released) => Effect.sync(() => assert.equal(typeof released, "boolean"))
  }),

  list: operation({
    args: (at, { fixture }) => ({ filter: followerArg(at, fixture, "filter") }),
    run: (store, { filter }) => collect(store.list(filter)),
    check: (_, { filter }, found) =>
      Effect.sync(() => {
        for (const { name } of found) if (filter?.name !== undefined) same(name, filter.name, "the name")
      })
  }),

  deadLetters: operation({
    args: (at, { fixture }) => ({ follower: followerArg(at, fixture) }),
    run: (store, { follower }) => collect(store.deadLetters(follower)),
    check: (_, __, found) => Effect.sync(() => assert.deepEqual(found, []))
  }),

  delete: operation({
    args: (at) => ({ follower: followerArg(at, freshFollower()) }),
    run: (store, { follower }) => store.delete(follower),
    check: (_, { follower }) =>
      Effect.sync(() => assert.ok(Number.isInteger(follower.generation), "a generation was made up"))
  })
}

export const badInput = (test: Test, options: PropertyOptions): void => {
  test(`${options.runs} calls with hostile values fail typed and change nothing, or are answered rightly`, () =>
    Effect.gen(function* () {
      const store = yield* CheckpointStore
      const fixture = freshFollower()
      const world: World = { store, fixture, lease: yield* claimed(fixture) }
      yield* hostileCalls(options, {
        operations,
        weightOf: (name) => (name === "commit" || name === "claim" ? 10 : 5),
        world,
        state: Effect.all([listed(fixture), lettersOf(fixture)]).pipe(Effect.provideService(CheckpointStore, store)),
        documented: ["InvalidInput", "NotFound", "CheckpointLost"]
      })
      assert.ok(Duration.toMillis(world.lease.duration) > 0)
    }))
}
