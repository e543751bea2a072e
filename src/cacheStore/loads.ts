/**
 * Loading what is not there: `getOrSet` and `getOrSetMany`. Loads are flights that belong to the store; callers join
 * them. What a caller may be given is said at `CacheStore.getOrSet`.
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
import type * as Scope from "effect/Scope"
import { DoNotStore, type LoadError, LoadTimeout } from "../CacheStore.js"
import { InvalidInput, type StoreFailure, StoreUnavailable } from "../Errors.js"
import { invalid } from "../internal/validate.js"
import * as Json from "../Json.js"
import { Breaker } from "./Breaker.js"
import type { Encoded, EncodedEntry, Options, Place, Settlement, Ticket } from "./CacheStoreEncoded.js"
import { decode, decodeStale, isReadable } from "./decode.js"
import { Batch, type Flight, Flights, type Landing } from "./flights.js"
import type { Loading } from "./input.js"

/** After a load has failed and a stale value is served instead, nobody tries again for this long. */
const holdMs = 1_000

/** Between two looks at a lock that another process holds. */
const pollMinMs = 5
const pollMaxMs = 100

const defaultLeaseMs = 5_000

type LoadMany<E, R> = (keys: ReadonlyArray<string>) => Effect.Effect<ReadonlyMap<string, unknown>, E, R>

export interface Loads {
  readonly getOrSet: <E, R>(
    place: Place,
    load: Effect.Effect<unknown, E, R>,
    loading: Loading
  ) => Effect.Effect<Json.Json, E | LoadError, R>
  readonly getOrSetMany: <E, R>(
    tenantId: string,
    keys: ReadonlyArray<string>,
    load: LoadMany<E, R>,
    loading: Loading
  ) => Effect.Effect<ReadonlyMap<string, Json.Json>, E | LoadError, R>
  /** Nobody joins the loads of these keys any more. */
  readonly cut: (tenantId: string, keys: ReadonlyArray<string>) => void
  readonly cutTags: (tenantId: string, tags: ReadonlyArray<string>) => void
  /** Null: of all tenants. */
  readonly cutTenant: (tenantId: string | null) => void
}

