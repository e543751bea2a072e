/**
 * Many subscribers of one store: what they share, and what none of them loses by it. The port is that of the memory;
 * the moments are held by hand, and time is the TestClock's.
 */
import { assert, it } from "@effect/vitest"
import { Cause, Clock, Deferred, Duration, Effect, Exit, Fiber, Layer, Option, Stream, TestClock } from "effect"
import { Errors, EventStore, EventStoreEncoded } from "effect-stores"
import { EventStoreMemory, MemoryDatabase } from "effect-stores/memory"

const stream = { tenantId: "t", domain: "d", aggregateId: "a" }
const pollInterval = Duration.seconds(10)

const turns = Effect.repeatN(Effect.yieldNow(), 60)

type Read = Parameters<EventStoreEncoded.Encoded["readFeed"]>[0]

/** Stands for `Effect.void` in front of an operation: what is held there, and how often it was come upon. */
class Gate {
  times = 0
  interrupted = 0
  hold: Deferred.Deferred<void, Errors.ReadFailure> | undefined
  readonly pass: Effect.Effect<void, Errors.ReadFailure> = Effect.suspend(() => {
    this.times++
    return this.hold === undefined
      ? Effect.void
      : Effect.onInterrupt(Deferred.await(this.hold), () => Effect.sync(() => this.interrupted++))
  })
}

const setUp = Effect.gen(function* () {
  const encoded = yield* EventStoreMemory.makeEncoded
  const heads = new Gate()
  const reads = new Gate()
  const requests: Array<Read> = []
  const listening = { now: 0, most: 0 }
  const port: EventStoreEncoded.Encoded = {
    ...encoded,
    // What is returned was looked up before the gate.
    head: Effect.flatMap(encoded.head, (head) => Effect.as(heads.pass, head)),
    readFeed: (request) => {
      requests.push(request)
      return Effect.flatMap(encoded.readFeed(request), (page) => Effect.as(reads.pass, page))
    },
    hints: Effect.zipRight(
      Effect.acquireRelease(
        Effect.sync(() => {
          listening.most = Math.max(listening.most, ++listening.now)
        }),
        () => Effect.sync(() => listening.now--)
      ),
      encoded.hints
    )
  }
  const store = EventStoreEncoded.make(port, { system: "memory", pollInterval })
  const append = (type = "Happened") => store.append(stream, [{ type, data: {} }], { expected: "any" })
  return { append, heads, listening, port, reads, requests, store }
})

/** Follows in the background, and notes the versions of what it sees. */
const follow = (store: EventStore.EventStoreShape, options: EventStore.FeedOptions = {}) => {
  const seen: Array<number> = []
  const following = Stream.runForEach(store.subscribe(options), ({ version }) => Effect.sync(() => seen.push(version)))
  return Effect.map(Effect.fork(following), (fiber) => ({ fiber, seen }))
}

const several = <A, E>(n: number, make: (i: number) => Effect.Effect<A, E>) =>
  Effect.forEach(
    Array.from({ length: n }, (_, i) => i),
    make
  )

it.effect("a thousand that wait ask as often as one", () =>
  Effect.gen(function* () {
    const { heads, listening, reads, store } = yield* setUp
    yield* several(1_000, () => follow(store))
    yield* turns
    heads.times = 0
    for (let i = 0; i < 5; i++) {
      yield* TestClock.adjust(pollInterval)
      yield* turns
    }
    assert.deepStrictEqual([heads.times, reads.times, listening], [5, 0, { now: 1, most: 1 }])
  })
)

it.effect("what is new is read once for all who share a filter, and each has what it asked for", () =>
  Effect.gen(function* () {
    const { append, requests, store } = yield* setUp
    const all = yield* several(50, () => follow(store))
    const some = yield* several(50, (i) => follow(store, { filter: { types: ["Happened"] }, limit: i + 1 }))
    yield* turns
    yield* append()
    yield* turns
    assert.lengthOf(requests, 2)
    for (const { seen } of [...all, ...some]) assert.deepStrictEqual(seen, [1])
    yield* append("Other")
    yield* append()
    yield* turns
    for (const { seen } of all) assert.deepStrictEqual(seen, [1, 2, 3])
    for (const [i, { seen }] of some.entries()) assert.deepStrictEqual(seen, i === 0 ? [1] : [1, 3])
  })
)

