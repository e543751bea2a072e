/**
 * Contract of leases: kept while the effect runs, taken over when their holder is gone, and lost for good then. A
 * process that is gone is one whose clock stands still, so that it renews nothing: it holds its lease, and no more.
 */
import assert from "node:assert/strict"
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import type * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { CommandStore, CurrentCommand, DuplicateCommand, type NewCommand } from "../../CommandStore.js"
import { failsWith } from "../suite.js"
import type { Test } from "./fixtures.js"
import { newCommand, pausableClock, stored, turns } from "./fixtures.js"

const success = Schema.String

/** An execution that is paused as soon as its effect runs; interrupting the fiber is its end. */
const pausedHolder = (given: NewCommand, leaseMs: number, ended: Effect.Effect<unknown> = Effect.void) =>
  Effect.gen(function* () {
    const store = yield* CommandStore
    const started = yield* Deferred.make<number>()
    const { clock, pause, resume } = pausableClock()
    const effect = pause.pipe(
      Effect.zipRight(Effect.flatMap(CurrentCommand, ({ attempt }) => Deferred.succeed(started, attempt))),
      Effect.zipRight(Effect.never),
      Effect.onInterrupt(() => ended)
    )
    const fiber = yield* Effect.forkScoped(
      Effect.withClock(store.execute(given, effect, { success, lease: leaseMs }), clock)
    )
    return { fiber, attempt: yield* Deferred.await(started), resume }
  })

