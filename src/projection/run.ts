/**
 * How a projection is run: which partitions this process claims, and that it gives them back.
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as FiberMap from "effect/FiberMap"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { type Checkpoint, CheckpointStore, type Lease } from "../CheckpointStore.js"
import { isTransient } from "../Errors.js"
import { EventStore, type EventStoreShape } from "../EventStore.js"
import { partsOf } from "../internal/lifted.js"
import { checked, identifier, options as knownKeys } from "../internal/validate.js"
import type { RunError, RunOptions } from "../Projection.js"
import * as Uuid from "../Uuid.js"
import { deadLettersOf, retryAll } from "./deadLetters.js"
import type { Definition } from "./definition.js"
import { logged } from "./errors.js"
import { hold } from "./holding.js"
import { checkpointsOf } from "./looking.js"
import * as metrics from "./metrics.js"
import { type Follower, type Held, work } from "./work.js"

/** Between looks for partitions to claim. */
const lookMs = 1_000

/** Between looks at a partition that another process works on. */
const waitingMs = 20

/** Longer than a store takes that works. */
const givingBackMax = Duration.seconds(1)

const pollIntervalDefault = Duration.seconds(1)

interface Hinting {
  readonly hints: Effect.Effect<Effect.Effect<void>, never, Scope.Scope>
}

/** Waits for a hint of the EventStore, or for its poll interval. A service that was made by hand gives no hints. */
const wakeUps = (events: EventStoreShape): Effect.Effect<Effect.Effect<void>, never, Scope.Scope> => {
  const parts = partsOf(events)
  const port = parts?.encoded as Partial<Hinting> | undefined
  const options = parts?.options as { readonly pollInterval?: Duration.Duration } | undefined
  const pollInterval = options?.pollInterval ?? pollIntervalDefault
  return Effect.map(port?.hints ?? Effect.succeed(Effect.never), (hint) =>
    Effect.asVoid(Effect.timeoutOption(hint, pollInterval))
  )
}

const followerOf = <R>(definition: Definition<R>, owner: string | undefined) =>
  Effect.gen(function* () {
    const nowMs = yield* Clock.currentTimeMillis
    const follower: Follower<R> = {
      definition,
      owner: owner ?? Uuid.v7(nowMs),
      checkpoints: yield* CheckpointStore,
      events: yield* EventStore,
      metrics: metrics.make(definition)
    }
    return follower
  })

const open = <R>({ checkpoints, definition }: Follower<R>) => {
  const { generation, name, partitions } = definition
  return checkpoints.open({ name, generation }, { partitions })
}

/**
 * Looks first: where one writes at a time, opening would wait for a handler. They are opened anew if they were deleted.
 */
const found = <R>(follower: Follower<R>) => {
  const { checkpoints, definition } = follower
  return Effect.flatMap(checkpointsOf(checkpoints, definition), (all) =>
    all.length === 0 ? open(follower) : Effect.succeed(all)
  )
}

/** None while another has it, or when it was deleted meanwhile. */
const claim = <R>({ checkpoints, definition, owner }: Follower<R>, partition: number, takeFrom?: number) =>
  Effect.gen(function* () {
    const { generation, lease, name } = definition
    const fromMs = yield* Clock.currentTimeMillis
    const claimed = yield* checkpoints.claim({ name, generation }, { owner, partition, lease, takeFrom })
    const held = (lease: Lease): Held => ({
      lease,
      untilMs: fromMs + Duration.toMillis(lease.duration),
      isResuming: false
    })
    return Option.map(claimed, held)
  }).pipe(Effect.catchTag("NotFound", () => Effect.succeedNone))

/** Not waited for longer than a working store takes: a lease that is not given back ends. */
const giveBack = <R>({ checkpoints }: Follower<R>, lease: Lease): Effect.Effect<void> =>
  Effect.ignore(Effect.timeout(Effect.interruptible(checkpoints.release(lease)), givingBackMax))

