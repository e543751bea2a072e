/**
 * What the subscriptions of one store share: a single look for new events whenever there may be some, and a single read
 * of them for those who stand at the same place. What a subscription makes of it is in `subscription`.
 *
 * A subscriber that waits is a record in a set. It costs nothing until the head of the feed has passed it, and then a
 * test of its filter. Nothing is kept for one that does not ask: it reads by itself when it does, from where it stands.
 */
import * as Cause from "effect/Cause"
import type * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Runtime from "effect/Runtime"
import type * as Scope from "effect/Scope"
import { isRetryable } from "../Errors.js"
import type { ReadError } from "../EventStore.js"
import { outside } from "../internal/fibers.js"
import { Hints } from "../internal/Hints.js"
import { type Page, pageBytes, pageSize } from "../internal/pages.js"
import type { Encoded, EncodedEvent, EncodedFilter } from "./EventStoreEncoded.js"
import { neverGiven } from "./head.js"
import { anyEvent, matches } from "./matches.js"

/** So many filters at one place are read one by one; where there are more, everything is read once for all of them. */
const filtersMax = 8

/** Where a subscriber stands, and how many events it takes. Up to `through` it knows that it may read. */
export interface Place {
  readonly after: number
  readonly through: number
  readonly limit: number
}

/** What comes next for a subscriber. It has seen everything up to `position`, and may read on up to `through`. */
export interface Found {
  readonly events: ReadonlyArray<EncodedEvent>
  readonly position: number
  readonly through: number
}

interface Subscriber {
  readonly filter: EncodedFilter
  readonly key: string
  readonly matches: (event: EncodedEvent) => boolean
  /** It is told where it stands although there were no events. */
  readonly hearsOfNothing: boolean
  /** It has not been told anything yet, or had to begin again: what the others know may be too old for it. */
  isNew: boolean
}

/** A subscriber that waits. `after` moves on while nothing is found for it. */
interface Waiter {
  readonly subscriber: Subscriber
  readonly from: number
  readonly sinceMs: number
  readonly limit: number
  readonly done: (exit: Exit.Exit<Found, ReadError>) => void
  after: number
  /** Where it waits at the moment. */
  leave: () => Effect.Effect<void>
}

/** A read that is about to begin, and who is to have it. */
interface Gathering {
  readonly waiters: Set<Waiter>
  readonly fiber: Fiber.RuntimeFiber<void>
}

export class Following {
  /** By the clock that their poll interval runs on, which tests replace. */
  private readonly watches = new Map<Clock.Clock, Watch>()

  constructor(
    private readonly encoded: Encoded,
    private readonly pollInterval: Duration.Duration
  ) {}

  /**
   * Takes part until the scope closes. The effect that is returned for a place waits until there is something. In a
   * transaction of the caller a subscriber looks and reads for itself alone, because only there that is part of it.
   */
  join(
    filter: EncodedFilter,
    hearsOfNothing: boolean
  ): Effect.Effect<(place: Place) => Effect.Effect<Found, ReadError>, never, Scope.Scope> {
    return Effect.gen(this, function* () {
      const runtime = yield* Effect.runtime<never>()
      const isAlone = yield* this.encoded.inTransaction
      const clock = yield* Effect.clock
      const watch = yield* Effect.acquireRelease(
        Effect.sync(() => {
          const known = isAlone ? undefined : this.watches.get(clock)
          const watch = known ?? new Watch(this.encoded, this.pollInterval, clock, forking(runtime, isAlone))
          if (!isAlone) this.watches.set(clock, watch)
          watch.members++
          return watch
        }),
        (watch) =>
          Effect.suspend(() => {
            if (--watch.members > 0) return Effect.void
            if (this.watches.get(clock) === watch) this.watches.delete(clock)
            return watch.close
          })
      )
      const subscriber: Subscriber = {
        filter,
        key: JSON.stringify(filter),
        matches: matches(filter),
        hearsOfNothing,
        isNew: true
      }
      return (place) => watch.next(subscriber, place)
    })
  }
}

type Fork = (self: Effect.Effect<void>) => Fiber.RuntimeFiber<void>

