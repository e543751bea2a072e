/**
 * `SnapshotStore.saveInBackground` where it shows in logs, metrics and fibers: once, on the store in memory. What shows
 * on every store is part of the contract suite.
 */
import { assert, describe, it } from "@effect/vitest"
import {
  Cause,
  Context,
  Deferred,
  Effect,
  Exit,
  Fiber,
  FiberId,
  HashMap,
  Layer,
  Logger,
  Metric,
  Option,
  Scheduler,
  Scope
} from "effect"
import { SnapshotStore, SnapshotStoreEncoded } from "effect-stores"
import { SnapshotStoreMemory } from "effect-stores/memory"

const streamOf = (aggregateId: string | number) => ({ tenantId: "t", domain: "d", aggregateId: `${aggregateId}` })
const stream = streamOf("a")
const snapshotOf = (version: number): SnapshotStore.NewSnapshot => ({
  version,
  lastEventMark: "00000000-0000-0000-0000-000000000001",
  schemaVersion: "1",
  state: version
})

const store = Effect.flatMap(SnapshotStoreMemory.makeEncoded, (encoded) =>
  SnapshotStoreEncoded.make(encoded, { system: "memory" })
)

const countOf = (outcome: string) =>
  Metric.counter("effect_stores_snapshots_saved", {
    description: "Snapshots offered to be saved in the background, by what became of them",
    incremental: true
  }).pipe(
    Metric.tagged("outcome", outcome),
    Metric.value,
    Effect.map(({ count }) => count)
  )

const counts = Effect.all({
  saved: countOf("saved"),
  skipped: countOf("skipped"),
  dropped: countOf("dropped"),
  failed: countOf("failed")
})

/** How often each outcome was counted meanwhile. */
const counted = <A, E, R>(self: Effect.Effect<A, E, R>) =>
  Effect.gen(function* () {
    const before = yield* counts
    yield* self
    const after = yield* counts
    return {
      saved: after.saved - before.saved,
      skipped: after.skipped - before.skipped,
      dropped: after.dropped - before.dropped,
      failed: after.failed - before.failed
    }
  })

interface Log {
  readonly level: string
  readonly message: string
  readonly cause: string
  readonly request: unknown
}

/** A place for what is logged, and the layer that puts it there and nowhere else. */
const logs = () => {
  const entries: Array<Log> = []
  const logger = Logger.make<unknown, void>(({ annotations, cause, logLevel, message }) => {
    entries.push({
      level: logLevel.label,
      message: String(message),
      cause: Cause.pretty(cause),
      request: Option.getOrUndefined(HashMap.get(annotations, "request"))
    })
  })
  return { entries, layer: Logger.replace(Logger.defaultLogger, logger) }
}

/** Waits, turn by turn of the event loop, for what must come to be. */
const until = (condition: () => boolean): Effect.Effect<void> =>
  Effect.suspend(() =>
    condition()
      ? Effect.void
      : Effect.zipRight(
          Effect.async<void>((resume) => {
            setImmediate(() => resume(Effect.void))
          }),
          until(condition)
        )
  )