const isHeld = ({ leaseLeft }: Checkpoint): boolean => Duration.greaterThan(leaseLeft, Duration.zero)

/** Tries again while the store is unavailable. */
const persistently = <A, E, R>({ name }: { readonly name: string }, self: Effect.Effect<A, E, R>) =>
  self.pipe(
    Effect.tapError((error) =>
      isTransient(error)
        ? Effect.logWarning(`projection ${name} waits for the CheckpointStore`, logged(error))
        : Effect.void
    ),
    Effect.retry({ while: isTransient, schedule: Schedule.spaced(lookMs) })
  )

/**
 * Which partitions to claim: of the `free`, which nobody has, until this process has its `share`; if it gets none of
 * them, `richest`, which is one of another who has at least two more.
 */
export const wanted = (
  checkpoints: ReadonlyArray<Checkpoint>,
  owner: string,
  own: ReadonlySet<number>
): { readonly free: ReadonlyArray<number>; readonly share: number; readonly richest: Checkpoint | undefined } => {
  const byOwner = new Map<string, Array<Checkpoint>>()
  for (const checkpoint of checkpoints) {
    if (!isHeld(checkpoint) || own.has(checkpoint.partition)) continue
    const other = Option.getOrElse(checkpoint.owner, () => owner)
    byOwner.set(other, [...(byOwner.get(other) ?? []), checkpoint])
  }
  const share = Math.ceil(checkpoints.length / (byOwner.size + 1))
  const free = checkpoints
    .filter((checkpoint) => !isHeld(checkpoint) && !own.has(checkpoint.partition))
    .map(({ partition }) => partition)
  const most = [...byOwner.values()].reduce<ReadonlyArray<Checkpoint>>(
    (most, theirs) => (theirs.length > most.length ? theirs : most),
    []
  )
  return { free, share, richest: most.length >= own.size + 2 ? most[most.length - 1] : undefined }
}

/**
 * 1. Looks for partitions to claim, again and again. Each that it gets is worked on by a fiber of its own, until it is
 *    lost.
 * 2. The first that fails ends all of them.
 * 3. When all have ended, gives the partitions back.
 */
export const run = <R>(
  definition: Definition<R>,
  options: RunOptions | undefined
): Effect.Effect<never, RunError, R | EventStore | CheckpointStore> =>
  checked(
    () => {
      const { owner } = knownKeys(options, "options", ["owner"])
      return owner === undefined ? undefined : identifier(owner, "options.owner")
    },
    (owner) => Effect.flatMap(followerOf(definition, owner), (follower) => Effect.scoped(running(follower)))
  )

const running = <R>(follower: Follower<R>): Effect.Effect<never, RunError, R | Scope.Scope> =>
  Effect.gen(function* () {
    const { definition, events, metrics, owner } = follower
    yield* persistently(definition, open(follower))
    const held = new Map<number, Held>()
    yield* Effect.addFinalizer(() =>
      Effect.zipRight(
        Effect.forEach(held.values(), ({ lease }) => giveBack(follower, lease), { concurrency: 16, discard: true }),
        Effect.sync(() => {
          metrics.held(0)
          for (const partition of held.keys()) metrics.lag(partition, 0)
        })
      )
    )
    // Closed before that, so the partitions are at rest when they are given back.
    const fibers = yield* FiberMap.make<number | "looking", void, RunError>()

    const workOn = (partition: number, own: Held) => {
      held.set(partition, own)
      metrics.held(held.size)
      const lost = Effect.sync(() => {
        held.delete(partition)
        metrics.held(held.size)
        metrics.lag(partition, 0)
      })
      const working = Effect.flatMap(wakeUps(events), (wakeUp) => hold(follower, own, work(follower, own, wakeUp)))
      return FiberMap.run(fibers, partition, Effect.interruptible(Effect.zipRight(Effect.scoped(working), lost)))
    }

    const tryClaim = (partition: number, takeFrom?: number) =>
      // Whoever is interrupted between the two would keep the partition from others.
      Effect.uninterruptible(
        Effect.flatMap(claim(follower, partition, takeFrom), (claimed) =>
          Option.isSome(claimed) ? workOn(partition, claimed.value) : Effect.void
        )
      )

    const look = Effect.gen(function* () {
      const checkpoints = yield* found(follower)
      const { free, richest, share } = wanted(checkpoints, owner, new Set(held.keys()))
      // Some of them may be locked by a handler, so this goes on to the next when it does not get one.
      for (const partition of free) if (held.size < share) yield* tryClaim(partition)
      if (richest !== undefined && !free.some((partition) => held.has(partition))) {
        yield* tryClaim(richest.partition, richest.token)
      }
    })
    const pauseMs = Math.min(lookMs, Duration.toMillis(definition.lease) / 3)
    const looking = Effect.forever(Effect.zipRight(persistently(definition, look), Effect.sleep(pauseMs)))
    yield* FiberMap.run(fibers, "looking", looking)
    return yield* Effect.zipRight(FiberMap.join(fibers), Effect.never)
  })

