/**
 * What the fiber of a load does for its flights: takes tickets, runs the loader while it renews them, waits for the
 * loads of other processes, and settles.
 */
import { randomUUID } from "node:crypto"
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import { DoNotStore, LoadTimeout } from "../CacheStore.js"
import { InvalidInput } from "../Errors.js"
import { invalid } from "../internal/validate.js"
import * as Json from "../Json.js"
import type { EncodedEntry, Options, Place, Settlement, Ticket } from "./CacheStoreEncoded.js"
import { isReadable } from "./decode.js"
import type { Flight, Flights, Landing } from "./flights.js"
import type { GuardedPort } from "./GuardedPort.js"
import type { Loading } from "./input.js"

/** After a load has failed and a stale value is served instead, nobody tries again for this long. */
const holdMs = 1_000

/** Between two looks at a lock that another process holds. */
const pollMinMs = 5
const pollMaxMs = 100

const defaultLeaseMs = 5_000

export type LoadMany<E, R> = (keys: ReadonlyArray<string>) => Effect.Effect<ReadonlyMap<string, unknown>, E, R>

interface Granted {
  readonly flight: Flight
  /** Undefined: without the backend. */
  readonly ticket: Ticket | undefined
  readonly entry: EncodedEntry | null
}

interface Busy {
  readonly flight: Flight
  readonly entry: EncodedEntry | null
}

/** Ends every one of the flights, by `deadlineMs` at the latest. */
type Fly = <E, R>(
  flying: ReadonlyArray<Flight>,
  load: LoadMany<E, R>,
  loading: Loading,
  deadlineMs: number
) => Effect.Effect<void, never, R>