it.effect("where many filters are, everything is read once, and each finds its own in it", () =>
  Effect.gen(function* () {
    const { append, requests, store } = yield* setUp
    const followers = yield* several(100, (i) => follow(store, { filter: { types: [`Type${i}`] } }))
    yield* turns
    yield* append("Type7")
    yield* append("Type8")
    yield* append("Type7")
    yield* turns
    assert.isAtMost(requests.length, 3)
    for (const [i, { seen }] of followers.entries()) {
      assert.deepStrictEqual(seen, i === 7 ? [1, 3] : i === 8 ? [2] : [])
    }
  })
)

it.effect("an event that cannot be read stops only those who asked for it", () =>
  Effect.gen(function* () {
    const { port } = yield* setUp
    const broken = new Errors.StoreError({ operation: "test", cause: new Error("cannot be read") })
    const store = EventStoreEncoded.make(
      {
        ...port,
        readFeed: (request) =>
          request.filter.types === null || request.filter.types.includes("Broken")
            ? Effect.fail(broken)
            : port.readFeed(request)
      },
      { system: "memory", pollInterval }
    )
    const followers = yield* several(20, (i) => follow(store, { filter: { types: [`Type${i}`] } }))
    const asked = yield* follow(store, { filter: { types: ["Broken"] } })
    yield* turns
    for (const type of ["Broken", "Type3"]) yield* store.append(stream, [{ type, data: {} }], { expected: "any" })
    yield* turns
    assert.deepStrictEqual(followers[3]?.seen, [2])
    for (const { fiber } of followers) assert.isTrue(Option.isNone(yield* Fiber.poll(fiber)))
    assert.deepStrictEqual(yield* Fiber.await(asked.fiber), Exit.fail(broken))
  })
)

it.effect("one that is slow holds back nobody, and reads by itself what it has missed", () =>
  Effect.gen(function* () {
    const { append, requests, store } = yield* setUp
    const goOn = yield* Effect.makeLatch()
    const late: Array<number> = []
    const slow = yield* Effect.fork(
      Stream.runForEach(store.subscribe(), ({ version }) =>
        Effect.zipRight(
          Effect.sync(() => late.push(version)),
          goOn.await
        )
      )
    )
    const quick = yield* follow(store)
    yield* turns
    yield* append()
    yield* turns
    for (let i = 1; i < 1_500; i++) yield* append()
    yield* turns
    assert.lengthOf(quick.seen, 1_500)
    assert.deepStrictEqual(late, [1])
    const before = requests.length
    yield* goOn.open
    while (late.length < 1_500) yield* turns
    assert.deepStrictEqual(late, quick.seen)
    // Pages of its own, of a thousand events each.
    assert.lengthOf(requests.slice(before), 2)
    yield* Fiber.interruptAll([slow, quick.fiber])
  })
)

it.effect(
  "one that is interrupted while all wait for the same page takes it from nobody, and the last one ends it",
  () =>
    Effect.gen(function* () {
      const { append, reads, store } = yield* setUp
      const [first, second, third] = yield* Effect.all([follow(store), follow(store), follow(store)])
      yield* turns
      reads.hold = yield* Deferred.make<void, Errors.ReadFailure>()
      yield* append()
      yield* turns
      assert.strictEqual(reads.times, 1)
      yield* Fiber.interrupt(first.fiber)
      assert.strictEqual(reads.interrupted, 0)
      yield* Deferred.succeed(reads.hold, undefined)
      yield* turns
      assert.deepStrictEqual([first.seen, second.seen, third.seen], [[], [1], [1]])
      reads.hold = yield* Deferred.make<void, Errors.ReadFailure>()
      yield* append()
      yield* turns
      yield* Fiber.interruptAll([second.fiber, third.fiber])
      assert.strictEqual(reads.interrupted, 1)
    })
)

