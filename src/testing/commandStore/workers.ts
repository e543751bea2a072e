/**
 * Contract of what workers need of a store, shown by workers: which commands are open to them and when, that leases are
 * respected, and what becomes of a command that fails. Time is the backend's, so pauses are short and dues far away.
 */
import assert from "node:assert/strict"
import { randomUUID } from "node:crypto"
import * as DateTime from "effect/DateTime"
import * as Deferred from "effect/Deferred"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import type * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { CommandStore, CurrentCommand, type NewCommand, type TypedCommand } from "../../CommandStore.js"
import * as CommandWorker from "../../CommandWorker.js"
import { anyCommand, type Encoded, relift } from "../../commandStore/CommandStoreEncoded.js"
import { InvalidInput, StoreError } from "../../Errors.js"
import { failsWith, portOf, range } from "../suite.js"
import type { Test } from "./fixtures.js"
import { freshTenant, newCommand, pausableClock, stored } from "./fixtures.js"

const Place = Schema.TaggedStruct("Place", { n: Schema.Number })
class Refused extends Schema.TaggedError<Refused>()("Refused", { why: Schema.String }) {}

type Handle<E> = (command: TypedCommand<typeof Place.Type>) => Effect.Effect<string, E, CurrentCommand>

interface WorkerOptions {
  readonly concurrency?: number
  readonly attempts?: number
  readonly pause?: Duration.DurationInput
  readonly pollInterval?: Duration.DurationInput
  readonly lease?: Duration.DurationInput
}

/** A worker of one tenant, so that tests have nothing to do with each other. */
const workerOf = <E>(tenantId: string, handle: Handle<E>, { lease = "1 hour", ...options }: WorkerOptions = {}) =>
  CommandWorker.make({
    name: tenantId,
    tenantId,
    handlers: [CommandWorker.handler(Place, handle, { success: Schema.String, failure: Refused, lease })],
    pause: 1,
    ...options
  })

const create = (fields: Partial<NewCommand>) =>
  Effect.flatMap(CommandStore, (store) => store.create(newCommand(fields)))

const inMs = (ms: number) => Effect.map(DateTime.now, (now) => DateTime.add(now, { millis: ms }))

/** Until nothing is open any more: what failed is due again in a moment. */
const worked = <R>(worker: CommandWorker.CommandWorker<R>, tenantId: string) =>
  Effect.repeat(
    Effect.zipRight(
      CommandWorker.catchUp(worker),
      Effect.flatMap(CommandStore, (store) => store.count({ tenantId, statuses: ["received"] }))
    ).pipe(Effect.zipLeft(Effect.sleep(2))),
    { until: (open) => open === 0 }
  ).pipe(
    Effect.timeoutFail({ duration: "2 minutes", onTimeout: () => new Error(`commands of ${tenantId} are still open`) })
  )

const hour = 3_600_000

type FailOnce = <A, E>(self: Effect.Effect<A, E>) => Effect.Effect<A, E | StoreError>

