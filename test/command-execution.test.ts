/**
 * `CommandStore.execute` when the way to the store fails: its port is that of the memory, whose answers are delayed, lost
 * or refused at chosen points, as a network does it. Time is the TestClock's, but for interruption at random moments.
 */
import { assert, describe, expectTypeOf, it } from "@effect/vitest"
import {
  Cause,
  type Clock,
  Context,
  Deferred,
  type Duration,
  Effect,
  Either,
  Exit,
  Fiber,
  Logger,
  LogLevel,
  Option,
  Schema,
  Supervisor,
  TestClock
} from "effect"
import { CommandStore, CommandStoreEncoded, CommandWorker, Errors } from "effect-stores"
import { CommandStoreMemory } from "effect-stores/memory"
import { moments } from "./support/scale.js"

type Encoded = CommandStoreEncoded.Encoded

const unavailable = (retryable = true) =>
  new Errors.StoreUnavailable({ operation: "test", retryable, cause: new Error("no network") })
const unknown = new Errors.CommitOutcomeUnknown({ operation: "commit", cause: new Error("connection lost") })

/** A store on a port of its own, of which some members are changed, and the port itself. */
const setUp = (change: (encoded: Encoded) => Partial<Encoded> = () => ({})) =>
  Effect.gen(function* () {
    const encoded = yield* CommandStoreMemory.makeEncoded
    return {
      encoded,
      store: CommandStoreEncoded.make({ ...encoded, ...change(encoded) }, { system: "memory" }),
      /** Another process, whose network works. */
      other: CommandStoreEncoded.make(encoded, { system: "memory" })
    }
  })

const command: CommandStore.NewCommand = {
  id: "0192f0c1-2f6b-7000-8000-000000000001",
  tenantId: "acme",
  domain: "order",
  type: "Place",
  data: { n: 1 }
}
const port: CommandStoreEncoded.EncodedNewCommand = {
  ...command,
  data: `{"n":1}`,
  metadata: "{}",
  keyId: null,
  instanceId: null,
  createdAt: 0,
  dueAt: null
}

const success = Schema.String
const stored = (encoded: Encoded) => Effect.map(encoded.get(command.id), (row) => row ?? assert.fail("not stored"))
const leaseLeftMs = (encoded: Encoded) =>
  Effect.map(encoded.create(port, null), (outcome) => (outcome._tag === "Exists" ? outcome.leaseLeftMs : 0))
const leaseOf = (leaseMs: number): CommandStoreEncoded.EncodedLease => ({ token: crypto.randomUUID(), leaseMs })
const done = (outcome: string) =>
  ({ status: "succeeded", outcome: `"${outcome}"`, outcomeKeyId: null, finishedAt: 0 }) as const

/** The first `count` calls end with this instead. */
const first = <A, E>(count: number, instead: (self: Effect.Effect<A, E>) => Effect.Effect<A, E>) => {
  let calls = 0
  return (self: Effect.Effect<A, E>) => Effect.suspend(() => (calls++ < count ? instead(self) : self))
}

const turns = (count: number): Effect.Effect<void> =>
  count <= 0 ? Effect.void : Effect.zipRight(Effect.yieldNow(), turns(count - 1))

type Slow = <A, E>(self: Effect.Effect<A, E>) => Effect.Effect<A, E>

/** Lets time pass in small steps, so that everything in between happens in its order. */
const pass = (ms: number, stepMs = 10) =>
  Effect.forEach(Array.from({ length: Math.ceil(ms / stepMs) }), () => TestClock.adjust(stepMs), { discard: true })

/** An effect that counts its runs and their ends, and runs until it is told to end. */
const observed = Effect.map(Deferred.make<string>(), (end) => {
  const seen = { runs: 0, interrupted: 0 }
  const effect = Effect.suspend(() => {
    seen.runs++
    return Effect.onInterrupt(Deferred.await(end), () => Effect.sync(() => seen.interrupted++))
  })
  return { seen, effect, end }
})