export const leases = (test: Test, layer: Layer.Layer<CommandStore, unknown>): void => {
  test("a lease is renewed while a long effect runs: nobody takes over, and all waiters get its outcome", () =>
    Effect.gen(function* () {
      const store = yield* CommandStore
      const leaseMs = 600
      // A machine that stood still for most of a lease has lost it, and is tried again.
      const steady = yield* Effect.iterate(0, {
        while: (tries) => tries >= 0 && tries < 10,
        body: (tries) =>
          Effect.gen(function* () {
            const given = newCommand()
            const { clock, gapMs } = pausableClock()
            const begun = yield* Deferred.make<void>()
            const effect = Deferred.succeed(begun, undefined).pipe(
              Effect.zipRight(Effect.sleep(leaseMs * 4)),
              Effect.as("first")
            )
            const holder = yield* Effect.fork(
              Effect.withClock(store.execute(given, effect, { success, lease: leaseMs }), clock)
            )
            const waiting = Effect.flatMap(CommandStore, (store) =>
              store.execute(given, Effect.succeed("second"), { success, lease: leaseMs })
            )
            yield* Effect.raceFirst(Deferred.await(begun), Fiber.join(holder))
            const answers = yield* Effect.all([Fiber.join(holder), Effect.provide(waiting, layer), waiting], {
              concurrency: 3
            })
            const { attempts } = yield* stored(given.id)
            if (attempts === 1 && answers.every((answer) => answer === "first")) return -1
            const gap = yield* gapMs
            assert.ok(gap > leaseMs * 0.8, `the lease was lost, although it could be renewed every ${gap} ms`)
            return tries + 1
          })
      })
      assert.equal(steady, -1, "the machine is too busy for this test")
    }))

  test("a lease whose holder is gone is taken over after its end, and not before, as the next attempt", () =>
    Effect.gen(function* () {
      const given = newCommand()
      const leaseMs = 400
      const fromMs = yield* Clock.currentTimeMillis
      const holder = yield* pausedHolder(given, leaseMs)
      assert.equal(holder.attempt, 1)
      const effect = Effect.gen(function* () {
        const { attempt } = yield* CurrentCommand
        return [attempt, yield* Clock.currentTimeMillis] as const
      })
      const [attempt, atMs] = yield* Effect.flatMap(CommandStore, (store) =>
        store.execute(given, effect, { success: Schema.Tuple(Schema.Number, Schema.Number) })
      ).pipe(Effect.provide(layer))
      assert.equal(attempt, 2)
      // Clocks are read in whole milliseconds, once on each side.
      assert.ok(atMs - fromMs >= leaseMs - 2, `taken over after ${atMs - fromMs} ms of a lease of ${leaseMs}`)
      const command = yield* stored(given.id)
      assert.deepEqual([command.status, command.attempts], ["succeeded", 2])
    }))

  test("of many that wait for a holder that is gone, one takes over", () =>
    Effect.gen(function* () {
      const given = newCommand()
      yield* pausedHolder(given, 300)
      let runs = 0
      const effect = Effect.zipRight(
        turns(10),
        Effect.sync(() => `run ${++runs}`)
      )
      const execute = Effect.flatMap(CommandStore, (store) => store.execute(given, effect, { success }))
      const some = Effect.all(
        Array.from({ length: 10 }, () => execute),
        { concurrency: "unbounded" }
      )
      const answers = yield* Effect.all([some, Effect.provide(some, layer)], { concurrency: 2 })
      assert.deepEqual([runs, new Set(answers.flat())], [1, new Set(["run 1"])])
      assert.equal((yield* stored(given.id)).attempts, 2)
    }))

  test("who comes back to a lease that was taken over is interrupted, and gets the winner's outcome", () =>
    Effect.gen(function* () {
      const given = newCommand()
      let ended = 0
      const holder = yield* pausedHolder(
        given,
        300,
        Effect.sync(() => ended++)
      )
      const winner = Effect.flatMap(CommandStore, (store) =>
        store.execute(given, Effect.succeed("winner"), { success })
      )
      assert.equal(yield* Effect.provide(winner, layer), "winner")
      yield* holder.resume
      assert.equal(yield* Fiber.join(holder.fiber), "winner")
      assert.equal(ended, 1)
      assert.equal((yield* stored(given.id)).attempts, 2)
    }))

  test("of an attempt and the one that took over the first to finish gives the outcome, and the other gets it", () =>
    Effect.gen(function* () {
      const store = yield* CommandStore
      const given = newCommand()
      const [started, end, otherEnd] = yield* Effect.all([
        Deferred.make<void>(),
        Deferred.make<string>(),
        Deferred.make<string>()
      ])
      const { clock, pause } = pausableClock()
      const effect = pause.pipe(
        Effect.zipRight(Deferred.succeed(started, undefined)),
        Effect.zipRight(Deferred.await(end)),
        Effect.uninterruptible
      )
      const overtaken = yield* Effect.fork(
        Effect.withClock(store.execute(given, effect, { success, lease: 300 }), clock)
      )
      yield* Deferred.await(started)
      const otherStarted = yield* Deferred.make<void>()
      const other = Effect.zipRight(Deferred.succeed(otherStarted, undefined), Deferred.await(otherEnd)).pipe(
        Effect.uninterruptible
      )
      const later = yield* Effect.flatMap(CommandStore, (store) =>
        store.execute(given, other, { success, lease: "1 hour" })
      ).pipe(Effect.provide(layer), Effect.fork)
      yield* Deferred.await(otherStarted)
      yield* Deferred.succeed(end, "first to finish")
      assert.equal(yield* Fiber.join(overtaken), "first to finish")
      yield* Deferred.succeed(otherEnd, "second")
      assert.equal(yield* Fiber.join(later), "first to finish")
      const done = yield* stored(given.id)
      assert.deepEqual([done.status, done.outcome, done.attempts], ["succeeded", Option.some("first to finish"), 2])
    }))

  for (const end of ["success", "failure"] as const) {
    test(`an attempt at a command that is deleted and created anew meanwhile leaves that alone (${end})`, () =>
      Effect.gen(function* () {
        const store = yield* CommandStore
        const given = newCommand()
        const [started, ended, nextStarted, nextEnd] = yield* Effect.all([
          Deferred.make<void>(),
          Deferred.make<string, string>(),
          Deferred.make<void>(),
          Deferred.make<string>()
        ])
        const options = { success, failure: Schema.String, lease: "1 hour" } as const
        const effect = Effect.uninterruptible(
          Effect.zipRight(Deferred.succeed(started, undefined), Deferred.await(ended))
        )
        const first = yield* Effect.fork(store.execute(given, effect, options))
        yield* Deferred.await(started)
        yield* store.delete(given.id)
        const anew = { ...given, type: "Other", data: "other" }
        const next = Effect.zipRight(Deferred.succeed(nextStarted, undefined), Deferred.await(nextEnd))
        const second = yield* Effect.flatMap(CommandStore, (store) => store.execute(anew, next, options)).pipe(
          Effect.provide(layer),
          Effect.fork
        )
        yield* Deferred.await(nextStarted)
        yield* end === "success" ? Deferred.succeed(ended, "first") : Deferred.fail(ended, "first")
        // It asks again, and is told that the id is another's now.
        assert.ok((yield* Effect.flip(Fiber.join(first))) instanceof DuplicateCommand)
        const third = yield* Effect.fork(store.execute(anew, Effect.succeed("third"), options))
        yield* turns(50)
        const meanwhile = yield* stored(given.id)
        assert.deepEqual([meanwhile.status, meanwhile.attempts, meanwhile.outcome], ["received", 1, Option.none()])
        yield* Deferred.succeed(nextEnd, "second")
        assert.deepEqual([yield* Fiber.join(second), yield* Fiber.join(third)], ["second", "second"])
        const done = yield* stored(given.id)
        assert.deepEqual([done.status, done.outcome, done.attempts], ["succeeded", Option.some("second"), 1])
      }))
  }

  test("an attempt that ends without an outcome gives back no lease but its own, also of a command created anew", () =>
    Effect.gen(function* () {
      const store = yield* CommandStore
      const given = newCommand()
      const [started, end, nextStarted, nextEnd] = yield* Effect.all([
        Deferred.make<void>(),
        Deferred.make<string, string>(),
        Deferred.make<void>(),
        Deferred.make<string>()
      ])
      const options = { success, lease: "1 hour" } as const
      const running = <E>(started: Deferred.Deferred<void>, end: Deferred.Deferred<string, E>) =>
        Effect.zipRight(Deferred.succeed(started, undefined), Deferred.await(end))
      const first = yield* Effect.fork(store.execute(given, running(started, end), options))
      yield* Deferred.await(started)
      yield* store.delete(given.id)
      const second = yield* Effect.flatMap(CommandStore, (store) =>
        store.execute(given, running(nextStarted, nextEnd), options)
      ).pipe(Effect.provide(layer), Effect.fork)
      yield* Deferred.await(nextStarted)
      yield* Deferred.fail(end, "busy")
      assert.equal(yield* Effect.flip(Fiber.join(first)), "busy")
      const third = yield* Effect.fork(store.execute(given, Effect.succeed("third"), options))
      yield* turns(50)
      assert.deepEqual([(yield* stored(given.id)).attempts, third.unsafePoll()], [1, null])
      yield* Deferred.succeed(nextEnd, "second")
      assert.deepEqual([yield* Fiber.join(second), yield* Fiber.join(third)], ["second", "second"])
    }))

  test("who comes back and ends cannot end the lease of the one that took over", () =>
    Effect.gen(function* () {
      const store = yield* CommandStore
      const given = newCommand()
      const holder = yield* pausedHolder(given, 300)
      const [started, end] = yield* Effect.all([Deferred.make<void>(), Deferred.make<string>()])
      const effect = Effect.zipRight(Deferred.succeed(started, undefined), Deferred.await(end))
      const winner = yield* Effect.flatMap(CommandStore, (store) =>
        store.execute(given, effect, { success, lease: "1 hour" })
      ).pipe(Effect.provide(layer), Effect.fork)
      yield* Deferred.await(started)
      yield* Fiber.interrupt(holder.fiber)
      const third = yield* Effect.fork(store.execute(given, Effect.succeed("third"), { success }))
      yield* turns(50)
      assert.equal((yield* stored(given.id)).attempts, 2)
      yield* Deferred.succeed(end, "winner")
      assert.deepEqual([yield* Fiber.join(winner), yield* Fiber.join(third)], ["winner", "winner"])
    }))

  test("a command that an operator opens again while its holder is gone is executed at once", () =>
    Effect.gen(function* () {
      const store = yield* CommandStore
      const given = newCommand()
      yield* pausedHolder(given, 3_600_000)
      yield* store.update(given.id, { status: "received" })
      assert.equal(yield* store.execute(given, Effect.succeed("next"), { success }), "next")
    }))

  test("one that waits in another process goes on when the attempt there ends without an outcome", () =>
    Effect.gen(function* () {
      const store = yield* CommandStore
      const given = newCommand()
      const [started, end] = yield* Effect.all([Deferred.make<void>(), Deferred.make<string, string>()])
      const effect = Effect.zipRight(Deferred.succeed(started, undefined), Deferred.await(end))
      const options = { success, lease: "1 hour" } as const
      const first = yield* Effect.fork(store.execute(given, effect, options))
      yield* Deferred.await(started)
      const waiting = yield* Effect.flatMap(CommandStore, (store) =>
        store.execute(given, Effect.succeed("next"), options)
      ).pipe(Effect.provide(layer), Effect.fork)
      yield* turns(50)
      yield* Deferred.fail(end, "busy")
      assert.equal(yield* Effect.flip(Fiber.join(first)), "busy")
      assert.equal(yield* Fiber.join(waiting), "next")
    }))

  test("one that waits is told what an operator decides meanwhile", () =>
    Effect.gen(function* () {
      const store = yield* CommandStore
      const given = newCommand()
      yield* pausedHolder(given, 3_600_000)
      const waiting = yield* Effect.fork(
        store.execute(given, Effect.succeed("next"), {
          success,
          failure: Schema.Struct({ _tag: Schema.tag("Stopped") })
        })
      )
      yield* turns(20)
      yield* store.update(given.id, { status: "failed", outcome: { _tag: "Stopped" } })
      yield* failsWith(Fiber.join(waiting), "Stopped")
    }))
}
