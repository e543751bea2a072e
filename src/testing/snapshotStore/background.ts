/**
 * Contract of `saveInBackground`, as far as it shows on a store. What shows in logs and metrics is tested once, on the
 * store in memory.
 */
import assert from "node:assert/strict"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Random from "effect/Random"
import * as Scope from "effect/Scope"
import type { NewSnapshot } from "../../SnapshotStore.js"
import { SnapshotStore } from "../../SnapshotStore.js"
import { range } from "../suite.js"
import type { Test } from "./fixtures.js"
import { assertLatest, freshStream, freshTenant, newSnapshot, quietly, streamOf, turns } from "./fixtures.js"

/** A snapshot that is not there before it is let go. */
const held = (snapshot: NewSnapshot) =>
  Effect.gen(function* () {
    const begun = yield* Deferred.make<void>()
    const letGo = yield* Deferred.make<void>()
    const make = Deferred.succeed(begun, undefined).pipe(
      Effect.zipRight(Deferred.await(letGo)),
      Effect.zipRight(Effect.succeed(snapshot))
    )
    return { make, begun: Deferred.await(begun), letGo: Deferred.succeed(letGo, undefined) }
  })

export const background = (test: Test, layer: Layer.Layer<SnapshotStore, unknown>): void => {
  test("a save in the background returns before there is a snapshot, and flush waits for it", () =>
    Effect.gen(function* () {
      const store = yield* SnapshotStore
      const stream = freshStream()
      const snapshot = newSnapshot(3)
      const { begun, letGo, make } = yield* held(snapshot)
      yield* store.saveInBackground(stream, make)
      yield* begun
      yield* assertLatest(stream, undefined)
      const flushing = yield* Effect.fork(store.flush(stream))
      yield* turns(5)
      assert.equal(flushing.unsafePoll(), null)
      yield* letGo
      yield* Fiber.join(flushing)
      yield* assertLatest(stream, snapshot)
      // Nothing is under way any more.
      yield* store.flush(stream)
    }))

  test("of what is offered while a save of the stream is under way only the last follows", () =>
    Effect.gen(function* () {
      const store = yield* SnapshotStore
      const stream = freshStream()
      const first = yield* held(newSnapshot(1))
      yield* store.saveInBackground(stream, first.make)
      yield* first.begun
      const ran: Array<number> = []
      const offered = range(2, 20).map((version) => newSnapshot(version))
      for (const snapshot of offered) {
        const make = Effect.sync(() => {
          ran.push(snapshot.version)
          return snapshot
        })
        yield* store.saveInBackground(stream, make)
      }
      yield* turns(5)
      assert.deepEqual(ran, [])
      yield* first.letGo
      yield* store.flush(stream)
      assert.deepEqual(ran, [20])
      yield* assertLatest(stream, offered.at(-1))
    }))

  test("a stream whose save waits does not hold up the others", () =>
    Effect.gen(function* () {
      const store = yield* SnapshotStore
      const tenantId = freshTenant()
      const waiting = yield* held(newSnapshot(1))
      yield* store.saveInBackground(streamOf(tenantId), waiting.make)
      yield* waiting.begun
      const others = range(1, 50).map((n) => [streamOf(tenantId, `other ${n}`), newSnapshot(n)] as const)
      for (const [stream, snapshot] of others) yield* store.saveInBackground(stream, Effect.succeed(snapshot))
      for (const [stream, snapshot] of others) {
        yield* store.flush(stream)
        yield* assertLatest(stream, snapshot)
      }
      yield* waiting.letGo
      yield* store.flush(streamOf(tenantId))
    }))

  test("a save in the background is monotonic too", () =>
    Effect.gen(function* () {
      const store = yield* SnapshotStore
      const stream = freshStream()
      const newer = newSnapshot(9)
      yield* store.save(stream, newer)
      yield* store.saveInBackground(stream, Effect.succeed(newSnapshot(8)))
      yield* store.flush(stream)
      yield* assertLatest(stream, newer)
    }))

  test("with replace what is stored gives way, whatever its version, and without a snapshot nothing is saved", () =>
    Effect.gen(function* () {
      const store = yield* SnapshotStore
      const [stream, other] = [freshStream(), freshStream()]
      const [stored, lower] = [newSnapshot(9), newSnapshot(2)]
      const none: Effect.Effect<NewSnapshot | undefined> = Effect.succeed(undefined)
      yield* store.save(stream, stored)
      yield* store.save(other, stored)
      for (const replace of [undefined, false]) {
        yield* store.saveInBackground(stream, none, { replace })
        yield* store.flush(stream)
        yield* store.saveInBackground(stream, Effect.succeed(lower), { replace })
        yield* store.flush(stream)
        yield* assertLatest(stream, stored)
      }
      yield* store.saveInBackground(stream, Effect.succeed(lower), { replace: true })
      yield* store.flush(stream)
      yield* assertLatest(stream, lower)
      yield* store.saveInBackground(stream, none, { replace: true })
      yield* store.flush(stream)
      yield* assertLatest(stream, undefined)
      yield* assertLatest(other, stored)
    }))

  test("whatever fails in the background neither fails the caller nor what is offered next", () =>
    Effect.gen(function* () {
      const store = yield* SnapshotStore
      const stream = freshStream()
      const failures: ReadonlyArray<Effect.Effect<NewSnapshot, unknown>> = [
        Effect.fail("no state"),
        Effect.die(new Error("a bug")),
        Effect.interrupt,
        Effect.suspend(() => {
          throw new Error("a bug before the effect")
        }),
        Effect.succeed(newSnapshot(1, { state: Number.NaN })),
        Effect.succeed(newSnapshot(0)),
        // Even if it is the fiber in the background that somebody interrupts.
        Effect.withFiberRuntime((fiber) => Effect.zipRight(Fiber.interruptFork(fiber), Effect.never))
      ]
      for (const [i, failing] of failures.entries()) {
        yield* store.saveInBackground(stream, failing)
        yield* store.flush(stream)
        const snapshot = newSnapshot(i + 1)
        yield* store.saveInBackground(stream, Effect.succeed(snapshot))
        yield* store.flush(stream)
        yield* assertLatest(stream, snapshot)
      }
    }).pipe(quietly))

  test("a stream that is none fails neither the caller nor flush", () =>
    Effect.gen(function* () {
      const store = yield* SnapshotStore
      const streams: ReadonlyArray<unknown> = [
        undefined,
        null,
        {},
        { ...freshStream(), aggregateId: "" },
        { ...freshStream(), aggregateId: Symbol("s") },
        new Proxy(
          {},
          new Proxy(
            {},
            {
              get: () => () => {
                throw new Error("trap")
              }
            }
          )
        )
      ]
      for (const stream of streams) {
        yield* store.saveInBackground(stream as ReturnType<typeof freshStream>, Effect.succeed(newSnapshot(1)))
        yield* store.flush(stream as ReturnType<typeof freshStream>)
      }
    }).pipe(quietly))

  test("the end of the caller right after does not end the save", () =>
    Effect.gen(function* () {
      const store = yield* SnapshotStore
      const stream = freshStream()
      const snapshot = newSnapshot(4)
      const { begun, letGo, make } = yield* held(snapshot)
      const caller = yield* Effect.fork(Effect.zipRight(store.saveInBackground(stream, make), Effect.never))
      yield* begun
      yield* Fiber.interrupt(caller)
      yield* letGo
      yield* store.flush(stream)
      yield* assertLatest(stream, snapshot)
    }))

  test("offers that are interrupted at random leave nothing behind that blocks closing", () =>
    Effect.gen(function* () {
      const scope = yield* Scope.make()
      const store = Context.get(yield* Layer.buildWithScope(layer, scope), SnapshotStore)
      const tenantId = freshTenant()
      for (const n of range(1, 300)) {
        const snapshot = Effect.as(Effect.yieldNow(), newSnapshot(n))
        const offer = store.saveInBackground(streamOf(tenantId, `${n % 20}`), snapshot)
        const caller = yield* Effect.fork(Effect.zipRight(Effect.yieldNow(), offer))
        for (let i = yield* Random.nextIntBetween(0, 6); i > 0; i--) yield* Effect.yieldNow()
        yield* Fiber.interrupt(caller)
      }
      for (const n of range(0, 19)) yield* store.flush(streamOf(tenantId, `${n}`))
      yield* Scope.close(scope, Exit.void)
    }))

  test("closing the layer waits for what is under way and for what follows, and both are kept", () =>
    Effect.gen(function* () {
      const scope = yield* Scope.make()
      // Not provided: a joined fiber would bring this store along, and what is read in the end is read from the other.
      const closed = Context.get(yield* Layer.buildWithScope(layer, scope), SnapshotStore)
      const tenantId = freshTenant()
      const streams = range(1, 20).map((n) => streamOf(tenantId, `${n}`))
      const followers = streams.map((_, n) => newSnapshot(n + 2))
      const first = yield* held(newSnapshot(1))
      for (const stream of streams) yield* closed.saveInBackground(stream, first.make)
      yield* first.begun
      for (const [i, stream] of streams.entries()) {
        yield* closed.saveInBackground(stream, Effect.succeed(followers[i] as NewSnapshot))
      }
      const closing = yield* Effect.fork(Scope.close(scope, Exit.void))
      yield* turns(5)
      assert.equal(closing.unsafePoll(), null, "closed before the saves had ended")
      // Too late, and no failure.
      yield* closed.saveInBackground(streamOf(tenantId, "late"), Effect.succeed(newSnapshot(1)))
      yield* first.letGo
      yield* Fiber.await(closing)
      for (const [i, stream] of streams.entries()) yield* assertLatest(stream, followers[i])
      yield* assertLatest(streamOf(tenantId, "late"), undefined)
    }))
}