describe("storing the outcome", () => {
  it.effect("is tried again when the store was not there", () =>
    Effect.gen(function* () {
      const refused = first<boolean, Errors.StoreFailure>(3, () => Effect.fail(unavailable()))
      const { encoded, store } = yield* setUp((encoded) => ({ finish: (request) => refused(encoded.finish(request)) }))
      let runs = 0
      const effect = Effect.sync(() => `run ${++runs}`)
      const fiber = yield* Effect.fork(store.execute(command, effect, { success }))
      yield* pass(2_000, 50)
      assert.strictEqual(yield* Fiber.join(fiber), "run 1")
      assert.deepInclude(yield* stored(encoded), { status: "succeeded", outcome: `"run 1"`, attempts: 1 })
    })
  )

  it.effect("is the end of the attempt: no lease is given back that there is no more", () =>
    Effect.gen(function* () {
      let renewals = 0
      const { store } = yield* setUp((encoded) => ({
        renew: (request) => {
          renewals++
          return encoded.renew(request)
        }
      }))
      assert.strictEqual(yield* store.execute(command, Effect.succeed("one"), { success }), "one")
      yield* turns(20)
      assert.strictEqual(renewals, 0)
    })
  )

  it.effect("is given up when the store refuses it for good: the failure is passed on and the lease given back", () =>
    Effect.gen(function* () {
      const refused = first<boolean, Errors.StoreFailure>(1, () => Effect.fail(unavailable(false)))
      const { encoded, store } = yield* setUp((encoded) => ({ finish: (request) => refused(encoded.finish(request)) }))
      const error = yield* Effect.flip(store.execute(command, Effect.succeed("one"), { success }))
      assert.strictEqual(error._tag, "StoreUnavailable")
      assert.deepInclude(yield* stored(encoded), { status: "received" })
      assert.strictEqual(yield* store.execute(command, Effect.succeed("two"), { success }), "two")
    })
  )

  it.effect("is done when only its answer was lost: the caller gets the success, and nothing runs again", () =>
    Effect.gen(function* () {
      const lost = first<boolean, Errors.StoreFailure>(1, (finish) => Effect.zipRight(finish, Effect.fail(unknown)))
      const { encoded, store } = yield* setUp((encoded) => ({ finish: (request) => lost(encoded.finish(request)) }))
      let runs = 0
      const effect = Effect.sync(() => `run ${++runs}`)
      const fiber = yield* Effect.fork(store.execute(command, effect, { success }))
      yield* pass(200)
      assert.strictEqual(yield* Fiber.join(fiber), "run 1")
      assert.deepInclude(yield* stored(encoded), { status: "succeeded", attempts: 1 })
    })
  )

  it.effect("is done when only its answer was lost: the caller gets the failure, and nothing runs again", () =>
    Effect.gen(function* () {
      const lost = first<boolean, Errors.StoreFailure>(1, (finish) => Effect.zipRight(finish, Effect.fail(unknown)))
      const { encoded, store } = yield* setUp((encoded) => ({ finish: (request) => lost(encoded.finish(request)) }))
      const execute = store.execute(command, Effect.fail("no" as const), { success, failure: Schema.Literal("no") })
      const fiber = yield* Effect.fork(Effect.flip(execute))
      yield* pass(200)
      assert.strictEqual(yield* Fiber.join(fiber), "no")
      assert.deepInclude(yield* stored(encoded), { status: "failed", attempts: 1 })
    })
  )

  it.effect("keeps the lease while it is tried again, so that nobody takes over", () =>
    Effect.gen(function* () {
      const refused = first<boolean, Errors.StoreFailure>(5, () => Effect.fail(unavailable()))
      const { encoded, other, store } = yield* setUp((encoded) => ({
        finish: (request) => refused(encoded.finish(request))
      }))
      const fiber = yield* Effect.fork(store.execute(command, Effect.succeed("one"), { success, lease: 150 }))
      yield* TestClock.adjust(1)
      const waiting = yield* Effect.fork(other.execute(command, Effect.succeed("two"), { success }))
      yield* pass(4_000, 50)
      assert.deepStrictEqual([yield* Fiber.join(fiber), yield* Fiber.join(waiting)], ["one", "one"])
      assert.deepInclude(yield* stored(encoded), { attempts: 1 })
    })
  )
})

describe("the claim", () => {
  for (const [name, member] of [
    ["begins a command", "create"],
    ["takes one over", "takeOver"]
  ] as const) {
    const lost = (calls: number) => (encoded: Encoded) => {
      const losing = first<never, Errors.StoreFailure>(calls, (self) => Effect.zipRight(self, Effect.fail(unknown)))
      // What is lost is the answer; what follows is answered.
      const losingOf = <A>(self: Effect.Effect<A, Errors.StoreFailure>) =>
        losing(self as Effect.Effect<never, Errors.StoreFailure>) as Effect.Effect<A, Errors.StoreFailure>
      return member === "create"
        ? {
            create: (...request: Parameters<Encoded["create"]>) => losingOf(encoded.create(...request))
          }
        : {
            takeOver: (request: Parameters<Encoded["takeOver"]>[0]) => losingOf(encoded.takeOver(request))
          }
    }

    it.effect(`that ${name} is known again when its answer was lost, and the effect runs with its lease`, () =>
      Effect.gen(function* () {
        const { encoded, store } = yield* setUp(lost(1))
        if (member === "takeOver") yield* encoded.create(port, leaseOf(1))
        yield* TestClock.adjust(1)
        const { effect, end, seen } = yield* observed
        const fiber = yield* Effect.fork(store.execute(command, effect, { success, lease: 900 }))
        yield* pass(60)
        assert.strictEqual(seen.runs, 1)
        // And it is renewed.
        yield* pass(2_000, 50)
        assert.deepStrictEqual(seen, { runs: 1, interrupted: 0 })
        yield* Deferred.succeed(end, "done")
        assert.strictEqual(yield* Fiber.join(fiber), "done")
        const attempts = member === "create" ? 1 : 2
        assert.deepInclude(yield* stored(encoded), { status: "succeeded", attempts })
      })
    )
  }

  it.effect("of another is waited for by one whose answer was lost", () =>
    Effect.gen(function* () {
      const { encoded, store } = yield* setUp((encoded) => {
        const lost = first<CommandStoreEncoded.CreateOutcome, Errors.StoreFailure>(1, () =>
          Effect.zipRight(encoded.create(port, leaseOf(1_000)), Effect.fail(unknown))
        )
        return { create: (command, lease) => lost(encoded.create(command, lease)) }
      })
      const { effect, end, seen } = yield* observed
      const fiber = yield* Effect.fork(store.execute(command, effect, { success }))
      yield* pass(900)
      assert.strictEqual(seen.runs, 0)
      yield* pass(150)
      assert.strictEqual(seen.runs, 1)
      yield* Deferred.succeed(end, "next")
      assert.strictEqual(yield* Fiber.join(fiber), "next")
      assert.deepInclude(yield* stored(encoded), { attempts: 2 })
    })
  )

  it.effect("stays unknown when the store is gone for good, and nothing runs", () =>
    Effect.gen(function* () {
      let asked = 0
      const { store } = yield* setUp(() => ({
        create: () => Effect.suspend(() => Effect.fail(asked++ === 0 ? unknown : unavailable()))
      }))
      const fiber = yield* Effect.fork(Effect.flip(store.execute(command, Effect.die("must not run"), { success })))
      yield* pass(5_000, 50)
      assert.strictEqual(yield* Fiber.join(fiber), unknown)
      assert.isTrue(asked > 2 && asked < 10, `asked ${asked} times`)
    })
  )

  it.effect("is not made again when the store certainly did nothing: that is for the caller to decide", () =>
    Effect.gen(function* () {
      const error = unavailable()
      const { store } = yield* setUp(() => ({ create: () => Effect.fail(error) }))
      assert.strictEqual(yield* Effect.flip(store.execute(command, Effect.die("must not run"), { success })), error)
    })
  )
})

