/**
 * Contract of `save` and `latest`: the greatest version stays, whoever saves at the same time.
 */
import assert from "node:assert/strict"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Random from "effect/Random"
import { SnapshotStore } from "../../SnapshotStore.js"
import { range } from "../suite.js"
import type { Test } from "./fixtures.js"
import { assertLatest, freshStream, freshTenant, latestVersion, newSnapshot, streamOf, turns } from "./fixtures.js"

const savers = 32
const savesOfEach = 4

export const save = (test: Test): void => {
  test("a stream without a snapshot has none", () =>
    Effect.gen(function* () {
      const store = yield* SnapshotStore
      assert.ok(Option.isNone(yield* store.latest(freshStream())))
      assert.ok(Option.isNone(yield* store.latest(freshStream(), { atMost: 5 })))
    }))

  test("a newer snapshot takes the place of an older one, in all of its fields", () =>
    Effect.gen(function* () {
      const store = yield* SnapshotStore
      const stream = freshStream()
      // Compared as numbers: as text 9 is more than 10.
      for (const version of [1, 2, 9, 10, 99, 100, 2 ** 31, 2 ** 32, 2 ** 53 - 2, 2 ** 53 - 1]) {
        const snapshot = newSnapshot(version, { schemaVersion: `of ${version}`, state: [version] })
        assert.equal(yield* store.save(stream, snapshot), true)
        yield* assertLatest(stream, snapshot)
      }
    }))

  test("an older snapshot never replaces a newer one", () =>
    Effect.gen(function* () {
      const store = yield* SnapshotStore
      for (const [kept, ...older] of [
        [100, 99, 20, 9, 1],
        [2 ** 53 - 1, 2 ** 53 - 2, 2 ** 32, 1]
      ] as ReadonlyArray<readonly [number, ...Array<number>]>) {
        const stream = freshStream()
        const snapshot = newSnapshot(kept)
        assert.equal(yield* store.save(stream, snapshot), true)
        for (const version of older) assert.equal(yield* store.save(stream, newSnapshot(version)), false)
        yield* assertLatest(stream, snapshot)
      }
    }))

  test("of equal versions the last stays, since its state may have another form", () =>
    Effect.gen(function* () {
      const store = yield* SnapshotStore
      const stream = freshStream()
      for (const schemaVersion of ["2", "1", "1", "3"]) {
        const snapshot = newSnapshot(7, { schemaVersion, state: { of: schemaVersion } })
        assert.equal(yield* store.save(stream, snapshot), true)
        yield* assertLatest(stream, snapshot)
      }
      const first = newSnapshot(7)
      yield* store.save(stream, first)
      // A repeat is no failure either.
      assert.equal(yield* store.save(stream, first), true)
      yield* assertLatest(stream, first)
    }))

  test("a snapshot without a time has that of the clock", () =>
    Effect.gen(function* () {
      const store = yield* SnapshotStore
      const stream = freshStream()
      const time = 1_234_567_890_123
      const frozen: Clock.Clock = {
        ...Clock.make(),
        currentTimeMillis: Effect.succeed(time),
        unsafeCurrentTimeMillis: () => time
      }
      yield* Effect.withClock(store.save(stream, newSnapshot(1, { createdAt: undefined })), frozen)
      assert.equal(Option.getOrThrow(yield* store.latest(stream)).createdAt.epochMillis, time)
    }))

  test("the latest at or below a version is the snapshot if it is that old, else none", () =>
    Effect.gen(function* () {
      const store = yield* SnapshotStore
      const stream = freshStream()
      yield* store.save(stream, newSnapshot(50))
      for (const atMost of [undefined, 50, 51, 500, 2 ** 53 - 1]) {
        assert.equal(yield* latestVersion(stream, { atMost }), 50)
      }
      for (const atMost of [0, 1, 5, 49]) assert.equal(yield* latestVersion(stream, { atMost }), undefined)
      yield* store.save(stream, newSnapshot(100))
      assert.equal(yield* latestVersion(stream, { atMost: 99 }), undefined)
      assert.equal(yield* latestVersion(stream, { atMost: 100 }), 100)
    }))

  test(`of ${savers} that save at once the greatest version stays, and who is told no was not newer`, () =>
    Effect.gen(function* () {
      const store = yield* SnapshotStore
      const stream = freshStream()
      const snapshots = (yield* Random.shuffle(range(1, savers * savesOfEach))).pipe((versions) =>
        [...versions].map((version) => newSnapshot(version, { state: "x".repeat(version) }))
      )
      const seen: Array<number> = []
      const reader = yield* Effect.fork(
        Effect.forever(Effect.map(latestVersion(stream), (version) => seen.push(version ?? 0)))
      )
      let moment = 0
      const saves = (yield* Effect.forEach(
        range(0, savers - 1),
        (saver) =>
          Effect.forEach(snapshots.slice(saver * savesOfEach, (saver + 1) * savesOfEach), (snapshot) =>
            Effect.gen(function* () {
              const began = ++moment
              const kept = yield* store.save(stream, snapshot)
              return { version: snapshot.version, began, ended: ++moment, kept }
            })
          ),
        { concurrency: "unbounded" }
      )).flat()
      yield* Fiber.interrupt(reader)

      yield* assertLatest(
        stream,
        snapshots.find(({ version }) => version === snapshots.length)
      )
      assert.ok(
        seen.every((version, i) => version >= (seen[i - 1] ?? 0)),
        `a reader went back: ${seen}`
      )
      for (const save of saves) {
        const newer = saves.filter(({ version }) => version > save.version)
        const place = `version ${save.version}`
        // Those that were kept rise: none of them came after one that was greater.
        if (save.kept) assert.ok(!newer.some(({ ended }) => ended < save.began), `${place} came late, and was kept`)
        else
          assert.ok(
            newer.some(({ began, kept }) => kept && began < save.ended),
            `${place} was newer, and was not kept`
          )
      }
    }))

  test("of many that save an equal version at once each is kept, and one stays whole", () =>
    Effect.gen(function* () {
      const store = yield* SnapshotStore
      const stream = freshStream()
      const snapshots = range(1, savers).map((n) => newSnapshot(5, { schemaVersion: `${n}`, state: "y".repeat(n) }))
      const kept = yield* Effect.forEach(snapshots, (snapshot) => store.save(stream, snapshot), {
        concurrency: "unbounded"
      })
      assert.ok(kept.every((kept) => kept))
      const { schemaVersion } = Option.getOrThrow(yield* store.latest(stream))
      yield* assertLatest(stream, snapshots[Number(schemaVersion) - 1])
    }))

  test("an interrupted save leaves the old or the new snapshot, and the store as usable as before", () =>
    Effect.gen(function* () {
      const store = yield* SnapshotStore
      const tenantId = freshTenant()
      const stream = streamOf(tenantId)
      let stored = 0
      for (const version of range(1, 60)) {
        const fiber = yield* Effect.fork(store.save(stream, newSnapshot(version)))
        yield* turns(yield* Random.nextIntBetween(0, 12))
        yield* Fiber.interrupt(fiber)
        const found = (yield* latestVersion(stream)) ?? 0
        assert.ok(found === stored || found === version, `version ${found} after ${stored} and ${version}`)
        stored = found
      }
      const last = newSnapshot(100)
      assert.equal(yield* store.save(stream, last), true)
      yield* assertLatest(stream, last)
      const many = range(1, savers).map((n) => [streamOf(tenantId, `after ${n}`), newSnapshot(n)] as const)
      yield* Effect.forEach(many, ([stream, snapshot]) => store.save(stream, snapshot), { concurrency: "unbounded" })
      for (const [stream, snapshot] of many) yield* assertLatest(stream, snapshot)
    }))
}