export const make = (encoded: Encoded, options: Options): Effect.Effect<Loads, never, Scope.Scope> =>
  Effect.map(Effect.scope, (scope) => {
    const flights = new Flights()
    const breaker = new Breaker(options.breaker ?? true)
    const leaseMs = options.leaseMs ?? defaultLeaseMs

    const failed = (error: StoreFailure): Effect.Effect<void> =>
      Effect.sync(() => {
        if (error.retryable) breaker.trip()
      })

    /** Whether to do without the backend now. */
    const isDown = (place: Place): Effect.Effect<boolean> =>
      breaker.isOpen ? Effect.as(breaker.probe(encoded.get(place, false)), true) : Effect.succeed(false)

    /** What is there; nothing of a backend that fails. */
    const look = (
      tenantId: string,
      keys: ReadonlyArray<string>,
      { refreshMs }: Loading
    ): Effect.Effect<ReadonlyArray<EncodedEntry | null>> =>
      Effect.suspend(() => {
        const [key] = keys
        if (key === undefined) return Effect.succeed([])
        if (breaker.isOpen) return Effect.as(isDown({ tenantId, key }), [])
        const found: Effect.Effect<ReadonlyArray<EncodedEntry | null>, StoreFailure> = keys.length === 1
          ? Effect.map(encoded.get({ tenantId, key }, refreshMs > 0), (entry) => [entry])
          : encoded.getMany(tenantId, keys, refreshMs > 0)
        return Effect.catchAll(found, (error) => Effect.as(failed(error), []))
      })

    /** The end of a flight that has loaded: what is to be stored is, if the ticket is still there. */
    const settle = (settlements: ReadonlyArray<Settlement>): Effect.Effect<ReadonlyArray<boolean>> =>
      settlements.length === 0
        ? Effect.succeed([])
        : Effect.catchAll(encoded.settle(settlements), (error) =>
            Effect.as(
              failed(error),
              settlements.map(() => false)
            )
          )

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

    /** Ends the flights that a finished load was for. */
    const finish = (
      granted: ReadonlyArray<Granted>,
      exit: Exit.Exit<ReadonlyMap<string, unknown>, unknown>,
      held: Set<Ticket>,
      { graceMs, tags, ttlMs }: Loading
    ): Effect.Effect<void> => {
      const settlements: Array<Settlement> = []
      const landings = granted.map(({ entry, flight, ticket }): [Flight, Ticket | undefined, Landing] => {
        const { place } = flight
        const outcome = Exit.isSuccess(exit) ? textOf(exit.value, place.key) : Either.left(exit.cause)
        const stale = entry
        if (Either.isLeft(outcome)) {
          // Also a value that is fresh and was to be refreshed ahead: it is tried again when the hold ends.
          if (ticket !== undefined) settlements.push({ ticket, write: null, holdMs: stale === null ? 0 : holdMs })
          return [flight, ticket, { _tag: "Failed", cause: outcome.left, stale, confirmed: false }]
        }
        const { store, text } = outcome.right
        if (ticket !== undefined) {
          const write = store && text !== null ? { ...place, value: text, keyId: null, ttlMs, graceMs, tags } : null
          settlements.push({ ticket, write, holdMs: 0 })
        }
        return [flight, ticket, { _tag: "Value", text, confirmed: false }]
      })
      // From here on a caller looks at the backend, because a removal may come after the settlement.
      for (const { flight } of granted) flights.remove(flight)
      return Effect.map(settle(settlements), (confirmed) => {
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
          const down = (options.readOnly ?? false) || (yield* isDown(first.place))
          const token = randomUUID()
          // Not interruptible: what is granted must be known, to be given back.
          const begun = down
            ? undefined
            : yield* encoded
                .begin({ tenantId, keys, tags: loading.tags, token, leaseMs, refreshMs: loading.refreshMs })
                .pipe(Effect.catchAll(failed))
          const granted: Array<Granted> = []
          const busy: Array<Busy> = []
          const unreadable: Array<Flight> = []
          for (const [i, flight] of flying.entries()) {
            const outcome = begun?.[i]
            if (outcome === undefined) granted.push({ flight, ticket: undefined, entry: null })
            else if (outcome._tag === "Granted") granted.push({ flight, ticket: outcome.ticket, entry: outcome.entry })
            else if (outcome._tag === "Busy") busy.push({ flight, entry: outcome.entry })
            else if (isReadable(outcome.entry)) {
              flights.land(flight, { _tag: "Found", entry: outcome.entry, confirmed: false })
            } else unreadable.push(flight)
          }
          const held = new Set(granted.flatMap(({ ticket }) => (ticket === undefined ? [] : [ticket])))
          const giveBack = Effect.suspend(() => settle([...held].map((ticket) => ({ ticket, write: null, holdMs: 0 }))))
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
      return Effect.matchEffect(encoded.remove(first.place.tenantId, keys), {
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
        for (const { flight } of busy) {
          if (flight.waiting === 0) flights.land(flight, { _tag: "Again", confirmed: false })
        }
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
          const awaited =
            leftMs === Number.POSITIVE_INFINITY
              ? Effect.asSome(Fiber.await(running))
              : Effect.timeoutOption(Fiber.await(running), Math.max(0, leftMs))
          const exit = yield* restore(awaited).pipe(
            Effect.onExit((exit) =>
              Effect.zipRight(
                renewing === undefined ? Effect.void : Fiber.interruptFork(renewing),
                Exit.isSuccess(exit) && Option.isSome(exit.value) ? Effect.void : Fiber.interruptFork(running)
              )
            )
          )
          const place = (granted[0] as Granted).flight.place
          yield* finish(
            granted,
            Option.getOrElse(exit, () => Exit.fail(timeoutOf(place, loading))),
            held,
            loading
          )
        })
      )

    const renewals = (held: ReadonlySet<Ticket>): Effect.Effect<unknown> =>
      Effect.suspend(() => encoded.renew([...held], leaseMs)).pipe(
        // Whether the lock is lost is found out in the end; until then the next renewal may succeed.
        Effect.ignore,
        Effect.delay(leaseMs / 3),
        Effect.repeat(Schedule.forever)
      )

    /** Starts one fiber for what nobody loads yet. */
    const start = <E, R>(
      places: ReadonlyArray<Place>,
      load: LoadMany<E, R>,
      loading: Loading,
      kept: boolean
    ): Effect.Effect<ReadonlyArray<Flight>, never, R> =>
      Effect.uninterruptible(
        Effect.gen(function* () {
          const batch = new Batch()
          const endings = new Set(places.flatMap((place) => flights.endingAt(place) ?? []))
          const added = places.map((place) => flights.add(place, loading.tags, batch))
          for (const flight of added) flight.kept = kept
          const deadlineMs = (yield* Clock.currentTimeMillis) + loading.hardMs
          const flown = Effect.zipRight(
            Effect.forEach(endings, Fiber.await, { discard: true }),
            fly(added, load, loading, deadlineMs, pollMinMs)
          )
          batch.fiber = yield* flown.pipe(
            Effect.interruptible,
            Effect.onExit((exit) =>
              Effect.sync(() => {
                // What has landed stays so.
                const cause = Exit.isFailure(exit) && !Cause.isInterruptedOnly(exit.cause) ? exit.cause : closed
                for (const flight of added)
                  flights.land(flight, { _tag: "Failed", cause, stale: null, confirmed: false })
              })
            ),
            Effect.forkIn(scope)
          )
          return added
        })
      )

    /** What the caller of a key gets in the end; none to begin again. */
    const outcome = <E>(
      landing: Landing,
      mine: boolean,
      late: boolean
    ): Effect.Effect<Option.Option<Option.Option<Json.Json>>, E> => {
      if (late || landing._tag === "Again") return Effect.succeedNone
      switch (landing._tag) {
        case "Value":
          if (landing.text !== null) return Effect.succeedSome(Option.some(JSON.parse(landing.text)))
          // Its own loader has no value for the key; another's knows nothing of what this one would give.
          return mine ? Effect.succeedSome(Option.none()) : Effect.succeedNone
        case "Found": {
          const value = decode(landing.entry)
          return Option.isSome(value) ? Effect.succeedSome(value) : Effect.succeedNone
        }
        case "Failed": {
          const value = decodeStale(landing.stale)
          if (Option.isSome(value)) return Effect.succeedSome(value)
          // Callers of a key share the failure of whoever's loader ran: it may be another type of error.
          return Effect.failCause(landing.cause as Cause.Cause<E>)
        }
      }
    }

    interface Joined {
      readonly flight: Flight
      readonly landed: ReturnType<Flights["join"]>
      /** Started by this caller. */
      readonly mine: boolean
    }

    const waitFor = <E>(
      { flight, landed, mine }: Joined,
      stale: EncodedEntry | null,
      softMs: number
    ): Effect.Effect<Option.Option<Option.Option<Json.Json>>, E> => {
      const whole = Effect.flatMap(landed, ({ landing, late }) => outcome<E>(landing, mine, late))
      if (stale === null || softMs === Number.POSITIVE_INFINITY) return whole
      const served = Effect.suspend(() => {
        const value = decodeStale(stale)
        if (Option.isNone(value)) return whole
        flight.kept = true
        return Effect.succeedSome(value)
      })
      return softMs === 0
        ? served
        : Effect.flatMap(
            Effect.timeoutOption(whole, softMs),
            Option.match({
              onNone: () => served,
              onSome: Effect.succeed
            })
          )
    }

    const collect = <E, R>(
      tenantId: string,
      keys: ReadonlyArray<string>,
      entries: ReadonlyArray<EncodedEntry | null>,
      load: LoadMany<E, R>,
      loading: Loading,
      found: Map<string, Json.Json>
    ): Effect.Effect<void, E | LoadError, R> => {
      const stale = new Map<string, EncodedEntry>()
      const missing: Array<string> = []
      const ageing: Array<Place> = []
      for (const [i, key] of keys.entries()) {
        const entry = entries[i] ?? null
        const value = decode(entry)
        if (Option.isSome(value)) {
          found.set(key, value.value)
          const place = { tenantId, key }
          if (isAgeing(entry, loading) && flights.find(place) === undefined) ageing.push(place)
        } else {
          missing.push(key)
          // One that is fresh and cannot be read is none.
          if (entry !== null && !(entry.freshMs > 0)) stale.set(key, entry)
        }
      }
      const refresh = ageing.length === 0 ? Effect.void : start(ageing, load, loading, true)
      if (missing.length === 0) return Effect.asVoid(refresh)
      return Effect.zipRight(refresh, fetch(tenantId, missing, stale, load, loading, found))
    }

    /** Joins the flights of the keys, and starts those that are not there. */
    const fetch = <E, R>(
      tenantId: string,
      missing: ReadonlyArray<string>,
      stale: ReadonlyMap<string, EncodedEntry>,
      load: LoadMany<E, R>,
      loading: Loading,
      found: Map<string, Json.Json>
    ): Effect.Effect<void, E | LoadError, R> =>
      Effect.uninterruptibleMask((restore) =>
        Effect.suspend(() => {
          const joined = new Map<string, Joined>()
          const unloaded: Array<Place> = []
          for (const key of missing) {
            const flight = flights.find({ tenantId, key })
            if (flight === undefined) unloaded.push({ tenantId, key })
            else joined.set(key, { flight, landed: flights.join(flight), mine: false })
          }
          const started = unloaded.length === 0 ? Effect.succeed([]) : start(unloaded, load, loading, false)
          return Effect.flatMap(started, (started) => {
            for (const flight of started) {
              joined.set(flight.place.key, { flight, landed: flights.join(flight), mine: true })
            }
            const again: Array<string> = []
            const waiting = [...joined].map(([key, join]) =>
              Effect.map(waitFor<E | LoadError>(join, stale.get(key) ?? null, loading.softMs), (outcome) => {
                if (Option.isNone(outcome)) again.push(key)
                else if (Option.isSome(outcome.value)) found.set(key, outcome.value.value)
              })
            )
            const [only] = waiting
            return restore(
              waiting.length === 1 && only !== undefined
                ? only
                : Effect.all(waiting, { concurrency: "unbounded", discard: true })
            ).pipe(
              Effect.ensuring(
                Effect.forEach(joined.values(), ({ flight }) => flights.leave(flight), { discard: true })
              ),
              Effect.zipRight(
                Effect.suspend(() =>
                  again.length === 0
                    ? Effect.void
                    : restore(
                        Effect.flatMap(look(tenantId, again, loading), (entries) =>
                          collect(tenantId, again, entries, load, loading, found)
                        )
                      )
                )
              )
            )
          })
        })
      )

    /** In a transaction: what it loads may never be committed, and others must not wait for its end. */
    const alone = <E, R>(
      keys: ReadonlyArray<string>,
      entries: ReadonlyArray<EncodedEntry | null>,
      load: LoadMany<E, R>,
      found: Map<string, Json.Json>
    ): Effect.Effect<void, E | LoadError, R> => {
      const missing = keys.filter((key, i) => {
        const value = decode(entries[i] ?? null)
        if (Option.isSome(value)) found.set(key, value.value)
        return Option.isNone(value)
      })
      if (missing.length === 0) return Effect.void
      return Effect.flatMap(
        Effect.suspend(() => load(missing)),
        (loaded) => {
          for (const key of missing) {
            const outcome = textOf(loaded, key)
            if (Either.isLeft(outcome)) return Effect.failCause(outcome.left)
            const { text } = outcome.right
            if (text !== null) found.set(key, JSON.parse(text))
          }
          return Effect.void
        }
      )
    }

    const gather = <E, R>(
      tenantId: string,
      keys: ReadonlyArray<string>,
      entries: ReadonlyArray<EncodedEntry | null>,
      load: LoadMany<E, R>,
      loading: Loading
    ): Effect.Effect<Map<string, Json.Json>, E | LoadError, R> =>
      Effect.flatMap(encoded.inTransaction, (inTransaction) => {
        const found = new Map<string, Json.Json>()
        return Effect.as(
          inTransaction ? alone(keys, entries, load, found) : collect(tenantId, keys, entries, load, loading, found),
          found
        )
      })

    return {
      getOrSet: (place, load, loading) => {
        const { key, tenantId } = place
        const slow = (entry: EncodedEntry | null) =>
          Effect.flatMap(
            gather(tenantId, [key], [entry], () => Effect.map(load, (value) => new Map([[key, value]])), loading),
            (found) => Effect.succeed(found.get(key) as Json.Json)
          )
        if (breaker.isOpen) return Effect.zipRight(isDown(place), slow(null))
        return Effect.matchEffect(encoded.get(place, loading.refreshMs > 0), {
          onFailure: (error) => Effect.zipRight(failed(error), slow(null)),
          onSuccess: (entry) => {
            if (entry === null || !(entry.freshMs > 0) || isAgeing(entry, loading)) return slow(entry)
            const value = decode(entry)
            return Option.isSome(value) ? Effect.succeed(value.value) : slow(null)
          }
        })
      },

      getOrSetMany: (tenantId, keys, load, loading) =>
        Effect.flatMap(look(tenantId, keys, loading), (entries) => gather(tenantId, keys, entries, load, loading)),

      cut: (tenantId, keys) => {
        for (const key of keys) {
          const flight = flights.find({ tenantId, key })
          if (flight !== undefined) flights.remove(flight)
        }
      },
      cutTags: (tenantId, tags) => {
        if (tags.length === 0) return
        flights.removeAll(
          ({ place, tags: own }) => place.tenantId === tenantId && own.some((tag) => tags.includes(tag))
        )
      },
      cutTenant: (tenantId) => flights.removeAll(({ place }) => tenantId === null || place.tenantId === tenantId)
    }
  })

const closed = Cause.fail(
  new StoreUnavailable({ operation: "getOrSet", retryable: false, cause: new Error("the store was closed") })
)

/** Fresh, and to be refreshed ahead. What lives for ever never is. */
const isAgeing = (entry: EncodedEntry | null, { refreshMs }: Loading): boolean =>
  entry !== null && entry.freshMs <= refreshMs && entry.freshMs !== Number.POSITIVE_INFINITY

const timeoutOf = ({ key, tenantId }: Place, { hardMs }: Loading): LoadTimeout =>
  new LoadTimeout({ tenantId, key, timeoutMs: hardMs })

/** What a loader gave for the key: JSON text, null for none; and whether to store it. A look at it may throw. */
const textOf = (
  loaded: ReadonlyMap<string, unknown>,
  key: string
): Either.Either<{ readonly text: string | null; readonly store: boolean }, Cause.Cause<InvalidInput>> => {
  try {
    if (!(loaded instanceof Map)) {
      return Either.left(Cause.fail(new InvalidInput({ what: "load", why: "must give a Map of values by key" })))
    }
    if (!loaded.has(key)) return Either.right({ text: null, store: false })
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
