/**
 * Contract of `execute` while nobody dies: once per id, outcomes that come back as what they were, and what ends an
 * attempt without one. Leases are long here, so that what is not given back shows as a test that does not end.
 */
import assert from "node:assert/strict"
import { randomUUID } from "node:crypto"
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import type * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { CommandDecodeError, CommandStore, CurrentCommand } from "../../CommandStore.js"
import { InvalidInput } from "../../Errors.js"
import type { Json } from "../../Json.js"
import * as Uuid from "../../Uuid.js"
import { failsWith, range } from "../suite.js"
import { clashes } from "./create.js"
import type { Test } from "./fixtures.js"
import { newCommand, stored, streamOf, turns } from "./fixtures.js"

class Rejected extends Schema.TaggedError<Rejected>()("Rejected", {
  at: Schema.Date,
  left: Schema.Option(Schema.Int)
}) {}
class Refused extends Schema.TaggedError<Refused>()("Refused", { why: Schema.String }) {}
class Receipt extends Schema.Class<Receipt>("Receipt")({ id: Schema.NumberFromString, paidAt: Schema.Date }) {
  get label(): string {
    return `receipt ${this.id}`
  }
}

export const lease = "1 hour"

export const execute = (test: Test, layer: Layer.Layer<CommandStore, unknown>): void => {
  test("an effect runs once among 100 fibers of two instances, and all get its outcome", () =>
    Effect.gen(function* () {
      const store = yield* CommandStore
      const given = newCommand()
      let runs = 0
      const effect = Effect.zipRight(
        turns(20),
        Effect.sync(() => ++runs)
      )
      const execute = Effect.flatMap(CommandStore, (store) =>
        store.execute(given, effect, { success: Schema.Number, lease })
      )
      const half = Effect.all(
        Array.from({ length: 50 }, () => execute),
        { concurrency: "unbounded" }
      )
      const answers = yield* Effect.all([half, Effect.provide(half, layer)], { concurrency: 2 })
      assert.equal(runs, 1)
      assert.deepEqual(new Set(answers.flat()), new Set([1]))
      assert.equal(yield* execute, 1)
      const command = yield* stored(given.id)
      assert.deepEqual([command.status, command.outcome, command.attempts], ["succeeded", Option.some(1), 1])
      assert.ok(command.finishedAt !== undefined)
      assert.equal(yield* store.count({ tenantId: given.tenantId }), 1)
    }))

  test("commands of different ids run at the same time", () =>
    Effect.gen(function* () {
      const store = yield* CommandStore
      const both = yield* Effect.all([Deferred.make<void>(), Deferred.make<void>()])
      yield* Effect.all(
        both.map((mine, i) =>
          store.execute(
            newCommand(),
            Effect.zipRight(Deferred.succeed(mine, undefined), Deferred.await(both[1 - i] as Deferred.Deferred<void>)),
            { success: Schema.Void, lease }
          )
        ),
        { concurrency: 2 }
      )
    }))

  test("while the effect runs the command is received, and CurrentCommand tells it its id and attempt", () =>
    Effect.gen(function* () {
      const store = yield* CommandStore
      const given = newCommand()
      const effect = Effect.gen(function* () {
        const { attempt, id } = yield* CurrentCommand
        const { attempts, finishedAt, outcome, status } = Option.getOrThrow(yield* store.get(given.id))
        assert.deepEqual([status, attempts, outcome, finishedAt], ["received", 1, Option.none(), undefined])
        return [id, attempt] as const
      })
      const success = Schema.Tuple(Schema.String, Schema.Number)
      assert.deepEqual(yield* store.execute(given, effect, { success, lease }), [given.id, 1])
    }))

  test("a command that was created before is executed, as its first attempt", () =>
    Effect.gen(function* () {
      const store = yield* CommandStore
      const given = newCommand()
      yield* store.create(given)
      assert.equal((yield* stored(given.id)).attempts, 0)
      const attempt = Effect.map(CurrentCommand, ({ attempt }) => attempt)
      assert.equal(yield* store.execute(given, attempt, { success: Schema.Number, lease }), 1)
    }))

  for (const [field, change] of clashes) {
    test(`a command with another ${field} is refused, whether its id is done or not, and nothing runs`, () =>
      Effect.gen(function* () {
        const store = yield* CommandStore
        const given = newCommand({ data: { a: 1, b: 2 }, metadata: { trace: "t" } })
        let runs = 0
        const run = Effect.sync(() => ++runs)
        const refused = failsWith(
          store.execute({ ...given, ...change }, run, { success: Schema.Number, lease }),
          "DuplicateCommand"
        )
        yield* store.create(given)
        assert.ok((yield* refused).why.includes(field))
        assert.equal((yield* stored(given.id)).attempts, 0)
        yield* store.execute(given, run, { success: Schema.Number, lease })
        yield* refused
        assert.equal(runs, 1)
      }))
  }

  const successes: ReadonlyArray<readonly [string, Schema.Schema<unknown, unknown>, unknown, Option.Option<unknown>]> =
    [
      ["a number", Schema.Number as never, 42, Option.some(42)],
      ["a Date", Schema.Date as never, new Date(1_700_000_000_123), Option.some("2023-11-14T22:13:20.123Z")],
      ["an Option", Schema.Option(Schema.Date) as never, Option.none(), Option.some({ _tag: "None" })],
      [
        "a class",
        Receipt as never,
        new Receipt({ id: 7, paidAt: new Date(0) }),
        Option.some({ id: "7", paidAt: "1970-01-01T00:00:00.000Z" })
      ],
      [
        "a Map",
        Schema.Map({ key: Schema.String, value: Schema.BigInt }) as never,
        new Map([["a", 1n]]),
        Option.some([["a", "1"]])
      ],
      ["null", Schema.Null as never, null, Option.some(null)],
      ["nothing", Schema.Void as never, undefined, Option.none()]
    ]
  for (const [name, success, value, encoded] of successes) {
    test(`a success comes back by its Schema: ${name}`, () =>
      Effect.gen(function* () {
        const store = yield* CommandStore
        const given = newCommand()
        assert.deepEqual(yield* store.execute(given, Effect.succeed(value), { success, lease }), value)
        const { outcome, status } = yield* stored(given.id)
        assert.deepEqual([status, outcome], ["succeeded", encoded])
        const again = yield* store.execute(given, Effect.die("must not run"), { success, lease })
        assert.deepEqual(again, value)
        if (value instanceof Receipt) assert.equal((again as Receipt).label, "receipt 7")
      }))
  }

  test("a failure that is an outcome comes back as the failure by its Schema, and others do not run again", () =>
    Effect.gen(function* () {
      const store = yield* CommandStore
      const given = newCommand()
      const rejected = new Rejected({ at: new Date(5), left: Option.some(3) })
      let runs = 0
      const effect = Effect.suspend(() => {
        runs++
        return Effect.fail(rejected)
      })
      const execute = store.execute(given, effect, {
        success: Schema.Number,
        failure: Schema.Union(Rejected, Refused),
        lease
      })
      const errors = yield* Effect.all(
        Array.from({ length: 10 }, () => Effect.flip(execute)),
        { concurrency: 10 }
      )
      assert.equal(runs, 1)
      for (const error of errors) {
        assert.ok(error instanceof Rejected)
        assert.deepEqual([error.at, error.left], [rejected.at, rejected.left])
      }
      const { outcome, status } = yield* stored(given.id)
      assert.equal(status, "failed")
      const left = { _tag: "Some", value: 3 }
      assert.deepEqual(outcome, Option.some({ _tag: "Rejected", at: "1970-01-01T00:00:00.005Z", left }))
    }))

  test("a failure of undefined is an outcome when its Schema says so", () =>
    Effect.gen(function* () {
      const store = yield* CommandStore
      const given = newCommand()
      const execute = (error: undefined) =>
        Effect.exit(
          store.execute(given, Effect.fail(error), { success: Schema.Void, failure: Schema.Undefined, lease })
        )
      assert.deepEqual(yield* execute(undefined), Exit.fail(undefined))
      assert.deepEqual(yield* execute(undefined), Exit.fail(undefined))
      assert.equal((yield* stored(given.id)).attempts, 1)
    }))

  const ends: ReadonlyArray<
    readonly [name: string, Effect.Effect<number, Refused>, is: (cause: Cause.Cause<unknown>) => boolean]
  > = [
    [
      "a failure that is no outcome",
      Effect.fail(new Refused({ why: "busy" })),
      (cause) => Cause.squash(cause) instanceof Refused
    ],
    ["a defect", Effect.die("bug"), (cause) => Cause.squash(cause) === "bug"],
    ["an interrupt from within", Effect.interrupt, Cause.isInterruptedOnly]
  ]
  for (const failure of [undefined, Schema.Union(Rejected, Schema.Undefined)]) {
    for (const [name, effect, is] of ends) {
      const given = failure === undefined ? "no Schema of failures" : "a Schema of failures"
      test(`${name} is passed on with ${given} and leaves the command received, for the next at once`, () =>
        Effect.gen(function* () {
          const store = yield* CommandStore
          const given = newCommand()
          const options = { success: Schema.Number, failure, lease } as const
          for (const attempts of [1, 2]) {
            const exit = yield* Effect.exit(store.execute(given, effect, options))
            assert.ok(Exit.isFailure(exit) && is(exit.cause), String(exit))
            const command = yield* stored(given.id)
            assert.deepEqual([command.status, command.attempts, command.outcome], ["received", attempts, Option.none()])
          }
          assert.equal(yield* store.execute(given, Effect.succeed(9), { success: Schema.Number, lease }), 9)
          assert.equal((yield* stored(given.id)).attempts, 3)
        }))
    }
  }

  test("a defect beside a failure that would be an outcome is passed on, and is none", () =>
    Effect.gen(function* () {
      const store = yield* CommandStore
      const given = newCommand()
      const effect = Effect.ensuring(Effect.fail(new Refused({ why: "no" })), Effect.die("bug"))
      const exit = yield* Effect.exit(store.execute(given, effect, { success: Schema.Void, failure: Refused, lease }))
      assert.ok(Exit.isFailure(exit) && Cause.isDie(exit.cause), String(exit))
      assert.equal((yield* stored(given.id)).status, "received")
    }))

  test("a failure that is an outcome is one too when it has interrupted its neighbours", () =>
    Effect.gen(function* () {
      const store = yield* CommandStore
      const given = newCommand()
      const effect = Effect.all([Effect.never, Effect.fail(new Refused({ why: "no" }))], {
        concurrency: 2,
        discard: true
      })
      const options = { success: Schema.Void, failure: Refused, lease } as const
      for (const _ of [1, 2]) yield* failsWith(store.execute(given, effect, options), "Refused")
      assert.deepEqual((yield* stored(given.id)).attempts, 1)
    }))

  test("an interrupt gives the command to the one that waits, but not before the effect has ended", () =>
    Effect.gen(function* () {
      const store = yield* CommandStore
      const given = newCommand()
      const started = yield* Deferred.make<void>()
      let running = 0
      let cleaned = false
      const cleanup = Effect.zipRight(
        turns(50),
        Effect.sync(() => {
          cleaned = true
          running--
        })
      )
      const first = yield* Effect.sync(() => running++).pipe(
        Effect.zipRight(Deferred.succeed(started, undefined)),
        Effect.zipRight(Effect.never),
        Effect.onInterrupt(() => cleanup),
        (effect) => store.execute(given, effect, { success: Schema.Number, lease }),
        Effect.fork
      )
      yield* Deferred.await(started)
      const other = Effect.sync(() => {
        assert.equal(running, 0, "two attempts run at the same time")
        return 2
      })
      const waiting = yield* Effect.fork(store.execute(given, other, { success: Schema.Number, lease }))
      yield* turns(20)
      yield* Fiber.interrupt(first)
      assert.ok(cleaned, "the interrupt must wait for the effect to end")
      assert.equal(yield* Fiber.join(waiting), 2)
      assert.equal((yield* stored(given.id)).attempts, 2)
    }))

  test("one that waits can be interrupted, and the one that runs does not notice", () =>
    Effect.gen(function* () {
      const store = yield* CommandStore
      const given = newCommand()
      const started = yield* Deferred.make<void>()
      const end = yield* Deferred.make<number>()
      const options = { success: Schema.Number, lease } as const
      const effect = Effect.zipRight(Deferred.succeed(started, undefined), Deferred.await(end))
      const first = yield* Effect.fork(store.execute(given, effect, options))
      yield* Deferred.await(started)
      const waiting = yield* Effect.fork(store.execute(given, Effect.succeed(2), options))
      yield* turns(20)
      yield* Fiber.interrupt(waiting)
      yield* Deferred.succeed(end, 1)
      assert.equal(yield* Fiber.join(first), 1)
    }))

  const Note = Schema.Struct({ note: Schema.optional(Schema.String), of: Schema.UndefinedOr(Schema.String) })
  const mended: ReadonlyArray<readonly [name: string, Schema.Schema<unknown, unknown>, unknown, stored: Json]> = [
    ["properties that are undefined", Note as never, { note: undefined, of: undefined }, {}],
    ["a property of a list's element that is undefined", Schema.Array(Note) as never, [{ of: undefined }], [{}]],
    ["-0", Schema.Struct({ n: Schema.Number }) as never, { n: -0 }, { n: 0 }]
  ]
  for (const [name, schema, value, written] of mended) {
    test(`a success with ${name} is stored as JSON has it, and its effect is done once`, () =>
      Effect.gen(function* () {
        const store = yield* CommandStore
        const given = newCommand()
        let runs = 0
        const execute = store.execute(
          given,
          Effect.sync(() => {
            runs++
            return value
          }),
          { success: schema, lease }
        )
        assert.equal(yield* execute, value)
        assert.deepEqual(JSON.parse(JSON.stringify(yield* execute)), written)
        assert.equal(runs, 1)
        assert.deepEqual((yield* stored(given.id)).outcome, Option.some(written))
      }))

    test(`a failure with ${name} is stored as JSON has it, and its effect is done once`, () =>
      Effect.gen(function* () {
        const store = yield* CommandStore
        const given = newCommand()
        let runs = 0
        const effect = Effect.suspend(() => {
          runs++
          return Effect.fail(value)
        })
        const execute = Effect.flip(store.execute(given, effect, { failure: schema, lease }))
        assert.equal(yield* execute, value)
        assert.deepEqual(JSON.parse(JSON.stringify(yield* execute)), written)
        assert.equal(runs, 1)
        const { outcome, status } = yield* stored(given.id)
        assert.deepEqual([status, outcome], ["failed", Option.some(written)])
      }))
  }

  const cyclic: { self?: unknown } = {}
  cyclic.self = cyclic
  const unwritable: ReadonlyArray<readonly [name: string, Schema.Schema<unknown, unknown>, unknown, why: RegExp]> = [
    ["that does not fit its Schema", Schema.Int as never, 0.5, /does not fit the schema/],
    [
      "with a field that its Schema does not know",
      Schema.Struct({ a: Schema.optional(Schema.Int) }) as never,
      { A: 1 },
      /"A"/
    ],
    ["that is no JSON", Schema.Number as never, Number.NaN, /NaN is not a JSON number/],
    ["that could be mistaken for null", Schema.NullOr(Schema.Number) as never, Number.NaN, /NaN/],
    ["that could be mistaken for nothing", Schema.UndefinedOr(Schema.Number) as never, Number.NaN, /NaN/],
    ["with undefined in a list", Schema.Array(Schema.UndefinedOr(Schema.Int)) as never, [undefined], /undefined/],
    ["that contains itself", Schema.Unknown as never, cyclic, /contains itself/],
    ["beyond 16 MiB", Schema.String as never, "x".repeat(16 * 1024 * 1024), /exceeds/],
    ["for a reason that is long", Schema.Literal("x".repeat(2_000)) as never, 1, /[^x]x{900,1000}…/],
    ["whose Schema throws", throwing as never, 1, /no text of it/],
    ["that only waiting could encode", asynchronous as never, "x", /does not fit the schema/]
  ]
  for (const [name, schema, value, why] of unwritable) {
    for (const status of ["succeeded", "failed"] as const) {
      // A failure that does not fit the Schema of failures is no outcome.
      if (status === "failed" && !Schema.is(schema)(value)) continue
      const what = status === "succeeded" ? "success" : "failure"
      test(`a ${what} ${name} is passed on once and closes the command, and repeats are told why`, () =>
        Effect.gen(function* () {
          const store = yield* CommandStore
          const given = newCommand()
          let runs = 0
          const effect = Effect.suspend(() => {
            runs++
            return status === "succeeded" ? Effect.succeed(value) : Effect.fail(value)
          })
          const options = { success: schema, failure: status === "failed" ? schema : undefined, lease } as const
          const execute = Effect.exit(store.execute(given, effect, options))
          const exit = yield* execute
          assert.deepEqual(exit, status === "succeeded" ? Exit.succeed(value) : Exit.fail(value))
          const again = yield* execute
          assert.ok(Exit.isFailure(again))
          const error = Cause.squash(again.cause)
          assert.ok(error instanceof CommandDecodeError, String(error))
          assert.match(error.message, why)
          assert.equal(runs, 1)
          assert.equal((yield* stored(given.id)).status, status)
        }))
    }
  }

  const neverJson: ReadonlyArray<readonly [name: string, Schema.Schema<unknown, unknown>]> = [
    ["a Date", Schema.DateFromSelf as never],
    ["a bigint in a field", Schema.Struct({ a: Schema.BigIntFromSelf }) as never],
    ["an Option in a list", Schema.Tuple(Schema.String, Schema.OptionFromSelf(Schema.String)) as never],
    ["one of two that are none", Schema.Union(Schema.SymbolFromSelf, Schema.Literal(1n)) as never]
  ]
  for (const [name, schema] of neverJson) {
    test(`a Schema whose values can never be JSON is refused before anything runs: ${name}`, () =>
      Effect.gen(function* () {
        const store = yield* CommandStore
        for (const [what, success, failure] of [
          ["options.success", schema, undefined],
          ["options.failure", Schema.Unknown, schema]
        ] as const) {
          const given = newCommand()
          const execute = store.execute(given, Effect.die("must not run"), { success, failure, lease })
          const error = yield* Effect.flip(execute)
          assert.ok(error instanceof InvalidInput && error.what === what)
          assert.ok(Option.isNone(yield* store.get(given.id)))
        }
      }))
  }

  test("without a Schema nothing of the result is kept, whatever a void function returned", () =>
    Effect.gen(function* () {
      const store = yield* CommandStore
      const given = newCommand()
      const counted: () => void = () => 5n
      let runs = 0
      const execute = store.execute(
        given,
        Effect.sync(() => {
          runs++
          return counted()
        })
      )
      yield* execute
      assert.equal(yield* execute, undefined)
      assert.equal(runs, 1)
      const { outcome, status } = yield* stored(given.id)
      assert.deepEqual([status, outcome], ["succeeded", Option.none()])
    }))

  test("what a class has beside its fields is no part of an outcome", () =>
    Effect.gen(function* () {
      const store = yield* CommandStore
      const given = newCommand()
      const success = Schema.Struct({ of: Receipt, error: Schema.optional(Refused) })
      const receipt = Object.assign(new Receipt({ id: 7, paidAt: new Date(0) }), { cache: 1 })
      const value = { of: receipt, error: new Refused({ why: "no" }) }
      yield* store.execute(given, Effect.succeed(value), { success, lease })
      const { outcome } = yield* stored(given.id)
      assert.deepEqual(
        outcome,
        Option.some({ of: { id: "7", paidAt: "1970-01-01T00:00:00.000Z" }, error: { _tag: "Refused", why: "no" } })
      )
    }))

  test("an outcome that the Schema of a repeat does not know is CommandDecodeError, and nothing runs", () =>
    Effect.gen(function* () {
      const store = yield* CommandStore
      const [succeeded, failed] = [newCommand(), newCommand()]
      yield* store.execute(succeeded, Effect.succeed("text"), { success: Schema.String, lease })
      const refuse = Effect.fail(new Refused({ why: "no" }))
      yield* failsWith(store.execute(failed, refuse, { success: Schema.Void, failure: Refused, lease }), "Refused")
      const never = Effect.die("must not run")
      const errors = yield* Effect.all([
        failsWith(store.execute(succeeded, never, { success: Schema.Number, lease }), "CommandDecodeError"),
        failsWith(store.execute(failed, never, { success: Schema.Void, lease }), "CommandDecodeError"),
        failsWith(
          store.execute(failed, never, { success: Schema.Void, failure: Rejected, lease }),
          "CommandDecodeError"
        )
      ])
      assert.deepEqual(
        errors.map(({ id, part, type }) => [id, part, type]),
        [succeeded, failed, failed].map(({ id, type }) => [id, "outcome", type])
      )
    }))

  for (const status of ["succeeded", "failed"] as const) {
    test(`when an operator sets a command to ${status} while it runs, the operator's outcome stays`, () =>
      Effect.gen(function* () {
        const store = yield* CommandStore
        const given = newCommand()
        const effect = Effect.as(store.update(given.id, { status, outcome: "operator" }), "effect")
        const execute = Effect.either(
          store.execute(given, effect, { success: Schema.String, failure: Schema.Literal("operator"), lease })
        )
        for (const _ of [1, 2]) {
          const answer = yield* execute
          assert.deepEqual(
            [answer._tag, answer._tag === "Left" ? answer.left : answer.right],
            [status === "failed" ? "Left" : "Right", "operator"]
          )
        }
        const command = yield* stored(given.id)
        assert.deepEqual([command.status, command.attempts], [status, 1])
      }))
  }

  for (const transaction of [false, true]) {
    test(`a command that executes itself in its own effect is refused at once (transaction: ${transaction})`, () =>
      Effect.gen(function* () {
        const store = yield* CommandStore
        const given = newCommand()
        const options = { success: Schema.String, lease, transaction } as const
        const itself = store.execute(given, Effect.die("must not run"), options)
        const error = yield* failsWith(store.execute(given, itself, options), "InvalidInput")
        assert.equal(error.message, "command.id: is the command that is being executed")
        const caught = Effect.as(failsWith(itself, "InvalidInput"), "done")
        assert.equal(yield* store.execute(given, caught, options), "done")
        assert.equal(yield* itself, "done")
      }))
  }

  for (const transaction of [false, true]) {
    test(`a command that reaches itself through others is refused at once (transaction: ${transaction})`, () =>
      Effect.gen(function* () {
        const store = yield* CommandStore
        const commands = [newCommand(), newCommand(), newCommand()] as const
        const options = { success: Schema.String, lease, transaction } as const
        const [first, second, third] = commands
        // Forked, as an effect may do with its parts; a transaction ends with its own fiber.
        const forked = <A, E, R>(self: Effect.Effect<A, E, R>) =>
          transaction ? self : Effect.flatMap(Effect.fork(self), Fiber.join)
        const again = forked(store.execute(first, Effect.die("must not run"), options))
        const inner = forked(store.execute(third, again, options))
        const whole = store.execute(first, store.execute(second, inner, options), options)
        const error = yield* failsWith(whole, "InvalidInput")
        assert.equal(error.what, "command.id")
        assert.ok([...commands, first].map(({ id }) => id).join(" executes ") === error.why.split(": ")[1], error.why)
        // What is within the transaction of the first is undone with it.
        for (const { id } of transaction ? [first] : commands) assert.equal((yield* stored(id)).status, "received")
        const other = Effect.as(failsWith(again, "InvalidInput"), "done")
        assert.equal(yield* store.execute(first, store.execute(second, other, options), options), "done")
        assert.equal(yield* store.execute(second, Effect.die("must not run"), options), "done")
      }))
  }

  test("a fiber that outlives the effect that forked it gets the outcome of its command", () =>
    Effect.gen(function* () {
      const store = yield* CommandStore
      const [given, next] = [newCommand(), newCommand()]
      const options = { success: Schema.String, lease } as const
      const ended = yield* Deferred.make<void>()
      const late = Effect.zipRight(Deferred.await(ended), store.execute(given, Effect.die("must not run"), options))
      const fiber = yield* Deferred.make<Fiber.Fiber<string, unknown>>()
      const forking = Effect.flatMap(Effect.forkDaemon(late), (forked) => Deferred.succeed(fiber, forked))
      assert.equal(yield* store.execute(given, Effect.as(forking, "done"), options), "done")
      yield* Deferred.succeed(ended, undefined)
      assert.equal(yield* Fiber.join(yield* Deferred.await(fiber)), "done")
      // And one command after the other, many times, is no command in another.
      const both = Effect.zip(store.execute(given, Effect.succeed(""), options), store.execute(next, late, options))
      assert.deepEqual(
        [yield* both, yield* both],
        [
          ["done", "done"],
          ["done", "done"]
        ]
      )
    }))

  test("with a transaction an effect runs once too, and its successes and failures come back as without", () =>
    Effect.gen(function* () {
      const store = yield* CommandStore
      const [succeeding, failing] = [newCommand(), newCommand()]
      const options = { success: Schema.Number, failure: Refused, lease, transaction: true } as const
      let runs = 0
      const run = Effect.sync(() => ++runs)
      const fail = Effect.zipRight(run, Effect.fail(new Refused({ why: "no" })))
      for (const _ of [1, 2]) {
        assert.equal(yield* store.execute(succeeding, run, options), 1)
        assert.equal((yield* failsWith(store.execute(failing, fail, options), "Refused")).why, "no")
      }
      assert.equal(runs, 2)
      assert.deepEqual(
        [(yield* stored(succeeding.id)).status, (yield* stored(failing.id)).status],
        ["succeeded", "failed"]
      )
    }))

  test("an effect may execute another command", () =>
    Effect.gen(function* () {
      const store = yield* CommandStore
      const [outer, inner] = [newCommand(), newCommand()]
      const success = Schema.Array(Schema.String)
      const name = Effect.map(CurrentCommand, ({ id }) => id)
      const effect = Effect.all([name, store.execute(inner, name, { success: Schema.String, lease }), name])
      assert.deepEqual(yield* store.execute(outer, effect, { success, lease }), [outer.id, inner.id, outer.id])
    }))

  test("ids for events are the same when a command runs again, and differ by stream, step, index and command", () =>
    Effect.gen(function* () {
      const store = yield* CommandStore
      const given = newCommand()
      const streams = ["1", "2"].flatMap((aggregateId) =>
        ["order", "invoice"].flatMap((domain) =>
          ["one", "two"].map((tenantId) => streamOf(tenantId, aggregateId, domain))
        )
      )
      const runs: Array<Array<string>> = []
      const effect = Effect.map(CurrentCommand, ({ nextEventIds }) => {
        const ids = range(1, 3).flatMap(() =>
          streams.flatMap((stream) => {
            const idOf = nextEventIds(stream)
            return range(0, 2).map((index) => idOf(index))
          })
        )
        runs.push(ids)
      })
      const options = { success: Schema.Void, lease } as const
      yield* failsWith(
        store.execute(given, Effect.zipRight(effect, Effect.fail(new Refused({ why: "" }))), options),
        "Refused"
      )
      yield* store.execute(given, effect, options)
      yield* store.execute(newCommand(), effect, options)
      const [first = [], second = [], other = []] = runs
      assert.equal(first.length, 3 * 8 * 3)
      assert.deepEqual(second, first)
      assert.equal(new Set([...first, ...other]).size, first.length + other.length)
      assert.ok(first.every(Uuid.isCanonical))
      assert.ok(first.every((id) => id.slice(0, 13) === given.id.slice(0, 13)))
    }))

  const usable = { success: Schema.Void }
  const refusedOptions: ReadonlyArray<readonly [what: string, options: object]> = [
    ["options", []],
    ["options.success", { success: { ast: {} } }],
    ["options.failure", { success: Schema.Void, failure: "Refused" }],
    ["options.lease", { success: Schema.Void, lease: "99 millis" }],
    ["options.lease", { success: Schema.Void, lease: "25 hours" }],
    ["options.lease", { success: Schema.Void, lease: "infinity" }],
    ["options.lease", { success: Schema.Void, lease: "soon" }],
    ["options.transaction", { success: Schema.Void, transaction: "true" }],
    ["options.transaction", { success: Schema.Void, transaction: (self: Effect.Effect<void>) => self }],
    ["a key of options", { success: Schema.Void, leases: "1 second" }]
  ]
  for (const [i, [what, options]] of refusedOptions.entries()) {
    test(`an execution with unusable options is refused by ${what}, and neither stored nor run (${i + 1})`, () =>
      Effect.gen(function* () {
        const store = yield* CommandStore
        const given = newCommand()
        let runs = 0
        const run = Effect.sync(() => void runs++)
        assert.equal((yield* failsWith(store.execute(given, run, options as typeof usable), "InvalidInput")).what, what)
        assert.equal(runs, 0)
        assert.ok(Option.isNone(yield* store.get(given.id)))
      }))
  }

  test("what is no Effect is refused, and not stored", () =>
    Effect.gen(function* () {
      const store = yield* CommandStore
      const given = newCommand({ id: randomUUID() })
      const execute = store.execute(given, (() => 1) as unknown as Effect.Effect<void>, { success: Schema.Void })
      assert.equal((yield* failsWith(execute, "InvalidInput")).what, "effect")
      assert.ok(Option.isNone(yield* store.get(given.id)))
    }))
}

const asynchronous = Schema.transformOrFail(Schema.String, Schema.String, {
  decode: (text) => Effect.as(turns(1), text),
  encode: (text) => Effect.as(turns(1), text)
})

const throwing = Schema.transform(Schema.String, Schema.Number, {
  decode: () => 0,
  encode: () => {
    throw new Error("no text of it")
  }
})
