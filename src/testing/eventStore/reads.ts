/**
 * Contract of `read`, `version` and `get`: one stream, in both directions, within bounds, over page boundaries.
 */
import assert from "node:assert/strict"
import { randomUUID } from "node:crypto"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import type { ReadOptions } from "../../EventStore.js"
import { EventStore } from "../../EventStore.js"
import { collect, range } from "../suite.js"
import type { Test } from "./fixtures.js"
import { assertSameEvents, freshStream, newEvent, newEvents, plain, readAll, versions } from "./fixtures.js"

const backward = (from: number, to: number): Array<number> => range(to, from).reverse()

export const reads = (test: Test): void => {
  const cases: ReadonlyArray<readonly [name: string, ReadOptions, ReadonlyArray<number>]> = [
    ["everything, by default forward", {}, range(1, 10)],
    ["everything, backward", { direction: "backward" }, backward(10, 1)],
    ["from a version on", { fromVersion: 4 }, range(4, 10)],
    ["up to a version", { toVersion: 4 }, range(1, 4)],
    ["between versions", { fromVersion: 3, toVersion: 5 }, [3, 4, 5]],
    ["between versions, backward", { fromVersion: 3, toVersion: 5, direction: "backward" }, [5, 4, 3]],
    ["one version", { fromVersion: 7, toVersion: 7 }, [7]],
    ["from version 0", { fromVersion: 0 }, range(1, 10)],
    ["up to version 0", { toVersion: 0 }, []],
    ["beyond the end", { fromVersion: 11 }, []],
    ["beyond the end, backward", { fromVersion: 11, direction: "backward" }, []],
    ["far beyond the end", { fromVersion: 5, toVersion: Number.MAX_SAFE_INTEGER }, range(5, 10)],
    ["from the largest version", { fromVersion: Number.MAX_SAFE_INTEGER }, []],
    ["crossed bounds", { fromVersion: 6, toVersion: 5 }, []],
    ["a limit", { limit: 3 }, [1, 2, 3]],
    ["a limit, backward", { limit: 3, direction: "backward" }, [10, 9, 8]],
    ["a limit within bounds", { fromVersion: 4, limit: 2 }, [4, 5]],
    ["a limit within bounds, backward", { toVersion: 6, limit: 2, direction: "backward" }, [6, 5]],
    ["a limit beyond the end", { limit: 1_000_000 }, range(1, 10)]
  ]
  for (const [name, options, expected] of cases) {
    test(`a read of ${name}`, () =>
      Effect.gen(function* () {
        const store = yield* EventStore
        const stream = freshStream()
        yield* store.append(stream, newEvents(10), { expected: "noStream" })
        assert.deepEqual(versions(yield* collect(store.read(stream, options))), expected)
        const folded = store.fold(stream, [0], (seen, { version }) => [...seen, version], options)
        assert.deepEqual((yield* folded).slice(1), expected)
      }))
  }

  test("a stream of 2,500 events is read whole across pages, both ways, and with limits at the page boundary", () =>
    Effect.gen(function* () {
      const store = yield* EventStore
      const stream = freshStream()
      yield* store.append(stream, newEvents(2500), { expected: "noStream" })
      assert.deepEqual(versions(yield* readAll(stream)), range(1, 2500))
      assert.deepEqual(versions(yield* collect(store.read(stream, { direction: "backward" }))), backward(2500, 1))
      assert.equal(yield* store.version(stream), 2500)
      for (const limit of [999, 1000, 1001, 2000, 2001, 2500, 2501]) {
        const size = Math.min(limit, 2500)
        assert.deepEqual(versions(yield* collect(store.read(stream, { limit }))), range(1, size))
        assert.deepEqual(
          versions(yield* collect(store.read(stream, { limit, direction: "backward" }))),
          backward(2500, 2501 - size)
        )
      }
      assert.equal(yield* store.fold(stream, 0, (sum, { version }) => sum + version), (2500 * 2501) / 2)
      const bounds = { fromVersion: 500, toVersion: 1499 }
      assert.deepEqual(versions(yield* collect(store.read(stream, bounds))), range(500, 1499))
    }))

  test("a stream whose length is exactly one page or two ends there", () =>
    Effect.gen(function* () {
      const store = yield* EventStore
      for (const length of [1000, 2000]) {
        const stream = freshStream()
        yield* store.append(stream, newEvents(length), { expected: "noStream" })
        assert.deepEqual(versions(yield* readAll(stream)), range(1, length))
      }
    }))

  test("a stream without events is empty and at version 0", () =>
    Effect.gen(function* () {
      const store = yield* EventStore
      const stream = freshStream()
      assert.deepEqual(yield* readAll(stream), [])
      assert.deepEqual(yield* collect(store.read(stream, { direction: "backward", fromVersion: 5 })), [])
      assert.equal(yield* store.version(stream), 0)
    }))

  test("a reader that stops early, or fails, leaves the store usable", () =>
    Effect.gen(function* () {
      const store = yield* EventStore
      const stream = freshStream()
      yield* store.append(stream, newEvents(2500), { expected: "noStream" })
      for (const _ of range(1, 10)) {
        assert.equal((yield* collect(Stream.take(store.read(stream), 1001))).length, 1001)
        yield* Effect.ignore(Stream.runForEach(store.read(stream), () => Effect.fail("stop")))
      }
      assert.equal((yield* readAll(stream)).length, 2500)
    }))

  test("one stream description can be run again and sees what was appended since", () =>
    Effect.gen(function* () {
      const store = yield* EventStore
      const stream = freshStream()
      const reading = store.read(stream)
      assert.deepEqual(yield* collect(reading), [])
      yield* store.append(stream, newEvents(2), { expected: "any" })
      assert.deepEqual(versions(yield* collect(reading)), [1, 2])
    }))

  test("every field of an event is read as it was given", () =>
    Effect.gen(function* () {
      const store = yield* EventStore
      const stream = freshStream()
      const given = newEvent({
        metadata: { trace: "t", nested: [{}] },
        commandId: "command \u{1f600}",
        instanceId: "instance",
        createdAt: DateTime.unsafeMake(1_700_000_000_123)
      })
      const appended = yield* store.append(stream, [given], { expected: "any" })
      const [event] = yield* readAll(stream)
      assert.ok(event !== undefined)
      assert.deepEqual(plain(event), {
        ...stream,
        ...appended,
        ...given,
        createdAt: 1_700_000_000_123
      })
    }))

  test("get finds an event by its id, the same as reads do, and nothing under an unknown id", () =>
    Effect.gen(function* () {
      const store = yield* EventStore
      const stream = freshStream()
      yield* store.append(stream, newEvents(3), { expected: "noStream" })
      for (const event of yield* readAll(stream)) {
        assertSameEvents(Option.toArray(yield* store.get(event.id)), [event])
      }
      assert.ok(Option.isNone(yield* store.get(randomUUID())))
    }))
}