describe("an attempt that was overtaken", () => {
  it.effect("stores its outcome when it is the first to finish, and the other is interrupted and gets that", () =>
    Effect.gen(function* () {
      // It does not notice, as a process that stands still does not.
      const { encoded, other, store } = yield* setUp(() => ({ renew: () => Effect.succeed(true) }))
      const [one, two] = [yield* observed, yield* observed]
      const first = yield* Effect.fork(store.execute(command, one.effect, { success, lease: 300 }))
      yield* pass(310)
      const second = yield* Effect.fork(other.execute(command, two.effect, { success, lease: 300 }))
      yield* pass(50)
      assert.strictEqual(two.seen.runs, 1)
      yield* Deferred.succeed(one.end, "first")
      yield* pass(150)
      assert.deepStrictEqual(two.seen, { runs: 1, interrupted: 1 })
      assert.deepStrictEqual([yield* Fiber.join(first), yield* Fiber.join(second)], ["first", "first"])
      assert.deepInclude(yield* stored(encoded), { status: "succeeded", outcome: `"first"`, attempts: 2 })
    })
  )

  it.effect("begins again with a lease of twice the length, each time, and warns of it", () =>
    Effect.gen(function* () {
      const warnings: Array<string> = []
      const logger = Logger.make(({ logLevel, message }) => {
        if (logLevel === LogLevel.Warning) warnings.push(String(message))
      })
      const leases: Array<number> = []
      let isDown = true
      const { encoded, store } = yield* setUp((encoded) => ({
        create: (command, lease) => {
          leases.push(lease?.leaseMs ?? 0)
          return encoded.create(command, lease)
        },
        renew: (request) =>
          Effect.suspend(() => (isDown && request.leaseMs > 0 ? Effect.fail(unavailable()) : encoded.renew(request)))
      }))
      const { effect, end, seen } = yield* observed
      const fiber = yield* Effect.fork(
        Effect.provide(
          store.execute(command, effect, { success, lease: 100 }),
          Logger.replace(Logger.defaultLogger, logger)
        )
      )
      yield* pass(100 + 200 + 400 + 50)
      assert.deepStrictEqual(leases, [100, 200, 400, 800])
      assert.strictEqual(warnings.length, 3)
      assert.match(warnings[0] ?? "", new RegExp(`attempt 1 at command ${command.id} .* 100 ms .* 200 ms`))
      isDown = false
      yield* pass(2_000, 50)
      assert.deepStrictEqual(seen, { runs: 4, interrupted: 3 })
      yield* Deferred.succeed(end, "done")
      assert.strictEqual(yield* Fiber.join(fiber), "done")
      assert.deepInclude(yield* stored(encoded), { status: "succeeded", attempts: 4 })
    })
  )

  it.effect("warns of nothing when the command was finished meanwhile", () =>
    Effect.gen(function* () {
      const warnings: Array<unknown> = []
      const logger = Logger.make(({ message }) => {
        warnings.push(message)
      })
      const { encoded, other, store } = yield* setUp()
      const effect = Effect.as(other.update(command.id, { status: "succeeded", outcome: "by hand" }), "first")
      const execute = store.execute(command, effect, { success })
      assert.strictEqual(yield* Effect.provide(execute, Logger.replace(Logger.defaultLogger, logger)), "by hand")
      assert.deepInclude(yield* stored(encoded), { attempts: 1 })
      assert.deepStrictEqual(warnings, [])
    })
  )

  it.effect("and whose outcome cannot be written gives up when its lease has ended, instead of trying for ever", () =>
    Effect.gen(function* () {
      let isDown = false
      let tries = 0
      const { encoded, store } = yield* setUp((encoded) => ({
        renew: (request) => Effect.suspend(() => (isDown ? Effect.fail(unavailable()) : encoded.renew(request))),
        finish: () =>
          Effect.suspend(() => {
            tries++
            return Effect.fail(unavailable())
          })
      }))
      const fiber = yield* Effect.fork(
        Effect.flip(
          store.execute(
            command,
            Effect.sync(() => {
              isDown = true
              return "done"
            }),
            { success, lease: 900 }
          )
        )
      )
      yield* pass(890)
      assert.isNull(fiber.unsafePoll())
      assert.isAbove(tries, 1)
      yield* pass(2_500, 50)
      assert.strictEqual((yield* Fiber.join(fiber))._tag, "StoreUnavailable")
      const tried = tries
      yield* pass(10_000, 500)
      assert.strictEqual(tries, tried)
      assert.deepInclude(yield* stored(encoded), { status: "received", attempts: 1 })
    })
  )
})