export const make = (
  port: GuardedPort,
  flights: Flights,
  { leaseMs = defaultLeaseMs, readOnly = false }: Options
): { readonly fly: Fly } => {
  /** Ends the flights that a load was for; none: it was not in time. */
  const finish = (
    granted: ReadonlyArray<Granted>,
    exit: Option.Option<Exit.Exit<ReadonlyMap<string, unknown>, unknown>>,
    held: Set<Ticket>,
    loading: Loading
  ): Effect.Effect<void> => {
    const { graceMs, tags, ttlMs } = loading
    const outcomeOf = (place: Place): Either.Either<Loaded | null, Cause.Cause<unknown>> => {
      if (Option.isNone(exit)) return Either.left(Cause.fail(timeoutOf(place, loading)))
      return Exit.isSuccess(exit.value) ? textOf(exit.value.value, place.key) : Either.left(exit.value.cause)
    }
    const settlements: Array<Settlement> = []
    const landings = granted.map(({ entry, flight, ticket }): [Flight, Ticket | undefined, Landing] => {
      const { place } = flight
      const outcome = outcomeOf(place)
      const stale = entry
      if (Either.isLeft(outcome)) {
        // Also a value that is fresh and was to be refreshed ahead: it is tried again when the hold ends.
        if (ticket !== undefined) settlements.push({ ticket, write: null, holdMs: stale === null ? 0 : holdMs })
        return [flight, ticket, { _tag: "Failed", cause: outcome.left, stale, confirmed: false }]
      }
      const loaded = outcome.right
      if (ticket !== undefined) {
        const write = loaded?.store ? { ...place, value: loaded.text, keyId: null, ttlMs, graceMs, tags } : null
        settlements.push({ ticket, write, holdMs: 0 })
      }
      return [flight, ticket, { _tag: "Value", text: loaded?.text ?? null, confirmed: false }]
    })
    // From here on a caller looks at the backend, because a removal may come after the settlement.
    for (const { flight } of granted) flights.remove(flight)
    return Effect.map(port.settle(settlements), (confirmed) => {
      const standing = new Set(settlements.filter((_, i) => confirmed[i]).map(({ ticket }) => ticket))
      for (const [flight, ticket, landing] of landings) {
        if (ticket !== undefined) held.delete(ticket)
        flights.land(flight, { ...landing, confirmed: ticket !== undefined && standing.has(ticket) } as Landing)
      }
    })
  }

  const fly = <E, R>(
    flying: ReadonlyArray<Flight>,
    load: LoadMany<E, R>,
    loading: Loading,
    deadlineMs: number,
    pollMs: number
  ): Effect.Effect<void, never, R> =>
    Effect.uninterruptibleMask((restore) =>
      Effect.gen(function* () {
        const first = flying[0] as Flight
        const { tenantId } = first.place
        const keys = flying.map(({ place }) => place.key)
        for (const flight of flying) flight.round++
        const token = randomUUID()
        const { refreshMs, tags } = loading
        // Not interruptible: what is granted must be known, to be given back.
        const begun = readOnly ? [] : yield* port.begin({ tenantId, keys, tags, token, leaseMs, refreshMs })
        const granted: Array<Granted> = []
        const busy: Array<Busy> = []
        const unreadable: Array<Flight> = []
        for (const [i, flight] of flying.entries()) {
          const outcome = begun[i]
          if (outcome === undefined) granted.push({ flight, ticket: undefined, entry: null })
          else if (outcome._tag === "Granted") granted.push({ flight, ticket: outcome.ticket, entry: outcome.entry })
          else if (outcome._tag === "Busy") busy.push({ flight, entry: outcome.entry })
          else if (isReadable(outcome.entry)) {
            flights.land(flight, { _tag: "Found", entry: outcome.entry, confirmed: false })
          } else unreadable.push(flight)
        }
        const held = new Set(granted.flatMap(({ ticket }) => (ticket === undefined ? [] : [ticket])))
        const giveBack = Effect.suspend(() =>
          port.settle([...held].map((ticket) => ({ ticket, write: null, holdMs: 0 })))
        )
        yield* restore(
          Effect.all(
            [
              granted.length === 0 ? Effect.void : loadGranted(granted, held, load, loading, deadlineMs),
              busy.length === 0 ? Effect.void : wait(busy, load, loading, deadlineMs, pollMs),
              unreadable.length === 0 ? Effect.void : replace(unreadable, load, loading, deadlineMs)
            ],
            { concurrency: "unbounded", discard: true }
          )
        ).pipe(Effect.ensuring(giveBack))
      })
    )

  /** What nobody can read, although it is fresh, gives way. */
  const replace = <E, R>(
    unreadable: ReadonlyArray<Flight>,
    load: LoadMany<E, R>,
    loading: Loading,
    deadlineMs: number
  ): Effect.Effect<void, never, R> => {
    const [first] = unreadable
    if (first === undefined) return Effect.void
    const keys = unreadable.map(({ place }) => place.key)
    const without = unreadable.map((flight) => ({ flight, ticket: undefined, entry: null }))
    return Effect.matchEffect(port.encoded.remove(first.place.tenantId, keys), {
      onFailure: () => loadGranted(without, new Set(), load, loading, deadlineMs),
      onSuccess: () => fly(unreadable, load, loading, deadlineMs, pollMinMs)
    })
  }

  /** Waits for the loads of others, and looks again. */
  const wait = <E, R>(
    busy: ReadonlyArray<Busy>,
    load: LoadMany<E, R>,
    loading: Loading,
    deadlineMs: number,
    pollMs: number
  ): Effect.Effect<void, never, R> =>
    Effect.gen(function* () {
      const nowMs = yield* Clock.currentTimeMillis
      // Of those whose callers have their stale value, somebody else's load is load enough.
      const waited = busy.filter(({ flight }) => flight.waiting > 0)
      for (const { flight } of busy) if (flight.waiting === 0) flights.abandon(flight)
      if (waited.length === 0) return
      if (nowMs >= deadlineMs) {
        for (const { entry, flight } of waited) {
          const cause = Cause.fail(timeoutOf(flight.place, loading))
          flights.land(flight, { _tag: "Failed", cause, stale: entry, confirmed: false })
        }
        return
      }
      yield* Effect.sleep(Math.min(pollMs, deadlineMs - nowMs))
      const again = waited.map(({ flight }) => flight)
      yield* fly(again, load, loading, deadlineMs, Math.min(pollMs * 1.5, pollMaxMs))
    })

  const loadGranted = <E, R>(
    granted: ReadonlyArray<Granted>,
    held: Set<Ticket>,
    load: LoadMany<E, R>,
    loading: Loading,
    deadlineMs: number
  ): Effect.Effect<void, never, R> =>
    Effect.uninterruptibleMask((restore) =>
      Effect.gen(function* () {
        const keys = granted.map(({ flight }) => flight.place.key)
        // A fiber of its own: finalizers of a load that is interrupted keep nobody waiting, nor the lock.
        const running = yield* Effect.forkDaemon(Effect.interruptible(Effect.suspend(() => load(keys))))
        const renewing =
          held.size === 0 || leaseMs === Number.POSITIVE_INFINITY
            ? undefined
            : yield* Effect.forkDaemon(Effect.interruptible(renewals(held)))
        const leftMs = deadlineMs - (yield* Clock.currentTimeMillis)
        const exit = yield* restore(Effect.timeoutOption(Fiber.await(running), Math.max(0, leftMs))).pipe(
          Effect.onExit((exit) =>
            Effect.zipRight(
              renewing === undefined ? Effect.void : Fiber.interruptFork(renewing),
              Exit.isSuccess(exit) && Option.isSome(exit.value) ? Effect.void : Fiber.interruptFork(running)
            )
          )
        )
        yield* finish(granted, exit, held, loading)
      })
    )

  const renewals = (held: ReadonlySet<Ticket>): Effect.Effect<unknown> =>
    Effect.suspend(() => port.encoded.renew([...held], leaseMs)).pipe(
      // Whether the lock is lost is found out in the end; until then the next renewal may succeed.
      Effect.ignore,
      Effect.delay(leaseMs / 3),
      Effect.repeat(Schedule.forever)
    )

  return { fly: (flying, load, loading, deadlineMs) => fly(flying, load, loading, deadlineMs, pollMinMs) }
}

const timeoutOf = ({ key, tenantId }: Place, { hardMs }: Loading): LoadTimeout =>
  new LoadTimeout({ tenantId, key, timeoutMs: hardMs })

/** What a loader gave for a key: JSON text, and whether to store it. */
interface Loaded {
  readonly text: string
  readonly store: boolean
}

/** Null: it has left the key out. A look at what a loader gave may throw. */
export const textOf = (
  loaded: ReadonlyMap<string, unknown>,
  key: string
): Either.Either<Loaded | null, Cause.Cause<InvalidInput>> => {
  try {
    if (!(loaded instanceof Map)) {
      return Either.left(Cause.fail(new InvalidInput({ what: "load", why: "must give a Map of values by key" })))
    }
    if (!loaded.has(key)) return Either.right(null)
    const given: unknown = loaded.get(key)
    const isUnstored = given instanceof DoNotStore
    return Either.mapBoth(Json.encode(isUnstored ? given.value : given, "value"), {
      onLeft: (error) => Cause.fail(error),
      onRight: (text) => ({ text, store: !isUnstored })
    })
  } catch (thrown) {
    return Either.left(Cause.fail(invalid(thrown)))
  }
}
