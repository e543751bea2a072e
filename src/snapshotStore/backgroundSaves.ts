/**
 * Saves of snapshots in fibers that belong to the store's scope, not to the caller.
 */
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as FiberId from "effect/FiberId"
import * as Metric from "effect/Metric"
import * as Runtime from "effect/Runtime"
import type * as Scope from "effect/Scope"
import type { StreamId } from "../EventStore.js"
import { outside } from "../internal/fibers.js"
import { checked, options as knownKeys, refuse, streamId } from "../internal/validate.js"
import type { NewSnapshot, SnapshotStoreShape } from "../SnapshotStore.js"
import { streamKey, streamName } from "../StreamId.js"

/** Streams that wait for their save, at most; each holds a state. */
const flightsMax = 1_000

/** How long closing waits. If the store does not respond, a thousand saves would take minutes. */
const closingMax = "30 seconds"

const savedTotal = Metric.counter("effect_stores_snapshots_saved", {
  description: "Snapshots offered to be saved in the background, by what became of them",
  incremental: true
})

// Made once: adding labels at each update costs many times the update itself.
const outcomes = {
  saved: Metric.tagged(savedTotal, "outcome", "saved"),
  skipped: Metric.tagged(savedTotal, "outcome", "skipped"),
  dropped: Metric.tagged(savedTotal, "outcome", "dropped"),
  failed: Metric.tagged(savedTotal, "outcome", "failed")
}

interface Flight {
  /** What is saved next, after the running save. */
  next: Effect.Effect<unknown> | undefined
  readonly landed: Deferred.Deferred<void>
}

type Saves = Pick<SnapshotStoreShape, "saveInBackground" | "flush">

/** Flights that run at the same time, at most: each looks at its stream. */
const makingMax = 8

/** `savingMax`: saves at the same time. Each may wait for a lock and hold a connection meanwhile. */
export const make = (
  { delete: discard, save }: Pick<SnapshotStoreShape, "save" | "delete">,
  savingMax: number
): Effect.Effect<Saves, never, Scope.Scope> =>
  Effect.gen(function* () {
    const flights = new Map<string, Flight>()
    const making = yield* Effect.makeSemaphore(makingMax)
    const saving = yield* Effect.makeSemaphore(savingMax)
    // Neither the save nor its reads may be part of the caller's transaction, which ends before them.
    const context = yield* Effect.context<never>()
    let closed = false
    yield* Effect.addFinalizer(() =>
      Effect.suspend(() => {
        closed = true
        return Effect.forEach([...flights.values()], ({ landed }) => Deferred.await(landed), { discard: true }).pipe(
          Effect.timeoutOption(closingMax),
          Effect.flatMap((landed) =>
            landed._tag === "Some"
              ? Effect.void
              : Effect.logWarning(`${flights.size} snapshots were not saved before the store was closed`)
          )
        )
      })
    )

    const fly = (key: string, flight: Flight, first: Effect.Effect<unknown>): Effect.Effect<void> =>
      Effect.zipRight(
        // Whatever the user's logger does, the flight must end.
        Effect.exit(making.withPermits(1)(first)),
        Effect.suspend(() => {
          const { next } = flight
          if (next !== undefined) {
            flight.next = undefined
            return fly(key, flight, next)
          }
          flights.delete(key)
          return Effect.asVoid(Deferred.succeed(flight.landed, undefined))
        })
      )

    const store = (stream: StreamId, snapshot: NewSnapshot | undefined, replace: boolean) =>
      Effect.zipRight(
        replace ? discard(stream) : Effect.void,
        snapshot === undefined ? Effect.succeed(false) : save(stream, snapshot)
      )

    const attempt = <E>(
      stream: StreamId,
      snapshot: Effect.Effect<NewSnapshot | undefined, E>,
      replace: boolean
    ): Effect.Effect<void> =>
      Effect.flatMap(snapshot, (snapshot) => saving.withPermits(1)(store(stream, snapshot, replace))).pipe(
        (saving) => outside(saving, context),
        Effect.interruptible,
        Effect.exit,
        Effect.flatMap((exit) =>
          Exit.isSuccess(exit)
            ? Metric.increment(exit.value ? outcomes.saved : outcomes.skipped)
            : failed(`a snapshot of ${streamName(stream)} was not saved`, exit.cause)
        ),
        Effect.uninterruptible
      )

    const offer = (stream: StreamId, save: Effect.Effect<void>): Effect.Effect<void> =>
      Effect.flatMap(Effect.runtime<never>(), (runtime) => {
        const key = streamKey(stream)
        const flight = flights.get(key)
        if (closed || (flight === undefined && flights.size >= flightsMax)) return Metric.increment(outcomes.dropped)
        // A fiber of its own, with the caller's context: interrupting it ends this save, not the flight.
        const one = Effect.suspend(() => Fiber.await(Runtime.runFork(runtime, save)))
        if (flight !== undefined) {
          flight.next = one
          return Effect.void
        }
        const started: Flight = { next: undefined, landed: Deferred.unsafeMake(FiberId.none) }
        flights.set(key, started)
        return Effect.asVoid(Effect.forkDaemon(fly(key, started, one)))
        // The fork is not interruptible either: `flush` would wait for ever for a flight that is registered but never
        // runs.
      }).pipe(Effect.uninterruptible)

    return {
      saveInBackground: <E>(
        stream: StreamId,
        snapshot: Effect.Effect<NewSnapshot | undefined, E>,
        options?: { readonly replace?: boolean | undefined }
      ) =>
        checked(
          () => ({
            stream: streamId(stream, "stream"),
            // A fiber that runs anything but an Effect may never end, nor would its flight.
            snapshot: Effect.isEffect(snapshot) ? snapshot : refuse("snapshot", "must be an Effect"),
            replace: knownKeys(options, "options", ["replace"]).replace === true
          }),
          ({ replace, snapshot, stream }) => offer(stream, attempt(stream, snapshot, replace))
        ).pipe(Effect.catchAll((error) => failed("a snapshot was not saved", Cause.fail(error)))),
      flush: (stream) =>
        checked(
          () => streamKey(streamId(stream, "stream")),
          (key) =>
            Effect.suspend(() => {
              const flight = flights.get(key)
              return flight === undefined ? Effect.void : Deferred.await(flight.landed)
            })
        ).pipe(Effect.ignore)
    }
  })

const failed = (what: string, cause: Cause.Cause<unknown>): Effect.Effect<void> =>
  Effect.zipRight(Metric.increment(outcomes.failed), Effect.logWarning(what, cause))