export const workers = (test: Test, layer: Layer.Layer<CommandStore, unknown>): void => {
  test("the time at which a command is due is kept, and that of the first counts; execute does not wait for it", () =>
    Effect.gen(function* () {
      const store = yield* CommandStore
      const dueAt = DateTime.unsafeMake(253_402_300_799_999)
      const given = newCommand({ dueAt })
      const created = yield* store.create(given)
      assert.equal(created.dueAt?.epochMillis, dueAt.epochMillis)
      const repeat = yield* store.create({ ...given, dueAt: DateTime.unsafeMake(1) })
      assert.equal(repeat.dueAt?.epochMillis, dueAt.epochMillis)
      assert.equal((yield* store.create({ ...given, dueAt: undefined })).dueAt?.epochMillis, dueAt.epochMillis)
      assert.equal((yield* stored(given.id)).dueAt?.epochMillis, dueAt.epochMillis)
      assert.equal(yield* store.execute(given, Effect.succeed(1), { success: Schema.Number }), 1)
      assert.equal((yield* create({})).dueAt, undefined)
    }))

  test("a worker executes what it has handlers for, in its tenant and domain, once; execute returns the outcome", () =>
    Effect.gen(function* () {
      const store = yield* CommandStore
      const tenantId = freshTenant()
      const given = range(1, 30).map((n) => newCommand({ tenantId, data: { n } }))
      for (const command of given) yield* store.create(command)
      const others = yield* Effect.all([
        create({ tenantId, type: "Other" }),
        create({ tenantId: freshTenant() }),
        create({ tenantId, domain: "invoice" })
      ])
      const done = yield* create({ tenantId })
      yield* store.update(done.id, { status: "succeeded" })
      const ran: Array<number> = []
      const handler = CommandWorker.handler(
        Place,
        ({ data: { n } }) => {
          ran.push(n)
          return n % 3 === 0 ? Effect.fail(new Refused({ why: `${n}` })) : Effect.succeed(`placed ${n}`)
        },
        { success: Schema.String, failure: Refused }
      )
      const worker = CommandWorker.make({ name: "w", tenantId, domain: "order", handlers: [handler], concurrency: 7 })
      assert.equal(yield* CommandWorker.catchUp(worker), 30)
      assert.equal(yield* CommandWorker.catchUp(worker), 0)
      assert.deepEqual(
        ran.sort((a, b) => a - b),
        range(1, 30)
      )
      const never = Effect.die("must not run")
      const options = { success: Schema.String, failure: Refused }
      for (const [i, command] of given.entries()) {
        const outcome = yield* Effect.either(store.execute(command, never, options))
        const n = i + 1
        if (outcome._tag === "Right") assert.deepEqual([n % 3 === 0, outcome.right], [false, `placed ${n}`])
        else assert.deepEqual([n % 3 === 0, outcome.left], [true, new Refused({ why: `${n}` })])
        assert.equal((yield* stored(command.id)).attempts, 1)
      }
      for (const { id } of others) assert.deepEqual((yield* stored(id)).attempts, 0)
    }))

  test("what is not due is left alone, and what is comes in the order in which it was due", () =>
    Effect.gen(function* () {
      const tenantId = freshTenant()
      const [later, past, createdAt] = yield* Effect.all([inMs(hour), inMs(-hour), inMs(-2 * hour)])
      yield* create({ tenantId, data: { n: 1 }, dueAt: later })
      yield* create({ tenantId, data: { n: 2 } })
      yield* create({ tenantId, data: { n: 3 }, dueAt: past })
      yield* create({ tenantId, data: { n: 4 }, createdAt, dueAt: later })
      yield* create({ tenantId, data: { n: 5 }, createdAt })
      yield* create({ tenantId, data: { n: 6 }, createdAt })
      const ran: Array<number> = []
      const worker = workerOf(tenantId, ({ data }) => Effect.sync(() => `${ran.push(data.n)}`), { concurrency: 1 })
      assert.equal(yield* CommandWorker.catchUp(worker), 4)
      assert.deepEqual(ran, [5, 6, 3, 2])
    }))

  test("what is open tells since when it is due, and what another executes takes no place among it", () =>
    Effect.gen(function* () {
      const store = yield* CommandStore
      const port = yield* portOf<Encoded>((keep) => relift(store, keep))
      const tenantId = freshTenant()
      const [longAgo, before, soon] = yield* Effect.all([inMs(-3 * hour), inMs(-hour), inMs(hour)])
      const { id, position } = yield* create({ tenantId, createdAt: longAgo })
      assert.ok(yield* port.takeOver({ id, position, attempts: 0, token: randomUUID(), leaseMs: hour }))
      yield* create({ tenantId, createdAt: longAgo, dueAt: soon })
      yield* create({ tenantId, createdAt: longAgo, dueAt: before })
      yield* create({ tenantId, createdAt: longAgo })
      const open = yield* port.open({ filter: { ...anyCommand, tenantId }, limit: 3 })
      // The clocks of a backend and of its caller may differ by a little.
      assert.deepEqual(
        open.map(({ dueInMs }) => Math.round(dueInMs / hour)),
        [-3, -1, 1]
      )
    }))

  test("what has no due time is due at once, although the clock that says when it was created is ahead", () =>
    Effect.gen(function* () {
      const tenantId = freshTenant()
      yield* create({ tenantId, data: { n: 1 }, createdAt: yield* inMs(hour) })
      assert.equal(yield* CommandWorker.catchUp(workerOf(tenantId, () => Effect.succeed(""))), 1)
    }))

  test("a running worker sees what is created beside it at once, and what is due when it is, whatever it polls", () =>
    Effect.gen(function* () {
      const tenantId = freshTenant()
      const [first, second] = yield* Effect.all([Deferred.make<number>(), Deferred.make<number>()])
      const handle = ({ data, dueAt }: TypedCommand<typeof Place.Type>) =>
        Effect.zipRight(
          Effect.flatMap(DateTime.now, (now) =>
            Deferred.succeed(data.n === 1 ? first : second, now.epochMillis - (dueAt?.epochMillis ?? 0))
          ),
          Effect.succeed("")
        )
      yield* Effect.forkScoped(CommandWorker.run(workerOf(tenantId, handle, { pollInterval: "1 hour" })))
      yield* create({ tenantId, data: { n: 2 }, dueAt: yield* inMs(400) })
      yield* create({ tenantId, data: { n: 1 } })
      yield* Deferred.await(first)
      // The clocks of a backend and of its caller may differ by a little.
      assert.ok((yield* Deferred.await(second)) > -50)
    }))

  test("a running worker tries again what has failed when its pause is over, whatever it polls", () =>
    Effect.gen(function* () {
      const tenantId = freshTenant()
      const again = yield* Deferred.make<void>()
      let runs = 0
      const handle: Handle<string> = () =>
        Effect.suspend(() =>
          ++runs === 1 ? Effect.fail("not yet") : Effect.as(Deferred.succeed(again, undefined), "")
        )
      const worker = workerOf(tenantId, handle, { pollInterval: "1 hour", pause: 50 })
      yield* Effect.forkScoped(CommandWorker.run(worker))
      yield* create({ tenantId, data: { n: 1 } })
      yield* Deferred.await(again)
    }))

  test("at most so many are executed at the same time, and one that takes long holds up no others", () =>
    Effect.gen(function* () {
      const tenantId = freshTenant()
      const end = yield* Deferred.make<void>()
      let [running, most, ended] = [0, 0, 0]
      const handle: Handle<never> = ({ data }) =>
        Effect.acquireUseRelease(
          Effect.sync(() => {
            most = Math.max(most, ++running)
          }),
          () => (data.n === 1 ? Deferred.await(end) : Effect.sleep(1)),
          () =>
            Effect.sync(() => {
              running--
              // All others have ended meanwhile.
              if (++ended === 19) Deferred.unsafeDone(end, Exit.void)
            })
        ).pipe(Effect.as(""))
      for (const n of range(1, 20)) yield* create({ tenantId, data: { n } })
      assert.equal(yield* CommandWorker.catchUp(workerOf(tenantId, handle, { concurrency: 3 })), 20)
      assert.equal(most, 3)
    }))

  test("what another executes is left alone, and taken over as the next attempt when its lease has ended", () =>
    Effect.gen(function* () {
      const tenantId = freshTenant()
      const given = newCommand({ tenantId, data: { n: 1 } })
      const started = yield* Deferred.make<void>()
      const { clock, pause } = pausableClock()
      // A process that is gone: it renews nothing.
      const holder = Effect.flatMap(CommandStore, (store) =>
        store.execute(
          given,
          Effect.zipRight(pause, Effect.zipRight(Deferred.succeed(started, undefined), Effect.never)),
          {
            lease: 1_000
          }
        )
      )
      yield* Effect.provide(holder, layer).pipe(Effect.withClock(clock), Effect.forkScoped)
      yield* Deferred.await(started)
      const attempts: Array<number> = []
      const handle: Handle<never> = () =>
        Effect.map(CurrentCommand, ({ attempt }) => {
          attempts.push(attempt)
          return "taken over"
        })
      const worker = workerOf(tenantId, handle)
      assert.equal(yield* CommandWorker.catchUp(worker), 0)
      yield* worked(worker, tenantId)
      assert.deepEqual(attempts, [2])
      assert.deepEqual((yield* stored(given.id)).outcome, Option.some("taken over"))
    }))

  test("two workers execute no command both", () =>
    Effect.gen(function* () {
      const tenantId = freshTenant()
      for (const n of range(1, 50)) yield* create({ tenantId, data: { n } })
      const ran: Array<number> = []
      const handle: Handle<never> = ({ data }) => Effect.as(Effect.yieldNow(), `${ran.push(data.n)}`)
      const catchUp = CommandWorker.catchUp(workerOf(tenantId, handle, { concurrency: 5 }))
      const done = yield* Effect.all([catchUp, Effect.provide(catchUp, layer)], { concurrency: 2 })
      assert.equal(done[0] + done[1], 50)
      assert.deepEqual(
        ran.sort((a, b) => a - b),
        range(1, 50)
      )
    }))

  test("what fails is tried again after a pause, given up after the last attempt, and no other command suffers", () =>
    Effect.gen(function* () {
      const store = yield* CommandStore
      const tenantId = freshTenant()
      const failures: ReadonlyArray<Effect.Effect<string, unknown>> = [
        Effect.fail("no outcome"),
        Effect.die(new Error("a defect")),
        Effect.interrupt,
        Effect.suspend((): Effect.Effect<string> => {
          throw new Error("thrown")
        })
      ]
      const given = range(0, 4).map((n) => newCommand({ tenantId, data: n === 4 ? { n: "unfit" } : { n } }))
      for (const command of given) yield* store.create(command)
      const good = yield* create({ tenantId, data: { n: 9 } })
      const runs = new Map<number, number>()
      const handle: Handle<unknown> = ({ data: { n } }) => {
        runs.set(n, (runs.get(n) ?? 0) + 1)
        return failures[n] ?? Effect.succeed("done")
      }
      yield* worked(workerOf(tenantId, handle, { attempts: 3 }), tenantId)
      assert.deepEqual([...runs].sort(), [...range(0, 3).map((n) => [n, 3]), [9, 1]])
      assert.equal((yield* stored(good.id)).status, "succeeded")
      const never = Effect.die("must not run")
      for (const command of given) {
        const { attempts, finishedAt, status } = yield* stored(command.id)
        assert.deepEqual([status, attempts, finishedAt !== undefined], ["failed", 3, true])
        const told = yield* failsWith(store.execute(command, never, { success: Schema.String }), "CommandDecodeError")
        assert.match(told.message, /given up after 3 attempts/)
      }
      // Opened again it gets one more attempt.
      const [first] = given as [NewCommand]
      yield* store.update(first.id, { status: "received" })
      yield* worked(
        workerOf(tenantId, () => Effect.succeed("mended"), { attempts: 3 }),
        tenantId
      )
      assert.deepEqual((yield* stored(first.id)).outcome, Option.some("mended"))
    }))

  test("a store that fails is no outcome, even where the handler's failures may be anything: tried after a pause", () =>
    Effect.gen(function* () {
      const given = yield* CommandStore
      const down = new StoreError({ operation: "test", cause: new Error("down") })
      const cases: ReadonlyArray<readonly [transaction: boolean, (port: Encoded, failOnce: FailOnce) => Encoded]> = [
        [false, (port, failOnce) => ({ ...port, takeOver: (request) => failOnce(port.takeOver(request)) })],
        [false, (port, failOnce) => ({ ...port, finish: (request) => failOnce(port.finish(request)) })],
        [
          true,
          (port, failOnce) => ({
            ...port,
            transaction: (self) => port.transaction(Effect.tap(self, failOnce(Effect.void)))
          })
        ]
      ]
      for (const [transaction, wrap] of cases) {
        let failures = 0
        const once = Effect.suspend(() => (failures++ === 0 ? Effect.fail(down) : Effect.void))
        const failOnce: FailOnce = (self) => Effect.zipRight(once, self)
        const store = yield* relift(given, (port) => Effect.succeed(wrap(port, failOnce)))
        const tenantId = freshTenant()
        const { id } = yield* create({ tenantId, data: { n: 1 } })
        const handler = CommandWorker.handler(Place, () => Effect.void, { failure: Schema.Unknown, transaction })
        const worker = CommandWorker.make({ name: "w", tenantId, pause: "1 hour", handlers: [handler] })
        assert.equal(yield* Effect.provideService(CommandWorker.catchUp(worker), CommandStore, store), 0)
        const { dueAt, status } = yield* stored(id)
        assert.deepEqual([failures, status, dueAt !== undefined], [1, "received", true])
      }
    }))

  test("one that cannot be given up is put off for the doubled pause; its end says how many attempts there were", () =>
    Effect.gen(function* () {
      const store = yield* CommandStore
      const port = yield* portOf<Encoded>((keep) => relift(store, keep))
      const down = Effect.fail(new StoreError({ operation: "close", cause: new Error("down") }))
      const closing = yield* relift(store, (port) => Effect.succeed({ ...port, close: () => down }))
      const minute = 60_000
      const tenantId = freshTenant()
      const given = newCommand({ tenantId, data: { n: 1 } })
      const { id, position } = yield* store.create(given)
      // An attempt that was interrupted.
      const token = randomUUID()
      assert.ok(yield* port.takeOver({ id, position, attempts: 0, token, leaseMs: hour }))
      assert.ok(yield* port.renew({ id, token, leaseMs: 0 }))
      let runs = 0
      const handle: Handle<string> = () => Effect.suspend(() => Effect.fail(`${runs++}`))
      const worker = workerOf(tenantId, handle, { attempts: 1, pause: minute })
      const catchUp = Effect.provideService(CommandWorker.catchUp(worker), CommandStore, closing)
      assert.deepEqual([yield* catchUp, yield* catchUp, runs], [0, 0, 1])
      const filter = { ...anyCommand, tenantId }
      const [putOff] = yield* port.open({ filter, limit: 1 })
      assert.ok(putOff !== undefined && putOff.dueInMs > minute && putOff.dueInMs <= 2 * minute)

      assert.ok(yield* port.postpone({ id, position, dueInMs: 0 }))
      assert.deepEqual([yield* CommandWorker.catchUp(worker), runs], [0, 2])
      const told = yield* failsWith(store.execute(given, Effect.void), "CommandDecodeError")
      assert.match(told.message, /given up after 3 attempts/)
    }))

  test("a command whose last attempt died with its process is closed before it takes another with it", () =>
    Effect.gen(function* () {
      const tenantId = freshTenant()
      const store = yield* CommandStore
      const port = yield* portOf<Encoded>((keep) => relift(store, keep))
      const { id, position } = yield* create({ tenantId, data: { n: 1 } })
      for (const attempts of [0, 1]) {
        assert.ok(yield* port.takeOver({ id, position, attempts, token: randomUUID(), leaseMs: 1 }))
        yield* Effect.sleep(5)
      }
      yield* worked(
        workerOf(tenantId, () => Effect.die("must not run"), { attempts: 2 }),
        tenantId
      )
      const { attempts, outcome, status } = yield* stored(id)
      assert.deepEqual([attempts, status, Option.isSome(outcome)], [2, "failed", true])
    }))

  test("a worker that is interrupted interrupts its handlers and gives their leases back", () =>
    Effect.gen(function* () {
      const store = yield* CommandStore
      const tenantId = freshTenant()
      const given = newCommand({ tenantId, data: { n: 1 } })
      const [started, ended] = yield* Effect.all([Deferred.make<void>(), Deferred.make<void>()])
      const handle: Handle<never> = () =>
        Effect.zipRight(Deferred.succeed(started, undefined), Effect.never).pipe(
          Effect.onInterrupt(() => Deferred.succeed(ended, undefined))
        )
      const running = yield* Effect.fork(CommandWorker.run(workerOf(tenantId, handle)))
      yield* store.create(given)
      yield* Deferred.await(started)
      yield* Fiber.interrupt(running)
      yield* Deferred.await(ended)
      assert.equal((yield* stored(given.id)).status, "received")
      // Its lease is of an hour.
      assert.equal(yield* store.execute(given, Effect.succeed(2), { success: Schema.Number }), 2)
    }))

  test("a handler that asks for its own command is told so, and does not wait for itself", () =>
    Effect.gen(function* () {
      const store = yield* CommandStore
      const tenantId = freshTenant()
      const given = newCommand({ tenantId, data: { n: 1 } })
      yield* store.create(given)
      const handle: Handle<unknown> = () =>
        Effect.map(Effect.flip(store.execute(given, Effect.void)), (error) => String(error instanceof InvalidInput))
      assert.equal(yield* CommandWorker.catchUp(workerOf(tenantId, handle)), 1)
      assert.deepEqual((yield* stored(given.id)).outcome, Option.some("true"))
    }))

  test("a deleted command is executed by no worker, and not stored again", () =>
    Effect.gen(function* () {
      const store = yield* CommandStore
      const tenantId = freshTenant()
      const [kept, deleted] = [newCommand({ tenantId, data: { n: 1 } }), newCommand({ tenantId, data: { n: 2 } })]
      yield* store.create(kept)
      yield* store.create(deleted)
      const ran: Array<number> = []
      const handle: Handle<unknown> = ({ data }) => {
        ran.push(data.n)
        return Effect.as(store.delete(deleted.id), "")
      }
      yield* CommandWorker.catchUp(workerOf(tenantId, handle, { concurrency: 1 }))
      assert.deepEqual([ran, yield* store.count({ tenantId })], [[1], 1])
    }))

  test("a cancelled command is executed by nobody; what is done, runs, or is not there cannot be cancelled", () =>
    Effect.gen(function* () {
      const store = yield* CommandStore
      const tenantId = freshTenant()
      const given = newCommand({ tenantId, data: { n: 1 } })
      yield* store.create({ ...given, dueAt: yield* inMs(-1) })
      assert.equal(yield* store.cancel(given.id), true)
      assert.equal(yield* store.cancel(given.id), false)
      const never = Effect.die("must not run")
      assert.equal(yield* CommandWorker.catchUp(workerOf(tenantId, () => never)), 0)
      for (const options of [{}, { failure: Refused }]) {
        const told = yield* failsWith(store.execute(given, never, options), "CommandDecodeError")
        assert.match(told.message, /cancelled/)
      }
      assert.equal((yield* store.create(given)).status, "failed")

      const done = newCommand({ tenantId })
      yield* store.execute(done, Effect.succeed(1), { success: Schema.Number })
      assert.equal(yield* store.cancel(done.id), false)
      assert.equal(yield* store.execute(done, never, { success: Schema.Number }), 1)
      assert.equal(yield* store.cancel(randomUUID()), false)

      const running = newCommand({ tenantId })
      const cancelled = store.execute(running, store.cancel(running.id), { success: Schema.Boolean })
      assert.equal(yield* cancelled, false)
      assert.equal((yield* stored(running.id)).status, "succeeded")
    }))

  test("a service that was put together by hand is refused, since it does not show its open commands", () =>
    Effect.gen(function* () {
      const store = yield* CommandStore
      const worker = workerOf(freshTenant(), () => Effect.succeed(""))
      const refused = Effect.provideService(CommandWorker.catchUp(worker), CommandStore, { ...store })
      yield* failsWith(refused, "InvalidInput")
    }))
}
