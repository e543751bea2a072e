/**
 * Which loads are under way in this process, who waits for them, and when one has nobody left. What a load does is in
 * `loads`.
 */
import type * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as FiberId from "effect/FiberId"
import type { EncodedEntry, Place } from "./CacheStoreEncoded.js"

/**
 * How a flight has ended.
 *
 * - `Value`: the JSON text of the value, null when the loader left the key out.
 * - `Found`: the value was there already.
 * - `Failed`: why, and what may be served instead.
 */
export type Landing =
  | { readonly _tag: "Value"; readonly text: string | null; readonly confirmed: boolean }
  | { readonly _tag: "Found"; readonly entry: EncodedEntry; readonly confirmed: false }
  | {
      readonly _tag: "Failed"
      readonly cause: Cause.Cause<unknown>
      readonly stale: EncodedEntry | null
      readonly confirmed: boolean
    }

/** The load of one key. */
export class Flight {
  readonly landed = Deferred.unsafeMake<Landing>(FiberId.none)
  waiting = 0
  /** Goes on without anybody who waits. */
  kept = false
  /**
   * How often the backend was asked to begin. Who has joined after the last time may have asked after a removal that
   * this load does not know of; unless the load is confirmed in the end, it is not for them.
   */
  round = 0
  over = false

  constructor(
    readonly place: Place,
    readonly tags: ReadonlyArray<string>,
    readonly batch: Batch
  ) {}

  get wanted(): boolean {
    return this.kept || this.waiting > 0
  }
}

/** The flights that one fiber flies. */
export class Batch {
  readonly flights: Array<Flight> = []
  fiber: Fiber.RuntimeFiber<void> | undefined
}

const idOf = ({ key, tenantId }: Place): string => `${tenantId}\0${key}`

export class Flights {
  private readonly flights = new Map<string, Flight>()
  /**
   * Fibers that were interrupted and have not yet given back what they held. A load that waits for the wrong one, or
   * for none, finds the place busy and looks again.
   */
  private readonly ending = new Map<string, Fiber.RuntimeFiber<void>>()

  find(place: Place): Flight | undefined {
    return this.flights.get(idOf(place))
  }

  endingAt(place: Place): Fiber.RuntimeFiber<void> | undefined {
    return this.ending.get(idOf(place))
  }

  add(place: Place, tags: ReadonlyArray<string>, batch: Batch): Flight {
    const flight = new Flight(place, tags, batch)
    batch.flights.push(flight)
    this.flights.set(idOf(place), flight)
    return flight
  }

  /** Nobody joins it any more; who has joined still waits. */
  remove(flight: Flight): void {
    const id = idOf(flight.place)
    if (this.flights.get(id) === flight) this.flights.delete(id)
  }

  removeAll(which: (flight: Flight) => boolean): void {
    for (const flight of [...this.flights.values()]) if (which(flight)) this.remove(flight)
  }

  land(flight: Flight, landing: Landing): void {
    if (flight.over) return
    this.abandon(flight)
    Deferred.unsafeDone(flight.landed, Effect.succeed(landing))
  }

  /** Ends a flight that nobody waits for. */
  abandon(flight: Flight): void {
    flight.over = true
    this.remove(flight)
  }

  /**
   * From now on the caller waits, until it leaves. What it is given ends with the flight, and tells whether that end is
   * not for somebody who has joined at this moment.
   */
  join(flight: Flight): Effect.Effect<{ readonly landing: Landing; readonly late: boolean }> {
    const { round } = flight
    flight.waiting++
    return Effect.map(Deferred.await(flight.landed), (landing) => ({
      landing,
      late: !landing.confirmed && round > 0 && round >= flight.round
    }))
  }

  /** The last one to leave ends the load, and whoever comes in this moment begins another. */
  leave(flight: Flight): Effect.Effect<void> {
    flight.waiting--
    const { batch } = flight
    if (flight.over || flight.wanted || batch.fiber === undefined) return Effect.void
    if (batch.flights.some((each) => !each.over && each.wanted)) return Effect.void
    const { fiber } = batch
    for (const each of batch.flights) {
      if (each.over) continue
      const id = idOf(each.place)
      this.remove(each)
      this.ending.set(id, fiber)
      fiber.addObserver(() => this.ending.delete(id))
    }
    return Fiber.interruptFork(fiber)
  }
}
