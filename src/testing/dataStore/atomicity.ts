/**
 * Contract of atomic puts: whole or not at all, whatever ends them, and nothing is left behind.
 */
import assert from "node:assert/strict"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import { DataStore } from "../../DataStore.js"
import { failsWith } from "../suite.js"
import type { Test } from "./fixtures.js"
import {
  assertAbsent,
  assertStored,
  bytesOf,
  freshBucket,
  freshObject,
  inPieces,
  listed,
  plain,
  read,
  sameBytes,
  text,
  turn
} from "./fixtures.js"

const piece = 256 * 1024

export const atomicity = (
  test: Test,
  largeBytes: number,
  leftBehind: Effect.Effect<number, unknown> = Effect.succeed(0)
): void => {
  for (const size of [0, 10, largeBytes]) {
    test(`a body that fails after ${size} bytes passes its error on, and leaves what was there and nothing else`, () =>
      Effect.gen(function* () {
        const store = yield* DataStore
        const object = yield* freshObject
        const failing = Stream.concat(inPieces(bytesOf(size), piece), Stream.fail("no more" as const))
        assert.equal(yield* Effect.flip(store.put(object, failing)), "no more")
        yield* assertAbsent(object)
        yield* store.put(object, text("old"))
        assert.equal(yield* Effect.flip(store.put(object, failing, { size: size + 1 })), "no more")
        yield* assertStored(object, text("old"))
        assert.equal(yield* leftBehind, 0)
      }))

    test(`a put that is interrupted after ${size} bytes leaves what was there and nothing else`, () =>
      Effect.gen(function* () {
        const store = yield* DataStore
        const object = yield* freshObject
        yield* store.put(object, text("old"))
        for (let i = 0; i < 3; i++) {
          const reached = yield* Deferred.make<void>()
          const body = Stream.concat(
            inPieces(bytesOf(size), piece),
            Stream.drain(Stream.fromEffect(Effect.zipRight(Deferred.succeed(reached, undefined), Effect.never)))
          )
          const putting = yield* Effect.fork(store.put(object, body))
          yield* Deferred.await(reached)
          // While it is under way nobody sees it.
          yield* assertStored(object, text("old"))
          assert.deepEqual(yield* listed(object.bucket), [object.name])
          yield* Fiber.interrupt(putting)
          yield* assertStored(object, text("old"))
        }
        assert.equal(yield* leftBehind, 0)
      }))
  }

  test("of puts at once one wins whole, and every read meanwhile is one of them whole", () =>
    Effect.gen(function* () {
      const store = yield* DataStore
      const object = yield* freshObject
      const sizeOf = (seed: number) => (seed % 2 === 0 ? 1_000 : largeBytes) + seed
      const write = (seed: number) =>
        store.put(object, inPieces(bytesOf(sizeOf(seed), seed), 200_000), { metadata: { seed: `${seed}` } })
      yield* write(1)
      const isOneOf = Effect.gen(function* () {
        const found = Option.getOrThrow(yield* store.get(object))
        const seed = Number(found.info.metadata.seed)
        const exit = yield* Effect.exit(read(found))
        // Found, and then replaced: that is said.
        if (exit._tag === "Failure") yield* failsWith(exit, "ObjectChanged")
        else sameBytes(exit.value, bytesOf(sizeOf(seed), seed))
      })
      let writing = true
      const reading = yield* Effect.fork(Effect.repeat(isOneOf, { while: () => writing }))
      yield* Effect.forEach(
        Array.from({ length: 12 }, (_, i) => i + 2),
        write,
        { concurrency: 6, discard: true }
      )
      writing = false
      yield* Fiber.join(reading)
      const { metadata } = plain(Option.getOrThrow(yield* store.head(object)))
      yield* assertStored(object, bytesOf(sizeOf(Number(metadata.seed)), Number(metadata.seed)))
      assert.equal(yield* store.count(object.bucket), 1)
      assert.equal(yield* leftBehind, 0)
    }))

  test("puts that are interrupted at any moment leave the old object or the new one, and nothing behind", () =>
    Effect.gen(function* () {
      const store = yield* DataStore
      const bucket = yield* freshBucket
      const attempt = (i: number) =>
        Effect.gen(function* () {
          const object = { bucket, name: `${i % 4}` }
          const size = i % 3 === 0 ? largeBytes : 5_000
          const putting = yield* Effect.fork(store.put(object, bytesOf(size, i), { metadata: { i: `${i}` } }))
          for (let turns = i % 17; turns > 0; turns--) yield* turn
          yield* Fiber.interrupt(putting)
          const look = Effect.gen(function* () {
            const found = yield* store.get(object)
            if (Option.isNone(found)) return
            const seed = Number(found.value.info.metadata.i)
            sameBytes(yield* read(found.value), bytesOf(seed % 3 === 0 ? largeBytes : 5_000, seed))
          })
          // What a server has heard whole it may still do when nobody waits for it any more.
          yield* Effect.retry(look, { times: 3, while: ({ _tag }) => _tag === "ObjectChanged" })
        })
      for (let i = 0; i < 60; i++) yield* attempt(i)
      assert.equal(yield* leftBehind, 0)
    }))

  test("a slow consumer holds back the producer, in both directions", () =>
    Effect.gen(function* () {
      const store = yield* DataStore
      const object = yield* freshObject
      const count = 40
      let pulled = 0
      const gate = yield* Deferred.make<void>()
      // The 9th piece is held: what the store pulls beyond it would be a buffer without bound.
      const body = Stream.mapEffect(Stream.range(0, count - 1), (i) =>
        Effect.gen(function* () {
          pulled++
          if (i === 8) yield* Deferred.await(gate)
          return bytesOf(piece, i)
        })
      )
      const putting = yield* Effect.fork(store.put(object, body))
      while (pulled < 9) yield* turn
      for (let i = 0; i < 50; i++) yield* turn
      assert.equal(pulled, 9)
      yield* Deferred.succeed(gate, undefined)
      yield* Fiber.join(putting)
      const found = Option.getOrThrow(yield* store.get(object))
      let given = 0
      yield* Stream.runForEach(Stream.take(found.body, 3), () => Effect.sync(() => given++))
      assert.equal(given, 3)
    }))

  test("a sweep leaves what is being put alone", () =>
    Effect.gen(function* () {
      const store = yield* DataStore
      const object = yield* freshObject
      const bytes = bytesOf(largeBytes)
      const [reached, go] = [yield* Deferred.make<void>(), yield* Deferred.make<void>()]
      const held = Stream.drain(
        Stream.fromEffect(Effect.zipRight(Deferred.succeed(reached, undefined), Deferred.await(go)))
      )
      const body = Stream.concat(
        inPieces(bytes.subarray(0, largeBytes - 10), piece),
        Stream.concat(held, Stream.make(bytes.subarray(largeBytes - 10)))
      )
      const putting = yield* Effect.fork(store.put(object, body))
      yield* Deferred.await(reached)
      yield* store.sweep({ olderThan: "10 minutes" })
      yield* Deferred.succeed(go, undefined)
      yield* Fiber.join(putting)
      yield* assertStored(object, bytes)
      yield* store.sweep()
      yield* assertStored(object, bytes)
    }))
}
