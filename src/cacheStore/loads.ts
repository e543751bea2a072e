/**
 * `getOrSet` and `getOrSetMany`: callers look, join the load of what is missing, or start it, and wait for its end.
 * What a caller may be given is said at `CacheStore.getOrSet`; what a load does is in `leasedLoads`.
 */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import type { LoadError } from "../CacheStore.js"
import { StoreUnavailable } from "../Errors.js"
import type * as Json from "../Json.js"
import type { Encoded, EncodedEntry, Options, Place } from "./CacheStoreEncoded.js"
import { decode, decodeStale, freshValue } from "./decode.js"
import { Batch, type Flight, Flights, type Landing } from "./flights.js"
import { GuardedPort } from "./GuardedPort.js"
import type { Loading } from "./input.js"
import * as LeasedLoads from "./leasedLoads.js"
import { type LoadMany, textOf } from "./leasedLoads.js"

export interface Loads {
  readonly getOrSet: <E, R>(
    place: Place,
    load: Effect.Effect<unknown, E, R>,
    loading: Loading,
    nowMs: number
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
    const { atOnce } = encoded.get
    const flights = new Flights()
    const port = new GuardedPort(encoded, options.breaker ?? true)
    const { fly } = LeasedLoads.make(port, flights, options)

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
            fly(added, load, loading, deadlineMs)
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
      if (late) return Effect.succeedNone
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
                        Effect.flatMap(port.look(tenantId, again, loading.refreshMs > 0), (entries) =>
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
            if (outcome.right !== null) found.set(key, JSON.parse(outcome.right.text))
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

    const gatherOne = <E, R>(
      place: Place,
      entry: EncodedEntry | null,
      load: Effect.Effect<unknown, E, R>,
      loading: Loading
    ): Effect.Effect<Json.Json, E | LoadError, R> => {
      const { key, tenantId } = place
      const loadAll = () => Effect.map(load, (value) => new Map([[key, value]]))
      return Effect.map(gather(tenantId, [key], [entry], loadAll, loading), (found) => found.get(key) as Json.Json)
    }

    /** What was found, if it needs no load. */
    const settled = <E, R>(
      place: Place,
      entry: EncodedEntry | null,
      load: Effect.Effect<unknown, E, R>,
      loading: Loading
    ): Effect.Effect<Json.Json, E | LoadError, R> => {
      if (entry === null || !(entry.freshMs > 0) || isAgeing(entry, loading)) {
        return gatherOne(place, entry, load, loading)
      }
      const value = freshValue(entry)
      return value === undefined ? gatherOne(place, null, load, loading) : Effect.succeed(value)
    }

    return {
      getOrSet: (place, load, loading, nowMs) => {
        if (port.isDown) return Effect.zipRight(port.probe(place), gatherOne(place, null, load, loading))
        if (atOnce !== undefined) return settled(place, atOnce(place, nowMs), load, loading)
        return Effect.matchEffect(encoded.get(place, loading.refreshMs > 0), {
          onFailure: (error) => Effect.zipRight(port.failed(error), gatherOne(place, null, load, loading)),
          onSuccess: (entry) => settled(place, entry, load, loading)
        })
      },

      getOrSetMany: (tenantId, keys, load, loading) =>
        Effect.flatMap(port.look(tenantId, keys, loading.refreshMs > 0), (entries) =>
          gather(tenantId, keys, entries, load, loading)
        ),

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