/** Outside of what the subscriber is in that came first, as all are to have it. It begins after those that wait run. */
const forking =
  (runtime: Runtime.Runtime<never>, isAlone: boolean): Fork =>
  (self) =>
    Runtime.runFork(runtime)(Effect.interruptible(isAlone ? self : outside(self, Context.empty())), {
      immediate: false
    })

class Watch {
  members = 0
  private readonly waiting = new Set<Waiter>()
  private readonly gatherings = new Map<string, Gathering>()
  private readonly wakeUps = new Hints()
  private readonly looking: Fiber.RuntimeFiber<void>
  /** The head as it was seen last. What comes after it is heard of, or found when it is time to poll. */
  private seen = -1
  private broken: Exit.Exit<never, ReadError> | undefined

  constructor(
    private readonly encoded: Encoded,
    private readonly pollInterval: Duration.Duration,
    private readonly clock: Clock.Clock,
    private readonly fork: Fork
  ) {
    this.looking = fork(
      Effect.catchAllCause(Effect.scoped(this.look), (cause) =>
        Effect.sync(() => {
          this.broken = Exit.failCause(cause)
          this.fail(this.broken)
        })
      )
    )
  }

  readonly close: Effect.Effect<void> = Effect.suspend(() => Effect.asVoid(Fiber.interrupt(this.looking)))

  next(subscriber: Subscriber, { after, limit, through }: Place): Effect.Effect<Found, ReadError> {
    return Effect.async((resume) => {
      const waiter: Waiter = {
        subscriber,
        from: after,
        sinceMs: this.clock.unsafeCurrentTimeMillis(),
        limit,
        done: (exit) => {
          subscriber.isNew = Exit.isFailure(exit)
          resume(exit)
        },
        after,
        leave: () => Effect.void
      }
      if (through > after) this.read(waiter, through)
      else this.wait(waiter)
      return Effect.suspend(() => waiter.leave())
    })
  }

  private wait(waiter: Waiter): void {
    if (this.broken !== undefined) return waiter.done(this.broken)
    this.waiting.add(waiter)
    waiter.leave = () => Effect.sync(() => this.waiting.delete(waiter))
    if (waiter.subscriber.isNew || waiter.after !== this.seen) this.wakeUps.signal()
  }

  private fail(exit: Exit.Exit<never, ReadError>): void {
    const waiters = [...this.waiting]
    this.waiting.clear()
    for (const { done } of waiters) done(exit)
  }

  /**
   * 1. Asks for the head if anybody waits, and has those served whom it has passed.
   * 2. Waits for a hint, a subscriber that must not wait for one, or the poll interval. If the backend is unavailable,
   *    it is asked again after the poll interval, and all go on waiting. They are told a failure that would repeat.
   */
  private get look(): Effect.Effect<never, never, Scope.Scope> {
    return Effect.gen(this, function* () {
      const hint = yield* this.encoded.hints
      const wakeUp = yield* this.wakeUps.register
      yield* Effect.forkScoped(Effect.forever(Effect.tap(hint, () => this.wakeUps.signal())))
      const round = Effect.flatMap(Effect.exit(this.serve), (exit) => {
        if (Exit.isSuccess(exit)) return Effect.timeoutOption(wakeUp, this.pollInterval)
        const error = Cause.failureOption(exit.cause)
        if (error._tag === "Some" && isRetryable(error.value)) {
          return Effect.zipRight(
            Effect.logDebug("subscriptions wait for the backend", error.value),
            Effect.sleep(this.pollInterval)
          )
        }
        this.fail(Exit.failCause(exit.cause))
        return Effect.timeoutOption(wakeUp, this.pollInterval)
      })
      return yield* Effect.forever(round)
    })
  }

  /**
   * Nothing is asked while nobody waits, so no question is under way when the last one has what it wanted: to interrupt
   * one costs its connection, and in a transaction of the caller the transaction.
   */
  private get serve(): Effect.Effect<void, ReadError> {
    return Effect.suspend(() => {
      if (this.waiting.size === 0) {
        // There may be something new. Whoever comes next is to ask.
        this.seen = -1
        return Effect.void
      }
      return Effect.flatMap(this.encoded.head, (head) => {
        this.seen = head
        this.passed(head)
        const ahead = [...this.waiting].filter(({ after }) => after > head)
        return ahead.length === 0
          ? Effect.void
          : Effect.map(this.encoded.lastPosition, (last) => this.refuse(ahead, last))
      })
    })
  }