/** Each partition in turn, by whoever can: where another works on one, that is waited for. */
export const catchUp = <R>(
  definition: Definition<R>
): Effect.Effect<number, RunError, R | EventStore | CheckpointStore> =>
  Effect.gen(function* () {
    const follower = yield* followerOf(definition, undefined)
    yield* open(follower)
    const head = yield* follower.events.head
    for (let partition = 0; partition < definition.partitions; partition++) yield* bring(follower, partition, head)
    return head
  })

const bring = <R>(follower: Follower<R>, partition: number, until: number): Effect.Effect<void, RunError, R> =>
  Effect.gen(function* () {
    for (;;) {
      const checkpoints = yield* found(follower)
      const position = checkpoints[partition]?.position ?? 0
      if (position === until) return
      // Fails if the store has never had that position.
      if (position > until) return yield* Stream.runDrain(Stream.take(follower.events.feed({ after: position }), 1))
      const isDone = yield* withPartition(follower, partition, undefined, (held) =>
        work(follower, held, Effect.yieldNow(), until)
      )
      if (isDone) return
      yield* Effect.sleep(waitingMs)
    }
  })

/** Claims the partition, does the work and gives it back. False if another has it, or has taken it over. */
const withPartition = <R>(
  follower: Follower<R>,
  partition: number,
  takeFrom: number | undefined,
  work: (held: Held) => Effect.Effect<boolean, RunError, R>
): Effect.Effect<boolean, RunError, R> =>
  Effect.acquireUseRelease(
    claim(follower, partition, takeFrom),
    (claimed) => (Option.isNone(claimed) ? Effect.succeed(false) : hold(follower, claimed.value, work(claimed.value))),
    (claimed) => (Option.isNone(claimed) ? Effect.void : giveBack(follower, claimed.value.lease))
  )

/** Partition by partition, each of which is taken from whoever works on it. */
export const retryDeadLetters = <R>(
  definition: Definition<R>
): Effect.Effect<number, RunError, R | EventStore | CheckpointStore> =>
  Effect.gen(function* () {
    const follower = yield* followerOf(definition, undefined)
    const letters = yield* deadLettersOf(follower)
    let left = 0
    for (const partition of new Set(letters.map(({ partition }) => partition))) {
      left += yield* retryIn(follower, partition)
    }
    return left
  })

const retryIn = <R>(follower: Follower<R>, partition: number): Effect.Effect<number, RunError, R> =>
  Effect.gen(function* () {
    for (let left = 0; ; ) {
      const checkpoint = (yield* found(follower)).find((checkpoint) => checkpoint.partition === partition)
      const takeFrom = checkpoint === undefined || checkpoint.token === 0 ? undefined : checkpoint.token
      const isDone = yield* withPartition(follower, partition, takeFrom, (held) =>
        Effect.map(retryAll(follower, held), (found) => {
          left = found
          return true
        })
      )
      if (isDone) return left
      yield* Effect.sleep(waitingMs)
    }
  })