describe("saveInBackground", () => {
  it.scoped("counts what became of each snapshot", () =>
    Effect.gen(function* () {
      const { entries, layer } = logs()
      const { flush, saveInBackground } = yield* store
      const offer = (snapshot: Effect.Effect<SnapshotStore.NewSnapshot | undefined, string>) =>
        Effect.zipRight(saveInBackground(stream, snapshot), flush(stream))
      const outcomes = yield* counted(
        Effect.gen(function* () {
          yield* offer(Effect.succeed(snapshotOf(2)))
          yield* offer(Effect.succeed(snapshotOf(2)))
          yield* offer(Effect.succeed(snapshotOf(1)))
          yield* offer(Effect.succeed(undefined))
          yield* offer(Effect.fail("no state"))
        })
      ).pipe(Effect.provide(layer))
      assert.deepStrictEqual(outcomes, { saved: 2, skipped: 2, dropped: 0, failed: 1 })
      assert.strictEqual(entries.length, 1)
    })
  )

  const failures: ReadonlyArray<readonly [string, Effect.Effect<SnapshotStore.NewSnapshot, unknown>, RegExp]> = [
    ["a typed failure", Effect.fail("no state"), /no state/],
    ["a defect", Effect.die(new Error("a bug")), /a bug/],
    [
      "a throw",
      Effect.suspend(() => {
        throw new Error("thrown")
      }),
      /thrown/
    ],
    ["a snapshot that is refused", Effect.succeed({ ...snapshotOf(1), state: Number.NaN }), /snapshot\.state/],
    [
      "an interruption of its fiber",
      Effect.withFiberRuntime((fiber) => Effect.zipRight(Fiber.interruptFork(fiber), Effect.never)),
      /interrupted/
    ]
  ]
  for (const [name, snapshot, cause] of failures) {
    it.scoped(`logs ${name} once, as a warning that names the stream, and the caller goes on`, () =>
      Effect.gen(function* () {
        const { entries, layer } = logs()
        const { flush, saveInBackground } = yield* store
        const outcomes = yield* counted(Effect.zipRight(saveInBackground(stream, snapshot), flush(stream))).pipe(
          Effect.provide(layer)
        )
        assert.deepStrictEqual(outcomes, { saved: 0, skipped: 0, dropped: 0, failed: 1 })
        assert.deepStrictEqual(
          entries.map(({ level }) => level),
          ["WARN"]
        )
        assert.include(entries[0]?.message, "t/d/a")
        assert.match(entries[0]?.cause ?? "", cause)
      })
    )
  }

  it.scoped("logs a stream that is none once, and the caller goes on", () =>
    Effect.gen(function* () {
      const { entries, layer } = logs()
      const { saveInBackground } = yield* store
      const none = { ...stream, aggregateId: Symbol("s") } as unknown as typeof stream
      const outcomes = yield* counted(saveInBackground(none, Effect.succeed(snapshotOf(1)))).pipe(Effect.provide(layer))
      assert.deepStrictEqual(outcomes, { saved: 0, skipped: 0, dropped: 0, failed: 1 })
      assert.strictEqual(entries.length, 1)
      assert.include(entries[0]?.cause, "stream.aggregateId")
    })
  )

  it.scoped("counts what is no Effect as failed, also one that throws when it is looked at, and goes on", () =>
    Effect.gen(function* () {
      const { entries, layer } = logs()
      const { flush, latest, saveInBackground } = yield* store
      const hostile = new Proxy({}, { get: () => assert.fail("looked at"), has: () => assert.fail("looked for") })
      const given: ReadonlyArray<unknown> = [undefined, null, 1, {}, () => Effect.void, { _op: "Sync" }, hostile]
      const outcomes = yield* counted(
        Effect.forEach(given, (value) => saveInBackground(stream, value as never)).pipe(
          Effect.zipRight(saveInBackground(stream, Effect.succeed(snapshotOf(1)))),
          Effect.zipRight(flush(stream)),
          Effect.provide(layer)
        )
      )
      assert.deepStrictEqual(outcomes, { saved: 1, skipped: 0, dropped: 0, failed: given.length })
      assert.strictEqual(entries.length, given.length)
      assert.isTrue(Option.isSome(yield* latest(stream)))
    })
  )

  it.scoped("lands though the application's logger throws", () =>
    Effect.gen(function* () {
      const { flush, latest, saveInBackground } = yield* store
      const thrower = Logger.make(() => {
        throw new Error("the logger's disk is full")
      })
      yield* saveInBackground(stream, Effect.fail("no state")).pipe(
        Effect.provide(Logger.replace(Logger.defaultLogger, thrower))
      )
      yield* flush(stream)
      yield* saveInBackground(stream, Effect.succeed(snapshotOf(1)))
      yield* flush(stream)
      assert.isTrue(Option.isSome(yield* latest(stream)))
    })
  )

  it.scoped("makes and saves the snapshot with the context of the layer, not with that of who offered it", () =>
    Effect.gen(function* () {
      class Transaction extends Context.Tag("test/Transaction")<Transaction, string>() {}
      const transaction = Effect.contextWith((context: Context.Context<never>) =>
        Option.getOrUndefined(Context.getOption(context, Transaction))
      )
      const seen: Array<readonly [string, string | undefined]> = []
      const see = (where: string) => Effect.map(transaction, (value) => void seen.push([where, value]))
      const encoded = yield* SnapshotStoreMemory.makeEncoded
      const { flush, saveInBackground } = yield* SnapshotStoreEncoded.make(
        {
          ...encoded,
          save: (snapshot) => Effect.zipRight(see("save"), encoded.save(snapshot)),
          delete: (stream) => Effect.zipRight(see("delete"), encoded.delete(stream))
        },
        { system: "memory" }
      )
      const letGo = yield* Deferred.make<void>()
      const offer = (name: string, version: number) =>
        saveInBackground(
          stream,
          see("make").pipe(Effect.zipRight(Deferred.await(letGo)), Effect.as(snapshotOf(version))),
          { replace: true }
        ).pipe(Effect.provideService(Transaction, name), Effect.annotateLogs("request", name))
      yield* offer("first", 1)
      yield* offer("follower", 2)
      yield* Deferred.succeed(letGo, undefined)
      yield* flush(stream)
      assert.deepStrictEqual(seen, [
        ["make", undefined],
        ["delete", undefined],
        ["save", undefined],
        ["make", undefined],
        ["delete", undefined],
        ["save", undefined]
      ])
    })
  )

  it.scoped("logs with the annotations of who offered it, also what follows another", () =>
    Effect.gen(function* () {
      const { entries, layer } = logs()
      const { flush, saveInBackground } = yield* store
      const letGo = yield* Deferred.make<void>()
      const offer = (request: string) =>
        Effect.annotateLogs(
          saveInBackground(stream, Effect.zipRight(Deferred.await(letGo), Effect.fail(request))),
          "request",
          request
        )
      yield* Effect.zipRight(offer("first"), offer("follower")).pipe(Effect.provide(layer))
      yield* Deferred.succeed(letGo, undefined)
      yield* flush(stream)
      assert.deepStrictEqual(
        entries.map(({ request }) => request),
        ["first", "follower"]
      )
    })
  )

  it.scoped("has 8 saves under way and 1,000 streams waiting at most, drops what is beyond, and recovers", () =>
    Effect.gen(function* () {
      const { flush, latest, saveInBackground } = yield* store
      const letGo = yield* Deferred.make<void>()
      let begun = 0
      let ended = 0
      let underWayMost = 0
      const offer = (n: number) =>
        saveInBackground(
          streamOf(n),
          Effect.suspend(() => {
            underWayMost = Math.max(underWayMost, ++begun - ended)
            return Effect.as(Deferred.await(letGo), snapshotOf(1))
          }).pipe(Effect.ensuring(Effect.sync(() => ended++)))
        )
      const outcomes = yield* counted(
        Effect.gen(function* () {
          for (let n = 1; n <= 1_010; n++) yield* offer(n)
          // What follows a save under way waits for no place.
          yield* offer(1)
          yield* until(() => begun >= 8)
          assert.strictEqual(begun, 8)
          yield* Deferred.succeed(letGo, undefined)
          for (let n = 1; n <= 1_010; n++) yield* flush(streamOf(n))
        })
      )
      assert.deepStrictEqual(outcomes, { saved: 1_001, skipped: 0, dropped: 10, failed: 0 })
      assert.strictEqual(underWayMost, 8)
      for (const n of [1_000, 1_001]) {
        assert.strictEqual(Option.isSome(yield* latest(streamOf(n))), n === 1_000)
      }
      assert.deepStrictEqual(yield* counted(Effect.zipRight(offer(1_001), flush(streamOf(1_001)))), {
        saved: 1,
        skipped: 0,
        dropped: 0,
        failed: 0
      })
    })
  )

  it.scoped("what follows a save whose fiber was interrupted is saved", () =>
    Effect.gen(function* () {
      const { entries, layer } = logs()
      const { flush, latest, saveInBackground } = yield* store
      const letGo = yield* Deferred.make<void>()
      const interrupted = Effect.withFiberRuntime<SnapshotStore.NewSnapshot>((fiber) =>
        Effect.zipRight(Deferred.await(letGo), Effect.zipRight(Fiber.interruptFork(fiber), Effect.never))
      )
      yield* saveInBackground(stream, interrupted).pipe(Effect.provide(layer))
      yield* saveInBackground(stream, Effect.succeed(snapshotOf(2)))
      yield* Deferred.succeed(letGo, undefined)
      yield* flush(stream)
      assert.strictEqual(entries.length, 1)
      assert.strictEqual(Option.getOrThrow(yield* latest(stream)).version, 2)
    })
  )

  it.effect("whoever interrupts every fiber there is ends the saves, and closing waits for nothing", () =>
    Effect.gen(function* () {
      const { layer } = logs()
      const scope = yield* Scope.make()
      const { saveInBackground } = yield* Scope.extend(store, scope)
      const begun = yield* Deferred.make<void>()
      const before = new Set(yield* Fiber.roots)
      const never = Effect.zipRight(Deferred.succeed(begun, undefined), Effect.never)
      yield* saveInBackground(stream, never).pipe(Effect.provide(layer))
      yield* Deferred.await(begun)
      const started = [...(yield* Fiber.roots)].filter((fiber) => !before.has(fiber))
      assert.isAbove(started.length, 0)
      yield* Fiber.interruptAll(started)
      yield* Scope.close(scope, Exit.void)
    })
  )

  it.effect("an interruption between any two steps of the offer leaves no flight that closing waits for", () =>
    Effect.gen(function* () {
      const scope = yield* Scope.make()
      const { saveInBackground } = yield* Scope.extend(store, scope)
      const ends: Array<boolean> = []
      for (let moment = 1; moment <= 100; moment++) {
        let caller: Fiber.RuntimeFiber<unknown, unknown> | undefined
        let step = 0
        // Asked before every step of a fiber, so it can interrupt there.
        const scheduler: Scheduler.Scheduler = {
          scheduleTask: (task, priority) => Scheduler.defaultScheduler.scheduleTask(task, priority),
          shouldYield: (fiber) => {
            caller ??= fiber
            if (fiber === caller && ++step === moment) fiber.unsafeInterruptAsFork(FiberId.none)
            return false
          }
        }
        const offer = saveInBackground(streamOf(moment), Effect.succeed(snapshotOf(1)))
        const exit = yield* Fiber.await(yield* Effect.fork(Effect.withScheduler(offer, scheduler)))
        ends.push(Exit.isInterrupted(exit))
      }
      // Every moment was met, from the first step to beyond the last.
      assert.include(ends, true)
      assert.isFalse(ends.at(-1))
      yield* Scope.close(scope, Exit.void)
    })
  )

  it.effect("closing waits for what is under way and what follows, and later offers are dropped", () =>
    Effect.gen(function* () {
      const scope = yield* Scope.make()
      const encoded = yield* SnapshotStoreMemory.makeEncoded
      const { saveInBackground } = yield* Scope.extend(SnapshotStoreEncoded.make(encoded, { system: "memory" }), scope)
      const letGo = yield* Deferred.make<void>()
      yield* saveInBackground(stream, Effect.as(Deferred.await(letGo), snapshotOf(1)))
      yield* saveInBackground(stream, Effect.as(Deferred.await(letGo), snapshotOf(2)))
      const closing = yield* Effect.fork(Scope.close(scope, Exit.void))
      yield* Effect.yieldNow()
      assert.isNull(closing.unsafePoll())
      const late = yield* counted(saveInBackground(streamOf("late"), Effect.succeed(snapshotOf(1))))
      assert.deepStrictEqual(late, { saved: 0, skipped: 0, dropped: 1, failed: 0 })
      yield* Deferred.succeed(letGo, undefined)
      yield* Fiber.join(closing)
      assert.strictEqual((yield* encoded.latest(stream, 2))?.version, 2)
    })
  )

  it.effect("closing the layer saves what is under way before the backend refuses", () =>
    Effect.gen(function* () {
      const scope = yield* Scope.make()
      const { latest, saveInBackground } = Context.get(
        yield* Layer.buildWithScope(SnapshotStoreMemory.layer(), scope),
        SnapshotStore.SnapshotStore
      )
      yield* saveInBackground(stream, Effect.as(Effect.yieldNow(), snapshotOf(1)))
      const before = yield* counts
      yield* Scope.close(scope, Exit.void)
      assert.strictEqual((yield* counts).saved, before.saved + 1)
      assert.strictEqual((yield* Effect.flip(latest(stream)))._tag, "StoreUnavailable")
    })
  )
})