  /** See `headAfter`. Who came after `last` was asked for may stand at a position that was given since. */
  private refuse(ahead: ReadonlyArray<Waiter>, last: number): void {
    for (const waiter of ahead) {
      if (waiter.after <= last || !this.waiting.delete(waiter)) continue
      waiter.done(Exit.fail(neverGiven(waiter.after, last, "options.after")))
    }
  }

  private passed(head: number): void {
    const nowMs = this.clock.unsafeCurrentTimeMillis()
    const places = new Map<number, Array<Waiter>>()
    for (const waiter of this.waiting) {
      if (waiter.after < head) {
        this.waiting.delete(waiter)
        const place = places.get(waiter.after)
        if (place === undefined) places.set(waiter.after, [waiter])
        else place.push(waiter)
      } else if (this.isToHear(waiter, nowMs)) {
        this.waiting.delete(waiter)
        waiter.done(Exit.succeed({ events: [], position: waiter.after, through: waiter.after }))
      }
    }
    for (const waiters of places.values()) {
      const filters = new Set(waiters.map(({ subscriber }) => subscriber.key))
      for (const waiter of waiters) this.read(waiter, head, filters.size > filtersMax)
    }
  }

  /** It has moved on, and has not been told of it for an interval. */
  private isToHear({ after, from, sinceMs, subscriber }: Waiter, nowMs: number): boolean {
    return subscriber.hearsOfNothing && after > from && nowMs - sinceMs >= Duration.toMillis(this.pollInterval)
  }

  /**
   * Has a page read for all who ask for the same one before it begins. So none of them gets what was read before it has
   * asked, which `maintenance` may have changed since.
   */
  private read(waiter: Waiter, through: number, everything = false): void {
    const { after, subscriber } = waiter
    const filter = everything ? anyEvent : subscriber.filter
    const key = `${after} ${through} ${everything ? "" : subscriber.key}`
    const known = this.gatherings.get(key)
    const gathering = known ?? this.gather(key, after, through, filter, everything)
    gathering.waiters.add(waiter)
    waiter.leave = () => {
      gathering.waiters.delete(waiter)
      return gathering.waiters.size === 0 ? this.abandon(key, gathering) : Effect.void
    }
  }

  private abandon(key: string, gathering: Gathering): Effect.Effect<void> {
    if (this.gatherings.get(key) === gathering) this.gatherings.delete(key)
    return Effect.asVoid(Fiber.interrupt(gathering.fiber))
  }

  private gather(key: string, after: number, through: number, filter: EncodedFilter, everything: boolean): Gathering {
    const waiters = new Set<Waiter>()
    const read = Effect.suspend(() => {
      this.gatherings.delete(key)
      let limit = everything ? pageSize : 0
      for (const waiter of waiters) limit = Math.max(limit, waiter.limit)
      return this.encoded.readFeed({ after, through, direction: "forward", filter, limit, maxBytes: pageBytes })
    })
    const fiber = this.fork(
      Effect.flatMap(Effect.exit(read), (exit) =>
        Effect.sync(() => {
          for (const waiter of waiters) {
            if (Exit.isSuccess(exit)) this.give(waiter, exit.value, through, everything)
            // The reason may lie in an event that this one does not ask for.
            else if (everything) this.read(waiter, through)
            else waiter.done(Exit.failCause(exit.cause))
          }
        })
      )
    )
    const gathering = { waiters, fiber }
    this.gatherings.set(key, gathering)
    return gathering
  }

  private give(waiter: Waiter, page: Page<EncodedEvent>, through: number, everything: boolean): void {
    const { limit, subscriber } = waiter
    const own = everything ? page.items.filter(subscriber.matches) : page.items
    const events = own.length > limit ? own.slice(0, limit) : own
    const last =
      own.length > limit ? events[events.length - 1] : page.more ? page.items[page.items.length - 1] : undefined
    const position = last?.position ?? through
    waiter.after = position
    if (events.length > 0 || this.isToHear(waiter, this.clock.unsafeCurrentTimeMillis())) {
      waiter.done(Exit.succeed({ events, position, through }))
    } else if (position < through) this.read(waiter, through)
    else this.wait(waiter)
  }
}