describe("the lease", () => {
  it.effect("of a process that is gone is taken over when it ends, to the millisecond", () =>
    Effect.gen(function* () {
      const { encoded, store } = yield* setUp()
      yield* encoded.create(port, leaseOf(1_000))
      const attempt = Effect.map(CommandStore.CurrentCommand, ({ attempt }) => attempt)
      const fiber = yield* Effect.fork(store.execute(command, attempt, { success: Schema.Number }))
      yield* pass(990)
      yield* TestClock.adjust(9)
      assert.deepInclude(yield* stored(encoded), { attempts: 1 })
      yield* TestClock.adjust(1)
      assert.strictEqual(yield* Fiber.join(fiber), 2)
    })
  )

  it.effect("that ended and was renewed just before a take-over is not taken over", () =>
    Effect.gen(function* () {
      const holder = leaseOf(100)
      const { encoded, store } = yield* setUp((encoded) => ({
        takeOver: (request) =>
          Effect.zipRight(encoded.renew({ ...holder, id: command.id, leaseMs: 1_000 }), encoded.takeOver(request))
      }))
      const { position } = (yield* encoded.create(port, holder)).command
      yield* pass(100)
      const fiber = yield* Effect.fork(store.execute(command, Effect.succeed("next"), { success }))
      yield* pass(500)
      assert.deepInclude(yield* stored(encoded), { status: "received", attempts: 1 })
      assert.isTrue(yield* encoded.finish({ id: command.id, position, ...done("first") }))
      yield* pass(600)
      assert.strictEqual(yield* Fiber.join(fiber), "first")
    })
  )

  for (const [name, renew] of [
    ["fails", Effect.fail(unavailable())],
    ["hangs", Effect.never]
  ] as const) {
    it.effect(`is lost when renewing it ${name} until its end: the effect is interrupted, and runs again`, () =>
      Effect.gen(function* () {
        let isDown = false
        const { encoded, store } = yield* setUp((encoded) => ({
          renew: (request) =>
            Effect.suspend(() =>
              !isDown ? encoded.renew(request) : request.leaseMs > 0 ? renew : Effect.fail(unavailable())
            )
        }))
        const { effect, end, seen } = yield* observed
        const fiber = yield* Effect.fork(store.execute(command, effect, { success, lease: 900 }))
        yield* pass(5_000, 50)
        assert.deepStrictEqual(seen, { runs: 1, interrupted: 0 })
        isDown = true
        yield* pass(500)
        assert.deepStrictEqual(seen, { runs: 1, interrupted: 0 })
        yield* pass(300)
        assert.strictEqual(seen.interrupted, 1)
        isDown = false
        yield* pass(1_500, 50)
        assert.strictEqual(seen.runs, 2)
        yield* Deferred.succeed(end, "second")
        assert.strictEqual(yield* Fiber.join(fiber), "second")
        assert.deepInclude(yield* stored(encoded), { status: "succeeded", attempts: 2 })
      })
    )
  }

  for (const [name, change] of [
    [
      "the answer to its claim",
      (slow: Slow) => (encoded: Encoded) => ({
        create: (command: CommandStoreEncoded.EncodedNewCommand, lease: CommandStoreEncoded.EncodedLease | null) =>
          slow(encoded.create(command, lease)),
        renew: () => Effect.fail(unavailable())
      })
    ],
    [
      "the answer to its renewal",
      (slow: Slow) => (encoded: Encoded) => {
        let renewals = 0
        return {
          renew: (request: Parameters<Encoded["renew"]>[0]) =>
            Effect.suspend(() => (renewals++ === 0 ? slow(encoded.renew(request)) : Effect.fail(unavailable())))
        }
      }
    ]
  ] as const) {
    it.effect(`ends here no later than in the store, however long ${name} takes`, () =>
      Effect.gen(function* () {
        // The store does it at once, and its answer takes 250 ms of the 900.
        const slow: Slow = (self) => Effect.zipLeft(self, Effect.sleep(250))
        const { encoded, store } = yield* setUp(change(slow))
        const { effect, seen } = yield* observed
        const fiber = yield* Effect.fork(store.execute(command, effect, { success, lease: 900 }))
        yield* turns(5)
        const leftMs: Array<number> = []
        yield* Effect.iterate(0, {
          while: (steps) => seen.interrupted === 0 && steps < 500,
          body: (steps) =>
            Effect.gen(function* () {
              leftMs.push(yield* leaseLeftMs(encoded))
              yield* TestClock.adjust(10)
              return steps + 1
            })
        })
        assert.strictEqual(seen.interrupted, 1)
        assert.isAbove(leftMs.at(-1) ?? 0, 0)
        assert.isBelow(leftMs.at(-1) ?? 0, 50)
        yield* Fiber.interruptFork(fiber)
      })
    )
  }

  it.effect("is kept when renewing it fails for a while that is shorter", () =>
    Effect.gen(function* () {
      let isDown = false
      const { store } = yield* setUp((encoded) => ({
        renew: (request) => Effect.suspend(() => (isDown ? Effect.fail(unavailable()) : encoded.renew(request)))
      }))
      const { effect, end, seen } = yield* observed
      const fiber = yield* Effect.fork(store.execute(command, effect, { success, lease: 900 }))
      for (let i = 0; i < 5; i++) {
        isDown = true
        yield* pass(350)
        isDown = false
        yield* pass(350)
      }
      assert.deepStrictEqual(seen, { runs: 1, interrupted: 0 })
      yield* Deferred.succeed(end, "first")
      assert.strictEqual(yield* Fiber.join(fiber), "first")
    })
  )

  /** Renewals wait for the gate, and cannot be interrupted there; giving back does not. */
  const heldRenewals = Effect.gen(function* () {
    const gate = yield* Deferred.make<void>()
    const { encoded, store } = yield* setUp((encoded) => ({
      renew: (request) =>
        request.leaseMs === 0
          ? encoded.renew(request)
          : Effect.uninterruptible(Effect.zipRight(Deferred.await(gate), encoded.renew(request)))
    }))
    return { encoded, gate, store }
  })

  it.effect("is given back after a renewal under way, which would lengthen it again", () =>
    Effect.gen(function* () {
      const { encoded, gate, store } = yield* heldRenewals
      const fail = yield* Deferred.make<never, string>()
      const fiber = yield* Effect.fork(store.execute(command, Deferred.await(fail), { success, lease: 900 }))
      yield* pass(310)
      yield* Deferred.fail(fail, "busy")
      yield* TestClock.adjust(10)
      assert.isNull(fiber.unsafePoll())
      yield* Deferred.succeed(gate, undefined)
      assert.deepStrictEqual(yield* Fiber.await(fiber), Exit.fail("busy"))
      yield* turns(30)
      assert.strictEqual(yield* leaseLeftMs(encoded), 0)
      assert.strictEqual(yield* store.execute(command, Effect.succeed("next"), { success }), "next")
    })
  )

  it.effect("is given back when its holder is interrupted during a renewal, which would lengthen it again", () =>
    Effect.gen(function* () {
      const { encoded, gate, store } = yield* heldRenewals
      const fiber = yield* Effect.fork(store.execute(command, Effect.never, { success, lease: 900 }))
      yield* pass(310)
      const interrupting = yield* Effect.fork(Fiber.interrupt(fiber))
      yield* TestClock.adjust(10)
      yield* Deferred.succeed(gate, undefined)
      yield* Fiber.join(interrupting)
      yield* turns(30)
      assert.strictEqual(yield* leaseLeftMs(encoded), 0)
    })
  )

  it.effect("does not hold who is interrupted while giving it back hangs, for more than a second", () =>
    Effect.gen(function* () {
      const gate = yield* Deferred.make<void>()
      const { encoded, store } = yield* setUp((encoded) => ({
        renew: (request) =>
          request.leaseMs > 0 ? encoded.renew(request) : Effect.zipRight(Deferred.await(gate), encoded.renew(request))
      }))
      const execute = store.execute(command, Effect.never, { success, lease: "1 hour" })
      const fiber = yield* Effect.fork(Effect.either(Effect.timeout(execute, "500 millis")))
      yield* pass(1_600, 50)
      const ended = yield* Fiber.join(fiber)
      assert.isTrue(Either.isLeft(ended) && Cause.isTimeoutException(ended.left))
      yield* Deferred.succeed(gate, undefined)
      yield* turns(30)
      assert.strictEqual(yield* leaseLeftMs(encoded), 0)
    })
  )

  for (const [how, before] of [
    ["before it is made", true],
    ["when it is made and its answer is under way", false]
  ] as const) {
    it.effect(`does not hold who is interrupted ${how}, and is given back when it comes`, () =>
      Effect.gen(function* () {
        const gate = yield* Deferred.make<void>()
        const { encoded, store } = yield* setUp((encoded) => ({
          create: (command, lease) =>
            before
              ? Effect.zipRight(Deferred.await(gate), encoded.create(command, lease))
              : Effect.zipLeft(encoded.create(command, lease), Deferred.await(gate))
        }))
        const execute = store.execute(command, Effect.die("must not run"), { success })
        const fiber = yield* Effect.fork(Effect.either(Effect.timeout(execute, "500 millis")))
        yield* pass(490)
        assert.isNull(fiber.unsafePoll())
        yield* pass(20)
        const ended = yield* Fiber.join(fiber)
        assert.isTrue(Either.isLeft(ended) && Cause.isTimeoutException(ended.left))
        yield* Deferred.succeed(gate, undefined)
        yield* turns(20)
        assert.strictEqual(yield* leaseLeftMs(encoded), 0)
        assert.strictEqual(yield* store.execute(command, Effect.succeed("next"), { success }), "next")
      })
    )
  }

  const Place = Schema.TaggedStruct("Place", { n: Schema.Number })
  const workedOff = (store: CommandStore.CommandStoreShape, run: Effect.Effect<void>) => {
    const handlers = [CommandWorker.handler(Place, () => run, { lease: "1 hour" })]
    const worker = CommandWorker.make({ name: "worker", tenantId: command.tenantId, handlers })
    return Effect.provideService(CommandWorker.catchUp(worker), CommandStore.CommandStore, store)
  }

  it.effect("of a worker whose take-over was made and its answer lost is given back", () =>
    Effect.gen(function* () {
      const lost = first<boolean, Errors.StoreFailure>(1, (take) => Effect.zipRight(take, Effect.fail(unknown)))
      const { encoded, store } = yield* setUp((encoded) => ({ takeOver: (request) => lost(encoded.takeOver(request)) }))
      yield* store.create(command)
      assert.strictEqual(yield* workedOff(store, Effect.die("must not run")), 0)
      assert.deepInclude(yield* stored(encoded), { status: "received", attempts: 1 })
      assert.strictEqual(yield* leaseLeftMs(encoded), 0)
    })
  )

  it.effect("of a worker that is interrupted during its take-over is given back when it comes", () =>
    Effect.gen(function* () {
      const gate = yield* Deferred.make<void>()
      const { encoded, store } = yield* setUp((encoded) => ({
        takeOver: (request) => Effect.zipLeft(encoded.takeOver(request), Deferred.await(gate))
      }))
      yield* store.create(command)
      const fiber = yield* Effect.fork(workedOff(store, Effect.die("must not run")))
      yield* turns(50)
      assert.isAbove(yield* leaseLeftMs(encoded), 0)
      yield* Fiber.interrupt(fiber)
      yield* Deferred.succeed(gate, undefined)
      yield* turns(50)
      assert.strictEqual(yield* leaseLeftMs(encoded), 0)
    })
  )

  it.effect("of another attempt is not given back by one who was interrupted while they waited for it", () =>
    Effect.gen(function* () {
      const gate = yield* Deferred.make<void>()
      const { encoded, store } = yield* setUp((encoded) => ({
        create: (command, lease) => Effect.zipRight(Deferred.await(gate), encoded.create(command, lease))
      }))
      const fiber = yield* Effect.fork(store.execute(command, Effect.never, { success }))
      yield* turns(5)
      yield* Fiber.interrupt(fiber)
      yield* encoded.create(port, leaseOf(10_000))
      yield* Deferred.succeed(gate, undefined)
      yield* turns(20)
      assert.strictEqual(yield* leaseLeftMs(encoded), 10_000)
    })
  )

  it.effect("leaves no timer behind, whatever ends the effect", () =>
    Effect.gen(function* () {
      const { other, store } = yield* setUp()
      const clock = yield* Effect.clock
      let started = 0
      let pending = 0
      const counting: Clock.Clock = Object.assign(Object.create(clock), {
        sleep: (duration: Duration.Duration) =>
          Effect.acquireUseRelease(
            Effect.sync(() => {
              started++
              pending++
            }),
            () => clock.sleep(duration),
            () => Effect.sync(() => pending--)
          )
      })
      yield* Effect.gen(function* () {
        for (const [i, effect] of [
          Effect.succeed("x"),
          Effect.fail("x"),
          Effect.die("x"),
          Effect.interrupt
        ].entries()) {
          const given = { ...command, id: `0192f0c1-2f6b-7000-8000-00000000001${i}` }
          yield* Effect.exit(store.execute(given, Effect.zipRight(turns(10), effect), { success }))
        }
        assert.isAtLeast(started, 4)
        assert.strictEqual(pending, 0)
        const holder = yield* Effect.fork(store.execute(command, Effect.never, { success }))
        yield* pass(10)
        const waiting = [
          yield* Effect.fork(store.execute(command, Effect.never, { success })),
          yield* Effect.fork(other.execute(command, Effect.never, { success }))
        ]
        yield* pass(100)
        assert.strictEqual(pending, 3)
        yield* Fiber.interruptAll(waiting)
        yield* Fiber.interrupt(holder)
        yield* pass(10)
        assert.strictEqual(pending, 0)
      }).pipe(Effect.withClock(counting))
    })
  )

  it.effect("of a fiber of the same process is not polled for", () =>
    Effect.gen(function* () {
      let gets = 0
      const { store } = yield* setUp((encoded) => ({
        get: (id) =>
          Effect.suspend(() => {
            gets++
            return encoded.get(id)
          })
      }))
      const { effect, end } = yield* observed
      const fibers = yield* Effect.forkAll(
        Array.from({ length: 10 }, () => store.execute(command, effect, { success, lease: "1 minute" }))
      )
      yield* pass(400)
      assert.strictEqual(gets, 0)
      yield* Deferred.succeed(end, "done")
      assert.deepStrictEqual(new Set(yield* Fiber.join(fibers)), new Set(["done"]))
    })
  )
})

