/**
 * Contract of `appendAll`: several streams in one atomic step, with guards.
 */
import assert from "node:assert/strict"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import type { ExpectedVersion, StreamAppend } from "../../EventStore.js"
import { EventStore } from "../../EventStore.js"
import { failsWith, range } from "../suite.js"
import type { Test } from "./fixtures.js"
import { freshTenant, newEvent, newEvents, readAll, streamOf, versions } from "./fixtures.js"

const share = (tenant: string, name: string, expected: ExpectedVersion, count = 1): StreamAppend => ({
  stream: streamOf(tenant, name),
  events: newEvents(count),
  expected
})

export const appendAll = (test: Test): void => {
  test("appends to several streams happen together and are answered in their order", () =>
    Effect.gen(function* () {
      const store = yield* EventStore
      const tenant = freshTenant()
      yield* store.append(streamOf(tenant, "b"), newEvents(2), { expected: "noStream" })
      const appended = yield* store.appendAll([
        share(tenant, "c", "any", 3),
        share(tenant, "a", "noStream", 1),
        share(tenant, "b", 2, 2)
      ])
      assert.deepEqual(
        appended.map(({ version }) => version),
        [3, 1, 4]
      )
      for (const [i, name] of ["c", "a", "b"].entries()) {
        const stored = yield* readAll(streamOf(tenant, name))
        assert.deepEqual(versions(stored), range(1, appended[i]?.version ?? 0))
        assert.equal(stored.at(-1)?.position, appended[i]?.position)
      }
    }))

  for (const k of range(0, 3)) {
    test(`a conflict in append ${k + 1} of 4 stops all of them and names its stream`, () =>
      Effect.gen(function* () {
        const store = yield* EventStore
        const tenant = freshTenant()
        const conflict = yield* failsWith(
          store.appendAll(range(0, 3).map((i) => share(tenant, `${i}`, i === k ? 5 : "noStream", 2))),
          "VersionConflict"
        )
        assert.equal(conflict.stream.aggregateId, `${k}`)
        assert.equal(conflict.expected, 5)
        assert.equal(conflict.actual, 0)
        assert.equal(yield* store.count({ tenantId: tenant }), 0)
      }))

    test(`a guard that does not hold, number ${k + 1} of 4, stops all appends and names its stream`, () =>
      Effect.gen(function* () {
        const store = yield* EventStore
        const tenant = freshTenant()
        for (const i of range(0, 3)) {
          yield* store.append(streamOf(tenant, `guard-${i}`), newEvents(i + 1), { expected: "noStream" })
        }
        const conflict = yield* failsWith(
          store.appendAll([share(tenant, "a", "noStream"), share(tenant, "b", "any")], {
            guards: range(0, 3).map((i) => ({
              stream: streamOf(tenant, `guard-${i}`),
              expected: i === k ? i + 2 : i + 1
            }))
          }),
          "VersionConflict"
        )
        assert.equal(conflict.stream.aggregateId, `guard-${k}`)
        assert.equal(conflict.expected, k + 2)
        assert.equal(conflict.actual, k + 1)
        assert.equal(yield* store.version(streamOf(tenant, "a")), 0)
        assert.equal(yield* store.version(streamOf(tenant, "b")), 0)
      }))
  }

  test("of several conflicts the first is told, appends before guards", () =>
    Effect.gen(function* () {
      const store = yield* EventStore
      const tenant = freshTenant()
      const conflict = yield* failsWith(
        store.appendAll([share(tenant, "z", "any"), share(tenant, "m", 4), share(tenant, "a", 9)], {
          guards: [{ stream: streamOf(tenant, "0"), expected: "streamExists" }]
        }),
        "VersionConflict"
      )
      assert.equal(conflict.stream.aggregateId, "m")
    }))

  const absent: ReadonlyArray<readonly [ExpectedVersion, boolean]> = [
    ["any", true],
    ["noStream", true],
    [0, true],
    ["streamExists", false],
    [1, false]
  ]
  for (const [expected, holds] of absent) {
    test(`a guard ${JSON.stringify(expected)} on a stream without events ${holds ? "holds" : "does not hold"}`, () =>
      Effect.gen(function* () {
        const store = yield* EventStore
        const tenant = freshTenant()
        const outcome = yield* Effect.either(
          store.appendAll([share(tenant, "a", "any")], { guards: [{ stream: streamOf(tenant, "no"), expected }] })
        )
        assert.equal(Either.isRight(outcome), holds)
        assert.equal(yield* store.version(streamOf(tenant, "a")), holds ? 1 : 0)
        assert.equal(yield* store.version(streamOf(tenant, "no")), 0)
      }))
  }

  test("a guard writes nothing to its stream", () =>
    Effect.gen(function* () {
      const store = yield* EventStore
      const tenant = freshTenant()
      const guard = streamOf(tenant, "guard")
      yield* store.append(guard, newEvents(2), { expected: "noStream" })
      yield* store.appendAll([share(tenant, "a", "any")], { guards: [{ stream: guard, expected: 2 }] })
      assert.deepEqual(versions(yield* readAll(guard)), [1, 2])
    }))

  test("a stream named twice is refused, among appends, among guards and between them", () =>
    Effect.gen(function* () {
      const store = yield* EventStore
      const tenant = freshTenant()
      const guard = { stream: streamOf(tenant, "a"), expected: "any" } as const
      yield* failsWith(store.appendAll([share(tenant, "a", "any"), share(tenant, "a", "any")]), "InvalidInput")
      yield* failsWith(store.appendAll([share(tenant, "a", "any")], { guards: [guard] }), "InvalidInput")
      yield* failsWith(store.appendAll([share(tenant, "b", "any")], { guards: [guard, guard] }), "InvalidInput")
      assert.equal(yield* store.count({ tenantId: tenant }), 0)
    }))

  test("an id used twice over the streams of one append is refused", () =>
    Effect.gen(function* () {
      const store = yield* EventStore
      const tenant = freshTenant()
      const event = newEvent()
      const twice = ["a", "b"].map(
        (name) => ({ stream: streamOf(tenant, name), events: [event], expected: "any" }) as const
      )
      yield* failsWith(store.appendAll(twice), "InvalidInput")
      assert.equal(yield* store.count({ tenantId: tenant }), 0)
    }))

  test("two streams that guard each other: of two concurrent appends at most one happens", () =>
    Effect.gen(function* () {
      const store = yield* EventStore
      for (const _ of range(1, 10)) {
        const tenant = freshTenant()
        const one = (name: string, guard: string) =>
          Effect.either(
            store.appendAll([share(tenant, name, "noStream")], {
              guards: [{ stream: streamOf(tenant, guard), expected: "noStream" }]
            })
          )
        const outcomes = yield* Effect.all([one("a", "b"), one("b", "a")], { concurrency: "unbounded" })
        const happened = outcomes.filter(Either.isRight).length
        assert.ok(happened <= 1, "write skew: both appends saw the other stream empty")
        assert.equal(yield* store.count({ tenantId: tenant }), happened)
        for (const outcome of outcomes) {
          if (Either.isLeft(outcome)) assert.equal(outcome.left._tag, "VersionConflict", String(outcome.left))
        }
      }
    }))

  test("concurrent appends to the same streams in different orders all end, without a gap", () =>
    Effect.gen(function* () {
      const store = yield* EventStore
      const tenant = freshTenant()
      const names = ["a", "b", "c", "d"]
      yield* Effect.all(
        range(1, 32).map((i) => {
          const order = [...names.slice(i % 4), ...names.slice(0, i % 4)]
          return store.appendAll((i % 8 < 4 ? order : order.reverse()).map((name) => share(tenant, name, "any")))
        }),
        { concurrency: "unbounded", discard: true }
      )
      for (const name of names) assert.deepEqual(versions(yield* readAll(streamOf(tenant, name))), range(1, 32))
    }))
}