it.effect("the first one may leave, and the last one ends the looking", () =>
  Effect.gen(function* () {
    const { append, heads, listening, store } = yield* setUp
    const [first, second] = yield* Effect.all([follow(store), follow(store)])
    yield* turns
    yield* Fiber.interrupt(first.fiber)
    yield* append()
    yield* turns
    assert.deepStrictEqual([second.seen, listening.now], [[1], 1])
    heads.hold = yield* Deferred.make<void, Errors.ReadFailure>()
    yield* TestClock.adjust(pollInterval)
    yield* turns
    yield* Fiber.interrupt(second.fiber)
    assert.deepStrictEqual([heads.interrupted, listening.now], [1, 0])
    heads.hold = undefined
    const third = yield* follow(store)
    yield* turns
    assert.deepStrictEqual(third.seen, [1])
  })
)

it.effect("whoever comes during a look is not left to what that has seen", () =>
  Effect.gen(function* () {
    const { append, heads, port } = yield* setUp
    // Other processes append too, and give no hint.
    const store = EventStoreEncoded.make(
      { ...port, hints: Effect.succeed(Effect.never) },
      { system: "memory", pollInterval }
    )
    const first = yield* follow(store)
    yield* turns
    heads.hold = yield* Deferred.make<void, Errors.ReadFailure>()
    yield* TestClock.adjust(pollInterval)
    yield* turns
    yield* append()
    const second = yield* follow(store)
    yield* turns
    yield* Deferred.succeed(heads.hold, undefined)
    heads.hold = undefined
    yield* turns
    assert.deepStrictEqual([first.seen, second.seen], [[1], [1]])
  })
)

it.effect("whoever comes while the last position is asked for is not refused by what that was", () =>
  Effect.gen(function* () {
    const { append, heads, port } = yield* setUp
    const lasts = new Gate()
    let back = 0
    const store = EventStoreEncoded.make(
      {
        ...port,
        // As on PostgreSQL while somebody's append is open.
        head: Effect.map(port.head, (head) => head - back),
        lastPosition: Effect.flatMap(port.lastPosition, (last) => Effect.as(lasts.pass, last))
      },
      { system: "memory", pollInterval }
    )
    const first = yield* follow(store, { after: (yield* append()).position })
    yield* turns
    back = 1
    lasts.hold = yield* Deferred.make<void, Errors.ReadFailure>()
    yield* TestClock.adjust(pollInterval)
    yield* turns
    assert.strictEqual(lasts.times, 1)
    const second = yield* follow(store, { after: (yield* append()).position })
    yield* turns
    const asked = heads.times
    yield* Deferred.succeed(lasts.hold, undefined)
    yield* turns
    // It is asked for again, for the one who has come.
    assert.deepStrictEqual([heads.times > asked, lasts.times > 1], [true, true])
    back = 0
    yield* append()
    yield* turns
    assert.deepStrictEqual([first.seen, second.seen], [[2, 3], [3]])
  })
)

it.effect("one that is refused is asked about no more, and those who wait beside it go on", () =>
  Effect.gen(function* () {
    const { append, port } = yield* setUp
    const lasts = new Gate()
    const store = EventStoreEncoded.make(
      { ...port, lastPosition: Effect.zipRight(lasts.pass, port.lastPosition) },
      { system: "memory", pollInterval }
    )
    const { position } = yield* append()
    const valid = yield* follow(store, { after: position })
    const refused = yield* follow(store, { after: position + 7 })
    const exit = yield* Fiber.await(refused.fiber)
    assert.isTrue(Exit.isFailure(exit) && exit.cause._tag === "Fail" && exit.cause.error._tag === "InvalidInput")
    const asked = lasts.times
    for (let i = 0; i < 3; i++) {
      yield* TestClock.adjust(pollInterval)
      yield* turns
    }
    yield* append()
    yield* turns
    assert.deepStrictEqual([asked, lasts.times, valid.seen], [1, 1, [2]])
  })
)