describe("in a transaction", () => {
  /** COMMIT was sent, and its answer never came. */
  const commitLost = <A, E, R>(self: Effect.Effect<A, E, R>): Effect.Effect<A, E | Errors.StoreFailure, R> =>
    Effect.zipRight(self, Effect.fail(unknown))

  it.effect("an unknown COMMIT that happened is a success, and nothing runs again", () =>
    Effect.gen(function* () {
      const { encoded, store } = yield* setUp(() => ({ transaction: commitLost }))
      let runs = 0
      const effect = Effect.sync(() => `run ${++runs}`)
      assert.strictEqual(yield* store.execute(command, effect, { success, transaction: true }), "run 1")
      assert.deepInclude(yield* stored(encoded), { status: "succeeded", attempts: 1 })
    })
  )

  it.effect("an unknown COMMIT that did not happen is StoreUnavailable, and the next attempt runs at once", () =>
    Effect.gen(function* () {
      // What was rolled back was never there.
      const rolledBack = first<boolean, Errors.StoreFailure>(1, () => Effect.succeed(true))
      const { encoded, store } = yield* setUp((encoded) => ({
        finish: (request) => rolledBack(encoded.finish(request)),
        transaction: commitLost
      }))
      const error = yield* Effect.flip(store.execute(command, Effect.succeed("one"), { success, transaction: true }))
      assert.instanceOf(error, Errors.StoreUnavailable)
      assert.isTrue((error as Errors.StoreUnavailable).retryable)
      assert.deepInclude(yield* stored(encoded), { status: "received" })
      assert.strictEqual(yield* store.execute(command, Effect.succeed("two"), { success }), "two")
    })
  )

  it.effect("an unknown COMMIT stays unknown when the store is gone for good, but is asked for some times", () =>
    Effect.gen(function* () {
      let asked = 0
      const { store } = yield* setUp(() => ({
        renew: () =>
          Effect.suspend(() => {
            asked++
            return Effect.fail(unavailable())
          }),
        transaction: commitLost
      }))
      const fiber = yield* Effect.fork(
        Effect.flip(store.execute(command, Effect.succeed("one"), { success, transaction: true }))
      )
      yield* pass(5_000, 50)
      assert.instanceOf(yield* Fiber.join(fiber), Errors.CommitOutcomeUnknown)
      assert.isAbove(asked, 2)
    })
  )

  it.effect("what the transaction itself fails with is no outcome, whatever the Schema of failures", () =>
    Effect.gen(function* () {
      const begin = <A, E, R>(self: Effect.Effect<A, E, R>): Effect.Effect<A, E | Errors.StoreFailure, R> =>
        Effect.zipRight(Effect.fail(unavailable()), self)
      const { encoded, store } = yield* setUp(() => ({ transaction: begin }))
      const failure = Schema.Struct({ _tag: Schema.String }).pipe(Schema.annotations({ identifier: "Tagged" }))
      const failing = store.execute(command, Effect.fail({ _tag: "X" }), { success, failure, transaction: true })
      assert.strictEqual((yield* Effect.flip(failing))._tag, "StoreUnavailable")
      assert.deepInclude(yield* stored(encoded), { status: "received" })
    })
  )

  it.effect("a lease that cannot be renewed interrupts nothing: the write of the outcome decides", () =>
    Effect.gen(function* () {
      const { encoded, store } = yield* setUp((encoded) => ({
        renew: (request) => (request.leaseMs === 0 ? encoded.renew(request) : Effect.fail(unavailable()))
      }))
      const { effect, end, seen } = yield* observed
      const fiber = yield* Effect.fork(store.execute(command, effect, { success, lease: 300, transaction: true }))
      yield* pass(3_000, 50)
      assert.deepStrictEqual(seen, { runs: 1, interrupted: 0 })
      yield* Deferred.succeed(end, "first")
      assert.strictEqual(yield* Fiber.join(fiber), "first")
      assert.deepInclude(yield* stored(encoded), { status: "succeeded", attempts: 1 })
    })
  )

  it.effect(
    "an attempt that finishes after the one that took over fails inside, is rolled back, and gets the other's outcome",
    () =>
      Effect.gen(function* () {
        const ends: Array<string> = []
        const { encoded, store } = yield* setUp((encoded) => ({
          renew: (request) => (request.leaseMs === 0 ? encoded.renew(request) : Effect.fail(unavailable())),
          transaction: (self) => Effect.onExit(self, (exit) => Effect.sync(() => ends.push(exit._tag)))
        }))
        const { effect, end } = yield* observed
        const fiber = yield* Effect.fork(store.execute(command, effect, { success, lease: 300, transaction: true }))
        yield* pass(310)
        const { position } = yield* stored(encoded)
        const { id } = command
        assert.isTrue(yield* encoded.takeOver({ ...leaseOf(10_000), id, position, attempts: 1 }))
        assert.isTrue(yield* encoded.finish({ id, position, ...done("winner") }))
        yield* Deferred.succeed(end, "zombie")
        yield* pass(100)
        assert.deepStrictEqual(ends, ["Failure"])
        assert.strictEqual(yield* Fiber.join(fiber), "winner")
      })
  )
})

describe("what ends an effect is told apart from outcomes", () => {
  const failure = Schema.Unknown
  it.effect("a Schema that knows every failure makes none of an interrupt, a defect or a lost lease", () =>
    Effect.gen(function* () {
      let isDown = false
      const { encoded, store } = yield* setUp((encoded) => ({
        renew: (request) => Effect.suspend(() => (isDown ? Effect.fail(unavailable()) : encoded.renew(request)))
      }))
      for (const effect of [Effect.interrupt, Effect.die("bug")]) {
        const exit = yield* Effect.exit(store.execute(command, effect, { success, failure }))
        assert.isTrue(Exit.isFailure(exit) && Option.isNone(Cause.failureOption(exit.cause)))
        assert.deepInclude(yield* stored(encoded), { status: "received" })
      }
      const { effect, end, seen } = yield* observed
      const fiber = yield* Effect.fork(store.execute(command, effect, { success, failure, lease: 300 }))
      yield* pass(50)
      isDown = true
      yield* pass(300)
      assert.strictEqual(seen.interrupted, 1)
      isDown = false
      yield* pass(600)
      yield* Deferred.succeed(end, "second")
      assert.strictEqual(yield* Fiber.join(fiber), "second")
    })
  )
})

describe("an effect that fails", () => {
  it.effect("is reported to its caller, and not to the log as unhandled", () =>
    Effect.gen(function* () {
      const reports: Array<unknown> = []
      const logger = Logger.make(({ message }) => {
        reports.push(message)
      })
      const { store } = yield* setUp()
      for (const effect of [Effect.fail("no"), Effect.die("bug")]) {
        yield* Effect.exit(store.execute(command, effect, { success })).pipe(
          Effect.withUnhandledErrorLogLevel(Option.some(LogLevel.Fatal)),
          Effect.provide(Logger.replace(Logger.defaultLogger, logger))
        )
      }
      assert.deepStrictEqual(reports, [])
    })
  )
})