it.effect("nothing is asked for one that does not wait, so that there is nothing to interrupt when it has enough", () =>
  Effect.gen(function* () {
    const { append, heads, port, reads } = yield* setUp
    const answered = Effect.suspend(() => {
      // Only the question that the subscriber itself waits for is answered.
      const held = heads.times > 0 ? Deferred.make<void, Errors.ReadFailure>() : Effect.succeed(undefined)
      return Effect.flatMap(held, (hold) => {
        heads.hold = hold
        return port.head
      })
    })
    const store = EventStoreEncoded.make({ ...port, head: answered }, { system: "memory", pollInterval })
    yield* append()
    const busy = Stream.runForEach(Stream.take(store.subscribe(), 1), () =>
      Effect.gen(function* () {
        yield* turns
        // A hint, and the poll interval.
        yield* append()
        yield* turns
        yield* TestClock.adjust(pollInterval)
        yield* turns
      })
    )
    yield* busy
    assert.deepStrictEqual([heads.times, heads.interrupted, reads.times, reads.interrupted], [1, 0, 1, 0])
  })
)

it.effect("a hint that comes while nobody waits is not lost to the one that was busy", () =>
  Effect.gen(function* () {
    const { append, store } = yield* setUp
    const goOn = yield* Effect.makeLatch()
    const seen: Array<number> = []
    yield* Effect.fork(
      Stream.runForEach(store.subscribe(), ({ version }) =>
        Effect.zipRight(
          Effect.sync(() => seen.push(version)),
          goOn.await
        )
      )
    )
    yield* turns
    yield* append()
    yield* turns
    yield* append()
    yield* turns
    assert.deepStrictEqual(seen, [1])
    yield* goOn.open
    yield* turns
    assert.deepStrictEqual(seen, [1, 2])
  })
)

it.effect(
  "a page that is being read already is not for who asks later: an event in it may have been redacted since",
  () =>
    Effect.gen(function* () {
      const { heads, reads, requests, store } = yield* setUp
      yield* store.append(stream, [{ type: "Happened", data: { secret: 1 } }], { expected: "any" })
      reads.hold = yield* Deferred.make<void, Errors.ReadFailure>()
      const read = Stream.runHead(store.subscribe({ limit: 1 }))
      const first = yield* Effect.fork(read)
      yield* turns
      assert.strictEqual(reads.times, 1)
      const [stored] = [...(yield* Stream.runCollect(Stream.take(store.read(stream), 1)))]
      yield* store.maintenance.update(stored?.id ?? "", { data: { secret: 0 } })
      const second = yield* Effect.fork(read)
      yield* turns
      yield* Deferred.succeed(reads.hold, undefined)
      const dataOf = (fiber: typeof first) =>
        Effect.map(Fiber.join(fiber), (event) => (event._tag === "Some" ? event.value.data : undefined))
      assert.deepStrictEqual([yield* dataOf(first), yield* dataOf(second)], [{ secret: 1 }, { secret: 0 }])
      assert.lengthOf(requests, 2)
      assert.isAtLeast(heads.times, 2)
    })
)

it.effect("during an outage the backend is asked once in the poll interval for all, and then all go on", () =>
  Effect.gen(function* () {
    const { append, heads, store } = yield* setUp
    const followers = yield* several(100, () => follow(store))
    yield* turns
    const away = Effect.gen(function* () {
      heads.hold = yield* Deferred.make<void, Errors.ReadFailure>()
      yield* Deferred.fail(
        heads.hold,
        new Errors.StoreUnavailable({ operation: "test", retryable: true, cause: new Error("no network") })
      )
    })
    yield* away
    yield* append()
    yield* turns
    heads.times = 0
    for (let i = 0; i < 3; i++) {
      yield* TestClock.adjust(pollInterval)
      yield* turns
    }
    assert.strictEqual(heads.times, 3)
    heads.hold = undefined
    yield* TestClock.adjust(pollInterval)
    yield* turns
    for (const { seen } of followers) assert.deepStrictEqual(seen, [1])
  })
)

it.effect("what dies in the backend ends all of them, and does not leave them waiting", () =>
  Effect.gen(function* () {
    const { port } = yield* setUp
    const options = { system: "memory", pollInterval }
    const defect = new Error("a bug")
    const bugs: ReadonlyArray<Partial<EventStoreEncoded.Encoded>> = [
      { head: Effect.die(defect) },
      { hints: Effect.die(defect) },
      { readFeed: () => Effect.die(defect) }
    ]
    yield* EventStoreEncoded.make(port, options).append(stream, [{ type: "Happened", data: {} }], { expected: "any" })
    for (const bug of bugs) {
      const store = EventStoreEncoded.make({ ...port, ...bug }, options)
      for (const { fiber } of yield* several(3, () => follow(store))) {
        const exit = yield* Fiber.await(fiber)
        assert.isTrue(Exit.isFailure(exit) && [...Cause.defects(exit.cause)].includes(defect))
      }
    }
  })
)

it.effect("each polls by the clock that it runs on", () =>
  Effect.gen(function* () {
    const { append, port } = yield* setUp
    const store = EventStoreEncoded.make(
      { ...port, hints: Effect.succeed(Effect.never) },
      { system: "memory", pollInterval }
    )
    const own = yield* follow(store)
    const other = yield* Effect.withClock(follow(store), Clock.make())
    yield* turns
    yield* append()
    yield* TestClock.adjust(pollInterval)
    yield* turns
    assert.deepStrictEqual([own.seen, other.seen], [[1], []])
    yield* Fiber.interrupt(other.fiber)
  })
)

it.effect("in a transaction a subscription sees what that has appended, and others do not", () =>
  Effect.gen(function* () {
    const database = yield* MemoryDatabase.MemoryDatabase
    const store = yield* EventStore.EventStore
    const outside = yield* follow(store)
    yield* turns
    yield* database.transaction(
      Effect.gen(function* () {
        yield* store.append(stream, [{ type: "Happened", data: {} }], { expected: "any" })
        const inside = yield* Stream.runCollect(store.subscribe({ limit: 1 }))
        assert.deepStrictEqual(
          [...inside].map(({ version }) => version),
          [1]
        )
        yield* turns
        assert.deepStrictEqual(outside.seen, [])
      })
    )
    yield* turns
    assert.deepStrictEqual(outside.seen, [1])
  }).pipe(Effect.provide(Layer.provideMerge(EventStoreMemory.layerFromDatabase(), MemoryDatabase.layer)))
)

it.effect("a step without events comes once in the poll interval, and not to those who did not ask for steps", () =>
  Effect.gen(function* () {
    const { append, store } = yield* setUp
    const filter = { types: ["Rare"] }
    const steps: Array<readonly [number, number]> = []
    yield* Effect.fork(
      Stream.runForEach(store.follow({ filter }), ({ events, position }) =>
        Effect.sync(() => steps.push([events.length, position]))
      )
    )
    const { seen } = yield* follow(store, { filter })
    yield* turns
    let last = 0
    for (let i = 0; i < 20; i++) {
      last = (yield* append()).position
      yield* turns
    }
    assert.deepStrictEqual(steps, [])
    yield* TestClock.adjust(pollInterval)
    yield* turns
    assert.deepStrictEqual(steps, [[0, last]])
    // Nothing has come since, so there is nothing to say.
    yield* TestClock.adjust(Duration.times(pollInterval, 3))
    yield* turns
    assert.lengthOf(steps, 1)
    const { position } = yield* append("Rare")
    yield* turns
    assert.deepStrictEqual(steps.slice(1), [[1, position]])
    assert.deepStrictEqual(seen, [21])
  })
)