describe("interruption", () => {
  it.live(`at ${moments} random moments leaves no lease and no fiber, and the command can be executed`, () =>
    Effect.gen(function* () {
      const random = (max: number) => Math.floor(Math.random() * max)
      const slow = <A, E>(self: Effect.Effect<A, E>) =>
        Effect.suspend(() => Effect.zipLeft(Effect.zipRight(turns(random(4)), self), turns(random(4))))
      const reports: Array<unknown> = []
      const logger = Logger.make(({ message }) => {
        reports.push(message)
      })
      const counts = { received: 0, done: 0, none: 0 }
      for (let i = 0; i < moments; i++) {
        const { encoded, other, store } = yield* setUp((encoded) => ({
          create: (command, lease) => slow(encoded.create(command, lease)),
          takeOver: (request) => slow(encoded.takeOver(request)),
          renew: (request) => slow(encoded.renew(request)),
          finish: (request) => slow(encoded.finish(request))
        }))
        const before = random(3)
        if (before === 1) yield* other.create(command)
        const supervisor = yield* Supervisor.track
        let running = 0
        const effect = Effect.acquireUseRelease(
          Effect.sync(() => running++),
          () => Effect.zipRight(turns(random(8)), Effect.succeed("first")),
          () =>
            Effect.zipRight(
              turns(random(4)),
              Effect.sync(() => running--)
            )
        )
        const transaction = random(2) === 0
        const fiber = yield* Effect.fork(
          store
            .execute(command, effect, { success, lease: "1 hour", transaction })
            .pipe(
              Effect.supervised(supervisor),
              Effect.withUnhandledErrorLogLevel(Option.some(LogLevel.Fatal)),
              Effect.provide(Logger.replace(Logger.defaultLogger, logger))
            )
        )
        // Each as often as the others: what comes first is over after one.
        yield* turns(i % 40)
        yield* Fiber.interrupt(fiber)
        assert.strictEqual(running, 0, "the effect goes on")
        // A claim that was not waited for ends by itself, and gives back what it got.
        yield* turns(20)
        const left = (yield* supervisor.value).filter((fiber) => fiber.unsafePoll() === null)
        assert.strictEqual(left.length, 0, "fibers are left")
        const row = yield* encoded.get(command.id)
        assert.strictEqual(yield* leaseLeftMs(encoded), 0, "a lease is left")
        const answer = yield* store.execute(command, Effect.succeed("second"), { success, lease: "1 hour" })
        assert.strictEqual(answer, row?.status === "succeeded" ? "first" : "second")
        counts[row === null ? "none" : row.status === "received" ? "received" : "done"]++
      }
      assert.deepStrictEqual(reports, [])
      // Moments before, amid and after it were all met.
      const some = moments / 20
      assert.isTrue(counts.none > 0 && counts.received >= some && counts.done >= some, JSON.stringify(counts))
    })
  )
})

describe("types", () => {
  class A1 extends Schema.TaggedError<A1>()("A1", {}) {}
  class B1 extends Schema.TaggedError<B1>()("B1", {}) {}
  class Service extends Context.Tag("Service")<Service, string>() {}

  it.effect("an execution has the effect's result, its failures, and what it needs but CurrentCommand", () =>
    Effect.gen(function* () {
      const { store } = yield* setUp()
      const effect = Effect.gen(function* () {
        yield* CommandStore.CurrentCommand
        const text = yield* Service
        if (text === "a") return yield* new A1()
        if (text === "b") return yield* new B1()
        return new Date(0)
      })
      const some = store.execute(command, effect, { success: Schema.Date, failure: A1 })
      const none = store.execute(command, effect, { success: Schema.Date })
      type Expected = Effect.Effect<Date, A1 | B1 | CommandStore.ExecuteError, Service>
      expectTypeOf(some).toEqualTypeOf<Expected>()
      expectTypeOf(none).toEqualTypeOf<Expected>()
      const exit = yield* Effect.exit(Effect.provideService(some, Service, "a"))
      assert.deepStrictEqual(exit, Exit.fail(new A1()))
      const again = yield* Effect.exit(Effect.provideService(none, Service, "c"))
      assert.isTrue(Exit.isFailure(again))
    })
  )
})
